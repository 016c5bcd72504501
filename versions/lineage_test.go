package versions

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// write makes a file without letting it settle.
func write(t testing.TB, tree *Tree, name, content string) sharefs.Ino {
	t.Helper()
	a, h, err := tree.Create(sharefs.RootIno, name, unix.O_RDWR|unix.O_EXCL, 0o644, root)
	check(t, err)
	defer tree.Forget(a.Ino, 1)
	writeAll(t, h, content)
	check(t, h.Close())
	return a.Ino
}

func rename(t testing.TB, tree *Tree, from, to string) {
	t.Helper()
	check(t, tree.Rename(sharefs.RootIno, from, sharefs.RootIno, to, 0))
}

func unlink(t testing.TB, tree *Tree, name string) {
	t.Helper()
	check(t, tree.Unlink(sharefs.RootIno, name))
}

// saves are the ways in which programs save a file that is there, as system calls.
var saves = map[string]func(t testing.TB, tree *Tree, name, content string){
	"in place": func(t testing.TB, tree *Tree, name, content string) {
		rewrite(t, tree, lookup(t, tree, sharefs.RootIno, name).Ino, content)
	},
	"vim": func(t testing.TB, tree *Tree, name, content string) {
		rename(t, tree, name, name+"~")
		write(t, tree, name, content)
		unlink(t, tree, name+"~")
	},
	"vim, keeping the backup": func(t testing.TB, tree *Tree, name, content string) {
		if _, err := tree.Past(sharefs.RootIno, name+"~"); err == nil {
			unlink(t, tree, name+"~")
		}
		rename(t, tree, name, name+"~")
		write(t, tree, name, content)
	},
	"emacs, replacing the backup": func(t testing.TB, tree *Tree, name, content string) {
		rename(t, tree, name, name+"~")
		write(t, tree, name, content)
	},
	"sed -i": func(t testing.TB, tree *Tree, name, content string) {
		write(t, tree, "sedQx2Z1a", content)
		rename(t, tree, "sedQx2Z1a", name)
	},
	"rsync": func(t testing.TB, tree *Tree, name, content string) {
		temp := "." + name + ".h3jK2l"
		ino := write(t, tree, temp, content)
		mode, mtime := uint32(0o600), sharefs.Time(1e18)
		must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Mode: &mode, Mtime: &mtime}, root))
		rename(t, tree, temp, name)
	},
	"rsync, slowly": func(t testing.TB, tree *Tree, name, content string) {
		temp := "." + name + ".h3jK2l"
		settle(t, tree, write(t, tree, temp, content))
		rename(t, tree, temp, name)
	},
	"git checkout, tar x": func(t testing.TB, tree *Tree, name, content string) {
		unlink(t, tree, name)
		write(t, tree, name, content)
	},
	"unnamed file": func(t testing.TB, tree *Tree, name, content string) {
		a, h, err := tree.Tmpfile(sharefs.RootIno, unix.O_RDWR, 0o644, root)
		check(t, err)
		writeAll(t, h, content)
		must[sharefs.Attr](t)(tree.Link(a.Ino, sharefs.RootIno, ".linked"))
		rename(t, tree, ".linked", name)
		check(t, h.Close())
		tree.Forget(a.Ino, 2)
	},
	"link over a name that was removed": func(t testing.TB, tree *Tree, name, content string) {
		ino := write(t, tree, "temporary", content)
		unlink(t, tree, name)
		must[sharefs.Attr](t)(tree.Link(ino, sharefs.RootIno, name))
		unlink(t, tree, "temporary")
		tree.Forget(ino, 1)
	},
	"exchange": func(t testing.TB, tree *Tree, name, content string) {
		write(t, tree, "other", content)
		check(t, tree.Rename(sharefs.RootIno, "other", sharefs.RootIno, name, unix.RENAME_EXCHANGE))
		unlink(t, tree, "other")
	},
	"by way of the old one's name": func(t testing.TB, tree *Tree, name, content string) {
		settle(t, tree, write(t, tree, name+".new", content))
		rename(t, tree, name, name+".old")
		rename(t, tree, name+".new", name)
		unlink(t, tree, name+".old")
	},
}

func TestHistoryGoesOnWhenAFileIsReplaced(t *testing.T) {
	t.Parallel()
	for how, save := range saves {
		for _, instants := range []bool{false, true} { // whether instants end between the steps, or all is one
			t.Run(fmt.Sprintf("%s/%v", how, instants), func(t *testing.T) {
				tree := testTree(t, t.TempDir(), byHand)
				settle(t, tree, write(t, tree, "file", "0"))
				want := []string{"0"}
				for i := range 3 {
					if instants {
						check(t, tree.closeEpoch())
					}
					want = append(want, fmt.Sprint(i+1))
					save(t, tree, "file", want[i+1])
					ino := lookup(t, tree, sharefs.RootIno, "file").Ino
					settle(t, tree, ino)
					wantHistory(t, tree, ino, want...)
					if i == 1 {
						capture(t, tree)
					}
				}
				capture(t, tree)
				ino := lookup(t, tree, sharefs.RootIno, "file").Ino
				all := wantHistory(t, tree, ino, want...)
				for i, v := range all {
					if v.Live != (i == len(all)-1) {
						t.Errorf("live of version %d is %v", v.Number, v.Live)
					}
				}
			})
		}
	}
}

