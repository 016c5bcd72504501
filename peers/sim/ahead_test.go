package sim

import (
	"testing"
	"time"

	"sharefs"
)

// A host that only passes on what others write is put back from an image, and its clock was ahead when it passed on what came after that: who had all of it then gets what comes now.
func TestRelayRestoredWhoseClockWasAhead(t *testing.T) {
	w := newWorld(1, 4, nil)
	one, other, relay, last := w.hosts[0], w.hosts[1], w.hosts[2], w.hosts[3]
	write := func(h *host, name string) {
		h.tree.makeFile(sharefs.RootIno, name, "of "+name, false)
		h.restAll()
		h.author()
	}
	reach := func(all ...*host) {
		for _, a := range w.hosts {
			for _, b := range w.hosts {
				w.apart[pair(a, b)] = true
			}
		}
		for _, a := range all {
			delete(w.apart, pair(a, relay))
		}
		for _, a := range w.hosts {
			w.cut(a, nil)
		}
		w.exchange()
	}
	restart := func(skew time.Duration) {
		relay.down(false)
		relay.skew = skew
		if !relay.up() {
			w.fail("%s does not come up", relay)
		}
	}
	if why := w.guard(func() {
		for _, h := range w.hosts {
			h.up()
		}
		relay.save(true)
		restart(time.Hour)
		write(one, "a")
		write(other, "b")
		reach(one, other, last)
		w.clock = w.clock.Add(time.Minute)
		relay.restore()
		restart(0)
		write(other, "c")
		reach(one, other)
		w.clock = w.clock.Add(2 * time.Hour)
		restart(0)
		write(one, "d")
		reach(one)
		reach(last)
		if got, want := len(last.records()), len(relay.records()); got != want {
			w.fail("the last host has %d records of %d", got, want)
		}
	}); why != "" {
		t.Fatal(why)
	}
}
