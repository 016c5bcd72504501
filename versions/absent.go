package versions

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// A live file may be *absent*: its row has the flag rowAbsent, its newest version is kept and *away*, and the content of that is not, or not all, here. Names, attributes
// and the manifest are, down to its nodes, so that nobody has to ask anybody where the content begins, ends and has holes.
//
//	        arrives (StageAbsent), Free
//	   full ───────────────────────────▶ absent: backing file of the right size, nothing but a hole, sticky bit set
//	     ▲                                 │ read: chunk by chunk into the backing file (absent_read.go)
//	     └──────────── Bring ──────────── partial
//
// The backing file of an absent file is a cache, and nothing in it is believed: a part of it counts when it has been compared with the name of its chunk since the
// file was opened, or has been put there since. So power loss and kill -9 spoil nothing, and nothing has to be written down when a chunk comes.
//
// What would let a hole pass for content is excluded by order. The row says that the file is absent, and that is safe from power loss, before a backing file is put there that has none;
// all of it is there, and safe from power loss, before the row says that it is full. Whoever changes content (arm) has it full before, or takes all of it away. The sticky bit
// tells whoever has lost the row (rebuild) that the file is no content.
//
// A file is absent or full for all who have it open: while it is absent it is served by the daemon, and whoever opened it then goes on so when it is full; it is passed through for who opens
// it when they have closed it. It becomes absent only while nobody has it open, but for one that is absent already.
//
// A version stays away when the file is full, until it is kept again (KeepAgain): its chunks are in no pack. Read by its number it comes from elsewhere, as that of an absent file does.

// Elsewhere has contents that are not here.
type Elsewhere interface {
	// Find returns where the content of a version can be had, which an inode holds or held. KindUnreachable: nobody is known to have it.
	Find(ino sharefs.Ino, c *Content) (Remote, error)
}

// Remote is one content that is elsewhere. Its methods are called by several goroutines at once.
type Remote interface {
	// Want tells of chunks that Get will be asked for soon, in their order. It does not wait.
	Want(ids ...sharefs.ChunkID)
	// Get returns a chunk. KindUnreachable: nobody has it, and, for who is patient, nobody came who does; EINTR: cancel was closed.
	Get(cancel <-chan struct{}, id sharefs.ChunkID, patient bool) ([]byte, error)
	// Drop says that nothing more is wanted for now.
	Drop()
}

// SetElsewhere says where contents come from that are not here; nil: from nowhere.
func (t *Tree) SetElsewhere(e Elsewhere) {
	if e == nil {
		t.elsewhere.Store(nil)
		return
	}
	t.elsewhere.Store(&e)
}

// stickyBacking is the mode of a backing file that is not content: S_ISVTX means nothing else on a regular file of Linux.
const (
	modeBacking   = 0o600
	stickyBacking = unix.S_ISVTX | modeBacking
)

func (r *row) isAbsent() bool { return r.flags&rowAbsent != 0 }

// absentNow reports what the row of an inode says at present.
func (t *Tree) absentNow(ino sharefs.Ino) bool {
	r, err := t.row(ino)
	return err == nil && r.isAbsent()
}

// Shell reports whether all of a content is here but for its chunks: enough to make it an absent file.
func (t *Tree) Shell(c *Content) (bool, error) {
	return t.isHere(c, keptUnder{h: &t.past, shell: true})
}

// stageAbsent makes the file of a content that stays elsewhere. Where it is to be that of a pinned file, all of which is to be here soon, what that holds is taken over: most of it is, as a rule, what is wanted.
func (s *Staged) stageAbsent(onto sharefs.Ino, mtime sharefs.Time) error {
	t := s.t
	p, err := t.stock.take()
	if err != nil {
		return err
	}
	unix.Close(p.fd)
	s.ino = p.ino
	if err := t.hollow(s.ino, s.size, false); err != nil {
		return err
	}
	if onto != 0 && t.Pinned(onto) {
		if err := s.takeOver(onto); err != nil {
			t.log.Debug("nothing is taken over of what a file holds", "inode", uint64(onto), "err", err)
		}
	}
	return failed("set times", t.live.setTimes(s.ino, sharefs.Time(time.Now().UnixNano()), mtime))
}

// takeOver puts what a file holds into the staged one, which is a cache: what of it is not right does no harm.
func (s *Staged) takeOver(onto sharefs.Ino) error {
	return s.takeFrom(onto, func(to, from int) error {
		_, err := cloneOrCopy(to, from, s.t.reserve.room)
		_, err2 := ignoringEINTR(func() (int, error) { return 0, unix.Ftruncate(to, s.size) })
		return errors.Join(err, err2)
	})
}

