package versions

import (
	"cmp"

	"sharefs"
	"sharefs/versions/kv"
)

// Ever is a name that something bears in a directory, or bore once.
type Ever struct {
	sharefs.Dentry // what bears it, or bore it last
	// Gone is when it went: the end of that instant, or the beginning while that is open. A view of the moment before it (Gone-1) shows it last. 0: it is
	// there.
	Gone sharefs.HLC
}

// NamesEver calls fn for every name that something bears in a directory or ever bore, after the cookie (0: from the start) and in the order of the cookies,
// until it returns false. The directory may be removed. What came and went within one instant, or was forgotten by retention, left no trace. It takes as long as there
// are such names; how often each changed hands costs nothing.
func (t *Tree) NamesEver(dir sharefs.Ino, after uint64, fn func(Ever) bool) error {
	var bad error
	// A slot holds a name without a bearer where another one lies beyond it (a grave), which only names of one hash make. Who bore it is looked for.
	last := func(e *kv.Ever) (d dent, gone sharefs.HLC, err error) {
		if d, err = decodeDent(e.Key, e.Value); err != nil || d.ino != 0 {
			return d, e.Gone, err
		}
		err = t.db.Past(spaceDentry, e.Key, func(rev kv.Revision) bool {
			if rev.Deleted {
				return true
			}
			before, err := decodeDent(e.Key, rev.Value)
			if err != nil || before.ino != 0 {
				d, bad = before, err
				return false
			}
			gone = max(rev.Stamp, rev.At)
			return true
		})
		return d, gone, err
	}
	err := t.db.ScanEver(spaceDentry, dentryKey(dir, after+1), inoKey(dir+1), func(e kv.Ever) bool {
		d, gone, err := last(&e)
		if bad == nil {
			bad = err
		}
		if bad != nil {
			return false
		}
		return d.ino == 0 || fn(Ever{d.dentry(), gone})
	})
	if err == nil {
		err = bad
	}
	return failed("read directory", err)
}

// ChangePoints calls fn for the moments at which a directory's names or attributes changed, newest first, until it returns false. A view of such a moment
// shows the directory as it was after the change. The directory may be removed: the first moment is that of its removal then. Access times do not count.
func (t *Tree) ChangePoints(dir sharefs.Ino, fn func(at sharefs.HLC) bool) error {
	var bad error
	var later *row // the state after the one at hand, nil where there was no row; it came at the moment
	var moment sharefs.HLC
	stopped := false
	k := t.retained.get()
	err := t.db.Past(spaceInode, inoKey(dir), func(rev kv.Revision) bool {
		var r *row
		if !rev.Deleted {
			if r, bad = decodeRow(dir, rev.Value); bad != nil {
				return false
			}
		}
		if moment != 0 && !sameButAtime(later, r) && !fn(moment) {
			stopped = true
			return false
		}
		if later, moment = r, rev.At; moment != 0 { // 0: the instant is open
			moment = k.Next(moment) // it is kept for the sake of that one
		}
		return true
	})
	if err == nil {
		err = bad
	}
	if err == nil && !stopped && moment != 0 {
		fn(moment)
	}
	return failed("read the past of a directory", err)
}

// sameButAtime reports whether two states of an inode, or none, differ in nothing but the access time.
func sameButAtime(a, b *row) bool {
	if a == nil || b == nil {
		return a == b
	}
	c := *a
	c.atime, c.seq = b.atime, b.seq
	return c == *b
}

// AttrEver returns the attributes of an inode, and of one that has no name any more those that it had when it had one last, with gone set to the end of the
// instant in which that went (the beginning while it is open): a view of the moment before shows the rest of it. It errors with KindStale where nothing is known of it.
func (t *Tree) AttrEver(ino sharefs.Ino) (a sharefs.Attr, gone sharefs.HLC, err error) {
	if r, err := t.row(ino); err == nil && r.nlink > 0 {
		a, err = t.Getattr(ino)
		return a, 0, err
	}
	var found *row
	var bad error
	err = t.db.Past(spaceInode, inoKey(ino), func(rev kv.Revision) bool {
		if !rev.Deleted {
			r, err := decodeRow(ino, rev.Value)
			if err != nil || r.nlink > 0 {
				found, bad = r, err
				return false
			}
		}
		gone = max(rev.Stamp, rev.At)
		return true
	})
	switch {
	case err != nil || bad != nil:
		return a, 0, failed("read the past of an inode", cmp.Or(err, bad))
	case found == nil:
		return a, 0, stale(ino)
	}
	a = found.attr()
	if found.isRegular() {
		if v, err := newestVersion(t.db, ino, noLimit); err == nil && v != nil {
			a.Size, a.Mtime = v.size, v.mtime
		}
	}
	return a, gone, nil
}
