package versions

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sharefs"
	"sharefs/versions/kv"
	"sharefs/versions/pack"
)

// Fsck looks a store through while it is used, in these stages, one after the other:
//
//  1. names     inodes, names and extended attributes, as they were at the moment at which the check began (fsck_names.go)
//  2. live      backing files, marks, what waits to be removed (fsck_live.go)
//  3. packs     their headers and lengths; in a scrub every record: checksum, seal, and that its name is that of its content (fsck_packs.go)
//  4. chunks    the rows that lead to records (fsck_packs.go)
//  5. versions  their rows, their manifests, the queue of the capture, lineages (fsck_versions.go)
//  6. files     what is set aside, and what is no file of the store (fsck_files.go)
//  7. repair    if it is asked for (fsck_repair.go)
//  8. paths     of all that is concerned (fsck_paths.go)
//
// Nothing stands still for it. The first stage reads a view of the past, which does not change. All others read rows and files as they are, one
// after the other, and take what does not fit for a suspicion: each is looked at again in a way that what goes on beside cannot deceive, mostly with
// Tree.mu held for some microseconds. A chunk's row is changed before its old place is given up, so that a place that does not read is bad if the row
// says afterwards that the chunk is there still.
//
// Memory: 40 MB for inodes, whatever their number, two tables of 64 MB at most for what of chunks and manifests was seen (96 while one grows), 8 bytes for each
// record in a scrub (a TB in packs has about 20 million), and what is found, of which maxBad chunks are dealt with at a time.
type fsck struct {
	t    *Tree
	ctx  context.Context
	o    FsckOptions
	view kv.View // of the names
	sum  FsckReport

	progress func(Progress)
	told     time.Time

	packs  map[pack.ID]*packSeen
	bad    map[sharefs.ChunkID]*badChunk
	placed idSet   // fingerprints of chunks whose rows lead to a place: to look for each row anew costs a page of meta.db
	known  idSet   // of chunks and nodes that are whole, with all below them
	names  *namers // of the check's own goroutine

	mu sync.Mutex // guards findings while several goroutines read packs
}

// FsckOptions say what a check does.
type FsckOptions struct {
	Mode   FsckMode // FsckFast where it is empty
	Repair bool
	// Remote has a scrub read packs that the bucket alone has as well; otherwise their objects are looked for in a list of it.
	Remote bool
	// Files are the names in the store's directory that others keep there, beside those of this package.
	Files []string
}

// Fsck checks a store, online. It tells of progress at least once a second, where progress is not nil. An error means that the check could not be
// carried out, or that the context ended; the report has what was found until then.
func (t *Tree) Fsck(ctx context.Context, o FsckOptions, progress func(Progress)) (FsckReport, error) {
	if o.Mode == "" {
		o.Mode = FsckFast
	}
	if o.Mode != FsckFast && o.Mode != FsckScrub {
		return FsckReport{}, &sharefs.Error{Op: "fsck", Kind: sharefs.KindInvalid, Detail: fmt.Sprintf("there is no mode %q; fast and scrub are", o.Mode)}
	}
	if o.Repair {
		if err := t.writable("fsck"); err != nil {
			return FsckReport{}, err
		}
	}
	c := t.newFsck(ctx, o, progress)
	began := time.Now()
	err := c.run()
	c.known.release()
	c.placed.release()
	c.sum.TookMS = time.Since(began).Milliseconds()
	c.sum.settle()
	if err == nil {
		c.tell()
	}
	return c.sum, failed("fsck", err)
}

func (t *Tree) newFsck(ctx context.Context, o FsckOptions, progress func(Progress)) *fsck {
	if progress == nil {
		progress = func(Progress) {}
	}
	return &fsck{
		t: t, ctx: ctx, o: o, progress: progress, sum: FsckReport{Mode: o.Mode, Repair: o.Repair, Findings: []Finding{}},
		packs: map[pack.ID]*packSeen{}, bad: map[sharefs.ChunkID]*badChunk{},
	}
}

func (c *fsck) run() error {
	// Repairs and collections of garbage would each meet what the other one has begun.
	if c.o.Repair {
		if !c.t.past.gc.run.TryLock() {
			return &sharefs.Error{Op: "repair", Kind: sharefs.KindBusy, Detail: "garbage is being collected, or another repair is at work"}
		}
		defer c.t.past.gc.run.Unlock()
	}
	for _, stage := range []func() error{
		c.checkNames, c.checkLive, c.checkPacks, c.checkChunks, c.checkVersions, c.checkFiles, c.repair, c.name,
	} {
		if err := c.goOn(); err != nil {
			return err
		}
		if err := stage(); err != nil {
			return err
		}
	}
	return nil
}

// goOn says whether to go on.
func (c *fsck) goOn() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if c.t.closed.Load() {
		return errStopped
	}
	return nil
}

// stage tells that a stage begins.
func (c *fsck) stage(name, unit string, total uint64) {
	c.told = time.Time{}
	c.at(name, unit, 0, total)
}

// at tells how far a stage is, not more often than is of use.
func (c *fsck) at(name, unit string, done, total uint64) {
	if now := time.Now(); now.Sub(c.told) > 250*time.Millisecond {
		c.told = now
		c.progress(Progress{Stage: name, Done: done, Total: total, Unit: unit})
	}
}

// found adds a finding.
func (c *fsck) found(f Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sum.Findings) >= 2*MaxFindings {
		c.sum.settle()
	}
	c.sum.Findings = append(c.sum.Findings, f)
}

// wrong adds a finding about an inode.
func (c *fsck) wrong(kind string, severity Severity, ino sharefs.Ino, format string, args ...any) {
	c.found(Finding{Kind: kind, Severity: severity, Ino: ino, Where: fmt.Sprintf("inode %d", ino), Detail: fmt.Sprintf(format, args...)})
}

// locked does something with Tree.mu held, for a moment.
func (c *fsck) locked(fn func() error) error {
	c.t.mu.Lock()
	began := time.Now()
	err := fn()
	took := time.Since(began).Microseconds()
	c.t.mu.Unlock()
	c.sum.HoldUS = max(c.sum.HoldUS, took)
	return err
}

// tell puts what was found into the log, where that will be read who has no report.
func (c *fsck) tell() {
	for i := range c.sum.Findings {
		f := &c.sum.Findings[i]
		if f.Severity == SeverityNote || i >= loggedFindings {
			break
		}
		c.t.log.Error("fsck", "severity", string(f.Severity), "where", f.Where, "detail", f.Detail, "versions", len(f.Versions)+int(f.More), "paths", f.Paths, "repaired", f.Repaired)
	}
}

// loggedFindings bounds how many findings of one check the log is told of.
const loggedFindings = 100
