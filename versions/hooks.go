package versions

import (
	"sharefs"
	"sharefs/versions/writers"
)

// hooks are where the past takes part in what happens to the live tree. Each is set before the tree is opened for use, or left to do
// nothing. They stand in the order in which they are met with in the life of a file.
type hooks struct {
	// named is called for each change by which an inode comes to bear a name: made under it, linked, renamed onto it, exchanged. Tree.mu is
	// held; rows of plain spaces may be added to the change. Old is the inode whose name it was until this change, which may live on
	// under other names or in open handles; nil where the name was vacant. An error gives the change up.
	named func(x *tx, parent sharefs.Ino, slot uint64, name string, r, old *row) error
	// beforeChange is called before the content of a file at rest is changed: what counts as a version now has to be kept. It may return a
	// move, by which another backing file takes the place of the present one once the change is marked. file.content is held, and
	// nothing else. An error fails the operation.
	beforeChange func(f *file, c change) (*swap, error)
	// lost is called when the last name of a regular inode goes. Tree.mu is held; rows of plain spaces may be added to the change. The
	// backing file stays as long as keepOrphan says so. An error gives the change up.
	lost func(x *tx, r *row) error
	// keepOrphan reports whether the backing file of an inode without a name is still needed. Whoever let it return true calls
	// Tree.reapSoon when that is over. Tree.mu is held.
	keepOrphan func(ino sharefs.Ino) bool
	// reaped is called when an inode is removed for good. Tree.mu is held; rows may be added to the change.
	reaped func(x *tx, ino sharefs.Ino)
	// settled is called when nobody can write to a file any more that somebody could write to: what it holds counts as closed, and the event
	// tells whether it has changed. R is the row brought up to date by the same change, to which rows may be added. file.content and
	// Tree.mu are held. After an error it is called again later.
	settled func(x *tx, f *file, r *row, ev writers.Event) error
	// stillHeld is called for a file that has no handle left and yet somebody who may write, or that stays open for long and has changed. No
	// lock is held.
	stillHeld func(ev writers.Event)
	// marked is called at start for each file that may have changed while no daemon looked, before its attributes are asked for. It
	// returns the stamp that the content had when it was last dealt with, zero if that is not known; the settled call follows
	// when the file has come to rest.
	marked func(ino sharefs.Ino) writers.Stamp
}

// defaults fills in what is not set.
func (h *hooks) defaults() {
	if h.named == nil {
		h.named = func(*tx, sharefs.Ino, uint64, string, *row, *row) error { return nil }
	}
	if h.beforeChange == nil {
		h.beforeChange = func(*file, change) (*swap, error) { return nil, nil }
	}
	if h.lost == nil {
		h.lost = func(*tx, *row) error { return nil }
	}
	if h.keepOrphan == nil {
		h.keepOrphan = func(sharefs.Ino) bool { return false }
	}
	if h.reaped == nil {
		h.reaped = func(*tx, sharefs.Ino) {}
	}
	if h.settled == nil {
		h.settled = func(*tx, *file, *row, writers.Event) error { return nil }
	}
	if h.stillHeld == nil {
		h.stillHeld = func(writers.Event) {}
	}
	if h.marked == nil {
		h.marked = func(sharefs.Ino) writers.Stamp { return writers.Stamp{} }
	}
}
