package versions

import (
	"testing"

	"sharefs"
)

// A name tells since when it is as it is, and what bore it before: whatever became of the one and the other, after a start as well.
func TestBore(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	holds := func(name string, after, until sharefs.HLC, before sharefs.Ino) {
		t.Helper()
		since, d, err := tree.Bore(sharefs.RootIno, name)
		if check(t, err); since < after || since > until || d.Ino != before || before != 0 && (d.Name != name || d.Type != sharefs.ModeRegular) {
			t.Errorf("%s is so since %v, not between %v and %v; before there was %+v, not %d", name, since, after, until, d, before)
		}
	}
	first := passes(t, tree)
	a := create(t, tree, sharefs.RootIno, "a", "one").Ino
	b := create(t, tree, sharefs.RootIno, "b", "two").Ino
	c := create(t, tree, sharefs.RootIno, "c", "three").Ino
	second := passes(t, tree)
	holds("a", first, second, 0)
	holds("never", 0, 0, 0)
	rename(t, tree, "a", "b")
	unlink(t, tree, "c")
	third := passes(t, tree)
	for range 2 {
		holds("a", second, third, a)
		holds("b", second, third, b)
		holds("c", second, third, c)
		check(t, tree.Close())
		tree = testTree(t, dir, byHand)
	}
	d := create(t, tree, sharefs.RootIno, "c", "four").Ino
	fourth := passes(t, tree)
	holds("c", third, fourth, c)
	holds("b", second, third, b)
	rename(t, tree, "c", "b")
	fifth := passes(t, tree)
	holds("c", fourth, fifth, d)
	holds("b", fourth, fifth, a)
}
