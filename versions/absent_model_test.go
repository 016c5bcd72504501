package versions

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
)

// absentModel is a tree and what its files have to hold.
type absentModel struct {
	t     *testing.T
	rng   *rand.Rand
	tree  *Tree
	far   *faraway
	pool  []Content // that may arrive
	texts []string
	want  map[sharefs.Ino]string
	inos  []sharefs.Ino
	open  map[*Handle]bool
}

func (m *absentModel) some() sharefs.Ino { return m.inos[m.rng.IntN(len(m.inos))] }

// rest has a file come to rest and captured.
func (m *absentModel) rest(ino sharefs.Ino) bool {
	rests, err := trySettle(m.tree, ino)
	check(m.t, err)
	if rests {
		capture(m.t, m.tree)
	}
	return rests
}

func (m *absentModel) read(h *Handle) {
	m.t.Helper()
	want := m.want[h.Ino()]
	off := m.rng.IntN(len(want) + 1)
	b := make([]byte, m.rng.IntN(200_000))
	n := must[int](m.t)(h.ReadAt(b, int64(off)))
	if string(b[:n]) != want[off:min(len(want), off+len(b))] {
		m.t.Fatalf("inode %d differs behind %d", h.Ino(), off)
	}
}

func (m *absentModel) reopen(dir string) {
	for h := range m.open {
		check(m.t, h.Close())
	}
	clear(m.open)
	m.tree = testTree(m.t, dir, byHand)
	m.tree.SetElsewhere(m.far)
	comeToRest(m.t, m.tree)
	capture(m.t, m.tree)
}

func (m *absentModel) step() string {
	t, ino := m.t, m.some()
	switch op := m.rng.IntN(15); op {
	case 0, 1, 2:
		h := must[*Handle](t)(m.tree.Open(ino, unix.O_RDONLY, root))
		m.read(h)
		check(t, h.Close())
		return "read"
	case 3:
		h := must[*Handle](t)(m.tree.Open(ino, unix.O_RDONLY, root))
		m.open[h] = true
		return "open"
	case 4:
		for h := range m.open {
			m.read(h)
			check(t, h.Close())
			delete(m.open, h)
			break
		}
		return "close"
	case 5:
		h := must[*Handle](t)(m.tree.Open(ino, unix.O_RDWR, root))
		text := blob(m.rng.Uint64(), m.rng.IntN(50_000)+1)
		off := m.rng.IntN(len(m.want[ino]) + 1)
		must[int](t)(h.WriteAt([]byte(text), int64(off)))
		was := m.want[ino]
		m.want[ino] = was[:off] + text + was[min(len(was), off+len(text)):]
		check(t, h.Close())
		return fmt.Sprintf("write inode %d", ino)
	case 6:
		text := blob(m.rng.Uint64(), m.rng.IntN(100_000)+1)
		rewrite(t, m.tree, ino, text)
		m.want[ino] = text
		return fmt.Sprintf("rewrite inode %d", ino)
	case 7:
		size := uint64(m.rng.IntN(len(m.want[ino]) + 1))
		must[sharefs.Attr](t)(m.tree.Setattr(ino, &SetAttr{Size: &size}, root))
		m.want[ino] = m.want[ino][:size]
		return fmt.Sprintf("truncate inode %d", ino)
	case 8, 9:
		var list []sharefs.Ino
		for range 2 {
			if ino := m.some(); m.rest(ino) {
				list = append(list, ino)
			}
		}
		m.tree.Free(list, func(_ sharefs.Ino, c *Content) error { return m.far.keep(m.tree, c) })
		return fmt.Sprintf("free %v", list)
	case 10, 11:
		if !m.rest(ino) {
			return "-"
		}
		i := m.rng.IntN(len(m.pool))
		s := absentStage(t, m.tree, m.far, m.pool[i])
		_, err := m.tree.Adopt(ino, s, must[Latest](t)(m.tree.Latest(ino)).Own)
		s.Drop()
		switch sharefs.KindOf(err) {
		default:
			check(t, err)
			m.want[ino] = m.texts[i]
		case sharefs.KindBusy, sharefs.KindAgain:
			if err == nil {
				m.want[ino] = m.texts[i]
			}
		}
		return fmt.Sprintf("adopt inode %d: %v", ino, err)
	case 12:
		check(t, m.tree.Bring(nil, ino, true, nil))
		if isAbsent(m.tree, ino) {
			t.Fatal("it is absent still")
		}
		return "bring"
	case 13:
		collect(t, m.tree, GCOptions{})
		return "collect"
	default:
		if m.rng.IntN(3) > 0 {
			m.reopen(killed(t, m.tree))
			return "kill"
		}
		comeToRest(t, m.tree)
		capture(t, m.tree)
		export(t, m.tree)
		dir := killed(t, m.tree)
		check(t, os.Remove(dir+"/meta.db"))
		wantNothingLost(t, rebuild(t, dir, RebuildOptions{}))
		m.reopen(dir)
		return "rebuild"
	}
}

