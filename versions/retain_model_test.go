package versions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/internal/retain"
)

// shot returns the tree as a view shows it: paths with types and contents.
func shot(v *View) (map[string]string, error) {
	out := map[string]string{}
	var walk func(dir sharefs.Ino, path string) error
	walk = func(dir sharefs.Ino, path string) error {
		var entries []sharefs.Dentry
		if err := v.ReadDir(dir, 0, func(d sharefs.Dentry) bool { entries = append(entries, d); return true }); err != nil {
			return err
		}
		for _, d := range entries {
			at := path + "/" + d.Name
			a, err := v.Getattr(d.Ino)
			if err != nil {
				return err
			}
			out[at] = fmt.Sprintf("%o", a.Mode)
			switch d.Type {
			case sharefs.ModeDir:
				if err := walk(d.Ino, at); err != nil {
					return err
				}
			case sharefs.ModeRegular:
				text, err := pastContent(v, d.Ino)
				if err != nil {
					return err
				}
				x, err := v.Getxattr(d.Ino, "user.x")
				if err != nil && !errors.Is(err, sharefs.KindNoAttr) {
					return err
				}
				out[at] += " " + text + string(x)
			}
		}
		return nil
	}
	return out, walk(sharefs.RootIno, "")
}

func pastContent(v *View, ino sharefs.Ino) (string, error) {
	r, err := v.Open(ino)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	return string(b), err
}

// retainModel remembers everything that a tree ever was.
type retainModel struct {
	*agingTree
	r     *rand.Rand
	n     int
	at    []sharefs.HLC // moments at which the tree was looked at, rising
	shots []map[string]string
	past  map[string]map[uint64]string // name, number → content, of files that live
	began map[string]map[uint64]sharefs.HLC
	until map[string]map[uint64]sharefs.HLC // when it was not what the file held any more
	tags  []string
	calm  bool // nothing is removed: when all versions of a name are gone its numbers begin anew
}

func (m *retainModel) text() string {
	m.n++
	return fmt.Sprint(m.n, " ", strings.Repeat("x", m.r.IntN(40)))
}

// step changes something and remembers what there is then.
func (m *retainModel) step() {
	t := m.t
	name := []string{"a", "b", "c"}[m.r.IntN(3)]
	a, err := m.Lookup(sharefs.RootIno, name)
	if err == nil {
		m.Forget(a.Ino, 1)
	}
	switch n := m.r.IntN(100); {
	case err != nil:
		settle(t, m.Tree, write(t, m.Tree, name, m.text()))
	case n < 50:
		rewrite(t, m.Tree, a.Ino, m.text())
		settle(t, m.Tree, a.Ino)
	case n < 70: // as editors save
		ino := write(t, m.Tree, "temporary", m.text())
		rename(t, m.Tree, "temporary", name)
		settle(t, m.Tree, ino)
	case n < 80:
		mode := uint32(0o600 + m.r.IntN(64))
		must[sharefs.Attr](t)(m.Setattr(a.Ino, &SetAttr{Mode: &mode}, root))
	case n < 85:
		check(t, m.Setxattr(a.Ino, "user.x", []byte(m.text()), 0))
	case n < 90:
		dir := "dir" + fmt.Sprint(m.r.IntN(3))
		if _, err := m.Mkdir(sharefs.RootIno, dir, 0o755, root); err != nil {
			check(t, m.Rmdir(sharefs.RootIno, dir))
		}
	case n < 94 && !m.calm:
		m.until[name][slices.Max(slices.Collect(maps.Keys(m.past[name])))] = m.clock.Next()
		unlink(t, m.Tree, name)
		delete(m.past, name)
		delete(m.began, name)
	}
	if m.r.IntN(3) == 0 {
		capture(t, m.Tree)
	}
	m.look()
}

