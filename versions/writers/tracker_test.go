package writers

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sharefs"
)

// log keeps the events that a tracker tells.
type log struct {
	mu  sync.Mutex
	evs []Event
}

func (l *log) notify(ev Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.evs = append(l.evs, ev)
}

// take returns the events since the last call, once the bubble is idle.
func (l *log) take() []Event {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	evs := l.evs
	l.evs = nil
	return evs
}

var all = Abilities{Leases: true, Inotify: true, FineStamps: true, MappedStamps: true}

// simTracker is a tracker over file 2 of a kernel that loses nothing.
func simTracker(cfg Config, can Abilities) (*Tracker, *simKernel, *log) {
	k := newSimKernel(rand.New(rand.NewPCG(1, 1)))
	k.blind = !can.Leases
	k.files[2] = &simFile{stamp: Stamp{Size: 1, Mtime: 1, Ctime: 1}}
	l := &log{}
	cfg.Notify = l.notify
	return start(cfg, k, can), k, l
}

// linger makes a mapping survive its handle and returns its end.
func linger(t *testing.T, tr *Tracker, k *simKernel, l *log) (end func()) {
	t.Helper()
	k.add(2, 1)
	tr.Hold(2, k.stamp(2), true)
	tr.Release(2)
	time.Sleep(tr.cfg.Settle)
	if evs := l.take(); len(evs) != 1 || evs[0].Kind != StillHeld || evs[0].Changed {
		t.Fatalf("events %v, want one StillHeld", evs)
	}
	return func() { k.leave(2, true) }
}

// One close or many within Settle make one Quiet, as old as the last of them.
func TestSettleJoinsCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, k, l := simTracker(Config{Settle: time.Second}, all)
		defer tr.Close()
		base := k.stamp(2)
		var last time.Time
		for range 3 {
			tr.Hold(2, base, false)
			k.change(2, false)
			time.Sleep(3 * time.Second) // a handle may stay as long as it likes
			tr.Release(2)
			last = time.Now()
			time.Sleep(999 * time.Millisecond)
			if evs := l.take(); len(evs) != 0 {
				t.Fatalf("events %v before the settle time was over", evs)
			}
		}
		time.Sleep(time.Millisecond)
		evs := l.take()
		if want := (Event{ID: 2, Kind: Quiet, At: last, Stamp: k.stamp(2), Changed: true}); len(evs) != 1 || evs[0] != want {
			t.Fatalf("events %v, want %v", evs, want)
		}
	})
}

// A handle opened after the tracker decided to ask waits for the answer, so that no lease is in its way.
func TestHoldWaitsForProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, k, l := simTracker(Config{Settle: time.Second}, all)
		defer tr.Close()
		tr.Hold(2, k.stamp(2), true)
		tr.Release(2)
		k.lock() // the probe hangs
		time.Sleep(time.Second)
		synctest.Wait()
		held := make(chan struct{})
		go func() {
			tr.Hold(2, Stamp{}, true)
			close(held)
		}()
		// A goroutine that waits for a condition is as idle as one that waits for a channel.
		synctest.Wait()
		select {
		case <-held:
			t.Error("Hold did not wait")
		default:
		}
		k.unlock()
		<-held
		if evs := l.take(); len(evs) != 1 || evs[0].Kind != Quiet || evs[0].Changed {
			t.Errorf("events %v, want Quiet without a change", evs)
		}
		tr.Release(2)
	})
}

// While a handle is held no lease is asked for and nothing is done at all.
func TestHeldIsNotProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, k, l := simTracker(Config{Settle: time.Second}, all)
		defer tr.Close()
		end := linger(t, tr, k, l)
		tr.Hold(2, k.stamp(2), true)
		synctest.Wait()
		before := k.probes()
		time.Sleep(time.Hour)
		if n := k.probes(); n != before {
			t.Errorf("%d probes of a file with a handle", n-before)
		}
		end()
		tr.Release(2)
		time.Sleep(time.Second)
		if evs := l.take(); len(evs) != 1 || evs[0].Kind != Quiet {
			t.Errorf("events %v, want Quiet", evs)
		}
	})
}

