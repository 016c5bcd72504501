package versions

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/versions/pack"
	"sharefs/versions/tier/near"
	"sharefs/versions/writers"
)

// history is the past of regular files. A version goes through these places:
//
//	               settled                       captured
//	live content ──────────▶ placeLive ──────────────────────────────▶ placeKept
//	                             │ beforeChange                            ▲
//	                             └────────────▶ placeAside ───captured─────┘
//
// A version begins when a file that changed has come to rest (settled): its content is the live backing file as it stands, and costs
// nothing. The capture brings it into packs behind (capture.go). If the file is to be changed before that is done, the content is
// set aside first (aside.go), and only then may the change begin; so what a row points to never changes. The backing file of an
// inode that loses its last name is kept until it is captured.
type history struct {
	t      *Tree
	packs  *pack.Store
	leases leases
	gc     collecting
	aside  asideDir
	refs   references
	costs  costs
	pace   pacer
	edge   edge
	filled fillings

	gatherFlush int64         // as the constant; 0 stands for that
	gatherTime  time.Duration // likewise

	heldCount atomic.Uint64 // names clones that live while they are read
	spoilt    spoilt        // chunks that do not read
	cache     *near.FS      // packs that a bucket alone has; nil: the packs are on another disk than that of the store
	ownCache  bool
	scrubber  scrubber

	wake chan struct{} // 1 deep: there may be something to capture
	// quicken, 1 deep, wakes the capture from a rest: there is something to capture at once.
	quicken chan struct{}
	passed  atomic.Bool // the capture passed a version over whose file was not at rest

	capturing sync.Mutex // held by whoever takes from the queue, and guards what follows; no other lock may be held when it is taken
	tools     *tools
	cursor    versionID               // where the queue goes on
	retry     map[versionID]time.Time // what could not be read is tried again then
	untidy    []versionID             // captured, and what they do not need any more is still there
	referred  map[versionID]string    // captured, and there is a clone that is to be their reference, with this mark

	mu          sync.Mutex // guards all below; taken after Tree.mu
	authors     []sharefs.PeerID
	self        uint64                 // this host's place among the authors, from 1
	unsure      map[sharefs.Ino]bool   // adopted at start: whether the content changed is to be found out by comparing
	inHand      beingRead              // by the capture, of the live files
	urgent      []versionID            // to be captured before all others: large, and the disk cannot share blocks
	quick       []versionID            // to be captured at once, even before those; see edge
	alike       map[versionID]alike    // versions to be compared with the one before when they are captured
	unsafe      map[sharefs.Ino]bool   // captured, and the row that says so is not yet synced
	foreign     map[sharefs.Ino]uint64 // holding another host's version, to the commit that says so, as far as that may not be synced
	foreignMost int                    // how many there may be before those are dropped that are
	vacated     map[dentID]bearer      // who bore names that are vacant now, as far as that is not on disk yet; see lineage.go
	changes     changes                // where versions differ from those before
	timed       []timedJob             // files of which a timed version is wanted
	oldest      time.Time              // when the oldest of what waits for capture was put into the queue; zero: nothing waits
	lastErr     error                  // of the capture, until it gets on
	// lastLost names the file of which a version was lost last.
	lastLost string
	naming   atomic.Bool // a search for that name is under way

	adopts    map[sharefs.Ino]*adoption // files into which contents of other hosts are being put (inplace.go); guarded by mu
	endings   map[sharefs.Ino]*ending   // of those, which somebody waits for; guarded by mu
	adoptions atomic.Int64              // how many

	homes   map[sharefs.Ino]home // of databases and their logs (sqlite_find.go); guarded by mu
	holding *turns
	taking  taking

	counts historyCounts
}

// versionID names one version of an inode.
type versionID struct {
	ino sharefs.Ino
	own uint64
}