// look remembers what there is.
func (m *retainModel) look() {
	t := m.t
	at := must[sharefs.HLC](t)(m.Snapshot())
	m.at, m.shots = append(m.at, at), append(m.shots, must[map[string]string](t)(shot(must[*View](t)(m.ViewAt(at)))))
	for _, name := range []string{"a", "b", "c"} {
		a, err := m.Lookup(sharefs.RootIno, name)
		if err != nil {
			continue
		}
		m.Forget(a.Ino, 1)
		past, began := map[uint64]string{}, map[uint64]sharefs.HLC{}
		if m.past[name] != nil {
			past, began = m.past[name], m.began[name]
		}
		if m.until[name] == nil {
			m.until[name] = map[uint64]sharefs.HLC{}
		}
		var before sharefs.Version
		for _, v := range must[[]sharefs.Version](t)(m.Versions(a.Ino)) {
			if began[v.Number] != v.At {
				delete(m.until[name], v.Number) // all versions of the name were removed, and it begins anew
			}
			if m.until[name][before.Number] == 0 && before.Number == v.Number-1 {
				m.until[name][before.Number] = v.At
			}
			before = v
			text := readVersion(t, m.Tree, a.Ino, v.Number)
			if old, ok := past[v.Number]; ok && old != text {
				t.Fatalf("version %d of %s was %q and is %q", v.Number, name, old, text)
			}
			past[v.Number], began[v.Number] = text, v.At
		}
		m.past[name], m.began[name] = past, began
	}
}

// was returns the tree as it was at a moment.
func (m *retainModel) was(at sharefs.HLC) map[string]string {
	i, found := slices.BinarySearch(m.at, at)
	if !found {
		i--
	}
	if i < 0 {
		return map[string]string{}
	}
	return m.shots[i]
}

// compare holds what is kept against what there was.
func (m *retainModel) compare() {
	t := m.t
	k := m.retained.get()
	moments := append(slices.Clone(k.At), m.at[len(m.at)-1])
	for _, at := range m.at {
		if at >= k.Since {
			moments = append(moments, at)
		}
	}
	if k.Since > m.at[0] {
		moments = append(moments, k.Since)
	}
	for _, at := range moments {
		// What is closed gets the time of the close, which lies some real milliseconds before it comes to rest here.
		if i, found := slices.BinarySearch(m.at, at); !found && i < len(m.at) && m.at[i]-at < 60_000<<16 {
			continue
		}
		if at < m.at[0] || m.r.IntN(4) > 0 {
			continue
		}
		v := must[*View](t)(m.ViewAt(at))
		got, err := shot(v)
		if want := m.was(at); v.At() != at || err != nil || !maps.Equal(got, want) {
			t.Fatalf("at %v (%x): %v, %v, want %v", at, uint64(at), got, err, want)
		}
	}
	for _, at := range m.at {
		if m.r.IntN(8) > 0 {
			continue
		}
		last, ok := k.Last(at)
		v, err := m.ViewAt(at)
		if !ok {
			wantKind(t, err, sharefs.KindNotExist)
			continue
		}
		if err != nil || v.At() != last {
			t.Fatalf("a view of %v: %v", at, err)
		}
		if i, found := slices.BinarySearch(m.at, last); !found && i < len(m.at) && m.at[i]-last < 60_000<<16 {
			continue
		}
		if got, err := shot(v); err != nil || last >= m.at[0] && !maps.Equal(got, m.was(last)) {
			t.Fatalf("a view of %v, which is one of %v: %v, want %v", at, last, got, m.was(last))
		}
	}
	problems, err := m.Check()
	if check(t, err); len(problems) > 0 {
		t.Fatal(problems)
	}
}

