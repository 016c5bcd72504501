package mountpoint

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHung is what [Alive] says of a mount that does not answer in time.
var ErrHung = errors.New("the mount does not answer")

// probeVariable in the environment makes this program a probe of the path it holds; see [ServeProbe].
const probeVariable = "SHAREFS_PROBE_PATH"

// Alive asks the filesystem at path for its root's attributes, from a child process. It returns nil when they came, the errno that
// came instead, or [ErrHung] after patience. The running program must call [ServeProbe] first thing in main.
func Alive(path string, patience time.Duration) error {
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), probeVariable+"="+path)
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var answer strings.Builder
	out, err := child.StdoutPipe()
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if err := child.Start(); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		buf := make([]byte, 64)
		n, err := out.Read(buf)
		answer.Write(buf[:n])
		if n > 0 {
			err = nil
		}
		done <- err
		_ = child.Wait() // of a child that hangs it never returns, and this process does not wait for it
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
	case <-timer.C:
		_ = child.Process.Kill()
		return ErrHung
	}
	errno, err := strconv.Atoi(strings.TrimSpace(answer.String()))
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}

// ServeProbe makes the process a probe and does not return, when [Alive] started it for that.
func ServeProbe() {
	path, ok := os.LookupEnv(probeVariable)
	if !ok {
		return
	}
	var st unix.Statx_t
	var errno unix.Errno
	// FORCE_SYNC, because attributes that the kernel has cached say nothing of the daemon.
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	errors.As(err, &errno)
	fmt.Println(int(errno))
	os.Exit(0)
}
