package versions

import (
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// The first change after a start is an exchange of two files with versions: neither may continue the other one's past as if it had been made by
// that change, for then each would continue the other's.
func TestAnExchangeRightAfterAStart(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	a, b := save(t, tree, "a", "a1"), save(t, tree, "b", "b1")
	save(t, tree, "a", "a2")
	check(t, tree.Close())
	tree = testTree(t, dir, byHand)
	check(t, tree.Rename(sharefs.RootIno, "a", sharefs.RootIno, "b", unix.RENAME_EXCHANGE))
	wantHistory(t, tree, a, "a1", "a2")
	// It was born while the other one bore the name, as a temporary file is.
	if all := must[[]sharefs.Version](t)(tree.Versions(b)); len(all) != 3 || readVersion(t, tree, b, 3) != "b1" {
		t.Errorf("%v", all)
	}
	noProblems(t, tree)
}

// A ring of lineages, which only damage makes, is an error and not a walk without an end.
func TestARingOfLineagesIsAnError(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	a, b := save(t, tree, "a", "a1"), save(t, tree, "b", "b1")
	tree.mu.Lock()
	x := tree.begin()
	x.setLineage(a, lineage{pred: b, through: 1, base: 1, depth: 1, jump: b, continued: true})
	x.setLineage(b, lineage{pred: a, through: 1, base: 1, depth: 1, jump: a, continued: true})
	check(t, x.commit())
	tree.mu.Unlock()
	_, err := tree.Versions(a)
	wantKind(t, err, sharefs.KindCorrupt)
	_, err = tree.Version(b, 1)
	wantKind(t, err, sharefs.KindCorrupt)
	_, _, err = tree.VersionAt(sharefs.RootIno, "a", 1)
	if err == nil {
		t.Error("something was found before the beginning")
	}
}
