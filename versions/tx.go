package versions

import (
	"encoding/binary"
	"time"

	"sharefs"
	"sharefs/versions/kv"
)

// tx is one change of the tree: copies of the rows that it changes, the slots of the names, and whatever else goes into the same
// commit. Tree.mu is held from begin to the end; a change that is given up is simply not committed.
type tx struct {
	t      *Tree
	b      kv.Batch
	now    sharefs.Time
	rows   []*row       // changed or new
	slots  []slotChange // in the order in which they were first changed
	dead   []sharefs.Ino
	heirs  []heir             // whose past continues another's from now on
	done   []func(seq uint64) // after the commit, with Tree.mu held
	pinned []sharefs.Ino      // files that come under a pin by it
	told   bool               // it marked something in the feed
	aside  bool               // it is the capture's, and no sign of somebody at work

	key, value []byte // room for those of a row at a time
}

// slotChange is a slot of a directory and what it is to hold: a dent without a name that is chained is a grave, one that is not
// chained makes the slot vacant.
type slotChange struct {
	id   dentID
	dent dent
}

// begin starts a change; t.mu is held.
func (t *Tree) begin() *tx {
	x := &t.tx
	x.b.Reset()
	clear(x.rows)
	clear(x.done)
	x.rows, x.slots, x.dead, x.heirs, x.done = x.rows[:0], x.slots[:0], x.dead[:0], x.heirs[:0], x.done[:0]
	x.pinned = x.pinned[:0]
	x.aside, x.told = false, false
	x.now = sharefs.Time(time.Now().UnixNano())
	return x
}

// row returns an inode as it will be after the change, to be read only.
func (x *tx) row(ino sharefs.Ino) (*row, error) {
	for _, r := range x.rows {
		if r.ino == ino {
			return r, nil
		}
	}
	return x.t.row(ino)
}

// edit returns an inode to be changed.
func (x *tx) edit(ino sharefs.Ino) (*row, error) {
	for _, r := range x.rows {
		if r.ino == ino {
			return r, nil
		}
	}
	r, err := x.t.row(ino)
	if err != nil {
		return nil, err
	}
	c := *r
	if at, ok := x.t.atimes.get(ino); ok {
		c.atime = max(c.atime, at)
	}
	x.rows = append(x.rows, &c)
	return &c, nil
}

// editDir returns a directory into or out of which a name moves, with its times set to now.
func (x *tx) editDir(ino sharefs.Ino) (*row, error) {
	r, err := x.edit(ino)
	switch {
	case err != nil:
		return nil, err
	case !r.isDir():
		return nil, sharefs.KindNotDir
	case r.nlink == 0:
		return nil, sharefs.KindNotExist
	}
	r.mtime, r.ctime = x.now, x.now
	return r, nil
}

// bind puts a name into the place that was found for it, free or taken; the directory's counts are the caller's.
func (x *tx) bind(parent sharefs.Ino, p place, name string, r *row) {
	for _, d := range p.passed {
		d.chained = true
		x.setSlot(dentID{parent, d.cookie}, d)
	}
	x.setSlot(dentID{parent, p.cookie}, dent{name: name, ino: r.ino, cookie: p.cookie, typ: uint8(r.mode >> 12), chained: p.chained})
}

// unbind takes a name away; the directory's counts are the caller's.
func (x *tx) unbind(parent sharefs.Ino, p place) {
	id := dentID{parent, p.cookie}
	d := p.dent
	for i := range x.slots {
		if x.slots[i].id == id {
			d = x.slots[i].dent
		}
	}
	x.setSlot(id, dent{cookie: d.cookie, chained: d.chained})
}

func (x *tx) setSlot(id dentID, d dent) {
	for i := range x.slots {
		if x.slots[i].id == id {
			x.slots[i].dent = d
			return
		}
	}
	x.slots = append(x.slots, slotChange{id, d})
}

// kill removes the row of an inode for good.
func (x *tx) kill(ino sharefs.Ino) { x.dead = append(x.dead, ino) }

// after has fn run once the change is committed, with Tree.mu held and the number of the commit.
func (x *tx) after(fn func(seq uint64)) { x.done = append(x.done, fn) }

// commit makes the change, all of it or nothing.
func (x *tx) commit() error {
	t := x.t
	if err := x.notePins(); err != nil {
		return err
	}
	for _, r := range x.rows {
		x.key = binary.BigEndian.AppendUint64(x.key[:0], uint64(r.ino))
		x.value = r.appendTo(x.value[:0])
		x.b.Put(spaceInode, x.key, x.value)
		x.tell(r.ino, 0)
	}
	for i := range x.slots {
		s := &x.slots[i]
		x.key = binary.BigEndian.AppendUint64(x.key[:0], uint64(s.id.parent))
		x.key = binary.BigEndian.AppendUint64(x.key, s.id.cookie)
		if s.dent.ino == 0 && !s.dent.chained {
			x.b.Delete(spaceDentry, x.key)
		} else {
			x.value = s.dent.appendTo(x.value[:0])
			x.b.Put(spaceDentry, x.key, x.value)
		}
		x.tell(s.id.parent, s.id.cookie)
	}
	for _, ino := range x.dead {
		x.b.Delete(spaceInode, inoKey(ino))
		x.tell(ino, 0)
	}
	seq, err := t.db.Commit(&x.b)
	if err != nil {
		return failed("write to the store", err)
	}
	t.lastSeq.Store(seq)
	if !x.aside {
		t.changes.Add(1)
	}
	for _, r := range x.rows {
		r.seq = seq
		t.rows.put(r.ino, r)
		t.absents.note(r)
	}
	for i := range x.slots {
		s := &x.slots[i]
		switch {
		case s.dent.chained, s.dent.ino != 0 && t.cookieOf(s.dent.name) != s.id.cookie:
			t.dents.drop(s.id)
		default:
			t.dents.put(s.id, s.dent)
		}
	}
	for _, ino := range x.dead {
		t.rows.drop(ino)
	}
	for _, fn := range x.done {
		fn(seq)
	}
	t.instant.changed()
	if x.told {
		t.feed.rouse()
	}
	return nil
}

// row returns an inode of the live tree: the row that readers see, never to be changed. It errors with KindStale if there is none.
func (t *Tree) row(ino sharefs.Ino) (*row, error) {
	r, ok, gen := t.rows.get(ino)
	if ok {
		return r, nil
	}
	r, err := loadRow(t.db, ino)
	if err != nil {
		return nil, err
	}
	r.seq = t.lastSeq.Load()
	t.rows.fill(ino, r, gen)
	return r, nil
}

// loadRow reads an inode out of a view of the store. It errors with KindStale if there is none.
func loadRow(v kv.View, ino sharefs.Ino) (*row, error) {
	b, ok, err := v.Get(spaceInode, inoKey(ino))
	switch {
	case err != nil:
		return nil, failed("read an inode", err)
	case !ok:
		return nil, stale(ino)
	}
	return decodeRow(ino, b)
}
