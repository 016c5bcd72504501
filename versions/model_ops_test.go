package versions

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
)

func (s *mstep) mkdir() {
	d, name := s.dir(), s.name()
	mode := []uint32{0o755, 0o777, 0o2775}[s.r.IntN(3)]
	s.what = fmt.Sprintf("mkdir %s %o", name, mode)
	s.made(d, name, &mnode{mode: sharefs.ModeDir | mode}, vacant(d, name), func() (sharefs.Attr, error) {
		return s.m.tree.Mkdir(d.ino, name, mode, s.who)
	})
}

func (s *mstep) mknod() {
	d, name := s.dir(), s.name()
	mode := []uint32{sharefs.ModeFifo, sharefs.ModeSocket, sharefs.ModeChar, sharefs.ModeRegular}[s.r.IntN(4)] | 0o666
	n := &mnode{mode: mode}
	if n.kind() == sharefs.ModeChar {
		n.rdev = 0x105
	}
	s.what = fmt.Sprintf("mknod %s %o", name, mode)
	s.made(d, name, n, vacant(d, name), func() (sharefs.Attr, error) { return s.m.tree.Mknod(d.ino, name, mode, 0x105, s.who) })
}

func (s *mstep) symlink() {
	d, name := s.dir(), s.name()
	target := strings.Repeat("t", 1+s.r.IntN(100))
	s.what = fmt.Sprintf("symlink %s %s", name, target)
	s.made(d, name, &mnode{mode: sharefs.ModeSymlink | 0o777, target: target}, vacant(d, name), func() (sharefs.Attr, error) {
		return s.m.tree.Symlink(d.ino, name, target, s.who)
	})
}

func (s *mstep) create() {
	d, name := s.dir(), s.name()
	flags := uint32(unix.O_RDWR)
	excl := s.r.IntN(2) == 0
	if excl {
		flags |= unix.O_EXCL
	} else if s.r.IntN(2) == 0 {
		flags |= unix.O_TRUNC
	}
	s.what = fmt.Sprintf("create %s %x", name, flags)
	want := vacant(d, name)
	old := d.children[name]
	if want == sharefs.KindExist && !excl {
		switch old.kind() {
		case sharefs.ModeRegular:
			want = success
		case sharefs.ModeDir:
			want = sharefs.KindIsDir
		case sharefs.ModeSymlink:
			want = sharefs.KindLoop
		default:
			want = sharefs.KindNoDevice
		}
	}
	var a sharefs.Attr
	var h *Handle
	var err error
	if s.m.tree != nil {
		a, h, err = s.m.tree.Create(d.ino, name, flags, 0o4666, s.who)
	}
	s.expect(err, want)
	if want != success {
		return
	}
	n := old
	if n == nil {
		n = &mnode{mode: sharefs.ModeRegular | 0o4666, ino: a.Ino}
		s.add(d, name, n)
	} else {
		s.opened(n, flags)
	}
	s.m.handles = append(s.m.handles, &mhandle{n, flags, h})
	s.same(a, n)
	s.forget(n)
}

// opened is what opening for writing does to a file.
func (s *mstep) opened(n *mnode, flags uint32) {
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		return
	}
	if s.who.UID != 0 {
		n.killPriv()
	}
	if flags&unix.O_TRUNC != 0 {
		n.content = nil
		n.touched()
	}
}

func (s *mstep) tmpfile() {
	d := s.dir()
	s.what = "tmpfile"
	var a sharefs.Attr
	var h *Handle
	var err error
	if s.m.tree != nil {
		a, h, err = s.m.tree.Tmpfile(d.ino, unix.O_RDWR, 0o640, s.who)
	}
	s.expect(err, success)
	n := &mnode{mode: sharefs.ModeRegular | 0o640, ino: a.Ino}
	s.owned(d, n)
	s.m.handles = append(s.m.handles, &mhandle{n, unix.O_RDWR, h})
	s.same(a, n)
	to, name := s.dir(), s.name()
	want := vacant(to, name)
	s.what = "link the tmpfile to " + name
	if s.m.tree != nil {
		a, err = s.m.tree.Link(n.ino, to.ino, name)
	}
	s.expect(err, want)
	if want == success {
		n.nlink = 1
		to.children[name] = n
		to.touched()
		s.same(a, n)
		s.forget(n)
	}
	s.forget(n)
}

func (s *mstep) link() {
	n, d, name := s.any(), s.dir(), s.name()
	s.what = "link " + name
	want := vacant(d, name)
	if n.isDir() {
		want = sharefs.KindPermission
	}
	var a sharefs.Attr
	var err error
	if s.m.tree != nil {
		a, err = s.m.tree.Link(n.ino, d.ino, name)
	}
	s.expect(err, want)
	if want == success {
		n.nlink++
		d.children[name] = n
		d.touched()
		s.same(a, n)
		s.forget(n)
	}
}

