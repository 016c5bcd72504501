package versions

import (
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// family is a small tree: d/e, d/f (a file), g (a file), empty and full/x.
type family struct {
	*Tree
	d, e, f, g, empty, full sharefs.Ino
}

func newFamily(t *testing.T) family {
	tree := testTree(t, t.TempDir())
	mkdir := func(parent sharefs.Ino, name string) sharefs.Ino {
		return must[sharefs.Attr](t)(tree.Mkdir(parent, name, 0o755, root)).Ino
	}
	fam := family{Tree: tree, d: mkdir(sharefs.RootIno, "d"), empty: mkdir(sharefs.RootIno, "empty"), full: mkdir(sharefs.RootIno, "full")}
	fam.e = mkdir(fam.d, "e")
	mkdir(fam.full, "x")
	fam.f = create(t, tree, fam.d, "f", "f").Ino
	fam.g = create(t, tree, sharefs.RootIno, "g", "g").Ino
	return fam
}

func TestRename(t *testing.T) {
	const r = sharefs.RootIno
	fam := newFamily(t)
	nlink := func(ino sharefs.Ino) uint32 {
		t.Helper()
		return must[sharefs.Attr](t)(fam.Getattr(ino)).Nlink
	}
	for _, c := range []struct {
		from    sharefs.Ino
		oldName string
		to      sharefs.Ino
		newName string
		flags   uint32
		want    sharefs.Kind
	}{
		{r, "none", r, "g", 0, sharefs.KindNotExist},
		{r, "g", r, "d", 0, sharefs.KindIsDir},
		{r, "d", r, "g", 0, sharefs.KindNotDir},
		{r, "d", r, "full", 0, sharefs.KindNotEmpty},
		{r, "d", fam.d, "self", 0, sharefs.KindInvalid},
		{r, "d", fam.e, "below", 0, sharefs.KindInvalid},
		{r, "d", fam.e, "below", unix.RENAME_EXCHANGE, sharefs.KindNotExist},
		{r, "d", fam.d, "e", unix.RENAME_EXCHANGE, sharefs.KindInvalid},
		{fam.d, "e", r, "d", unix.RENAME_EXCHANGE, sharefs.KindInvalid},
		{r, "g", fam.d, "f", unix.RENAME_NOREPLACE, sharefs.KindExist},
		{r, "g", fam.d, "h", unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE, sharefs.KindInvalid},
		{r, "g", fam.d, "h", unix.RENAME_WHITEOUT, sharefs.KindInvalid},
		{r, ".", r, "h", 0, sharefs.KindBusy},
		{r, "g", fam.g, "h", 0, sharefs.KindNotDir},
	} {
		wantKind(t, fam.Rename(c.from, c.oldName, c.to, c.newName, c.flags), c.want)
	}
	noProblems(t, fam.Tree)

	before := must[sharefs.Attr](t)(fam.Getattr(fam.g))
	check(t, fam.Rename(r, "g", fam.d, "f", 0)) // over a file
	if a := lookup(t, fam.Tree, fam.d, "f"); a.Ino != fam.g || a.Ctime <= before.Ctime || a.Mtime != before.Mtime {
		t.Errorf("the moved file: %+v, before %+v", a, before)
	}
	if nlink(fam.f) != 0 {
		t.Error("the replaced file has links")
	}
	check(t, fam.Rename(fam.d, "e", r, "empty", 0)) // a directory over an empty one, out of another
	if got := lookup(t, fam.Tree, fam.e, "..").Ino; got != r || nlink(fam.d) != 2 || nlink(r) != 5 || nlink(fam.empty) != 0 {
		t.Errorf(".. is %d; links %d, %d, %d", got, nlink(fam.d), nlink(r), nlink(fam.empty))
	}
	check(t, fam.Rename(r, "full", fam.e, "full", unix.RENAME_NOREPLACE))
	if got := lookup(t, fam.Tree, fam.full, "..").Ino; got != fam.e || nlink(fam.e) != 3 || nlink(r) != 4 {
		t.Errorf(".. is %d; links %d, %d", got, nlink(fam.e), nlink(r))
	}
	check(t, fam.Rename(fam.d, "f", fam.d, "f", 0)) // onto itself
	must[sharefs.Attr](t)(fam.Link(fam.g, r, "other"))
	check(t, fam.Rename(fam.d, "f", r, "other", 0)) // onto another name of the same inode: both stay
	if nlink(fam.g) != 2 || lookup(t, fam.Tree, fam.d, "f").Ino != fam.g {
		t.Error("a rename onto another name of the inode did something")
	}
	check(t, fam.Rename(fam.d, "f", fam.full, "x", unix.RENAME_EXCHANGE)) // a file against a directory
	if lookup(t, fam.Tree, fam.full, "x").Ino != fam.g || lookup(t, fam.Tree, fam.d, "f").Ino == fam.g || nlink(fam.d) != 3 || nlink(fam.full) != 2 {
		t.Error("exchange of a file and a directory")
	}
	noProblems(t, fam.Tree)
}

func TestDeepTrees(t *testing.T) {
	tree := testTree(t, t.TempDir())
	at := sharefs.RootIno
	const depth = 3000 // a path of some 300 kB
	name := "a-directory-with-a-name-that-is-long-enough-to-leave-PATH_MAX-behind-after-a-few-dozens-of-levels-below"
	var inos []sharefs.Ino
	for range depth {
		at = must[sharefs.Attr](t)(tree.Mkdir(at, name, 0o755, root)).Ino
		inos = append(inos, at)
	}
	f := create(t, tree, at, "f", "deep")
	if got := content(t, tree, f.Ino); got != "deep" {
		t.Errorf("content %q", got)
	}
	wantKind(t, tree.Rename(sharefs.RootIno, name, at, "x", 0), sharefs.KindInvalid)
	for i := len(inos) - 1; i > 0; i-- {
		if up := must[sharefs.Ino](t)(tree.Parent(inos[i])); up != inos[i-1] {
			t.Fatalf("directory %d lies in %d", i, up)
		}
	}
	noProblems(t, tree)
}
