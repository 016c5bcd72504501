package replica

import (
	"cmp"
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Change is something that is otherwise in the tree of an author than in the live one, by what he proposes.
type Change struct {
	Path string // in the author's tree; of what he removed where it is here
	From string // where the live tree has it, if that is not Path
	Type record.Type

	Added, Removed, Moved bool // at most one of them
	Live, Proposed        *record.Record
	Attr                  bool // permissions or extended attributes differ
	// Timed says that the time of the last change differs behind the same content, for somebody set it; Mtime is the proposed one.
	Timed bool
	Mtime sharefs.Time
	// Beside says that the live content has changed without the author knowing of it: taking his overrules that.
	Beside bool

	key  converge.Key  // of the live node, or of the author's where he added it
	node converge.Node // in the author's tree; zero of what he removed
	from record.ID     // the proposed version
	less bool          // something else has the name in the author's tree too
}

// joined reports whether the author made a directory that is one with that which is here.
func (c *Change) joined() bool {
	return c.Type == record.Directory && !c.Removed && c.key != c.node.Key
}

// Content reports whether the author proposes another content.
func (c *Change) Content() bool { return c.Proposed != nil }

// Changes lists what is otherwise in the tree of an author than in the live one, by path. It costs as much as the tree is large.
func (r *Replica) Changes(author sharefs.PeerID) (list []Change, err error) {
	err = r.both(author, func(over *converge.Tree) error {
		list = compare(r.tree, over)
		return nil
	})
	return list, err
}

// comparison compares two trees, of which the second has all that the first has, and counts more of it.
type comparison struct {
	base, over *converge.Tree
	one        map[sharefs.FileID]sharefs.FileID // what a directory is shown as in over, where it is not itself
	told       map[converge.Key]bool             // names of the live tree that were compared with what over has in their place
	hidden     map[converge.Key]bool             // names in over that another one is shown for
}

func compare(base, over *converge.Tree) (list []Change) {
	if base == over {
		return nil
	}
	c := newComparison(base, over)
	over.Nodes(func(n converge.Node) {
		if ch, differs := c.now(&n); differs {
			list = append(list, ch)
		}
		list = append(list, c.behind(&n)...)
	})
	base.Nodes(func(n converge.Node) {
		if ch, differs := c.gone(&n); differs {
			list = append(list, ch)
		}
	})
	slices.SortFunc(list, func(a, b Change) int {
		if a.Path == b.Path && a.less != b.less {
			if a.less {
				return 1
			}
			return -1
		}
		return cmp.Or(strings.Compare(a.Path, b.Path), a.key.Compare(b.key))
	})
	return list
}

func newComparison(base, over *converge.Tree) *comparison {
	c := &comparison{base, over, map[sharefs.FileID]sharefs.FileID{}, map[converge.Key]bool{}, map[converge.Key]bool{}}
	over.Nodes(func(n converge.Node) {
		for _, id := range n.Merged {
			c.one[id] = n.Key.File
		}
		for _, o := range n.Conflicts {
			if o.Key != n.Key {
				c.hidden[o.Key] = true
			}
		}
	})
	return c
}

// shownAs returns the directory that one is a part of in over.
func (c *comparison) shownAs(dir sharefs.FileID) sharefs.FileID {
	if id, ok := c.one[dir]; ok {
		return id
	}
	return dir
}

// here returns the directory of the live tree that one of over is; ok is false where it has none.
func (c *comparison) here(dir sharefs.FileID) (sharefs.FileID, bool) {
	if _, ok := c.base.Node(converge.Key{File: dir}); ok {
		return dir, true
	}
	n, _ := c.over.Node(converge.Key{File: dir})
	for _, id := range n.Merged {
		if _, ok := c.base.Node(converge.Key{File: id}); ok {
			return id, true
		}
	}
	return dir, false
}

// now compares a node of over.
func (c *comparison) now(o *converge.Node) (ch Change, differs bool) {
	if o.Key == (converge.Key{}) {
		return ch, false
	}
	path, ok := pathIn(c.over, o)
	if !ok {
		return ch, false
	}
	ch = Change{Path: path, Type: o.Type, key: o.Key, node: *o}
	b, there := c.base.Node(o.Key)
	if !there && o.Type == record.Directory {
		if id, ok := c.here(o.Key.File); ok {
			b, there = c.base.Node(converge.Key{File: id})
			ch.key = b.Key
		}
	}
	if !there {
		if b, there = c.other(o); there && b.Type == o.Type { // two files of one name: his content is for the one that is here
			ch.key = b.Key
		} else {
			there = false
		}
	}
	if !there {
		ch.Added = true
		if ch.Proposed = c.over.Record(o.Live); ch.Proposed != nil {
			ch.from = o.Live
		}
		return ch, true
	}
	c.told[b.Key] = true
	ch.Live = c.base.Record(b.Live)
	if !c.sameSlot(&b, o) {
		ch.Moved = true
		ch.From, _ = pathIn(c.base, &b)
	}
	if id, ok := c.news(&b, o); ok {
		ch.from, ch.Proposed = id, c.over.Record(id)
		ch.Beside = o.Live == b.Live && o.Live != id || slices.ContainsFunc(o.Conflicts, func(x converge.Conflict) bool { return x.Version == b.Live && !b.Live.IsZero() })
	}
	if (ch.joined() || b.Key == o.Key) && o.Attr != b.Attr {
		ch.Attr, ch.Timed = unlike(c.base, c.over, &b, o, ch.Content())
		ch.Mtime, _ = record.Mtime(c.over.Record(o.Live), c.over.Record(o.Attr))
	}
	return ch, ch.Moved || ch.Content() || ch.Attr || ch.Timed
}

// sameSlot reports whether a live node has the name and the place of one in over.
func (c *comparison) sameSlot(b, o *converge.Node) bool {
	return c.shownAs(b.Parent) == o.Parent && b.Name == o.Name
}

// behind returns what the author made or moved under a name that something of another type has.
func (c *comparison) behind(o *converge.Node) (list []Change) {
	path, ok := pathIn(c.over, o)
	for _, x := range o.Conflicts {
		rec := c.over.Record(x.Version)
		if !ok || x.Key == o.Key || rec == nil || rec.Body.(*record.Version).Type() == o.Type || slices.ContainsFunc(list, func(ch Change) bool { return ch.key == x.Key }) {
			continue
		}
		ch := Change{Path: path, Type: rec.Body.(*record.Version).Type(), Proposed: rec, key: x.Key, from: x.Version, less: true}
		ch.node = converge.Node{Key: x.Key, Type: ch.Type, Slot: o.Slot, Live: x.Version}
		b, there := c.base.Node(x.Key)
		if there && c.sameSlot(&b, o) || c.behindHere(x.Key, o) {
			continue
		}
		if ch.Added, ch.Moved = !there, there; there {
			ch.From, _ = pathIn(c.base, &b)
			ch.Live = c.base.Record(b.Live)
		}
		list = append(list, ch)
	}
	return list
}

// behindHere reports whether a name is in conflict in the live tree already where it is in over.
func (c *comparison) behindHere(key converge.Key, o *converge.Node) bool {
	dir, _ := c.here(o.Parent)
	b, ok := c.base.Lookup(dir, o.Name)
	return ok && slices.ContainsFunc(b.Conflicts, func(x converge.Conflict) bool { return x.Key == key })
}

// other returns the live node in whose place over shows another file that the author made.
func (c *comparison) other(o *converge.Node) (b converge.Node, ok bool) {
	dir, ok := c.here(o.Parent)
	if !ok {
		return b, false
	}
	b, ok = c.base.Lookup(dir, o.Name)
	return b, ok && c.hidden[b.Key]
}

// news returns the version in over that is none of those here, and has another content than what is live.
func (c *comparison) news(b, o *converge.Node) (id record.ID, ok bool) {
	here := map[record.ID]bool{b.Live: true}
	for _, x := range b.Conflicts {
		here[x.Version] = true
	}
	live := c.base.Record(b.Live)
	all := append([]converge.Conflict{{Key: o.Key, Version: o.Live}}, o.Conflicts...)
	for _, x := range all {
		rec := c.over.Record(x.Version)
		if rec == nil || here[x.Version] || rec.Body.(*record.Version).Type() != b.Type {
			continue
		}
		if live == nil || rec.Body.(*record.Version).Content() != live.Body.(*record.Version).Content() {
			return x.Version, true
		}
	}
	return id, false
}

// unlike reports whether two trees say otherwise of what a name is like, and of the time of a file; of that not, where it goes with another content.
func unlike(base, over *converge.Tree, b, o *converge.Node, content bool) (attr, timed bool) {
	mine, his := base.Record(b.Attr), over.Record(o.Attr)
	return !sameAttr(mine, his), !content && o.Type == record.Regular && !sameTime(base.Record(b.Live), mine, over.Record(o.Live), his)
}

func sameAttr(a, b *record.Record) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := a.Body.(*record.Attr), b.Body.(*record.Attr)
	return x.Mode == y.Mode && slices.Equal(x.Xattrs, y.Xattrs)
}

