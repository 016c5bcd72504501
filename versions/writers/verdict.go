package writers

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// State is what Check found.
type State struct {
	Held    bool // somebody can write to the file, or where leases are not to be had: perhaps
	Handles int  // how many Holds have no Release yet
	Stamp   Stamp
}

// Check asks now whether somebody can write to a file, tracked or not. The answer holds as long as the caller lets nobody open it.
func (t *Tracker) Check(id sharefs.Ino) (State, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.settled(id)
	if f == nil {
		who, st, err := t.stranger(id)
		return State{Held: who == present, Stamp: st}, err
	}
	who, st, err := t.probe(f)
	return State{Held: who == present || who == unknown && !t.steady(f, st), Handles: f.holds, Stamp: st}, err
}

// Take returns the verdict about one file at once instead of telling it later: Quiet, Gone, or StillHeld, with handles held as well. Of
// a file that is not tracked it knows no change but what the caller sees by the stamp; where stamps cannot be relied on, all may be one.
func (t *Tracker) Take(id sharefs.Ino) (Event, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.settled(id)
	if f == nil {
		who, st, err := t.stranger(id)
		ev := Event{ID: id, Kind: Quiet, At: time.Now(), Stamp: st, Changed: !t.can.FineStamps || !t.can.MappedStamps}
		switch {
		case gone(err):
			return Event{ID: id, Kind: Gone, At: ev.At}, nil
		case who == present:
			ev.Kind = StillHeld
		}
		return ev, err
	}
	f.told = false
	ev, err := t.judge(f)
	if err != nil || ev.Kind == Quiet || ev.Kind == Gone || ev.Kind == StillHeld {
		return ev, err
	}
	if t.files[id] != f {
		return Event{ID: id, Kind: Gone, At: time.Now()}, nil
	}
	return t.stillHeld(f, f.seen), nil // leases are not to be had, and the stamp has not stood still for long enough
}

// Tracks reports whether a file is tracked. A Quiet about one that is was overtaken by a Hold or Adopt, and another will follow.
func (t *Tracker) Tracks(id sharefs.Ino) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.settled(id) != nil
}

// Released returns when the last handle of a file went; ok is false while there is one. The zero time stands for a file that is not tracked: its
// verdict has been told.
func (t *Tracker) Released(id sharefs.Ino) (at time.Time, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.files[id]
	switch {
	case f == nil:
		return time.Time{}, true
	case f.holds > 0:
		return time.Time{}, false
	}
	return f.freed, true
}

// stranger probes a file that is not tracked. It is entered meanwhile, so that a Hold waits.
func (t *Tracker) stranger(id sharefs.Ino) (presence, Stamp, error) {
	f := t.enter(id, Stamp{})
	f.mappable = true
	who, st, err := t.probe(f)
	if t.files[id] == f {
		t.remove(f)
	}
	return who, st, err
}

func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) }

// Drain takes the verdict about everything that is tracked. Files about which it cannot be had are left out.
func (t *Tracker) Drain(fn func(Event)) {
	t.mu.Lock()
	ids := make([]sharefs.Ino, 0, len(t.files))
	for id := range t.files {
		ids = append(ids, id)
	}
	t.mu.Unlock()
	for _, id := range ids {
		if ev, err := t.Take(id); err == nil {
			fn(ev)
		}
	}
}

// probe asks the kernel about a file with t.mu given up meanwhile; handles held are present without asking.
func (t *Tracker) probe(f *file) (presence, Stamp, error) {
	held := f.holds > 0
	ask := !held && t.can.Leases && (f.mappable || f.foreign)
	t.counts.probes++
	f.probing = true
	t.mu.Unlock()
	who, st, err := t.kernel.probe(f.id, ask)
	t.mu.Lock()
	f.probing = false
	t.idle.Broadcast()
	switch {
	case err != nil:
		t.counts.errors++
	case held:
		who = present
	case !f.mappable && !f.foreign:
		who = nobody
	case who == unknown:
		t.counts.blind++
	}
	return who, st, err
}

// judge probes a file and says what is to be told of it, or an event without a kind. A file that stays tracked without handles is queued
// for its next probe. t.mu is held, and given up meanwhile. An error has been dealt with but for telling it.
func (t *Tracker) judge(f *file) (Event, error) {
	who, st, err := t.probe(f)
	if t.files[f.id] != f {
		return Event{}, nil
	}
	now := time.Now()
	if gone(err) {
		t.remove(f)
		return Event{ID: f.id, Kind: Gone, At: now}, nil
	}
	if err != nil {
		if f.holds == 0 {
			f.delay = min(max(2*f.delay, firstProbe), blindProbe)
			t.enqueue(f, now.Add(f.delay))
		}
		return Event{}, err
	}
	if who == nobody || who == unknown && t.steady(f, st) {
		at := f.freed
		if f.lingering {
			at = now
		}
		changed := f.maybe || t.changed(f, st)
		t.remove(f)
		return Event{ID: f.id, Kind: Quiet, At: at, Stamp: st, Changed: changed}, nil
	}
	if f.holds > 0 {
		return t.stillHeld(f, st), nil
	}
	return t.linger(f, who, st, now), nil
}

// linger keeps an eye on a file that somebody without a handle may write to.
func (t *Tracker) linger(f *file, who presence, st Stamp, now time.Time) Event {
	if !f.lingering {
		f.lingering, f.delay = true, firstProbe
	} else {
		f.delay = min(2*f.delay, slowestProbe)
	}
	f.looked = now
	t.rewatch(f)
	if f.watch == unwatched {
		f.delay = min(f.delay, blindProbe)
	}
	due := now.Add(f.delay)
	if who == unknown {
		if last := f.moved.Add(BlindSteady); last.After(now) && last.Before(due) {
			due = last
		}
	}
	t.enqueue(f, due)
	switch {
	case !f.told && who == present:
		f.told = true
		return t.stillHeld(f, st)
	case st != f.seen:
		f.seen, f.moved = st, now
		return Event{ID: f.id, Kind: Changed, At: now, Stamp: st, Changed: true}
	}
	return Event{}
}

// stillHeld makes the event, which becomes the new base if it tells of a change.
func (t *Tracker) stillHeld(f *file, st Stamp) Event {
	now := time.Now()
	ev := Event{ID: f.id, Kind: StillHeld, At: now, Stamp: st, Changed: t.changed(f, st)}
	if f.seen != st {
		f.seen, f.moved = st, now
	}
	if ev.Changed {
		f.base, f.taken, f.maybe = st, now, true
	}
	return ev
}

// changed reports whether the content may differ from the base, going by the stamp.
func (t *Tracker) changed(f *file, st Stamp) bool {
	return moved(f.base, st, f.taken, !t.can.FineStamps) || f.mappable && !t.can.MappedStamps
}

// steady reports whether the stamp has stood still for BlindSteady.
func (t *Tracker) steady(f *file, st Stamp) bool {
	now := time.Now()
	if f.moved.IsZero() {
		f.seen, f.moved = st, now
	}
	return f.seen == st && now.Sub(f.moved) >= BlindSteady
}
