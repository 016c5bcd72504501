package versions

import (
	"sync"

	"sharefs"
	"sharefs/versions/kv"
)

// View is the tree as it was at a moment. Its methods may be called from several goroutines; it holds nothing that has to be given back, and serves as long as
// the tree is open.
//
// What it shows:
//
//   - Names, types, modes, owners, link counts, extended attributes, targets of symlinks, the times of all that is no regular file: as the last instant that had
//     ended by the moment left them. An instant (instant.go) is shown whole or not at all, so that no view stands in the middle of a rename. Hard links are names
//     of one inode.
//   - The content and size of a regular file: those of the last version of that inode (not of one whose past it continues) that was closed by the moment, or
//     taken of it while it was open (a timed one). One that has none yet is empty, though somebody may have been writing to it. What was closed and removed or replaced within the settle time, and not
//     looked at meanwhile, left no version.
//   - The modification time of a regular file: as its row has it (close, utimes) if the row was up to date with that version by the moment; if the row came
//     after, that of the version, of which a time set before the file came to rest is a part. The change time is the later one of the row's and, in
//     the latter case, the version's. So chmod, chown or link of a file that is being written to moves it, and writes that are not closed do not.
//   - Blocks: those that the live file held when the row was brought up to date, else as many as its size takes without holes.
//   - Access times as far as they had been written down, which is not at each read. Birth as ever.
//   - Of a file whose content is gone, because it was lost or because retention thinned it out, the attributes; [View.Open] says why.
//
// A view of a moment never changes once one was made of it, nor does a later one of the same moment show anything else, also after a crash, after a start of the
// daemon and with a clock that was set back: what begins afterwards gets a later time, and the instant that was open is ended. Exceptions: the loss of
// power takes back what it takes back of the live tree; retention may remove what no kept instant needs; a version's note, number of data bytes and place in the
// lineage are those of today.
//
// The view of now ([sharefs.MaxHLC]) shows everything that was done and closed before it was asked for.
type View struct {
	t     *Tree
	at    sharefs.HLC
	rows  kv.View
	ended sharefs.HLC // the last boundary of an instant up to at
}

// ViewAt returns the tree as it was at a moment; [sharefs.MaxHLC] means now, whatever moment that is: [View.At] tells. It errors with KindInvalid for
// one in the future. Of a moment that retention has not kept it shows the last one before that which it has (KindNotExist where there is none, with the first one that it
// has). It takes a microsecond for a moment that was looked at lately; for one that is later than all that were looked at before, files that were closed and
// have not come to rest yet are brought to rest first, some microseconds for each.
func (t *Tree) ViewAt(at sharefs.HLC) (*View, error) {
	if uint64(at) > t.seen.Load() {
		var err error
		if at, err = t.look(at, false); err != nil {
			return nil, err
		}
	}
	at, err := t.keptAt(at)
	if err != nil {
		return nil, err
	}
	if v := t.views.get(at); v != nil {
		return v, nil
	}
	ended, err := t.db.EndedBy(at)
	if err != nil {
		return nil, failed("look at the past", err)
	}
	v := &View{t: t, at: at, rows: t.rowsAt(at), ended: ended}
	if t.cfg.ReadOnly && at >= t.frozen { // the instant that a kill left open never ends
		v.rows, v.ended = t.db, sharefs.MaxHLC
	}
	t.views.put(v)
	return v, nil
}

// ViewOf is [Tree.ViewAt] of a moment that a view has shown ([View.At]). It errors with KindNotExist if retention has given it up since, where ViewAt would
// show an earlier one.
func (t *Tree) ViewOf(at sharefs.HLC) (*View, error) {
	if err := t.stillKept(at); err != nil {
		return nil, err
	}
	v, err := t.ViewAt(at)
	if err == nil && v.at != at {
		err = t.stillKept(at)
	}
	return v, err
}

// views keeps those that were asked for last: each request of the kernel names a moment anew.
type views struct {
	mu   sync.Mutex // guards all below
	last [keptViews]*View
	next int
}

const keptViews = 64

func (c *views) get(at sharefs.HLC) *View {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.last {
		if v != nil && v.at == at {
			return v
		}
	}
	return nil
}