// The end of a lingering mapping is found at once by its hint, also after hints were lost, and by back-off without.
func TestLingeringEnds(t *testing.T) {
	deaf := all
	deaf.Inotify = false
	for name, c := range map[string]struct {
		can     Abilities
		dropped float64
		limit   int
		within  time.Duration
	}{
		"hint":     {all, 0, 10, 10 * time.Millisecond},
		"overflow": {all, 1, 10, 10 * time.Millisecond},
		"limit":    {all, 0, 0, blindProbe},
		"deaf":     {deaf, 0, 10, blindProbe},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, k, l := simTracker(Config{Settle: time.Second}, c.can)
				defer tr.Close()
				k.limit, k.dropped = c.limit, c.dropped
				end := linger(t, tr, k, l)
				before := k.probes()
				time.Sleep(time.Hour + 7*time.Second)
				if evs := l.take(); len(evs) != 0 {
					t.Fatalf("events %v while nothing happens", evs)
				}
				if n := k.probes() - before; n > int(2*time.Hour/blindProbe) {
					t.Errorf("%d probes in an hour", n)
				}
				end()
				time.Sleep(c.within)
				if evs := l.take(); len(evs) != 1 || evs[0].Kind != Quiet || evs[0].Changed {
					t.Fatalf("events %v, want Quiet without a change", evs)
				}
				s := tr.Stats()
				if s.Watches != 0 || (s.Overflows > 0) != (c.dropped > 0) || (s.WatchErrors > 0) != (c.limit == 0) {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

// Writes by a writer of an earlier life are told soon, and a busy one costs a probe each changeGap at most.
func TestForeignWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, k, l := simTracker(Config{Settle: time.Second}, all)
		defer tr.Close()
		k.add(2, 1)
		tr.Adopt(2, k.stamp(2))
		if evs := l.take(); len(evs) != 1 || evs[0].Kind != StillHeld || evs[0].Changed {
			t.Fatalf("events %v, want StillHeld without a change", evs)
		}
		time.Sleep(time.Hour)
		k.change(2, false)
		if evs := l.take(); len(evs) != 1 || evs[0].Kind != Changed || evs[0].Stamp != k.stamp(2) {
			t.Fatalf("events %v, want Changed", evs)
		}
		before := k.probes()
		for range 10_000 { // 10 s
			k.change(2, false)
			time.Sleep(time.Millisecond)
		}
		if n := k.probes() - before; n < 100 || n > 220 {
			t.Errorf("%d probes in 10 s of writes", n)
		}
		time.Sleep(changeGap)
		evs := l.take()
		if last := evs[len(evs)-1]; last.Kind != Changed || last.Stamp != k.stamp(2) {
			t.Errorf("last event %v, want Changed with the last stamp", last)
		}
		k.leave(2, true)
		time.Sleep(10 * time.Millisecond)
		if evs := l.take(); len(evs) != 1 || evs[0].Kind != Quiet || !evs[0].Changed {
			t.Errorf("events %v, want Quiet with a change", evs)
		}
	})
}

// A file that does not come to rest is told of each Timed, if it changed.
func TestTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, k, l := simTracker(Config{Settle: time.Second, Timed: time.Minute}, all)
		defer tr.Close()
		tr.Hold(2, k.stamp(2), true)
		time.Sleep(10 * time.Minute)
		if evs := l.take(); len(evs) != 0 {
			t.Fatalf("events %v of an idle handle", evs)
		}
		for range 600 {
			k.change(2, false)
			time.Sleep(time.Second)
		}
		evs := l.take()
		for _, ev := range evs {
			if ev.Kind != StillHeld || !ev.Changed {
				t.Errorf("event %v, want StillHeld with a change", ev)
			}
		}
		if len(evs) < 7 || len(evs) > 11 {
			t.Errorf("%d events in 10 minutes", len(evs))
		}
		tr.Release(2)
		time.Sleep(time.Second)
		if evs := l.take(); len(evs) != 1 || evs[0].Kind != Quiet || !evs[0].Changed {
			t.Errorf("events %v, want Quiet with a change", evs)
		}
		// Opened again and again within the settle time.
		base := k.stamp(2)
		for range 300 {
			tr.Hold(2, base, true)
			k.change(2, false)
			tr.Release(2)
			time.Sleep(900 * time.Millisecond)
		}
		if evs := l.take(); len(evs) < 3 || evs[0].Kind != StillHeld || !evs[0].Changed {
			t.Errorf("events %v, want StillHeld", evs)
		}
	})
}

