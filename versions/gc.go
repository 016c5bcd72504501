package versions

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/versions/pack"
)

// Garbage collection takes chunks out of packs that no version needs any more. It runs while the mount is used:
//
//  1. mark     the rows of all versions, in the order of their keys, and the nodes of their manifests, read from packs: the chunks that they
//     lead to, into a set of fingerprints (idset.go). Then those that are being read (leases.go)
//  2. sweep    the rows of chunks, in the order of their names: those that are not marked, on no lease and on none since the mark began are
//     deleted, some hundred in one commit. No row leads to their records then
//  3. settle   the journal is synced, and whatever else must remember that those rows are gone (Tree.beforeSweep)
//  4. packs    each sealed one by its index: a record is live if the row of its chunk leads to it. A pack without live ones is removed;
//     of others long runs of dead ones are punched. The one that grows is sealed if more than half of it is dead, and left otherwise
//  5. rewrite  packs of which more than half is dead, the emptiest first: the live records are checked, copied to the pack that grows, that is
//     synced, their rows are moved, the journal is synced, the pack is removed
//
// Why no chunk is lost that is needed. What a version needs is marked if its row stood when the mark passed, for rows do not move.
// Whoever makes a version takes a lease on each chunk before looking for its row, and gives it free when the version's row is committed: if
// that was before the mark began, the mark meets the row; if not, the chunk was on a lease since. Leases and the deletion of rows exclude each
// other (leases.mu), so a chunk that was found stays, and one that was deleted is found missing and kept anew. A record that no row leads to is dead
// only if its chunk is on no lease: it was put on one before the record was written, so whoever wrote it has committed its row by then, or
// gave it up. Nobody makes a row lead to a record that lay there before without holding collecting.packs.
//
// There are no waiting times, nothing depends on clocks, and nothing is remembered from one run to the next: what a run that was cut off left is
// garbage as any other, found by the next one. Bytes go only after the rows that led to them are durably gone or elsewhere, so whatever rows a
// loss of power brings back, their records are there.
//
// A manifest that cannot be read hides which chunks it needs. Then no row is deleted in that run, and the report names the version: the check
// (fsck) repairs it or gives it up. A pack with a live record that does not read is left as it is, and named.
//
// Memory: the marks take 11 to 22 bytes for each chunk and at most 256 MiB (384 while the table grows): 25 million chunks, a terabyte and a half. Where there are
// more, the names are divided into ranges, and one after the other is marked and swept. Nodes seen take at most 128 MiB (192), leases of
// captures that end meanwhile the same; 80 bytes for each pack. In all at most 768 MiB, and 40 MiB for a million chunks.

// GCOptions says how garbage is to be collected.
type GCOptions struct {
	DryRun bool // look and count alone: nothing is changed
	Hurry  bool // do not make way for whoever uses the mount

	slots     int                // that the table of marks may have; 0: markSlots
	leastRun  int64              // bytes of a run of dead records that are worth punching; 0: punchLeast
	leastDead int64              // bytes in the pack that grows that are worth sealing it early; 0: sealLeast
	at        func(place string) // called in places that have a name
}

const (
	markSlots  = 32 << 20
	nodesMax   = 12 << 20 // seen nodes that are remembered
	sweepRows  = 512      // rows deleted, or moved, in one commit
	punchLeast = 64 << 10
	sealLeast  = 1 << 20
	rowWork    = 256 // bytes that a row counts for when it comes to rest
	tellEvery  = 200 * time.Millisecond
)

// collecting is what all garbage collections of a tree share.
type collecting struct {
	run sync.Mutex // held while one is at work
	// packs is held while a pack is looked through and changed, and by whoever makes a row lead to a record that lay there before.
	packs sync.Mutex

	settled atomic.Uint64 // how often one was about to take bytes away that rows had led to
}

// GC collects garbage. One runs at a time (KindBusy). It may be stopped by the context at any moment; what it has done by then the report tells,
// which comes with an error as well. It errors with what the store reports; what a disk refuses about single packs is in the report.
func (t *Tree) GC(ctx context.Context, opts GCOptions, progress func(Progress)) (GCReport, error) {
	const op = "collect garbage"
	h := &t.past
	if !opts.DryRun {
		if err := t.writable(op); err != nil {
			return GCReport{}, err
		}
	}
	if !h.gc.run.TryLock() {
		return GCReport{}, &sharefs.Error{Op: op, Kind: sharefs.KindBusy, Detail: "one is at work already"}
	}
	defer h.gc.run.Unlock()
	c := newCollector(h, ctx, opts, progress)
	defer c.release()
	if !opts.DryRun {
		back, low := t.reserve.lend()
		defer back()
		c.low = low
	}
	err := failed(op, c.collect())
	c.report.TookMS = time.Since(c.report.Began).Milliseconds()
	return c.report, err
}

