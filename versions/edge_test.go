package versions

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// followed opens a tree that somebody follows, in which nothing settles by itself within the time of a test.
func followed(t *testing.T, change ...func(*Config)) *Tree {
	t.Helper()
	tree := testTree(t, t.TempDir(), append([]func(*Config){func(c *Config) { c.Settle = time.Hour }}, change...)...)
	check(t, tree.Follow(true))
	return tree
}

// isKept waits until the newest version of a file is one with a number that is in packs.
func isKept(t *testing.T, tree *Tree, ino sharefs.Ino, own uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("version %d of inode %d", own, ino), func() bool {
		l := must[Latest](t)(tree.Latest(ino))
		return l.Own == own && l.Kept
	})
}

// settles ends the test unless a file is closed and waits for its settle time to be over.
func settles(t *testing.T, tree *Tree, ino sharefs.Ino, own uint64) {
	t.Helper()
	if at, ok := tree.track.Released(ino); !ok || at.IsZero() {
		t.Fatalf("inode %d does not wait to come to rest", ino)
	}
	if l := must[Latest](t)(tree.Latest(ino)); l.Own != own {
		t.Fatalf("inode %d has version %d, want %d", ino, l.Own, own)
	}
}

func TestFirstCloseIsAVersionAtOnce(t *testing.T) {
	tree := followed(t)
	a := write(t, tree, "a", "one")
	isKept(t, tree, a, 1)
	rewrite(t, tree, a, "two")
	settles(t, tree, a, 1)
	rewrite(t, tree, a, "three")
	settles(t, tree, a, 1)
	b := write(t, tree, "b", "another file")
	isKept(t, tree, b, 1)
	settles(t, tree, write(t, tree, "empty", ""), 0)

	// A descriptor that is still open counts.
	h := must[*Handle](t)(tree.Open(b, unix.O_RDWR, root))
	tree.past.edge.mu.Lock()
	clear(tree.past.edge.made) // as if its first version was made long ago
	tree.past.edge.mu.Unlock()
	rewrite(t, tree, b, "and again")
	if at, ok := tree.track.Released(b); ok {
		t.Errorf("the file is said to be released at %v", at)
	}
	check(t, h.Close())
	isKept(t, tree, b, 2)

	check(t, tree.Follow(false))
	settles(t, tree, write(t, tree, "c", "nobody follows"), 0)
}

// A large file waits as long as it would cost to copy it if it were opened again, and no longer; one that would cost a settle time settles as usual.
func TestFirstCloseOfALargeFile(t *testing.T) {
	tree := followed(t)
	save := func(ino sharefs.Ino, size int64) {
		h := must[*Handle](t)(tree.Open(ino, unix.O_RDWR, root))
		must[int](t)(h.WriteAt([]byte("end"), size-3))
		check(t, h.Close())
	}
	ino := create(t, tree, sharefs.RootIno, "large", "").Ino
	save(ino, edgeSize+1)
	isKept(t, tree, ino, 1)
	save(ino, 2*edgeSize)
	settles(t, tree, ino, 1)

	e, now := &tree.past.edge, time.Unix(1e9, 0)
	if by, want := e.when(1000, 0, edgePause(1<<30), now), now.Add(250*time.Millisecond); !by.Equal(want) {
		t.Errorf("1 GiB is due at %v, want %v", by, want)
	}
	if by := e.when(1001, 0, time.Hour, now); !by.IsZero() {
		t.Errorf("what costs a settle time to copy is due at %v", by)
	}
}

// With its settle time over, what was closed within it is one version.
func TestClosesWithinTheSettleTimeJoin(t *testing.T) {
	tree := followed(t, func(c *Config) { c.Settle = 300 * time.Millisecond })
	a := write(t, tree, "a", "one")
	isKept(t, tree, a, 1)
	for i := range 5 {
		rewrite(t, tree, a, fmt.Sprint(i))
	}
	eventually(t, "the last save", func() bool {
		l := must[Latest](t)(tree.Latest(a))
		return l.Kept && l.Own > 1 && readVersion(t, tree, a, l.Own) == "4"
	})
}

// A directory in which young versions lose their names is left alone for a settle time.
func TestWhatLivesForAMomentLeavesOneVersion(t *testing.T) {
	tree := followed(t)
	dir := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "dir", 0o755, root)).Ino
	isKept(t, tree, create(t, tree, dir, "temporary", "1").Ino, 1)
	check(t, tree.Unlink(dir, "temporary"))
	for i := range 3 {
		settles(t, tree, create(t, tree, dir, "temporary", fmt.Sprint(i)).Ino, 0)
		check(t, tree.Unlink(dir, "temporary"))
	}
	isKept(t, tree, write(t, tree, "elsewhere", "1"), 1)

	// So it is with one that is saved again and again under a temporary name.
	save := func(content string) sharefs.Ino {
		ino := write(t, tree, "new", content)
		return ino
	}
	for i := range 2 {
		isKept(t, tree, save(fmt.Sprint(i)), 1)
		rename(t, tree, "new", "saved")
	}
	settles(t, tree, save("3"), 0)
}

