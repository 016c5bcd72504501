package versions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/internal/retain"
)

// agingTree is a tree whose clock a test sets, from long ago on.
type agingTree struct {
	*Tree
	t   testing.TB
	dir string
	now atomic.Int64 // milliseconds since 1970
}

func newAgingTree(t testing.TB) *agingTree {
	t.Helper()
	a := &agingTree{t: t, dir: t.TempDir()}
	a.now.Store(time.Date(2024, 2, 26, 9, 0, 0, 0, time.UTC).UnixMilli())
	a.open()
	return a
}

func (a *agingTree) open() {
	a.Tree = testTree(a.t, a.dir, byHand, func(c *Config) {
		c.Clock = &sharefs.Clock{Now: func() time.Time { return time.UnixMilli(a.now.Load()) }}
	})
}

// pass has time pass, and some seconds more, so that nothing happens at the border of a period or right when something ceases to be kept: what is closed
// gets the time of the close, which lies some real milliseconds before it comes to rest here.
func (a *agingTree) pass(d time.Duration) { a.now.Add(d.Milliseconds() + 7919) }

// retain thins history by rules.
func (a *agingTree) retain(p retain.Policy) RetainReport {
	a.t.Helper()
	check(a.t, a.reapAll())
	report, err := a.Retain(context.Background(), RetainOptions{Policy: &p, Hurry: true}, nil)
	check(a.t, err)
	if !report.Complete {
		a.t.Error("the run did not come to its end")
	}
	return report
}

// A run that is cut off anywhere leaves all that is kept, and the next one does the rest.
func TestRetainIsCutOff(t *testing.T) {
	m := newRetainModel(t, 9)
	for range 60 {
		m.pass(time.Duration(1+m.r.IntN(24*60)) * time.Minute)
		m.step()
	}
	capture(t, m.Tree)
	p := retain.Policy{Rules: retain.Rules{All: retain.Day, Daily: 20 * retain.Day, Weekly: retain.Year}, MinVersions: 2}
	places := 0
	for n := range 100 {
		ctx, cancel := context.WithCancel(context.Background())
		seen := 0
		_, err := m.Retain(ctx, RetainOptions{Policy: &p, Hurry: true, at: func(string) {
			if seen++; seen > n {
				cancel()
			}
		}}, nil)
		cancel()
		if n%2 == 0 {
			check(t, m.Close())
			m.open()
		}
		m.compare()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		places++
	}
	if places < 4 {
		t.Errorf("cut off at %d places", places)
	}
	m.compareVersions(2)
	if again := m.retain(p); again.Removed > 0 || again.States.Removed > 3 {
		t.Errorf("a second time: %+v", again)
	}
}

// Views that are being read while what they show is thinned: all of it is right, or there is an error that says what happened.
func TestViewsBesideRetain(t *testing.T) {
	m := newRetainModel(t, 10)
	var wg sync.WaitGroup
	var stop atomic.Bool
	var mu sync.Mutex // guards at and shots of the model
	for g := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 52))
			for !stop.Load() {
				mu.Lock()
				i := r.IntN(len(m.at))
				at, want := m.at[i], m.shots[i]
				mu.Unlock()
				v, err := m.ViewAt(at)
				if err != nil {
					if !errors.Is(err, sharefs.KindNotExist) {
						t.Error(err)
						return
					}
					continue
				}
				if v.At() != at {
					continue
				}
				got, err := shot(v)
				switch {
				case errors.Is(err, sharefs.KindNotExist):
				case err != nil:
					t.Error(err)
					return
				case !maps.Equal(got, want):
					t.Errorf("at %v: %v, want %v", at, got, want)
					return
				}
			}
		})
	}
	p := retain.Policy{Rules: retain.Rules{All: 12 * retain.Hour, Hourly: retain.Day, Daily: 10 * retain.Day}, MinVersions: 1}
	for i := range 40 {
		m.pass(time.Duration(1+m.r.IntN(600)) * time.Minute)
		mu.Lock()
		m.step()
		mu.Unlock()
		if i%5 == 4 {
			capture(t, m.Tree)
			m.retain(p)
		}
	}
	stop.Store(true)
	wg.Wait()
	m.compare()
}

