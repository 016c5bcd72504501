// Package failpoint stops a program right before the system calls by which it changes its files, whichever of its parts they come from, and lets them be done, has them
// refused with an error, or kills the program there. Nothing of it is in the program: the kernel asks (seccomp_unotify(2)), so that the calls of every library are
// among them, and what is tested is what is shipped.
//
//	func TestMain(m *testing.M) { failpoint.Main(); mounttest.Main(m) }
//
//	w := failpoint.New(func(p failpoint.Point) failpoint.Verdict { … })
//	err := w.Start(exec.Command("sharefs-mount", …))
//
// A kill before each call in turn covers all that lies between two of them: what a process did to its files before it was killed is what its calls did. What the disk makes
// of them when the power fails is another matter (simdisk, memdisk, integration/crash: power).
package failpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Point is a system call that waits for its verdict.
type Point struct {
	Call string // such as "fdatasync"
	Path string // of the file or name that it is about to change; of a rename the new one. Relative to the directory that is watched
}

// Verdict says what becomes of a call.
type Verdict struct {
	Kill  bool       // the program dies here
	Errno unix.Errno // the call is not done and returns this; 0: it is done
}

// calls are those that programs in Go change files by, on every architecture.
var calls = map[int32]string{
	unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_RENAMEAT: "rename", unix.SYS_RENAMEAT2: "rename", unix.SYS_UNLINKAT: "unlink",
	unix.SYS_FALLOCATE: "fallocate", unix.SYS_FTRUNCATE: "truncate", unix.SYS_PWRITE64: "pwrite", unix.SYS_LINKAT: "link", unix.SYS_MKDIRAT: "mkdir",
	unix.SYS_COPY_FILE_RANGE: "copy", unix.SYS_WRITE: "write",
}

// Watch decides about the calls of programs that it starts. Its judge is called by one goroutine at a time for each program, which the calling thread of the program
// waits for: it may not touch what the program serves.
type Watch struct {
	judge func(Point) Verdict
	under string // calls on it and what lies below it alone are judged
}

// New makes a watch over a directory, given without symbolic links, and what lies below it.
func New(under string, judge func(Point) Verdict) *Watch { return &Watch{judge, under} }

// Supported skips the test where programs cannot be stopped: it takes root, and a kernel from 6.1 on (signals that are not fatal leave a stopped call alone since 5.19).
func Supported(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may install filters without giving up rights that fusermount3 needs")
	}
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	if err := seccomp(unix.SECCOMP_GET_ACTION_AVAIL, 0, &action); err != nil {
		t.Skipf("this kernel cannot stop system calls: %v", err)
	}
}

// Start starts a program under the watch.
func (w *Watch) Start(cmd *exec.Cmd) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	here, there := pair[0], os.NewFile(uintptr(pair[1]), "failpoint")
	defer unix.Close(here)
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	// This very program runs first, in the same process: it installs the filter and becomes the program.
	cmd.Env = append(cmd.Env, childEnv+"="+strconv.Itoa(3+len(cmd.ExtraFiles)), programEnv+"="+cmd.Path)
	cmd.ExtraFiles = append(cmd.ExtraFiles, there)
	cmd.Path = "/proc/self/exe"
	// When the test dies, nobody answers the program any more, and whoever waits for it could not even end: it dies with the thread that started it.
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started, listeners := make(chan error), make(chan int)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			if listener := <-listeners; listener >= 0 {
				w.serve(listener, cmd.Process.Pid)
			}
		}
	}()
	err = <-started
	there.Close()
	if err != nil {
		return err
	}
	listener, err := receive(here)
	listeners <- listener
	if err != nil {
		_ = cmd.Process.Kill()
		return errors.Join(fmt.Errorf("the program was not stopped: %w", err), cmd.Wait())
	}
	return nil
}

// receive takes the descriptor by which the kernel asks.
func receive(from int) (int, error) {
	buf, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	for {
		_, n, _, _, err := unix.Recvmsg(from, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, err
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) != 1 {
			return -1, errors.Join(errors.New("it ended"), err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			return -1, err
		}
		return fds[0], nil
	}
}

// Layouts of include/uapi/linux/seccomp.h. A notification: u64 id, u32 pid, u32 flags, then seccomp_data: s32 nr, u32 arch, u64 ip, six u64 arguments. An answer: u64 id,
// s64 value, s32 error, u32 flags.
const (
	noticeLen, noticePID, noticeCall, noticeArgs = 80, 8, 16, 32
	answerLen, answerError, answerFlags          = 24, 16, 20
)

// serve answers the kernel until the program and what it started have ended.
func (w *Watch) serve(listener, pid int) {
	defer unix.Close(listener)
	dead := false // whoever was killed is asked about no more
	for {
		fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil || fds[0].Revents&unix.POLLIN == 0 {
			return // POLLHUP: nobody is left
		}
		var notice [noticeLen]byte
		switch err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, &notice[0]); err {
		case nil:
		case unix.EINTR, unix.ENOENT: // who asked is gone
			continue
		default:
			return
		}
		var v Verdict
		tid := int(binary.NativeEndian.Uint32(notice[noticePID:]))
		if p, ok := w.point(tid, notice[noticeCall:]); ok {
			if !dead {
				v = w.judge(p)
			}
			dead = dead || v.Kill
			v.Kill = dead
		}
		if v.Kill {
			// The call is never answered: the thread ends where it is, and so do all others, at whatever they are.
			_ = unix.Kill(pid, unix.SIGKILL)
			continue
		}
		var answer [answerLen]byte
		copy(answer[:8], notice[:8])
		if v.Errno != 0 {
			binary.NativeEndian.PutUint32(answer[answerError:], uint32(-int32(v.Errno)))
		} else {
			binary.NativeEndian.PutUint32(answer[answerFlags:], unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE)
		}
		_ = ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, &answer[0]) // ENOENT: who asked is gone
	}
}
