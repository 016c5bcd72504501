package mountpoint

import (
	"errors"
	"fmt"
	"io"
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
	answer, err := Child(patience, probeVariable+"="+path)
	if err != nil {
		return err
	}
	errno, err := strconv.Atoi(strings.TrimSpace(string(answer)))
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}

// Child runs this program once more, with more in its environment, by which its main knows what to do, and returns what that writes until it ends. What may hang is done so: after patience the
// child is killed, and not waited for, and the error is [ErrHung].
func Child(patience time.Duration, env ...string) ([]byte, error) {
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), env...)
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	if err := child.Start(); err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	done := make(chan error, 1)
	var answer []byte // to be read once done has said so
	go func() {
		text, err := io.ReadAll(out)
		if answer = text; err == nil && len(text) == 0 {
			err = io.EOF
		}
		done <- err
		_ = child.Wait() // of a child that hangs it never returns, and this process does not wait for it
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil {
			return nil, fmt.Errorf("probe: %w", err)
		}
		return answer, nil
	case <-timer.C:
		_ = child.Process.Kill()
		return nil, ErrHung
	}
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
