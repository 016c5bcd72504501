package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/failpoint"
	"sharefs/integration/mounttest"
	"sharefs/integration/past"
	"sharefs/integration/s3server"
	"sharefs/internal/client"
	"sharefs/internal/jobs"
	"sharefs/versions"
)

// A scene is a mount on which all is at work that changes a store: programs, capture, retention, garbage collection, checks, checkpoints, and readers of the past; and the judge of
// its system calls.
type scene struct {
	t       *testing.T
	m       *mounttest.Mount
	rng     *rand.Rand
	workers []*worker
	copies  []kept // of the tree at snapshots, the oldest first
	made    int    // snapshots
	bucket  bool
	gone    atomic.Bool
	looked  atomic.Int64 // versions that were read

	mu    sync.Mutex
	plan  *plan
	seen  map[string]int // calls since the last plan was made, by their class
	kills map[string]int // by the class of the call that was not made any more
	gc    versions.GCReport
	jobs  int
	error error // the first that nobody expected
}

// kept is a copy of the tree, made at the moment that a snapshot has the name of.
type kept struct{ name, dir string }

// plan says what is to be done with one call, and whether to all of its class from then on.
type plan struct {
	class   string
	nth     int // from 1
	verdict failpoint.Verdict
	lasting bool
	hit     bool
}

// class sorts calls by what they do to which part of the store.
func class(p failpoint.Point) string {
	part, rest, _ := strings.Cut(p.Path, "/")
	if open, _, _ := strings.Cut(rest, "/"); open == "open" {
		part += "/open"
	}
	return p.Call + " " + part
}

// hasty is a configuration by which as much as possible happens in a short time: nothing but snapshots is kept of the past.
const hasty = `
[versions]
settle = "20ms"
[journal]
max_delay = "50ms"
copy_delay = "100ms"
[retention]
all = "0"
hourly = "0"
daily = "0"
weekly = "0"
min_versions = 1
`

// newScene makes one with some programs, and a bucket where bucket says so. The test has asked whether calls can be stopped here.
func newScene(t *testing.T, mode mounttest.Mode, seed uint64, workers int, bucket bool) *scene {
	t.Helper()
	s := &scene{t: t, rng: rand.New(rand.NewPCG(seed, 3)), seen: map[string]int{}, kills: map[string]int{}}
	store := filepath.Join(mounttest.TempDir(t), "store")
	watch := failpoint.New(store, s.judge)
	s.m = mounttest.Start(t, mode, mounttest.On(store), mounttest.JudgedBy(watch.Start))
	config := hasty
	s.bucket = bucket
	if bucket {
		server := s3server.Start(t, "bucket")
		config += "[tier]\n" + server.Section("bucket/store") + "\n"
	}
	s.m.Configure(config)
	for i := range workers {
		dir := s.m.Path(fmt.Sprintf("w%d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		w := newWorker(dir, seed<<8+uint64(i))
		w.most = 60_000 // so that there is something to collect
		s.workers = append(s.workers, w)
	}
	return s
}

func (s *scene) judge(p failpoint.Point) failpoint.Verdict {
	c := class(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[c]++
	if s.plan == nil || s.plan.class != c || s.seen[c] < s.plan.nth || s.plan.hit && !s.plan.lasting {
		return failpoint.Verdict{}
	}
	s.plan.hit = true
	if s.plan.verdict.Kill {
		s.kills[c]++
		s.gone.Store(true)
	}
	return s.plan.verdict
}

// arm makes a plan, nil for none, and returns how often each class of calls came since the last one was made.
func (s *scene) arm(p *plan) (seen map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen = s.seen
	s.seen, s.plan = map[string]int{}, p
	return seen
}

// note keeps the most that each class of calls was seen in a life.
func note(most, seen map[string]int) {
	for c, n := range seen {
		most[c] = max(most[c], n)
	}
}

func (s *scene) hit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan != nil && s.plan.hit
}

// fail notes what nobody expected, unless the daemon was killed.
func (s *scene) fail(err error) {
	if err == nil || s.gone.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.error = errors.Join(s.error, err)
}

func (s *scene) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.error
}

func (s *scene) ops() (n int64) {
	for _, w := range s.workers {
		n += w.ops.Load()
	}
	return n
}

// live has all work until until says that it is enough, or the daemon is killed by the plan. Errors that refused accepts end the one that they come to.
func (s *scene) live(until func() bool, refused func(error) bool) {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.t.Context())
	var all sync.WaitGroup
	working := atomic.Int64{}
	working.Store(int64(len(s.workers)))
	for _, w := range s.workers {
		all.Go(func() {
			defer working.Add(-1)
			for ctx.Err() == nil {
				if err := w.step(); err != nil {
					if !refused(err) && !(s.gone.Load() && died(err)) {
						s.fail(fmt.Errorf("%s: %w", w.dir, err))
					}
					return // what may have become of it is in w.open
				}
				clear(w.open)
				w.ops.Add(1)
			}
		})
	}
	all.Go(func() {
		mount := client.Mount{Point: s.m.Dir}
		for ctx.Err() == nil && !s.gone.Load() {
			for _, verb := range []string{"retain", "gc", "fsck"} {
				j, err := mount.Do(ctx, verb, nil, nil)
				if err == nil && j.State == jobs.Failed {
					err = errors.New(j.Error)
				}
				switch {
				case ctx.Err() != nil || s.gone.Load():
					return
				case err != nil && refused(err):
				case err != nil:
					s.fail(fmt.Errorf("%s: %w", verb, err))
					return
				default:
					s.report(j, refused(unix.EIO))
				}
			}
		}
	})
	all.Go(func() {
		r := rand.New(rand.NewPCG(s.rng.Uint64(), 4))
		for ctx.Err() == nil && !s.gone.Load() {
			if err := s.look(r); err != nil && !refused(err) && !(s.gone.Load() && died(err)) {
				s.fail(err)
				return
			}
		}
	})
	mounttest.WaitFor(s.t, "work", func() bool {
		return until() || s.gone.Load() || s.failed() != nil || working.Load() == 0 || s.t.Context().Err() != nil
	})
	stop()
	if s.gone.Load() {
		s.m.WaitKilled()
	}
	all.Wait()
	if err := s.failed(); err != nil {
		s.t.Fatal(err)
	}
}

