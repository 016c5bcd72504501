package sim

import (
	"fmt"
	"testing"
	"time"

	"sharefs"
	"sharefs/integration/race"
)

// A host that crashes between what it does to its tree and what it writes down of it hears, before it has looked at that, that others did something else since. What they removed does not
// come back, and what gave way to it here is not removed by that.
func TestCrashBetweenTreeAndAccount(t *testing.T) {
	race.Leave(t, race.OneHand)
	const calls = 40 // of tree and disk while one name is applied, and more
	for _, c := range []struct {
		name   string
		make   func(h *host, name string)
		second bool // the host that crashes has another file of that name
	}{
		{"a file", makeFull, false},
		{"an empty file", makeEmpty, false},
		{"a directory", makeDir, false},
		{"a symlink", func(h *host, name string) {
			h.tree.create(sharefs.RootIno, name, inode{id: h.tree.newID(), mode: sharefs.ModeSymlink | 0o777, target: "there"})
		}, false},
		{"a file that takes the name of another one", makeFull, true},
		{"an empty file that takes the name of another one", makeEmpty, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			crashes := 0
			for fuse := 1; fuse <= calls; fuse++ {
				w := newWorld(1, 2, nil)
				if why := w.guard(func() {
					one, other := w.hosts[0], w.hosts[1]
					w.quiesce()
					if c.second {
						c.make(other, "x")
						other.restAll()
						other.author()
						w.clock = w.clock.Add(time.Second) // the later one has the name
					}
					c.make(one, "x")
					one.restAll()
					one.author()
					for w.send(one, other, 1<<20); w.deliver(one, other); {
					}
					other.fuse = fuse
					other.apply()
					if other.rep == nil {
						crashes++
					}
					other.fuse = 0
					for _, p := range one.tree.walk() {
						one.tree.removeAll(p)
					}
					one.author() // which has heard nothing of the other file
					other.up()
					w.exchange()
					other.author()
					w.quiesce()
					w.check()
					for _, h := range w.hosts {
						if h.tree.has("x") != c.second {
							w.fail("%s has x: %v\n%s", h, !c.second, h.tree.shows())
						}
					}
				}); why != "" {
					t.Errorf("at call %d: %s", fuse, why)
				}
			}
			if crashes == 0 {
				t.Error("it never crashed")
			}
		})
	}
}

func makeFull(h *host, name string) {
	h.tree.makeFile(sharefs.RootIno, name, fmt.Sprintf("of %s", h), false)
}

func makeEmpty(h *host, name string) { h.tree.makeFile(sharefs.RootIno, name, "", false) }

func makeDir(h *host, name string) {
	h.tree.create(sharefs.RootIno, name, inode{id: h.tree.newID(), mode: sharefs.ModeDir | 0o755})
}
