package versions

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
)

// slowPins finds by walking over the whole tree which files are pinned.
func slowPins(t testing.TB, tree *Tree) map[sharefs.Ino]bool {
	t.Helper()
	pinned := map[sharefs.Ino]bool{}
	own := func(ino sharefs.Ino) bool {
		_, err := tree.Getxattr(ino, XattrPin)
		if sharefs.KindOf(err) != sharefs.KindNoAttr {
			check(t, err)
		}
		return err == nil
	}
	var walk func(dir sharefs.Ino, below bool)
	walk = func(dir sharefs.Ino, below bool) {
		below = below || own(dir)
		var list []sharefs.Attr
		check(t, tree.ReadDir(dir, 0, true, func(_ sharefs.Dentry, a *sharefs.Attr) bool {
			if a.Ino != dir {
				list = append(list, *a)
			}
			return true
		}))
		for _, a := range list {
			switch {
			case a.IsDir():
				walk(a.Ino, below)
			case a.Mode&sharefs.ModeType == sharefs.ModeRegular && (below || own(a.Ino)):
				pinned[a.Ino] = true
			}
		}
	}
	walk(sharefs.RootIno, false)
	return pinned
}

// pinModel is a tree in which names, pins and contents come and go.
type pinModel struct {
	t     *testing.T
	rng   *rand.Rand
	dir   string
	tree  *Tree
	far   *faraway
	pool  []Content
	dirs  []sharefs.Ino
	names map[sharefs.Ino][]Name // of files
	above map[sharefs.Ino]Name   // of directories but the root
	n     int
}

func (m *pinModel) someDir() sharefs.Ino { return m.dirs[m.rng.IntN(len(m.dirs))] }

func (m *pinModel) someFile() sharefs.Ino {
	inos := make([]sharefs.Ino, 0, len(m.names))
	for ino := range m.names {
		inos = append(inos, ino)
	}
	if len(inos) == 0 {
		return 0
	}
	slices.Sort(inos)
	return inos[m.rng.IntN(len(inos))]
}

func (m *pinModel) fresh() string {
	m.n++
	return fmt.Sprint("n", m.n)
}

// drop forgets a name that was taken away.
func (m *pinModel) drop(n Name) {
	m.names[n.Ino] = slices.DeleteFunc(m.names[n.Ino], func(o Name) bool { return o == n })
	if len(m.names[n.Ino]) == 0 {
		delete(m.names, n.Ino)
	}
}

func (m *pinModel) pin(ino sharefs.Ino, on bool) {
	var err error
	if on {
		err = m.tree.Setxattr(ino, XattrPin, []byte(PinHere), 0)
	} else {
		err = m.tree.Removexattr(ino, XattrPin)
	}
	if sharefs.KindOf(err) != sharefs.KindNoAttr {
		check(m.t, err)
	}
}

func (m *pinModel) step() string {
	t, tree := m.t, m.tree
	switch op := m.rng.IntN(20); op {
	case 0, 1, 2:
		dir, name := m.someDir(), m.fresh()
		a := must[sharefs.Attr](t)(tree.Put(dir, name, New{Mode: sharefs.ModeRegular | 0o644, Staged: absentStage(t, tree, m.far, m.pool[m.rng.IntN(len(m.pool))])}, root))
		m.names[a.Ino] = []Name{{Ino: a.Ino, Parent: dir, Name: name}}
		return fmt.Sprintf("arrives %d in %d", a.Ino, dir)
	case 3, 4:
		dir, name := m.someDir(), m.fresh()
		a := must[sharefs.Attr](t)(tree.Mkdir(dir, name, 0o755, root))
		m.dirs = append(m.dirs, a.Ino)
		m.above[a.Ino] = Name{Ino: a.Ino, Parent: dir, Name: name}
		return fmt.Sprintf("mkdir %d in %d", a.Ino, dir)
	case 5, 6:
		dir := m.someDir()
		on := m.rng.IntN(3) > 0
		m.pin(dir, on)
		return fmt.Sprintf("pin directory %d: %v", dir, on)
	case 7:
		ino := m.someFile()
		if ino == 0 {
			return "-"
		}
		on := m.rng.IntN(3) > 0
		m.pin(ino, on)
		return fmt.Sprintf("pin %d: %v", ino, on)
	case 8, 9, 10, 11: // a directory moves
		if len(m.dirs) < 2 {
			return "-"
		}
		d := m.dirs[1+m.rng.IntN(len(m.dirs)-1)]
		to, name := m.someDir(), m.fresh()
		from := m.above[d]
		err := tree.Rename(from.Parent, from.Name, to, name, 0)
		if sharefs.KindOf(err) == sharefs.KindInvalid { // into itself
			return "-"
		}
		check(t, err)
		m.above[d] = Name{Ino: d, Parent: to, Name: name}
		return fmt.Sprintf("directory %d goes from %d to %d", d, from.Parent, to)
	case 12: // two directories change places
		if len(m.dirs) < 3 {
			return "-"
		}
		a, b := m.above[m.dirs[1+m.rng.IntN(len(m.dirs)-1)]], m.above[m.dirs[1+m.rng.IntN(len(m.dirs)-1)]]
		err := tree.Rename(a.Parent, a.Name, b.Parent, b.Name, unix.RENAME_EXCHANGE)
		if a.Ino == b.Ino || sharefs.KindOf(err) == sharefs.KindInvalid {
			return "-"
		}
		check(t, err)
		a.Ino, b.Ino = b.Ino, a.Ino
		m.above[a.Ino], m.above[b.Ino] = a, b
		return fmt.Sprintf("directories %d and %d change places", a.Ino, b.Ino)
	case 13, 14: // a file moves, perhaps over another one
		ino, other := m.someFile(), m.someFile()
		if ino == 0 || other == ino {
			return "-"
		}
		from := m.names[ino][m.rng.IntN(len(m.names[ino]))]
		to := Name{Ino: ino, Parent: m.someDir(), Name: m.fresh()}
		if m.rng.IntN(2) == 0 {
			over := m.names[other][0]
			to.Parent, to.Name = over.Parent, over.Name
			m.drop(over)
		}
		check(t, tree.Rename(from.Parent, from.Name, to.Parent, to.Name, 0))
		m.drop(from)
		m.names[ino] = append(m.names[ino], to)
		return fmt.Sprintf("file %d goes from %d to %d", ino, from.Parent, to.Parent)
	case 15:
		ino := m.someFile()
		if ino == 0 {
			return "-"
		}
		n := Name{Ino: ino, Parent: m.someDir(), Name: m.fresh()}
		must[sharefs.Attr](t)(tree.Link(ino, n.Parent, n.Name))
		tree.Forget(ino, 1)
		m.names[ino] = append(m.names[ino], n)
		return fmt.Sprintf("link %d in %d", ino, n.Parent)
	case 16:
		ino := m.someFile()
		if ino == 0 {
			return "-"
		}
		n := m.names[ino][0]
		check(t, tree.Unlink(n.Parent, n.Name))
		m.drop(n)
		return fmt.Sprintf("unlink %d in %d", ino, n.Parent)
	case 17:
		ino := m.someFile()
		if ino == 0 {
			return "-"
		}
		check(t, tree.Bring(nil, ino, true, nil))
		return fmt.Sprintf("bring %d", ino)
	case 18:
		ino := m.someFile()
		if ino == 0 {
			return "-"
		}
		_, errs := tree.Free([]sharefs.Ino{ino}, func(_ sharefs.Ino, c *Content) error { return m.far.keep(tree, c) })
		return fmt.Sprintf("free %d: %v", ino, errs)
	default:
		if m.rng.IntN(4) > 0 {
			return "-"
		}
		m.reopen()
		return "reopen"
	}
}