// drop takes a name away.
func (s *mstep) drop(d *mnode, name string) {
	n := d.children[name]
	delete(d.children, name)
	d.touched()
	if n.isDir() {
		n.nlink = 0
		d.nlink--
	} else {
		n.nlink--
	}
}

func (s *mstep) unlink() {
	d, name := s.dir(), s.name()
	s.what = "unlink " + name
	want := success
	switch n := d.children[name]; {
	case n == nil:
		want = sharefs.KindNotExist
	case n.isDir():
		want = sharefs.KindIsDir
	}
	if s.m.tree != nil {
		s.expect(s.m.tree.Unlink(d.ino, name), want)
	}
	if want == success {
		s.drop(d, name)
	}
}

func (s *mstep) rmdir() {
	d, name := s.dir(), s.name()
	s.what = "rmdir " + name
	want := success
	switch n := d.children[name]; {
	case n == nil:
		want = sharefs.KindNotExist
	case !n.isDir():
		want = sharefs.KindNotDir
	case len(n.children) > 0:
		want = sharefs.KindNotEmpty
	}
	if s.m.tree != nil {
		s.expect(s.m.tree.Rmdir(d.ino, name), want)
	}
	if want == success {
		s.drop(d, name)
	}
}

// below reports whether a directory is another or lies below it.
func below(n, above *mnode) bool {
	for ; ; n = n.parent {
		if n == above {
			return true
		}
		if n.parent == n {
			return false
		}
	}
}

