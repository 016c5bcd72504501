package versions

import (
	"fmt"
	"slices"
	"testing"

	"sharefs"
)

// However many rows tell of what does not lack any more, what does behind them is listed, and they go.
func TestLackingBehindWhatDoesNot(t *testing.T) {
	t.Parallel()
	tree, far, inos, _, list := absentFiles(t)
	check(t, tree.Setxattr(sharefs.RootIno, XattrPin, []byte(PinHere), 0))
	var full []sharefs.Ino
	for i := range 2*16*pinPiece + 1 {
		full = append(full, create(t, tree, sharefs.RootIno, fmt.Sprint("full", i), "").Ino)
	}
	want := append(inos, arrive(t, tree, far, "last", list[1]).Ino)
	check(t, tree.PinsSettled(nil))
	tree.mu.Lock()
	x := tree.begin()
	for _, ino := range full {
		x.lacks(ino)
	}
	err := x.commit()
	tree.mu.Unlock()
	check(t, err)
	if got := must[[]sharefs.Ino](t)(tree.PinLacking(0, 1000)); !slices.Equal(got, want) {
		t.Errorf("%d lack, not %d", got, want)
	}
	rows := 0
	check(t, pinInos(tree.db, pinLack, 0, func(sharefs.Ino) bool { rows++; return true }))
	if rows != len(want) {
		t.Errorf("%d rows are left", rows)
	}
}
