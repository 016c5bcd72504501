package versions

import (
	"fmt"

	"sharefs"
	"sharefs/versions/kv"
	"sharefs/versions/pack"
)

// relocation is a record and where it was copied to.
type relocation struct {
	pack.Record
	to pack.Loc
}

// rewrite copies the live records of a pack to the one that grows and removes it. All of them are checked before the first is copied: a pack with
// damage stays as it is.
func (c *collector) rewrite(i *pack.Info) error {
	if c.full {
		c.left(GCLeft{Pack: i.ID.String(), Bytes: c.waste(i), Why: "the disk has no room for a copy of what is live in it"})
		return nil
	}
	h := c.h
	h.gc.packs.Lock()
	defer h.gc.packs.Unlock()
	s, err := c.look(i)
	if err != nil {
		return c.refused(i.ID, err, "its records cannot be listed")
	}
	if s.busy > 0 || len(s.live) < c.usedIn(i.ID).records {
		c.left(GCLeft{Pack: i.ID.String(), Bytes: c.waste(i), Why: "somebody uses it otherwise than when it was looked through"})
		return nil
	}
	if c.opts.DryRun {
		c.rewritten(i, s.used)
		return nil
	}
	for _, r := range s.live {
		if err := h.packs.Intact(r); err != nil {
			if damage(err) {
				h.spoilt.add(&r.ID) // whoever captures the content again keeps it anew
			}
			return c.refused(i.ID, err, fmt.Sprintf("the record at %d of a chunk that is needed does not read", r.Loc.Off))
		}
		if err := c.going(); err != nil {
			return err
		}
	}
	moves, err := c.copy(s.live)
	if err != nil {
		c.full = noRoom(err)
		return c.refused(i.ID, err, "it cannot be rewritten")
	}
	if err := c.moveRows(moves); noRoom(err) {
		c.full = true
		return c.refused(i.ID, err, "it cannot be rewritten")
	} else if err != nil {
		return failed("write to the store", err)
	}
	if err := c.place("moved"); err != nil {
		return err
	}
	if err := h.t.db.Sync(); err != nil { // before the old records go
		return failed("sync the journal", err)
	}
	if err := c.place("synced"); err != nil {
		return err
	}
	if err := h.packs.Remove(i.ID); err != nil {
		return c.refused(i.ID, err, "it cannot be removed")
	}
	c.rewritten(i, s.used)
	return nil
}

// copy copies records to the pack that grows, which survive power loss when it returns.
func (c *collector) copy(live []pack.Record) ([]relocation, error) {
	h := c.h
	given := h.packs.Stats().GivenUp
	moves := make([]relocation, 0, len(live))
	for _, r := range live {
		to, err := h.packs.Copy(r)
		if err != nil {
			return nil, err
		}
		moves = append(moves, relocation{r, to})
		c.pace.step(r.Loc.Len())
		if err := c.going(); err != nil {
			return nil, err
		}
	}
	if err := c.place("copied"); err != nil {
		return nil, err
	}
	err := h.packs.Sync()
	if err == nil && given != h.packs.Stats().GivenUp {
		err = &sharefs.Error{Op: "rewrite a pack", Kind: sharefs.KindAgain, Detail: "the pack that grows failed"}
	}
	if err != nil {
		return nil, err
	}
	return moves, c.place("copies synced")
}

// moveRows makes the rows of chunks lead to the copies. A row that leads elsewhere by now stays: the batch that changed it has a record of its own.
func (c *collector) moveRows(moves []relocation) error {
	db := c.h.t.db
	var b kv.Batch
	var value []byte
	for n := range moves {
		m := &moves[n]
		row, ok, err := db.Get(spaceChunk, m.ID[:])
		if err != nil {
			return err
		}
		if loc, err := pack.ParseLoc(row); ok && err == nil && loc == m.Loc {
			value = m.to.Append(value[:0])
			b.Put(spaceChunk, m.ID[:], value)
		}
		if b.Len() >= sweepRows || n == len(moves)-1 {
			if _, err := db.Commit(&b); err != nil {
				return err
			}
			b.Reset()
		}
	}
	return nil
}
