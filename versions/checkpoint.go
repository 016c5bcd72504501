package versions

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/versions/kv"
	"sharefs/versions/pack"
)

// checkpoints keep all that meta.db holds a second time, so that it can be made anew when it is lost (rebuild.go). In the directory
// checkpoints/ of the store lie two stores of packs, sealed with the key of the others:
//
//	rows/     exports: every row of every space with its past, a generation at a time
//	changes/  the archive: every commit since the oldest export began, copied from the journal behind those who commit
//
// The newest complete export and the changes since it began are the tree as it is, but for the last [Config.ArchiveDelay]. While the journal is
// there as well nothing is missing: a segment of it goes only when what is in it has been copied and synced. Left out are the spaces
// chunk and extent, which follow from the indexes of the packs.
//
// When the archive has outgrown the export a new generation is begun, so that both together are at most a few times as long as an export, and as
// much is written for exports as for the archive. The old generation goes when the new one is complete, synced and was read back.
//
// Checkpoints give way: where the disk has no room for them, or fails, the mount goes on; what waits for the archive in the journal
// is let go beyond maxWaiting; and when there is room again a new generation begins. Until it is complete the old one is kept,
// though changes are missing behind it. The status says so.
//
// Files are only ever appended to, and sealed ones never change: they can be copied to another place one by one ([Tree.Checkpoints]).
type checkpoints struct {
	t             *Tree
	rows, changes *pack.Store
	wake          chan struct{} // 1 deep: segments of the journal wait
	news          chan struct{} // 1 deep: there is something to copy, for who rests
	resting       atomic.Bool   // there was nothing left to do
	delay         time.Duration
	turns         atomic.Uint64 // how often it has looked, for tests

	work    sync.Mutex            // held by whoever archives, exports or seals; guards what follows; no other lock may be held when it is taken
	files   map[pack.ID]*contents // of changes, but for those that have nothing whole in them
	exports map[pack.ID]*contents // likewise of rows
	arc     *kv.Archive           // nil: the chain of changes is broken, and has to begin anew
	copied  uint64                // the last commit whose copy survives the loss of power; of an open chain
	given   uint64                // packs of changes given up when it was looked at last
	whole   generation            // the newest that is complete; number 0: none
	gap     bool                  // changes behind it are missing
	going   *exporting            // nil: none is being made
	after   time.Time             // no export is begun before
	putOff  error                 // why
	body    []byte                // of the record that is being made
	part    []byte

	room    func() int64 // bytes of the disk that they may take; tests replace it
	rebuilt rebuilt      // what a start behind a rebuild did; see rebuild_finish.go

	mu    sync.Mutex // guards what follows
	stats CheckpointStats

	copiedBytes, exportBytes atomic.Uint64
}

// contents is what a pack of a checkpoint has in it.
type contents struct {
	first, last uint64 // commits, of changes; generations, of rows
	bytes       int64  // of records
}

// generation is a complete export.
type generation struct {
	number uint64
	begin  kv.Mark
	end    exportEnd
	bytes  int64 // of its records
	at     sharefs.HLC
}

// CheckpointStats tells how the checkpoints stand.
type CheckpointStats struct {
	Generation    uint64 `json:"generation"`               // the newest complete export; 0: there is none
	Rows          uint64 `json:"rows"`                     // in it
	ExportBytes   int64  `json:"export_bytes"`             // that it takes
	Exporting     uint64 `json:"exporting_rows,omitempty"` // rows of the next one so far
	Archived      uint64 `json:"archived_commit"`          // the last commit whose copy survives the loss of power
	LagCommits    uint64 `json:"lag_commits"`              // that survive the loss of power in the journal and are not copied yet
	ArchiveBytes  int64  `json:"archive_bytes"`            // that the changes take
	Broken        bool   `json:"broken,omitempty"`         // changes are missing behind the export: the next one closes the gap
	LastError     string `json:"last_error,omitempty"`     // why it does not get on at present
	CopiedBytes   uint64 `json:"copied_bytes"`             // since the start, of changes
	ExportedBytes uint64 `json:"exported_bytes"`           // since the start, of exports
}

