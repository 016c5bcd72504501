package versions

import (
	"cmp"
	"io"
	"strings"
	"time"

	"sharefs"
)

// An SQLite database that a program has open is not to be rewritten: the program goes on with pages that it has read before, and writes them to what is a
// database of another time then. Nor are its log, its journal and the index of its log.

// shmMagic is what FILE-shm begins with: the version of its format, 3007000, on a little-endian machine
// (https://www.sqlite.org/walformat.html, 2.1).
const shmMagic = "\x18\xe2\x2d\x00"

// closesWithin is how long somebody who has closed a file may seem to have it open: close(2) returns before its RELEASE is dealt with. Whoever takes a
// database has it open for a moment, too.
const closesWithin = 2 * time.Second

// errInUse is what is to be seen of a database that somebody has open.
func errInUse(op string) error {
	return &sharefs.Error{Op: op, Kind: sharefs.KindBusy, Detail: "an SQLite database that is open for writing"}
}

// ofDatabase reports whether what begins so is an SQLite database, or a file that belongs to one.
func ofDatabase(beginning []byte) bool {
	for _, magic := range []string{sqliteMagic, walMagic, journalMagic, shmMagic} {
		if strings.HasPrefix(string(beginning), magic) {
			return true
		}
	}
	return false
}

// InUse reports whether a file is an SQLite database, or belongs to one by its first bytes, that somebody has open for writing. It waits a moment for whoever is
// about to close it.
func (t *Tree) InUse(ino sharefs.Ino) (bool, error) {
	if _, err := t.row(ino); err != nil {
		return false, err
	}
	f := t.files.pin(ino)
	defer t.files.unpin(f)
	err := t.past.lockUnused(f, nil, "look")
	if sharefs.KindOf(err) == sharefs.KindBusy {
		return true, nil
	}
	if err == nil {
		f.content.Unlock()
	}
	return false, err
}

// lockUnused locks file.content, so that nobody can open the file for writing. If it belongs to a database, or src does, which is to be its content, nobody has
// it open for writing then. KindBusy: somebody has, for closesWithin.
func (h *history) lockUnused(f *file, src VersionReader, op string) error {
	deadline := time.Now().Add(cmp.Or(h.t.cfg.closesWithin, closesWithin))
	for {
		f.content.Lock()
		f.mu.Lock()
		writing := f.writers > 0
		f.mu.Unlock()
		if !writing || !ofDatabase(h.beginning(f.ino)) && !ofDatabase(beginningOf(src)) {
			return nil
		}
		f.content.Unlock()
		if time.Now().After(deadline) {
			return errInUse(op)
		}
		if !h.t.sleep(10 * time.Millisecond) {
			return errStopped
		}
	}
}

// beginningOf returns the first bytes of a version, as many as tell what it is.
func beginningOf(src VersionReader) []byte {
	if src == nil {
		return nil
	}
	b := make([]byte, len(sqliteMagic))
	n, err := src.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil
	}
	return b[:n]
}
