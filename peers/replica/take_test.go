package replica

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Whoever says to have moved a directory before others made theirs, again and again, has all these carried out again each time: others get on meanwhile, and all of it is taken.
func TestWhatIsDoneAnewIsTakenInParts(t *testing.T) {
	w := newWard(t)
	rested := 0
	w.rep.rest = func(d time.Duration) {
		rested++
		if d > longestRest || !w.rep.mu.TryLock() {
			t.Fatalf("nobody else gets on: %v", d)
		}
		w.rep.mu.Unlock()
	}
	w.filled()
	o, b := w.owner, w.bert
	o.now = 1 << 40
	const dirs, moves = 1000, 600
	for i := range dirs {
		o.say(&record.Place{File: sharefs.FileID{200, byte(i), byte(i >> 8)}, Type: record.Directory, Name: fmt.Sprint("o", i)})
	}
	w.tell(o)
	if rested > 0 {
		t.Errorf("%d pauses, and nothing was done anew", rested)
	}
	for i := range moves {
		b.say(&record.Place{File: sharefs.FileID{100}, Type: record.Directory, Parent: sharefs.FileID{2}, Name: fmt.Sprint("b", i)})
	}
	last := b.new[moves-1].ID()
	w.tell(b)
	if want := dirs * moves / mostRedone; rested < want-1 || rested > want {
		t.Errorf("%d pauses, not %d", rested, want)
	}
	if n, ok := w.rep.tree.Result()[fmt.Sprint("top/in/b", moves-1)]; !ok || n.Key != (converge.Key{File: sharefs.FileID{100}}) {
		t.Errorf("it is elsewhere: %+v", n)
	}
	if s, ok, err := w.rep.StandingOf(last); s != Merged || !ok || err != nil {
		t.Errorf("%v %v %v", s, ok, err)
	}
}

// A host that is to end does not wait for all of it: what was not taken is not said to be.
func TestTakingEndsWithTheHost(t *testing.T) {
	w := newWard(t)
	ending := make(chan struct{})
	w.rep.cfg.Ending = ending
	w.filled()
	o, b := w.owner, w.bert
	o.now = 1 << 40
	for i := range 1000 {
		o.say(&record.Place{File: sharefs.FileID{200, byte(i), byte(i >> 8)}, Type: record.Directory, Name: fmt.Sprint("o", i)})
	}
	w.tell(o)
	var items []Item
	for i := range 1000 {
		b.say(&record.Place{File: sharefs.FileID{100}, Type: record.Directory, Parent: sharefs.FileID{2}, Name: fmt.Sprint("b", i)})
		items = append(items, Item{Records: []*record.Record{b.new[i]}})
	}
	close(ending) // or it would rest for as long as it took
	n, err := w.rep.Take(sharefs.PeerID{1}, items)
	if n == 0 || n == len(items) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%d of %d taken: %v", n, len(items), err)
	}
}
