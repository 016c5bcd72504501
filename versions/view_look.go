package versions

import (
	"time"

	"sharefs"
)

// look fixes what a view of a moment shows: nothing that changes later changes it. It returns the moment, which for MaxHLC is the present one.
func (t *Tree) look(at sharefs.HLC) (sharefs.HLC, error) {
	now := at == sharefs.MaxHLC
	if !now && at > max(t.clock.Last(), sharefs.HLCAt(time.Now())|0xffff) {
		return 0, &sharefs.Error{Op: "look at the past", Kind: sharefs.KindInvalid, Detail: at.String() + " is in the future"}
	}
	if !t.cfg.ReadOnly {
		t.restAll()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.cfg.ReadOnly && at >= t.clock.Last() {
		if err := t.endInstant(); err != nil {
			return 0, err
		}
	}
	if now {
		at = t.clock.Next()
	}
	t.clock.Restore(at)
	t.seen.Store(max(t.seen.Load(), uint64(at)))
	return at, nil
}

// restAll brings to rest every file that nobody can write to any more.
func (t *Tree) restAll() {
	t.files.each(func(f *file) {
		f.mu.Lock()
		rests := f.hot && f.writers == 0
		f.mu.Unlock()
		if !rests {
			return
		}
		f.content.Lock()
		defer f.content.Unlock()
		if _, err := t.settleNow(f); err != nil {
			t.log.Warn("a file could not be brought to rest", "inode", uint64(f.ino), "err", err)
		}
	})
}
