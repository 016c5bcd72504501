package versions

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/writers"
)

// verdict is what the tracker decides of a file at rest, as it is on its way to the settler. It reports false where there is none to come.
func verdict(t testing.TB, tree *Tree, ino sharefs.Ino) (writers.Event, bool) {
	t.Helper()
	if !tree.track.Tracks(ino) {
		return writers.Event{}, false
	}
	ev := must[writers.Event](t)(tree.track.Take(ino))
	return ev, ev.Kind == writers.Quiet
}

// wantLastSave checks that what a file holds at rest is its last version.
func wantLastSave(t testing.TB, tree *Tree, ino sharefs.Ino, want, which string) {
	t.Helper()
	if got := content(t, tree, ino); got != want {
		t.Fatalf("%s: the file holds %q, want %q", which, got, want)
	}
	all := must[[]sharefs.Version](t)(tree.Versions(ino))
	if len(all) == 0 {
		t.Fatalf("%s: no version of %q", which, want)
	}
	last := all[len(all)-1]
	if got := readVersion(t, tree, ino, last.Number); got != want || !last.Live {
		t.Fatalf("%s: the last version holds %q (%+v), the file %q", which, got, last, want)
	}
	if n := tree.HistoryStats(); n.Lost > 0 {
		t.Fatalf("%s: %d versions were lost", which, n.Lost)
	}
}

// A file is saved twice in quick succession without a settle time: the verdict about the first save arrives when the second is over, after
// the second open has made a version of the first save without it.
func TestLastSaveIsAVersionThoughAnEarlierVerdictArrives(t *testing.T) {
	for _, captured := range []bool{false, true} {
		tree := testTree(t, t.TempDir(), byHand)
		tree.cfg.Settle = 0 // each close counts, and the tracker tells nothing by itself
		a, h, err := tree.Create(sharefs.RootIno, "f", unix.O_WRONLY|unix.O_TRUNC, 0o644, root)
		check(t, err)
		writeAll(t, h, "first")
		check(t, h.Close())
		first, ok := verdict(t, tree, a.Ino)
		if !ok {
			t.Fatal("no verdict about the first save")
		}
		rewrite(t, tree, a.Ino, "second")
		second, ok := verdict(t, tree, a.Ino)
		if !ok {
			t.Fatal("no verdict about the second save")
		}
		check(t, tree.settle([]writers.Event{first}))
		if captured {
			capture(t, tree)
		}
		check(t, tree.settle([]writers.Event{second}))
		capture(t, tree)
		wantLastSave(t, tree, a.Ino, "second", "two saves")
		wantHistory(t, tree, a.Ino, "first", "second")
		noProblems(t, tree)
	}
}

// Whatever overtakes what: once nobody writes and all verdicts have arrived, what a file holds is its last version.
func TestLastSaveIsAVersionHoweverVerdictsArrive(t *testing.T) {
	t.Parallel()
	tree := testTree(t, t.TempDir(), byHand)
	long := tree.cfg.Settle
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 30))
		tree.cfg.Settle = 0
		if seed%3 == 2 {
			tree.cfg.Settle = long
		}
		a, h, err := tree.Create(sharefs.RootIno, fmt.Sprint(seed), unix.O_WRONLY|unix.O_TRUNC, 0o644, root)
		check(t, err)
		handles := []*Handle{h}
		var flying []writers.Event // verdicts on their way
		live, saves := "", 0
		land := func() {
			i := r.IntN(len(flying))
			ev := flying[i]
			flying = append(flying[:i], flying[i+1:]...)
			check(t, tree.settle([]writers.Event{ev}))
		}
		for range 5 + r.IntN(30) {
			switch n := len(handles); r.IntN(8) {
			case 0, 1: // no length twice: that changes are told apart does not depend on the kernel's clock
				if n > 0 {
					saves++
					live = strings.Repeat(string(rune('a'+saves%26)), saves)
					writeAll(t, handles[r.IntN(n)], live)
				}
			case 2, 3:
				if n > 0 {
					check(t, handles[n-1].Close())
					handles = handles[:n-1]
				}
			case 4:
				flags := uint32(unix.O_WRONLY)
				if n == 0 && r.IntN(4) > 0 {
					flags |= unix.O_TRUNC
					live = ""
				}
				handles = append(handles, must[*Handle](t)(tree.Open(a.Ino, flags, root)))
			case 5:
				if ev, ok := verdict(t, tree, a.Ino); ok {
					flying = append(flying, ev)
				}
			case 6:
				if len(flying) > 0 {
					land()
				}
			case 7:
				switch r.IntN(3) {
				case 0:
					capture(t, tree)
				case 1:
					_, _, err := tree.Commit(a.Ino, "")
					check(t, err)
				}
			}
		}
		for _, h := range handles {
			check(t, h.Close())
		}
		if ev, ok := verdict(t, tree, a.Ino); ok {
			flying = append(flying, ev)
		}
		for len(flying) > 0 {
			land()
		}
		if r.IntN(2) == 0 {
			capture(t, tree)
		}
		wantLastSave(t, tree, a.Ino, live, fmt.Sprint("seed ", seed))
		check(t, tree.Unlink(sharefs.RootIno, fmt.Sprint(seed)))
		tree.Forget(a.Ino, 1)
	}
	noProblems(t, tree)
}

// A version is committed while a file is open, and nothing is written to it: at rest the file holds a version still.
func TestCommitOfAnOpenFileThatIsNotWritten(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "content")
	h := must[*Handle](t)(tree.Open(ino, unix.O_WRONLY, root)) // not captured yet: set aside
	_, _, err := tree.Commit(ino, "")
	check(t, err)
	check(t, h.Close())
	settle(t, tree, ino)
	capture(t, tree)
	wantLastSave(t, tree, ino, "content", "committed while open")
	noProblems(t, tree)
}

// A file is made, comes to rest and is removed within one instant, or nearly: its past is found by its name after a restart too.
func TestRemovedWithinAnInstantIsFoundAfterARestart(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	const n = 50
	for i := range n {
		name := fmt.Sprint(i)
		save(t, tree, name, "precious "+name)
		check(t, tree.Unlink(sharefs.RootIno, name))
	}
	capture(t, tree)
	check(t, tree.Close())
	tree = testTree(t, dir, byHand)
	for i := range n {
		name := fmt.Sprint(i)
		ino := must[sharefs.Ino](t)(tree.Past(sharefs.RootIno, name))
		wantHistory(t, tree, ino, "precious "+name)
	}
	noProblems(t, tree)
}