func (m *pinModel) reopen() {
	if m.tree != nil && m.rng.IntN(2) == 0 {
		m.dir = killed(m.t, m.tree)
	} else if m.tree != nil {
		check(m.t, m.tree.Close())
	}
	m.tree = testTree(m.t, m.dir, byHand)
	m.tree.SetElsewhere(m.far)
}

// same compares what the tree says with the slow walk.
func (m *pinModel) same() error {
	t := m.t
	want := slowPins(t, m.tree)
	// At once: what is not below a pin any more is not pinned, though nobody has looked at it yet.
	for ino := range m.names {
		if m.tree.Pinned(ino) && !want[ino] {
			return fmt.Errorf("%d counts as pinned", ino)
		}
	}
	check(t, m.tree.PinsSettled(nil))
	lack := map[sharefs.Ino]bool{}
	list := must[[]sharefs.Ino](t)(m.tree.PinLacking(0, 1<<20))
	for _, ino := range list {
		lack[ino] = true
	}
	each := map[sharefs.Ino]bool{}
	check(t, m.tree.EachPinned(func(ino sharefs.Ino, _ uint64, _ bool) bool {
		each[ino] = true
		return true
	}))
	for ino := range m.names {
		if m.tree.Pinned(ino) != want[ino] || each[ino] != want[ino] {
			return fmt.Errorf("%d is pinned: %v, listed: %v, want %v", ino, m.tree.Pinned(ino), each[ino], want[ino])
		}
		if lacks := want[ino] && isAbsent(m.tree, ino); lack[ino] != lacks {
			return fmt.Errorf("%d lacks: %v, want %v", ino, lack[ino], lacks)
		}
	}
	if len(list) > len(m.names) {
		return fmt.Errorf("what lacks is listed several times: %v", list)
	}
	return nil
}

func TestPinModel(t *testing.T) {
	race.Leave(t, race.OneHand)
	_, far, _, _, list := absentFiles(t)
	for seed := range uint64(6) {
		dir := t.TempDir()
		m := &pinModel{t: t, rng: rand.New(rand.NewPCG(seed, 1)), dir: dir, far: far, pool: list[:2], dirs: []sharefs.Ino{sharefs.RootIno}, names: map[sharefs.Ino][]Name{}, above: map[sharefs.Ino]Name{}}
		m.reopen()
		var log []string
		for range 250 {
			log = append(log, m.step())
			if m.rng.IntN(3) > 0 {
				continue
			}
			if err := m.same(); err != nil {
				t.Fatalf("seed %d: %v, after\n%q", seed, err, log)
			}
		}
		if err := m.same(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		// Nothing is left of what is gone.
		for ino, names := range m.names {
			for _, n := range names {
				check(t, m.tree.Unlink(n.Parent, n.Name))
			}
			delete(m.names, ino)
		}
		for _, d := range m.dirs {
			m.pin(d, false)
		}
		check(t, m.tree.PinsSettled(nil))
		check(t, m.tree.Close()) // which clears away what has no name
		m.tree = nil
		m.reopen()
		check(t, m.tree.PinsSettled(nil))
		must[[]sharefs.Ino](t)(m.tree.PinLacking(0, 1<<20))
		left := 0
		check(t, m.tree.db.Scan(spacePin, nil, nil, func(key, _ []byte) bool {
			t.Logf("left: %x", key)
			left++
			return true
		}))
		if left > 0 {
			t.Errorf("seed %d: %d rows of pins are left", seed, left)
		}
	}
}
