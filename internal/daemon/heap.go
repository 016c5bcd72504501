package daemon

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// The heap of a mount without peers, some 20 MB, may grow to three times of what is in use before it is collected, where Go's default is twice: that takes a tenth off the processor time of a burst,
// of which the programs on a small machine get the most. What is known of peers' files can be a hundred times as large, and as much beside it would be what makes the difference on a laptop:
// then it may grow by 48 MiB and half of what is in use. And what a burst has left is given back to the kernel when it is over, of which Go takes minutes.
const (
	smallHeap    = 32 << 20 // bytes in use up to which smallPercent holds
	smallPercent = 200      // how far the heap may grow, in percent of what is in use
	leastPercent = 50       // the same, of a large one

	giveBackAfter = 20 * time.Second // without a collection, so nothing allocates much
	giveBackEvery = 2 * time.Minute  // at the most, for it takes a collection; Go itself makes one so often
	giveBackLeast = 32 << 20         // bytes for which it is worth one
)

// growth returns how far the heap may grow, in percent of so many bytes in use.
func growth(inUse uint64) int {
	if inUse <= smallHeap {
		return smallPercent
	}
	return leastPercent + int(smallHeap*(smallPercent-leastPercent)/inUse)
}

// spare reports whether so much can be given back that it is worth a collection: what is free, and what is not in use any more, by all that is known without one.
func spare(inUse, objects, free uint64) bool {
	return objects+free > inUse+max(giveBackLeast, inUse/4)
}

// heap keeps the heap of the process small for what it holds.
type heap struct {
	mu      sync.Mutex
	percent int // in use
	quiet   *time.Timer
	given   time.Time // back, for the last time
}

var keepHeapOnce sync.Once

// keepHeap begins to do so, once in a process, unless somebody has said otherwise (GOGC).
func keepHeap() {
	if os.Getenv("GOGC") == "" {
		keepHeapOnce.Do(func() {
			h := &heap{percent: smallPercent}
			debug.SetGCPercent(h.percent)
			h.quiet = time.AfterFunc(giveBackAfter, h.giveBack)
			h.watch()
		})
	}
}

// mark is a thing that nobody uses: the next collection finds that out.
type mark struct{ _ [64]byte }

// watch has collected called after each collection.
func (h *heap) watch() {
	runtime.SetFinalizer(&mark{}, func(*mark) {
		h.collected()
		h.watch()
	})
}

func (h *heap) collected() {
	inUse, _, _ := measureHeap()
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := growth(inUse); p < h.percent*9/10 || p > h.percent*11/10 { // to set it stops everything for a moment
		h.percent = p
		debug.SetGCPercent(p)
	}
	h.quiet.Reset(giveBackAfter)
}

// giveBack gives back what a burst has left.
func (h *heap) giveBack() {
	h.mu.Lock()
	wait := time.Until(h.given.Add(giveBackEvery))
	if wait > 0 {
		h.quiet.Reset(wait)
		h.mu.Unlock()
		return
	}
	does := spare(measureHeap())
	if does {
		h.given = time.Now()
	}
	h.mu.Unlock()
	if does {
		debug.FreeOSMemory()
	}
}

// measureHeap returns how many bytes were in use when the heap was collected last, how many objects take that are not known to be unused, and how many are free and not given back.
func measureHeap() (inUse, objects, free uint64) {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()
}