// collector is a garbage collection at work.
type collector struct {
	h      *history
	ctx    context.Context
	opts   GCOptions
	tell   func(Progress)
	report GCReport
	pace   pacer
	told   time.Time
	stage  string

	// The range of names that is marked and swept at present: those whose first common bits are the ones of lo.
	lo     uint64
	common uint
	marks  idSet
	nodes  idSet // fingerprint and level of nodes that were read
	hidden bool  // a manifest could not be read

	doomed []chunkRow // of the sweep, to be deleted next
	uses   map[pack.ID]*packUse
	half   []pack.Info // packs to be rewritten
	full   bool        // the disk has no room for copies
	low    bool        // it was as good as full at the beginning

	short   []pack.Info // packs whose index does not list as many records as rows led to
	counted bool        // those were counted again
}

// chunkRow is a row of the space chunk.
type chunkRow struct {
	id  sharefs.ChunkID
	loc pack.Loc
}

// packUse is what rows lead to in a pack.
type packUse struct {
	records int
	bytes   int64
}

func newCollector(h *history, ctx context.Context, opts GCOptions, progress func(Progress)) *collector {
	if opts.slots == 0 {
		opts.slots = markSlots
	}
	if opts.leastRun == 0 {
		opts.leastRun = punchLeast
	}
	if opts.leastDead == 0 {
		opts.leastDead = sealLeast
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	c := &collector{h: h, ctx: ctx, opts: opts, tell: progress, uses: map[pack.ID]*packUse{}}
	c.report.Began, c.report.DryRun = time.Now(), opts.DryRun
	c.pace.begin(h.t)
	if opts.Hurry || opts.DryRun {
		c.pace.hurry()
	}
	return c
}

func (c *collector) release() {
	c.marks.release()
	c.nodes.release()
}

func (c *collector) collect() error {
	h := c.h
	if err := c.going(); err != nil {
		return err
	}
	if !c.opts.DryRun {
		if err := h.packs.Recover(); err != nil && !noRoom(err) {
			return err
		}
	}
	before, err := c.measure()
	if err != nil {
		return err
	}
	c.report.Packs, c.report.BytesBefore, c.report.BytesAfter = before.packs, before.held, before.held
	h.leases.begin()
	defer h.leases.finish()
	for more := true; more; more = c.nextRange() {
		if err := c.mark(); err != nil {
			return err
		}
		if err := c.sweep(); err != nil {
			return err
		}
	}
	if !c.opts.DryRun {
		c.release()
	}
	if err := c.settle(); err != nil {
		return err
	}
	err = c.packs()
	if c.opts.DryRun {
		c.report.BytesAfter = before.held - min(before.held, c.report.Freed)
		return err
	}
	if after, err := c.measure(); err == nil {
		c.report.BytesAfter = after.held
	}
	return err
}

// going says why the collection is to end before its time.
func (c *collector) going() error {
	if c.h.t.closed.Load() {
		return errStopped
	}
	return c.ctx.Err()
}

// place is going at a place with a name, where tests look in.
func (c *collector) place(name string) error {
	if c.opts.at != nil {
		c.opts.at(name)
	}
	return c.going()
}

// step is called after some bytes of work; done and total are in unit.
func (c *collector) step(stage string, done, total uint64, unit string, bytes int64) error {
	if now := time.Now(); stage != c.stage || now.Sub(c.told) > tellEvery {
		c.stage, c.told = stage, now
		c.tell(Progress{Stage: stage, Done: done, Total: total, Unit: unit})
	}
	c.pace.step(bytes)
	return c.going()
}

// measured is what all packs come to.
type measured struct {
	packs int
	held  uint64
}

func (c *collector) measure() (m measured, err error) {
	err = c.h.packs.Each(func(i pack.Info) bool {
		m.packs++
		m.held += uint64(i.Held)
		return true
	})
	return m, err
}

// settle makes it durable that rows are gone.
func (c *collector) settle() error {
	if err := c.place("swept"); err != nil || c.opts.DryRun {
		return err
	}
	if err := c.h.t.db.Sync(); err != nil {
		return failed("sync the journal", err)
	}
	c.h.gc.settled.Add(1)
	if hook := c.h.t.beforeSweep; hook != nil {
		if err := hook(); err != nil {
			return err
		}
	}
	return c.place("settled")
}

// use notes that a row leads to a record.
func (c *collector) use(loc *pack.Loc) {
	u := c.uses[loc.Pack]
	if u == nil {
		u = &packUse{}
		c.uses[loc.Pack] = u
	}
	u.records++
	u.bytes += loc.Len()
}