// gone compares a node of the live tree that is none in over.
func (c *comparison) gone(b *converge.Node) (ch Change, differs bool) {
	if b.Key == (converge.Key{}) || c.hidden[b.Key] || c.told[b.Key] {
		return ch, false
	}
	if _, there := c.over.Node(b.Key); there {
		return ch, false
	}
	path, ok := pathIn(c.base, b)
	if id, part := c.one[b.Key.File]; part { // it was moved to where another directory is, and is one with that
		o, _ := c.over.Node(converge.Key{File: id})
		to, there := pathIn(c.over, &o)
		return Change{Path: to, From: path, Type: b.Type, Moved: true, key: b.Key, node: o}, ok && there && !c.sameSlot(b, &o)
	}
	return Change{Path: path, Type: b.Type, Removed: true, Live: c.base.Record(b.Live), key: b.Key}, ok
}

// Covers reports whether a change is that of a path, or of something below it.
func (c *Change) Covers(path string) bool {
	within := func(p string) bool { return p == path || path == "" || strings.HasPrefix(p, path+"/") }
	return within(c.Path) || c.From != "" && within(c.From)
}

// Proposing returns of how many files each author proposes something that nobody has decided, or that nothing later has overtaken. Directories do not count. It costs what the
// records cost that are proposed, and is near the truth: [Replica.Changes] is the truth.
func (r *Replica) Proposing() (map[sharefs.PeerID]int, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	all := map[sharefs.PeerID]int{}
	for author, of := range r.aside {
		files := map[sharefs.FileID]bool{}
		last := map[converge.Key]*record.Record{}    // placements
		attrs := map[sharefs.FileID]*record.Record{} // attributes
		later := func(a, b *record.Record) bool { return a == nil || a.Order().Compare(b.Order()) < 0 }
		for id, s := range of {
			rec := r.tree.Record(id)
			if s != Proposed {
				continue
			}
			switch b := rec.Body.(type) {
			case *record.Place:
				if key := (converge.Key{File: b.File, Link: b.Link}); later(last[key], rec) {
					last[key] = rec
				}
			case *record.Attr:
				if later(attrs[b.File], rec) {
					attrs[b.File] = rec
				}
			case *record.Version:
				if r.isNews(rec) {
					files[b.File] = true
				}
			}
		}
		for key, rec := range last {
			if r.isNews(rec) {
				files[key.File] = true
			}
		}
		for file, rec := range attrs {
			if r.isNews(rec) {
				files[file] = true
			}
		}
		if len(files) > 0 {
			all[author] = len(files)
		}
	}
	return all, nil
}

// isNews reports whether a record that is proposed would change something if it counted.
func (r *Replica) isNews(rec *record.Record) bool {
	switch b := rec.Body.(type) {
	case *record.Place:
		key := converge.Key{File: b.File, Link: b.Link}
		if last := r.last.Get(key); b.Type == record.Directory || last != nil && last.Order().Compare(rec.Order()) > 0 {
			return false
		}
		n, there := r.tree.Node(key)
		return there == b.Removed() || there && n.Slot != converge.Slot{Parent: b.Parent, Name: b.Name}
	case *record.Attr:
		n, there := r.tree.Node(converge.Key{File: b.File})
		attr, live := r.tree.Record(n.Attr), r.tree.Record(n.Live)
		return there && r.attrs[b.File] < rec.HLC && !(sameAttr(rec, attr) && (n.Type != record.Regular || sameTime(live, attr, live, rec)))
	case *record.Version:
		if _, there := r.tree.Node(converge.Key{File: b.File}); !there { // where it has a name, that tells
			return false
		}
		if heads := r.tree.Heads(b.File); len(heads) > 0 && r.tree.Record(heads[0]).Body.(*record.Version).Content() == b.Content() {
			return false
		}
		return !r.tree.Superseded(rec.ID())
	}
	return false
}