// Every day for some months comes to what one run at the end comes to.
func TestRetainDailyIsAsOnce(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	p := retain.Policy{Rules: retain.Rules{All: retain.Day, Hourly: 3 * retain.Day, Daily: 14 * retain.Day, Weekly: 60 * retain.Day}, MinVersions: 2}
	var states [2][]string
	for i := range 2 {
		m := newRetainModel(t, 11)
		m.calm = true
		for range 50 {
			m.pass(24 * time.Hour)
			m.step()
			m.pass(time.Duration(m.r.IntN(300)) * time.Minute)
			m.step()
			capture(t, m.Tree)
			if i == 0 {
				m.retain(p)
			}
		}
		m.retain(p)
		m.compare()
		for _, at := range m.retained.get().At {
			states[i] = append(states[i], at.String())
		}
		for _, name := range slices.Sorted(maps.Keys(m.past)) {
			for _, v := range must[[]sharefs.Version](t)(m.Versions(lookup(t, m.Tree, sharefs.RootIno, name).Ino)) {
				states[i] = append(states[i], fmt.Sprint(name, v.Number))
			}
		}
	}
	if !slices.Equal(states[0], states[1]) {
		t.Errorf("every day: %v\nonce: %v", states[0], states[1])
	}
}

func touchMany(t testing.TB, m *agingTree, dir sharefs.Ino, name string, n int) sharefs.Ino {
	t.Helper()
	var ino sharefs.Ino
	for i := range n {
		m.pass(10 * time.Minute)
		a, h, err := m.Create(dir, name, unix.O_RDWR|unix.O_TRUNC, 0o644, root)
		check(t, err)
		writeAll(t, h, fmt.Sprint(name, " ", i, strings.Repeat("y", 1000)))
		check(t, h.Close())
		m.Forget(a.Ino, 1)
		settle(t, m.Tree, a.Ino)
		ino = a.Ino
	}
	capture(t, m.Tree)
	return ino
}

func mkdirIn(t testing.TB, m *agingTree, dir sharefs.Ino, name string) sharefs.Ino {
	t.Helper()
	a := must[sharefs.Attr](t)(m.Mkdir(dir, name, 0o755, root))
	m.Forget(a.Ino, 1)
	return a.Ino
}

func numbers(t testing.TB, m *agingTree, ino sharefs.Ino) (out []uint64) {
	t.Helper()
	for _, v := range must[[]sharefs.Version](t)(m.Versions(ino)) {
		out = append(out, v.Number)
	}
	return out
}

func TestRulesForPaths(t *testing.T) {
	m := newAgingTree(t)
	docs := mkdirIn(t, m, sharefs.RootIno, "docs")
	deep := mkdirIn(t, m, docs, "deep")
	marked := mkdirIn(t, m, sharefs.RootIno, "marked")
	check(t, m.Setxattr(marked, XattrRetain, []byte("forever"), 0))
	wantKind(t, m.Setxattr(marked, XattrRetain, []byte("sometimes"), 0), sharefs.KindInvalid)
	all := touchMany(t, m, deep, "all", 12)
	object := touchMany(t, m, docs, "x.o", 12)
	plain := touchMany(t, m, sharefs.RootIno, "plain", 12)
	below := touchMany(t, m, marked, "z.o", 12)
	own := touchMany(t, m, docs, "own", 12)
	check(t, m.Setxattr(own, XattrRetain, []byte("none"), 0))
	gone := touchMany(t, m, docs, "gone.o", 3)
	check(t, m.Unlink(docs, "gone.o"))
	check(t, m.closeEpoch())
	m.pass(40 * 24 * time.Hour)
	report := m.retain(retain.Policy{
		Rules: retain.Rules{All: retain.Day, Daily: retain.Year}, MinVersions: 2,
		Paths: []retain.Path{
			{Match: "docs/", Rule: retain.Rule{Rules: retain.Rules{All: retain.Forever}}},
			{Match: "*.o", Rule: retain.Rule{MinVersions: 1}},
		},
	})
	if len(report.Remarks) > 0 {
		t.Error(report.Remarks)
	}
	every := []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	for ino, want := range map[sharefs.Ino][]uint64{all: every, object: {12}, plain: {11, 12}, below: every, own: {12}, gone: nil} {
		if got := numbers(t, m, ino); !slices.Equal(got, want) {
			t.Errorf("inode %d has %v, want %v", ino, got, want)
		}
	}
	if list := must[[]string](t)(m.Listxattr(marked)); !slices.Contains(list, XattrRetain) {
		t.Error("the rule is not listed")
	}
}

