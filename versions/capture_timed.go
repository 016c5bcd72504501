package versions

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/writers"
)

// timedJob is a file of which a timed version is wanted: somebody has had it open or mapped for long, and it changed.
type timedJob struct{ ino sharefs.Ino }

// maxTimedJobs bounds the list; the tracker of writers tells of a file again.
const maxTimedJobs = 4096

// stillHeld is the hook for files that do not come to rest. A timed version is taken when the last one is Config.Timed old; without
// versions the birth of the file counts.
func (h *history) stillHeld(ev writers.Event) {
	if !ev.Changed || h.t.cfg.Timed <= 0 {
		return
	}
	r, err := h.t.row(ev.ID)
	if err != nil || r.nlink == 0 {
		return
	}
	last := timeOf(r.btime)
	if v, err := newestVersion(h.t.db, ev.ID, noLimit); err == nil && v != nil {
		last = v.at.Time()
	}
	if ev.At.Sub(last) < h.t.cfg.Timed {
		return
	}
	h.mu.Lock()
	known := len(h.timed) >= maxTimedJobs
	for _, job := range h.timed {
		known = known || job.ino == ev.ID
	}
	if !known {
		h.timed = append(h.timed, timedJob{ev.ID})
	}
	h.mu.Unlock()
	h.roused(time.Now())
}

// captureTimed takes the timed versions that are wanted, though not for so long that all others would wait for it: a database may be hard to hold. It returns how
// many files it dealt with. h.capturing is held.
func (h *history) captureTimed() (n int, err error) {
	for began := time.Now(); h.t.cfg.byHand || time.Since(began) < batchTime; n++ {
		h.mu.Lock()
		if len(h.timed) == 0 || len(h.quick) > 0 {
			h.mu.Unlock()
			return n, nil
		}
		job := h.timed[0]
		h.timed = h.timed[1:]
		h.mu.Unlock()
		if h.isJournal(job.ino) {
			continue // what it is needed for is undone when it is over
		}
		_, _, err := h.takeTimed(job.ino, h.tools, "")
		if k := sharefs.KindOf(err); err != nil && k != sharefs.KindStale && k != sharefs.KindNotExist { // else it was removed
			return n, err
		}
	}
	return n, nil
}

// steadyTries is how often a file that changes while it is read is read again, before what was read is taken as it is.
const steadyTries = 3

// takeTimed captures what a file holds while somebody may write to it. It reports false where that is what its newest version holds.
// Where the disk can share blocks the content is that of one moment; otherwise parts of it may be older than others, if it is written
// to without a pause, and the version is torn. An SQLite database is taken with its log, as they belong together (sqlite.go). No lock is held.
func (h *history) takeTimed(ino sharefs.Ino, with *tools, note string) (v *version, fresh bool, err error) {
	b := h.newBatch(with)
	defer b.lease.end()
	var all []heldContent
	if d := h.databaseOf(ino); d != nil {
		all, err = h.readDatabase(b, d, ino)
	} else {
		var one heldContent
		one, err = h.readSteady(b, ino)
		all = append(all, one)
	}
	if err != nil {
		return nil, false, err
	}
	return h.keepTimed(b, all, note)
}

// keepTimed makes versions of what a batch has captured, and returns the first one.
func (h *history) keepTimed(b *batch, all []heldContent, note string) (v *version, fresh bool, err error) {
	if err := b.flush(); err != nil {
		return nil, false, err
	}
	h.mu.Lock() // a database and its log need not be taken twice
	h.timed = slices.DeleteFunc(h.timed, func(job timedJob) bool {
		return slices.ContainsFunc(all, func(c heldContent) bool { return c.ino == job.ino })
	})
	h.mu.Unlock()
	v, fresh, wrote, err := h.commitTimed(all, note)
	if err == nil && wrote {
		h.counts.timed.Add(1)
		err = failed("sync the journal", h.t.db.Sync())
	}
	return v, fresh, err
}

// heldContent is the content of a file that somebody may write to, captured.
type heldContent struct {
	ino    sharefs.Ino
	top    manifest
	stamp  writers.Stamp
	torn   bool
	newest *version // when the file was opened; nil: none
	key    uint64   // as in the version
}

// readSteady captures the content of a file, again and again until it stands still meanwhile, though not for ever.
func (h *history) readSteady(b *batch, ino sharefs.Ino) (all heldContent, err error) {
	for try := range steadyTries {
		if all, err = h.readHeld(b, ino); err == nil && !all.torn {
			break
		}
		if err != nil && (sharefs.KindOf(err) != sharefs.KindAgain || try == steadyTries-1) {
			return all, err
		}
	}
	return all, nil
}

// readHeld captures the content of a file that somebody may write to; it is torn unless it stood still.
func (h *history) readHeld(b *batch, ino sharefs.Ino) (heldContent, error) {
	g, err := h.grab(ino)
	if err != nil {
		return heldContent{}, err
	}
	defer g.close()
	recent := false
	if g.clone == nil {
		if recent, err = g.rested(); err != nil {
			return heldContent{}, err
		}
	}
	c, err := g.read(b, func(int64) error { return nil })
	c.torn = c.torn || recent
	return c, err
}

// stampTick is longer than the clock of the disk's stamps takes from one reading to the next (10 ms at the most): two changes may have the same stamp.
const stampTick = 20 * time.Millisecond