// historyCounts counts what happened since the start.
type historyCounts struct {
	settled   atomic.Uint64 // versions begun
	captured  atomic.Uint64
	bytes     atomic.Uint64 // read by the capture
	fresh     atomic.Uint64 // of these, bytes that no pack had
	byRanges  atomic.Uint64 // versions of large files captured in part; see capture_part.go
	byExtents atomic.Uint64
	byNames   atomic.Uint64
	timed     atomic.Uint64
	same      atomic.Uint64 // versions that turned out to be the one before
	reused    atomic.Uint64 // bytes of versions that were taken over from an earlier one
	compared  atomic.Uint64 // bytes of versions of which the name was found to be that in an earlier one
	joined    atomic.Uint64 // closes that made no version because the file was opened for writing again within the settle time
	dropped   atomic.Uint64 // files that were removed or replaced before they settled
	moved     atomic.Uint64 // set aside by a move
	copied    atomic.Uint64 // set aside by a copy
	cloned    atomic.Uint64 // set aside by sharing blocks
	tooLarge  atomic.Uint64 // changed before they were captured, and the disk had no room for a copy
	lost      atomic.Uint64 // settled content that was gone when it was to be captured
	continued atomic.Uint64 // inodes that continue another one's past
}

// open readies the past of a tree whose rows can be read already.
func (h *history) open(t *Tree) error {
	h.t, h.edge.h = t, h
	h.quicken = make(chan struct{}, 1)
	h.leases.open()
	h.holding = newTurns()
	h.tools = h.newTools()
	h.tools.behind = true
	h.retry, h.referred = map[versionID]time.Time{}, map[versionID]string{}
	h.refs.kept = map[sharefs.Ino]*reference{}
	h.wake = make(chan struct{}, 1)
	h.unsure, h.unsafe = map[sharefs.Ino]bool{}, map[sharefs.Ino]bool{}
	h.alike = map[versionID]alike{}
	h.foreign = map[sharefs.Ino]uint64{}
	h.vacated = map[dentID]bearer{}
	disk, err := h.openDisk()
	if err != nil {
		return err
	}
	h.packs, err = pack.Open(t.keys.packs(pack.Config{FS: disk, Target: t.cfg.packSize, Clock: t.clock, ReadOnly: t.cfg.ReadOnly}))
	if err != nil {
		return err
	}
	if err := h.loadAuthors(); err != nil {
		return err
	}
	if err := h.aside.open(t.cfg.Dir, t.cfg.ReadOnly); err != nil {
		return err
	}
	if t.cfg.ReadOnly {
		return nil
	}
	h.refs.on = h.aside.clones && extentsTell(h.aside.fd)
	if err := h.recoverAside(); err != nil {
		return err
	}
	t.hooks.named = h.named
	t.hooks.beforeChange = h.beforeChange
	t.hooks.lost = h.lost
	t.hooks.keepOrphan = h.keepOrphan
	t.hooks.reaped = h.reaped
	t.hooks.settled = h.settled
	t.hooks.stillHeld = h.stillHeld
	t.hooks.marked = h.marked
	h.pace.begin(t)
	h.pace.hurried, h.pace.waits = h.quicken, h.hurries
	h.roused(time.Now())
	return nil
}

// close closes the packs.
func (h *history) close() error {
	h.gc.run.Lock() // one at work gives up when it sees that the tree is closed
	defer h.gc.run.Unlock()
	var err error
	if h.packs != nil {
		err = h.packs.Close()
	}
	if h.ownCache {
		h.cache.Close()
	}
	h.aside.close()
	return err
}

// loadAuthors reads the list of authors, which versions refer to by their place in it, and enters this host.
func (h *history) loadAuthors() error {
	b, _, err := h.t.db.Get(spaceGlobal, globalAuthors)
	if err != nil {
		return failed("open the store", err)
	}
	if len(b)%len(sharefs.PeerID{}) != 0 {
		return corrupt("the list of authors", 0)
	}
	for rest := b; len(rest) > 0; rest = rest[len(sharefs.PeerID{}):] {
		h.authors = append(h.authors, sharefs.PeerID(rest))
		if h.authors[len(h.authors)-1] == h.t.cfg.Peer {
			h.self = uint64(len(h.authors))
		}
	}
	if h.self > 0 || h.t.cfg.Peer.IsZero() || h.t.cfg.ReadOnly {
		return nil
	}
	t := h.t
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.b.Put(spaceGlobal, globalAuthors, append(append([]byte(nil), b...), t.cfg.Peer[:]...))
	if err := x.commit(); err != nil {
		return err
	}
	h.authors = append(h.authors, t.cfg.Peer)
	h.self = uint64(len(h.authors))
	return nil
}

