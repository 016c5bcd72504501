// Package past holds views of the past against copies that were taken at the time, with the programs that people use and with a comparer of its own.
package past

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Differences returns how two trees differ in names, types, modes, owners, links, devices, sizes, content, modification times and extended attributes (access control lists
// among them), in at most a dozen lines. Link counts of directories are left to the filesystem, and so are sizes of what has no content.
func Differences(a, b string) []string {
	c := comparer{a: a, b: b, links: map[uint64]uint64{}}
	c.dir("")
	return c.found
}

type comparer struct {
	a, b  string
	links map[uint64]uint64 // inode here → there
	found []string
}

func (c *comparer) add(format string, args ...any) {
	if len(c.found) < 12 {
		c.found = append(c.found, fmt.Sprintf(format, args...))
	}
}

// failed notes an error.
func (c *comparer) failed(err error) bool {
	if err != nil {
		c.add("%v", err)
	}
	return err != nil
}

func (c *comparer) dir(rel string) {
	names := [2][]string{}
	for i, root := range []string{c.a, c.b} {
		entries, err := os.ReadDir(filepath.Join(root, rel))
		if c.failed(err) {
			return
		}
		for _, e := range entries {
			names[i] = append(names[i], e.Name())
		}
	}
	for _, name := range names[0] {
		if !slices.Contains(names[1], name) {
			c.add("%q is missing in %s", filepath.Join(rel, name), c.b)
		}
	}
	for _, name := range names[1] {
		if !slices.Contains(names[0], name) {
			c.add("%q is missing in %s", filepath.Join(rel, name), c.a)
			continue
		}
		c.entry(filepath.Join(rel, name))
	}
}

// entry compares what has one name in both.
func (c *comparer) entry(rel string) {
	var st [2]unix.Stat_t
	for i, root := range []string{c.a, c.b} {
		if c.failed(unix.Lstat(filepath.Join(root, rel), &st[i])) {
			return
		}
	}
	if here, there := describe(&st[0]), describe(&st[1]); here != there {
		c.add("%q is\n%s\n%s", rel, here, there)
		return
	}
	if other, seen := c.links[st[0].Ino]; seen && other != st[1].Ino {
		c.add("%q is a link to another file", rel)
	}
	c.links[st[0].Ino] = st[1].Ino
	if here, there := xattrs(filepath.Join(c.a, rel)), xattrs(filepath.Join(c.b, rel)); here != there {
		c.add("%q has the attributes\n%s\n%s", rel, here, there)
	}
	switch st[0].Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		c.dir(rel)
	case unix.S_IFLNK:
		here, err1 := os.Readlink(filepath.Join(c.a, rel))
		there, err2 := os.Readlink(filepath.Join(c.b, rel))
		if err := errors.Join(err1, err2); !c.failed(err) && here != there {
			c.add("%q leads to %q and %q", rel, here, there)
		}
	case unix.S_IFREG:
		here, err1 := os.ReadFile(filepath.Join(c.a, rel))
		there, err2 := os.ReadFile(filepath.Join(c.b, rel))
		if err := errors.Join(err1, err2); !c.failed(err) && !bytes.Equal(here, there) {
			c.add("%q holds %.40q… and %.40q…", rel, here, there)
		}
	}
}

func describe(st *unix.Stat_t) string {
	links, size := st.Nlink, st.Size
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		links, size = 0, 0
	}
	return fmt.Sprintf("mode %o, links %d, owner %d:%d, size %d, device %x, mtime %d.%09d", st.Mode, links, st.Uid, st.Gid, size, st.Rdev, st.Mtim.Sec, st.Mtim.Nsec)
}

// xattrs lists the extended attributes of something, with their values.
func xattrs(path string) string {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return err.Error()
	}
	var list []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		m, err := unix.Lgetxattr(path, name, value)
		list = append(list, fmt.Sprintf("%s=%q %v", name, value[:max(m, 0)], err))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
