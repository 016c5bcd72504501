package versions

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// benchTree returns a tree with a directory of n files, as numbered.
func benchTree(b *testing.B, n int) (*Tree, sharefs.Ino, []sharefs.Ino) {
	tree := testTree(b, b.TempDir())
	dir := must[sharefs.Attr](b)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root)).Ino
	inos := make([]sharefs.Ino, n)
	for i := range inos {
		inos[i] = must[sharefs.Attr](b)(tree.Mknod(dir, fmt.Sprint("f", i), sharefs.ModeFifo|0o644, 0, root)).Ino
	}
	return tree, dir, inos
}

func benchNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("f", i)
	}
	return names
}

func BenchmarkLookup(b *testing.B) {
	tree, dir, inos := benchTree(b, 1000)
	names := benchNames(len(inos))
	i := 0
	for b.Loop() {
		if _, err := tree.Lookup(dir, names[i%len(names)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkLookupMissing(b *testing.B) {
	tree, dir, _ := benchTree(b, 1000)
	for b.Loop() {
		if _, err := tree.Lookup(dir, "nobody"); err == nil {
			b.Fatal("found")
		}
	}
}

func BenchmarkGetattr(b *testing.B) {
	tree, _, inos := benchTree(b, 1000)
	i := 0
	for b.Loop() {
		if _, err := tree.Getattr(inos[i%len(inos)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkReadDirPlus(b *testing.B) {
	tree, dir, inos := benchTree(b, 1000)
	for b.Loop() {
		n := 0
		err := tree.ReadDir(dir, 0, true, func(sharefs.Dentry, *sharefs.Attr) bool { n++; return true })
		if err != nil || n != len(inos) {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(inos)), "ns/entry")
}

func BenchmarkCreateClose(b *testing.B) {
	tree, dir, _ := benchTree(b, 0)
	names := benchNames(b.N + 1<<20)
	i := 0
	for b.Loop() {
		_, h, err := tree.Create(dir, names[i], unix.O_WRONLY, 0o644, root)
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Close(); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkMkdir(b *testing.B) {
	tree, dir, _ := benchTree(b, 0)
	names := benchNames(1 << 20)
	i := 0
	for b.Loop() {
		if _, err := tree.Mkdir(dir, names[i], 0o755, root); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkUnlink(b *testing.B) {
	const n = 100_000
	tree, dir, inos := benchTree(b, n)
	names := benchNames(n)
	i := 0
	for b.Loop() {
		if i == n {
			b.StopTimer()
			for j := range inos {
				inos[j] = must[sharefs.Attr](b)(tree.Mknod(dir, names[j], sharefs.ModeFifo|0o644, 0, root)).Ino
			}
			i = 0
			b.StartTimer()
		}
		if err := tree.Unlink(dir, names[i]); err != nil {
			b.Fatal(err)
		}
		tree.Forget(inos[i], 1)
		i++
	}
}

func BenchmarkRename(b *testing.B) {
	tree, dir, _ := benchTree(b, 1)
	names := [2]string{"f0", "g0"}
	i := 0
	for b.Loop() {
		if err := tree.Rename(dir, names[i%2], dir, names[1-i%2], 0); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkOpenCloseRead(b *testing.B) {
	tree, dir, _ := benchTree(b, 0)
	ino := create(b, tree, dir, "f", "x").Ino
	for b.Loop() {
		h, err := tree.Open(ino, unix.O_RDONLY, root)
		if err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
}

func BenchmarkSetattr(b *testing.B) {
	tree, _, inos := benchTree(b, 1)
	mode := uint32(0o600)
	for b.Loop() {
		if _, err := tree.Setattr(inos[0], &SetAttr{Mode: &mode}, root); err != nil {
			b.Fatal(err)
		}
	}
}

// pastTree returns a tree with a directory of n files, f0 …, each with one captured version; half of the rows are in meta.db alone when checkpoint
// is set.
func pastTree(b *testing.B, n int, checkpoint bool) (*Tree, sharefs.Ino, []string, []sharefs.Ino) {
	tree := testTree(b, b.TempDir(), byHand)
	dir := must[sharefs.Attr](b)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root)).Ino
	names, inos := benchNames(n), make([]sharefs.Ino, n)
	for i, name := range names {
		a := create(b, tree, dir, name, name)
		settle(b, tree, a.Ino)
		inos[i] = a.Ino
	}
	capture(b, tree)
	check(b, tree.unmark())
	check(b, tree.closeEpoch())
	if checkpoint {
		check(b, tree.db.Checkpoint())
	}
	return tree, dir, names, inos
}

// BenchmarkRenamePast and BenchmarkUnlinkPast work on files with versions, once each, as people do.
func BenchmarkRenamePast(b *testing.B) {
	withPast(b, func(tree *Tree, dir sharefs.Ino, name string, _ sharefs.Ino) error {
		return tree.Rename(dir, name, dir, "renamed-"+name, 0)
	})
}

func BenchmarkUnlinkPast(b *testing.B) {
	withPast(b, func(tree *Tree, dir sharefs.Ino, name string, ino sharefs.Ino) error {
		err := tree.Unlink(dir, name)
		tree.Forget(ino, 1)
		return err
	})
}

// withPast calls fn for each file of a tree, and makes another tree when all have had their turn.
func withPast(b *testing.B, fn func(*Tree, sharefs.Ino, string, sharefs.Ino) error) {
	for _, where := range []string{"memory", "meta.db"} {
		b.Run(where, func(b *testing.B) {
			const n = 5000
			tree, dir, names, inos := pastTree(b, n, where == "meta.db")
			i := 0
			for b.Loop() {
				if i == n {
					b.StopTimer()
					tree, dir, names, inos = pastTree(b, n, where == "meta.db")
					i = 0
					b.StartTimer()
				}
				if err := fn(tree, dir, names[i], inos[i]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