// What a rule for a path does not keep at a kept instant must not be taken for what came before it.
func TestThinnedContentIsNotMistaken(t *testing.T) {
	m := newAgingTree(t)
	ino := save(t, m.Tree, "f", "first")
	capture(t, m.Tree)
	tag := must[Moment](t)(m.SetTag(sharefs.RootIno, "first", sharefs.MaxHLC, "", root))
	m.pass(30 * time.Minute)
	var last Moment
	for i := range 5 { // the moment with a name between two that have none is that of the third one
		m.pass(time.Hour)
		save(t, m.Tree, "f", fmt.Sprint("later ", i))
		if i == 2 {
			check(t, m.closeEpoch())
			last = Moment{At: must[sharefs.HLC](t)(m.Snapshot())}
		}
	}
	capture(t, m.Tree)
	m.pass(100 * 24 * time.Hour)
	m.retain(retain.Policy{Rules: retain.Rules{All: retain.Forever}, Paths: []retain.Path{{Match: "f", Rule: retain.Rule{MinVersions: 1}}}})
	if got := numbers(t, m, ino); !slices.Equal(got, []uint64{1, 6}) {
		t.Errorf("versions %v", got)
	}
	v := must[*View](t)(m.ViewAt(tag.At))
	if text, err := pastContent(v, ino); text != "first" || err != nil {
		t.Errorf("at the tag: %q, %v", text, err)
	}
	v = must[*View](t)(m.ViewAt(last.At))
	if text, err := pastContent(v, ino); !errors.Is(err, sharefs.KindNotExist) || !strings.Contains(err.Error(), "retention") {
		t.Errorf("what was removed is %q, %v", text, err)
	}
	if a, err := v.Getattr(ino); err != nil || a.Size != uint64(len("later 2")) {
		t.Errorf("attributes of what was removed: %+v, %v", a, err)
	}
}

func TestQuota(t *testing.T) {
	m := newAgingTree(t)
	for i := range 30 {
		m.pass(24 * time.Hour)
		save(t, m.Tree, "f", fmt.Sprint(i, strings.Repeat(fmt.Sprint(i), 2000)))
		capture(t, m.Tree)
		if i == 4 {
			must[Moment](t)(m.SetTag(sharefs.RootIno, "fifth", sharefs.MaxHLC, "", root))
		}
	}
	ino := lookup(t, m.Tree, sharefs.RootIno, "f").Ino
	p := retain.Policy{Rules: retain.Rules{All: retain.Day, Daily: retain.Year}, MinVersions: 3, Quota: 1 << 30}
	if r := m.retain(p); r.Removed > 0 || r.Quota == nil || !r.Quota.Cut.IsZero() || r.Quota.After != r.Quota.Before {
		t.Errorf("a large quota: %+v", r)
	}
	p.Quota = 40_000
	r := m.retain(p)
	got := numbers(t, m, ino)
	if r.Quota.After > p.Quota || r.Quota.Cut.IsZero() || r.Removed == 0 || got[0] != 5 || len(got) < 5 || len(got) > 14 {
		t.Errorf("a quota of %d: versions %v, %+v", p.Quota, got, r.Quota)
	}
	if r := m.retain(p); r.Removed > 0 || r.Quota.After > p.Quota {
		t.Errorf("a second time: %+v", r)
	}
	p.Quota = retain.NoHistory
	r = m.retain(p)
	if got := numbers(t, m, ino); !slices.Equal(got, []uint64{5, 28, 29, 30}) || r.Quota.After <= p.Quota || !strings.Contains(r.Text(), " 0 B cannot be kept") {
		t.Errorf("a quota that cannot be kept: versions %v, %s", got, r.Text())
	}
}

// What was removed a moment ago counts for a quota: whoever leaves a full disk does not have to know how long that takes.
func TestQuotaRightAfterARemoval(t *testing.T) {
	m := newAgingTree(t)
	m.pass(time.Hour)
	var inos []sharefs.Ino
	for i := range 4 {
		inos = append(inos, save(t, m.Tree, fmt.Sprint("f", i), strings.Repeat(fmt.Sprint(i), 20_000)))
	}
	capture(t, m.Tree)
	m.pass(time.Hour)
	for i, ino := range inos {
		check(t, m.Unlink(sharefs.RootIno, fmt.Sprint("f", i)))
		m.Forget(ino, m.refs.held(ino))
	}
	p := retain.Policy{Rules: retain.Rules{All: retain.Year}, MinVersions: 3, Quota: 1}
	for _, dry := range []bool{true, false} {
		r := must[RetainReport](t)(m.Retain(t.Context(), RetainOptions{Policy: &p, DryRun: dry, Hurry: true}, nil))
		if r.Removed != 4 || r.Quota.After > 0 {
			t.Errorf("dry %v: %s", dry, r.Text())
		}
	}
}