// However programs save, and whether the version comes before or after the new file has its name, history goes on.
func TestHistoryGoesOnAtTheEdge(t *testing.T) {
	t.Parallel()
	for how, save := range saves {
		if how == "link over a name that was removed" {
			continue // what has a version of its own and two names keeps to its own past
		}
		t.Run(how, func(t *testing.T) {
			tree := testTree(t, t.TempDir(), func(c *Config) { c.Settle = time.Hour })
			settle(t, tree, write(t, tree, "file", "0"))
			check(t, tree.Follow(true))
			save(t, tree, "file", "1")
			ino := lookup(t, tree, sharefs.RootIno, "file").Ino
			eventually(t, "the version", func() bool { return len(must[[]sharefs.Version](t)(tree.Versions(ino))) == 2 })
			wantHistory(t, tree, ino, "0", "1")
			noProblems(t, tree)
		})
	}
}

// What is bounded stays so, whatever happens: no file that lives has more than two versions in a settle time, and the first close after a quiet time is one at once,
// held against a list of all that was.
func TestEdgeAgainstAModel(t *testing.T) {
	const span = 1000 * time.Millisecond
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 8))
		tree := &Tree{}
		tree.cfg.Settle = span
		tree.feed.on.Store(true)
		e := &edge{h: &tree.past}
		tree.past.t = tree
		start := time.Unix(1e9, 0)
		now := start
		made := map[sharefs.Ino][]time.Time{}
		calmed := map[sharefs.Ino]time.Time{}
		home := func(ino sharefs.Ino) sharefs.Ino { return ino%3 + 1 }
		due := map[sharefs.Ino]time.Time{}
		old := map[sharefs.Ino]bool{}
		early := 0
		begin := func(ino sharefs.Ino, at time.Time) {
			delete(due, ino)
			old[ino] = true
			made[ino] = append(made[ino], at)
			e.began(ino, 1, at)
			if n := len(made[ino]); n > 2 && made[ino][n-1].Sub(made[ino][n-3]) < span {
				t.Fatalf("seed %d: three versions of inode %d at %v", seed, ino, made[ino][n-3:])
			}
		}
		next := sharefs.Ino(10)
		for range 300 {
			now = now.Add(time.Duration(r.IntN(150)) * time.Millisecond)
			for _, ino := range slices.Sorted(func(yield func(sharefs.Ino) bool) {
				for ino, at := range due {
					if !at.After(now) && !yield(ino) {
						return
					}
				}
			}) {
				begin(ino, due[ino])
			}
			ino := next - sharefs.Ino(r.IntN(8))
			if r.IntN(4) == 0 {
				next++
			}
			switch {
			case r.IntN(6) == 0: // it goes
				if n := len(made[ino]); n > 0 && now.Sub(made[ino][n-1]) < span {
					calmed[home(ino)] = now.Add(span)
				}
				e.gone(ino, []slotChange{{id: dentID{parent: home(ino)}}}, now)
				delete(due, ino)
				delete(made, ino)
			default:
				dir := home(ino)
				if old[ino] {
					dir = 0 // the file was forgotten meanwhile, and with it where it was made
				}
				by := e.when(ino, dir, 0, now)
				n := len(made[ino])
				switch {
				case n > 0 && now.Sub(made[ino][n-1]) < span:
					if want := made[ino][n-1].Add(span); !by.Equal(want) {
						t.Fatalf("seed %d: a close at %v, after a version at %v, is due at %v", seed, now, made[ino][n-1], by)
					}
				case dir != 0 && now.Before(calmed[dir]):
					if !by.IsZero() {
						t.Fatalf("seed %d: a new file is due at %v, and its directory is left alone until %v", seed, by, calmed[dir])
					}
				case !by.Equal(now): // far less than maxEarly of them in a span
					t.Fatalf("seed %d: the first close, at %v, is due at %v", seed, now, by)
				default:
					early++
				}
				if by.IsZero() {
					by = now.Add(span)
				}
				due[ino] = by
				if by.Equal(now) {
					begin(ino, now)
				}
			}
		}
		if early < 20 {
			t.Errorf("seed %d: %d versions at once: the test is smaller than it thinks", seed, early)
		}
	}
}

// Many files at once settle as usual but for some, and no map grows without end.
func TestEdgeIsBounded(t *testing.T) {
	tree := &Tree{}
	tree.cfg.Settle = time.Second
	tree.feed.on.Store(true)
	tree.past.t = tree
	e := &edge{h: &tree.past}
	now := time.Unix(1e9, 0)
	for round := range 3 {
		early, quick := 0, 0
		for i := range 6_000 {
			ino := sharefs.Ino(round*100_000 + i + 1)
			if !e.when(ino, 1, 0, now).IsZero() {
				early++
			}
			if e.began(ino, 1, now) {
				quick++
			}
			e.gone(ino, []slotChange{{id: dentID{parent: ino}}}, now)
			e.began(ino, 1, now)
		}
		if early != maxEarly || quick > maxEarly || len(e.made) > maxEdges || len(e.calm) > maxEdges {
			t.Errorf("%d at once, %d captured at once, %d and %d remembered", early, quick, len(e.made), len(e.calm))
		}
		now = now.Add(time.Second)
	}
}
