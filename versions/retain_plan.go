package versions

import (
	"context"
	"slices"
	"time"

	"sharefs"
	"sharefs/internal/retain"
	"sharefs/versions/kv"
)

// thinner is a run of retention at work.
type thinner struct {
	t      *Tree
	ctx    context.Context
	opts   RetainOptions
	policy *retain.Policy
	tell   func(Progress)
	report RetainReport
	pace   pacer
	told   time.Time
	noted  time.Time // when it was written down last how far it came

	now  sharefs.HLC
	kept retain.Kept
	pins retain.Kept // the moments with names, and nothing else
	cut  sharefs.HLC // of the quota: instants before it are kept for their names alone
	row  retainRow

	scope scope
	todo  []thinning
}

func newRetainer(t *Tree, ctx context.Context, opts RetainOptions, progress func(Progress)) *thinner {
	if progress == nil {
		progress = func(Progress) {}
	}
	if opts.at == nil {
		opts.at = func(string) {}
	}
	r := &thinner{t: t, ctx: ctx, opts: opts, tell: progress, policy: opts.Policy}
	if r.policy == nil {
		r.policy = t.cfg.Retention
	}
	if r.policy == nil {
		p := retain.DefaultPolicy()
		r.policy = &p
	}
	r.report.Began, r.report.DryRun = time.Now(), opts.DryRun
	r.noted = r.report.Began
	r.pace.begin(t)
	if opts.Hurry || opts.DryRun {
		r.pace.hurry()
	}
	return r
}

// Phases, in their order. The numbers are on disk.
const (
	phaseVersions byte = 1 + iota
	phaseLineage
	phaseTrash
	phaseDentries
	phaseInodes
	phaseXattrs
	phaseGlobals
	phaseInstants
	phasesEnd
)

func (r *thinner) retain() error {
	if err := r.going(); err != nil {
		return err
	}
	var err error
	if r.scope, err = r.findScope(); err != nil {
		return err
	}
	if err := r.plan(); err != nil {
		return err
	}
	r.opts.at("planned")
	begin, key := max(r.row.phase, phaseVersions), r.row.key
	if r.opts.DryRun {
		begin, key = phaseVersions, nil
	}
	for i := byte(0); i < phasesEnd-1; i++ {
		phase := (begin-1+i)%(phasesEnd-1) + 1
		if err := r.phase(phase, key); err != nil {
			return err
		}
		key = nil
	}
	if len(r.row.key) > 0 && !r.opts.DryRun && r.row.phase == begin {
		if err := r.phase(begin, nil); err != nil { // what lay before the place where the run before was cut off
			return err
		}
	}
	if r.opts.DryRun {
		r.nameExamples()
		return nil
	}
	return r.note(0, nil, true)
}

// phase does one of the phases from a key on.
func (r *thinner) phase(phase byte, key []byte) error {
	switch phase {
	case phaseVersions:
		return r.versions(key)
	case phaseLineage:
		return r.lineages()
	case phaseTrash:
		return r.trash()
	case phaseDentries:
		return r.states(phase, spaceDentry, "thin names", key)
	case phaseInodes:
		return r.states(phase, spaceInode, "thin attributes", key)
	case phaseXattrs:
		return r.states(phase, spaceXattr, "thin extended attributes", key)
	case phaseGlobals:
		return r.states(phase, spaceGlobal, "thin the rest", key)
	}
	return r.instants()
}

// going says why the run is to end before its time.
func (r *thinner) going() error {
	if r.t.closed.Load() {
		return errStopped
	}
	return r.ctx.Err()
}

// step is called after some rows of work; key is where a later run is to go on if this one is cut off. In phase 0 there is nothing to go on with.
func (r *thinner) step(stage string, phase byte, key []byte, done, rows uint64) error {
	if time.Since(r.told) >= tellEvery {
		r.told = time.Now()
		r.tell(Progress{Stage: stage, Done: done, Unit: "rows"})
	}
	if phase != 0 && !r.opts.DryRun && time.Since(r.noted) >= noteEvery {
		if err := r.note(phase, key, false); err != nil {
			return err
		}
	}
	if !r.opts.Hurry {
		r.pace.step(int64(rows) * rowWork)
	}
	err := r.going()
	if phase != 0 && err != nil && !r.opts.DryRun {
		_ = r.note(phase, key, false)
	}
	return err
}