// Without leases a file that could be mapped is quiet once its stamp stood still for BlindSteady after the last Release, any other at once.
func TestBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blind := all
		blind.Leases = false
		tr, k, l := simTracker(Config{Settle: time.Second}, blind)
		defer tr.Close()
		tr.Hold(2, k.stamp(2), false)
		tr.Release(2)
		time.Sleep(time.Second)
		if evs := l.take(); len(evs) != 1 || evs[0].Kind != Quiet || evs[0].Changed {
			t.Fatalf("events %v, want Quiet without a change", evs)
		}
		for range 2 {
			tr.Hold(2, k.stamp(2), true)
			tr.Release(2)
			time.Sleep(BlindSteady)
		}
		if evs := l.take(); len(evs) != 0 {
			t.Fatalf("events %v, too early", evs)
		}
		if s, err := tr.Check(2); err != nil || !s.Held {
			t.Errorf("Check: %+v, %v; want perhaps held", s, err)
		}
		time.Sleep(10 * time.Second)
		k.change(2, true) // by a mapping
		time.Sleep(slowestProbe + BlindSteady)
		evs := l.take()
		if len(evs) == 0 || evs[len(evs)-1].Kind != Quiet {
			t.Fatalf("events %v, want Quiet in the end", evs)
		}
		if s := tr.Stats(); s.Blind == 0 {
			t.Errorf("stats %+v count no blind probe", s)
		}
	})
}

func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, k, l := simTracker(Config{Settle: time.Hour}, all)
		defer tr.Close()
		take := func(want Kind, changed bool) {
			t.Helper()
			if ev, err := tr.Take(2); err != nil || ev.Kind != want || ev.Changed != changed {
				t.Errorf("Take: %v, %v; want %v, changed %v", ev, err, want, changed)
			}
		}
		take(Quiet, false)
		k.add(2, 1)
		take(StillHeld, false)
		tr.Hold(2, k.stamp(2), true)
		take(StillHeld, false)
		k.change(2, false)
		take(StillHeld, true)
		take(StillHeld, false)
		tr.Release(2)
		take(StillHeld, false)
		k.leave(2, true)
		time.Sleep(10 * time.Millisecond)
		if evs := l.take(); len(evs) != 1 || evs[0].Kind != Quiet || !evs[0].Changed {
			t.Fatalf("events %v, want Quiet, changed since the stamp could be trusted", evs)
		}
		tr.Hold(2, k.stamp(2), true)
		tr.Release(2)
		var drained []Event
		tr.Drain(func(ev Event) { drained = append(drained, ev) })
		if len(drained) != 1 || drained[0].Kind != Quiet || drained[0].Changed {
			t.Errorf("drained %v, want Quiet", drained)
		}
		tr.Hold(2, k.stamp(2), true)
		tr.Forget(2)
		tr.Release(2) // of a handle on a forgotten file
		k.lock()
		k.files[2].gone = true
		k.unlock()
		take(Gone, false)
		time.Sleep(2 * time.Hour)
		if evs := l.take(); len(evs) != 0 {
			t.Errorf("events %v of nothing", evs)
		}
	})
}

