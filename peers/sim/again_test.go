package sim

import (
	"slices"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/peers/converge"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/peers/trust"
)

// What came back, because somebody changed it of whom the remover did not know, can be removed again.
func TestRemovedAgain(t *testing.T) {
	race.Leave(t, race.OneHand)
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
	race.Leave(t, race.OneHand)
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

// What somebody says a file or directory to be like may come after it, and after it was made here: nobody says then that it is as it was made.
func TestAttributesThatComeLater(t *testing.T) {
	race.Leave(t, race.OneHand)
	for _, between := range []bool{false, true} { // whether the host looks at what it made before they come
		w := partWorld(history{seed: 1}, trust.Write)
		if why := w.guard(func() {
			w.parts.begin()
			one, other := w.hosts[0], w.hosts[1]
			p, _ := one.tree.lookup(sharefs.RootIno, "p")
			file := one.tree.makeFile(p.Ino, "f", "private", false)
			one.tree.edit(file).mode = sharefs.ModeRegular | 0o600
			one.tree.create(p.Ino, "d", inode{id: one.tree.newID(), mode: sharefs.ModeDir | 0o700})
			one.restAll()
			one.author()
			id, _, _ := w.logOf(one, other)
			list, _, err := w.since(one, other, &session{log: id}, 1<<20)
			if err != nil {
				w.fail("%v", err)
			}
			var attrs []replica.Item
			list = slices.DeleteFunc(list, func(i replica.Item) bool {
				if i.Records[0].Says().Body.Kind() != record.KindAttr {
					return false
				}
				attrs = append(attrs, i)
				return true
			})
			if len(attrs) < 2 {
				w.fail("%d attributes are told", len(attrs))
			}
			other.take(encode(list))
			other.apply()
			if between {
				other.author()
			}
			other.take(encode(attrs))
			other.author()
			w.quiesce()
			w.parts.check()
			for _, h := range w.hosts {
				for _, at := range h.tree.walk() {
					if mode := h.tree.nodes[at.ino].mode &^ sharefs.ModeType; at.text == "p/f" && mode != 0o600 || at.text == "p/d" && mode != 0o700 {
						w.fail("%s: %s has mode %o", h, at.text, mode)
					}
				}
			}
		}); why != "" {
			t.Errorf("between %v: %s", between, why)
		}
	}
}

// What a directory is like is told, also where what is in it is looked at in an earlier piece than its name.
func TestDirectoryKnownBeforeItsName(t *testing.T) {
	race.Leave(t, race.OneHand)
	for pad := range 3 { // by which pieces differ
		w := newWorld(1, 2, nil)
		w.few = true
		if why := w.guard(func() {
			w.quiesce()
			tree := w.hosts[0].tree
			inner := tree.create(sharefs.RootIno, "inner", inode{id: tree.newID(), mode: sharefs.ModeDir | 0o700})
			tree.create(inner, "x", inode{id: tree.newID(), mode: sharefs.ModeDir | 0o755})
			outer := tree.create(sharefs.RootIno, "outer", inode{id: tree.newID(), mode: sharefs.ModeDir | 0o755})
			if err := tree.rename(sharefs.RootIno, "inner", outer, "inner"); err != nil {
				w.fail("%v", err)
			}
			for range pad {
				tree.edit(outer)
			}
			w.quiesce()
			w.check()
		}); why != "" {
			t.Errorf("pad %d: %s", pad, why)
		}
	}
}

// The time of an empty file is told that was set, also if it is set back to that of its making.
func TestTimeOfAnEmptyFileSetBack(t *testing.T) {
	race.Leave(t, race.OneHand)
	w := newWorld(1, 2, nil)
	if why := w.guard(func() {
		w.quiesce()
		one, other := w.hosts[0].tree, w.hosts[1].tree
		ino := one.makeFile(sharefs.RootIno, "x", "", false)
		made := one.nodes[ino].btime
		for _, at := range []sharefs.Time{4, made, 4} {
			one.edit(ino).mtime = at
			w.quiesce()
			w.check()
			if d, _ := other.lookup(sharefs.RootIno, "x"); other.nodes[d.Ino].mtime != at {
				w.fail("it was changed at %d, not %d", other.nodes[d.Ino].mtime, at)
			}
		}
	}); why != "" {
		t.Error(why)
	}
}
