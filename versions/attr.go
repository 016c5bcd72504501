package versions

import (
	"errors"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Getattr returns the attributes of an inode, which needs no reference. It errors with KindStale if there is none.
func (t *Tree) Getattr(ino sharefs.Ino) (sharefs.Attr, error) {
	// Whether the row tells the truth is asked before the row is read: it is brought up to date before that changes.
	f := t.files.find(ino)
	if f != nil {
		defer t.files.unpin(f)
		f.mu.Lock()
		hot, fresh, readers := f.hot, f.fresh, f.readers || f.handles > 0
		f.mu.Unlock()
		switch {
		case hot:
			return t.hotAttr(f, fresh)
		case readers:
			return t.readAttr(f)
		}
	}
	r, err := t.row(ino)
	if err != nil {
		return sharefs.Attr{}, err
	}
	a := r.attr()
	if at, ok := t.atimes.get(ino); ok {
		a.Atime = max(a.Atime, at)
	}
	if r.isAbsent() {
		t.absentAttr(r, &a)
	}
	return a, nil
}

// hotAttr returns the attributes of a file that may be changing.
func (t *Tree) hotAttr(f *file, fresh bool) (sharefs.Attr, error) {
	st, err := t.statFile(f)
	if err != nil {
		return sharefs.Attr{}, t.orReaped(f.ino, err)
	}
	r, err := t.row(f.ino)
	if err != nil {
		return sharefs.Attr{}, err
	}
	c := *r
	t.merge(&c, &st, fresh)
	a := c.attr()
	a.Changing = true
	f.mu.Lock()
	a.Mapped = f.mapped
	f.mu.Unlock()
	return a, nil
}

// readAttr returns the attributes of a file that may have been read since its atime was written down.
func (t *Tree) readAttr(f *file) (sharefs.Attr, error) {
	r, err := t.row(f.ino)
	if err != nil {
		return sharefs.Attr{}, err
	}
	a := r.attr()
	if r.isAbsent() {
		t.absentAttr(r, &a)
	}
	if !t.movesAtime(r) {
		return a, nil
	}
	st, err := t.statFile(f)
	if err != nil {
		return sharefs.Attr{}, t.orReaped(f.ino, err)
	}
	atime, _, _ := timesOf(&st)
	a.Atime = max(a.Atime, atime)
	return a, nil
}

// orReaped returns KindStale instead of the error of looking at a backing file that the reaper has removed, as it does before it removes the row.
func (t *Tree) orReaped(ino sharefs.Ino, err error) error {
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if r, err2 := t.row(ino); errors.Is(err2, sharefs.KindStale) || err2 == nil && r.nlink == 0 {
		return stale(ino)
	}
	return err
}

// fromBacking brings a row up to date from the backing file of a hot file, and returns what the disk said of that.
func (t *Tree) fromBacking(f *file, r *row) (unix.Stat_t, error) {
	st, err := t.statFile(f)
	if err != nil {
		return st, err
	}
	f.mu.Lock()
	fresh := f.fresh
	f.mu.Unlock()
	t.merge(r, &st, fresh)
	return st, nil
}

// merge puts what the backing file of a hot file tells into its row. Its change time counts beside the row's: names and modes change
// in the row alone, content in the backing file alone.
func (t *Tree) merge(r *row, st *unix.Stat_t, fresh bool) {
	atime, mtime, ctime := timesOf(st)
	r.size, r.blocks = uint64(st.Size), uint64(st.Blocks)
	r.ctime = max(r.ctime, ctime)
	if fresh {
		mtime = max(r.mtime, mtime)
	}
	r.mtime = mtime
	if Atime(t.atime.Load()) != Noatime { // the disk's clock for it is a coarse one, and may be some milliseconds behind the row's
		r.atime = max(r.atime, atime)
	}
}

// statFile asks the disk about a backing file, through a descriptor that is open or by its name.
func (t *Tree) statFile(f *file) (st unix.Stat_t, err error) {
	f.mu.Lock()
	fd := f.rd.fd
	if fd < 0 {
		fd = f.wr.fd
	}
	if fd >= 0 {
		_, err = ignoringEINTR(func() (int, error) { return 0, unix.Fstat(fd, &st) })
		f.mu.Unlock()
		return st, failed("read a backing file", err)
	}
	f.mu.Unlock()
	return t.statBacking(f.ino)
}
