package sim

import (
	"testing"

	"sharefs"
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
