package sim

import (
	"testing"

	"sharefs"
	"sharefs/peers/converge"
)

// What came back, because somebody changed it of whom the remover did not know, can be removed again.
func TestRemovedAgain(t *testing.T) {
	onOneGoroutine(t)
	for name, dir := range map[string]bool{"a file": false, "a directory": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(1, 2, nil)
			one, other := w.hosts[0], w.hosts[1]
			if why := w.guard(func() {
				find := func(h *host) path {
					for _, p := range h.tree.walk() {
						if p.text == "x" {
							return p
						}
					}
					return path{}
				}
				for _, h := range w.hosts {
					h.up()
				}
				if dir {
					one.tree.create(sharefs.RootIno, "x", inode{id: one.tree.newID(), mode: sharefs.ModeDir | 0o755})
				} else {
					one.tree.makeFile(sharefs.RootIno, "x", "first", false)
				}
				w.quiesce()
				if p := find(other); dir {
					other.tree.makeFile(p.ino, "y", "second", false)
				} else {
					other.tree.write(p.ino, "second", false)
				}
				one.tree.removeAll(find(one))
				w.quiesce()
				w.check()
				if find(one).ino == 0 || find(other).ino == 0 {
					w.fail("it did not come back")
				}
				one.tree.removeAll(find(one))
				w.quiesce()
				w.check()
				if find(one).ino != 0 || find(other).ino != 0 {
					w.fail("it cannot be removed")
				}
			}); why != "" {
				t.Fatal(why)
			}
		})
	}
}

// What two hosts wrote alike, neither knowing of the other, is no conflict, and neither is what somebody makes of it: he saw what both wrote.
func TestChangedAfterTwoWroteTheSame(t *testing.T) {
	onOneGoroutine(t)
	for by := range 3 {
		w := newWorld(1, 3, nil)
		if why := w.guard(func() {
			write := func(h *host, text string) {
				for _, p := range h.tree.walk() {
					h.tree.write(p.ino, text, false)
				}
				h.restAll()
				h.author()
			}
			w.hosts[0].tree.makeFile(sharefs.RootIno, "x", "first", false)
			w.quiesce()
			write(w.hosts[0], "the same")
			write(w.hosts[1], "the same")
			w.quiesce()
			write(w.hosts[by], "another")
			w.quiesce()
			w.check()
			shown, _ := converge.Whole(w.hosts[0].counting())
			if n := shown["x"]; len(n.Conflicts) > 0 {
				w.fail("changed by %s: %d versions wait for a choice", w.hosts[by], len(n.Conflicts))
			}
		}); why != "" {
			t.Error(why)
		}
	}
}