// noteEvery is how often it is written down how far a run came.
const noteEvery = 20 * time.Second

// note writes down how far the run came.
func (r *thinner) note(phase byte, key []byte, ended bool) error {
	r.noted = time.Now()
	row := retainRow{kept: r.kept, ended: r.row.ended, phase: phase, key: key}
	if ended {
		row.ended = r.now
	}
	t := r.t
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.aside = true
	x.b.Put(spaceGlobal, globalRetain, row.encode())
	return x.commit()
}

// plan finds out which instants are kept from now on, and makes them known.
func (r *thinner) plan() error {
	t := r.t
	birth, err := t.birth()
	if err != nil {
		return err
	}
	if r.policy.Quota > 0 {
		if err := r.think(birth); err != nil {
			return err
		}
		if err := r.fitQuota(); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := r.think(birth); err != nil || r.opts.DryRun {
		return err
	}
	x := t.begin()
	x.aside = true
	row := r.row
	row.kept = r.kept
	x.b.Put(spaceGlobal, globalRetain, row.encode())
	if err := x.commit(); err != nil {
		return err
	}
	// The loss of power must not bring instants back of which something is removed.
	if err := t.db.Sync(); err != nil {
		return failed("write to the store", err)
	}
	kept := r.kept
	t.retained.kept.Store(&kept)
	return nil
}

// think finds out which instants are kept from now on.
func (r *thinner) think(birth sharefs.HLC) (err error) {
	t := r.t
	if r.row, err = t.retainRow(); err != nil {
		return err
	}
	if r.now = r.opts.now; r.now == 0 {
		r.now = t.clock.Next()
	}
	before := r.row.kept
	var pins []sharefs.HLC
	if err := t.NamedMoments(func(m Moment) bool {
		pins = append(pins, m.At)
		return true
	}); err != nil {
		return err
	}
	slices.Sort(pins)
	pins = slices.DeleteFunc(slices.Compact(pins), func(at sharefs.HLC) bool { return !before.Has(at) })
	r.pins = retain.Kept{Since: sharefs.MaxHLC, At: pins}
	r.kept = before.Thin(r.now, birth, &r.policy.Rules, pins)
	if r.cut > 0 {
		r.kept = r.kept.Cut(r.cut, pins)
	}
	r.report.Since, r.report.Instants, r.report.Named = timeOrZero(r.kept.Since), len(r.kept.At), len(pins)
	return nil
}

func timeOrZero(at sharefs.HLC) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return at.Time().UTC()
}

// birth returns the beginning of the first instant that there is.
func (t *Tree) birth() (at sharefs.HLC, err error) {
	at = t.clock.Last()
	err = t.db.Boundaries(0, sharefs.MaxHLC, func(e kv.Epoch) bool {
		at = e.Stamp
		return false
	})
	return at, failed("list the instants", err)
}

// removedWait is how long a run with a quota waits at most for what was removed right before it.
const removedWait = 10 * time.Second

// awaitRemoved waits for files that were removed to be history: up to then their newest version counts as what a file holds now, and whoever has just
// removed something to leave a full disk would be told that there is nothing to thin out. What cannot be had in time is left to a later run.
func (r *thinner) awaitRemoved() {
	t := r.t
	for end := time.Now().Add(removedWait); ; {
		// An error of either is met again by the run itself, or waits as it would without one.
		_ = t.closeEpoch()
		_ = t.reap()
		left := t.removing()
		if left == 0 || time.Now().After(end) || r.step("wait for what was removed", 0, nil, 0, 0) != nil || !t.sleep(removedLook) {
			return
		}
	}
}

// removedLook is how often it is looked whether what was removed is history.
const removedLook = 50 * time.Millisecond