func TestRowsOfTheGoneGo(t *testing.T) {
	m := newAgingTree(t)
	ino := save(t, m.Tree, "gone", "1")
	check(t, m.Setxattr(ino, "user.a", []byte("b"), 0))
	for i := range 5 {
		next := write(t, m.Tree, "temporary", fmt.Sprint(i))
		rename(t, m.Tree, "temporary", "gone")
		settle(t, m.Tree, next)
		ino = next
		m.pass(time.Minute)
		check(t, m.closeEpoch())
	}
	capture(t, m.Tree)
	unlink(t, m.Tree, "gone")
	check(t, m.closeEpoch())
	check(t, m.reapAll())
	m.pass(100 * 24 * time.Hour)
	save(t, m.Tree, "other", "x")
	check(t, m.closeEpoch())
	p := retain.Policy{Rules: retain.Rules{All: retain.Day, Weekly: 30 * retain.Day}, MinVersions: 3}
	m.retain(p)
	for range 5 { // a chain whose inodes are not in the order of their numbers takes several
		m.retain(p)
	}
	for _, space := range []uint8{spaceVersion, spaceLineage, spaceXattr, spaceInode, spaceDentry} {
		n := 0
		check(t, m.db.Scan(space, nil, nil, func(key, _ []byte) bool { n++; return true }))
		if want := map[uint8]int{spaceVersion: 1, spaceInode: 2, spaceDentry: 1}[space]; n > want+1 {
			t.Errorf("space %d has %d rows", space, n)
		}
	}
	if h := must[[]Ever](t)(everIn(m.Tree, sharefs.RootIno)); len(h) != 1 || h[0].Name != "other" {
		t.Errorf("names that ever were: %v", h)
	}
	if _, err := m.Past(sharefs.RootIno, "gone"); !errors.Is(err, sharefs.KindNotExist) {
		t.Error(err)
	}
}

func everIn(tree *Tree, dir sharefs.Ino) (out []Ever, err error) {
	err = tree.NamesEver(dir, 0, func(e Ever) bool { out = append(out, e); return true })
	return out, err
}

func TestRetainRowFormat(t *testing.T) {
	r := retainRow{kept: retain.Kept{Since: 0x0102030405060708, At: []sharefs.HLC{1, 2}}, ended: 9, phase: phaseInodes, key: []byte("k")}
	want := "\x01\x01\x02\x03\x04\x05\x06\x07\x08\x00\x00\x00\x00\x00\x00\x00\x09\x05\x01k\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02"
	if got := string(r.encode()); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	back, err := decodeRetain([]byte(want))
	if err != nil || fmt.Sprint(back) != fmt.Sprint(r) {
		t.Errorf("%+v, %v", back, err)
	}
	for _, bad := range []string{"", "\x02", want[:len(want)-1], want + "\x00\x00\x00\x00\x00\x00\x00\x01"} {
		if _, err := decodeRetain([]byte(bad)); sharefs.KindOf(err) != sharefs.KindCorrupt {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzRetainRow(f *testing.F) {
	row := retainRow{kept: retain.Kept{Since: 100, At: []sharefs.HLC{1, 2}}, key: []byte("key"), phase: 3}
	f.Add(row.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRetain(b)
		if err == nil && string(r.encode()) != string(b) {
			if again, err := decodeRetain(r.encode()); err != nil || fmt.Sprint(again) != fmt.Sprint(r) {
				t.Fatalf("%+v, %+v, %v", r, again, err)
			}
		}
	})
}

func TestRetainReportText(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	r := RetainReport{DryRun: true, Complete: true, Since: at, Instants: 7, Named: 2, Versions: 10, Removed: 4, Bytes: 5_000_000,
		States: RetainStates{Looked: 9, Removed: 3}, Quota: &RetainQuota{Limit: 1000, Before: 2000, After: 900, Cut: at},
		Examples: []RetainExample{{Path: "/a", Versions: []uint64{9, 8}, Count: 3, Bytes: 10}}, Remarks: []string{"mind this"}}
	text := r.Text()
	for _, want := range []string{"dry run", "since 2026-01-02 03:04:05, and 7 before", "4 of 10 would be removed", "3 of 9", "/a: 3", "(… 8 9)", "mind this", "nothing before 2026"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	r.Complete, r.Since = false, time.Time{}
	if text := r.Text(); !strings.Contains(text, "every moment") || !strings.Contains(text, "stopped") {
		t.Error(text)
	}
}

// A file that was replaced by name is one line, whatever inodes it had.
func TestRetainExamplesAreOfFiles(t *testing.T) {
	got := joinExamples([]RetainExample{
		{Path: "/a", Versions: []uint64{9, 8}, Count: 3, Bytes: 10}, {Path: "/b", Versions: []uint64{1}, Count: 1}, {Versions: []uint64{5}, Count: 1},
		{Path: "/a", Versions: []uint64{12, 11, 10}, Count: 3, Bytes: 5}, {Versions: []uint64{6}, Count: 1}, {Path: "/a", Versions: []uint64{6, 5, 4, 3}, Count: 4},
	})
	want := []RetainExample{
		{Path: "/a", Versions: []uint64{12, 11, 10, 9, 8, 6, 5, 4}, Count: 10, Bytes: 15}, {Path: "/b", Versions: []uint64{1}, Count: 1},
		{Versions: []uint64{5}, Count: 1}, {Versions: []uint64{6}, Count: 1},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