func TestAllWaysOfSavingMixed(t *testing.T) {
	t.Parallel()
	var ways []string
	for _, how := range slices.Sorted(maps.Keys(saves)) {
		if how != "vim, keeping the backup" && how != "emacs, replacing the backup" { // they leave files in the others' way
			ways = append(ways, how)
		}
	}
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 4))
		tree := testTree(t, t.TempDir(), byHand)
		settle(t, tree, write(t, tree, "file", "0"))
		want := []string{"0"}
		for i := range 25 {
			how := ways[r.IntN(len(ways))]
			saves[how](t, tree, "file", fmt.Sprint(i+1))
			ino := lookup(t, tree, sharefs.RootIno, "file").Ino
			// What is saved again before it settles is dropped.
			if r.IntN(4) > 0 {
				settle(t, tree, ino)
				want = append(want, fmt.Sprint(i+1))
			} else if all := must[[]sharefs.Version](t)(tree.Versions(ino)); len(all) == len(want)+1 {
				want = append(want, fmt.Sprint(i+1)) // it settled on the way
			}
			if r.IntN(3) == 0 {
				check(t, tree.closeEpoch())
			}
			if r.IntN(5) == 0 {
				capture(t, tree)
			}
			wantHistory(t, tree, ino, want...)
			if t.Failed() {
				t.Fatalf("seed %d, save %d by %s", seed, i, how)
			}
		}
	}
}

func TestHistoryFollowsTheFile(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	a := write(t, tree, "a", "a1")
	settle(t, tree, a)
	b := write(t, tree, "b", "b1")
	settle(t, tree, b)
	rewrite(t, tree, b, "b2")
	settle(t, tree, b)
	check(t, tree.closeEpoch())

	// A file of its own, older than the name that it comes to, keeps its own history and numbers.
	rename(t, tree, "a", "b")
	wantHistory(t, tree, a, "a1")
	wantHistory(t, tree, b, "b1", "b2")

	// Moved about over names that others bore, history follows.
	rename(t, tree, "b", "c")
	save(t, tree, "c", "a2")
	rename(t, tree, "c", "b")
	wantHistory(t, tree, a, "a1", "a2")

	// A new file at a name continues who had it last; a copy elsewhere does not.
	unlink(t, tree, "b")
	next := save(t, tree, "b", "b4")
	wantHistory(t, tree, next, "a1", "a2", "b4")
	other := save(t, tree, "elsewhere", "b4")
	wantHistory(t, tree, other, "b4")

	// Whose past is continued may go on elsewhere, on its own.
	rename(t, tree, "b", "kept")
	fresh := save(t, tree, "b", "new")
	save(t, tree, "kept", "b5")
	wantHistory(t, tree, next, "a1", "a2", "b4", "b5")
	wantHistory(t, tree, fresh, "a1", "a2", "b4", "new")
	save(t, tree, "b", "newer")
	wantHistory(t, tree, fresh, "a1", "a2", "b4", "new", "newer")
}

// One temporary name serves for several files, one after the other.
func TestOneTemporaryNameForSeveralFiles(t *testing.T) {
	t.Parallel()
	for _, slowly := range []bool{false, true} {
		tree := testTree(t, t.TempDir(), byHand)
		want := map[string][]string{}
		for _, name := range []string{"a", "b", "c"} {
			save(t, tree, name, "first "+name)
			want[name] = append(want[name], "first "+name)
		}
		for i := range 20 {
			check(t, tree.closeEpoch())
			name := []string{"a", "b", "c", "d"}[i*3%7%4]
			ino := write(t, tree, "tmp", fmt.Sprint(i))
			if slowly && name != "d" {
				settle(t, tree, ino)
			}
			rename(t, tree, "tmp", name)
			settle(t, tree, ino)
			want[name] = append(want[name], fmt.Sprint(i))
		}
		for name, want := range want {
			wantHistory(t, tree, lookup(t, tree, sharefs.RootIno, name).Ino, want...)
		}
	}
}

func TestWhatNeverSettledLeavesNothing(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	save(t, tree, "f", "one")
	for range 10 {
		saves["vim"](t, tree, "f", "never settles")
	}
	saves["sed -i"](t, tree, "f", "two")
	ino := lookup(t, tree, sharefs.RootIno, "f").Ino
	settle(t, tree, ino)
	wantHistory(t, tree, ino, "one", "two")
	l, has, err := loadLineage(tree.db, ino)
	if err != nil || !has || l.depth != 1 {
		t.Errorf("the chain has %d links: %v", l.depth, err)
	}
}

