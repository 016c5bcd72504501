package versions

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"sharefs"
	"sharefs/versions/pack"
)

// packSeen is what is known of a pack.
type packSeen struct {
	length int64
	// good are the records that a scrub has read, in the order of their places: the offset and 32 bits of the name.
	good []uint64
	bad  []pack.BadRecord // at most maxBadNamed
	dead int              // beyond them
	gone bool             // it is not there, and rows lead to it
	sum  pack.Examined
	far  bool  // the bucket alone has it, and it was not read
	why  error // it is gone
}

func goodKey(off uint32, id *sharefs.ChunkID) uint64 {
	return uint64(off)<<32 | uint64(binary.BigEndian.Uint32(id[8:]))
}

// placeKey is a fingerprint of a chunk's name that does not begin with the bytes by which the rows are sorted: such a table grows slowly when what is
// put in comes in order.
func placeKey(id *sharefs.ChunkID) uint64 { return max(1, binary.BigEndian.Uint64(id[8:])) }

// holds reports whether a scrub has read a record.
func (p *packSeen) holds(loc *pack.Loc, id *sharefs.ChunkID) bool {
	want := goodKey(loc.Off, id)
	i := sort.Search(len(p.good), func(i int) bool { return p.good[i] >= want })
	return i < len(p.good) && p.good[i] == want
}

// badChunk is a chunk, or a node of a manifest, that cannot be read.
type badChunk struct {
	id   sharefs.ChunkID
	loc  pack.Loc // where its row leads; no row: zero
	row  []byte   // its row, nil where it has none
	err  error    // why
	kind string   // FoundChunk, FoundRecord or FoundPack

	refs     []versionID // versions that need it, at most maxRefs
	more     uint64
	holders  []sharefs.Ino // live files whose versions need it, at most maxHolders
	node     bool          // it is a node of a manifest
	expected bool          // all versions that need it are marked as being lost in part already
	healed   string        // from where; empty: not
	lost     bool          // its row is taken out, and the versions are marked
	later    bool          // somebody who may have a copy does not answer
}

// Bounds of what is found.
const (
	maxBad      = 1 << 19 // chunks that are dealt with in one check: what is beyond them another one finds
	maxBadNamed = 1 << 12 // records of one pack that do not read and that nobody needs
	maxRefs     = 64
	maxHolders  = 16
)

// checkPacks does the third stage.
func (c *fsck) checkPacks() error {
	h := &c.t.past
	ids, err := h.packs.Packs()
	if err != nil {
		return err
	}
	if ids, err = c.checkBucket(ids); err != nil {
		return err
	}
	var total uint64
	lengths := make(map[pack.ID]int64, len(ids))
	for _, id := range ids {
		n, err := h.packs.Length(id)
		if err != nil {
			continue // removed since, or told of below
		}
		lengths[id] = n
		total += uint64(n)
	}
	c.sum.Packs, c.sum.Bytes = c.sum.Packs+uint64(len(ids)), c.sum.Bytes+total
	c.stage("packs", "bytes", total)
	workers := 1
	if c.o.Mode == FsckScrub {
		workers = min(4, max(1, runtime.GOMAXPROCS(0)))
	}
	var next, done atomic.Int64
	var failure error
	var once sync.Once
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			names := c.t.keys.namers()
			read := func(n int64) {
				c.mu.Lock()
				c.at("packs", "bytes", uint64(done.Add(n)), total)
				c.mu.Unlock()
			}
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(ids) {
					return
				}
				var err error
				if c.o.Mode == FsckScrub {
					err = c.examine(ctx, ids[i], names, read)
				} else {
					err = c.glance(ids[i])
					read(lengths[ids[i]])
				}
				if err != nil {
					once.Do(func() { failure = err })
					cancel()
				}
			}
		})
	}
	all.Wait()
	if err := c.goOn(); err != nil {
		return err
	}
	return failure
}

// errName says that a record holds another content than its name says.
var errName = errors.New("its content has another name")