// With timestamps of one tick an equal stamp proves nothing of a base that was fresh.
func TestMoved(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	s := Stamp{Size: 1, Mtime: 1, Ctime: sharefs.Time(at.UnixNano())}
	other := s
	other.Ctime++
	for _, c := range []struct {
		base, now Stamp
		taken     time.Time
		coarse    bool
		want      bool
	}{
		{s, s, at, false, false},
		{s, other, at, false, true},
		{Stamp{}, Stamp{}, at, false, true},
		{s, s, at.Add(stampGrain - 1), true, true},
		{s, s, at.Add(stampGrain), true, false},
	} {
		if got := moved(c.base, c.now, c.taken, c.coarse); got != c.want {
			t.Errorf("moved(%v, %v, %v, coarse %v) = %v", c.base, c.now, c.taken, c.coarse, got)
		}
	}
}

// A close may have its settle time made shorter, and never longer.
func TestReleaseBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var not time.Time
		tr, k, l := simTracker(Config{Settle: time.Minute, NotBefore: func(sharefs.Ino) time.Time { return not }}, all)
		defer tr.Close()
		for _, c := range []struct {
			by, not, want time.Duration // after the release
			zero          bool
		}{
			{by: 0, want: 0},
			{by: -time.Hour, want: 0},
			{by: time.Second, want: time.Second},
			{by: time.Hour, want: time.Minute},
			{zero: true, want: time.Minute},
			{by: 0, not: time.Second, want: time.Second},
		} {
			tr.Hold(2, k.stamp(2), true)
			tr.Hold(2, k.stamp(2), true)
			k.change(2, false)
			now := time.Now()
			tr.ReleaseBy(2, now) // there is another handle
			time.Sleep(time.Millisecond)
			synctest.Wait()
			now = time.Now()
			by := now.Add(c.by)
			if c.zero {
				by = time.Time{}
			}
			not = now.Add(c.not)
			tr.ReleaseBy(2, by)
			if c.want > 0 {
				time.Sleep(c.want - time.Nanosecond)
				synctest.Wait()
				if evs := l.take(); len(evs) != 0 {
					t.Fatalf("%+v: events %v too early", c, evs)
				}
				time.Sleep(time.Nanosecond)
			}
			synctest.Wait()
			if evs := l.take(); len(evs) != 1 || evs[0].Kind != Quiet || !evs[0].At.Equal(now) {
				t.Fatalf("%+v: events %v, want one Quiet of %v", c, evs, now)
			}
		}
	})
}

// A file that is not to come to rest yet waits longer than the settle time, and not when somebody asks for it; without a settle time nothing waits.
func TestNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait := time.Minute
		var since time.Time
		cfg := Config{Settle: time.Second, NotBefore: func(sharefs.Ino) time.Time { return since.Add(wait) }}
		tr, k, l := simTracker(cfg, all)
		defer tr.Close()
		save := func() {
			since = time.Now()
			tr.Hold(2, k.stamp(2), false)
			k.change(2, false)
			tr.Release(2)
		}
		save()
		time.Sleep(wait - time.Millisecond)
		if evs := l.take(); len(evs) != 0 {
			t.Fatalf("events %v too early", evs)
		}
		time.Sleep(time.Millisecond)
		if evs := l.take(); len(evs) != 1 || evs[0].Kind != Quiet || evs[0].At != since {
			t.Fatalf("events %v, want one Quiet of %v", evs, since)
		}
		save()
		if ev, err := tr.Take(2); err != nil || ev.Kind != Quiet {
			t.Errorf("asked for: %v, %v", ev, err)
		}
		wait = 0 // what is over
		save()
		time.Sleep(time.Second)
		if evs := l.take(); len(evs) != 1 {
			t.Errorf("events %v after the settle time", evs)
		}
		wait = time.Minute
		cfg.Settle = 0
		tr2, k2, l2 := simTracker(cfg, all)
		defer tr2.Close()
		since = time.Now()
		tr2.Hold(2, k2.stamp(2), false)
		k2.change(2, false)
		tr2.Release(2)
		if evs := l2.take(); len(evs) != 1 {
			t.Errorf("events %v without a settle time", evs)
		}
	})
}
