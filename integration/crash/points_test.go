package crash

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sharefs/integration/failpoint"
	"sharefs/integration/mounttest"
)

// soakMinutes is for how long TestKilledAtEachPoint goes on in make soak.
const soakMinutes = 60

// TestKilledAtEachPoint kills the daemon right before a call by which it changes its store: a sync, a rename, a removal, a write, a hole; of each part of the store, while
// programs, capture, retention, garbage collection, checks and readers are at work together, and while a start mends what the kill before left. Afterwards all that
// was acknowledged is there, the snapshots are what they were, and a check that reads all back finds nothing.
func TestKilledAtEachPoint(t *testing.T) {
	failpoint.Supported(t)
	modes := mounttest.Modes(t)
	for _, mode := range []mounttest.Mode{mounttest.Passthrough, mounttest.Served} {
		if !slices.Contains(modes, mode) {
			continue
		}
		t.Run(string(mode), func(t *testing.T) {
			lives, until := 4, time.Time{}
			if os.Getenv("SHAREFS_SOAK") != "" {
				minutes := mounttest.Number(t, "SHAREFS_POINTS_MINUTES", soakMinutes, soakMinutes)
				lives, until = 1, time.Now().Add(time.Duration(minutes)*time.Minute/2)
			}
			bucket := mode == mounttest.Passthrough || !until.IsZero()
			killedAtPoints(t, newScene(t, mode, uint64(len(mode)), 3, bucket), func(life int) bool { return life < lives || time.Now().Before(until) })
		})
	}
}

func killedAtPoints(t *testing.T, s *scene, again func(life int) bool) {
	never := func(error) bool { return false }
	busy := map[string]int{}
	starting := map[string]int{}
	chosenBusy, chosenStarting := map[string]int{}, map[string]int{}
	any := func(string) bool { return true }
	s.arm(nil)
	for life := 0; again(life); life++ {
		// How much is to be done is a matter of work, not of the clock.
		ops, done := s.ops()+200+int64(s.rng.IntN(300)), s.done()+3
		s.live(func() bool { return s.ops() >= ops && s.done() >= done }, never)
		if !s.gone.Load() {
			s.m.Kill()
		}
		var p *plan
		if life%3 == 2 {
			p = s.rarest(starting, chosenStarting, any)
		}
		if p != nil {
			p.verdict.Kill = true
		}
		note(busy, s.arm(p))
		s.mount()
		note(starting, s.arm(nil))
		if life%4 == 1 {
			s.scrub()
		}
		if life%2 == 0 {
			s.m.Settled() // or retention takes most versions before they are captured, and there is no garbage
			s.snapshot()
		}
		p = s.rarest(busy, chosenBusy, any)
		p.verdict.Kill = true
		s.arm(p)
	}
	s.arm(nil)
	s.m.Settled()
	s.scrub()
	if err := s.check(); err != nil {
		t.Error(err)
	}
	if s.bucket {
		mounttest.WaitFor(t, "the bucket to be complete", func() bool {
			b := s.m.Status().Tier
			return b != nil && b.BacklogFiles == 0 && b.Error == ""
		})
	}
	if st := s.m.Status(); len(st.Problems) > 0 {
		t.Errorf("problems: %v", st.Problems)
	}
	t.Logf("%d operations, %d jobs, %d versions read", s.ops(), s.done(), s.looked.Load())
	t.Logf("packs: %d removed, %d rewritten, %d punched, %d bytes freed", s.gc.PacksRemoved, s.gc.PacksRewritten, s.gc.PacksPunched, s.gc.Freed)
	var list []string
	sum := 0
	for _, c := range slices.Sorted(maps.Keys(busy)) {
		list = append(list, fmt.Sprintf("%s %d/%d", c, s.kills[c], busy[c]))
		sum += s.kills[c]
	}
	t.Logf("killed before %d calls (kills/most calls in a life): %s", sum, strings.Join(list, ", "))
}

// done is how many jobs have ended.
func (s *scene) done() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jobs
}