// rested waits until another change of the file would have another stamp, and reports whether it goes on being changed.
func (g *grabbed) rested() (recent bool, err error) {
	for range 2 {
		since := time.Since(time.Unix(g.before.Ctim.Unix()))
		if since >= stampTick {
			return false, nil
		}
		if recent {
			break
		}
		recent = true
		time.Sleep(min(stampTick-since, stampTick))
		if err := unix.Fstat(int(g.live.Fd()), &g.before); err != nil {
			return false, failed("read a backing file", err)
		}
	}
	return recent, nil
}

// grabbed is the backing file of one that somebody may write to, opened, or a clone of it.
type grabbed struct {
	h      *history
	ino    sharefs.Ino
	live   *os.File
	clone  *os.File // nil where the disk does not share blocks
	name   string   // of the clone
	before unix.Stat_t
	newest *version // nil: none
}

// grab opens the backing file and, where the disk can share blocks, makes it a clone: what is read then is that of this moment.
func (h *history) grab(ino sharefs.Ino) (*grabbed, error) {
	fd, err := h.t.live.openProbe(ino)
	if err != nil {
		return nil, failed("open a backing file", err)
	}
	g := &grabbed{h: h, ino: ino, live: os.NewFile(uintptr(fd), "live content")}
	if g.newest, err = newestVersion(h.t.db, ino, noLimit); err != nil {
		g.close()
		return nil, err
	}
	if err := unix.Fstat(fd, &g.before); err != nil {
		g.close()
		return nil, failed("read a backing file", err)
	}
	name := asideName(ino, h.heldCount.Add(1)) + asideHeld
	if clone, err := h.aside.clone(name, fd); err == nil {
		g.clone, g.name = clone, name
	}
	return g, nil
}

func (g *grabbed) close() {
	g.live.Close()
	if g.clone != nil {
		g.clone.Close()
		g.h.aside.remove(g.name)
	}
}

// read captures the content; going is called now and then and may end it.
func (g *grabbed) read(b *batch, going func(int64) error) (heldContent, error) {
	src := g.live
	if g.clone != nil {
		src = g.clone
	}
	var st, after unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return heldContent{}, failed("read a backing file", err)
	}
	top, err := b.cut(src, st.Size, going)
	if err != nil {
		return heldContent{}, err
	}
	if err := unix.Fstat(int(g.live.Fd()), &after); err != nil {
		return heldContent{}, failed("read a backing file", err)
	}
	stamp := stampOf(&g.before)
	stamp.Size = st.Size
	return heldContent{g.ino, top, stamp, g.clone == nil && stampOf(&g.before) != stampOf(&after), g.newest, b.tools.key.place}, nil
}

// commitTimed writes the rows of timed versions that are captured, which all get the same time, and returns the first one. Fresh tells
// whether that is a new one, wrote whether any row was written.
func (h *history) commitTimed(all []heldContent, note string) (first *version, fresh, wrote bool, err error) {
	t := h.t
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	at := t.clock.Next()
	var made []*version
	for i, c := range all {
		v, isNew, err := h.timedVersion(&c)
		if err != nil {
			if i > 0 && sharefs.KindOf(err) == sharefs.KindStale {
				continue // a log that is gone
			}
			return nil, false, false, err
		}
		if i == 0 {
			first, fresh = v, isNew
			if isNew {
				v.note = note
			}
		}
		switch {
		case isNew:
			at = max(at, v.at)
			made = append(made, v)
		case v.torn && !c.torn && v.timed:
			v.torn = false // what it holds stood still after all
			v.put(&x.b)
			wrote = true
		}
	}
	for _, v := range made {
		v.at = at
		v.put(&x.b)
	}
	if len(made) > 0 {
		x.pass(at)
		wrote = true
	}
	if wrote {
		err = x.commit()
	}
	return first, fresh, wrote, err
}

// timedVersion makes the version of a content, whose time is the earliest that it may have, or returns the newest one where it needs none. Tree.mu is held.
func (h *history) timedVersion(c *heldContent) (v *version, fresh bool, err error) {
	t := h.t
	r, err := t.row(c.ino)
	if err != nil {
		return nil, false, err
	}
	last, err := newestVersion(t.db, c.ino, noLimit)
	if err != nil {
		return nil, false, err
	}
	if h.standing(c.ino) != nil { // it came to rest since, and what was read may be parts of two versions
		if last == nil {
			err = stale(c.ino)
		}
		return last, false, err
	}
	v = &version{
		ino: c.ino, own: 1, place: placeKept, timed: true, torn: c.torn, file: r.id, mode: r.mode, uid: r.uid, gid: r.gid, author: h.self, top: c.top, key: c.key,
	}
	v.setStamp(c.stamp)
	if last != nil {
		switch {
		case last.place == placeLive:
			return last, false, nil // it has come to rest since
		case last.place == placeKept && last.same(v):
			return last, false, nil
		case (c.newest == nil || c.newest.own != last.own || c.newest.stamp() != last.stamp() || c.newest.timed && !last.timed) && last.ctime >= v.ctime:
			return last, false, nil // it was made meanwhile, of the same state or of a later one, or the file went back to it
		}
		v.own = last.own + 1
		v.at = last.at + 1
	}
	return v, true, nil
}
