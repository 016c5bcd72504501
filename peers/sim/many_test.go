package sim

import (
	"fmt"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// A file that more hosts have changed at the same time than one record can name is removed all the same, in one go, by who could see all of that.
func TestRemovedAfterManyChanges(t *testing.T) {
	race.Leave(t, race.OneHand)
	for _, hosts := range []int{record.MaxSeen, record.MaxSeen + 1, 2*record.MaxSeen + 3} {
		t.Run(fmt.Sprint(hosts), func(t *testing.T) {
			w := newWorld(1, hosts, nil)
			if why := w.guard(func() {
				w.hosts[0].tree.makeFile(sharefs.RootIno, "x", "first", false)
				w.quiesce()
				for i, h := range w.hosts {
					for _, p := range h.tree.walk() {
						h.tree.write(p.ino, fmt.Sprint("by ", i), false)
					}
					h.restAll()
					h.author()
				}
				w.quiesce()
				w.check()
				one := w.hosts[hosts-1]
				all := one.tree.walk()
				if len(all) != 1 {
					w.fail("%d files", len(all))
				}
				if shown, _ := converge.Whole(one.counting()); len(shown["x"].Conflicts) != hosts-1 {
					w.fail("%d versions wait for a choice", len(shown["x"].Conflicts))
				}
				one.tree.removeAll(all[0])
				w.quiesce()
				w.check()
				for _, h := range w.hosts {
					if len(h.tree.walk()) > 0 {
						w.fail("it is not removed")
					}
				}
			}); why != "" {
				t.Fatal(why)
			}
		})
	}
}
