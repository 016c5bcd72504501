package sim

import (
	"slices"
	"strings"

	"sharefs"
)

// What follows is what programs do to a tree: none of it asks a replica.

// path is a name in the tree as a program sees it.
type path struct {
	dir  sharefs.Ino
	name string
	ino  sharefs.Ino
	text string
}

// walk lists all names, in order.
func (t *tree) walk() (all []path) {
	var down func(dir sharefs.Ino, text string, depth int)
	down = func(dir sharefs.Ino, text string, depth int) {
		if depth > 100 {
			t.h.w.fail("%s: a circle of directories: %s", t.h, text)
		}
		var list []sharefs.Dentry
		for _, d := range t.nodes[dir].slots {
			list = append(list, d)
		}
		slices.SortFunc(list, func(a, b sharefs.Dentry) int { return strings.Compare(a.Name, b.Name) })
		for _, d := range list {
			all = append(all, path{dir, d.Name, d.Ino, text + d.Name})
			if t.nodes[d.Ino].isDir() {
				down(d.Ino, text+d.Name+"/", depth+1)
			}
		}
	}
	down(sharefs.RootIno, "", 0)
	return all
}

// rename does as rename(2).
func (t *tree) rename(from sharefs.Ino, oldName string, to sharefs.Ino, newName string) error {
	const op = "rename"
	src, ok := t.lookup(from, oldName)
	if !ok {
		return kindOf(op, sharefs.KindNotExist)
	}
	n := t.nodes[src.Ino]
	if n.isDir() && t.below(n.ino, to) {
		return kindOf(op, sharefs.KindInvalid)
	}
	if dst, taken := t.lookup(to, newName); taken {
		o := t.nodes[dst.Ino]
		switch {
		case o == n:
			return nil
		case n.isDir() && !o.isDir():
			return kindOf(op, sharefs.KindNotDir)
		case !n.isDir() && o.isDir():
			return kindOf(op, sharefs.KindIsDir)
		case len(o.slots) > 0:
			return kindOf(op, sharefs.KindNotEmpty)
		}
		t.bind(to, newName, n.ino)
		t.unlinked(o.ino)
	} else {
		t.bind(to, newName, n.ino)
	}
	t.unbind(from, oldName)
	if n = t.edit(n.ino); n.isDir() {
		n.parent = to
	}
	return nil
}

// below reports whether a directory is another one or above it.
func (t *tree) below(dir, of sharefs.Ino) bool {
	for ; of != dir; of = t.nodes[of].parent {
		if of == sharefs.RootIno {
			return false
		}
	}
	return true
}

// exchange has two names change places.
func (t *tree) exchange(a, b path) bool {
	x, y := t.nodes[a.ino], t.nodes[b.ino]
	if x == y || x.isDir() && t.below(x.ino, b.dir) || y.isDir() && t.below(y.ino, a.dir) {
		return false
	}
	t.bind(a.dir, a.name, y.ino)
	t.bind(b.dir, b.name, x.ino)
	t.edit(x.ino).parent = b.dir
	t.edit(y.ino).parent = a.dir
	return true
}

// remove takes a name away.
func (t *tree) remove(p path) bool {
	if len(t.nodes[p.ino].slots) > 0 {
		return false
	}
	if n := t.nodes[p.ino]; n.isRegular() && n.names == 1 && n.own() > 0 {
		t.settle(p.ino) // what was closed stays in history
	}
	t.unbind(p.dir, p.name)
	t.unlinked(p.ino)
	return true
}

// removeAll is rm -r.
func (t *tree) removeAll(p path) {
	for _, q := range slices.Backward(t.walk()) {
		if strings.HasPrefix(q.text, p.text+"/") {
			t.remove(q)
		}
	}
	t.remove(p)
}

// write rewrites a file. Whoever keeps it open closes it later.
func (t *tree) write(ino sharefs.Ino, content string, keepOpen bool) {
	n := t.edit(ino)
	saw := "" // the last that came to rest: what did not is no version of anybody's
	if n.own() > 0 {
		saw = n.past[n.own()-1].content
	}
	t.h.w.wrote(saw, content)
	n.content, n.mtime, n.hot = content, sharefs.Time(t.h.now().UnixNano()), true
	if keepOpen {
		n.writers++
	}
}

func (t *tree) makeFile(dir sharefs.Ino, name, content string, keepOpen bool) sharefs.Ino {
	ino := t.create(dir, name, inode{id: t.newID(), mode: sharefs.ModeRegular | 0o644})
	if content != "" || keepOpen {
		t.write(ino, content, keepOpen)
	}
	return ino
}

// close ends all writing to a file.
func (t *tree) close(ino sharefs.Ino) { t.edit(ino).writers = 0 }
