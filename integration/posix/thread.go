package posix

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Cred is who makes a call.
type Cred struct {
	UID, GID int
	Groups   []uint32
}

// Self is the user that this process runs as.
func Self() Cred {
	groups, _ := unix.Getgroups()
	c := Cred{UID: unix.Geteuid(), GID: unix.Getegid()}
	for _, g := range groups {
		c.Groups = append(c.Groups, uint32(g))
	}
	return c
}

func parseCred(s string) (Cred, error) {
	part := strings.Split(s, ":")
	var c Cred
	var err error
	if c.UID, err = strconv.Atoi(part[0]); err != nil {
		return c, err
	}
	c.GID = c.UID
	if len(part) > 1 {
		if c.GID, err = strconv.Atoi(part[1]); err != nil {
			return c, err
		}
	}
	if len(part) > 2 {
		for _, g := range strings.Split(part[2], ",") {
			n, err := strconv.ParseUint(g, 10, 32)
			if err != nil {
				return c, err
			}
			c.Groups = append(c.Groups, uint32(n))
		}
	}
	return c, nil
}

// OnThread runs fn on a thread of its own, in dir, with umask 0 and as who in all three user ids, and ends the thread.
func OnThread(dir string, who Cred, fn func()) error {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err = unix.Unshare(unix.CLONE_FS); err != nil {
			return
		}
		unix.Umask(0)
		if who.UID != unix.Geteuid() {
			if err = Become(who, true); err != nil {
				return
			}
		}
		if err = unix.Chdir(dir); err != nil {
			return
		}
		fn()
	}()
	<-done
	return err
}

// Become changes user and groups of this thread: the effective ids, from which root comes back, or with whole all of them, for good. The
// wrappers of package syscall would change all threads.
func Become(c Cred, whole bool) error {
	keep := ^uintptr(0)
	ids := func(id int) (r, e, s uintptr) {
		if whole {
			return uintptr(id), uintptr(id), uintptr(id)
		}
		return keep, uintptr(id), keep
	}
	set := func(call uintptr, id int) error {
		r, e, s := ids(id)
		if _, _, errno := unix.RawSyscall(call, r, e, s); errno != 0 {
			return fmt.Errorf("become %d:%d: %w", c.UID, c.GID, errno)
		}
		return nil
	}
	if unix.Geteuid() != 0 {
		// Changing groups takes the privileges that the thread has as root.
		if err := set(unix.SYS_SETRESUID, 0); err != nil {
			return err
		}
	}
	var p unsafe.Pointer
	if len(c.Groups) > 0 {
		p = unsafe.Pointer(&c.Groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(c.Groups)), uintptr(p), 0); errno != 0 {
		return fmt.Errorf("setgroups: %w", errno)
	}
	if err := set(unix.SYS_SETRESGID, c.GID); err != nil {
		return err
	}
	return set(unix.SYS_SETRESUID, c.UID)
}
