package versions

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/kv"
)

// benchPast makes a directory whose names and files have changed, in as many instants as there are revisions, and returns a moment in the middle. All is in
// meta.db.
func benchPast(b *testing.B, files, revisions int) (tree *Tree, dir sharefs.Ino, names []string, middle sharefs.HLC) {
	tree = testTree(b, b.TempDir(), byHand)
	dir = must[sharefs.Attr](b)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root)).Ino
	names = benchNames(files)
	var inos []sharefs.Ino
	for _, name := range names {
		inos = append(inos, create(b, tree, dir, name, "x").Ino)
	}
	end := func() {
		check(b, tree.restAll(sharefs.MaxHLC))
		check(b, tree.closeEpoch())
	}
	end()
	for i := range revisions {
		if i == revisions/2 {
			middle = tree.clock.Next()
		}
		// One name changes hands, and its file gets a version.
		check(b, tree.Rename(dir, names[0], dir, "other", 0))
		check(b, tree.Rename(dir, "other", dir, names[0], 0))
		check(b, must1(tree.Setattr(inos[0], &SetAttr{Size: ptr(uint64(i % 5))}, root)))
		end()
	}
	check(b, tree.db.Checkpoint())
	return tree, dir, names, middle
}

func BenchmarkView(b *testing.B) {
	for _, c := range []struct{ files, revisions int }{{1000, 10}, {1000, 10_000}} {
		tree, dir, names, middle := benchPast(b, c.files, c.revisions)
		of := func(what string) string { return fmt.Sprintf("%s/files=%d/revisions=%d", what, c.files, c.revisions) }
		v := viewAt(b, tree, middle)
		b.Run(of("ViewAt"), func(b *testing.B) {
			for b.Loop() {
				viewAt(b, tree, middle)
			}
		})
		b.Run(of("Lookup"), func(b *testing.B) {
			i := 0
			for b.Loop() {
				if _, err := v.Lookup(dir, names[1+i%(len(names)-1)]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
		b.Run(of("LookupOfTheChanged"), func(b *testing.B) {
			for b.Loop() {
				if _, err := v.Lookup(dir, names[0]); err != nil {
					b.Fatal(err)
				}
			}
		})
		list := func(b *testing.B, read func() int) {
			n := 0
			for b.Loop() {
				n = read()
			}
			if n < c.files {
				b.Fatal(n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/entry")
		}
		b.Run(of("ReadDir"), func(b *testing.B) {
			list(b, func() (n int) {
				check(b, v.ReadDir(dir, 0, func(sharefs.Dentry) bool { n++; return true }))
				return n
			})
		})
		b.Run(of("NamesEver"), func(b *testing.B) {
			list(b, func() (n int) {
				check(b, tree.NamesEver(dir, 0, func(Ever) bool { n++; return true }))
				return n
			})
		})
		b.Run(of("Now"), func(b *testing.B) {
			for b.Loop() {
				viewAt(b, tree, sharefs.MaxHLC)
			}
		})
	}
}

// BenchmarkViewAmongMillions looks up names at moments all over a history of 100,000 former states, or as many millions as SHAREFS_VIEW_MILLIONS says: ten thousand files,
// each of which has changed as often as the others. All is in meta.db. The median tells what a lookup takes, whoever else is
// at work.
func BenchmarkViewAmongMillions(b *testing.B) {
	const files = 10_000
	revisions := 10
	if n, err := strconv.Atoi(os.Getenv("SHAREFS_VIEW_MILLIONS")); err == nil {
		revisions = n * 1e6 / files
	}
	tree := testTree(b, b.TempDir(), byHand)
	dir := must[sharefs.Attr](b)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root)).Ino
	names := benchNames(files)
	rows := make([]*row, files)
	for i, name := range names {
		ino := must[sharefs.Attr](b)(tree.Mknod(dir, name, unix.S_IFIFO|0o644, 0, root)).Ino
		rows[i] = must[*row](b)(loadRow(tree.db, ino))
	}
	check(b, tree.closeEpoch())
	moments := make([]sharefs.HLC, revisions)
	var batch kv.Batch
	for rev := range moments {
		moments[rev] = tree.clock.Next()
		for i, r := range rows {
			r.mtime = sharefs.Time(rev)
			batch.Put(spaceInode, inoKey(r.ino), r.encode())
			if batch.Len() == 2000 || i == files-1 {
				must[uint64](b)(tree.db.Commit(&batch))
				batch.Reset()
			}
		}
		check(b, tree.db.Boundary(tree.clock.Next()))
	}
	check(b, tree.db.Checkpoint())
	views := make([]*View, min(revisions-1, 100))
	for i := range views {
		views[i] = viewAt(b, tree, moments[1+i*(revisions-1)/len(views)]) // before that revision
	}
	r := rand.New(rand.NewPCG(1, 1))
	var took []time.Duration
	for b.Loop() {
		n := r.IntN(len(views))
		begun := time.Now()
		a, err := views[n].Lookup(dir, names[r.IntN(files)])
		took = append(took, time.Since(begun))
		if want := sharefs.Time(n * (revisions - 1) / len(views)); err != nil || a.Mtime != want {
			b.Fatalf("it was changed at %d, want %d, %v", a.Mtime, want, err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/10]), "ns-10%")
	b.ReportMetric(float64(took[len(took)/2]), "ns-median")
	b.ReportMetric(float64(took[len(took)*9/10]), "ns-90%")
	b.ReportMetric(float64(files*revisions), "former-states")
}
