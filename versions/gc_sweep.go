package versions

import (
	"encoding/binary"

	"sharefs"
	"sharefs/versions/kv"
	"sharefs/versions/pack"
)

// sweep deletes the rows of the present range that nothing needs, and counts what the others lead to.
func (c *collector) sweep() error {
	var from, to []byte
	if c.common > 0 {
		from = binary.BigEndian.AppendUint64(nil, c.lo)
		if end := c.lo + 1<<(64-c.common); end != 0 {
			to = binary.BigEndian.AppendUint64(nil, end)
		}
	}
	if c.hidden {
		from, to = binary.BigEndian.AppendUint64(nil, c.lo), nil // all that is left is counted: there is no next pass
	}
	var bad error
	err := c.h.t.db.Scan(spaceChunk, from, to, func(key, value []byte) bool {
		if c.report.Chunks%64 == 0 {
			if bad = c.step("sweep chunks", c.report.Chunks, 0, "chunks", 64*rowWork); bad != nil {
				return false
			}
		}
		c.report.Chunks++
		loc, err := pack.ParseLoc(value)
		if err != nil || len(key) != len(sharefs.ChunkID{}) {
			return true // for the check to deal with
		}
		r := chunkRow{sharefs.ChunkID(key), loc}
		if c.hidden || c.marks.has(fingerprint(&r.id)) {
			c.use(&r.loc)
			return true
		}
		if c.doomed = append(c.doomed, r); len(c.doomed) >= sweepRows {
			bad = c.deleteRows()
		}
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	if err == nil {
		err = c.deleteRows()
	}
	return failed("sweep chunks", err)
}

// deleteRows deletes the rows that were gathered, unless somebody has come to need them.
func (c *collector) deleteRows() error {
	if len(c.doomed) == 0 {
		return nil
	}
	if err := c.place("sweep"); err != nil {
		return err
	}
	err := c.h.leases.unless(c.doomed, func(r *chunkRow) { c.use(&r.loc) }, func(free []chunkRow) error {
		if !c.opts.DryRun {
			var b kv.Batch
			for i := range free {
				b.Delete(spaceChunk, free[i].id[:])
			}
			if _, err := c.h.t.db.Commit(&b); err != nil {
				return err
			}
		}
		c.report.ChunksRemoved += uint64(len(free))
		return nil
	})
	c.doomed = c.doomed[:0]
	return err
}
