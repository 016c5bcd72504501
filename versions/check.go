package versions

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Problem is one thing that is not as it has to be.
type Problem struct {
	Ino    sharefs.Ino `json:"ino"`
	Detail string      `json:"detail"`
}

func (p Problem) String() string { return fmt.Sprintf("inode %d: %s", p.Ino, p.Detail) }

// Check walks the whole tree and its backing files and reports what does not fit together: names that lead nowhere, wrong counts of links or
// names, directories that hang on nothing, missing and superfluous backing files, rows that belong to nothing. Changes wait until
// it is done, some seconds for a million files; readers do not. An error means that the check could not be carried out.
func (t *Tree) Check() ([]Problem, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := checker{t: t, inodes: map[sharefs.Ino]*checked{}}
	for _, step := range []func() error{
		c.readInodes, c.readNames, c.readXattrs, c.readMarks, c.readOrphans, c.compare, c.findBacking, c.findStrays,
	} {
		if err := step(); err != nil {
			return nil, failed("check", err)
		}
	}
	slices.SortFunc(c.problems, func(a, b Problem) int {
		switch {
		case a.Ino < b.Ino:
			return -1
		case a.Ino > b.Ino:
			return 1
		}
		return 0
	})
	return c.problems, nil
}

// checker is a check at work.
type checker struct {
	t        *Tree
	inodes   map[sharefs.Ino]*checked
	problems []Problem
}

// checked is what an inode's row says, and what was found.
type checked struct {
	mode, nlink uint32
	flags       uint8
	orphan      bool
	rooted      bool // a directory that is known to hang on the root
	size        uint64
	xattrs      uint64
	entries     uint64
	parent      sharefs.Ino

	names    uint32 // found
	subdirs  uint32
	held     uint64 // names in this directory
	values   uint64 // extended attributes
	hasFlags uint8
	holder   sharefs.Ino // the directory that the last name found lies in
}

func (c *checker) report(ino sharefs.Ino, format string, args ...any) {
	c.problems = append(c.problems, Problem{ino, fmt.Sprintf(format, args...)})
}

// scan calls fn for every row of a space.
func (c *checker) scan(space uint8, fn func(key, value []byte)) error {
	return c.t.db.Scan(space, nil, nil, func(key, value []byte) bool {
		fn(key, value)
		return true
	})
}

func (c *checker) readInodes() error {
	return c.scan(spaceInode, func(key, value []byte) {
		ino := keyIno(key)
		r, err := decodeRow(ino, value)
		if err != nil || len(key) != 8 {
			c.report(ino, "its row is damaged")
			return
		}
		c.inodes[ino] = &checked{
			mode: r.mode, nlink: r.nlink, flags: r.flags, size: r.size, xattrs: r.xattrs, entries: r.entries, parent: r.parent,
		}
	})
}

func (c *checker) readNames() error {
	return c.scan(spaceDentry, func(key, value []byte) {
		parent := keyIno(key)
		d, err := decodeDent(key, value)
		if err != nil {
			c.report(parent, "a directory entry is damaged")
			return
		}
		if d.ino == 0 {
			return
		}
		if c.t.cookieOf(d.name) != d.cookie {
			if p, err := c.t.findDent(c.t.db, parent, d.name); err != nil || p.cookie != d.cookie {
				c.report(parent, "the name %q is listed but not found", d.name)
			}
		}
		dir, in := c.inodes[parent], c.inodes[d.ino]
		switch {
		case dir == nil || dir.mode&sharefs.ModeType != sharefs.ModeDir:
			c.report(parent, "the name %q lies in what is no directory", d.name)
			return
		case dir.nlink == 0:
			c.report(parent, "the name %q lies in a directory that was removed", d.name)
		}
		dir.held++
		if in == nil {
			c.report(parent, "the name %q leads to inode %d, which does not exist", d.name, d.ino)
			return
		}
		if uint32(d.typ)<<12 != in.mode&sharefs.ModeType {
			c.report(parent, "the name %q tells another type than its inode %d", d.name, d.ino)
		}
		in.names++
		in.holder = parent
		if in.mode&sharefs.ModeType == sharefs.ModeDir {
			dir.subdirs++
		}
	})
}

func (c *checker) readXattrs() error {
	return c.scan(spaceXattr, func(key, _ []byte) {
		ino := keyIno(key)
		in := c.inodes[ino]
		if in == nil || len(key) <= 8 {
			c.report(ino, "it has an extended attribute and does not exist")
			return
		}
		in.values++
		in.hasFlags |= xattrFlag(string(key[8:]))
	})
}

