package sched

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

func path(id uint32, rtt time.Duration, bw float64) Path {
	return Path{ID: id, SRTT: rtt, Bandwidth: bw, Alive: true}
}

func TestScore(t *testing.T) {
	for _, c := range []struct {
		p    Path
		want time.Duration
	}{
		{path(1, 20*ms, 0), 20 * ms},
		{path(1, 20*ms, 65536), 1020 * ms},
		{Path{SRTT: 20 * ms, Bandwidth: 131072, Loss: 0.5, Alive: true}, 1020 * ms},
		{Path{SRTT: 20 * ms, Bandwidth: 1e-9, Loss: 1, Alive: true}, time.Hour},
		{Path{SRTT: 20 * ms}, Never},
		{Path{Alive: true}, Never},
	} {
		if got := c.p.Score(); got != c.want {
			t.Errorf("%+v scores %v, want %v", c.p, got, c.want)
		}
	}
}

func TestSelectorWaitsForThreeLooks(t *testing.T) {
	var s Selector
	if c := s.Observe(nil); c.OK || c.Changed {
		t.Fatalf("no paths: %+v", c)
	}
	paths := []Path{path(1, 50*ms, 1e7), path(2, 90*ms, 1e7)}
	if c := s.Observe(paths); !c.Changed || c.ID != 1 || c.Why == "" {
		t.Fatalf("the first: %+v", c)
	}
	paths[1].SRTT = 20 * ms
	for i := range 2 {
		if c := s.Observe(paths); c.Changed || c.ID != 1 {
			t.Fatalf("look %d: %+v", i, c)
		}
	}
	paths[1].SRTT = 48 * ms // not that much better after all: the count begins again
	s.Observe(paths)
	paths[1].SRTT = 20 * ms
	for i := range 2 {
		if c := s.Observe(paths); c.Changed {
			t.Fatalf("look %d after the break: %+v", i, c)
		}
	}
	if c := s.Observe(paths); !c.Changed || c.ID != 2 || !c.OK {
		t.Fatalf("third look: %+v", c)
	}
	if c := s.Observe(paths); c.Changed || c.ID != 2 {
		t.Fatalf("and it stays: %+v", c)
	}
}

func TestSelectorIgnoresSmallGains(t *testing.T) {
	for _, rtts := range [][2]time.Duration{{8 * ms, 4 * ms}, {100 * ms, 92 * ms}} { // under 5 ms; under 10 %
		var s Selector
		s.Set(1)
		for range 10 {
			if c := s.Observe([]Path{path(1, rtts[0], 0), path(2, rtts[1], 0)}); c.Changed {
				t.Fatalf("%v: %+v", rtts, c)
			}
		}
	}
}

func TestSelectorMovesAtOnce(t *testing.T) {
	paths := []Path{path(1, 10*ms, 1e8), path(2, 500*ms, 1e5), path(3, 10*ms, 1e8)}
	paths[2].Fallback = true
	var s Selector
	s.Observe(paths)
	paths[0].Alive = false
	if c := s.Observe(paths); !c.Changed || c.ID != 2 {
		t.Fatalf("the active one died: %+v; a fallback is only for when there is no other", c)
	}
	paths[1].Alive = false
	if c := s.Observe(paths); !c.Changed || c.ID != 3 {
		t.Fatalf("only the fallback is left: %+v", c)
	}
	paths[1].Alive = true
	if c := s.Observe(paths); !c.Changed || c.ID != 2 {
		t.Fatalf("there is another again: %+v", c)
	}
	for i := range paths {
		paths[i].Alive = false
	}
	if c := s.Observe(paths); c.OK || c.Changed {
		t.Fatalf("none is left: %+v", c)
	}
	if c := s.Observe(paths[:0]); c.OK {
		t.Fatalf("none at all: %+v", c)
	}
}

func TestUnknownBandwidthIsNoDisadvantage(t *testing.T) {
	var s Selector
	s.Set(1)
	paths := []Path{path(1, 50*ms, 1e5), path(2, 40*ms, 0)} // the first scores 705 ms by itself, the second 40 ms
	for range 3 {
		s.Observe(paths)
	}
	if a, _ := s.Active(); a != 1 { // 705 against 695 ms is no reason
		t.Errorf("it moved to %d", a)
	}
}

func TestSpreadAndCopies(t *testing.T) {
	paths := []Path{path(1, 10*ms, 1e7), path(2, 40*ms, 1e7), path(3, 41*ms, 1e7), path(4, 10*ms, 1e7), path(5, 10*ms, 1e7)}
	paths[3].Fallback = true
	paths[4].Alive = false
	for mode, want := range map[Mode][]bool{
		Single: {true, false, false, false, false}, Redundant: {true, false, false, false, false},
		Aggregate: {true, true, false, false, false},
	} {
		for i := range paths {
			if got := Spread(mode, 1, paths, i); got != want[i] {
				t.Errorf("%v: path %d: %v", mode, paths[i].ID, got)
			}
		}
	}
	if got := Copies(Redundant, 1, paths, nil); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("redundant: %v", got)
	}
	if got := Copies(Single, 1, paths, nil); !slices.Equal(got, []int{0}) {
		t.Errorf("single: %v", got)
	}
	if got := Copies(Redundant, 5, paths, nil); len(got) != 0 {
		t.Errorf("a dead path: %v", got)
	}
	if got := Copies(Redundant, 9, paths, nil); len(got) != 0 {
		t.Errorf("no such path: %v", got)
	}
}

func TestModes(t *testing.T) {
	for m := Single; m <= Redundant; m++ {
		if got, err := ParseMode(m.String()); got != m || err != nil {
			t.Errorf("%v: %v, %v", m, got, err)
		}
	}
	if _, err := ParseMode("fastest"); err == nil {
		t.Error("a wrong name was taken")
	}
}

// TestSelectorNeverChoosesTheDead looks at random paths: the choice is always one that can be used, never a fallback
// where there is another, and never flaps between paths that do not change.
func TestSelectorNeverChoosesTheDead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Selector
		n := rapid.IntRange(0, 6).Draw(t, "paths")
		paths := make([]Path, n)
		for range 5 {
			for i := range paths {
				paths[i] = Path{
					ID: uint32(i), SRTT: time.Duration(rapid.IntRange(0, 300).Draw(t, "rtt")) * ms,
					Bandwidth: float64(rapid.IntRange(0, 1e8).Draw(t, "bw")), Loss: rapid.Float64Range(0, 1).Draw(t, "loss"),
					Alive: rapid.Bool().Draw(t, "alive"), Fallback: rapid.Bool().Draw(t, "fallback"),
				}
			}
			usable := func(p Path) bool { return p.Score() != Never }
			preferred := func(p Path) bool { return usable(p) && !p.Fallback }
			moves := 0
			for range 20 {
				c := s.Observe(paths)
				if c.OK != slices.ContainsFunc(paths, usable) {
					t.Fatalf("%+v of %+v", c, paths)
				}
				if !c.OK {
					continue
				}
				p := paths[c.ID]
				if !usable(p) || p.Fallback && slices.ContainsFunc(paths, preferred) {
					t.Fatalf("%+v chosen of %+v", p, paths)
				}
				if c.Changed {
					moves++
				}
			}
			if moves > n {
				t.Fatalf("%d moves among %+v", moves, paths)
			}
		}
	})
}
