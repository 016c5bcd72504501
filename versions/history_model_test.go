package versions

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/integration/race"
)

// historyModel is what the past of some names should be: a plain list of contents for each.
type historyModel struct {
	t     testing.TB
	r     *rand.Rand
	tree  *Tree
	dir   string
	files map[string]*modelFile // the names that are borne
	past  map[string][]string   // of the names that are not
	moved int
	log   []string
}

// modelFile is a file with a name.
type modelFile struct {
	ino     sharefs.Ino
	content string
	past    []string // what its versions hold, those that it continues included
	dirty   bool     // it was changed since the last of them
}

func (m *historyModel) names() []string { return []string{"a", "b", "c"} }

func (m *historyModel) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

// text returns some content that was never there before.
func (m *historyModel) text() string {
	s := fmt.Sprintf("%d %d ", len(m.log), m.r.Uint32())
	if m.r.IntN(8) == 0 {
		s += strings.Repeat(s, m.r.IntN(6000))
	}
	return s
}

// step does something at random, to the tree and to the model.
func (m *historyModel) step() {
	t, tree := m.t, m.tree
	name := m.names()[m.r.IntN(3)]
	f := m.files[name]
	if f == nil {
		m.make(name)
		return
	}
	switch n := m.r.IntN(100); {
	case n < 20:
		f.content, f.dirty = m.text(), true
		m.note("rewrite %s", name)
		rewrite(t, tree, f.ino, f.content)
	case n < 30:
		m.overwrite(name, f)
	case n < 35:
		m.note("cut %s", name)
		size := uint64(m.r.IntN(len(f.content) + 1))
		must[sharefs.Attr](t)(tree.Setattr(f.ino, &SetAttr{Size: &size}, root))
		f.content, f.dirty = f.content[:size], true
	case n < 50:
		m.note("settle %s", name)
		m.settle(f)
	case n < 60:
		m.note("capture")
		capture(t, tree)
	case n < 75:
		m.replace(name, f)
	case n < 80:
		m.note("unlink %s", name)
		unlink(t, tree, name)
		m.past[name] = f.past
		delete(m.files, name)
	case n < 83:
		m.note("move %s away", name)
		m.settle(f) // an unsettled one that moves on may leave its past behind
		m.moved++
		rename(t, tree, name, fmt.Sprint("moved ", m.moved))
		m.past[name] = f.past
		delete(m.files, name)
	case n < 88:
		m.note("commit %s", name)
		_, fresh, err := tree.Commit(f.ino, "")
		check(t, err)
		if fresh != f.dirty {
			t.Fatalf("commit of %s makes a version: %v", name, fresh)
		}
		m.settled(f)
	case n < 93:
		m.restore(name, f)
	case n < 97:
		check(t, tree.closeEpoch())
	default:
		m.note("close and open again")
		check(t, tree.Close())
		for _, f := range m.files {
			m.settled(f)
		}
		m.tree = testTree(t, m.dir, byHand)
	}
}

// make gives a vacant name to a new file.
func (m *historyModel) make(name string) {
	m.note("make %s", name)
	f := &modelFile{content: m.text(), past: slices.Clone(m.past[name]), dirty: true}
	f.ino = write(m.t, m.tree, name, f.content)
	m.files[name] = f
	m.note("(%d)", f.ino)
}

// overwrite changes a part of a file through a handle that may stay open while the file is captured.
func (m *historyModel) overwrite(name string, f *modelFile) {
	t := m.t
	h := must[*Handle](t)(m.tree.Open(f.ino, readWrite(m.tree), root))
	if m.r.IntN(4) > 0 {
		m.note("overwrite a part of %s", name)
		part, off := m.text(), m.r.IntN(len(f.content)+1)
		must[int](t)(h.WriteAt([]byte(part), int64(off)))
		b := []byte(f.content[:off] + part)
		if len(b) < len(f.content) {
			b = append(b, f.content[len(b):]...)
		}
		f.content, f.dirty = string(b), true
	} else {
		m.note("open %s for writing and write nothing", name)
	}
	if m.r.IntN(2) == 0 {
		capture(t, m.tree)
	}
	check(t, h.Close())
}