func (c *checker) readMarks() error {
	return c.scan(spaceMark, func(key, _ []byte) {
		ino := keyIno(key)
		if in := c.inodes[ino]; in == nil || in.mode&sharefs.ModeType != sharefs.ModeRegular {
			c.report(ino, "it is marked as open for writing and is no file")
		}
	})
}

func (c *checker) readOrphans() error {
	return c.scan(spaceOrphan, func(key, _ []byte) {
		ino := keyIno(key)
		if in := c.inodes[ino]; in != nil {
			in.orphan = true
		} else {
			c.report(ino, "it waits to be removed and does not exist")
		}
	})
}

// compare holds the rows against the names that were found.
func (c *checker) compare() error {
	if root := c.inodes[sharefs.RootIno]; root == nil || root.mode&sharefs.ModeType != sharefs.ModeDir {
		c.report(sharefs.RootIno, "there is no root directory")
	}
	for ino, in := range c.inodes {
		if in.orphan != (in.nlink == 0) {
			c.report(ino, "it has %d links, and it waits to be removed: %t", in.nlink, in.orphan)
		}
		if in.values != in.xattrs || in.hasFlags != in.flags&rowXattrs {
			c.report(ino, "it has %d extended attributes (flags %x), its row says %d (%x)", in.values, in.hasFlags, in.xattrs, in.flags)
		}
		if in.mode&sharefs.ModeType == sharefs.ModeDir {
			c.compareDir(ino, in)
		} else if in.nlink != in.names {
			c.report(ino, "it has %d links and %d names", in.nlink, in.names)
		}
	}
	return nil
}

func (c *checker) compareDir(ino sharefs.Ino, in *checked) {
	if in.held != in.entries {
		c.report(ino, "it holds %d names, its row says %d", in.held, in.entries)
	}
	want := 2 + in.subdirs
	switch {
	case ino == sharefs.RootIno:
		if in.names != 0 || in.parent != ino {
			c.report(ino, "the root has a name or another directory above it")
		}
	case in.names > 1:
		c.report(ino, "the directory has %d names", in.names)
	case in.names == 0:
		want = 0
	case in.holder != in.parent:
		c.report(ino, "it lies in directory %d and says it does in %d", in.holder, in.parent)
	case !c.hangs(ino):
		c.report(ino, "the directory does not hang on the root")
	}
	if in.nlink != want {
		c.report(ino, "the directory has %d links and should have %d", in.nlink, want)
	}
}

// hangs reports whether a directory hangs on the root.
func (c *checker) hangs(ino sharefs.Ino) bool {
	seen := map[sharefs.Ino]bool{}
	for at := ino; at != sharefs.RootIno; {
		in := c.inodes[at]
		if in == nil || seen[at] {
			return false
		}
		if in.rooted {
			break
		}
		seen[at] = true
		at = in.parent
	}
	for at := range seen {
		c.inodes[at].rooted = true
	}
	return true
}

// findBacking looks for the backing file of each regular inode. That of an orphan may be gone already.
func (c *checker) findBacking() error {
	for ino, in := range c.inodes {
		if in.mode&sharefs.ModeType != sharefs.ModeRegular || in.orphan {
			continue
		}
		st, err := c.t.live.stat(ino)
		switch {
		case errors.Is(err, unix.ENOENT):
			if in.size > 0 {
				c.report(ino, "its backing file is missing")
			}
		case err != nil:
			return err
		case st.Mode&unix.S_IFMT != unix.S_IFREG:
			c.report(ino, "its backing file is no file")
		case uint64(st.Size) != in.size && !c.hot(ino):
			c.report(ino, "its backing file has %d bytes, its row says %d", st.Size, in.size)
		}
	}
	return nil
}

// hot reports whether the backing file of an inode tells its size.
func (c *checker) hot(ino sharefs.Ino) bool {
	f := c.t.files.find(ino)
	if f == nil {
		return false
	}
	defer c.t.files.unpin(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hot
}

// findStrays looks for backing files without an inode.
func (c *checker) findStrays() error {
	for i := range liveSubdirs {
		sub := string(appendHex2(nil, uint8(i)))
		files, err := os.ReadDir(filepath.Join(c.t.live.path, sub))
		if err != nil {
			return err
		}
		for _, e := range files {
			n, err := strconv.ParseUint(e.Name(), 16, 64)
			ino := sharefs.Ino(n)
			if err != nil || c.t.live.name(ino) != sub+"/"+e.Name() {
				c.report(0, "live/%s/%s is not the name of a backing file", sub, e.Name())
				continue
			}
			if in := c.inodes[ino]; in == nil && !c.t.stock.owns(ino) || in != nil && in.mode&sharefs.ModeType != sharefs.ModeRegular {
				c.report(ino, "there is a backing file and no file that it belongs to")
			}
		}
	}
	return nil
}
