package versions

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// TestConcurrentOperations lets several goroutines do everything at once to a few names in a few directories, each of them like a kernel
// that counts its references, and checks the tree then.
func TestConcurrentOperations(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, func(c *Config) { c.Settle = 0 })
	dirs := []sharefs.Ino{sharefs.RootIno}
	for i := range 3 {
		dirs = append(dirs, must[sharefs.Attr](t)(tree.Mkdir(dirs[i], fmt.Sprint("d", i), 0o755, root)).Ino)
	}
	const workers, steps = 6, 600
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			c := chaos{t: t, tree: tree, dirs: dirs, r: rand.New(rand.NewPCG(11, uint64(w)))}
			for range steps {
				c.step()
			}
			for len(c.handles) > 0 {
				c.close()
			}
		})
	}
	wg.Go(func() {
		for range 3 {
			noProblems(t, tree)
			if _, err := tree.Statfs(); err != nil {
				t.Error(err)
			}
			if err := tree.Sync(); err != nil {
				t.Error(err)
			}
			tree.Stats()
		}
	})
	wg.Wait()
	noProblems(t, tree)
	check(t, tree.Close())
	tree = testTree(t, dir)
	noProblems(t, tree)
	if n := tree.refs.count(); n != 0 {
		t.Errorf("%d inodes are held in a tree that nobody has used", n)
	}
}

// chaos is one of several who use a tree at once: whatever fails must fail with what another's work explains.
type chaos struct {
	t       *testing.T
	tree    *Tree
	dirs    []sharefs.Ino
	r       *rand.Rand
	handles []*Handle
}

func (c *chaos) dir() sharefs.Ino { return c.dirs[c.r.IntN(len(c.dirs))] }
func (c *chaos) name() string     { return string(rune('a' + c.r.IntN(6))) }

// made gives a reference back, or accepts an error.
func (c *chaos) made(a sharefs.Attr, err error) {
	if err == nil {
		c.tree.Forget(a.Ino, 1)
	}
	c.accept(err)
}

func (c *chaos) accept(err error) {
	if err == nil {
		return
	}
	switch sharefs.KindOf(err) {
	case sharefs.KindExist, sharefs.KindNotExist, sharefs.KindStale, sharefs.KindIsDir, sharefs.KindNotDir, sharefs.KindNotEmpty, sharefs.KindInvalid,
		sharefs.KindLoop, sharefs.KindNoDevice, sharefs.KindPermission, sharefs.KindNoAttr:
	default:
		c.t.Errorf("unexpected: %v", err)
	}
}

func (c *chaos) step() {
	t := c.tree
	switch c.r.IntN(17) {
	case 0:
		c.made(t.Mkdir(c.dir(), c.name(), 0o755, root))
	case 1:
		c.made(t.Mknod(c.dir(), c.name(), sharefs.ModeFifo, 0, root))
	case 2, 3, 4:
		a, h, err := t.Create(c.dir(), c.name(), unix.O_RDWR, 0o644, user(1000))
		c.made(a, err)
		if err == nil {
			c.handles = append(c.handles, h)
		}
	case 5:
		c.made(t.Symlink(c.dir(), c.name(), "x", root))
	case 6:
		if a, err := t.Lookup(c.dir(), c.name()); err == nil {
			c.made(t.Link(a.Ino, c.dir(), c.name()))
			t.Forget(a.Ino, 1)
		}
	case 7, 8:
		c.accept(t.Unlink(c.dir(), c.name()))
	case 9:
		c.accept(t.Rmdir(c.dir(), c.name()))
	case 10, 11:
		c.accept(t.Rename(c.dir(), c.name(), c.dir(), c.name(), []uint32{0, 0, unix.RENAME_EXCHANGE}[c.r.IntN(3)]))
	case 12:
		c.accept(t.ReadDir(c.dir(), 0, true, func(d sharefs.Dentry, a *sharefs.Attr) bool {
			if a.Ino != d.Ino {
				c.t.Errorf("%q is inode %d with the attributes of %d", d.Name, d.Ino, a.Ino)
			}
			t.Forget(d.Ino, 1)
			return true
		}))
	case 13:
		c.attributes()
	case 14:
		c.open()
	case 15:
		c.content()
	default:
		if len(c.handles) > 5 {
			c.close()
		}
	}
}