// hollow makes a backing file one of an absent file: nothing but a hole of a size. With make it is made if need be.
func (t *Tree) hollow(ino sharefs.Ino, size int64, make bool) error {
	fd, err := t.live.open(ino, unix.O_WRONLY)
	if make && errors.Is(err, unix.ENOENT) {
		if fd, err = t.live.create(ino); err == nil {
			unix.Close(fd)
			fd, err = t.live.open(ino, unix.O_WRONLY)
		}
	}
	if err != nil {
		return failed("make a backing file", err)
	}
	defer unix.Close(fd)
	for _, do := range []func() error{
		func() error { return unix.Fchmod(fd, stickyBacking) },
		func() error { return unix.Ftruncate(fd, 0) },
		func() error { return unix.Ftruncate(fd, size) },
	} {
		if _, err := ignoringEINTR(func() (int, error) { return 0, do() }); err != nil {
			return failed("make a backing file", err)
		}
	}
	return nil
}

// ready sees to it that an absent file has a backing file of its size, which power loss may have taken.
func (t *Tree) ready(ino sharefs.Ino, size int64) error {
	st, err := t.live.stat(ino)
	switch {
	case err == nil && st.Size == size:
		return nil
	case err != nil && !errors.Is(err, unix.ENOENT):
		return failed("read a backing file", err)
	}
	return t.hollow(ino, size, true)
}

// emptyAbsent readies an absent file for one who takes all of its content away: the backing file is empty, and content, before the row says so. Whoever reads it waits until end is called, when it
// does, or nothing was done: he would make the hole anew, and put into it what is elsewhere. f.content is held.
func (t *Tree) emptyAbsent(f *file) (end func(), err error) {
	over := make(chan struct{})
	f.mu.Lock()
	f.emptying = over
	p := f.part.Swap(nil)
	f.mu.Unlock()
	if p != nil {
		p.retire()
	}
	end = func() {
		f.mu.Lock()
		f.emptying = nil
		f.mu.Unlock()
		close(over)
	}
	return end, t.emptyHollow(f.ino)
}

// emptyHollow makes the backing file of an absent file that of an empty one.
func (t *Tree) emptyHollow(ino sharefs.Ino) error {
	if err := t.hollow(ino, 0, true); err != nil {
		return err
	}
	return failed("make a backing file", unix.Fchmodat(t.live.fd, t.live.name(ino), modeBacking, 0))
}

// errAbsent is the error of who is about to change a file that has to be brought here before.
var errAbsent = &sharefs.Error{Op: "change", Kind: sharefs.KindAgain, Detail: "the content of the file is not here"}

// errOpen is the error of making a file absent that somebody has open, to whom it is passed through or who reads what is here.
var errOpen = &sharefs.Error{Op: "adopt", Kind: sharefs.KindBusy, Detail: "somebody has the file open"}

// adoptAbsent is adopt of a content that stays elsewhere. What the file held has to be in packs, or elsewhere.
func (h *history) adoptAbsent(f *file, s *Staged, base uint64) (own uint64, err error) {
	t := h.t
	f.content.Lock()
	defer f.content.Unlock()
	if err := t.restNow(f); err != nil {
		return 0, err
	}
	was := t.absentNow(f.ino)
	end, err := t.hush(f, was)
	if err != nil {
		return 0, err
	}
	defer end()
	v, err := s.becomeVersion(f, base)
	if err != nil {
		return 0, err
	}
	s.by.changes(OpChange{Verb: OpWritten, Ino: f.ino})
	if !was {
		if err := t.db.Sync(); err != nil {
			return v.own, failed("adopt", err) // the backing file stays; it is a cache now of which no chunk is right
		}
	}
	return v.own, t.replaceHollow(f, v, s)
}

// hush has who opens a file from now on be served, so that it can be made absent; it errors where somebody has it open already, unless it is absent.
func (t *Tree) hush(f *file, absent bool) (end func(), err error) {
	f.mu.Lock()
	free := f.handles+f.entering == 0
	if free || absent {
		f.hush = true
	}
	if free {
		t.files.shut(&f.rd)
		t.files.shut(&f.wr)
	}
	f.mu.Unlock()
	end = func() {
		f.mu.Lock()
		f.hush = false
		f.mu.Unlock()
	}
	if !free && !absent {
		return nil, errOpen
	}
	if k := t.kernel.Load(); k != nil && !absent && !(*k).DropBacking(f.ino) {
		end()
		return nil, errOpen
	}
	return end, nil
}

