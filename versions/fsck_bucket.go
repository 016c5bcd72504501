package versions

import (
	"fmt"
	"slices"

	"sharefs"
	"sharefs/versions/pack"
	"sharefs/versions/tier/near"
)

// checkBucket deals with the packs that the bucket alone has, and returns the others. A scrub that is to read them has all of them returned. Of the rest the objects are
// looked for in a list of the bucket, by their lengths: whether they hold what they did, the bucket vouches for, and each record's seal when it is read.
func (c *fsck) checkBucket(ids []pack.ID) (here []pack.ID, err error) {
	h := &c.t.past
	if h.cache == nil || c.o.Mode == FsckScrub && c.o.Remote {
		return ids, nil
	}
	far := map[pack.ID]bool{}
	enter := func(id pack.ID, length int64) *packSeen {
		p := &packSeen{far: true, length: length}
		far[id], c.packs[id] = true, p
		c.sum.Packs++
		c.sum.Far++
		c.sum.Bytes += uint64(length)
		c.sum.FarBytes += uint64(length)
		return p
	}
	replaced := uint64(0)
	err = h.cache.Check(c.ctx, func(l near.Listed) {
		p := enter(l.ID, l.Size)
		switch {
		case l.Found == l.Size && l.Other:
			replaced++
		case l.Found == l.Size:
		case l.Found >= 0:
			p.gone, p.why = true, &sharefs.Error{Op: "look for pack", Path: l.ID.String(), Kind: sharefs.KindCorrupt,
				Detail: fmt.Sprintf("the bucket alone has it, with %d bytes of %d", l.Found, l.Size)}
		default:
			if p.gone, p.why = h.cache.Missing(l.ID); !p.gone {
				c.unsure(p.why)
			}
		}
	})
	if c.unsure(err) {
		err = nil
		for _, id := range ids {
			if h.packs.IsRemote(id) {
				length, _ := h.packs.Length(id) // of one whose note is damaged nothing is known
				enter(id, length)
			}
		}
	}
	if replaced > 0 {
		c.found(Finding{Kind: FoundPack, Severity: SeverityNote, Where: "the bucket", Count: replaced,
			Detail: plural(replaced, "pack that it alone has was written anew since it left this disk", "packs that it alone has were written anew since they left this disk"),
			Repair: "sharefs fsck --scrub --bucket reads them"})
	}
	return slices.DeleteFunc(ids, func(id pack.ID) bool { return far[id] }), err
}

// unsure reports whether an error says that something cannot be looked at because the bucket does not answer: then nothing is known of it, good or bad. The report tells
// of that once.
func (c *fsck) unsure(err error) bool {
	if !outOfReach(err) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sum.Unread++; c.sum.Unread == 1 {
		c.sum.Findings = append(c.sum.Findings, Finding{Kind: FoundPack, Severity: SeverityUnread, Where: "the bucket", Detail: err.Error(),
			Repair: "what lies there could not be checked, and nothing is known to be damaged: check again when it answers"})
	}
	return true
}