// author returns who stands at a place of the list, counted from 1.
func (h *history) author(i uint64) sharefs.PeerID {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i == 0 || i > uint64(len(h.authors)) {
		return sharefs.PeerID{}
	}
	return h.authors[i-1]
}

// settled is the hook by which versions begin: the file is at rest, with its content and Tree.mu held. What it holds becomes a version if it has
// changed, and also if its newest version does not say what it holds: one that is timed or lost.
func (h *history) settled(x *tx, f *file, r *row, ev writers.Event) error {
	if a := h.standing(r.ino); a != nil {
		return h.conclude(x, f, r, ev, a)
	}
	if r.nlink == 0 {
		x.t.ops.rested(r.ino, 0)
		return nil // nobody can come to it by a name, unless it gets one (linked)
	}
	if !ev.Changed {
		last, err := newestVersion(x.t.db, r.ino, noLimit)
		if err != nil || last == nil || !last.timed && last.place != placeLost {
			h.mu.Lock()
			delete(h.unsure, r.ino) // it is what it was: the next change is one as any other
			h.mu.Unlock()
			x.t.ops.rested(r.ino, 0)
			return err
		}
	}
	v, err := h.begin(x, r, ev.Stamp, ev.At, "")
	if err != nil {
		return err
	}
	x.t.ops.rested(r.ino, v.at)
	f.mu.Lock()
	redated := f.redated == ev.Stamp
	f.mu.Unlock()
	if id := (versionID{v.ino, v.own}); redated {
		x.after(func(uint64) {
			h.mu.Lock()
			h.alike[id] = alikeButTimes
			h.mu.Unlock()
		})
	}
	return nil
}

// linked begins a version of a file that came to rest before it got a name (O_TMPFILE). Tree.mu is held.
func (h *history) linked(x *tx, r *row) error {
	if o, ok := x.t.orphans.get(r.ino); !ok || !o.linkable {
		return nil
	}
	f := x.t.files.pin(r.ino)
	defer x.t.files.unpin(f)
	f.mu.Lock()
	hot := f.hot
	f.mu.Unlock()
	// Waiting for the content would be against the order of locks. Whoever holds it is about to write, and a version begins after that.
	if hot || !f.content.TryLock() {
		return nil
	}
	defer f.content.Unlock()
	st, err := x.t.statBacking(r.ino)
	if err != nil {
		return err
	}
	_, err = h.begin(x, r, stampOf(&st), time.Now(), "")
	return err
}

// begin makes a change write a version whose content is the live backing file as it stands.
func (h *history) begin(x *tx, r *row, stamp writers.Stamp, closed time.Time, note string) (*version, error) {
	last, err := newestVersion(x.t.db, r.ino, noLimit)
	if err != nil {
		return nil, err
	}
	v := &version{
		ino: r.ino, own: 1, place: placeLive, file: r.id, mode: r.mode, uid: r.uid, gid: r.gid, author: h.self, note: note,
		at: max(x.t.ops.within(r.ino, h.reading(closed)), sharefs.HLC(x.t.seen.Load())+1),
	}
	v.setStamp(stamp)
	if last == nil {
		if err := h.after(x, v); err != nil {
			return nil, err
		}
	} else {
		v.own = last.own + 1
		v.at = max(v.at, last.at+1)
		if last.place == placeLive {
			// What it stood for changed while no daemon looked, by the loss of power or a writer that outlived it: it never came to rest.
			v.own = last.own
			if note == "" {
				v.note = last.note
			}
		}
	}
	v.merged = x.t.clock.Next()
	if told, err := x.t.row(r.ino); err == nil && told.size == r.size && told.blocks == r.blocks && told.mtime == r.mtime && told.ctime == r.ctime {
		v.merged = mergedBefore
	}
	v.put(&x.b)
	x.pass(max(v.merged, v.at))
	id := versionID{v.ino, v.own}
	x.after(func(uint64) {
		h.counts.settled.Add(1)
		h.noteChanges(id)
		quick := h.edge.began(v.ino, v.size, time.Now())
		h.mu.Lock()
		if h.unsure[id.ino] || last != nil && last.timed {
			h.alike[id] = mayBeAlike
		}
		delete(h.unsure, id.ino)
		if v.size >= urgentSize && !h.aside.clones && len(h.urgent) < maxUrgent {
			h.urgent = append(h.urgent, id)
		}
		if quick = quick && len(h.quick) < maxUrgent; quick {
			h.quick = append(h.quick, id)
		}
		h.mu.Unlock()
		if quick {
			select {
			case h.quicken <- struct{}{}:
			default:
			}
		}
		h.roused(time.Now())
	})
	return v, nil
}

