package versions

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/pack"
)

// packs looks through the packs in which something is dead, and gives what can be had of them back to the disk.
func (c *collector) packs() error {
	if err := c.sealEarly(); err != nil {
		return err
	}
	var list []pack.Info
	err := c.h.packs.Each(func(i pack.Info) bool {
		if i.Sealed {
			list = append(list, i)
		}
		return true
	})
	if err != nil {
		return err
	}
	for n := range list {
		if err := c.step("look through packs", uint64(n), uint64(len(list)), "packs", rowWork); err != nil {
			return err
		}
		if err := c.pack(&list[n]); err != nil {
			return err
		}
	}
	if err := c.recount(); err != nil {
		return err
	}
	slices.SortFunc(c.half, func(a, b pack.Info) int { return cmp.Compare(c.waste(&b), c.waste(&a)) })
	for n := range c.half {
		if err := c.step("rewrite packs", uint64(n), uint64(len(c.half)), "packs", rowWork); err != nil {
			return err
		}
		if err := c.rewrite(&c.half[n]); err != nil {
			return err
		}
	}
	if c.opts.DryRun {
		return nil
	}
	// Of keys that are not in use any more nothing else comes to be appended.
	id, err := c.h.packs.SealOthers()
	return c.refused(id, err, "it cannot be sealed")
}

// recount deals with the packs whose index does not list as many records as the sweep found rows to lead to: because two batches have kept the same
// chunk, and the row leads to the other's record by now; or because the index is damaged and so is a record, which is to stay.
func (c *collector) recount() error {
	if len(c.short) == 0 {
		return nil
	}
	c.counted = true
	short := map[pack.ID]bool{}
	for n := range c.short {
		short[c.short[n].ID] = true
		delete(c.uses, c.short[n].ID)
	}
	var bad error
	rows := uint64(0)
	err := c.h.t.db.Scan(spaceChunk, nil, nil, func(_, value []byte) bool {
		if rows++; rows%64 == 1 {
			if bad = c.step("count again", rows-1, c.report.Chunks-c.report.ChunksRemoved, "chunks", 64*rowWork); bad != nil {
				return false
			}
		}
		if loc, err := pack.ParseLoc(value); err == nil && short[loc.Pack] {
			c.use(&loc)
		}
		return true
	})
	if err == nil {
		err = bad
	}
	for n := range c.short {
		if err == nil {
			err = c.pack(&c.short[n])
		}
	}
	return err
}

// usedIn returns what rows lead to in a pack, as the sweep found it.
func (c *collector) usedIn(id pack.ID) packUse {
	if u := c.uses[id]; u != nil {
		return *u
	}
	return packUse{}
}

// waste returns what a pack takes, here or in the bucket, and no row leads to, header and index among it.
func (c *collector) waste(i *pack.Info) int64 { return takes(i) - c.usedIn(i.ID).bytes }

// takes returns how many bytes a pack takes on the disk; in the bucket, if that alone has it.
func takes(i *pack.Info) int64 {
	if i.Remote {
		return i.Size
	}
	return i.Held
}

// sealEarly seals the pack that grows if more than half of it is dead, or something on a full disk, so that it can be dealt with as the others are.
func (c *collector) sealEarly() error {
	id, size, ok := c.h.packs.Growing()
	if !ok {
		return nil
	}
	dead := size - c.usedIn(id).bytes
	if dead < c.opts.leastDead || 2*dead < size && !c.low {
		c.report.Growing = dead
		return nil
	}
	if c.opts.DryRun {
		c.report.Freed += uint64(dead)
		return nil
	}
	return c.refused(id, c.h.packs.Seal(), "it cannot be sealed")
}

// refused puts a failure of a pack or its disk into the report. What ends the collection is given back: that the tree is closed, or the context.
func (c *collector) refused(id pack.ID, err error, what string) error {
	if err == nil {
		return nil
	}
	if err := c.going(); err != nil {
		return err
	}
	c.left(GCLeft{Pack: id.String(), Why: fmt.Sprintf("%s: %v", what, err)})
	return nil
}

// sorted is what the records of a pack are at present.
type sorted struct {
	live, dead     []pack.Record
	busy           int   // records that a batch at work may need
	used, deadSize int64 // bytes of the live, and of the dead
	other          int64 // of the pack's length: header, index, and what is no record
}