func (c *views) put(v *View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[c.next] = v
	c.next = (c.next + 1) % keptViews
}

// At returns the moment that the view shows.
func (v *View) At() sharefs.HLC { return v.at }

// row reads an inode as it was. KindStale: there was none.
func (v *View) row(ino sharefs.Ino) (*row, error) { return loadRow(v.rows, ino) }

// dir reads the row of a directory.
func (v *View) dir(op string, ino sharefs.Ino) (*row, error) {
	r, err := v.row(ino)
	if err == nil && !r.isDir() {
		err = fail(op, sharefs.KindNotDir)
	}
	return r, err
}

// Lookup finds a name in a directory, "." and ".." too. Errors: KindNotExist, KindNotDir, KindNameTooLong, KindStale where the directory was not there then.
func (v *View) Lookup(parent sharefs.Ino, name string) (sharefs.Attr, error) {
	switch name {
	case ".":
		return v.Getattr(parent)
	case "..":
		up, err := v.Parent(parent)
		if err != nil {
			return sharefs.Attr{}, err
		}
		return v.Getattr(up)
	}
	if err := checkName("look up", name); err != nil {
		return sharefs.Attr{}, err
	}
	p, err := v.t.findDent(v.rows, parent, name)
	switch {
	case err != nil:
		return sharefs.Attr{}, err
	case p.found():
		return v.Getattr(p.ino)
	}
	if _, err := v.dir("look up", parent); err != nil {
		return sharefs.Attr{}, err
	}
	return sharefs.Attr{}, sharefs.KindNotExist
}

// Parent returns the directory that held a directory; the root holds itself. Errors: KindStale, KindNotDir.
func (v *View) Parent(dir sharefs.Ino) (sharefs.Ino, error) {
	r, err := v.dir("look up", dir)
	if err != nil {
		return 0, err
	}
	return r.parent, nil
}

// ReadDir calls fn for each name after the cookie (0: from the start), without "." and "..", in the order of the cookies, until it returns false. It reads
// some names at a time and holds nothing while fn runs. Errors: KindStale, KindNotDir.
func (v *View) ReadDir(ino sharefs.Ino, after uint64, fn func(sharefs.Dentry) bool) error {
	if _, err := v.dir("read directory", ino); err != nil {
		return err
	}
	var bad error
	err := v.rows.Scan(spaceDentry, dentryKey(ino, after+1), inoKey(ino+1), func(key, value []byte) bool {
		d, err := decodeDent(key, value)
		if err != nil {
			bad = err
			return false
		}
		return d.ino == 0 || fn(d.dentry())
	})
	if err == nil {
		err = bad
	}
	return failed("read directory", err)
}

// dentry returns what users see of an entry.
func (d *dent) dentry() sharefs.Dentry {
	return sharefs.Dentry{Name: d.name, Ino: d.ino, Type: uint32(d.typ) << 12, Cookie: d.cookie}
}

// Readlink returns the target of a symlink. Errors: KindStale, KindInvalid for anything else.
func (v *View) Readlink(ino sharefs.Ino) (string, error) {
	r, err := v.row(ino)
	switch {
	case err != nil:
		return "", err
	case !r.isSymlink():
		return "", fail("read link", sharefs.KindInvalid)
	}
	return r.target, nil
}

// Getxattr returns the value of an extended attribute. Errors: KindStale, KindNoAttr, KindNotSupported for a namespace that does not exist.
func (v *View) Getxattr(ino sharefs.Ino, name string) ([]byte, error) {
	r, err := v.row(ino)
	if err != nil {
		return nil, err
	}
	return getXattr(v.rows, r, name)
}

// Listxattr returns the names of an inode's extended attributes, sorted. It errors with KindStale if there was no inode.
func (v *View) Listxattr(ino sharefs.Ino) ([]string, error) {
	r, err := v.row(ino)
	if err != nil || r.xattrs == 0 {
		return nil, err
	}
	var names []string
	err = eachXattr(v.rows, ino, func(name string, _ []byte) { names = append(names, name) })
	return names, err
}
