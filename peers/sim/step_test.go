package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sharefs"
)

// step does one thing somewhere. All of it follows from a number, so a history without some of its steps is a history too.
func (w *world) step(seed uint64) {
	rnd := w.rng(seed)
	w.clock = w.clock.Add(time.Duration(rnd.IntN(1000)) * time.Millisecond)
	for _, h := range w.hosts {
		h.rnd = rnd
		if w.even {
			h.now() // what its clock shows is known at each step, whether it looks at that or not
		}
	}
	h := w.hosts[rnd.IntN(len(w.hosts))]
	o := w.hosts[(h.index+1+rnd.IntN(len(w.hosts)-1))%len(w.hosts)]
	switch verb := rnd.IntN(100); {
	case verb < 40:
		if did := h.work(rnd, fmt.Sprintf("%x", seed&0xffffff)); did != "" {
			w.log("%s: %s", h, did)
		}
		return
	case verb < 48:
		h.rest(rnd)
		return
	case verb >= 96 && h.rep != nil:
		w.disaster(h, o, rnd)
		return
	case verb >= 90 && w.intruder != nil:
		if !w.silent {
			w.intrude(w.intruder, h, o, w.rng(seed+1))
			w.log("a %s speaks to %s", w.intruder.level, h)
		}
		return
	}
	if h.rep == nil {
		w.log("%s starts", h)
		h.open()
		if w.even {
			h.author() // as it does before it takes anything, whoever sends it
		}
		return
	}
	if fuse := 1 + rnd.IntN(30); rnd.IntN(25) == 0 && !w.even {
		h.fuse = fuse
	}
	h.disk.fail = rnd.IntN(40) == 0 && !w.even
	switch verb := rnd.IntN(50); {
	case verb < 13:
		w.log("%s authors %d", h, h.author())
	case verb < 26:
		w.log("%s applies, %d wait", h, h.apply())
	case verb < 34:
		w.log("%s sends %d to %s", h, w.send(h, o, w.most(1+rnd.IntN(30))), o)
	case verb < 47:
		w.log("%s hears %s: %v", o, h, w.deliver(h, o))
	default:
		w.log("%s gossips to %s", h, o)
		w.gossip(h, o, rnd)
	}
	h.fuse, h.disk.fail = 0, false
}

// meanwhile has something happen while a host makes contents ready, for which nothing else waits.
func (h *host) meanwhile() {
	if h.w.even || h.w.still || !h.chance(3) {
		return
	}
	rep := h.rep
	for range 1 + h.rnd.IntN(3) {
		o := h.w.hosts[h.rnd.IntN(len(h.w.hosts))]
		switch h.rnd.IntN(5) {
		case 0, 1:
			h.w.log("meanwhile %s: %s", h, h.work(h.rnd, fmt.Sprintf("%x", h.rnd.Uint32())))
		case 2:
			h.rest(h.rnd)
		case 3:
			if o != h {
				h.w.log("meanwhile %s hears %s: %v", h, o, h.w.deliver(o, h))
			}
		default:
			if o != h {
				h.w.log("meanwhile %s gossips to %s", o, h)
				h.w.gossip(o, h, h.rnd)
			}
		}
		if h.rep != rep {
			panic(crashed{h}) // it went down
		}
	}
}

// most is how much is sent at a time.
func (w *world) most(n int) int {
	if w.even {
		return 1 << 20
	}
	return n
}

// disaster is what happens to hosts and networks.
func (w *world) disaster(h, o *host, rnd *rand.Rand) {
	switch verb := rnd.IntN(10); {
	case verb == 8:
		w.log("a backup of %s", h)
		h.save(false)
	case verb == 9 && h.saved != nil:
		w.log("%s is restored", h)
		h.restore()
	case verb < 2:
		h.down(true)
	case verb < 3:
		h.down(false)
	case verb < 5:
		w.apart[pair(h, o)] = true
		w.cut(h, o)
		w.log("%s and %s are apart", h, o)
	case verb < 7:
		delete(w.apart, pair(h, o))
		w.log("%s and %s meet", h, o)
	default:
		h.skew = time.Duration(rnd.IntN(2001)-1000) * time.Second
		if rnd.IntN(4) == 0 {
			h.skew *= 10000
		}
		w.log("the clock of %s jumps to %v", h, h.skew)
	}
}

// rest has a file come to rest, or all of them.
func (h *host) rest(rnd *rand.Rand) {
	all := h.tree.walk()
	if len(all) == 0 {
		return
	}
	if rnd.IntN(3) == 0 {
		h.w.log("%s comes to rest", h)
		h.restAll()
		return
	}
	p := all[rnd.IntN(len(all))]
	switch n := h.tree.nodes[p.ino]; {
	case n.writers > 0:
		h.w.log("%s: close %s", h, p.text)
		h.tree.close(p.ino)
	case n.hot:
		h.w.log("%s: settle %s", h, p.text)
		h.tree.settle(p.ino)
	case n.isRegular():
		h.w.log("%s: capture %s", h, p.text)
		h.tree.capture(p.ino)
	}
}

// restAll has everybody close what he writes to, and makes versions of it.
func (h *host) restAll() {
	for ino := sharefs.Ino(1); ino <= h.tree.last; ino++ {
		n := h.tree.nodes[ino]
		if n == nil || !n.isRegular() {
			continue
		}
		if n.writers > 0 {
			h.tree.close(ino)
		}
		if n.names > 0 {
			h.tree.settle(ino)
		}
		h.tree.capture(ino)
	}
}

// timeSeed makes a number of what is said of a step, so that times which are set use up no chance of others.
func timeSeed(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return h.Sum64()
}