// Bounds of checkpoints.
const (
	archiveDelay      = 5 * time.Second // default of Config.ArchiveDelay
	changesTarget     = 4 << 20         // bytes at which a pack of changes is sealed: what a start reads through
	exportTarget      = 32 << 20
	changesBody       = 512 << 10 // plain bytes in a record
	exportBody        = 512 << 10
	archivePiece      = 4 << 20   // bytes of the journal copied at a time
	leastArchive      = 16 << 20  // bytes of changes before a new export is worth its while
	maxWaiting        = 128 << 20 // bytes of the journal that may wait for the archive
	leftByCheckpoints = 256 << 20 // bytes of the disk that they leave free, or a sixteenth of it
	exportAgain       = time.Minute
	exportRests       = 3 // times as long as a step of an export took
	longestExport     = 50 * time.Millisecond
)

// uncopied are the spaces whose rows follow from the packs.
var uncopied = []uint8{spaceChunk, spaceExtent}

// open opens the stores and looks through them. It comes before the rows can be read.
func (c *checkpoints) open(t *Tree) (err error) {
	c.t = t
	c.wake, c.news = make(chan struct{}, 1), make(chan struct{}, 1)
	c.delay = t.cfg.ArchiveDelay
	if c.delay <= 0 {
		c.delay = archiveDelay
	}
	c.room = c.available
	disk := t.cfg.Checkpoints
	if disk == nil {
		disk = checkpointDirs(t.cfg.Dir, t.cfg.ReadOnly)
	}
	if c.rows, c.changes, err = openCheckpoints(disk, t.cfg, t.keys); err != nil {
		return err
	}
	c.files, c.exports = map[pack.ID]*contents{}, map[pack.ID]*contents{}
	if t.cfg.ReadOnly {
		return nil
	}
	if err := c.look(); err != nil { // a mount does not need them
		t.log.Error("the checkpoint cannot be read, and another one is made", "err", err)
		c.whole, c.copied, c.files, c.exports = generation{}, 0, map[pack.ID]*contents{}, map[pack.ID]*contents{}
	}
	return nil
}

// checkpointDirs returns the disks of the parts of a store's checkpoints. Where a directory cannot be made the first record will not be either, and
// the store opens nevertheless.
func checkpointDirs(store string, readOnly bool) func(part string) (pack.FS, error) {
	return func(part string) (pack.FS, error) {
		above := filepath.Join(store, "checkpoints")
		dir := filepath.Join(above, part)
		if _, err := os.Lstat(dir); err != nil && !readOnly && os.MkdirAll(dir, 0o700) == nil {
			for _, d := range []string{store, above} {
				if err := pack.Dir(d).SyncDir("."); err != nil {
					return nil, failed("make the directory of checkpoints", err)
				}
			}
		}
		return pack.Dir(dir), nil
	}
}

// openCheckpoints opens both stores of packs.
func openCheckpoints(disk func(part string) (pack.FS, error), cfg Config, keys *sharedKeys) (rows, changes *pack.Store, err error) {
	open := func(part string, target int64) (*pack.Store, error) {
		d, err := disk(part)
		if err != nil {
			return nil, err
		}
		return pack.Open(keys.packs(pack.Config{FS: d, Target: target, Clock: cfg.Clock, ReadOnly: cfg.ReadOnly}))
	}
	if rows, err = open("rows", exportTarget); err != nil {
		return nil, nil, err
	}
	if changes, err = open("changes", changesTarget); err != nil {
		return nil, nil, errors.Join(err, rows.Close())
	}
	return rows, changes, nil
}

// stores returns both stores of packs.
func (c *checkpoints) stores() []*pack.Store { return []*pack.Store{c.rows, c.changes} }

