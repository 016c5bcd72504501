package versions

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"sharefs"
)

// account is what somebody who follows the feed knows of a tree: each inode and name as text.
type account map[Change]string

// look brings the account up to date with one thing.
func (a account) look(t testing.TB, tree *Tree, c Change) {
	t.Helper()
	c.Count = 0
	space, key := spaceInode, inoKey(c.Ino)
	if c.Cookie != 0 {
		space, key = spaceDentry, dentryKey(c.Ino, c.Cookie)
	}
	row, ok, err := tree.db.Get(space, key)
	check(t, err)
	if c.Cookie != 0 && ok {
		d, err := decodeDent(key, row)
		check(t, err)
		ok, row = d.ino != 0, fmt.Appendf(nil, "%d %q", d.ino, d.name)
	}
	if !ok {
		delete(a, c)
		return
	}
	text := fmt.Sprintf("%x", row)
	if c.Cookie == 0 {
		check(t, eachXattr(tree.db, c.Ino, func(name string, value []byte) { text += fmt.Sprintf(" %s=%q", name, value) }))
		for v := range uint64(64) {
			if v, err := loadVersion(tree.db, c.Ino, v+1); err == nil && v.place == placeKept {
				text += fmt.Sprintf(" version %d of %d bytes", v.own, v.size)
			}
		}
	}
	a[c] = text
}

// follow deals with all that changed, with a change of everything that it has seen in between.
func (a account) follow(t testing.TB, tree *Tree) {
	t.Helper()
	for {
		list, err := tree.Changes(Change{}, 7)
		check(t, err)
		if len(list) == 0 {
			return
		}
		for _, c := range list {
			a.look(t, tree, c)
		}
		check(t, tree.Dealt(list))
	}
}

// everything is the account of somebody who looks at the tree anew.
func everything(t testing.TB, tree *Tree) account {
	t.Helper()
	a := account{}
	for after := (Change{}); ; {
		list, err := tree.Everything(after, 5)
		check(t, err)
		if len(list) == 0 {
			return a
		}
		for _, c := range list {
			if _, twice := a[c]; twice {
				t.Fatalf("%+v comes twice", c)
			}
			a.look(t, tree, c)
		}
		after = list[len(list)-1]
	}
}

// same holds that the account tells of the tree as it is, once it has followed the feed. What the tree does by itself meanwhile, as giving up inodes without names, comes
// by the feed too.
func (a account) same(t testing.TB, tree *Tree) {
	t.Helper()
	var want account
	for {
		a.follow(t, tree)
		want = everything(t, tree)
		if len(must[[]Change](t)(tree.Changes(Change{}, 1))) == 0 {
			break
		}
	}
	for _, m := range []account{a, want} {
		for c := range m {
			if a[c] != want[c] {
				t.Errorf("the account of %+v is %q, the tree has %q", c, a[c], want[c])
			}
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// Whoever follows the feed knows of every change, also across the end of a daemon, and of collisions of names.
func TestFeedTellsOfEveryChange(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := newModel(seed)
			known := account{}
			for round := range 4 {
				m.tree = testTree(t, dir, byHand, func(c *Config) {
					if seed == 1 {
						weakHash(c)
					}
				})
				m.find(t)
				if round == 0 {
					m.run(t, 0, 200)
					check(t, m.tree.Follow(true))
					known = everything(t, m.tree)
				}
				m.done = func(step int) {
					if step%97 == 0 {
						known.same(t, m.tree)
					}
				}
				m.run(t, 200+round*400, 600+round*400)
				for _, h := range m.handles {
					check(t, h.h.Close())
				}
				for _, n := range m.files() {
					settle(t, m.tree, n.ino)
				}
				capture(t, m.tree)
				if round%2 == 0 {
					known.same(t, m.tree)
				}
				m.forgetHandles()
				check(t, m.tree.Close())
			}
		})
	}
}

// files lists the regular files that have a name.
func (m *model) files() []*mnode {
	found := map[*mnode]bool{}
	var walk func(d *mnode)
	walk = func(d *mnode) {
		for _, n := range d.children {
			if n.isDir() {
				walk(n)
			} else if n.kind() == sharefs.ModeRegular {
				found[n] = true
			}
		}
	}
	walk(m.root)
	return slices.SortedFunc(maps.Keys(found), func(a, b *mnode) int { return int(a.ino) - int(b.ino) })
}

// What changes while it is dealt with stays in the feed.
func TestChangesWhileTheyAreDealtWithStay(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	defer tree.Close()
	a := create(t, tree, sharefs.RootIno, "a", "one")
	check(t, tree.Follow(true))
	if list, err := tree.Changes(Change{}, 10); err != nil || len(list) != 0 {
		t.Fatalf("what was there counts as changed: %v %v", list, err)
	}
	mode := uint32(0o600)
	chmod := func() {
		must[sharefs.Attr](t)(tree.Setattr(a.Ino, &SetAttr{Mode: &mode}, root))
	}
	chmod()
	select {
	case <-tree.Changed():
	default:
		t.Error("nobody is told")
	}
	list := must[[]Change](t)(tree.Changes(Change{}, 10))
	if len(list) != 1 || list[0].Ino != a.Ino || list[0].Cookie != 0 {
		t.Fatalf("%+v", list)
	}
	chmod()
	check(t, tree.Dealt(list))
	if again := must[[]Change](t)(tree.Changes(Change{}, 10)); len(again) != 1 || again[0].Ino != a.Ino {
		t.Fatalf("a change in between is forgotten: %+v", again)
	}
	check(t, tree.Dealt(must[[]Change](t)(tree.Changes(Change{}, 10))))
	check(t, tree.Mark([]Change{{Ino: 7, Cookie: 8}}))
	if list := must[[]Change](t)(tree.Changes(Change{}, 10)); len(list) != 1 || list[0].Ino != 7 || list[0].Cookie != 8 {
		t.Fatalf("%+v", list)
	}
	check(t, tree.Follow(false))
	check(t, tree.Mark([]Change{{Ino: 7, Cookie: 8}}))
	check(t, tree.Follow(true))
	if list := must[[]Change](t)(tree.Changes(Change{}, 10)); len(list) != 0 {
		t.Fatalf("marks are left from before: %+v", list)
	}
}