// work does one thing that somebody could do on a host, and says what.
func (h *host) work(rnd *rand.Rand, text string) string {
	t := h.tree
	if p := h.w.parts; h == h.w.mute || p.partly(h) && p.idle {
		return ""
	}
	all := t.walk()
	dirs := []path{{ino: sharefs.RootIno}}
	within := h.w.parts.within(h, rnd)
	if within != nil && !within("a") {
		dirs = nil
	}
	var files []path
	for _, p := range all {
		switch n := t.nodes[p.ino]; {
		case n.isDir() && (within == nil || within(p.text+"/a")):
			dirs = append(dirs, p)
		case n.isDir():
		case n.isRegular():
			files = append(files, p)
		}
	}
	if within != nil {
		outside := func(p path) bool { return !within(p.text) }
		all, files = slices.DeleteFunc(all, outside), slices.DeleteFunc(files, outside)
		if len(dirs) == 0 {
			return ""
		}
	}
	pick := func(list []path) (path, bool) {
		if len(list) == 0 {
			return path{}, false
		}
		return list[rnd.IntN(len(list))], true
	}
	free := func() (path, bool) { // where nothing is
		d := dirs[rnd.IntN(len(dirs))]
		p := path{dir: d.ino, name: string(rune('a' + rnd.IntN(5)))}
		p.text = strings.TrimPrefix(d.text+"/"+p.name, "/")
		_, taken := t.lookup(p.dir, p.name)
		return p, !taken && strings.Count(p.text, "/") < 4
	}
	long := rnd.IntN(4) == 0
	if rnd.IntN(3) == 0 {
		text += " and something that makes it longer"
	}
	did := func(ok bool, format string, args ...any) string {
		t.committed()
		if !ok {
			return ""
		}
		return fmt.Sprintf(format, args...)
	}
	if set := h.w.rng(timeSeed(text)); !h.w.timeless && set.IntN(8) == 0 { // as touch -d does
		if len(files) == 0 {
			return ""
		}
		p := files[set.IntN(len(files))]
		at := sharefs.Time(set.IntN(5)) // so few that others set the same one, and the one before comes again
		if set.IntN(4) == 0 {
			at = t.nodes[files[set.IntN(len(files))].ino].mtime // cp -p, touch -r
		}
		t.edit(p.ino).mtime = at
		return did(true, "touch -d @%d %s", at, p.text)
	}
	switch verb := rnd.IntN(30); {
	case verb < 4:
		if p, ok := free(); ok {
			t.create(p.dir, p.name, inode{id: t.newID(), mode: sharefs.ModeDir | 0o755})
			return did(true, "mkdir %s", p.text)
		}
	case verb < 9:
		if p, ok := free(); ok {
			if rnd.IntN(8) == 0 {
				text = ""
			}
			t.makeFile(p.dir, p.name, text, long)
			return did(true, "create %s", p.text)
		}
	case verb < 13:
		if p, ok := pick(files); ok {
			t.write(p.ino, text, long)
			return did(true, "write %s", p.text)
		}
	case verb < 15: // as sed -i and others save
		if p, ok := pick(files); ok {
			if _, taken := t.lookup(p.dir, p.name+".tmp"); taken {
				return ""
			}
			t.makeFile(p.dir, p.name+".tmp", text, false)
			return did(t.rename(p.dir, p.name+".tmp", p.dir, p.name) == nil, "save %s by a rename over it", p.text)
		}
	case verb < 17: // as vim saves
		if p, ok := pick(files); ok {
			if _, taken := t.lookup(p.dir, p.name+"~"); taken {
				return ""
			}
			_ = t.rename(p.dir, p.name, p.dir, p.name+"~")
			t.makeFile(p.dir, p.name, text, long)
			if rnd.IntN(4) > 0 {
				t.remove(path{dir: p.dir, name: p.name + "~", ino: p.ino})
			}
			return did(true, "save %s with a backup", p.text)
		}
	case verb < 21:
		if p, ok := pick(all); ok && h.w.parts.mayMove(h, p) {
			to, _ := free()
			return did(t.rename(p.dir, p.name, to.dir, to.name) == nil, "rename %s %s", p.text, to.text)
		}
	case verb < 22:
		p, ok := pick(all)
		if q, _ := pick(all); ok && p != q && h.w.parts.mayMove(h, p) && h.w.parts.mayMove(h, q) {
			return did(t.exchange(p, q), "exchange %s %s", p.text, q.text)
		}
	case verb < 24:
		if p, ok := pick(all); ok {
			return did(t.remove(p), "remove %s", p.text)
		}
	case verb < 25:
		if p, ok := pick(all); ok {
			t.removeAll(p)
			return did(true, "remove all of %s", p.text)
		}
	case verb < 26:
		p, ok := pick(files)
		if to, vacant := free(); ok && vacant {
			t.bind(to.dir, to.name, p.ino)
			t.edit(p.ino).names++
			return did(true, "link %s %s", p.text, to.text)
		}
	case verb < 27:
		if p, ok := free(); ok {
			t.create(p.dir, p.name, inode{id: t.newID(), mode: sharefs.ModeSymlink | 0o777, target: text})
			return did(true, "symlink %s", p.text)
		}
	default:
		if p, ok := pick(all); ok && t.nodes[p.ino].target == "" {
			n := t.edit(p.ino)
			if rnd.IntN(2) == 0 {
				n.mode = n.mode&sharefs.ModeType | uint32(0o600+rnd.IntN(0o100))
				return did(true, "chmod %s", p.text)
			}
			n.xattrs = map[string]string{"user." + string(rune('a'+rnd.IntN(2))): text}
			return did(true, "setxattr %s", p.text)
		}
	}
	return ""
}
