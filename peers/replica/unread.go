package replica

import (
	"cmp"
	"errors"
	"maps"
	"path"
	"slices"
	"syscall"

	"sharefs"
	"sharefs/peers/record"
)

// An inode that cannot be read, for its backing file or its rows are damaged, keeps nothing else back: what changed with it is not told, its marks stay, so that it is looked at again whenever
// something is written down, and Unread names it. Nothing is taken for gone meanwhile that may be where it cannot be seen.

// unreadable is the failure to look at an inode.
type unreadable struct {
	ino sharefs.Ino
	err error
}

func (u *unreadable) Error() string { return u.err.Error() }
func (u *unreadable) Unwrap() error { return u.err }

// telling is a tree whose errors say which inode it was that could not be read.
type telling struct{ Tree }

func (telling) of(ino sharefs.Ino, err error) error {
	if err != nil && (sharefs.KindOf(err) == sharefs.KindCorrupt || errors.Is(err, syscall.EIO)) {
		return &unreadable{ino, err}
	}
	return err
}

func (t telling) NameAt(dir sharefs.Ino, cookie uint64) (sharefs.Dentry, bool, error) {
	d, ok, err := t.Tree.NameAt(dir, cookie)
	return d, ok, t.of(dir, err)
}

func (t telling) FileID(ino sharefs.Ino) (sharefs.FileID, error) {
	id, err := t.Tree.FileID(ino)
	return id, t.of(ino, err)
}

func (t telling) Getattr(ino sharefs.Ino) (sharefs.Attr, error) {
	a, err := t.Tree.Getattr(ino)
	return a, t.of(ino, err)
}

func (t telling) Readlink(ino sharefs.Ino) (string, error) {
	to, err := t.Tree.Readlink(ino)
	return to, t.of(ino, err)
}

func (t telling) Xattrs(ino sharefs.Ino) ([]record.Xattr, error) {
	all, err := t.Tree.Xattrs(ino)
	return all, t.of(ino, err)
}

func (t telling) Latest(ino sharefs.Ino) (uint64, *record.Version, error) {
	own, v, err := t.Tree.Latest(ino)
	return own, v, t.of(ino, err)
}

func (t telling) Mtime(ino sharefs.Ino) (at sharefs.Time, own uint64, made, ok bool, err error) {
	at, own, made, ok, err = t.Tree.Mtime(ino)
	return at, own, made, ok, t.of(ino, err)
}

func (t telling) Between(ino sharefs.Ino, after, before uint64, most int) ([]*record.Version, error) {
	list, err := t.Tree.Between(ino, after, before, most)
	return list, t.of(ino, err)
}

// blind is what could not be looked at of the marks that the author deals with.
type blind struct {
	inos  map[sharefs.Ino]error
	slots map[slot]bool // names, whose marks stay
	more  []Mark        // of inodes of which the names were said
}

// pass notes an inode that cannot be read, and returns all other errors.
func (b *blind) pass(err error) error {
	var u *unreadable
	if !errors.As(err, &u) {
		return err
	}
	b.inos[u.ino] = u.err
	return nil
}

// passName is pass of what was to be said of a name.
func (b *blind) passName(s slot, err error) error {
	rest := b.pass(err)
	if err != nil && rest == nil {
		b.slots[s] = true
	}
	return rest
}

// stays reports whether a mark is not dealt with.
func (r *Replica) stays(m Mark) bool {
	if m.Cookie == 0 {
		// What was made perhaps is known by its name, which may be among what cannot be looked at; if it is gone by then, by this.
		return r.blind.inos[m.Ino] != nil || len(r.unsure) > 0 && r.inos.Get(m.Ino) == nil
	}
	s := slot{m.Ino, m.Cookie}
	return r.early[s] || r.blind.slots[s]
}

// noteUnread keeps what cannot be read until the author begins anew.
func (r *Replica) noteUnread() {
	if len(r.blind.inos) > 0 && r.unread == nil {
		r.unread = map[sharefs.Ino]error{}
	}
	for ino, why := range r.blind.inos {
		if r.unread[ino] = why; !r.warned[ino] {
			r.cfg.Log.Error("what changed with a file is told to no peer, for it cannot be read", "file", r.pathOf(ino), "inode", uint64(ino), "err", why)
			if r.warned == nil || len(r.warned) >= mostWarned {
				r.warned = map[sharefs.Ino]bool{}
			}
			r.warned[ino] = true
		}
	}
	r.hidden = r.hidden || len(r.blind.slots) > 0
}

// mostWarned is of how many inodes it is remembered that the log has been told.
const mostWarned = 1000

// Unread is what could not be told to others, for it cannot be read.
type Unread struct {
	Path string // "": it has no name that is known
	Ino  sharefs.Ino
	Err  error
}

// Unread lists what the author came by last and could not read, by inode.
func (r *Replica) Unread() ([]Unread, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	var list []Unread
	for ino, err := range maps.All(r.unread) {
		list = append(list, Unread{r.pathOf(ino), ino, err})
	}
	slices.SortFunc(list, func(a, b Unread) int { return cmp.Compare(a.Ino, b.Ino) })
	return list, nil
}

// pathOf returns where an inode is by the account.
func (r *Replica) pathOf(ino sharefs.Ino) (p string) {
	for range r.files.Len() {
		e := r.inos.Get(ino)
		if e == nil || e.id == record.Root {
			break
		}
		links := slices.Sorted(e.names.Keys())
		if len(links) == 0 {
			break
		}
		s, _ := e.names.Get(links[0])
		p, ino = path.Join(s.name, p), s.dir
	}
	return p
}