// compareVersions holds the versions of each live file against those that the rules keep, said in the simplest way.
func (m *retainModel) compareVersions(least int) {
	t := m.t
	k := m.retained.get()
	for name, past := range m.past {
		ino := lookup(t, m.Tree, sharefs.RootIno, name).Ino
		numbers := slices.Sorted(maps.Keys(past))
		var want []uint64
		for i, n := range numbers {
			until := sharefs.MaxHLC
			if at, ok := m.until[name][n]; ok {
				until = at
			}
			at := m.began[name][n]
			if i >= len(numbers)-least || until > k.Since || slices.ContainsFunc(k.At, func(t sharefs.HLC) bool { return at <= t && t < until }) {
				want = append(want, n)
			}
		}
		var got []uint64
		for _, v := range must[[]sharefs.Version](t)(m.Versions(ino)) {
			got = append(got, v.Number)
			if text := readVersion(t, m.Tree, ino, v.Number); text != past[v.Number] {
				t.Fatalf("version %d of %s is %q, was %q", v.Number, name, text, past[v.Number])
			}
			if one := must[sharefs.Version](t)(m.Version(ino, v.Number)); one != v {
				t.Fatalf("version %d of %s by its number: %+v", v.Number, name, one)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s has versions %v, want %v of %v", name, got, want, numbers)
		}
		for _, n := range numbers {
			if _, err := m.Version(ino, n); !slices.Contains(want, n) && !errors.Is(err, sharefs.KindNotExist) {
				t.Fatalf("version %d of %s, which was removed: %v", n, name, err)
			}
		}
		// What is not kept any more will not be looked for again.
		for _, n := range numbers {
			if !slices.Contains(want, n) {
				delete(past, n)
			}
		}
	}
}

func newRetainModel(t testing.TB, seed uint64) *retainModel {
	m := &retainModel{agingTree: newAgingTree(t), r: rand.New(rand.NewPCG(seed, 51)), past: map[string]map[uint64]string{},
		began: map[string]map[uint64]sharefs.HLC{}, until: map[string]map[uint64]sharefs.HLC{}}
	m.look()
	return m
}

// Files that change, are replaced and removed over months, thinned now and then by rules that change, with tags that come and go.
func TestRetainModel(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	seeds := uint64(2)
	if os.Getenv("SHAREFS_SOAK") != "" {
		seeds = 50
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newRetainModel(t, seed)
			p := retain.Policy{Rules: retain.Default(), MinVersions: 2}
			for i := range 120 {
				m.pass(time.Duration(1+m.r.IntN(1+m.r.IntN(40*60))) * time.Minute)
				m.step()
				switch m.r.IntN(10) {
				case 0:
					name := fmt.Sprint("tag", i)
					at := m.at[m.r.IntN(len(m.at))]
					if kept, ok := m.KeptInstant(at); ok && kept >= m.at[0] {
						tag := must[Moment](t)(m.SetTag(sharefs.RootIno, name, at, "", root))
						if tag.At != kept {
							t.Fatalf("a tag of %v is one of %v, and %v is kept", at, tag.At, kept)
						}
						m.tags = append(m.tags, name)
					}
				case 1:
					if len(m.tags) > 0 {
						check(t, m.RemoveTag(sharefs.RootIno, m.tags[0]))
						m.tags = m.tags[1:]
					}
				case 2:
					if m.r.IntN(3) == 0 {
						p.Rules = retain.Rules{All: retain.Span(m.r.IntN(48)) * retain.Hour, Hourly: retain.Span(m.r.IntN(10)) * retain.Day,
							Daily: retain.Span(m.r.IntN(60)) * retain.Day, Weekly: retain.Year, Monthly: retain.Span(m.r.IntN(2)) * retain.Year}
					}
				case 3:
					if m.r.IntN(3) == 0 {
						capture(t, m.Tree)
						check(t, m.Close())
						m.open()
					}
				}
				if i%12 == 11 {
					capture(t, m.Tree)
					check(t, m.reapAll())
					dry, err := m.Retain(context.Background(), RetainOptions{Policy: &p, DryRun: true}, nil)
					check(t, err)
					report := m.retain(p)
					if dry.Removed != report.Removed || dry.States.Removed > report.States.Removed || dry.Bytes != report.Bytes {
						t.Errorf("a dry run said %d versions and %d states, then it was %d and %d", dry.Removed, dry.States.Removed, report.Removed, report.States.Removed)
					}
					m.compare()
					m.compareVersions(p.MinVersions)
					if again := m.retain(p); again.Removed > 0 || again.States.Removed > 3 { // rows of its own, that say how far it came
						t.Errorf("a second time: %+v", again)
					}
				}
			}
			for _, name := range m.tags {
				tag := must[Moment](t)(m.Moment(sharefs.RootIno, name))
				got, err := shot(must[*View](t)(m.ViewAt(tag.At)))
				if want := m.was(tag.At); err != nil || !maps.Equal(got, want) {
					t.Errorf("%s: %v, %v, want %v", name, got, err, want)
				}
			}
			if report := must[GCReport](t)(m.GC(context.Background(), GCOptions{}, nil)); report.ChunksRemoved == 0 {
				t.Error("nothing was collected: the test is smaller than it thinks")
			}
			m.compare()
			check(t, m.Close())
			m.open()
			m.compare()
		})
	}
}
