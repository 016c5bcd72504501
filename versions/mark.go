package versions

import (
	"cmp"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/writers"
)

// The row of a regular inode tells its size and times while nobody can change them. Before somebody can, a mark row is written, and from
// then on the backing file tells: under passthrough the daemon sees no write. Once nobody can write any more (package writers says
// so) the row is brought up to date from the backing file; the mark goes when the content is safe from power loss too, some seconds
// later and many at a time, so that the marks which a start finds name all files whose row may be wrong.
//
// On disk (space mark, key: inode): 1 byte, bit 0: the times of the backing file are those of its making, and the row's hold unless
// later ones are found.
const markFresh = 1

func markValue(fresh bool) []byte {
	if fresh {
		return []byte{markFresh}
	}
	return []byte{0}
}

// unmarkDelay is how long marks are kept in order to be removed together, after one sync of the backing files.
const unmarkDelay = 5 * time.Second

// change says what is going to happen to the content of a file.
type change uint8

const (
	changeSome change = iota // any of it may change
	changeAll                // all of it goes
)

// arm readies a file for being changed by a writer: nothing of it can change before arm returns. The tracker of writers holds the file
// afterwards, and every call needs its disarm. Edit, if there is one, changes the row in the same commit. f.content is held.
//
// An absent file is made empty if all of its content goes; otherwise it errors with errAbsent, and has to be brought here before.
func (t *Tree) arm(f *file, c change, mappable bool, edit func(*tx, *row) error) error {
	if err := t.past.finish(f); err != nil {
		return err
	}
	return t.armNow(f, c, mappable, edit)
}

// armNow is arm for who is giving the file another host's content, or takes that back.
func (t *Tree) armNow(f *file, c change, mappable bool, edit func(*tx, *row) error) error {
	var absent *version
	if t.absentNow(f.ino) {
		if c != changeAll {
			return errAbsent
		}
		var err error
		if absent, err = newestVersion(t.db, f.ino, noLimit); err != nil {
			return err
		}
		end, err := t.emptyAbsent(f)
		defer end()
		if err != nil {
			return err
		}
		then := edit
		edit = func(x *tx, r *row) error {
			r.flags &^= rowAbsent
			if then == nil {
				return nil
			}
			return then(x, r)
		}
	}
	m, err := t.beforeChange(f, c)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.gen++
	f.adopted = false
	hot, base := f.hot, f.base
	f.mu.Unlock()
	var st unix.Stat_t
	if !hot {
		if st, err = t.statBacking(f.ino); err == nil && st.Mode&unix.S_ISVTX != 0 && absent == nil {
			if err = lostFetched(f.ino); c == changeAll {
				if err = t.emptyHollow(f.ino); err == nil {
					st, err = t.statBacking(f.ino)
				}
			}
		}
		if err != nil {
			m.cancel()
			return err
		}
		base = stampOf(&st)
		if absent != nil { // that is what it held until now
			base = absent.stamp()
		} else {
			t.followChanges(f, base)
		}
	}
	t.track.Hold(f.ino, base, mappable)
	if hot && edit == nil {
		return nil
	}
	if err = t.mark(f, hot, &st, m, edit); err != nil {
		m.cancel()
	} else {
		err = m.finish(f)
	}
	if err != nil {
		t.track.Release(f.ino)
	}
	return err
}

// beforeChange lets the past keep what the file holds. Without a settle time each close counts, also one a moment ago; and what a start finds
// is looked at before it changes.
func (t *Tree) beforeChange(f *file, c change) (*swap, error) {
	if t.cfg.Settle == 0 {
		t.awaitClosing(f)
	}
	f.mu.Lock()
	hot, writing, adopted := f.hot, f.writers > 0, f.adopted
	f.mu.Unlock()
	if hot && !writing && (t.cfg.Settle == 0 || adopted) {
		rests, err := t.settleNow(f)
		if err != nil {
			return nil, err
		}
		hot = !rests
	}
	if hot {
		return nil, nil
	}
	return t.hooks.beforeChange(f, c)
}

