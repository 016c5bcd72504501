package versions

import (
	"errors"
	"math"
	"sort"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Names and inodes are held against each other in a view of the moment at which the check began, which does not change meanwhile. Inodes are dealt with
// in windows in the order of their numbers: for each, all names are read once, for a name lies with its directory and not with its inode.

// fsckWindow is how many inodes are in memory at a time.
const fsckWindow = 1 << 19

// maxRooted bounds how many directories are remembered to hang on the root; beyond it they are walked again.
const maxRooted = 1 << 18

// checked is what an inode's row says, and what was found. There are up to fsckWindow of them.
type checked struct {
	ino    sharefs.Ino
	parent sharefs.Ino
	holder sharefs.Ino // found: the directory that the last name lies in
	size   uint64

	nlink, entries, xattrs       uint32
	names, subdirs, held, values uint32 // found
	kind                         uint16 // mode >> 12
	flags, hasFlags              uint8
	orphan                       bool
}

func (in *checked) is(mode uint32) bool { return uint32(in.kind)<<12 == mode }

// window is the inodes from lo up to, but not including, hi.
type window struct {
	lo, hi sharefs.Ino // hi 0: no end
	rows   []checked   // in the order of their numbers
}

func (w *window) covers(ino sharefs.Ino) bool { return ino >= w.lo && (w.hi == 0 || ino < w.hi) }

func (w *window) find(ino sharefs.Ino) *checked {
	// Most numbers follow each other without a gap.
	if i := uint64(ino - w.lo); i < uint64(len(w.rows)) && w.rows[i].ino == ino {
		return &w.rows[i]
	}
	i := sort.Search(len(w.rows), func(i int) bool { return w.rows[i].ino >= ino })
	if i < len(w.rows) && w.rows[i].ino == ino {
		return &w.rows[i]
	}
	return nil
}

// checkNames does the first stage. The view is of a moment that retention may give up meanwhile: then another one is looked at, at last while no
// retention is at work.
func (c *fsck) checkNames() error {
	for try := 0; ; try++ {
		if try == 2 {
			c.t.retained.run.Lock()
			defer c.t.retained.run.Unlock()
		}
		at, err := c.fixView()
		if err != nil {
			return err
		}
		if err := c.checkView(); err != nil {
			return err
		}
		if c.t.cfg.ReadOnly || try == 2 || c.t.stillKept(at) == nil {
			return nil
		}
		c.sum.Findings, c.sum.Omitted, c.sum.Inodes, c.sum.Names = c.sum.Findings[:0], 0, 0, 0
	}
}

// fixView ends the open instant and fixes the view of what there was up to then, in which nothing changes any more.
func (c *fsck) fixView() (at sharefs.HLC, err error) {
	c.view = c.t.db
	if c.t.cfg.ReadOnly {
		return 0, nil
	}
	if err := c.t.closeEpoch(); err != nil && c.t.db.Ended() == 0 {
		return 0, err
	}
	// Where the instant cannot be ended, for the disk is full, the last one that ended is looked at.
	at = c.t.db.Ended()
	c.view = c.t.db.At(at)
	return at, nil
}

// checkView holds the names and inodes of the view against each other.
func (c *fsck) checkView() error {
	c.stage("names", "inodes", 0)
	w := window{lo: 0}
	rooted := map[sharefs.Ino]bool{}
	for {
		if err := c.fill(&w); err != nil {
			return err
		}
		for _, step := range []func(*window) error{c.readNames, c.readXattrs, c.compare, c.findBacking} {
			if err := step(&w); err != nil {
				return err
			}
		}
		if err := c.findRoots(&w, rooted); err != nil {
			return err
		}
		if w.lo == 0 {
			if root := w.find(sharefs.RootIno); root == nil || !root.is(sharefs.ModeDir) {
				c.wrong(FoundTree, SeverityDamage, sharefs.RootIno, "there is no root directory")
			}
		}
		c.sum.Inodes += uint64(len(w.rows))
		if w.hi == 0 {
			return nil
		}
		w = window{lo: w.hi, rows: w.rows[:0]}
	}
}

// scan calls fn for rows of a space, as the view has them, until the context ends.
func (c *fsck) scan(space uint8, from, to []byte, fn func(key, value []byte)) error {
	var ended error
	n := 0
	err := c.view.Scan(space, from, to, func(key, value []byte) bool {
		if n++; n%1024 == 0 {
			if ended = c.goOn(); ended != nil {
				return false
			}
		}
		fn(key, value)
		return true
	})
	if err == nil {
		err = ended
	}
	return err
}

// bounds returns the keys that hold the rows of a window in a space whose keys begin with an inode.
func (w *window) bounds() (from, to []byte) {
	if w.hi > 0 {
		to = inoKey(w.hi)
	}
	return inoKey(w.lo), to
}

// fill reads the rows of a window from w.lo on.
func (c *fsck) fill(w *window) error {
	if w.rows == nil {
		w.rows = make([]checked, 0, 1024)
	}
	from := inoKey(w.lo)
	if w.lo == 0 {
		from = nil
	}
	var stop error
	err := c.view.Scan(spaceInode, from, nil, func(key, value []byte) bool {
		ino := keyIno(key)
		if len(w.rows) == fsckWindow {
			w.hi = ino
			return false
		}
		r, err := decodeRow(ino, value)
		if err != nil || len(key) != 8 {
			c.wrong(FoundTree, SeverityDamage, ino, "its row is damaged")
			return true
		}
		w.rows = append(w.rows, checked{
			ino: ino, parent: r.parent, size: r.size, nlink: r.nlink, entries: clamp(r.entries), xattrs: clamp(r.xattrs), kind: uint16(r.mode >> 12), flags: r.flags,
		})
		if len(w.rows)%1024 == 0 {
			c.at("names", "inodes", c.sum.Inodes+uint64(len(w.rows)), 0)
			stop = c.goOn()
		}
		return stop == nil
	})
	if err == nil {
		err = stop
	}
	if err != nil {
		return err
	}
	return c.view.Scan(spaceOrphan, from, boundKey(w.hi), func(key, _ []byte) bool {
		ino := keyIno(key)
		if in := w.find(ino); in != nil {
			in.orphan = true
		} else {
			c.confirmOrphan(ino)
		}
		return true
	})
}

func boundKey(ino sharefs.Ino) []byte {
	if ino == 0 {
		return nil
	}
	return inoKey(ino)
}

func clamp(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }

// readNames reads every name: those in directories of the window, and those of its inodes.
func (c *fsck) readNames(w *window) error {
	var dir *checked
	return c.scan(spaceDentry, nil, nil, func(key, value []byte) {
		parent := keyIno(key)
		in := w.covers(parent)
		d, err := decodeDent(key, value)
		if err != nil {
			if in {
				c.wrong(FoundTree, SeverityDamage, parent, "a directory entry is damaged")
			}
			return
		}
		if d.ino == 0 {
			return
		}
		if in {
			if dir == nil || dir.ino != parent {
				dir = w.find(parent)
			}
			c.nameIn(dir, parent, &d)
		}
		if !w.covers(d.ino) {
			return
		}
		of := w.find(d.ino)
		if of == nil {
			c.wrong(FoundTree, SeverityDamage, parent, "the name %q leads to inode %d, which does not exist", d.name, d.ino)
			return
		}
		if d.typ != uint8(of.kind) {
			c.wrong(FoundTree, SeverityDamage, parent, "the name %q tells another type than its inode %d", d.name, d.ino)
		}
		of.names++
		of.holder = parent
	})
}

// nameIn holds a name against its directory, nil where that does not exist.
func (c *fsck) nameIn(dir *checked, parent sharefs.Ino, d *dent) {
	c.sum.Names++
	if c.t.cookieOf(d.name) != d.cookie {
		if p, err := c.t.findDent(c.view, parent, d.name); err != nil || p.cookie != d.cookie {
			c.wrong(FoundTree, SeverityDamage, parent, "the name %q is listed but not found", d.name)
		}
	}
	switch {
	case dir == nil || !dir.is(sharefs.ModeDir):
		c.wrong(FoundTree, SeverityDamage, parent, "the name %q lies in what is no directory", d.name)
		return
	case dir.nlink == 0:
		c.wrong(FoundTree, SeverityDamage, parent, "the name %q lies in a directory that was removed", d.name)
	}
	dir.held++
	if uint32(d.typ)<<12 == sharefs.ModeDir {
		dir.subdirs++
	}
}

func (c *fsck) readXattrs(w *window) error {
	from, to := w.bounds()
	if w.lo == 0 {
		from = nil
	}
	return c.scan(spaceXattr, from, to, func(key, _ []byte) {
		ino := keyIno(key)
		in := w.find(ino)
		if in == nil || len(key) <= 8 {
			c.wrong(FoundTree, SeverityFault, ino, "it has an extended attribute and does not exist")
			return
		}
		in.values++
		in.hasFlags |= xattrFlag(string(key[8:]))
	})
}

// compare holds the rows against the names that were found.
func (c *fsck) compare(w *window) error {
	for i := range w.rows {
		in := &w.rows[i]
		if in.orphan != (in.nlink == 0) {
			c.confirmOrphan(in.ino)
		}
		if in.values != in.xattrs || in.hasFlags != in.flags&rowXattrs {
			c.wrong(FoundTree, SeverityFault, in.ino, "it has %d extended attributes (flags %x), its row says %d (%x)", in.values, in.hasFlags, in.xattrs, in.flags)
		}
		if in.is(sharefs.ModeDir) {
			c.compareDir(in)
		} else if in.nlink != in.names {
			c.wrong(FoundTree, SeverityFault, in.ino, "it has %d links and %d names", in.nlink, in.names)
		}
	}
	return nil
}

func (c *fsck) compareDir(in *checked) {
	if in.held != in.entries {
		c.wrong(FoundTree, SeverityFault, in.ino, "it holds %d names, its row says %d", in.held, in.entries)
	}
	want := 2 + in.subdirs
	switch {
	case in.ino == sharefs.RootIno:
		if in.names != 0 || in.parent != in.ino {
			c.wrong(FoundTree, SeverityDamage, in.ino, "the root has a name or another directory above it")
		}
	case in.names > 1:
		c.wrong(FoundTree, SeverityDamage, in.ino, "the directory has %d names", in.names)
	case in.names == 0:
		want = 0
	case in.holder != in.parent:
		c.wrong(FoundTree, SeverityDamage, in.ino, "it lies in directory %d and says it does in %d", in.holder, in.parent)
	}
	if in.nlink != want {
		c.wrong(FoundTree, SeverityFault, in.ino, "the directory has %d links and should have %d", in.nlink, want)
	}
}

// findRoots looks for directories that have a name and do not hang on the root: those of a ring.
func (c *fsck) findRoots(w *window, rooted map[sharefs.Ino]bool) error {
	for i := range w.rows {
		in := &w.rows[i]
		if !in.is(sharefs.ModeDir) || in.names == 0 || in.ino == sharefs.RootIno {
			continue
		}
		ok, err := c.hangs(in.ino, rooted)
		if err != nil {
			return err
		}
		if !ok {
			c.wrong(FoundTree, SeverityDamage, in.ino, "the directory does not hang on the root")
		}
	}
	return nil
}

// hangs reports whether a directory hangs on the root.
func (c *fsck) hangs(ino sharefs.Ino, rooted map[sharefs.Ino]bool) (bool, error) {
	var way []sharefs.Ino
	var mark sharefs.Ino // the directory on the way at the last power of two: a ring comes back to it (Brent 1980)
	for at := ino; at != sharefs.RootIno && !rooted[at]; {
		if at == mark {
			return false, nil
		}
		if n := len(way); n&(n-1) == 0 {
			mark = at
		}
		way = append(way, at)
		r, err := loadRow(c.view, at)
		if sharefs.KindOf(err) == sharefs.KindStale || sharefs.KindOf(err) == sharefs.KindCorrupt {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if !r.isDir() {
			return false, nil
		}
		at = r.parent
	}
	if len(rooted) > maxRooted {
		clear(rooted)
	}
	for _, at := range way {
		rooted[at] = true
	}
	return true, nil
}

// findBacking looks for the backing file of each regular inode of a window. That of an orphan may be gone already.
func (c *fsck) findBacking(w *window) error {
	for i := range w.rows {
		in := &w.rows[i]
		if i%4096 == 0 {
			if err := c.goOn(); err != nil {
				return err
			}
		}
		if !in.is(sharefs.ModeRegular) || in.nlink == 0 {
			continue
		}
		st, err := c.t.live.stat(in.ino)
		switch {
		case errors.Is(err, unix.ENOENT) && in.size == 0:
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && uint64(st.Size) == in.size && st.Mode&unix.S_ISVTX == 0 && in.flags&rowAbsent == 0 && !c.tookBack(in.ino, &st):
		default:
			if err := c.confirmBacking(in.ino); err != nil {
				return err
			}
		}
	}
	return nil
}