func TestLineageOfOtherTypes(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	save(t, tree, "f", "one")
	unlink(t, tree, "f")
	a := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "f", 0o755, root))
	tree.Forget(a.Ino, 1)
	wantHistory(t, tree, a.Ino)
	if _, err := tree.Past(sharefs.RootIno, "f"); sharefs.KindOf(err) != sharefs.KindNotExist {
		t.Errorf("a directory bears the name: %v", err)
	}
	check(t, tree.Rmdir(sharefs.RootIno, "f"))
	s := must[sharefs.Attr](t)(tree.Symlink(sharefs.RootIno, "f", "somewhere", root))
	tree.Forget(s.Ino, 1)
	saves["sed -i"](t, tree, "f", "a file in place of a link")
	ino := lookup(t, tree, sharefs.RootIno, "f").Ino
	settle(t, tree, ino)
	wantHistory(t, tree, ino, "a file in place of a link")
}

// A file that was saved many times by replacing it is listed and searched as one that was not.
func TestLongChains(t *testing.T) {
	t.Parallel()
	const n = 500
	var now atomic.Int64 // milliseconds; the tree's goroutines read the clock too
	now.Store(1_800_000_000_000)
	clock := &sharefs.Clock{Now: func() time.Time { return time.UnixMilli(now.Load()) }}
	tree := testTree(t, t.TempDir(), byHand, func(c *Config) { c.Clock = clock })
	var at []sharefs.HLC
	var ino sharefs.Ino
	for i := range n {
		if i == 0 {
			ino = write(t, tree, "f", fmt.Sprint(i))
		} else {
			saves["sed -i"](t, tree, "f", fmt.Sprint(i))
			ino = lookup(t, tree, sharefs.RootIno, "f").Ino
		}
		settle(t, tree, ino)
		now.Add(time.Minute.Milliseconds()) // while it stands still real time goes on, from which it is reckoned when a file was closed
		at = append(at, clock.Next())
		now.Add(time.Minute.Milliseconds())
		if i%100 == 99 {
			capture(t, tree)
		}
	}
	all := must[[]sharefs.Version](t)(tree.Versions(ino))
	if len(all) != n {
		t.Fatalf("%d versions", len(all))
	}
	steps := 0
	for i := range n {
		v, s, err := tree.past.find(ino, uint64(i+1))
		if err != nil || v.own != 1 || s.base != uint64(i) {
			t.Fatalf("version %d: %+v, %v", i+1, v, err)
		}
		head := must[segment](t)(tree.past.head(ino))
		must[segment](t)(tree.past.back(head, func(s segment) bool { steps++; return uint64(i+1) > s.base }))
		found := must[sharefs.Version](t)(tree.past.at(ino, at[i]))
		if found.Number != uint64(i+1) {
			t.Fatalf("at %s: version %d instead of %d", at[i], found.Number, i+1)
		}
		if i%97 == 0 && readVersion(t, tree, ino, uint64(i+1)) != fmt.Sprint(i) {
			t.Fatalf("version %d has another content", i+1)
		}
	}
	if steps > n*50 {
		t.Errorf("%d steps for each lookup", steps/n)
	}
	for _, wrong := range []uint64{n + 1, 1 << 63} {
		if _, err := tree.Version(ino, wrong); sharefs.KindOf(err) != sharefs.KindNotExist {
			t.Errorf("version %d: %v", wrong, err)
		}
	}
}

// The jump pointers lead where walking link by link does.
func TestJumpsEqualWalking(t *testing.T) {
	t.Parallel()
	tree := testTree(t, t.TempDir(), byHand)
	r := rand.New(rand.NewPCG(5, 5))
	var ino sharefs.Ino
	for i := range 120 {
		if i == 0 {
			ino = write(t, tree, "f", "0")
		} else {
			saves["sed -i"](t, tree, "f", fmt.Sprint(i))
			ino = lookup(t, tree, sharefs.RootIno, "f").Ino
		}
		for j := range 1 + r.IntN(3) {
			if j > 0 {
				rewrite(t, tree, ino, fmt.Sprint(i, j))
			}
			settle(t, tree, ino)
		}
	}
	head := must[segment](t)(tree.past.head(ino))
	last := must[[]sharefs.Version](t)(tree.Versions(ino))
	for n := uint64(0); n <= uint64(len(last))+1; n++ {
		slow := head
		for n <= slow.base && slow.line.pred != 0 {
			slow, _, _ = tree.past.older(slow)
		}
		fast := must[segment](t)(tree.past.back(head, func(s segment) bool { return n > s.base }))
		if fast != slow {
			t.Fatalf("number %d: %+v, walking: %+v", n, fast, slow)
		}
	}
}