// mark commits the mark, the edit of arm and what a move adds.
func (t *Tree) mark(f *file, hot bool, st *unix.Stat_t, m *swap, edit func(*tx, *row) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	r, err := x.row(f.ino)
	if err != nil {
		return err
	}
	fresh := false
	if !hot {
		atime, mtime, _ := timesOf(st)
		fresh = mtime < r.mtime
		if mtime > r.mtime {
			// The times that utimensat gave the backing file were never acknowledged: the daemon was killed in between.
			if err := t.live.setTimes(f.ino, max(atime, r.atime), r.mtime); err != nil {
				return failed("set times", err)
			}
		}
		if !f.marked || f.markFresh != fresh {
			x.b.Put(spaceMark, inoKey(f.ino), markValue(fresh))
		}
	}
	if err := m.edit(x); err != nil {
		return err
	}
	if edit != nil {
		if r, err = x.edit(f.ino); err != nil {
			return err
		}
		if err := edit(x, r); err != nil {
			return err
		}
	}
	var seq uint64
	if x.b.Len() > 0 || len(x.rows) > 0 {
		if err := x.commit(); err != nil {
			return err
		}
		seq = t.lastSeq.Load()
	}
	if hot {
		return nil
	}
	t.setMarked(f, fresh)
	f.mu.Lock()
	f.hot, f.fresh, f.base, f.redated = true, fresh, stampOf(st), writers.Stamp{}
	f.seq = max(f.seq, seq)
	f.mu.Unlock()
	return nil
}

// setMarked notes that a file has its mark row, which pins it; Tree.mu is held.
func (t *Tree) setMarked(f *file, fresh bool) {
	if !f.marked {
		t.files.pin(f.ino)
		t.marked.Add(1)
	}
	f.marked, f.markFresh = true, fresh
}

// setUnmarked notes that a file's mark row is gone; Tree.mu is held.
func (t *Tree) setUnmarked(f *file) {
	if f.marked {
		f.marked = false
		t.marked.Add(-1)
		t.files.unpin(f)
	}
}

// disarm takes one arm back.
func (t *Tree) disarm(f *file) { t.track.Release(f.ino) }

// statBacking returns what the disk says of a backing file. One that is missing while its inode is empty is made: the power may have
// gone after the inode's commit was synced and before the disk had written the name of its backing file down. That of an inode without
// names may have been removed by the reaper.
func (t *Tree) statBacking(ino sharefs.Ino) (unix.Stat_t, error) {
	st, err := t.live.stat(ino)
	if errors.Is(err, unix.ENOENT) && !t.cfg.ReadOnly {
		r, err := t.row(ino)
		if err != nil {
			return st, err
		}
		if r.size == 0 && r.isRegular() && r.nlink > 0 {
			fd, err := t.live.create(ino)
			if err != nil && !errors.Is(err, unix.EEXIST) {
				return st, failed("make a backing file", err)
			}
			if err == nil {
				unix.Close(fd)
			}
			st, err = t.live.stat(ino)
			return st, failed("read a backing file", err)
		}
	}
	return st, failed("read a backing file", err)
}

// loadMarks finds the files that somebody had open for writing when the daemon ended, or that were closed so shortly before that the
// row may be wrong. Their writers may be at work still.
func (t *Tree) loadMarks() error {
	type mark struct {
		ino   sharefs.Ino
		fresh bool
	}
	var marks []mark
	err := t.db.Scan(spaceMark, nil, nil, func(key, value []byte) bool {
		marks = append(marks, mark{keyIno(key), len(value) == 1 && value[0]&markFresh != 0})
		return true
	})
	if err != nil {
		return failed("read the marks", err)
	}
	var orphaned []sharefs.Ino
	for _, m := range marks {
		r, err := t.row(m.ino)
		if errors.Is(err, sharefs.KindStale) {
			orphaned = append(orphaned, m.ino)
			continue
		}
		if err != nil {
			return err
		}
		if r.isAbsent() {
			if st, err := t.live.stat(m.ino); err != nil || st.Mode&unix.S_ISVTX != 0 {
				orphaned = append(orphaned, m.ino)
				continue
			}
			if err := t.turnedOutFull(r); err != nil {
				return err
			}
		}
		if err := t.recreate(r); err != nil {
			return err
		}
		f := t.files.pin(m.ino)
		t.setMarked(f, m.fresh)
		if t.past.standing(m.ino) != nil { // nobody here wrote to it
			t.files.unpin(f)
			continue
		}
		f.hot, f.fresh, f.adopted = true, m.fresh, true
		if t.track != nil {
			f.base = t.hooks.marked(m.ino)
			t.track.Adopt(m.ino, f.base)
		}
		t.files.unpin(f)
	}
	if len(orphaned) == 0 || t.cfg.ReadOnly {
		return nil
	}
	return t.dropRows(spaceMark, orphaned)
}

