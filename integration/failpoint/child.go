package failpoint

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The environment that makes this binary install the filter and become another program.
const (
	childEnv   = "SHAREFS_FAILPOINT_FD"      // of the socket that the listener goes to
	programEnv = "SHAREFS_FAILPOINT_PROGRAM" // path
)

// Main is to be called first of all by TestMain of a package that uses [Watch.Start].
func Main() {
	to := os.Getenv(childEnv)
	if to == "" {
		return
	}
	fmt.Fprintln(os.Stderr, "failpoint:", become(to))
	os.Exit(125)
}

// become returns only if it fails.
func become(to string) error {
	runtime.LockOSThread() // the filter is one of this thread, which is the one that goes on
	socket, err := strconv.Atoi(to)
	if err != nil {
		return err
	}
	program := os.Getenv(programEnv)
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, childEnv+"=") || strings.HasPrefix(s, programEnv+"=") })
	listener, err := install()
	if err != nil {
		return fmt.Errorf("install the filter: %w", err)
	}
	if err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(listener), nil, 0); err != nil {
		return fmt.Errorf("hand over the listener: %w", err)
	}
	unix.CloseOnExec(socket)
	return unix.Exec(program, os.Args, env)
}

// install has the calls of this thread, and of all that comes of it, wait for their verdict.
func install() (listener int, err error) {
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // seccomp_data.nr
	left := uint8(len(calls))
	for nr := range calls {
		left-- // from the last comparison it is one step over the permission to the question
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(nr), Jt: left + 1})
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	arg := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, uintptr(unsafe.Pointer(&arg)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

func seccomp(op, flags uintptr, arg *uint32) error {
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, op, flags, uintptr(unsafe.Pointer(arg))); errno != 0 {
		return errno
	}
	return nil
}

func ioctl(fd int, request uintptr, arg *byte) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
		return errno
	}
	return nil
}
