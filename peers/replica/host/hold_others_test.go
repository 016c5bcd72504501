package host

import (
	"fmt"
	"testing"
)

// What somebody else made lately is removed, and no part of a save, though something holds the same from then on: it counts as any removal.
func TestRemovalOfWhatOthersMadeIsNoSave(t *testing.T) {
	all := guarded(t, 3, 2)
	a, b, c := all[0], all[1], all[2]
	c.write("mine", "before")
	for i := range 30 {
		a.write(fmt.Sprintf("g%02d", i), "the same")
	}
	meet(t, all...)
	nextMilli() // records tell no finer time
	c.write("mine", "the same")
	for i := range 30 {
		c.unlink(fmt.Sprintf("g%02d", i))
	}
	meet(t, all...)
	if h := b.holds(); h.Author != c.self || h.Removals != 20 || h.Before != 10 {
		t.Errorf("%d of 33 files are here, and held is %+v", b.count(), h)
	}
}
