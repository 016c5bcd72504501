package versions

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"sharefs"
)

// The feed tells what changed to somebody who keeps another account of the tree, as replication does: a set of the inodes and names that were changed
// since they were last dealt with. It is a set and no log: it never grows beyond the tree, however long nobody looks, and whoever follows it
// compares what is there now with what his account says. A mark is in the same commit as the change, so that a crash loses none; one that
// is dealt with twice does no harm.
//
// On disk (space feed, no value but a counter of 8 bytes, big endian, that tells two marks of the same thing apart): key 1 byte kind, then an inode, or
// a directory and a cookie, 8 bytes each, big endian. Marks are made only while the row "feed" of the space global is there.
type feed struct {
	on   atomic.Bool // changes with Tree.mu held
	n    uint64      // the last counter given; guarded by Tree.mu
	wake chan struct{}
}

// Kinds of keys in the feed. The numbers are on disk.
const (
	feedInode byte = 1
	feedName  byte = 2
)

var globalFeed = []byte("feed") // no value: what changes is marked

// Change names an inode whose attributes, extended attributes, target or newest version changed, or a slot of a directory in which a name came, went or
// passed to another inode.
type Change struct {
	Ino    sharefs.Ino // the inode, or the directory of the name
	Cookie uint64      // of the name; 0: the inode is meant
	Count  uint64      // tells two marks of the same thing apart; what Dealt goes by
}

// key returns the key of a change in the feed.
func (c *Change) key() []byte {
	b := make([]byte, 0, 17)
	if c.Cookie == 0 {
		return binary.BigEndian.AppendUint64(append(b, feedInode), uint64(c.Ino))
	}
	b = binary.BigEndian.AppendUint64(append(b, feedName), uint64(c.Ino))
	return binary.BigEndian.AppendUint64(b, c.Cookie)
}

// decodeChange is the inverse of key. It errors with KindCorrupt.
func decodeChange(key, value []byte) (c Change, err error) {
	d := decoder{b: key}
	kind := d.byte()
	c.Ino = sharefs.Ino(d.uint64())
	if kind == feedName {
		c.Cookie = d.uint64()
	}
	if d.bad || len(d.b) > 0 || len(value) != 8 || kind != feedInode && kind != feedName || (kind == feedName) != (c.Cookie != 0) {
		return c, corrupt("mark of the feed", c.Ino)
	}
	c.Count = binary.BigEndian.Uint64(value)
	return c, nil
}

// loadFeed finds out whether somebody follows.
func (t *Tree) loadFeed() error {
	t.feed.wake = make(chan struct{}, 1)
	t.feed.n = uint64(time.Now().UnixNano()) // beyond what any process before gave, unless the clock went back: then a mark is dealt with twice at the most
	_, on, err := t.db.Get(spaceGlobal, globalFeed)
	t.feed.on.Store(on)
	if on {
		t.feed.rouse()
	}
	return failed("open the store", err)
}

// Followed reports whether what changes is marked.
func (t *Tree) Followed() bool { return t.feed.on.Load() }

// Follow begins to mark what changes, or ends it and forgets all marks. What is there when it begins counts as unchanged: Everything lists it.
func (t *Tree) Follow(on bool) error {
	if err := t.writable("follow the changes"); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if on == t.feed.on.Load() {
		return nil
	}
	x := t.begin()
	x.aside = true
	if on {
		x.b.Put(spaceGlobal, globalFeed, nil)
	} else {
		x.b.Delete(spaceGlobal, globalFeed)
	}
	if err := x.commit(); err != nil {
		return err
	}
	if t.feed.on.Store(on); on {
		return nil
	}
	for {
		list, err := t.Changes(Change{}, feedPiece)
		if err != nil || len(list) == 0 {
			return err
		}
		if err := t.forget(list); err != nil {
			return err
		}
	}
}

// feedPiece is how many marks are removed in one commit: others wait for Tree.mu meanwhile.
const feedPiece = 256

// Changed receives when there are marks that there were not before; several may come as one.
func (t *Tree) Changed() <-chan struct{} { return t.feed.wake }

// Changes lists up to max changes in the order of their keys, inodes first, from the first one behind after.
func (t *Tree) Changes(after Change, max int) (list []Change, err error) {
	var from []byte
	if after != (Change{}) {
		from = append(after.key(), 0)
	}
	var bad error
	err = t.db.Scan(spaceFeed, from, nil, func(key, value []byte) bool {
		c, err := decodeChange(key, value)
		if err != nil {
			bad = err
			return false
		}
		list = append(list, c)
		return len(list) < max
	})
	if err == nil {
		err = bad
	}
	return list, failed("read the changes", err)
}

// Dealt removes changes from the feed but those that came again since they were listed.
func (t *Tree) Dealt(list []Change) error {
	for len(list) > 0 {
		n := min(feedPiece, len(list))
		t.mu.Lock()
		err := t.forget(list[:n])
		t.mu.Unlock()
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// forget is Dealt for one commit; t.mu is held.
func (t *Tree) forget(list []Change) error {
	x := t.begin()
	x.aside = true
	for i := range list {
		key := list[i].key()
		value, ok, err := t.db.Get(spaceFeed, key)
		if err != nil {
			return failed("read the changes", err)
		}
		if ok && len(value) == 8 && binary.BigEndian.Uint64(value) == list[i].Count {
			x.b.Delete(spaceFeed, key)
		}
	}
	if x.b.Len() == 0 {
		return nil
	}
	return x.commit()
}

// Mark marks things as changed, whether they are or not: who follows wants to be told of them again.
func (t *Tree) Mark(list []Change) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.aside = true
	for _, c := range list {
		x.tell(c.Ino, c.Cookie)
	}
	if x.b.Len() == 0 {
		return nil
	}
	return x.commit()
}

// Everything lists up to max inodes and names that there are, changed or not, as Changes lists those that changed: with it begins who follows anew.
func (t *Tree) Everything(after Change, max int) (list []Change, err error) {
	add := func(space uint8, from []byte, cookie func(key, value []byte) (uint64, bool)) error {
		return t.db.Scan(space, from, nil, func(key, value []byte) bool {
			if c, ok := cookie(key, value); ok {
				list = append(list, Change{Ino: keyIno(key), Cookie: c})
			}
			return len(list) < max
		})
	}
	if after.Cookie == 0 {
		if err := add(spaceInode, inoKey(after.Ino+1), func(_, _ []byte) (uint64, bool) { return 0, true }); err != nil {
			return nil, failed("list the tree", err)
		}
		after.Ino = 0
	}
	if len(list) < max {
		from := append(dentryKey(after.Ino, after.Cookie), 0)
		err = add(spaceDentry, from, func(key, value []byte) (uint64, bool) {
			d, err := decodeDent(key, value)
			return d.cookie, err == nil && d.ino != 0
		})
	}
	return list, failed("list the tree", err)
}

// tell marks an inode (cookie 0) or a name as changed by the change at work.
func (x *tx) tell(ino sharefs.Ino, cookie uint64) {
	f := &x.t.feed
	if !f.on.Load() {
		return
	}
	f.n++
	c := Change{Ino: ino, Cookie: cookie}
	x.b.Put(spaceFeed, c.key(), binary.BigEndian.AppendUint64(nil, f.n))
	x.told = true
}

// rouse tells who follows that there is something.
func (f *feed) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}
