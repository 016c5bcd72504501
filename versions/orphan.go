package versions

import (
	"sync"
	"time"

	"sharefs"
	"sharefs/versions/kv"
)

// An inode whose last name goes gets an orphan row in the same commit; its own row stays, without links, as long as the kernel or a
// handle knows it. Then the reaper takes it: first it makes sure that the loss of the name survives power loss (else a name might come
// back whose content is gone), then the backing file is removed, then the rows. A start reaps all orphans there are.
//
// On disk (space orphan, key: inode): 1 byte, bit 0: Link may give the inode a name, for it never had one (O_TMPFILE without O_EXCL).
const orphanLinkable = 1

// orphans are the inodes without a name.
type orphans struct {
	wake    chan struct{} // 1 deep: there is something to reap
	reaping sync.Mutex    // held by whoever reaps; comes before every other lock

	mu      sync.Mutex // guards all below; taken after Tree.mu
	waiting map[sharefs.Ino]orphan
	ready   []sharefs.Ino // of waiting: those that nobody may know any more
	blocks  uint64        // 512-byte units that the backing files of ready held when their names went
	hurry   bool          // room is wanted
}

// orphan is one inode without a name.
type orphan struct {
	seq      uint64 // the commit that took the name
	blocks   uint64 // 512-byte units of its backing file
	linkable bool
	backed   bool // it has a backing file
	queued   bool // it is in ready
}

// Reaping waits a moment so that many inodes share a sync, unless many have come together or room is wanted.
const (
	reapDelay = time.Second
	reapMany  = 1 << 16
	reapBatch = 32             // others wait for Tree.mu meanwhile
	bigOrphan = 32 << 20 / 512 // 512-byte units: room that is worth having at once
)

// orphan notes in a change that an inode has no name.
func (x *tx) orphan(r *row, linkable bool) {
	value := []byte{0}
	if linkable {
		value[0] = orphanLinkable
	}
	x.b.Put(spaceOrphan, inoKey(r.ino), value)
	o := orphan{blocks: r.blocks, linkable: linkable, backed: r.isRegular()}
	if f := x.t.files.find(r.ino); f != nil {
		if st, err := x.t.statFile(f); err == nil {
			o.blocks = uint64(st.Blocks)
		}
		x.t.files.unpin(f)
	}
	x.after(func(seq uint64) {
		o.seq = seq
		x.t.orphans.add(r.ino, o)
		x.t.considerReaping(r.ino)
	})
}

// name notes in a change that an inode without a name gets one.
func (x *tx) name(ino sharefs.Ino) {
	x.b.Delete(spaceOrphan, inoKey(ino))
	x.after(func(uint64) { x.t.orphans.remove(ino) })
}

func (o *orphans) add(ino sharefs.Ino, v orphan) {
	o.mu.Lock()
	o.waiting[ino] = v
	o.mu.Unlock()
}

func (o *orphans) remove(ino sharefs.Ino) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if v, ok := o.waiting[ino]; ok {
		delete(o.waiting, ino)
		if v.queued {
			o.blocks -= v.blocks
		}
	}
}

func (o *orphans) get(ino sharefs.Ino) (orphan, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v, ok := o.waiting[ino]
	return v, ok
}

// released tells that the last reference or handle of an inode has gone; that is nothing to an inode with a name.
func (o *orphans) released(ino sharefs.Ino) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v, ok := o.waiting[ino]
	if !ok || v.queued {
		return
	}
	v.queued = true
	o.waiting[ino] = v
	o.ready = append(o.ready, ino)
	o.blocks += v.blocks
	o.hurry = o.hurry || v.blocks >= bigOrphan
	if o.hurry || len(o.ready) == 1 || len(o.ready) == reapMany {
		o.rouse()
	}
}

func (o *orphans) rouse() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// considerReaping queues an orphan for which there are neither references nor handles.
func (t *Tree) considerReaping(ino sharefs.Ino) {
	if t.refs.held(ino) == 0 && !t.inUse(ino) {
		t.orphans.released(ino)
	}
}

// inUse reports whether a handle or an operation uses a file.
func (t *Tree) inUse(ino sharefs.Ino) bool {
	return t.files.says(ino, func(f *file) bool { return f.handles > 0 })
}

// reapSoon has an orphan looked at again that keepOrphan had kept.
func (t *Tree) reapSoon(ino sharefs.Ino) { t.considerReaping(ino) }

// reaper removes orphans that nobody knows any more, in the background.
func (t *Tree) reaper() {
	o := &t.orphans
	for {
		select {
		case <-t.stop:
			return
		case <-o.wake:
		}
		o.mu.Lock()
		few := len(o.ready) < reapMany && !o.hurry
		o.hurry = false
		o.mu.Unlock()
		if few && !t.pause(reapDelay, o.wake) {
			return
		}
		if err := t.reap(); err != nil {
			t.log.Warn("removed files could not be cleared away", "err", err)
			if !t.sleep(time.Second) {
				return
			}
			o.rouse()
		}
	}
}

// removing counts the files without a name that are about to go: nobody has them open, and nothing keeps them that the disk has no room for.
func (t *Tree) removing() (n int) {
	o := &t.orphans
	o.mu.Lock()
	inos := make([]sharefs.Ino, 0, len(o.waiting))
	for ino, v := range o.waiting {
		if v.backed {
			inos = append(inos, ino)
		}
	}
	o.mu.Unlock()
	full := t.reserve.refuse("capture versions") != nil
	for _, ino := range inos {
		if !t.inUse(ino) && !(full && t.hooks.keepOrphan(ino)) {
			n++
		}
	}
	return n
}

