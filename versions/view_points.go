package versions

import (
	"cmp"
	"errors"

	"sharefs"
	"sharefs/versions/kv"
)

// Instants calls fn for the moments at which anything in the tree changed, newest first, until it returns false: a view of such a moment shows the tree as it
// was after the change. Of changes that retention does not keep apart the moment after the last of them counts that it keeps.
func (t *Tree) Instants(fn func(at sharefs.HLC) bool) error {
	k := t.retained.get()
	last := sharefs.MaxHLC
	return failed("list the instants", t.db.BoundariesBack(func(e kv.Epoch) bool {
		at := k.Next(e.Boundary)
		if at == last {
			return true
		}
		last = at
		return fn(at)
	}))
}

// NameEver finds what bears a name in a directory or bore it last. KindNotExist: nothing ever did.
func (t *Tree) NameEver(dir sharefs.Ino, name string) (found Ever, err error) {
	if err := checkName("look up", name); err != nil {
		return found, err
	}
	slot := t.cookieOf(name)
	err = t.NamesEver(dir, slot-1, func(e Ever) bool {
		if e.Name == name {
			found = e
		}
		// Names of one hash lie in slots that follow each other.
		slot++
		return found.Ino == 0 && e.Cookie < slot
	})
	if err == nil && found.Ino == 0 {
		err = sharefs.KindNotExist
	}
	return found, err
}

// Continues reports whether the history of a file goes back to that of another one, which it replaced.
func (t *Tree) Continues(ino, other sharefs.Ino) (bool, error) {
	h := &t.past
	theirs, _, err := loadLineage(t.db, other)
	if err != nil {
		return false, err
	}
	s, err := h.head(ino)
	if err == nil {
		s, err = h.back(s, func(s segment) bool { return s.line.depth <= theirs.depth })
	}
	if errors.Is(err, sharefs.KindNotExist) {
		return false, nil
	}
	return err == nil && s.ino == other, err
}

// Bore tells of a name in a directory since when what bears it does, or nothing does any more, and what bore it before that (inode 0: nothing that is known). The time is the
// beginning of that instant. What retention forgot is not known; of a name that nothing ever bore all is zero.
func (t *Tree) Bore(dir sharefs.Ino, name string) (since sharefs.HLC, before sharefs.Dentry, err error) {
	found, err := t.NameEver(dir, name)
	if err != nil {
		if errors.Is(err, sharefs.KindNotExist) {
			err = nil
		}
		return 0, before, err
	}
	now := found.Ino
	if found.Gone != 0 {
		now = 0
	}
	same := true
	var bad error
	err = t.db.Past(spaceDentry, dentryKey(dir, found.Cookie), func(rev kv.Revision) bool {
		var d dent
		if !rev.Deleted {
			if d, bad = decodeDent(dentryKey(dir, found.Cookie), rev.Value); bad != nil {
				return false
			}
		}
		if d.name != name {
			d = dent{}
		}
		if same = same && d.ino == now; same {
			since = rev.Stamp
		} else if d.ino != 0 {
			before = d.dentry()
		}
		return before.Ino == 0
	})
	return since, before, failed("read the past of a name", cmp.Or(err, bad))
}
