package versions

import (
	"os"
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

// captureTimed takes the timed versions that are wanted. h.capturing is held.
func (h *history) captureTimed() (n int, err error) {
	for {
		h.mu.Lock()
		if len(h.timed) == 0 {
			h.mu.Unlock()
			return n, nil
		}
		job := h.timed[0]
		h.timed = h.timed[1:]
		h.mu.Unlock()
		if _, _, err := h.takeTimed(job.ino, h.tools, ""); err != nil {
			if sharefs.KindOf(err) == sharefs.KindStale {
				continue
			}
			return n, err
		}
		n++
	}
}

// steadyTries is how often a file that changes while it is read is read again, before what was read is taken as it is.
const steadyTries = 3

// takeTimed captures what a file holds while somebody may write to it. It reports false where that is what its newest version holds.
// Where the disk can share blocks the content is that of one moment; otherwise parts of it may be older than others, if it is written
// to without a pause. No lock is held.
func (h *history) takeTimed(ino sharefs.Ino, with *tools, note string) (v *version, fresh bool, err error) {
	t := h.t
	b := h.newBatch(with)
	defer b.lease.end()
	var top manifest
	var stamp writers.Stamp
	for try := range steadyTries {
		var steady bool
		if top, stamp, steady, err = h.readHeld(b, ino); err == nil && steady {
			break
		}
		if err != nil && (sharefs.KindOf(err) != sharefs.KindAgain || try == steadyTries-1) {
			return nil, false, err
		}
	}
	if err := b.flush(); err != nil {
		return nil, false, err
	}
	v, fresh, err = h.commitTimed(ino, top, stamp, note)
	if err == nil && fresh {
		h.counts.timed.Add(1)
		err = failed("sync the journal", t.db.Sync())
	}
	return v, fresh, err
}

// readHeld captures the content of a file that somebody may write to, and reports whether it stood still.
func (h *history) readHeld(b *batch, ino sharefs.Ino) (top manifest, stamp writers.Stamp, steady bool, err error) {
	fd, err := h.t.live.openProbe(ino)
	if err != nil {
		return top, stamp, false, failed("open a backing file", err)
	}
	f := os.NewFile(uintptr(fd), "live content")
	defer f.Close()
	var before, after unix.Stat_t
	if err := unix.Fstat(fd, &before); err != nil {
		return top, stamp, false, failed("read a backing file", err)
	}
	src := f
	name := asideName(ino, h.heldCount.Add(1)) + asideHeld
	if dst, err := h.aside.create(name); err == nil {
		clone := os.NewFile(uintptr(dst), "clone")
		defer clone.Close()
		defer h.aside.remove(name)
		if unix.IoctlFileClone(dst, fd) == nil {
			src = clone
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return top, stamp, false, failed("read a backing file", err)
	}
	top, err = b.cut(src, st.Size, func(int64) error { return nil })
	if err != nil {
		return top, stamp, false, err
	}
	if err := unix.Fstat(fd, &after); err != nil {
		return top, stamp, false, failed("read a backing file", err)
	}
	stamp = stampOf(&before)
	stamp.Size = st.Size
	return top, stamp, src != f || stampOf(&before) == stampOf(&after), nil
}

// commitTimed writes the row of a timed version that is captured.
func (h *history) commitTimed(ino sharefs.Ino, top manifest, stamp writers.Stamp, note string) (*version, bool, error) {
	t := h.t
	t.mu.Lock()
	defer t.mu.Unlock()
	r, err := t.row(ino)
	if err != nil {
		return nil, false, err
	}
	last, err := newestVersion(t.db, ino, noLimit)
	if err != nil {
		return nil, false, err
	}
	v := &version{
		ino: ino, own: 1, place: placeKept, timed: true, at: t.clock.Next(), file: r.id, mode: r.mode, uid: r.uid, gid: r.gid, author: h.self, note: note, top: top,
	}
	v.setStamp(stamp)
	if last != nil {
		switch {
		case last.place == placeLive:
			return last, false, nil // it has come to rest since
		case last.place == placeKept && last.same(v):
			return last, false, nil
		}
		v.own = last.own + 1
		v.at = max(v.at, last.at+1)
	}
	x := t.begin()
	v.put(&x.b)
	x.pass(v.at)
	return v, true, x.commit()
}
