package versions

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// viewModel holds views against copies of the tree that were made when it was as they show it.
type viewModel struct {
	*model
	t      *testing.T
	r      *rand.Rand
	closed map[*mnode]string // what the last close of a file left, as far as a copy or a Restore had it come to rest
	copies []*treeCopy
	weak   bool // names collide
}

// treeCopy is a tree as it was, by path.
type treeCopy struct {
	at    sharefs.HLC
	nodes map[string]*nodeCopy
}

type nodeCopy struct {
	attr    sharefs.Attr
	rests   bool // nobody could write to it: all of attr is known
	target  string
	xattrs  map[string]string
	content string
}

// copyNow has everything come to rest that can, and copies the tree as the calls for the live tree show it. The moment may be looked at, or not yet.
func (m *viewModel) copyNow(kind int) *treeCopy {
	m.t.Helper()
	tree := m.tree
	c := &treeCopy{nodes: map[string]*nodeCopy{}}
	switch kind {
	case 0:
		c.at = must[sharefs.HLC](m.t)(tree.Snapshot())
	case 1:
		c.at = must[*View](m.t)(tree.ViewAt(sharefs.MaxHLC)).At()
	default:
		check(m.t, tree.restAll(sharefs.MaxHLC))
		check(m.t, tree.closeEpoch())
		c.at = tree.clock.Next()
		// What is closed within a millisecond counts as closed at its beginning, unless somebody has looked at that.
		time.Sleep(2 * time.Millisecond)
	}
	written := map[*mnode]bool{}
	for _, h := range m.handles {
		if h.flags&unix.O_ACCMODE != unix.O_RDONLY {
			written[h.n] = true
		}
	}
	var walk func(path string, n *mnode)
	walk = func(path string, n *mnode) {
		a := must[sharefs.Attr](m.t)(tree.Getattr(n.ino))
		k := &nodeCopy{attr: a, rests: !written[n], target: n.target, xattrs: maps.Clone(n.xattrs)}
		c.nodes[path] = k
		if n.kind() == sharefs.ModeRegular {
			if k.rests {
				m.closed[n] = string(n.content)
			}
			k.content = m.closed[n]
		}
		for name, child := range n.children {
			walk(path+"/"+name, child)
		}
	}
	walk("", m.root)
	m.copies = append(m.copies, c)
	return c
}

// hold compares the view of a moment with the copy that was made then.
func (m *viewModel) hold(c *treeCopy, when string) {
	t := m.t
	t.Helper()
	v := must[*View](t)(m.tree.ViewAt(c.at))
	if v.At() != c.at {
		t.Fatalf("%s: a view of %d shows %d", when, c.at, v.At())
	}
	found := 0
	var walk func(path string, ino, parent sharefs.Ino)
	walk = func(path string, ino, parent sharefs.Ino) {
		where := fmt.Sprintf("%s: at %d: %q", when, c.at, path)
		want := c.nodes[path]
		if want == nil {
			t.Fatalf("%s was not there", where)
		}
		found++
		got := must[sharefs.Attr](t)(v.Getattr(ino))
		wantAttr := want.attr
		if !want.rests { // content, and what goes with it, are those of the last close
			wantAttr.Size, wantAttr.Changing, wantAttr.Mapped = uint64(len(want.content)), false, false
			wantAttr.Blocks, wantAttr.Atime, wantAttr.Mtime, wantAttr.Ctime = got.Blocks, got.Atime, got.Mtime, got.Ctime
		}
		if got != wantAttr {
			t.Fatalf("%s has\n%+v, want\n%+v", where, got, wantAttr)
		}
		list := must[[]string](t)(v.Listxattr(ino))
		if !slices.Equal(list, slices.Sorted(maps.Keys(want.xattrs))) {
			t.Fatalf("%s has the extended attributes %q, want %q", where, list, want.xattrs)
		}
		for name, value := range want.xattrs {
			if b := must[[]byte](t)(v.Getxattr(ino, name)); string(b) != value {
				t.Fatalf("%s: %s is %q, want %q", where, name, b, value)
			}
		}
		switch got.Mode & sharefs.ModeType {
		case sharefs.ModeRegular:
			r := must[VersionReader](t)(v.Open(ino))
			b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
			check(t, err)
			check(t, r.Close())
			if string(b) != want.content || r.Size() != int64(len(b)) {
				t.Fatalf("%s holds %d bytes that differ from the %d that it held", where, len(b), len(want.content))
			}
		case sharefs.ModeSymlink:
			if target := must[string](t)(v.Readlink(ino)); target != want.target {
				t.Fatalf("%s leads to %q, want %q", where, target, want.target)
			}
		case sharefs.ModeDir:
			if up := must[sharefs.Attr](t)(v.Lookup(ino, "..")); up.Ino != parent {
				t.Fatalf("%s lies in %d, want %d", where, up.Ino, parent)
			}
			var names []sharefs.Dentry
			check(t, v.ReadDir(ino, 0, func(d sharefs.Dentry) bool {
				names = append(names, d)
				return true
			}))
			for i, d := range names {
				a := must[sharefs.Attr](t)(v.Lookup(ino, d.Name))
				if a.Ino != d.Ino || a.Mode&sharefs.ModeType != d.Type || i > 0 && d.Cookie <= names[i-1].Cookie {
					t.Fatalf("%s/%s is listed as %+v, and found as %+v", where, d.Name, d, a)
				}
				walk(path+"/"+d.Name, d.Ino, ino)
			}
		}
	}
	walk("", sharefs.RootIno, sharefs.RootIno)
	if found != len(c.nodes) {
		t.Fatalf("%s: the view of %d has %d of %d files", when, c.at, found, len(c.nodes))
	}
}

