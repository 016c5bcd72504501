package daemon

import (
	"testing"
	"time"
)

func TestGrowthOfTheHeap(t *testing.T) {
	const mb = 1 << 20
	for inUse, want := range map[uint64]int{0: 200, 20 * mb: 200, 32 * mb: 200, 48 * mb: 150, 96 * mb: 100, 480 * mb: 60, 4800 * mb: 51, 480000 * mb: 50} {
		if got := growth(inUse); got != want {
			t.Errorf("%d MiB in use: %d %%, want %d %%", inUse/mb, got, want)
		}
	}
	for _, c := range []struct {
		inUse, objects, free uint64
		want                 bool
	}{{20, 30, 10, false}, {20, 50, 10, true}, {20, 20, 40, true}, {400, 450, 40, false}, {400, 450, 60, true}, {400, 300, 0, false}} {
		if got := spare(c.inUse*mb, c.objects*mb, c.free*mb); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// What it measures is there under the names that it asks for, and it does not give back twice in a row.
func TestHeapIsKept(t *testing.T) {
	if inUse, objects, _ := measureHeap(); objects == 0 {
		t.Errorf("%d bytes in use, %d of objects", inUse, objects)
	}
	h := &heap{percent: smallPercent, quiet: time.AfterFunc(time.Hour, func() {}), given: time.Now().Add(time.Hour)}
	defer h.quiet.Stop()
	before := h.given
	if h.giveBack(); h.given != before {
		t.Error("given back once more")
	}
}
