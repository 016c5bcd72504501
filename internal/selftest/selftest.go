// Package selftest finds out whether writes to a file really stay out of the daemon. A mount can have passthrough and still send
// the daemon a request for each write: without FUSE_HANDLE_KILLPRIV_V2 the kernel asks for security.capability every time.
//
// The daemon must not touch its own mount, so a child process writes, and the daemon counts the requests that arrive meanwhile:
//
//	daemon                          child
//	starts the child        ────▶   opens a nameless file (O_TMPFILE) in the mount
//	                        ◀────   "open"
//	notes its counters
//	"go"                    ────▶   writes 16 times 4 KiB
//	                        ◀────   "written"
//	notes its counters              ends; the file was never to be seen
package selftest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Writes is how many blocks of 4 KiB the child writes.
const Writes = 16

// Counters are the requests that the daemon has had, by the name of their opcode.
type Counters map[string]uint64

// State is how the test went.
type State string

// The states.
const (
	Running State = "running"
	Passed  State = "passed"
	Failed  State = "failed"
	NotRun  State = "not run"
)

// Result is what the test found.
type Result struct {
	State  State  `json:"state"`
	Detail string `json:"detail"`
	Writes uint64 `json:"daemon_writes"`    // WRITE requests that the daemon had for the 16 writes
	Xattrs uint64 `json:"daemon_getxattrs"` // and GETXATTR requests
}

// pathVariable in the environment makes this program the child; see [Serve].
const pathVariable = "SHAREFS_SELFTEST_PATH"

// Run tests the mount at point. Passthrough says what is expected of it; patience bounds the whole.
func Run(point string, passthrough bool, counters func() Counters, patience time.Duration) Result {
	o := observe(point, counters, patience)
	if o.err != nil {
		return excuse(o.err)
	}
	return judge(passthrough, o.after["WRITE"]-o.before["WRITE"], o.after["GETXATTR"]-o.before["GETXATTR"])
}

// excuse tells a mount in which nothing can be written at present, which is its user's affair, from one that does not work.
func excuse(err error) Result {
	switch {
	case errors.Is(err, unix.EROFS):
		return Result{State: NotRun, Detail: "the mount is read-only"}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return Result{State: NotRun, Detail: err.Error()}
	}
	return Result{State: Failed, Detail: err.Error()}
}

// judge reads the counts. Other programs may be at work in the mount already, so single requests prove nothing.
func judge(passthrough bool, writes, xattrs uint64) Result {
	r := Result{State: Passed, Writes: writes, Xattrs: xattrs}
	switch {
	case xattrs >= Writes:
		r.State, r.Detail = Failed, "each write asks the daemon for security.capability: the kernel has no FUSE_HANDLE_KILLPRIV_V2"
	case !passthrough:
		r.Detail = fmt.Sprintf("%d writes of 4 KiB went through the daemon and were taken", Writes)
	case writes >= Writes:
		r.State, r.Detail = Failed, "writes reach the daemon although passthrough is on"
	default:
		r.Detail = fmt.Sprintf("%d writes of 4 KiB stayed out of the daemon", Writes)
	}
	return r
}

// observation is what was counted around the child's writes.
type observation struct {
	before, after Counters
	err           error
}

// observe runs the child and notes the counters around its writes.
func observe(point string, counters func() Counters, patience time.Duration) observation {
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), pathVariable+"="+point)
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := child.StdinPipe()
	if err != nil {
		return observation{err: err}
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return observation{err: err}
	}
	if err := child.Start(); err != nil {
		return observation{err: err}
	}
	done := make(chan observation, 1)
	go func() {
		lines := bufio.NewReader(out)
		o := observation{err: expect(lines, "open")}
		if o.err == nil {
			o.before = counters()
			_, o.err = io.WriteString(in, "go\n")
		}
		if o.err == nil {
			o.err = expect(lines, "written")
		}
		if o.err == nil {
			o.after = counters()
		}
		in.Close()
		_ = child.Wait() // so that no file of the test keeps the mount busy; a child that hangs is not waited for, see below
		done <- o
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case o := <-done:
		return o
	case <-timer.C:
		_ = child.Process.Kill()
		return observation{err: fmt.Errorf("the mount did not answer within %v", patience)}
	}
}

// expect reads one line: the word, or "error NUMBER TEXT".
func expect(lines *bufio.Reader, word string) error {
	line, err := lines.ReadString('\n')
	line = strings.TrimSuffix(line, "\n")
	var errno int
	if n, _ := fmt.Sscanf(line, "error %d", &errno); n == 1 {
		return fmt.Errorf("write a file in the mount: %w", unix.Errno(errno))
	}
	if line == word {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the writing process ended early: %w", err)
	}
	return fmt.Errorf("the writing process said %q", line)
}

// Serve makes the process the child and does not return, when [Run] started it for that.
func Serve() {
	point, ok := os.LookupEnv(pathVariable)
	if !ok {
		return
	}
	if err := write(point); err != nil {
		var errno unix.Errno
		errors.As(err, &errno)
		fmt.Printf("error %d\n", int(errno))
		os.Exit(1)
	}
	os.Exit(0)
}

func write(point string) error {
	fd, err := unix.Open(point, unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	fmt.Println("open")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	block := make([]byte, 4096)
	for i := range Writes {
		if _, err := unix.Pwrite(fd, block, int64(i)*int64(len(block))); err != nil {
			return err
		}
	}
	fmt.Println("written")
	return nil
}