// replace gives the name of a file to a new one, as programs do that save.
func (m *historyModel) replace(name string, f *modelFile) {
	n := &modelFile{content: m.text(), past: slices.Clone(f.past), dirty: true}
	temp := []string{"temporary", fmt.Sprint(".", name, ".swp")}[m.r.IntN(2)]
	n.ino = write(m.t, m.tree, temp, n.content)
	slowly := m.r.IntN(4) == 0
	m.note("replace %s (%d) by %s (%d), slowly: %v", name, f.ino, temp, n.ino, slowly)
	if slowly {
		settle(m.t, m.tree, n.ino)
		m.settled(n)
	}
	rename(m.t, m.tree, temp, name)
	m.files[name] = n
	check(m.t, m.tree.closeEpoch()) // a removal within the same instant would look as if it had been one of the temporary name
}

func (m *historyModel) settle(f *modelFile) {
	settle(m.t, m.tree, f.ino)
	m.settled(f)
}

// settled notes that what a file holds counts as closed.
func (m *historyModel) settled(f *modelFile) {
	if f.dirty {
		f.past = append(f.past, f.content)
	}
	f.dirty = false
	if !m.tree.closed.Load() {
		check(m.t, m.tree.closeEpoch()) // settling takes longer than an instant lasts
	}
}

func (m *historyModel) restore(name string, f *modelFile) {
	if len(f.past) == 0 {
		return
	}
	n := m.r.IntN(len(f.past))
	m.note("restore %s, version %d", name, n+1)
	m.settled(f)
	live := f.past[n] == f.content // the last one, or one that is the same
	err := m.tree.Restore(Op{}, f.ino, uint64(n+1), root)
	if live {
		wantKind(m.t, err, sharefs.KindExist)
		return
	}
	check(m.t, err)
	f.content = f.past[n]
	f.past = append(f.past, f.content)
}

// compare holds all names against the model.
func (m *historyModel) compare() {
	t := m.t
	for _, name := range m.names() {
		want, f := m.past[name], m.files[name]
		var ino sharefs.Ino
		if f != nil {
			want, ino = f.past, f.ino
			if got := content(t, m.tree, ino); got != f.content[:min(len(f.content), 1<<20)] {
				t.Fatalf("%s holds %.40q…, want %.40q…", name, got, f.content)
			}
		} else {
			var err error
			if ino, err = m.tree.Past(sharefs.RootIno, name); err != nil {
				if sharefs.KindOf(err) != sharefs.KindNotExist || len(want) > 0 {
					t.Fatalf("%s is vacant, with %d versions in its past: %v", name, len(want), err)
				}
				continue
			}
		}
		all := must[[]sharefs.Version](t)(m.tree.Versions(ino))
		if len(all) != len(want) {
			t.Fatalf("%s has %d versions, want %d", name, len(all), len(want))
		}
		for i, v := range all {
			if got := readVersion(t, m.tree, ino, v.Number); got != want[i] {
				t.Fatalf("version %d of %s is %.40q…, want %.40q…", v.Number, name, got, want[i])
			}
			if live := f != nil && !f.dirty && i == len(all)-1; f != nil && v.Live != live {
				t.Fatalf("version %d of %s: live is %v", v.Number, name, v.Live)
			}
		}
	}
}

func TestHistoryModel(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	seeds := uint64(5)
	if os.Getenv("SHAREFS_SOAK") != "" {
		seeds = 200
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir := t.TempDir()
			m := &historyModel{
				t: t, r: rand.New(rand.NewPCG(seed, 11)), dir: dir, tree: testTree(t, dir, byHand),
				files: map[string]*modelFile{}, past: map[string][]string{},
			}
			defer func() {
				if t.Failed() {
					t.Logf("steps: %s", strings.Join(m.log, "; "))
				}
			}()
			for i := range 80 {
				m.step()
				if i%8 == 7 {
					m.compare()
				}
			}
			capture(t, m.tree)
			m.compare()
			check(t, m.tree.Close())
			m.tree = testTree(t, dir, byHand)
			for _, f := range m.files {
				m.settled(f)
			}
			m.compare()
			if left := asideFiles(t, m.tree); len(left) > 0 {
				capture(t, m.tree)
				if left = asideFiles(t, m.tree); len(left) > 0 {
					t.Errorf("%v stay aside", left)
				}
			}
			if n := m.tree.HistoryStats(); n.Lost > 0 || n.TooLarge > 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}
