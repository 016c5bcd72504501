package versions

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/internal/retain"
	"sharefs/versions/kv"
)

// Retention makes the past thinner with age. Which instants stay is the business of package retain; here it is done:
//
//  1. plan     rules, moments with names and what was kept up to now give the instants that are kept from now on. They are written down and
//     made known before anything is removed, with Tree.mu held, so that no moment gets a name that is not kept
//  2. versions rows of the space version, in the order of their keys: one that held at no kept instant goes, in batches of one commit each
//  3. lineage  rows of inodes that are gone, with all versions that they led to
//  4. trash    what lies in it is shown as of the last kept instant at which it was there; what was there at none leaves it
//  5. names    states of rows of the versioned spaces (kv.DB.Prune)
//  6. instants boundaries of which no state is left
//
// A view asks after each read whether its moment is still kept (keptView): what was read before that is what the moment showed, for the instants are made
// known before the first row goes. A version whose follower goes and that stays itself notes when the follower began (version.until), so that it is not taken
// for what the file held later.
//
// It can be cut off at any moment: each step leaves every kept instant as it was. Where it was is written down now and then, and the next run goes on there
// and comes to what lay before in the end. Memory: some megabytes; with rules for paths some 100 bytes for each directory and 50 for each file that one of
// them matches; and 50 for each inode whose past a live file continues, as far as it counts for min_versions.

// RetainOptions says how history is to be thinned.
type RetainOptions struct {
	DryRun bool // look and count alone: nothing is changed
	Hurry  bool // do not make way for whoever uses the mount
	// Policy is what to go by; nil: that of the configuration.
	Policy *retain.Policy

	now sharefs.HLC        // what counts as now; 0: now
	at  func(place string) // called in places that have a name
}

// retention is what a tree knows of it.
type retention struct {
	run  sync.Mutex // held while one is at work
	kept atomic.Pointer[retain.Kept]

	mu   sync.Mutex // guards what follows
	last RetainStatus
}

// RetainStatus is what came of the last run that changed something, for the status of a mount.
type RetainStatus struct {
	Since    time.Time     `json:"since,omitzero"` // every moment from here on is kept; zero: all of them
	Instants int           `json:"instants"`       // kept before that
	Ended    time.Time     `json:"ended,omitzero"`
	Report   *RetainReport `json:"report,omitempty"`
	Error    string        `json:"error,omitempty"`
	Running  bool          `json:"running,omitempty"`
}

// globalRetain is the row of the space global that says which instants are kept.
var globalRetain = []byte("retain")

// retainRow is that row.
//
//	1 byte    format, 1
//	8 bytes   every instant from this one on is kept
//	8 bytes   when the last run that came to its end began
//	1 byte    the phase that a run was in which did not come to its end, 0 for none
//	uvarint   length of the key that it had come to, then the key
//	8 bytes   each: an instant before the first one that is kept, rising
//
// Instants are clock readings, big endian.
type retainRow struct {
	kept  retain.Kept
	ended sharefs.HLC
	phase byte
	key   []byte
}

const retainFormat = 1

func (r *retainRow) encode() []byte {
	b := make([]byte, 0, 32+len(r.key)+8*len(r.kept.At))
	b = append(b, retainFormat)
	b = binary.BigEndian.AppendUint64(b, uint64(r.kept.Since))
	b = binary.BigEndian.AppendUint64(b, uint64(r.ended))
	b = append(b, r.phase)
	b = binary.AppendUvarint(b, uint64(len(r.key)))
	b = append(b, r.key...)
	for _, t := range r.kept.At {
		b = binary.BigEndian.AppendUint64(b, uint64(t))
	}
	return b
}

func decodeRetain(b []byte) (r retainRow, err error) {
	d := decoder{b: b}
	if d.byte() != retainFormat {
		d.bad = true
	}
	r.kept.Since, r.ended, r.phase = sharefs.HLC(d.uint64()), sharefs.HLC(d.uint64()), d.byte()
	if key := d.take(int(min(d.uvarint(), kv.MaxKey+1))); len(key) > 0 {
		r.key = slices.Clone(key)
	}
	for !d.bad && len(d.b) > 0 {
		r.kept.At = append(r.kept.At, sharefs.HLC(d.uint64()))
	}
	if d.bad || !slices.IsSorted(r.kept.At) || len(r.kept.At) > 0 && r.kept.At[len(r.kept.At)-1] >= r.kept.Since {
		return retainRow{}, corrupt("the row of kept instants", 0)
	}
	return r, nil
}

// loadRetain reads which instants are kept, when the tree is opened.
func (t *Tree) loadRetain() error {
	r, err := t.retainRow()
	if err != nil {
		return err
	}
	t.retained.kept.Store(&r.kept)
	if r.ended != 0 {
		t.retained.last.Ended = r.ended.Time()
	}
	return nil
}

func (t *Tree) retainRow() (retainRow, error) {
	b, ok, err := t.db.Get(spaceGlobal, globalRetain)
	if err != nil || !ok {
		return retainRow{}, failed("read which instants are kept", err)
	}
	return decodeRetain(b)
}

// kept returns the instants that are kept; it is never changed.
func (r *retention) get() *retain.Kept {
	if k := r.kept.Load(); k != nil {
		return k
	}
	return &retain.Kept{}
}

// KeptInstant returns the last moment up to one that retention keeps: the past shows that one instead. Ok is false where everything up to there was
// removed.
func (t *Tree) KeptInstant(at sharefs.HLC) (kept sharefs.HLC, ok bool) {
	return t.retained.get().Last(at)
}

// NextKept returns the first moment from one on that retention keeps.
func (t *Tree) NextKept(at sharefs.HLC) sharefs.HLC { return t.retained.get().Next(at) }

