package versions

import (
	"fmt"

	"sharefs"
)

// fail returns an error of the kind; op is the verb that was tried.
func fail(op string, kind sharefs.Kind) error { return &sharefs.Error{Op: op, Kind: kind} }

// failed wraps the cause of a failure and keeps its errno.
func failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return &sharefs.Error{Op: op, Kind: sharefs.KindOf(err), Err: err}
}

// corrupt says that something read back from the store is not what was written.
func corrupt(what string, ino sharefs.Ino) error {
	return &sharefs.Error{Op: "read", Path: fmt.Sprintf("inode %d", ino), Kind: sharefs.KindCorrupt, Detail: what + " is damaged"}
}

// stale says that an inode is no more.
func stale(ino sharefs.Ino) error {
	return &sharefs.Error{Op: "inode", Path: fmt.Sprint(uint64(ino)), Kind: sharefs.KindStale}
}

// lostFetched says that the hole of an absent file is there for one that is full, as a disk leaves it that loses what counted as safe. A program would take it for zeros that somebody wrote.
func lostFetched(ino sharefs.Ino) error {
	return &sharefs.Error{
		Op: "open", Path: fmt.Sprintf("inode %d", ino), Kind: sharefs.KindCorrupt,
		Detail: "the disk has lost what was fetched from another host, and has a hole in its place: sharefs fsck --repair has it fetched again",
	}
}