func (c *chaos) attributes() {
	t := c.tree
	a, err := t.Lookup(c.dir(), c.name())
	if err != nil {
		c.accept(err)
		return
	}
	defer t.Forget(a.Ino, 1)
	_, err = t.Setattr(a.Ino, &SetAttr{Mode: ptr(uint32(0o6755)), Mtime: ptr(sharefs.Time(c.r.Int64()))}, root)
	c.accept(err)
	c.accept(t.Setxattr(a.Ino, "user."+c.name(), []byte("v"), 0))
	c.accept(t.Removexattr(a.Ino, "user."+c.name()))
	_, err = t.Listxattr(a.Ino)
	c.accept(err)
	if a.IsRegular() {
		_, err = t.Setattr(a.Ino, &SetAttr{Size: ptr(uint64(c.r.IntN(9000)))}, user(1000))
		c.accept(err)
	}
	c.accept(t.SyncInode(a.Ino))
}

func (c *chaos) open() {
	t := c.tree
	a, err := t.Lookup(c.dir(), c.name())
	if err != nil {
		c.accept(err)
		return
	}
	h, err := t.Open(a.Ino, []uint32{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR | unix.O_TRUNC}[c.r.IntN(3)], user(1000))
	c.accept(err)
	if err == nil {
		c.handles = append(c.handles, h)
	}
	t.Forget(a.Ino, 1)
}

func (c *chaos) content() {
	if len(c.handles) == 0 {
		return
	}
	h := c.handles[c.r.IntN(len(c.handles))]
	if h.CanWrite() {
		if _, err := h.WriteAt(make([]byte, c.r.IntN(5000)), int64(c.r.IntN(5000))); err != nil {
			c.t.Error(err)
		}
	}
	if _, err := h.ReadAt(make([]byte, 100), 0); err != nil {
		c.t.Error(err)
	}
	if fd, err := h.Backing(); err != nil {
		c.t.Error(err)
	} else {
		c.accept(unix.Close(fd))
	}
	if a, err := c.tree.Getattr(h.Ino()); err != nil || a.Ino != h.Ino() || !a.IsRegular() {
		c.t.Errorf("%+v, %v", a, err)
	}
}

func (c *chaos) close() {
	i := c.r.IntN(len(c.handles))
	if err := c.handles[i].Close(); err != nil {
		c.t.Error(err)
	}
	c.handles = append(c.handles[:i], c.handles[i+1:]...)
}

// TestReadersBesideChanges looks names up while they come and go: each is found whole or not at all.
func TestReadersBesideChanges(t *testing.T) {
	t.Parallel()
	tree := testTree(t, t.TempDir())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a, err := tree.Lookup(sharefs.RootIno, "f")
				switch {
				case err == nil:
					if a.UID != 1000 || a.Nlink > 1 {
						t.Errorf("%+v", a)
					}
					tree.Forget(a.Ino, 1)
				case !errors.Is(err, sharefs.KindNotExist):
					t.Error(err)
				}
			}
		})
	}
	for range 500 {
		a, err := tree.Mknod(sharefs.RootIno, "f", sharefs.ModeFifo, 0, user(1000))
		check(t, err)
		tree.Forget(a.Ino, 1)
		check(t, tree.Rename(sharefs.RootIno, "f", sharefs.RootIno, "g", 0))
		check(t, tree.Rename(sharefs.RootIno, "g", sharefs.RootIno, "f", 0))
		check(t, tree.Unlink(sharefs.RootIno, "f"))
		if tree.refs.count() == 0 {
			check(t, tree.reap())
		}
	}
	close(stop)
	wg.Wait()
	check(t, tree.reap())
	noProblems(t, tree)
}