// after gives the first version of an inode a time after that of the last one that it continues.
func (h *history) after(x *tx, v *version) error {
	l, _, err := x.lineage(v.ino)
	if err != nil || l.pred == 0 {
		return err
	}
	before, err := loadVersion(x.t.db, l.pred, l.through)
	if errors.Is(err, sharefs.KindNotExist) {
		return nil
	}
	if err == nil {
		v.at = max(v.at, before.at+1)
	}
	return err
}

// reading returns the clock reading of a moment of this process's time: the first of its millisecond, so that no reading taken after the moment lies before
// it. While the clock runs ahead of the host's, which was set back, the moment cannot be told, and the present reading stands for it.
func (h *history) reading(at time.Time) sharefs.HLC {
	clock := h.t.clock
	now, wall := clock.Next(), time.Now()
	host, this := wall, sharefs.HLCAt(wall) // a millisecond may have begun since the clock was read, so what is counted back from is this one
	if clock.Now != nil {
		host, this = clock.Now(), now&^0xffff
	}
	if now > sharefs.HLCAt(host)|0xffff {
		return now
	}
	into := time.Duration(wall.Nanosecond()) % time.Millisecond
	back := sharefs.HLC(max(0, wall.Sub(at)-into+time.Millisecond-1)/time.Millisecond) << 16
	return min(now, this-min(this, back))
}

// marked is the hook that tells what the content of a file was when it was last dealt with.
func (h *history) marked(ino sharefs.Ino) writers.Stamp {
	v, err := newestVersion(h.t.db, ino, noLimit)
	if err != nil || v == nil || v.place == placeLost || v.timed {
		return writers.Stamp{}
	}
	h.mu.Lock()
	h.unsure[ino] = true
	h.mu.Unlock()
	return v.stamp()
}

// lost is the hook for the loss of an inode's last name.
func (h *history) lost(x *tx, r *row) error {
	h.vacate(x, r.ino, true)
	h.edge.gone(r.ino, x.slots, time.Now())
	if err := h.separate(x, r); err != nil {
		return err
	}
	if f := x.t.files.find(r.ino); f != nil {
		f.mu.Lock()
		if f.hot {
			h.counts.dropped.Add(1)
		}
		f.mu.Unlock()
		x.t.files.unpin(f)
	}
	return nil
}

// keepOrphan is the hook that keeps the backing file of an inode without a name while a version's content is there, or may be after
// the power failed.
func (h *history) keepOrphan(ino sharefs.Ino) bool {
	h.mu.Lock()
	unsafe := h.unsafe[ino] || h.foreign[ino] > h.t.db.Synced()
	h.mu.Unlock()
	if unsafe {
		return true
	}
	v, err := newestVersion(h.t.db, ino, noLimit)
	return err != nil || v != nil && v.place == placeLive
}

// reaped is the hook for an inode that is gone for good. Its versions stay; where it has none nobody asks for its lineage any more, for
// whoever continues it continues its predecessor.
func (h *history) reaped(x *tx, ino sharefs.Ino) {
	x.t.ops.rested(ino, 0)
	h.replaced(x, ino)
	x.after(func(uint64) { h.refs.forget(ino) })
	v, err := newestVersion(x.t.db, ino, noLimit)
	if err == nil && v == nil {
		x.b.Delete(spaceLineage, inoKey(ino))
	}
}

