package treediff

import (
	"path"
	"slices"
)

// matchRenames pairs what stands in the old tree alone with what stands in the new one alone.
func (c *comparison) matchRenames() {
	if c.opts.Renames == NoRenames || c.ctx.Err() != nil {
		return
	}
	slices.SortFunc(c.onlyOld, func(a, b *Entry) int { return ComparePaths(a.Path, b.Path) })
	slices.SortFunc(c.onlyNew, func(a, b *Entry) int { return ComparePaths(a.Path, b.Path) })
	m := matcher{c: c, taken: map[*Entry]bool{}, dirs: map[string]string{}}
	c.parallel(m.byIdentity)
	m.drop()
	if c.opts.Renames >= ByContent {
		m.byContent()
		m.drop()
		m.byLikeness()
		m.drop()
		c.parallel(m.score)
	}
}

// matcher pairs entries; taken are those that have their counterpart.
type matcher struct {
	c     *comparison
	taken map[*Entry]bool
	dirs  map[string]string // directories that are paired: their path in the new tree to that in the old one
}

func (m *matcher) drop() {
	gone := func(e *Entry) bool { return m.taken[e] }
	m.c.onlyOld = slices.DeleteFunc(m.c.onlyOld, gone)
	m.c.onlyNew = slices.DeleteFunc(m.c.onlyNew, gone)
}

// identity keeps types apart, for a number may be used again for something else.
type identity struct {
	id  string
	typ uint32
}

// byIdentity goes through the new tree from its root, so that a directory is paired before what is in it: an entry that went with its
// directory and kept its name did not move itself, nor did one that was replaced within it.
func (m *matcher) byIdentity() {
	known := map[identity][]*Entry{}
	byPath := map[string]*Entry{}
	for _, e := range m.c.onlyOld {
		byPath[e.Path] = e
		if e.ID != "" {
			k := identity{e.ID, e.Type()}
			known[k] = append(known[k], e)
		}
	}
	wanted := map[identity]bool{}
	for _, e := range m.c.onlyNew {
		if e.ID != "" {
			wanted[identity{e.ID, e.Type()}] = true
		}
	}
	for _, e := range m.c.onlyNew {
		var there *Entry // what had the same name in the directory before that moved
		if dir, ok := m.dirs[path.Dir(e.Path)]; ok {
			there = byPath[join(dir, path.Base(e.Path))]
		}
		if there != nil && (m.taken[there] || there.Type() != e.Type()) {
			there = nil
		}
		old := m.choose(known[identity{e.ID, e.Type()}], there, path.Base(e.Path))
		if old == nil && there != nil && (there.ID == "" || !wanted[identity{there.ID, there.Type()}]) {
			old = there
		}
		if old != nil {
			m.pair(pair{old, e}, 100, old != there)
		}
	}
}

// choose prefers what did not move by itself, then what kept its name.
func (m *matcher) choose(all []*Entry, there *Entry, name string) (best *Entry) {
	for _, e := range all {
		switch {
		case m.taken[e]:
		case e == there:
			return e
		case best == nil, path.Base(e.Path) == name && path.Base(best.Path) != name:
			best = e
		}
	}
	return best
}

func (m *matcher) pair(p pair, score int, renamed bool) {
	m.taken[p.old], m.taken[p.new] = true, true
	if p.new.IsDir() {
		m.dirs[p.new.Path] = p.old.Path
	}
	if renamed || m.c.opts.Implied {
		m.c.renamed(p, score, !renamed)
	}
	m.c.pool.add(func() { m.c.with(p, func(a, b string) { m.c.compareEntries(p, a, b) }) })
}

// byContent pairs files that hold the same. Only those are read of which one of the other tree has the same size.
func (m *matcher) byContent() {
	sizes := map[int64]int{}
	for _, e := range m.c.onlyOld {
		if e.IsRegular() && e.Size > 0 {
			sizes[e.Size] |= 1
		}
	}
	for _, e := range m.c.onlyNew {
		if e.IsRegular() && e.Size > 0 {
			sizes[e.Size] |= 2
		}
	}
	want := func(e *Entry) bool { return e.IsRegular() && sizes[e.Size] == 3 }
	sums := m.c.sums(want)
	known := map[string][]*Entry{}
	for _, e := range m.c.onlyOld {
		if sum, ok := sums[e]; ok {
			known[sum] = append(known[sum], e)
		}
	}
	m.c.parallel(func() {
		for _, e := range m.c.onlyNew {
			if sum, ok := sums[e]; ok {
				if old := m.choose(known[sum], nil, path.Base(e.Path)); old != nil {
					m.pair(pair{old, e}, 100, true)
				}
			}
		}
	})
}

// byLikeness pairs files that hold much the same, the most alike first.
func (m *matcher) byLikeness() {
	var olds, news []*Entry
	ok := func(e *Entry) bool { return e.IsRegular() && e.Size > 0 && e.Size <= likeMax }
	for _, e := range m.c.onlyOld {
		if ok(e) {
			olds = append(olds, e)
		}
	}
	for _, e := range m.c.onlyNew {
		if ok(e) {
			news = append(news, e)
		}
	}
	if len(olds) == 0 || len(news) == 0 || len(olds)*len(news) > likePairs {
		return
	}
	prints := m.c.prints(func(e *Entry) bool { return ok(e) })
	type match struct {
		pair
		score int
	}
	var all []match
	for _, n := range news {
		for _, o := range olds {
			if o.Size < n.Size*likeLeast/100 || n.Size < o.Size*likeLeast/100 {
				continue
			}
			if score := likeness(prints[o], prints[n], o.Size, n.Size); score >= likeLeast {
				all = append(all, match{pair{o, n}, score})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b match) int {
		if a.score != b.score {
			return b.score - a.score
		}
		same := func(x match) int {
			if path.Base(x.old.Path) == path.Base(x.new.Path) {
				return 0
			}
			return 1
		}
		return same(a) - same(b)
	})
	m.c.parallel(func() {
		for _, x := range all {
			if !m.taken[x.old] && !m.taken[x.new] {
				m.pair(x.pair, x.score, true)
			}
		}
	})
}

// score tells of files that were found by their identity how much of their content is the same.
func (m *matcher) score() {
	for _, ch := range m.c.pairs {
		if ch.Op != Renamed || ch.What&Content == 0 || ch.Score < 100 {
			continue
		}
		m.c.pool.add(func() {
			ch.Score = 0
			if ch.Old.Size <= likeMax && ch.New.Size <= likeMax {
				ch.Score = min(99, likeness(m.c.print(m.c.old, ch.Old), m.c.print(m.c.new, ch.New), ch.Old.Size, ch.New.Size))
			}
		})
	}
}
