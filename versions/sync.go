package versions

import "sharefs"

// Statfs tells how much room the disk under the store has. What removed files still hold counts as free; what is missing in the reserve does not.
func (t *Tree) Statfs() (Space, error) {
	s, err := statfs(t.live.path)
	if err != nil {
		return Space{}, failed("ask for room", err)
	}
	t.orphans.mu.Lock()
	going := t.orphans.blocks * 512
	t.orphans.mu.Unlock()
	block := uint64(s.Bsize)
	_, missing := t.reserve.stats()
	left := func(blocks uint64) uint64 { return blocks*block + going - min(missing, blocks*block+going) }
	return Space{
		BlockSize: uint32(s.Bsize), Total: s.Blocks * block, Free: left(s.Bfree), Available: left(s.Bavail),
		Inodes: s.Files, InodesFree: s.Ffree,
	}, nil
}

// Sync makes everything acknowledged so far survive power loss: content, names and attributes.
func (t *Tree) Sync() error {
	if t.cfg.ReadOnly {
		return nil
	}
	if err := t.live.sync(); err != nil {
		return failed("sync", err)
	}
	return t.SyncNames()
}

// SyncNames makes the names and attributes acknowledged so far survive power loss, but not what is in live files.
func (t *Tree) SyncNames() error {
	if t.cfg.ReadOnly {
		return nil
	}
	return failed("sync", t.db.Sync())
}

// SyncInode makes the names in a directory, or the attributes and the name of anything else, survive power loss. The content of a file is its
// handle's to sync.
func (t *Tree) SyncInode(ino sharefs.Ino) error {
	if t.cfg.ReadOnly {
		return nil
	}
	r, err := t.row(ino)
	if err != nil {
		return err
	}
	seq := r.seq
	if f := t.files.find(ino); f != nil {
		f.mu.Lock()
		seq = max(seq, f.seq)
		f.mu.Unlock()
		t.files.unpin(f)
	}
	return failed("sync", t.db.SyncTo(seq))
}
