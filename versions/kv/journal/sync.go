package journal

import "sharefs"

// SyncTo returns when the record with this number, and all before it, survive the loss of power. A number beyond the last
// record asks for all there are.
func (j *Journal) SyncTo(seq uint64) error {
	if j.synced.Load() >= seq {
		return nil
	}
	// Whoever gets the lock syncs all that was appended by then; those who waited for it mostly find their work done.
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	if j.synced.Load() >= seq {
		return nil
	}
	j.mu.Lock()
	if j.closed || j.failed != nil {
		err := j.failed
		if err == nil {
			err = errClosed()
		}
		j.mu.Unlock()
		return err
	}
	target, synced := j.last, j.synced.Load()
	var dirty []*segment
	for _, g := range j.files() {
		if g.last > synced {
			dirty = append(dirty, g)
		}
	}
	j.mu.Unlock()

	// Oldest first: a record counts as synced only when all before it are. A segment in this list is not removed
	// meanwhile, because what is not synced is not applied.
	for _, g := range dirty {
		j.syncs.Add(1)
		if err := g.file.Datasync(); err != nil {
			return j.poison(g.name, err)
		}
	}
	j.synced.Store(target)
	return nil
}

// poison ends the journal's life after a failed sync.
func (j *Journal) poison(name string, err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed = &sharefs.Error{Op: "journal sync", Path: name, Kind: kindOf(err),
		Detail: "a sync failed, so nothing more can be promised until the store is opened again", Err: err}
	return j.failed
}