// report adds up what jobs did. A check that finds damage is a failure, where no call was refused.
func (s *scene) report(j *jobs.Job, refused bool) {
	s.mu.Lock()
	s.jobs++
	s.mu.Unlock()
	switch j.Verb {
	case "gc":
		var r versions.GCReport
		s.fail(json.Unmarshal(j.Report, &r))
		s.mu.Lock()
		s.gc.PacksRemoved += r.PacksRemoved
		s.gc.PacksRewritten += r.PacksRewritten
		s.gc.PacksPunched += r.PacksPunched
		s.gc.Freed += r.Freed
		s.mu.Unlock()
	case "fsck":
		var r versions.FsckReport
		s.fail(json.Unmarshal(j.Report, &r))
		if r.Outcome != versions.OutcomeClean && !refused {
			s.fail(errors.New(j.Text))
		}
	}
}

// look reads a version of some file. It is whole, or has gone meanwhile.
func (s *scene) look(r *rand.Rand) error {
	w := s.workers[r.IntN(len(s.workers))]
	dir := filepath.Join(w.dir, fmt.Sprintf("f%d@@", r.IntN(30)))
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return strings.Trim(e.Name(), "0123456789") != "" })
	if len(entries) == 0 {
		return nil
	}
	path := filepath.Join(dir, entries[r.IntN(len(entries))].Name())
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESTALE) {
		return nil // retention took it
	}
	if err != nil {
		return err
	}
	if whole, _ := wholeRecords(string(content)); !whole {
		return fmt.Errorf("%s is no version of anything: %.40q… (%d bytes)", path, content, len(content))
	}
	s.looked.Add(1)
	return nil
}

// mount mounts again, after a kill that the plan asked for; where the plan kills once more meanwhile, and a third time without a plan. It returns when the mount is there, and
// holds all that it should.
func (s *scene) mount() {
	s.t.Helper()
	s.gone.Store(false)
	if err := s.m.TryMount(); err != nil {
		if !s.gone.Load() {
			s.t.Fatal(err)
		}
		s.arm(nil)
		s.gone.Store(false)
		s.m.Mount()
	}
	err := s.check()
	if s.gone.Load() {
		s.m.WaitKilled()
		s.arm(nil)
		s.gone.Store(false)
		s.m.Mount()
		err = s.check()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// check holds the tree against the models, and the past against the copies of it.
func (s *scene) check() error {
	for _, w := range s.workers {
		if err := w.check(); err != nil {
			return fmt.Errorf("%s: %w", w.dir, err)
		}
	}
	for _, c := range s.copies {
		if d := past.Differences(s.m.Path(".share/at", c.name), c.dir); len(d) > 0 {
			return fmt.Errorf("snapshot %s and the copy of the time differ:\n%s", c.name, strings.Join(d, "\n"))
		}
	}
	return nil
}

// snapshot keeps the present, with a copy of it, and gives up the oldest of more than three.
func (s *scene) snapshot() {
	s.t.Helper()
	s.made++
	c := kept{fmt.Sprintf("s%d", s.made), filepath.Join(mounttest.TempDir(s.t), "copy")}
	err := unix.Setxattr(s.m.Dir, "user.sharefs.snapshot", []byte(c.name), 0)
	if err != nil {
		s.t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", s.m.Dir+"/.", c.dir).CombinedOutput(); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	s.copies = append(s.copies, c)
	if len(s.copies) > 3 {
		if err := unix.Setxattr(s.m.Dir, "user.sharefs.untag", []byte(s.copies[0].name), 0); err != nil {
			s.t.Fatal(err)
		}
		if err := os.RemoveAll(s.copies[0].dir); err != nil {
			s.t.Fatal(err)
		}
		s.copies = s.copies[1:]
	}
}

// scrub reads the whole store back and wants nothing found.
func (s *scene) scrub() {
	s.t.Helper()
	j, err := (&client.Mount{Point: s.m.Dir}).Do(s.t.Context(), "fsck", map[string]string{"mode": "scrub"}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	var r versions.FsckReport
	if err := json.Unmarshal(j.Report, &r); err != nil || j.State != jobs.Done || r.Outcome != versions.OutcomeClean {
		s.t.Fatalf("%v %s: %s\n%s", err, j.State, j.Error, j.Text)
	}
}

// rarest chooses the class of calls that was chosen least often before, and one of the calls of it that there were.
func (s *scene) rarest(seen, chosen map[string]int, may func(class string) bool) *plan {
	var best []string
	for _, c := range slices.Sorted(maps.Keys(seen)) {
		switch {
		case !may(c):
		case len(best) == 0 || chosen[c] < chosen[best[0]]:
			best = []string{c}
		case chosen[c] == chosen[best[0]]:
			best = append(best, c)
		}
	}
	if len(best) == 0 {
		return nil
	}
	c := best[s.rng.IntN(len(best))]
	chosen[c]++
	return &plan{class: c, nth: 1 + s.rng.IntN(seen[c])}
}
