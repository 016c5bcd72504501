package versions

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// TestDifferingAgainstBlocks compares with a list that says for each block where it is.
func TestDifferingAgainstBlocks(t *testing.T) {
	const block = 64 << 10 // more than the gap of ranges
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 51))
		n := 1 + r.IntN(40)
		type where struct {
			place       uint64
			hole, vague bool
		}
		var files [2][]where
		for i := range n {
			w := where{place: uint64(1+r.IntN(5)*1000+i) * block, hole: r.IntN(5) == 0, vague: r.IntN(8) == 0}
			files[0] = append(files[0], w)
			if r.IntN(3) == 0 {
				w = where{place: uint64(1+r.IntN(5)*1000+i) * block, hole: r.IntN(5) == 0, vague: r.IntN(8) == 0}
			}
			files[1] = append(files[1], w)
		}
		size := int64(n)*block - r.Int64N(block)
		runs := func(f []where) func() (mapped, error) {
			at := 0
			return func() (mapped, error) {
				if at >= len(f) {
					t.Fatal("asked for more than there is")
				}
				from, first := at, f[at]
				for at++; at < len(f) && r.IntN(3) > 0; at++ { // runs that go on may be one
					next := f[at]
					if next.hole != first.hole || next.vague != first.vague || !first.hole && next.place != first.place+uint64(at-from)*block {
						break
					}
				}
				return mapped{from: int64(from) * block, to: int64(at) * block, place: first.place, hole: first.hole, vague: first.vague}, nil
			}
		}
		var set ranges
		check(t, differing(&set, size, [2]func() (mapped, error){runs(files[0]), runs(files[1])}))
		for i := range n {
			a, b := files[0][i], files[1][i]
			same := a.hole && b.hole || !a.hole && !b.hole && !a.vague && !b.vague && a.place == b.place
			from, to := int64(i)*block, min(int64(i+1)*block, size)
			if set.meet(from, to) == same || !same && !(set.meet(from, from+1) && set.meet(to-1, to)) {
				t.Fatalf("seed %d: block %d: %+v and %+v, in the set: %v", seed, i, a, b, !same)
			}
		}
	}
}

// TestReferencesAtAStart: a start takes over the reference that fits its version and removes every other one, and nothing is read that need not be. What a
// copy of a store has in place of clones tells that all may have changed.
func TestReferencesAtAStart(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			disk := reflinkDisk(t, kind)
			store := filepath.Join(disk, "store")
			check(t, os.Mkdir(store, 0o700))
			tree := testTree(t, store, byHand, inParts)
			l := &largeFile{t: t, r: rand.New(rand.NewPCG(1, 52)), tree: tree}
			l.now = []byte(l.data(2 << 20))
			l.ino = save(t, tree, "large", string(l.now))
			l.rest()
			write := func(off int) {
				h := must[*Handle](t)(l.tree.Open(l.ino, unix.O_RDWR, root))
				data := l.data(100)
				must[int](t)(h.WriteAt([]byte(data), int64(off)))
				copy(l.now[off:], data)
				check(t, h.Close())
				l.rest()
				capture(t, l.tree)
			}
			capture(t, tree)
			write(5)
			names := asideFiles(t, tree)
			if len(names) != 1 || !strings.HasSuffix(names[0], asideRef) {
				t.Fatalf("set aside: %v", names)
			}
			check(t, tree.Close())
			first := filepath.Base(names[0])
			aside := filepath.Join(store, "aside")
			for _, wrong := range []string{
				"1" + first, strings.Replace(first, "-2-", "-3-", 1), strings.Replace(first, "-2-", "-1-", 1), first[:len(first)-5] + "0" + asideRef,
				referencePart(versionID{l.ino, 2}), first + asidePart,
			} {
				if wrong != first {
					check(t, os.WriteFile(filepath.Join(aside, wrong), l.now, 0o600))
				}
			}
			tree = testTree(t, store, byHand, inParts)
			l.tree = tree
			if names := asideFiles(t, tree); len(names) != 1 || filepath.Base(names[0]) != first {
				t.Errorf("set aside after a start: %v", names)
			}
			write(1 << 20)
			if s := tree.HistoryStats(); s.ByExtents != 1 || s.CapturedBytes > 1<<20 || s.References != 1 || s.RefBytes < 2<<20 {
				t.Errorf("after a start: %+v", s)
			}
			l.compare()

			copied := filepath.Join(disk, "copy")
			check(t, tree.Close())
			if out, err := exec.Command("cp", "-a", "--reflink=never", store, copied).CombinedOutput(); err != nil {
				t.Fatalf("cp: %v\n%s", err, out)
			}
			tree = testTree(t, copied, byHand, inParts)
			l.tree = tree
			write(1000)
			l.compare()
			if s := tree.HistoryStats(); s.ReusedBytes > 1<<20 {
				t.Errorf("in a copy of the store: %+v", s)
			}
			// Where the disk gets full no reference stays, nor that of a file that is gone.
			write(2000)
			l.tree.past.aside.room = func() int64 { return 1 << 20 }
			l.tree.past.boundReferences()
			if names := asideFiles(t, tree); len(names) != 0 {
				t.Errorf("on a full disk: %v", names)
			}
			l.tree.past.aside.room = l.tree.past.aside.available
			write(3000)
			write(4000)
			check(t, tree.Unlink(sharefs.RootIno, "large"))
			check(t, tree.reapAll())
			l.tree.past.boundReferences()
			if names := asideFiles(t, tree); len(names) != 0 {
				t.Errorf("after the file was removed: %v", names)
			}
		})
	}
}