// look sorts the records of a pack. collecting.packs is held.
func (c *collector) look(i *pack.Info) (s sorted, err error) {
	records, err := c.h.packs.Index(i.ID)
	if err != nil {
		return s, err
	}
	s.other = i.Size
	for _, r := range records {
		held := c.h.leases.held(&r.ID) // before its row is looked for: who lets go of it has committed that
		row, ok, err := c.h.t.db.Get(spaceChunk, r.ID[:])
		if err != nil {
			return s, err
		}
		s.other -= r.Loc.Len()
		loc, err := pack.ParseLoc(row)
		switch {
		case ok && err == nil && loc == r.Loc && (!c.opts.DryRun || c.marks.has(fingerprint(&r.ID)) || held):
			s.live = append(s.live, r)
			s.used += r.Loc.Len()
		case held:
			s.busy++
		default:
			s.dead = append(s.dead, r)
			s.deadSize += r.Loc.Len()
		}
	}
	return s, nil
}

// pack deals with one sealed pack.
func (c *collector) pack(i *pack.Info) error {
	used := c.usedIn(i.ID)
	waste := c.waste(i)
	switch {
	case used.records > 0 && (waste < c.opts.leastRun || i.Remote && 2*waste <= i.Size): // what is elsewhere cannot be punched
		return nil
	case c.opts.DryRun && c.common > 0: // the marks are those of the last range
		if used.records == 0 {
			c.removed(i)
		} else if 2*waste > takes(i) {
			c.rewritten(i, used.bytes)
		}
		return nil
	}
	c.h.gc.packs.Lock()
	defer c.h.gc.packs.Unlock()
	s, err := c.look(i)
	if err != nil {
		return c.refused(i.ID, err, "its records cannot be listed")
	}
	switch {
	case s.busy > 0:
		c.left(GCLeft{Pack: i.ID.String(), Bytes: waste, Why: "a version that is being made may need it"})
	case len(s.live) < used.records && !c.counted:
		c.short = append(c.short, *i)
	case len(s.live) < used.records:
		c.left(GCLeft{Pack: i.ID.String(), Bytes: waste, Why: "its index does not list all that rows lead to"})
	case len(s.live) == 0:
		return c.remove(i)
	case 2*(takes(i)-s.used-s.other) > takes(i):
		c.half = append(c.half, *i)
	case i.Remote:
	default:
		return c.punch(i, s.dead)
	}
	return nil
}

// remove removes a pack that nothing leads to.
func (c *collector) remove(i *pack.Info) error {
	if err := c.place("remove"); err != nil {
		return err
	}
	if !c.opts.DryRun {
		if err := c.h.packs.Remove(i.ID); err != nil {
			return c.refused(i.ID, err, "it cannot be removed")
		}
	}
	c.removed(i)
	return nil
}

func (c *collector) removed(i *pack.Info) {
	c.report.PacksRemoved++
	c.report.Freed += uint64(i.Held)
	c.elsewhere(i)
}

func (c *collector) rewritten(i *pack.Info, copied int64) {
	c.report.PacksRewritten++
	c.report.BytesCopied += uint64(copied)
	if c.elsewhere(i); !i.Remote {
		c.report.Freed += uint64(max(0, i.Held-copied))
	}
}

// elsewhere counts what is given up in the bucket.
func (c *collector) elsewhere(i *pack.Info) {
	if i.Remote {
		c.report.BucketFreed += uint64(i.Size)
	}
}

// punch gives the long runs of dead records back to the disk.
func (c *collector) punch(i *pack.Info, dead []pack.Record) error {
	if err := c.place("punch"); err != nil {
		return err
	}
	freed := min(pack.Punchable(dead, c.opts.leastRun), c.waste(i))
	if !c.opts.DryRun && freed > 0 {
		_, err := c.h.packs.Punch(i.ID, dead, c.opts.leastRun)
		if errors.Is(err, sharefs.KindNotSupported) {
			c.left(GCLeft{Pack: i.ID.String(), Bytes: c.waste(i), Why: "less than half of it is dead, and the disk cannot give back a part of a file"})
			return nil
		}
		if err := c.refused(i.ID, err, "it cannot be punched"); err != nil {
			return err
		}
		after, err := c.h.packs.Stat(i.ID)
		if err := c.refused(i.ID, err, "it cannot be looked at"); err != nil {
			return err
		}
		if freed = i.Held - after.Held; err != nil {
			freed = 0
		}
	}
	if freed > 0 {
		c.report.PacksPunched++
		c.report.BytesPunched += uint64(freed)
		c.report.Freed += uint64(freed)
	}
	return nil
}

// noRoom reports whether a disk is full.
func noRoom(err error) bool {
	return sharefs.KindOf(err) == sharefs.KindNoSpace || errors.Is(err, unix.EDQUOT)
}