// holdEver looks for every name that a copy has among those that there ever were.
func (m *viewModel) holdEver() {
	m.t.Helper()
	check(m.t, m.tree.closeEpoch())
	type place struct {
		dir  sharefs.Ino
		name string
	}
	was := map[place]*treeCopy{}
	dirs := map[sharefs.Ino]bool{}
	for _, c := range m.copies {
		for path, n := range c.nodes {
			for name := range c.nodes {
				if len(name) > len(path) && name[:len(path)] == path && name[len(path)] == '/' && !slices.Contains([]byte(name[len(path)+1:]), '/') {
					was[place{n.attr.Ino, name[len(path)+1:]}] = c
					dirs[n.attr.Ino] = true
				}
			}
		}
	}
	ever := map[place]Ever{}
	for dir := range dirs {
		last := uint64(0)
		check(m.t, m.tree.NamesEver(dir, 0, func(e Ever) bool {
			p := place{dir, e.Name}
			before, twice := ever[p]
			if e.Cookie <= last || twice && !m.weak {
				m.t.Fatalf("%+v is told after cookie %d", e, last)
			}
			last = e.Cookie
			if !twice || e.Gone == 0 || before.Gone != 0 && e.Gone > before.Gone {
				ever[p] = e
			}
			return true
		}))
	}
	for p, e := range ever {
		if e.Gone == 0 {
			if a := lookup(m.t, m.tree, p.dir, p.name); a.Ino != e.Ino {
				m.t.Fatalf("%+v is told to bear the name of %d", e, a.Ino)
			}
			continue
		}
		v := must[*View](m.t)(m.tree.ViewAt(e.Gone - 1))
		a, err := v.Lookup(p.dir, p.name)
		if err != nil || a.Ino != e.Ino || a.Mode&sharefs.ModeType != e.Type {
			m.t.Fatalf("right before %+v went, the name led to %+v: %v", e, a, err)
		}
		if v = must[*View](m.t)(m.tree.ViewAt(e.Gone)); v.At() == e.Gone {
			if a, err := v.Lookup(p.dir, p.name); err == nil {
				m.t.Fatalf("%+v is gone, and leads to %+v", e, a)
			}
		}
	}
	for p, c := range was {
		if e, ok := ever[p]; !ok && !m.weak {
			m.t.Fatalf("%q in %d was there at %d, and is not told: %+v", p.name, p.dir, c.at, e)
		}
	}
}

// restore gives a file one of its versions.
func (m *viewModel) restore() {
	s := mstep{m: m.model, t: m.t, r: m.r}
	n := s.any()
	if n.kind() != sharefs.ModeRegular || slices.ContainsFunc(m.handles, func(h *mhandle) bool { return h.n == n }) {
		return
	}
	list := must[[]sharefs.Version](m.t)(m.tree.Versions(n.ino))
	if len(list) == 0 {
		return
	}
	v := list[m.r.IntN(len(list))]
	was := readVersion(m.t, m.tree, n.ino, v.Number)
	err := m.tree.Restore(Op{}, n.ino, v.Number, root)
	if sharefs.KindOf(err) == sharefs.KindExist && err != nil {
		return
	}
	check(m.t, err)
	n.content, n.mode = []byte(was), n.kind()|v.Mode&sharefs.ModePerm
	n.touched()
	m.closed[n] = was
}

// abandon ends a tree as the death of the process does.
func abandon(t testing.TB, tree *Tree) {
	t.Helper()
	tree.closed.Store(true)
	close(tree.stop)
	tree.ended.Wait()
	check(t, tree.shut())
}

func TestViewsAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := &viewModel{
				model: newModel(seed), t: t, r: rand.New(rand.NewPCG(seed, 99)), closed: map[*mnode]string{}, weak: seed == 1,
			}
			m.names = []string{"a", "é", "e\u0301", "文件", "\xff\xfe", "a b\n", "@@", "日本語のとても長い名前"}
			copied := 0
			m.done = func(step int) {
				switch m.r.IntN(20) {
				case 0:
					c := m.copyNow(copied % 3)
					if copied++; copied%3 != 0 || m.r.IntN(3) == 0 {
						m.hold(c, "at once")
					}
				case 1:
					if len(m.copies) > 0 {
						m.hold(m.copies[m.r.IntN(len(m.copies))], "meanwhile")
					}
				case 2:
					must[int](t)(m.tree.past.capture())
				case 3:
					m.restore()
				}
			}
			const rounds, steps = 4, 300
			for round := range rounds {
				m.tree = testTree(t, dir, byHand, func(c *Config) {
					c.Atime = Noatime
					c.Clock = &sharefs.Clock{Now: func() time.Time { return time.Now().Add(-time.Duration(round) * time.Hour) }}
					if m.weak {
						weakHash(c)
					}
				})
				m.find(t)
				for _, c := range m.copies {
					m.hold(c, "after a start")
				}
				m.copyNow(round % 3)
				m.run(t, round*steps, round*steps+steps)
				for i, c := range m.copies {
					m.hold(c, "at the end of a round")
					if i == len(m.copies)/2 {
						capture(t, m.tree)
					}
				}
				m.holdEver()
				if round%2 == 0 {
					// With a clock that is set back nothing can be promised of a moment that nobody looked at.
					seen := sharefs.HLC(m.tree.seen.Load())
					m.copies = slices.DeleteFunc(m.copies, func(c *treeCopy) bool { return c.at > seen })
					abandon(t, m.tree)
					m.forgetHandles()
				} else {
					for _, h := range m.handles {
						check(t, h.h.Close())
					}
					m.forgetHandles()
					check(t, m.tree.Close())
				}
			}
			if len(m.copies) < 20 {
				t.Errorf("only %d copies were made", len(m.copies))
			}
		})
	}
}
