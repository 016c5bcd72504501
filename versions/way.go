package versions

import (
	"sharefs"
)

// XattrTrack is the extended attribute by which a file is served by the daemon on a mount that passes others through, so that it is known where it changes
// (dirty.go). Its value is TrackRanges. What is made in a directory that has it gets it too.
const XattrTrack = "user.sharefs.track"

// TrackRanges is the only value of XattrTrack.
const TrackRanges = "ranges"

// globalTrack is a row of the space global: there is or was a file with XattrTrack.
var globalTrack = []byte("track")

// CheckTrack returns what is wrong with a value of XattrTrack, an error of KindInvalid.
func CheckTrack(value []byte) error {
	if string(value) == TrackRanges {
		return nil
	}
	return &sharefs.Error{Op: "set " + XattrTrack, Kind: sharefs.KindInvalid, Detail: "the value is \"" + TrackRanges + "\"; remove the attribute to have the file passed through"}
}

// way is how the kernel reads and writes a live file. It demands that all who have a file open do so in one way, and under passthrough a mapping goes on writing after
// all have closed it: the way of a file changes only while nobody has it open and it is at rest.
type way uint8

const (
	wayUnknown way = iota
	wayServed      // through the daemon
	wayThrough     // passed through to the backing file
)

// loadTrack finds out whether there may be files with XattrTrack.
func (t *Tree) loadTrack() error {
	_, ok, err := t.db.Get(spaceGlobal, globalTrack)
	t.tracks.Store(ok)
	return failed("open the store", err)
}

// noteTrack has the tree look for XattrTrack from now on. Tree.mu is held.
func (x *tx) noteTrack() {
	if x.t.tracks.Load() {
		return
	}
	x.b.Put(spaceGlobal, globalTrack, []byte{1})
	x.after(func(uint64) { x.t.tracks.Store(true) })
}

// inheritTrack gives a new inode the attribute if its directory has it.
func (x *tx) inheritTrack(dir, r *row) error {
	if !x.t.tracks.Load() || dir.xattrs == 0 || !r.isRegular() && !r.isDir() {
		return nil
	}
	value, err := getXattr(x.t.db, dir, XattrTrack)
	if sharefs.KindOf(err) == sharefs.KindNoAttr {
		return nil
	}
	if err == nil {
		x.putXattr(r, XattrTrack, value, false, true)
	}
	return err
}

// tracked reports whether an inode has XattrTrack.
func (t *Tree) tracked(r *row) bool {
	if !t.tracks.Load() || r.xattrs == 0 {
		return false
	}
	_, err := getXattr(t.db, r, XattrTrack)
	return err == nil
}

// enter decides the way of a handle that is about to be opened, which is that of all others; leave is called when it is among them, or was not opened after all.
// Fresh tells of an inode that is being made.
func (t *Tree) enter(h *Handle, r *row, fresh bool) (leave func()) {
	f := h.f
	served := t.tracked(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	h.joined = f.handles+f.entering > 0
	absent := f.hush || !fresh && !h.joined && t.absentNow(f.ino) // it becomes absent only while hush is set
	if !h.joined && (f.way == wayUnknown || !f.hot || fresh) {
		f.way = wayThrough
		if absent || served && (fresh || !f.hot) { // what a start finds may be mapped by somebody whom it was passed through to
			f.way = wayServed
		}
		if f.way == wayThrough && !t.served.Load() {
			f.changes.Store(nil) // whoever has begun to follow them, to cut the file, does not see what comes
		}
	}
	f.entering++
	h.way = f.way
	return func() {
		f.mu.Lock()
		f.entering--
		f.mu.Unlock()
	}
}

// Served reports whether the file is to be served on a mount that passes files through.
func (h *Handle) Served() bool { return h.way == wayServed }

// Joined reports whether others had the file open already when the handle was opened, in the same way.
func (h *Handle) Joined() bool { return h.joined }

// isServed reports whether all changes of a file come through handles. f.mu is held.
func (t *Tree) isServed(f *file) bool { return t.served.Load() || f.way == wayServed }