// told checks that the tree tells of just those absent files that a look at every row finds.
func (m *absentModel) told() {
	m.t.Helper()
	check(m.t, m.tree.FindAbsent(nil))
	told, want := map[sharefs.Ino]bool{}, map[sharefs.Ino]bool{}
	m.tree.EachAbsent(func(ino sharefs.Ino, _, _ uint64) bool {
		told[ino] = true
		return true
	})
	check(m.t, m.tree.db.Scan(spaceInode, nil, nil, func(key, value []byte) bool {
		r, err := decodeRow(keyIno(key), value)
		check(m.t, err)
		if r.isRegular() && r.isAbsent() && r.nlink > 0 {
			want[r.ino] = true
		}
		return true
	}))
	if !maps.Equal(told, want) {
		m.t.Fatalf("it tells of %v as absent, and there are %v", told, want)
	}
}

// Whatever is done to files that come and go, and whenever the daemon is killed, each holds what it is to hold.
func TestAbsentAgainstModel(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	runs := 2
	if os.Getenv("SHAREFS_SOAK") != "" {
		runs = 300
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			tree, there := pair(t)
			m := &absentModel{t: t, rng: rand.New(rand.NewPCG(uint64(seed), 5)), tree: tree, far: newFaraway(), want: map[sharefs.Ino]string{}, open: map[*Handle]bool{}}
			tree.SetElsewhere(m.far)
			for i, size := range []int{1, 3000, 70_000, 200_000, 600_000} {
				text := blob(uint64(seed*10+i), size)
				c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, fmt.Sprint(i), text).Ino).Content
				check(t, m.far.keep(there.Tree, &c))
				m.pool, m.texts = append(m.pool, c), append(m.texts, text)
				a := arrive(t, tree, m.far, fmt.Sprint(i), c)
				m.inos = append(m.inos, a.Ino)
				m.want[a.Ino] = text
			}
			var done []string
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(done)
				}
			})
			for range 50 {
				done = append(done, m.step())
				m.told()
			}
			for h := range m.open {
				m.read(h)
				check(t, h.Close())
			}
			comeToRest(t, m.tree)
			capture(t, m.tree)
			collect(t, m.tree, GCOptions{})
			wantClean(t, m.tree, FsckScrub)
			for _, ino := range m.inos {
				if all(t, m.tree, ino) != m.want[ino] {
					t.Errorf("inode %d differs", ino)
				}
			}
		})
	}
}

// Many read what comes, goes and is exchanged at once.
func TestAbsentAtOnce(t *testing.T) {
	here, f, inos, texts, _ := absentFiles(t)
	ino, text := inos[3], texts[3]
	end := make(chan struct{})
	var readers, others sync.WaitGroup
	for i := range 4 {
		rng := rand.New(rand.NewPCG(uint64(i), 6))
		readers.Go(func() {
			for range 40 {
				h, err := here.Open(ino, unix.O_RDONLY, root)
				if err != nil {
					t.Error(err)
					return
				}
				for range 10 {
					off := rng.IntN(len(text))
					b := make([]byte, rng.IntN(100_000))
					n, err := h.ReadAt(b, int64(off))
					if err != nil || string(b[:n]) != text[off:min(len(text), off+len(b))] {
						t.Errorf("it differs behind %d: %v", off, err)
					}
				}
				if err := h.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	others.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			here.Free([]sharefs.Ino{ino}, func(_ sharefs.Ino, c *Content) error { return nil })
			if err := here.Bring(nil, ino, true, nil); err != nil {
				t.Error(err)
			}
		}
	})
	readers.Wait()
	close(end)
	others.Wait()
	_ = f
	wantClean(t, here, FsckScrub)
}