// becomeVersion makes a file absent, and its content the next version after base.
func (s *Staged) becomeVersion(f *file, base uint64) (*version, error) {
	t, ino := s.t, f.ino
	st, err := t.live.stat(s.ino)
	if err != nil {
		return nil, failed("read a backing file", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	newest, err := newestVersion(t.db, ino, noLimit)
	if err != nil {
		return nil, err
	}
	x := t.begin()
	r, err := x.edit(ino)
	switch {
	case err != nil:
		return nil, err
	case newest == nil && (base != 0 || r.size > 0), newest != nil && newest.own != base:
		return nil, again("it has another version")
	case newest != nil && newest.place != placeKept && newest.place != placeAside && r.size > 0:
		return nil, again("what it holds is not in packs yet")
	}
	x.killPriv(r, Caller{})
	r.size, r.blocks, r.ctime, r.mtime = uint64(s.size), 0, x.now, s.mtime
	r.flags |= rowAbsent
	h := &t.past
	h.edge.adopting(ino, true)
	defer h.edge.adopting(ino, false)
	v, err := h.begin(x, r, stampOf(&st), time.Now(), "")
	if err != nil {
		return nil, err
	}
	if err := s.claim(x, v); err != nil {
		return nil, err
	}
	h.replaced(x, ino)
	x.unmark(f)
	s.used = true
	return v, x.commit()
}

// unmark takes the mark from a file at rest that becomes absent: what its backing file holds does not matter any more.
func (x *tx) unmark(f *file) {
	if f.marked {
		x.b.Delete(spaceMark, inoKey(f.ino))
		x.after(func(uint64) { x.t.setUnmarked(f) })
	}
}

// replaceHollow puts the backing file of an absent content in the place of the one that there is, or empties that one if somebody has it open since. The row tells already.
func (t *Tree) replaceHollow(f *file, v *version, s *Staged) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.part.Load()
	if f.handles+f.entering == 0 && f.rd.users == 0 && f.wr.users == 0 {
		t.files.shut(&f.rd)
		t.files.shut(&f.wr)
		_, err := ignoringEINTR(func() (int, error) {
			return 0, unix.Renameat(t.live.fd, t.live.name(s.ino), t.live.fd, t.live.name(f.ino))
		})
		if err != nil {
			return failed("replace a backing file", err)
		}
		s.passed()
		f.part.Store(nil)
	} else {
		// Whoever reads goes by the new content before the file loses the old one.
		f.part.Store(newPartial(f, t, v))
		if err := t.hollow(f.ino, int64(v.size), true); err != nil {
			return err
		}
	}
	if old != nil {
		old.retire()
	}
	return nil
}

// Free makes files absent that are at rest, of which nobody has any open and whose content is elsewhere: that of those versions that are away already, or for which promised, which
// is called with the content and may wait, does not err. It returns how many bytes that gave back, and why each of the others stays: KindBusy: it is in use, or changed so lately that it is not in packs;
// KindInvalid: there is nothing to be freed; or what promised said.
func (t *Tree) Free(list []sharefs.Ino, promised func(sharefs.Ino, *Content) error) (bytes uint64, errs []error) {
	errs = make([]error, len(list))
	type freed struct {
		f   *file
		v   *version
		end func()
		i   int
	}
	var done []freed
	for i, ino := range list {
		if errs[i] = t.writable("free"); errs[i] != nil {
			continue
		}
		asked, err := t.promisedFree(ino, promised)
		if errs[i] = err; err != nil {
			continue
		}
		f := t.files.pin(ino)
		if !f.content.TryLock() { // of several files at once: waiting for one could be waiting for ever
			t.files.unpin(f)
			errs[i] = errNotFreed
			continue
		}
		v, end, err := t.letGo(f, asked)
		if err != nil {
			f.content.Unlock()
			t.files.unpin(f)
			errs[i] = err
			continue
		}
		done = append(done, freed{f, v, end, i})
	}
	if len(done) == 0 {
		return 0, errs
	}
	err := t.db.Sync()
	for _, d := range done {
		if err == nil {
			n, e := t.hollowOut(d.f, d.v)
			bytes += n
			errs[d.i] = e
		} else {
			errs[d.i] = failed("free", err)
		}
		d.end()
		d.f.content.Unlock()
		t.files.unpin(d.f)
		t.forgetAttr(d.f.ino)
	}
	if k := t.kernel.Load(); k != nil {
		t.ended.Go(func() { // the kernel waits for those who read it since, and they for room, which who asks for this makes
			for _, d := range done {
				(*k).ForgetContent(d.f.ino, 0, 0)
			}
		})
	}
	return bytes, errs
}

var errNotFreed = &sharefs.Error{Op: "free", Kind: sharefs.KindBusy, Detail: "the file is in use, or was changed so lately that it has no version in packs yet"}

// freeable returns the version that a file at rest holds, and would be fetched again.
func (t *Tree) freeable(ino sharefs.Ino) (r *row, v *version, err error) {
	if r, err = t.row(ino); err != nil {
		return nil, nil, err
	}
	if r.isRegular() && t.hot(ino) {
		return nil, nil, errNotFreed
	}
	if !r.isRegular() || r.nlink == 0 || r.size == 0 {
		return nil, nil, &sharefs.Error{Op: "free", Kind: sharefs.KindInvalid, Detail: "it is no file that has content"}
	}
	v, err = newestVersion(t.db, ino, noLimit)
	switch {
	case err != nil:
		return nil, nil, err
	case v == nil || v.place != placeKept || v.timed || v.damaged || v.size != r.size || t.hot(ino):
		return nil, nil, errNotFreed
	}
	return r, v, nil
}

// promisedFree asks for the promise that a file's content stays elsewhere, without any lock, and returns the version for which that is.
func (t *Tree) promisedFree(ino sharefs.Ino, promised func(sharefs.Ino, *Content) error) (*version, error) {
	_, v, err := t.freeable(ino)
	if err != nil || v.away {
		return v, err
	}
	c, err := t.contentOf(v)
	if err != nil {
		return nil, err
	}
	return v, promised(ino, c)
}

// letGo has the row and the version of a file say that the content is elsewhere, if it is still the version that was asked for: nobody has promised to keep another one, nor one
// that was away then and is kept here since (KeepAgain). f.content is held.
func (t *Tree) letGo(f *file, asked *version) (*version, func(), error) {
	r, v, err := t.freeable(f.ino)
	if err != nil {
		return nil, nil, err
	}
	another := func() bool { return v.own != asked.own || asked.away && !v.away }
	if another() {
		return nil, nil, errNotFreed
	}
	end, err := t.hush(f, false)
	if err != nil {
		return nil, nil, errNotFreed
	}
	if !r.isAbsent() {
		if err := t.standsFor(f.ino, v); err != nil {
			end()
			return nil, nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, v, err = t.freeable(f.ino); err == nil && another() {
		err = errNotFreed
	}
	if err == nil && !(r.isAbsent() && v.away) {
		x := t.begin()
		if r, err = x.edit(f.ino); err == nil {
			r.flags |= rowAbsent
			r.blocks = 0
			v.away = true
			v.put(&x.b)
			x.unmark(f)
			err = x.commit()
		}
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return v, end, nil
}

// standsFor makes sure that a file at rest holds what its newest version says, by the stamp, or else by looking at all of it.
func (t *Tree) standsFor(ino sharefs.Ino, v *version) error {
	st, err := t.live.stat(ino)
	if err != nil {
		return failed("read a backing file", err)
	}
	if stampOf(&st) == v.stamp() {
		return nil
	}
	p := newPartial(nil, t, v)
	p.ino = ino
	whole, err := p.allHere()
	if err == nil && !whole {
		err = errNotFreed
	}
	return err
}

// hollowOut takes the content out of the backing file of an absent file, unless somebody has it open since, and returns what that gave back.
func (t *Tree) hollowOut(f *file, v *version) (uint64, error) {
	st, err := t.live.stat(f.ino)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, failed("free", err)
	}
	atime, mtime, _ := timesOf(&st)
	s := &Staged{t: t, size: int64(v.size), lease: t.past.leases.take()}
	defer s.Drop()
	if err := s.stageAbsent(0, mtime); err != nil {
		return 0, err
	}
	if err := t.live.setTimes(s.ino, atime, mtime); err != nil {
		return 0, failed("set times", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.handles+f.entering > 0 || f.rd.users > 0 || f.wr.users > 0 || f.part.Load() != nil {
		return 0, errNotFreed
	}
	t.files.shut(&f.rd)
	t.files.shut(&f.wr)
	if _, err := ignoringEINTR(func() (int, error) {
		return 0, unix.Renameat(t.live.fd, t.live.name(s.ino), t.live.fd, t.live.name(f.ino))
	}); err != nil {
		return 0, failed("free", err)
	}
	s.passed()
	return uint64(st.Blocks) * 512, nil
}

// contentOf returns the content of a kept version.
func (t *Tree) contentOf(v *version) (*Content, error) {
	c := &Content{Size: v.size, Mtime: v.mtime, Level: v.top.level}
	for _, s := range v.top.spans {
		c.Spans = append(c.Spans, Span{uint64(s.len), s.hole, s.id})
	}
	var err error
	c.Key, err = t.keyOf(v)
	return c, err
}

// absentAttr puts what is here of an absent file into its attributes.
func (t *Tree) absentAttr(r *row, a *sharefs.Attr) {
	if st, err := t.live.stat(r.ino); err == nil {
		a.Blocks = uint64(st.Blocks)
	} else {
		a.Blocks = 0
	}
}