// keptAt is KeptInstant with an error that says from when on there is history.
func (t *Tree) keptAt(at sharefs.HLC) (sharefs.HLC, error) {
	k := t.retained.get()
	if last, ok := k.Last(at); ok {
		return last, nil
	}
	return 0, &sharefs.Error{Op: "look at the past", Kind: sharefs.KindNotExist,
		Detail: "retention has removed what was at " + at.String() + "; the first moment that is kept is " + k.Next(at).String()}
}

// stillKept returns an error if retention has given a moment up. What was read of it before the call is right if there is none.
func (t *Tree) stillKept(at sharefs.HLC) error {
	k := t.retained.get()
	if at >= k.Since || k.Has(at) {
		return nil
	}
	last, ok := k.Last(at)
	if !ok {
		last = k.Next(at)
	}
	return &sharefs.Error{Op: "look at the past", Kind: sharefs.KindNotExist,
		Detail: "retention has removed the state of " + at.String() + " meanwhile; near it " + last.String() + " is kept"}
}

// rowsAt returns the rows as they were at a moment that is kept. It reads nothing of it once retention has given it up.
func (t *Tree) rowsAt(at sharefs.HLC) kv.View {
	if at == sharefs.MaxHLC {
		return t.db
	}
	return &keptView{t, at, t.db.At(at)}
}

// keptView is a view of a moment that errors with KindNotExist when the moment is not kept any more.
type keptView struct {
	t    *Tree
	at   sharefs.HLC
	rows kv.View
}

// Get implements kv.View.
func (v *keptView) Get(space uint8, key []byte) ([]byte, bool, error) {
	value, ok, err := v.rows.Get(space, key)
	if gone := v.t.stillKept(v.at); gone != nil {
		return nil, false, gone
	}
	return value, ok, err
}

// Scan implements kv.View. It asks for each row, for rows are read some at a time.
func (v *keptView) Scan(space uint8, from, to []byte, fn func(key, value []byte) bool) error {
	var gone error
	err := v.rows.Scan(space, from, to, func(key, value []byte) bool {
		if gone = v.t.stillKept(v.at); gone != nil {
			return false
		}
		return fn(key, value)
	})
	if gone == nil {
		gone = v.t.stillKept(v.at)
	}
	if gone != nil {
		return gone
	}
	return err
}

// Retain removes the history that the rules do not keep; what it takes is given back by [Tree.GC]. One runs at a time (KindBusy). It may be stopped
// by the context at any moment; what it has done by then the report tells, which comes with an error as well.
func (t *Tree) Retain(ctx context.Context, opts RetainOptions, progress func(Progress)) (RetainReport, error) {
	const op = "retain"
	if !opts.DryRun {
		if err := t.writable(op); err != nil {
			return RetainReport{}, err
		}
	}
	if !t.retained.run.TryLock() {
		return RetainReport{}, &sharefs.Error{Op: op, Kind: sharefs.KindBusy, Detail: "a run is at work already"}
	}
	defer t.retained.run.Unlock()
	r := newRetainer(t, ctx, opts, progress)
	if r.policy.Quota > 0 && !t.cfg.ReadOnly {
		r.awaitRemoved() // before the reserve is lent: without it nothing is captured
	}
	if !opts.DryRun {
		back, _ := t.reserve.lend()
		defer back()
		t.retained.mu.Lock()
		t.retained.last.Running = true
		t.retained.mu.Unlock()
	}
	err := failed(op, r.retain())
	r.report.Complete = err == nil
	r.report.TookMS = time.Since(r.report.Began).Milliseconds()
	if !opts.DryRun {
		t.retained.mu.Lock()
		t.retained.last = RetainStatus{Ended: time.Now(), Report: &r.report}
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errStopped) {
			t.retained.last.Error = err.Error()
		}
		t.retained.mu.Unlock()
	}
	return r.report, err
}

// RetainStatus tells of the last run.
func (t *Tree) RetainStatus() RetainStatus {
	t.retained.mu.Lock()
	defer t.retained.mu.Unlock()
	s, k := t.retained.last, t.retained.get()
	s.Since, s.Instants = timeOrZero(k.Since), len(k.At)
	return s
}

// Patience of the background.
const (
	retainFirst = 10 * time.Minute // after the start, at the earliest: whoever has just mounted wants to work
	retainAgain = time.Hour        // after a failure
)

// retainer thins history now and then, until the tree is closed.
func (t *Tree) retainLoop() {
	row, err := t.retainRow()
	if err != nil {
		t.log.Error("history is not thinned", "err", err)
		return
	}
	wait := max(min(retainFirst, t.cfg.RetainEvery), t.cfg.RetainEvery-time.Since(row.ended.Time()))
	if row.phase != 0 {
		wait = min(retainFirst, t.cfg.RetainEvery)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for t.sleep(wait) {
		wait = t.cfg.RetainEvery
		report, err := t.Retain(ctx, RetainOptions{}, nil)
		switch {
		case errors.Is(err, errStopped):
			return
		case err != nil:
			t.log.Warn("history could not be thinned", "err", err)
			wait = min(wait, retainAgain)
			continue
		}
		t.log.Info("history was thinned", "versions", report.Removed, "states", report.States.Removed, "took_ms", report.TookMS)
		if report.Removed == 0 {
			continue
		}
		freed, err := t.GC(ctx, GCOptions{}, nil)
		if err != nil {
			t.log.Warn("the space of thinned history could not be given back", "err", err)
			continue
		}
		t.log.Info("space was given back", "bytes", freed.Freed, "took_ms", freed.TookMS)
	}
}
