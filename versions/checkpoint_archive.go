package versions

import (
	"sharefs"
	"sharefs/versions/pack"
)

// archive copies what the journal holds and survives the loss of power; the copy does as well when it returns.
func (c *checkpoints) archive() error {
	c.work.Lock()
	defer c.work.Unlock()
	defer c.update()
	return c.copyChanges()
}

// copyChanges is archive with c.work held. Where the disk does not take it, nothing of the journal goes, up to a limit.
func (c *checkpoints) copyChanges() error {
	for c.arc != nil && c.arc.Seq() < c.t.db.Synced() {
		err := c.copyPiece()
		if err == nil {
			continue
		}
		switch kind := sharefs.KindOf(err); {
		case kind == sharefs.KindNotExist, kind == sharefs.KindCorrupt, kind == sharefs.KindTooBig, c.t.db.JournalBytes() > maxWaiting:
			// The journal does not go back so far (a daemon without checkpoints had the store, or there was no room for too long), or
			// it does not read.
			c.breakChain()
		default:
			c.follow(c.copied) // what was appended since is void
		}
		return err
	}
	return nil
}

// breakChain gives the archive up until a new export begins, so that the journal can get shorter.
func (c *checkpoints) breakChain() {
	c.arc, c.going, c.gap = nil, nil, true
	c.t.db.Archived(^uint64(0))
}

// copyPiece copies some commits.
func (c *checkpoints) copyPiece() error {
	if c.room() <= 0 {
		return &sharefs.Error{Op: "copy changes to the checkpoint", Kind: sharefs.KindNoSpace, Detail: "what is left on the disk is not for checkpoints"}
	}
	var first, last uint64
	c.body = c.body[:0]
	_, err := c.arc.Next(archivePiece, func(seq uint64, stamp sharefs.HLC, rows []byte) error {
		if len(c.body) > 0 && len(c.body)+len(rows) > changesBody {
			if err := c.putChanges(first, last); err != nil {
				return err
			}
			c.body = c.body[:0]
		}
		if len(c.body) == 0 {
			first = seq
		}
		last = seq
		c.body = appendChange(c.body, first, seq, stamp, rows)
		return nil
	})
	if err == nil && len(c.body) > 0 {
		err = c.putChanges(first, last)
	}
	if err == nil {
		err = c.changes.Sync()
	}
	if given := c.changes.Stats().GivenUp; err == nil && given != c.given {
		err = &sharefs.Error{Op: "copy changes to the checkpoint", Kind: sharefs.KindAgain, Detail: "a pack failed"}
	}
	if err != nil {
		return err
	}
	c.copied = c.arc.Seq()
	c.t.db.Archived(c.copied)
	return nil
}

// sealChanges seals the pack that grows, all of which survives the loss of power already; c.work is held.
func (c *checkpoints) sealChanges() error {
	err := c.changes.Recover() // packs that an earlier process left open
	if err == nil {
		err = c.changes.Seal()
	}
	if err != nil && c.arc != nil {
		c.follow(c.copied) // the pack was given up where it was synced
	}
	return err
}

// putChanges appends a record.
func (c *checkpoints) putChanges(first, last uint64) error {
	if len(c.body) > pack.MaxPlain {
		return &sharefs.Error{Op: "copy changes to the checkpoint", Kind: sharefs.KindTooBig, Detail: "one change is longer than a record"}
	}
	loc, err := c.changes.Append(pack.TypeRows, recordID{recordChanges, first, last, c.t.clock.Last()}.id(), c.body)
	if err != nil {
		return err
	}
	f := c.files[loc.Pack]
	if f == nil {
		f = &contents{first: first}
		c.files[loc.Pack] = f
	}
	f.note(first, last, loc.Len())
	c.copiedBytes.Add(uint64(loc.Len()))
	return nil
}

// archiveBytes returns how long the changes behind a commit are; c.work is held.
func (c *checkpoints) archiveBytes(after uint64) (n int64) {
	for _, f := range c.files {
		if f.last > after {
			n += f.bytes
		}
	}
	return n
}