// examine reads a whole pack.
func (c *fsck) examine(ctx context.Context, id pack.ID, names *namers, read func(bytes int64)) error {
	p := &packSeen{}
	var err error
	p.sum, err = c.t.past.packs.Examine(id, func(e pack.Epoch, r pack.Record, plain []byte) error {
		read(r.Loc.Len())
		if err := ctx.Err(); err != nil {
			return err
		}
		if !names.fits(e, r.ID, plain) {
			return errName
		}
		p.good = append(p.good, goodKey(r.Loc.Off, &r.ID))
		return nil
	}, func(b pack.BadRecord) {
		read(b.Loc.Len())
		if len(p.bad) < maxBadNamed {
			p.bad = append(p.bad, b)
		} else {
			p.dead++
		}
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.seen(id, p, err)
	return nil
}

// glance looks at the two ends of a pack.
func (c *fsck) glance(id pack.ID) error {
	p := &packSeen{}
	var err error
	p.sum, err = c.t.past.packs.Glance(id)
	c.seen(id, p, err)
	return nil
}

// seen enters what is known of a pack. One that cannot be read at all counts with the rows that lead to it.
func (c *fsck) seen(id pack.ID, p *packSeen, err error) {
	p.length = p.sum.Bytes
	if err != nil {
		c.unsure(err)
		return // the rows that lead to it will tell
	}
	c.mu.Lock()
	c.packs[id] = p
	if c.o.Mode == FsckScrub {
		c.sum.Read += uint64(p.sum.Bytes)
	}
	c.mu.Unlock()
	where := "packs/" + c.t.past.packs.Where(id)
	const mend = "fsck --repair makes it anew"
	if p.sum.Header != nil {
		c.found(Finding{Kind: FoundPack, Severity: SeverityFault, Where: where, Detail: "the header is damaged; its records can be read without", Repair: mend})
	}
	if p.sum.Index != nil {
		c.found(Finding{Kind: FoundPack, Severity: SeverityFault, Where: where, Detail: "the index is damaged; its records can be read without", Repair: mend})
	}
	if p.sum.Tail > 0 && !p.sum.Moving {
		c.found(Finding{Kind: FoundTail, Severity: SeverityNote, Where: where, Detail: fmt.Sprintf("its last %d bytes are no record, as a crash leaves them", p.sum.Tail),
			Repair: "they are cut off when it is next appended to"})
	}
}

// checkChunks does the fourth stage: every row leads to a record.
func (c *fsck) checkChunks() error {
	c.stage("chunks", "chunks", 0)
	var ended error
	buf := new([]byte)
	err := c.t.db.Scan(spaceChunk, nil, nil, func(key, value []byte) bool {
		c.sum.Chunks++
		if c.sum.Chunks%1024 == 0 {
			c.at("chunks", "chunks", c.sum.Chunks, 0)
			if ended = c.goOn(); ended != nil {
				return false
			}
		}
		if len(key) != len(sharefs.ChunkID{}) {
			c.found(Finding{Kind: FoundMeta, Severity: SeverityFault, Where: "meta.db", Detail: fmt.Sprintf("a row of a chunk has a key of %d bytes", len(key))})
			return true
		}
		id := sharefs.ChunkID(key)
		if ended = c.checkChunk(&id, value, buf); ended != nil {
			return false
		}
		return len(c.bad) < maxBad
	})
	if err == nil {
		err = ended
	}
	if err == nil && len(c.bad) >= maxBad {
		c.found(Finding{Kind: FoundChunk, Severity: SeverityDamage, Where: "meta.db", Detail: fmt.Sprintf("more than %d chunks cannot be read: the others are not listed", maxBad),
			Repair: "check again when these are repaired"})
	}
	if err == nil {
		c.unneeded()
	}
	return err
}

// checkChunk holds one row against the packs. While its row stays the same, so does the record.
func (c *fsck) checkChunk(id *sharefs.ChunkID, row []byte, buf *[]byte) error {
	for range 100 {
		loc, kind, err := c.reads(id, row, buf)
		if err == nil || c.unsure(err) {
			if c.placed.n < maxKnown {
				c.placed.add(placeKey(id))
			}
			return nil
		}
		now, ok, getErr := c.t.db.Get(spaceChunk, id[:])
		switch {
		case getErr != nil:
			return getErr
		case !ok:
			return nil // nobody needs it any more
		case bytes.Equal(now, row):
			c.bad[*id] = &badChunk{id: *id, loc: loc, row: bytes.Clone(row), err: err, kind: kind}
			c.t.past.spoilt.add(id)
			return nil
		}
		row = now
	}
	return nil // it moves all the time, so that it is read all the time
}

// reads reports why a chunk does not read.
func (c *fsck) reads(id *sharefs.ChunkID, row []byte, buf *[]byte) (loc pack.Loc, kind string, err error) {
	packs := c.t.past.packs
	if loc, err = pack.ParseLoc(row); err != nil {
		return loc, FoundChunk, err
	}
	p := c.packs[loc.Pack]
	switch {
	case p != nil && p.gone && p.why != nil:
		return loc, FoundPack, p.why
	case c.o.Mode == FsckScrub && p != nil && p.holds(&loc, id):
		return loc, "", nil
	case c.o.Mode == FsckScrub && (p == nil || !p.gone && !p.far):
		b, err := packs.Read(loc, *id, *buf)
		if err == nil {
			*buf = b
			var fits bool
			if fits, err = c.fits(loc.Pack, *id, b); fits {
				return loc, "", nil
			} else if err == nil {
				err = errName
			}
		}
		if p == nil {
			if _, gone := packs.Length(loc.Pack); gone != nil && !outOfReach(gone) {
				c.packs[loc.Pack] = &packSeen{gone: true}
				return loc, FoundPack, gone
			}
		}
		return loc, FoundRecord, err
	case p != nil && !p.gone && int64(loc.Off)+loc.Len() <= p.length:
		return loc, "", nil
	}
	// One that grew since, or was made.
	length, err := packs.Length(loc.Pack)
	if err != nil {
		if p == nil && !outOfReach(err) {
			c.packs[loc.Pack] = &packSeen{gone: true}
		}
		return loc, FoundPack, err
	}
	if p == nil || p.gone {
		p = &packSeen{}
		c.packs[loc.Pack] = p
	}
	if p.length = length; int64(loc.Off)+loc.Len() > length {
		return loc, FoundPack, &sharefs.Error{Op: "read pack", Path: loc.Pack.String(), Kind: sharefs.KindCorrupt, Detail: "the pack ends too early"}
	}
	return loc, "", nil
}

// namers name chunks; for the goroutine of the check alone.
func (c *fsck) namers() *namers {
	if c.names == nil {
		c.names = c.t.keys.namers()
	}
	return c.names
}

// fits reports whether what lies in a pack has a name.
func (c *fsck) fits(in pack.ID, id sharefs.ChunkID, plain []byte) (bool, error) {
	e, err := c.t.past.packs.EpochOf(in)
	return err == nil && c.namers().fits(e, id, plain), err
}

// unneeded notes damaged records that no row leads to. What was given back to the disk is none.
func (c *fsck) unneeded() {
	type place struct {
		id  pack.ID
		off uint32
	}
	needed := map[place]bool{}
	for _, b := range c.bad {
		needed[place{b.loc.Pack, b.loc.Off}] = true
	}
	for id, p := range c.packs {
		n := 0
		for _, b := range p.bad {
			if !b.Empty && !needed[place{id, b.Loc.Off}] && b.ID != (sharefs.ChunkID{}) && !p.sum.Moving {
				n++
			}
		}
		if n > 0 {
			c.found(Finding{Kind: FoundRecord, Severity: SeverityNote, Where: "packs/" + c.t.past.packs.Where(id), Count: uint64(n),
				Detail: plural(uint64(n), "record that nobody needs does not read", "records that nobody needs do not read"), Repair: "the collection of garbage takes such away"})
		}
	}
}

// badInOrder returns what does not read in the order of its places.
func (c *fsck) badInOrder() []*badChunk {
	list := make([]*badChunk, 0, len(c.bad))
	for _, b := range c.bad {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b *badChunk) int {
		return cmp.Or(bytes.Compare(a.loc.Pack[:], b.loc.Pack[:]), cmp.Compare(a.loc.Off, b.loc.Off), bytes.Compare(a.id[:], b.id[:]))
	})
	return list
}