// look finds out what is there: how far the archive goes and which export is complete.
func (c *checkpoints) look() error {
	var err error
	if c.files, err = catalogue(c.changes, func(r recordID) (first, last uint64, ok bool) { return r.a, r.b, r.kind == recordChanges }); err != nil {
		return err
	}
	if c.exports, err = catalogue(c.rows, func(r recordID) (first, last uint64, ok bool) { return r.a, r.a, r.kind != recordChanges }); err != nil {
		return err
	}
	all, err := readGenerations(c.rows)
	if err != nil {
		return err
	}
	hurt := false
	if n := len(all); n > 0 {
		e := &all[n-1]
		c.whole, hurt = e.generation, len(e.damage) > 0 || uint64(len(e.parts)) != e.end.parts+2
	}
	c.copied = c.whole.begin.Applied
	for _, f := range c.files {
		c.copied = max(c.copied, f.last)
	}
	changes, err := readChangeList(c.changes)
	if err != nil {
		return err
	}
	c.gap = hurt || len(changes.gaps(c.whole.begin.Applied, c.copied)) > 0
	return nil
}

// catalogue reads the indexes of all packs of a store.
func catalogue(s *pack.Store, what func(recordID) (first, last uint64, ok bool)) (map[pack.ID]*contents, error) {
	all := map[pack.ID]*contents{}
	ids, err := s.Packs()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		records, err := s.Index(id)
		if sharefs.KindOf(err) == sharefs.KindCorrupt || errors.Is(err, sharefs.KindAccess) {
			continue // a rebuild names it
		}
		if err != nil {
			return nil, err
		}
		var f *contents
		for _, r := range records {
			rid, ok := parseRecordID(r.ID)
			if !ok || r.Type != pack.TypeRows {
				continue
			}
			first, last, ok := what(rid)
			if !ok {
				continue
			}
			if f == nil {
				f = &contents{first: first}
				all[id] = f
			}
			f.note(first, last, r.Loc.Len())
		}
	}
	return all, nil
}

func (f *contents) note(first, last uint64, bytes int64) {
	f.first, f.last = min(f.first, first), max(f.last, last)
	f.bytes += bytes
}

// start begins to follow the journal when the rows can be read. It refuses a store whose journal has lost what the archive knows: going on
// would give numbers of commits out twice.
func (c *checkpoints) start() error {
	if last := c.t.db.Stats().Seq; c.copied > last {
		return &sharefs.Error{Op: "open the store", Path: c.t.cfg.Dir, Kind: sharefs.KindCorrupt, Detail: "meta.db and journal/ end before what checkpoints/ holds: " +
			"a part of them is lost. sharefs rebuild --store DIR brings it back"}
	}
	// It may be behind a rebuild, or somebody who makes no checkpoints had the store.
	_, err := c.t.db.Changes(c.copied).Next(1, func(uint64, sharefs.HLC, []byte) error { return nil })
	if c.whole.number > 0 && err == nil {
		c.follow(c.copied)
	} else {
		c.breakChain()
	}
	c.update()
	return nil
}

// follow has the archive go on behind a commit.
func (c *checkpoints) follow(after uint64) {
	c.copied = after
	c.arc = c.t.db.Changes(after, uncopied...)
	c.given = c.changes.Stats().GivenUp
}

