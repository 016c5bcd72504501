package device

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
)

// fusermount is the setuid program of the package fuse3 that mounts for ordinary users. It opens the device, mounts
// and passes the device back over the socket whose number it finds in the environment (libfuse, util/fusermount.c).
const fusermount = "fusermount3"

const commEnv = "_FUSE_COMMFD"

func mountByHelper(cfg *Config) (int, error) {
	fail := func(err error, detail string) (int, error) {
		return -1, &sharefs.Error{Op: "mount", Path: cfg.Mountpoint, Kind: sharefs.KindOf(err), Detail: detail, Err: err}
	}
	bin, err := exec.LookPath(fusermount)
	if err != nil {
		return fail(err, "only root can mount without the program fusermount3 (package fuse3)")
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err, "")
	}
	local, remote := os.NewFile(uintptr(pair[0]), "fusermount3"), os.NewFile(uintptr(pair[1]), "fusermount3")
	defer local.Close()
	defer remote.Close()

	options := append([]string{
		"fsname=" + cfg.Source, "subtype=" + cfg.Subtype, fmt.Sprintf("max_read=%d", cfg.MaxWrite),
	}, cfg.Options...)
	if cfg.AllowOther {
		options = append(options, "allow_other")
	}
	for i, o := range options {
		options[i] = strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(o)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(bin, "-o", strings.Join(options, ","), "--", cfg.Mountpoint)
	cmd.Env = append(os.Environ(), commEnv+"=3")
	cmd.ExtraFiles = []*os.File{remote}
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fail(err, helperMessage(&stderr))
	}
	fd, err := receiveDevice(pair[0])
	if err != nil {
		return fail(err, "fusermount3 passed no device on")
	}
	return fd, nil
}

// receiveDevice takes the descriptor that fusermount3 has sent before it ended.
func receiveDevice(socket int) (int, error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return -1, err
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, unix.ENODEV
}

func unmountByHelper(mountpoint string) error {
	var stderr bytes.Buffer
	cmd := exec.Command(fusermount, "-u", "--", mountpoint)
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		kind := sharefs.KindOther
		if bytes.Contains(stderr.Bytes(), []byte("busy")) {
			kind = sharefs.KindBusy
		}
		return &sharefs.Error{Op: "unmount", Path: mountpoint, Kind: kind, Detail: helperMessage(&stderr), Err: err}
	}
	return nil
}

// helperMessage makes one line of what the helper printed.
func helperMessage(out *bytes.Buffer) string {
	return strings.Join(strings.Fields(out.String()), " ")
}