// pause waits, at most until something is sent on early; it reports false if the tree is being closed.
func (t *Tree) pause(d time.Duration, early <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.stop:
		return false
	case <-early:
	case <-timer.C:
	}
	return true
}

// reap removes the orphans that are ready, as far as nobody knows them and nothing keeps them.
func (t *Tree) reap() error {
	o := &t.orphans
	o.reaping.Lock()
	defer o.reaping.Unlock()
	for {
		o.mu.Lock()
		n := min(reapBatch, len(o.ready))
		batch := o.ready[:n:n]
		o.ready = o.ready[n:]
		o.mu.Unlock()
		if n == 0 {
			return nil
		}
		if err := t.reapBatch(batch); err != nil {
			o.mu.Lock()
			o.ready = append(batch, o.ready...)
			o.mu.Unlock()
			return err
		}
	}
}

// reapBatch removes some orphans for good.
func (t *Tree) reapBatch(inos []sharefs.Ino) error {
	dead := t.bury(inos)
	defer func() {
		for _, ino := range dead {
			t.refs.unbury(ino)
		}
	}()
	if len(dead) == 0 {
		return nil
	}
	var synced uint64
	for _, ino := range dead {
		if v, _ := t.orphans.get(ino); v.backed {
			synced = max(synced, v.seq)
		}
	}
	if err := t.db.SyncTo(synced); err != nil {
		return failed("sync the journal", err)
	}
	for _, ino := range dead {
		if v, _ := t.orphans.get(ino); v.backed {
			if err := t.live.remove(ino); err != nil {
				return failed("remove a backing file", err)
			}
		}
	}
	return t.erase(dead)
}

// bury picks out the inodes that nobody knows and sees to it that nobody gets to know them. The others wait for their last reference or
// handle again.
func (t *Tree) bury(inos []sharefs.Ino) []sharefs.Ino {
	t.mu.Lock()
	defer t.mu.Unlock()
	var dead []sharefs.Ino
	o := &t.orphans
	for _, ino := range inos {
		o.mu.Lock()
		v, ok := o.waiting[ino]
		if ok && v.queued {
			v.queued = false
			o.waiting[ino] = v
			o.blocks -= v.blocks
		}
		o.mu.Unlock()
		if !ok || !t.refs.bury(ino) {
			continue // it was named, or is known: Forget queues it again
		}
		if t.inUse(ino) || t.hooks.keepOrphan(ino) {
			t.refs.unbury(ino)
			continue // Close or reapSoon queues it again
		}
		dead = append(dead, ino)
	}
	return dead
}

// erase removes the rows of inodes whose backing files are gone.
func (t *Tree) erase(dead []sharefs.Ino) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	var marked []*file
	defer func() {
		for _, f := range marked {
			t.files.unpin(f)
		}
	}()
	for _, ino := range dead {
		r, err := t.row(ino)
		if err != nil && sharefs.KindOf(err) != sharefs.KindStale {
			return err
		}
		if r != nil && r.xattrs > 0 {
			if err := eachXattr(t.db, ino, func(name string, _ []byte) { x.b.Delete(spaceXattr, xattrKey(ino, name)) }); err != nil {
				return err
			}
		}
		x.b.Delete(spaceOrphan, inoKey(ino))
		if f := t.files.find(ino); f != nil {
			marked = append(marked, f)
			if f.marked {
				x.b.Delete(spaceMark, inoKey(ino))
			}
		}
		x.kill(ino)
		t.hooks.reaped(x, ino)
	}
	x.loosens()
	if err := x.commit(); err != nil {
		return err
	}
	for _, ino := range dead {
		t.orphans.remove(ino)
		t.atimes.forget(ino)
		t.track.Forget(ino)
	}
	for _, f := range marked {
		f.mu.Lock()
		f.hot = false
		f.mu.Unlock()
		t.setUnmarked(f)
	}
	return nil
}

// loadOrphans finds the inodes that had no name when the daemon ended: nobody can know them any more.
func (t *Tree) loadOrphans() error {
	var rowErr error
	err := t.db.Scan(spaceOrphan, nil, nil, func(key, value []byte) bool {
		ino := keyIno(key)
		o := orphan{backed: true}
		r, err := t.row(ino)
		switch {
		case err == nil:
			o.blocks, o.backed = r.blocks, r.isRegular()
		case sharefs.KindOf(err) != sharefs.KindStale:
			rowErr = err
			return false
		}
		t.orphans.add(ino, o)
		t.orphans.released(ino)
		return true
	})
	if err == nil {
		err = rowErr
	}
	return failed("read the orphans", err)
}

// reapAll removes every orphan, at the end: what the kernel and handles knew of them is void.
func (t *Tree) reapAll() error {
	o := &t.orphans
	o.reaping.Lock() // a run of retention may be at work still
	defer o.reaping.Unlock()
	o.mu.Lock()
	inos := make([]sharefs.Ino, 0, len(o.waiting))
	for ino := range o.waiting {
		inos = append(inos, ino)
	}
	o.ready, o.blocks = nil, 0
	o.mu.Unlock()
	t.refs.clear()
	t.files.each(func(f *file) {
		f.mu.Lock()
		f.handles, f.writers = 0, 0
		f.mu.Unlock()
	})
	for len(inos) > 0 {
		n := min(reapBatch, len(inos))
		if err := t.reapBatch(inos[:n]); err != nil {
			return err
		}
		inos = inos[n:]
	}
	return nil
}

// eachXattr calls fn for every extended attribute of an inode.
func eachXattr(v kv.View, ino sharefs.Ino, fn func(name string, value []byte)) error {
	from, to := inoRange(ino)
	return failed("read extended attributes", v.Scan(spaceXattr, from, to, func(key, value []byte) bool {
		fn(string(key[8:]), value)
		return true
	}))
}