// roused tells the capture that there is something to do.
func (h *history) roused(now time.Time) {
	h.mu.Lock()
	if h.oldest.IsZero() {
		h.oldest = now
	}
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// HistoryStats counts versions since the tree was opened.
type HistoryStats struct {
	Settled       uint64 `json:"versions_begun"`
	Captured      uint64 `json:"captured"`
	CapturedBytes uint64 `json:"captured_bytes"`
	FreshBytes    uint64 `json:"captured_new_bytes"`    // that no pack held
	ReusedBytes   uint64 `json:"captured_reused_bytes"` // of large files, taken over from the version before
	ByRanges      uint64 `json:"captured_by_ranges"`    // versions of large files, by what told where they changed
	ByExtents     uint64 `json:"captured_by_extents"`
	ByNames       uint64 `json:"captured_by_names"`
	References    int    `json:"references"`       // clones that tell where large files change
	RefBytes      int64  `json:"references_bytes"` // what they could take at most
	Timed         uint64 `json:"timed"`
	Same          uint64 `json:"same_as_before"`
	Joined        uint64 `json:"joined_within_settle"`  // closes followed by another write-open within the settle time
	Dropped       uint64 `json:"dropped_within_settle"` // files removed or replaced before they settled
	Moved         uint64 `json:"set_aside_moved"`
	Copied        uint64 `json:"set_aside_copied"`
	Cloned        uint64 `json:"set_aside_cloned"`
	TooLarge      uint64 `json:"too_large"`
	Lost          uint64 `json:"lost"`
	Continued     uint64 `json:"continued_by_name"`
	Queue         int    `json:"queue"`        // versions that wait to be captured, at most QueueCounted are counted
	QueueBytes    uint64 `json:"queue_bytes"`  // of those
	OldestMS      int64  `json:"queue_age_ms"` // how long the queue has not been empty, milliseconds
	LastError     string `json:"last_error,omitempty"`
	LastLost      string `json:"last_lost,omitempty"` // the file of which a version was lost last

	Packs pack.Stats `json:"packs"`
	Scrub ScrubStats `json:"scrub"`
}

// QueueCounted is how far the queue is counted for [HistoryStats].
const QueueCounted = 1000

// HistoryStats returns the counts. It reads up to QueueCounted rows.
func (t *Tree) HistoryStats() HistoryStats {
	h := &t.past
	c := &h.counts
	s := HistoryStats{
		Settled: c.settled.Load(), Captured: c.captured.Load(), CapturedBytes: c.bytes.Load(), FreshBytes: c.fresh.Load(),
		Timed: c.timed.Load(), Same: c.same.Load(), Joined: c.joined.Load(), Dropped: c.dropped.Load(),
		Moved: c.moved.Load(), Copied: c.copied.Load(), Cloned: c.cloned.Load(), TooLarge: c.tooLarge.Load(), Lost: c.lost.Load(),
		ReusedBytes: c.reused.Load(), ByRanges: c.byRanges.Load(), ByExtents: c.byExtents.Load(), ByNames: c.byNames.Load(),
		Continued: c.continued.Load(), Packs: h.packs.Stats(), Scrub: h.scrubStats(),
	}
	s.References, s.RefBytes = h.refs.count()
	for _, id := range h.pending(versionID{}, endOfQueue, QueueCounted) {
		s.Queue++
		if v, err := loadVersion(t.db, id.ino, id.own); err == nil {
			s.QueueBytes += v.size
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.Queue > 0 && !h.oldest.IsZero() {
		s.OldestMS = time.Since(h.oldest).Milliseconds()
	}
	if h.lastErr != nil {
		s.LastError = h.lastErr.Error()
	}
	s.LastLost = h.lastLost
	return s
}

// timeOf and readingOf turn stat times into those of package time and the clock.
func timeOf(t sharefs.Time) time.Time { return time.Unix(t.Sec(), int64(t.Nsec())) }
