package versions

import (
	"sharefs"
	"sharefs/versions/kv"
)

// readDirPiece is how many names of a directory are read at once: enough to make a seek cheap, few enough to be held in memory by many.
const readDirPiece = 256

// ReadDir calls emit for each name after the cookie from (0: from the start), without "." and "..", in the order of the cookies, until
// it returns false. With plus the attributes come along, and an entry for which emit returned true has taken a reference. A name
// that is there from the first call to the last is told once; one that comes or goes meanwhile may be told or not. Errors: KindStale,
// KindNotDir.
func (t *Tree) ReadDir(dir sharefs.Ino, from uint64, plus bool, emit func(sharefs.Dentry, *sharefs.Attr) bool) error {
	r, err := t.row(dir)
	switch {
	case err != nil:
		return err
	case !r.isDir():
		return fail("read directory", sharefs.KindNotDir)
	}
	if from == 0 {
		t.accessed(r)
	}
	names := make([]dent, 0, min(readDirPiece, int(r.entries)+1))
	for {
		names, err = readDents(t.db, dir, from, readDirPiece, names[:0])
		if err != nil {
			return err
		}
		for i := range names {
			if !t.emit(&names[i], plus, emit) {
				return nil
			}
		}
		if len(names) < readDirPiece {
			return nil
		}
		from = names[len(names)-1].cookie
	}
}

// emit hands out one name. It reports false when no more are wanted.
func (t *Tree) emit(d *dent, plus bool, emit func(sharefs.Dentry, *sharefs.Attr) bool) bool {
	e := sharefs.Dentry{Name: d.name, Ino: d.ino, Type: uint32(d.typ) << 12, Cookie: d.cookie}
	if !plus {
		return emit(e, nil)
	}
	a, err := t.reference(d.ino)
	if err != nil {
		return true // it was removed while the directory was being read
	}
	if !emit(e, &a) {
		t.Forget(d.ino, 1)
		return false
	}
	return true
}

// readDents appends up to n names of a directory after a cookie, as a view of the store has them.
func readDents(v kv.View, dir sharefs.Ino, after uint64, n int, names []dent) ([]dent, error) {
	var bad error
	err := v.Scan(spaceDentry, dentryKey(dir, after+1), inoKey(dir+1), func(key, value []byte) bool {
		d, err := decodeDent(key, value)
		if err != nil {
			bad = err
			return false
		}
		if d.ino != 0 {
			names = append(names, d)
		}
		return len(names) < n
	})
	if err == nil {
		err = bad
	}
	return names, failed("read directory", err)
}
