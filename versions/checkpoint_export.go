package versions

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"sharefs"
	"sharefs/versions/kv"
	"sharefs/versions/pack"
)

// exporting is an export on its way.
type exporting struct {
	generation
	export *kv.Export
	given  uint64 // packs of rows given up when it began
	parts  []pack.Record
	done   bool // all rows are in it
}

// export does a step of an export, and begins one where it is due. More: there is another step to do.
func (c *checkpoints) export() (more bool, err error) {
	c.work.Lock()
	defer c.work.Unlock()
	defer c.update()
	switch {
	case c.going == nil:
		if !c.due() {
			c.putOff = nil
			return false, nil
		}
		if time.Now().Before(c.after) {
			return false, nil
		}
		c.putOff = nil
		err = c.beginExport()
	case !c.going.done:
		err = c.exportPart()
	default:
		more, err = c.endExport()
		if err == nil {
			return more, nil
		}
	}
	if err != nil {
		// What is written of it is removed with the next one that is complete.
		c.going, c.putOff = nil, err
		c.after = time.Now().Add(exportAgain)
		return false, err
	}
	return true, nil
}

// due reports whether a new generation is to be begun: there is none, changes are missing behind it, or they have outgrown it.
func (c *checkpoints) due() bool {
	return c.whole.number == 0 || c.gap || c.arc == nil || c.archiveBytes(c.whole.begin.Applied) > max(c.whole.bytes, leastArchive)
}

func (c *checkpoints) beginExport() error {
	need := max(c.whole.bytes, c.t.db.Stats().MetaBytes/2)
	if c.room() < need {
		return &sharefs.Error{Op: "make a checkpoint", Kind: sharefs.KindNoSpace, Detail: fmt.Sprintf("it wants %d MiB of the disk", need>>20)}
	}
	if c.arc == nil {
		c.follow(c.t.db.KeepJournal())
	}
	e, err := c.t.db.Export(uncopied...)
	if err != nil {
		return err
	}
	g := &exporting{export: e, given: c.rows.Stats().GivenUp}
	g.number, g.begin, g.at = c.whole.number+1, e.Begin(), c.t.clock.Last()
	for _, f := range c.exports {
		g.number = max(g.number, f.last+1) // one that was not completed
	}
	c.going = g
	// Later records do not share a pack with those of older generations, so that they can go.
	if err := c.sealChanges(); err != nil {
		return err
	}
	if err := c.rows.Recover(); err != nil {
		return err
	}
	if err := c.rows.Seal(); err != nil {
		return err
	}
	return c.putRows(recordBegin, 0, encodeBegin(g.begin))
}

func (c *checkpoints) exportPart() error {
	p, ok, err := c.going.export.Next(c.part, exportBody)
	if err != nil {
		return err
	}
	if !ok {
		c.going.done = true
		return nil
	}
	c.part = p.Rows
	c.body = appendPart(c.body[:0], p)
	c.going.end.parts++
	return c.putRows(recordPart, c.going.end.parts, c.body)
}

// putRows appends a record of an export.
func (c *checkpoints) putRows(kind recordKind, number uint64, body []byte) error {
	g := c.going
	id := recordID{kind, g.number, number, g.at}.id()
	loc, err := c.rows.Append(pack.TypeRows, id, body)
	if err != nil {
		return err
	}
	g.parts = append(g.parts, pack.Record{Loc: loc, Type: pack.TypeRows, ID: id})
	g.bytes += loc.Len()
	f := c.exports[loc.Pack]
	if f == nil {
		f = &contents{first: g.number}
		c.exports[loc.Pack] = f
	}
	f.note(g.number, g.number, loc.Len())
	c.exportBytes.Add(uint64(loc.Len()))
	return nil
}

// endExport completes an export whose rows are all written: the changes that make one state of them are copied, all of it is synced and read
// back, and only then it counts, and the one before it goes.
func (c *checkpoints) endExport() (more bool, err error) {
	g := c.going
	if g.end.through == 0 {
		g.end.through, g.end.rows = c.t.db.Stats().Seq, g.export.Rows()
	}
	if err := c.t.db.SyncTo(g.end.through); err != nil {
		return false, err
	}
	if err := c.copyChanges(); err != nil {
		return false, err
	}
	if err := c.putRows(recordEnd, g.end.parts+1, g.end.encode()); err != nil {
		return false, err
	}
	if err := c.rows.Seal(); err != nil { // which syncs
		return false, err
	}
	if given := c.rows.Stats().GivenUp; given != g.given {
		return false, &sharefs.Error{Op: "make a checkpoint", Kind: sharefs.KindAgain, Detail: "a pack failed"}
	}
	for _, r := range g.parts {
		if c.t.closed.Load() {
			return false, nil // it is complete, and the next start takes it
		}
		if c.part, err = c.rows.Read(r.Loc, r.ID, c.part); err != nil {
			return false, err
		}
	}
	c.whole, c.going, c.gap = g.generation, nil, false
	return false, c.dropOld()
}

// dropOld removes the packs that nothing needs which is newer than the complete generation.
func (c *checkpoints) dropOld() error {
	for id, f := range c.exports {
		if f.last >= c.whole.number {
			continue
		}
		if err := c.rows.Remove(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(c.exports, id)
	}
	for id, f := range c.files {
		if f.last > c.whole.begin.Applied {
			continue
		}
		if err := c.changes.Remove(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(c.files, id)
	}
	return nil
}
