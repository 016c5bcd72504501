package sharefs

import (
	"errors"
	"strings"
	"syscall"
)

// Kind is the class of a failure. It travels between packages and hosts; only [Kind.Errno] knows the numbers of Linux.
type Kind uint8

// The kinds of failure. The comment beside each is the errno that a program in the mount sees.
const (
	KindOther        Kind = iota // EIO
	KindNotExist                 // ENOENT
	KindExist                    // EEXIST
	KindNotDir                   // ENOTDIR
	KindIsDir                    // EISDIR
	KindNotEmpty                 // ENOTEMPTY
	KindInvalid                  // EINVAL
	KindPermission               // EPERM: never allowed
	KindAccess                   // EACCES: not allowed to this caller
	KindReadOnly                 // EROFS
	KindNoSpace                  // ENOSPC
	KindTooLarge                 // EFBIG
	KindNameTooLong              // ENAMETOOLONG
	KindTooManyLinks             // EMLINK
	KindNoAttr                   // ENODATA: no such extended attribute
	KindRange                    // ERANGE: the buffer is too small
	KindTooBig                   // E2BIG: the value is too long
	KindNotSupported             // EOPNOTSUPP
	KindCrossDevice              // EXDEV
	KindBusy                     // EBUSY
	KindStale                    // ESTALE: the inode is no more
	KindCorrupt                  // EIO: what was read back is not what was written
	KindAgain                    // EAGAIN
	KindLoop                     // ELOOP
	KindNoDevice                 // ENXIO
	KindUnreachable              // EHOSTUNREACH: it lies elsewhere, and that does not answer
	kinds
)

var kindNames = [kinds]string{
	"input/output error", "no such file or directory", "file exists", "not a directory", "is a directory",
	"directory not empty", "invalid argument", "operation not permitted", "permission denied", "read-only file system",
	"no space left", "file too large", "name too long", "too many links", "no such attribute", "result too large",
	"value too long", "not supported", "cross-device link", "busy", "stale handle", "corrupt", "try again",
	"too many levels of symbolic links", "no such device or address", "out of reach",
}

var kindErrnos = [kinds]syscall.Errno{
	syscall.EIO, syscall.ENOENT, syscall.EEXIST, syscall.ENOTDIR, syscall.EISDIR,
	syscall.ENOTEMPTY, syscall.EINVAL, syscall.EPERM, syscall.EACCES, syscall.EROFS,
	syscall.ENOSPC, syscall.EFBIG, syscall.ENAMETOOLONG, syscall.EMLINK, syscall.ENODATA, syscall.ERANGE,
	syscall.E2BIG, syscall.EOPNOTSUPP, syscall.EXDEV, syscall.EBUSY, syscall.ESTALE, syscall.EIO, syscall.EAGAIN,
	syscall.ELOOP, syscall.ENXIO, syscall.EHOSTUNREACH,
}

func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return kindNames[KindOther]
}

// Errno returns what a system call reports for a failure of this kind.
func (k Kind) Errno() syscall.Errno {
	if k < kinds {
		return kindErrnos[k]
	}
	return syscall.EIO
}

// Error makes a bare kind usable as an error where neither operation nor path adds anything.
func (k Kind) Error() string { return k.String() }

// Error is a failure with its place. Op and Path name what was tried, Detail adds what the kind cannot say, Err is the cause.
type Error struct {
	Op     string // a verb: "open", "rename", "capture"
	Path   string // or another name of the thing concerned; empty where there is none
	Kind   Kind
	Detail string
	Err    error
}

func (e *Error) Error() string {
	var b strings.Builder
	part := func(s string) {
		if s == "" {
			return
		}
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(s)
	}
	part(strings.TrimSpace(e.Op + " " + e.Path))
	switch {
	case e.Detail != "":
		part(e.Detail)
	case e.Err == nil:
		part(e.Kind.String())
	}
	if e.Err != nil {
		part(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is lets errors.Is(err, KindNotExist) ask for the kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// KindOf returns the kind of err: its own, that of an [Error] in its chain, or the one its errno stands for.
func KindOf(err error) Kind {
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var n syscall.Errno
	if errors.As(err, &n) {
		for k, m := range kindErrnos {
			if m == n {
				return Kind(k)
			}
		}
	}
	return KindOther
}

// Errno returns what a system call reports for err: the number itself where the chain holds one, else its kind's.
func Errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	var k Kind
	if errors.As(err, &k) {
		return k.Errno()
	}
	var e *Error
	if errors.As(err, &e) && e.Kind != KindOther {
		return e.Kind.Errno()
	}
	var n syscall.Errno
	if errors.As(err, &n) {
		return n
	}
	return syscall.EIO
}
