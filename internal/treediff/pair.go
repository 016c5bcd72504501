package treediff

import (
	"cmp"
	"maps"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// pair is what stands for the same thing in both trees.
type pair struct{ old, new *Entry }

// compareDirs compares what two directories hold, and all below.
func (c *comparison) compareDirs(p pair) {
	if c.ctx.Err() != nil || c.opts.Flat && p.new.Path != "." {
		return
	}
	if c.old.foreign(p.old) || c.new.foreign(p.new) {
		c.mu.Lock()
		c.result.Foreign = append(c.result.Foreign, p.new.Path)
		c.mu.Unlock()
		return
	}
	old, err := c.list(c.old, p.old.Path)
	defer old.close()
	if err != nil {
		c.problem(c.old, p.old.Path, err)
		return
	}
	new, err := c.list(c.new, p.new.Path)
	defer new.close()
	if err != nil {
		c.problem(c.new, p.new.Path, err)
		return
	}
	for i, j := 0, 0; i < len(old.entries) || j < len(new.entries); {
		var side int
		switch {
		case i == len(old.entries):
			side = 1
		case j == len(new.entries):
			side = -1
		default:
			side = cmp.Compare(path.Base(old.entries[i].Path), path.Base(new.entries[j].Path))
		}
		switch {
		case side < 0:
			if e := old.entries[i]; !new.unknown[path.Base(e.Path)] {
				c.only(c.old, e, old.fd)
			}
			i++
		case side > 0:
			if e := new.entries[j]; !old.unknown[path.Base(e.Path)] {
				c.only(c.new, e, new.fd)
			}
			j++
		default:
			p := pair{old.entries[i], new.entries[j]}
			name := path.Base(p.old.Path)
			if c.differ(p, Reach(old.fd, name), Reach(new.fd, name)) {
				c.mu.Lock()
				c.apart = append(c.apart, p)
				c.mu.Unlock()
				i, j = i+1, j+1
				continue
			}
			below := c.compareNamed(p, Reach(old.fd, name), Reach(new.fd, name))
			switch {
			case p.old.IsDir() && p.new.IsDir():
				if below {
					c.pool.add(func() { c.compareDirs(p) })
				}
			case p.old.IsDir():
				c.pool.add(func() { c.listOnly(c.old, p.old) })
			case p.new.IsDir():
				c.pool.add(func() { c.listOnly(c.new, p.new) })
			}
			i, j = i+1, j+1
		}
	}
}

// compareNamed compares two entries of one name, and reports whether what lies below them is looked at.
func (c *comparison) compareNamed(p pair, oldPath, newPath string) (below bool) {
	compared, below := c.compared(p.new.Path)
	if compared || p.old.Type() != p.new.Type() {
		c.mu.Lock()
		c.noteLinks(c.old, p.old)
		c.noteLinks(c.new, p.new)
		c.mu.Unlock()
		c.compareEntries(p, oldPath, newPath)
	}
	return below
}

// differ reports whether two entries of one name are directories that are known not to be the same one, and notes their identities.
func (c *comparison) differ(p pair, oldPath, newPath string) bool {
	if !c.opts.Apart || !p.old.IsDir() || !p.new.IsDir() || c.old.side.ID == nil || c.new.side.ID == nil {
		return false
	}
	if compared, _ := c.compared(p.new.Path); !compared {
		return false
	}
	p.old.ID, p.new.ID = c.old.side.ID(oldPath, p.old), c.new.side.ID(newPath, p.new)
	return p.old.ID != "" && p.new.ID != "" && p.old.ID != p.new.ID
}

// separate takes directories of one name for what they are where one of them has another name in the other tree, and else for the same. What is found in them may
// tell of others that wait.
func (c *comparison) separate() {
	for len(c.apart) > 0 && c.ctx.Err() == nil {
		was, is := map[string]bool{}, map[string]bool{}
		for _, e := range c.onlyOld {
			was[e.ID] = e.IsDir()
		}
		for _, e := range c.onlyNew {
			is[e.ID] = e.IsDir()
		}
		for _, p := range c.apart {
			was[p.old.ID], is[p.new.ID] = true, true
		}
		moved := func(p pair) bool { return is[p.old.ID] || was[p.new.ID] }
		waiting := c.apart
		c.apart = nil
		if slices.ContainsFunc(waiting, moved) {
			c.apart = slices.DeleteFunc(slices.Clone(waiting), moved)
			waiting = slices.DeleteFunc(waiting, func(p pair) bool { return !moved(p) })
			c.parallel(func() {
				for _, p := range waiting {
					c.alone(c.old, p.old)
					c.alone(c.new, p.new)
				}
			})
			continue
		}
		c.parallel(func() {
			for _, p := range waiting {
				c.pool.add(func() {
					below := false
					c.with(p, func(a, b string) { below = c.compareNamed(p, a, b) })
					if below {
						c.compareDirs(p)
					}
				})
			}
		})
	}
}

// only notes an entry that stands in one tree alone, and all below it.
func (c *comparison) only(t *tree, e *Entry, dir int) {
	if t.side.ID != nil {
		e.ID = t.side.ID(Reach(dir, path.Base(e.Path)), e)
	}
	c.alone(t, e)
}

// alone is only, of an entry whose identity was asked for.
func (c *comparison) alone(t *tree, e *Entry) {
	c.mu.Lock()
	if t.old {
		c.onlyOld = append(c.onlyOld, e)
	} else {
		c.onlyNew = append(c.onlyNew, e)
	}
	c.noteLinks(t, e)
	c.mu.Unlock()
	if _, below := c.compared(e.Path); e.IsDir() && below {
		c.pool.add(func() { c.listOnly(t, e) })
	}
}

// listOnly notes all below a directory whose counterpart is none.
func (c *comparison) listOnly(t *tree, dir *Entry) {
	if c.ctx.Err() != nil || c.opts.Flat {
		return
	}
	if t.foreign(dir) {
		c.mu.Lock()
		c.result.Foreign = append(c.result.Foreign, dir.Path)
		c.mu.Unlock()
		return
	}
	l, err := c.list(t, dir.Path)
	defer l.close()
	if err != nil {
		c.problem(t, dir.Path, err)
		return
	}
	for _, e := range l.entries {
		c.only(t, e, l.fd)
	}
}

// compareEntries compares all but what is in directories. The paths are those by which the entries can be reached during the call.
func (c *comparison) compareEntries(p pair, oldPath, newPath string) {
	if !p.new.IsDir() && !p.old.IsDir() && (p.old.Nlink > 1 || p.new.Nlink > 1) && p.old.Type() == p.new.Type() {
		c.mu.Lock()
		c.linked = append(c.linked, p)
		c.mu.Unlock()
	}
	if p.old.Type() != p.new.Type() {
		c.differs(p, Type)
		return
	}
	if p.old.Dev == p.new.Dev && p.old.Ino == p.new.Ino {
		return // the same one
	}
	var what What
	if p.old.Mode != p.new.Mode && p.old.Type() != unix.S_IFLNK {
		what |= Mode
	}
	if p.old.UID != p.new.UID || p.old.GID != p.new.GID {
		what |= Owner
	}
	if p.old.Mtime != p.new.Mtime {
		what |= Times
	}
	if p.old.Rdev != p.new.Rdev {
		what |= Device
	}
	if p.old.Target != p.new.Target {
		what |= Target
	}
	x, err := ReadXattrs(oldPath)
	if err != nil {
		c.problem(c.old, p.old.Path, err)
	}
	y, err2 := ReadXattrs(newPath)
	if err2 != nil {
		c.problem(c.new, p.new.Path, err2)
	}
	if err == nil && err2 == nil && !maps.Equal(x, y) {
		what |= Xattrs
		p.old.Xattrs, p.new.Xattrs = x, y
	}
	if p.new.IsRegular() {
		switch {
		case p.old.Size != p.new.Size:
			what |= Content
		case p.new.Size > 0 && !c.sameState(p, oldPath, newPath):
			c.pool.add(func() { c.compareContent(p) })
		}
	}
	c.differs(p, what)
}

// sameState reports whether it is known that two files hold the same without reading them.
func (c *comparison) sameState(p pair, oldPath, newPath string) bool {
	if c.old.side.State == nil || c.new.side.State == nil {
		return false
	}
	old := c.old.side.State(oldPath, p.old)
	return old != "" && old == c.new.side.State(newPath, p.new)
}

// noteLinks remembers what has several links; c.mu is held.
func (c *comparison) noteLinks(t *tree, e *Entry) {
	k := inode{e.Dev, e.Ino}
	switch {
	case e.Nlink < 2 || e.IsDir():
	case t.old:
		c.oldLinks[k]++
	default:
		c.newLinks[k] = append(c.newLinks[k], e.Path)
	}
}

// compareLinks finds the pairs that are links of other pairs in the new tree than in the old one.
func (c *comparison) compareLinks() {
	before, after := map[inode][]string{}, map[inode][]string{}
	slices.SortFunc(c.linked, func(a, b pair) int { return ComparePaths(a.new.Path, b.new.Path) })
	for _, p := range c.linked {
		x, y := inode{p.old.Dev, p.old.Ino}, inode{p.new.Dev, p.new.Ino}
		before[x] = append(before[x], p.new.Path)
		after[y] = append(after[y], p.new.Path)
	}
	for _, p := range c.linked {
		if !slices.Equal(before[inode{p.old.Dev, p.old.Ino}], after[inode{p.new.Dev, p.new.Ino}]) {
			c.differs(p, Links)
		}
	}
	for _, group := range c.newLinks {
		if len(group) > 1 {
			slices.SortFunc(group, ComparePaths)
			c.result.Links = append(c.result.Links, group)
		}
	}
	slices.SortFunc(c.result.Links, func(a, b []string) int { return ComparePaths(a[0], b[0]) })
}