func (s *mstep) rename() {
	od, on, nd, nn := s.dir(), s.name(), s.dir(), s.name()
	flags := []uint32{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[s.r.IntN(4)]
	s.what = fmt.Sprintf("rename %s %s flags %d", on, nn, flags)
	src, dst := od.children[on], nd.children[nn]
	exchange := flags&unix.RENAME_EXCHANGE != 0
	want := success
	switch {
	case src == nil, exchange && dst == nil:
		want = sharefs.KindNotExist
	case flags&unix.RENAME_NOREPLACE != 0 && dst != nil:
		want = sharefs.KindExist
	case src == dst:
	case src.isDir() && below(nd, src), exchange && dst.isDir() && below(od, dst):
		want = sharefs.KindInvalid
	case exchange || dst == nil:
	case src.isDir() && !dst.isDir():
		want = sharefs.KindNotDir
	case !src.isDir() && dst.isDir():
		want = sharefs.KindIsDir
	case dst.isDir() && len(dst.children) > 0:
		want = sharefs.KindNotEmpty
	}
	if s.m.tree != nil {
		s.expect(s.m.tree.Rename(od.ino, on, nd.ino, nn, flags), want)
	}
	if want != success || src == dst {
		return
	}
	move := func(n, from, to *mnode) {
		if n.isDir() {
			from.nlink--
			to.nlink++
			n.parent = to
		}
	}
	od.touched()
	nd.touched()
	if exchange {
		od.children[on], nd.children[nn] = dst, src
		move(src, od, nd)
		move(dst, nd, od)
		return
	}
	if dst != nil {
		s.drop(nd, nn)
	}
	delete(od.children, on)
	nd.children[nn] = src
	move(src, od, nd)
}

// setattr sets attributes of a node.
func (s *mstep) setattr(n *mnode, set SetAttr, who Caller) {
	s.t.Helper()
	if s.m.tree == nil {
		return
	}
	a, err := s.m.tree.Setattr(n.ino, &set, who)
	s.expect(err, success)
	s.same(a, n)
}

func (s *mstep) chmod() {
	n := s.any()
	mode := []uint32{0o644, 0o755, 0o6755, 0o2745, 0o1777}[s.r.IntN(5)]
	s.what = fmt.Sprintf("chmod %o", mode)
	n.mode = n.kind() | mode
	s.setattr(n, SetAttr{Mode: &mode}, s.who)
}

func (s *mstep) chown() {
	n := s.any()
	s.what = "chown"
	n.uid, n.gid = uint32(s.r.IntN(3)), uint32(s.r.IntN(3))
	if !n.isDir() {
		n.killPriv()
	}
	s.setattr(n, SetAttr{UID: ptr(n.uid), GID: ptr(n.gid)}, s.who)
}

func (s *mstep) utimens() {
	n := s.any()
	n.mtime = sharefs.MakeTime(1+s.r.Int64N(4e9), uint32(s.r.IntN(1e9)))
	s.what = fmt.Sprintf("utimens %d", n.mtime)
	s.setattr(n, SetAttr{Mtime: ptr(n.mtime), Atime: ptr(n.mtime + 1)}, s.who)
}

func (s *mstep) truncate() {
	n := s.regular()
	if n == nil {
		return
	}
	size := s.r.IntN(6000)
	s.what = fmt.Sprintf("truncate %d", size)
	if size <= len(n.content) {
		n.content = n.content[:size:size]
	} else {
		n.content = append(n.content[:len(n.content):len(n.content)], make([]byte, size-len(n.content))...)
	}
	n.touched()
	if s.who.UID != 0 {
		n.killPriv()
	}
	s.setattr(n, SetAttr{Size: ptr(uint64(size))}, s.who)
}

func (s *mstep) setxattr() {
	n, name, value := s.any(), "user."+s.name(), strings.Repeat("v", s.r.IntN(50))
	flags := uint32(s.r.IntN(3)) // 0, XATTR_CREATE, XATTR_REPLACE
	s.what = fmt.Sprintf("setxattr %s flags %d", name, flags)
	_, has := n.xattrs[name]
	want := success
	switch {
	case has && flags == unix.XATTR_CREATE:
		want = sharefs.KindExist
	case !has && flags == unix.XATTR_REPLACE:
		want = sharefs.KindNoAttr
	}
	if s.m.tree != nil {
		s.expect(s.m.tree.Setxattr(n.ino, name, []byte(value), flags), want)
	}
	if want == success {
		if n.xattrs == nil {
			n.xattrs = map[string]string{}
		}
		n.xattrs[name] = value
	}
}

func (s *mstep) removexattr() {
	n, name := s.any(), "user."+s.name()
	s.what = "removexattr " + name
	want := success
	if _, has := n.xattrs[name]; !has {
		want = sharefs.KindNoAttr
	}
	if s.m.tree != nil {
		s.expect(s.m.tree.Removexattr(n.ino, name), want)
	}
	delete(n.xattrs, name)
}

func (s *mstep) open() {
	n := s.regular()
	if n == nil {
		return
	}
	flags := []uint32{unix.O_RDONLY, unix.O_RDWR, unix.O_RDWR | unix.O_TRUNC}[s.r.IntN(3)]
	s.what = fmt.Sprintf("open %x", flags)
	s.opened(n, flags)
	h := &mhandle{n: n, flags: flags}
	if s.m.tree != nil {
		var err error
		h.h, err = s.m.tree.Open(n.ino, flags, s.who)
		s.expect(err, success)
	}
	s.m.handles = append(s.m.handles, h)
}

func (s *mstep) handle() *mhandle {
	if len(s.m.handles) == 0 {
		return nil
	}
	return s.m.handles[s.r.IntN(len(s.m.handles))]
}

func (s *mstep) write() {
	h := s.handle()
	if h == nil || h.flags&unix.O_ACCMODE == unix.O_RDONLY {
		return
	}
	data := make([]byte, 1+s.r.IntN(3000))
	for i := range data {
		data[i] = byte(s.r.Uint32())
	}
	off := s.r.IntN(4000)
	s.what = fmt.Sprintf("write %d at %d", len(data), off)
	if s.m.tree != nil {
		n, err := h.h.WriteAt(data, int64(off))
		if s.expect(err, success); n != len(data) {
			s.t.Errorf("%d bytes written", n)
		}
	}
	if end := off + len(data); end > len(h.n.content) {
		h.n.content = append(h.n.content[:len(h.n.content):len(h.n.content)], make([]byte, end-len(h.n.content))...)
	}
	copy(h.n.content[off:], data)
	h.n.touched()
}

func (s *mstep) read() {
	if h := s.handle(); h != nil && s.m.tree != nil {
		s.what = "read"
		b := make([]byte, 10000)
		n, err := h.h.ReadAt(b, 0)
		if s.expect(err, success); !bytes.Equal(b[:n], h.n.content) {
			s.t.Errorf("%d bytes that differ from the %d of the model", n, len(h.n.content))
		}
		a, err := s.m.tree.Getattr(h.n.ino)
		s.expect(err, success)
		s.same(a, h.n)
	}
}

func (s *mstep) close() {
	if len(s.m.handles) < 6 && s.r.IntN(3) > 0 {
		return
	}
	if h := s.handle(); h != nil {
		s.what = "close"
		if s.m.tree != nil {
			s.expect(h.h.Close(), success)
		}
		s.m.handles = slices.DeleteFunc(s.m.handles, func(o *mhandle) bool { return o == h })
	}
}

func (s *mstep) lookup() {
	d, name := s.dir(), s.name()
	s.what = "lookup " + name
	if s.m.tree == nil {
		return
	}
	n := d.children[name]
	a, err := s.m.tree.Lookup(d.ino, name)
	if n == nil {
		s.expect(err, sharefs.KindNotExist)
		return
	}
	s.expect(err, success)
	s.same(a, n)
	s.forget(n)
}

func (s *mstep) list() {
	d := s.dir()
	s.what = "list"
	if s.m.tree == nil {
		return
	}
	s.listed(d)
}
