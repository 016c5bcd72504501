package crash

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/failpoint"
	"sharefs/integration/mounttest"
)

// TestRefusedCalls has calls by which the daemon changes its store fail: for want of room, or because the disk fails; once, or from then on; at work, and at a start. Whoever works in
// the mount gets an error or is served. When the disk is whole again and the daemon was killed, all that was acknowledged is there, the snapshots are what they were,
// and a check that reads all back finds nothing.
func TestRefusedCalls(t *testing.T) {
	failpoint.Supported(t)
	modes := mounttest.Modes(t)
	for _, mode := range []mounttest.Mode{mounttest.Passthrough, mounttest.Served} {
		if slices.Contains(modes, mode) {
			t.Run(string(mode), func(t *testing.T) { refusedCalls(t, newScene(t, mode, 50+uint64(len(mode)), 3, false), rounds(t, 4)) })
		}
	}
}

func refusedCalls(t *testing.T, s *scene, lives int) {
	busy, starting := map[string]int{}, map[string]int{}
	chosenBusy, chosenStarting := map[string]int{}, map[string]int{}
	hits, stopped := map[string]int{}, 0
	may := func(class string) bool { return !strings.HasPrefix(class, "unlink ") } // which no full disk refuses
	next := func(seen, chosen map[string]int) *plan {
		p := s.rarest(seen, chosen, may)
		if p != nil {
			p.verdict.Errno = []unix.Errno{unix.ENOSPC, unix.EIO}[s.rng.IntN(2)]
			p.lasting = s.rng.IntN(2) == 0
		}
		return p
	}
	// lift ends the plan, and notes what came of it.
	lift := func(p, then *plan, seen map[string]int) {
		note(seen, s.arm(then))
		if p != nil && p.hit {
			hits[p.class+" "+unix.ErrnoName(p.verdict.Errno)]++
		}
	}
	s.arm(nil)
	var p *plan
	for range lives {
		ops := s.ops() + 200 + int64(s.rng.IntN(300))
		after := int64(0)
		s.live(func() bool {
			if s.hit() && after == 0 {
				after = s.ops() + 50
			}
			return s.ops() >= ops || after > 0 && s.ops() >= after
		}, refused)
		s.m.Kill()
		start := next(starting, chosenStarting)
		lift(p, start, busy)
		if err := s.m.TryMount(); err != nil {
			if !s.hit() || !errors.Is(err, mounttest.ErrNotMounted) {
				t.Fatal(err)
			}
			stopped++
			lift(start, nil, starting)
			s.m.Mount()
		} else if s.hit() {
			// What a start could not do may be left undone as long as the daemon lives.
			s.m.Kill()
			lift(start, nil, starting)
			s.m.Mount()
		} else {
			lift(start, nil, starting)
		}
		if err := s.check(); err != nil {
			t.Fatalf("%v; refused: %+v, at the start %+v", err, p, start)
		}
		s.scrub()
		s.m.Settled()
		s.snapshot()
		p = next(busy, chosenBusy)
		s.arm(p)
	}
	s.arm(nil)
	t.Logf("%d operations, %d jobs, %d versions read; refused: %s; %d starts were given up", s.ops(), s.done(), s.looked.Load(), strings.Join(slices.Sorted(maps.Keys(hits)), ", "), stopped)
}

// refused reports whether an error is one that a failing disk may give to a program, or to a job, which tells of it as text.
func refused(err error) bool {
	return slices.ContainsFunc([]unix.Errno{unix.ENOSPC, unix.EIO, unix.EROFS}, func(e unix.Errno) bool {
		return errors.Is(err, e) || strings.Contains(err.Error(), e.Error())
	})
}
