package daemon

import (
	"errors"
	"sync"

	"sharefs"
	"sharefs/peers/record"
)

// chunks is the content of this host as peers ask for it, who may have the version.
type chunks struct {
	t *travel

	// Of whom a chunk was found last, for the next one is of the same as a rule, and the replica may be at work for long.
	mu   sync.Mutex // guards both
	file sharefs.FileID
	ino  sharefs.Ino
}

// Chunk reads out of packs, or out of the file itself, which alone has what was fetched here.
func (c *chunks) Chunk(v *record.Record, id sharefs.ChunkID, dst []byte) ([]byte, error) {
	data, err := c.t.d.tree.Chunk(id, dst)
	if !errors.Is(err, sharefs.KindNotExist) {
		return data, err
	}
	version := v.Body.(*record.Version)
	c.mu.Lock()
	file, ino := c.file, c.ino
	c.mu.Unlock()
	if file == version.File {
		if data, err := c.t.d.tree.ChunkOf(ino, id); err == nil {
			return data, nil
		} // else it may be another file by now
	}
	r := c.t.records()
	if r == nil {
		return nil, err
	}
	if ino = r.Held(version); ino == 0 {
		return nil, err
	}
	if data, err = c.t.d.tree.ChunkOf(ino, id); err == nil {
		c.mu.Lock()
		c.file, c.ino = version.File, ino
		c.mu.Unlock()
	}
	return data, err
}

func (c *chunks) Check(v *record.Record, id sharefs.ChunkID, data []byte) error {
	return c.t.d.tree.CheckChunk(v.Body.(*record.Version).Key, id, data)
}

// fills are files that became full lately, of which peers may wait to hear.
type fills struct {
	wake chan struct{} // capacity 1

	mu   sync.Mutex // guards what follows
	inos []sharefs.Ino
}

// filled notes that all of a file is here that was absent.
func (f *fills) filled(ino sharefs.Ino) {
	f.mu.Lock()
	f.inos = append(f.inos, ino)
	f.mu.Unlock()
	poke(f.wake)
}

// followFills tells peers of files that became full for which they had asked in vain.
func (t *travel) followFills() {
	for {
		select {
		case <-t.stop:
			return
		case <-t.fills.wake:
		}
		t.fills.mu.Lock()
		inos := t.fills.inos
		t.fills.inos = nil
		t.fills.mu.Unlock()
		for _, ino := range inos {
			if id, err := t.wantedOf(ino); err == nil { // else it is another one by now
				t.ex.Complete(id)
			}
		}
	}
}