// dropRows removes the rows that some inodes have in a space.
func (t *Tree) dropRows(space uint8, inos []sharefs.Ino) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	for _, ino := range inos {
		x.b.Delete(space, inoKey(ino))
	}
	return x.commit()
}

// recreate makes the backing file of a marked inode anew that power loss took, or took back. Its name may not have been on the disk: nothing of its content had been synced then, so that empty is what
// it was. Or it is that of an absent file, of which all content was taken away, or replaced: the disk does not know it, and has a hole that nobody wrote.
func (t *Tree) recreate(r *row) error {
	st, err := t.live.stat(r.ino)
	switch {
	case t.cfg.ReadOnly || r.nlink == 0:
		return nil
	case err == nil && st.Mode&unix.S_ISVTX != 0:
		return t.emptyHollow(r.ino)
	case !errors.Is(err, unix.ENOENT):
		return nil
	}
	fd, err := t.live.create(r.ino)
	if err != nil {
		return failed("make a backing file", err)
	}
	return failed("make a backing file", unix.Close(fd))
}

// unmarker removes marks in the background. The disk may take long over it, and nobody waits. It also sees to references, as long as there are any. While there is neither it does not wake.
func (t *Tree) unmarker() {
	for {
		if !t.settler.cools() && !t.past.refs.any() {
			select {
			case <-t.stop:
				return
			case <-t.unmarks:
			}
		}
		if !t.sleep(cmp.Or(t.cfg.unmarkDelay, unmarkDelay)) {
			return
		}
		t.unmarked.Add(1)
		t.past.boundReferences()
		if err := t.unmark(); err != nil {
			t.log.Warn("marks of closed files stay", "err", err)
		}
	}
}

// unmarkSoon tells unmarker that there is something to do.
func (t *Tree) unmarkSoon() {
	select {
	case t.unmarks <- struct{}{}:
	default:
	}
}

// unmark removes the marks of files whose rows are up to date, after their content was made safe from power loss.
func (t *Tree) unmark() error {
	s := &t.settler
	s.mu.Lock()
	cool := s.cool
	s.cool = nil
	s.mu.Unlock()
	if len(cool) == 0 {
		return nil
	}
	if err := t.syncContent(cool); err != nil {
		s.mu.Lock()
		s.cool = append(cool, s.cool...)
		s.mu.Unlock()
		return failed("sync the backing files", err)
	}
	const batch = 256
	for len(cool) > 0 {
		n := min(batch, len(cool))
		if err := t.unmarkBatch(cool[:n]); err != nil {
			s.mu.Lock()
			s.cool = append(cool, s.cool...)
			s.mu.Unlock()
			return err
		}
		cool = cool[n:]
	}
	return nil
}

// fewFiles is how many files are synced one by one rather than with all else that the disk has to write.
const fewFiles = 16

// syncContent makes the content of some files survive power loss, and that they are the live ones: with a file that was renamed XFS and btrfs write down its name, and ext4 does when the journal has grown and is
// synced, without which the marks are not gone.
func (t *Tree) syncContent(files []cooled) error {
	if len(files) > fewFiles {
		return t.live.sync()
	}
	for _, c := range files {
		fd, err := t.live.openProbe(c.f.ino)
		if errors.Is(err, unix.ENOENT) {
			continue // removed since
		}
		if err != nil {
			return err
		}
		_, err = ignoringEINTR(func() (int, error) { return 0, unix.Fdatasync(fd) })
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// unmarkBatch removes the marks of files that have cooled down and were not opened for writing again.
func (t *Tree) unmarkBatch(cool []cooled) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	var gone []*file
	for _, c := range cool {
		c.f.mu.Lock()
		still := !c.f.hot && c.f.gen == c.gen
		c.f.mu.Unlock()
		if still && c.f.marked {
			x.b.Delete(spaceMark, inoKey(c.f.ino))
			gone = append(gone, c.f)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := x.commit(); err != nil {
		return err
	}
	for _, f := range gone {
		t.setUnmarked(f)
	}
	return nil
}