// applied is told when segments of the journal could go.
func (c *checkpoints) applied() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// synced is told when there may be more to copy.
func (c *checkpoints) synced() {
	if !c.resting.Load() {
		return // it looks by itself
	}
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// rests reports whether there is nothing to do until more commits survive the loss of power.
func (c *checkpoints) rests() bool {
	c.work.Lock()
	defer c.work.Unlock()
	return c.going == nil && !c.due() && c.arc.Seq() >= c.t.db.Synced()
}

// run copies what has come together, and sees to exports, until the tree is closed. While nothing changes it does not wake.
func (c *checkpoints) run() {
	tick := time.NewTimer(0) // a store without a checkpoint gets its first at once
	defer tick.Stop()
	said := "" // in the log
	for {
		select {
		case <-c.t.stop:
			return
		case <-c.wake:
		case <-c.news:
			c.resting.Store(false)
			tick.Reset(c.delay) // more will follow
			continue
		case <-tick.C:
		}
		c.turns.Add(1)
		err := c.turn()
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != said && err != nil {
			c.t.log.Warn("the checkpoint does not get on", "err", err)
		}
		said = text
		c.resting.Store(err == nil) // before it looks, so that nothing is missed
		if err == nil && c.rests() {
			tick.Stop()
			continue
		}
		c.resting.Store(false)
		tick.Reset(c.delay)
	}
}

// turn copies what the journal has and makes an export where one is due.
func (c *checkpoints) turn() (err error) {
	defer func() { c.tell(err) }()
	if err := c.archive(); err != nil {
		return err
	}
	for last := time.Now(); ; {
		began := time.Now()
		more, err := c.export()
		if err == nil && !more {
			c.work.Lock()
			err = c.putOff
			c.work.Unlock()
		}
		if err != nil || !more {
			return err
		}
		if !c.t.sleep(min(exportRests*time.Since(began), longestExport)) {
			return nil
		}
		if len(c.wake) > 0 || time.Since(last) > c.delay {
			select {
			case <-c.wake:
			default:
			}
			last = time.Now()
			if err := c.archive(); err != nil {
				return err
			}
		}
	}
}

// finish copies what is left when the tree is being closed and nothing changes any more. A checkpoint that fails does not keep a tree from
// being closed.
func (c *checkpoints) finish() {
	c.work.Lock()
	broken := c.arc == nil
	c.work.Unlock()
	if broken {
		return
	}
	if err := c.flush(); err != nil {
		c.t.log.Warn("the last changes are not in the checkpoint", "err", err)
	}
}

// flush makes a copy of everything acknowledged so far survive the loss of power.
func (c *checkpoints) flush() error {
	if err := c.t.db.Sync(); err != nil {
		return failed("sync the journal", err)
	}
	err := c.archive()
	c.tell(err)
	return err
}

// sweep is the hook by which a garbage collection sees to it that a rebuild finds no rows of what it takes away. If there is no room for that the
// collection goes on nevertheless, for it makes some: a rebuild may then list versions whose content is gone.
func (c *checkpoints) sweep() error {
	if err := c.flush(); err != nil {
		c.t.log.Warn("the checkpoint is behind the garbage collection", "err", err)
	}
	return nil
}

// close closes the stores.
func (c *checkpoints) close() error {
	var err error
	for _, s := range c.stores() {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	if err != nil && !c.t.cfg.ReadOnly {
		c.t.log.Warn("the checkpoint could not be closed", "err", err)
		return nil
	}
	return err
}

// tell updates what the status shows; c.work may be held or not, but nobody else is at work.
func (c *checkpoints) tell(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.LastError = ""
	if err != nil {
		c.stats.LastError = err.Error()
	}
}

// update writes down how things stand; c.work is held.
func (c *checkpoints) update() {
	s := CheckpointStats{Generation: c.whole.number, Rows: c.whole.end.rows, ExportBytes: c.whole.bytes, Archived: c.copied, Broken: c.whole.number > 0 && (c.gap || c.arc == nil)}
	if c.going != nil {
		s.Exporting = c.going.export.Rows()
	}
	for _, f := range c.files {
		s.ArchiveBytes += f.bytes
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.LastError = c.stats.LastError
	c.stats = s
}

// CheckpointStats returns how the checkpoints stand. It does not wait.
func (t *Tree) CheckpointStats() CheckpointStats {
	c := &t.checkpoint
	c.mu.Lock()
	s := c.stats
	c.mu.Unlock()
	if t.db != nil && !t.cfg.ReadOnly {
		if synced := t.db.Synced(); synced > s.Archived {
			s.LagCommits = synced - s.Archived
		}
	}
	s.CopiedBytes, s.ExportedBytes = c.copiedBytes.Load(), c.exportBytes.Load()
	return s
}

// available is room in earnest.
func (c *checkpoints) available() int64 {
	s, err := statfs(c.t.cfg.Dir)
	if err != nil {
		return 0
	}
	return int64(s.Bavail)*s.Bsize - min(int64(s.Blocks/16)*s.Bsize, leftByCheckpoints)
}
