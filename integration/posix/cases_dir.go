package posix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

func init() {
	goCases = append(goCases,
		Case{"dir/many names", false, manyNames},
		Case{"dir/removal while it is listed", false, removeWhileListing},
		Case{"dir/offsets stay", false, stableOffsets},
		Case{"dir/names come and go while it is listed", false, churnWhileListing},
		Case{"dir/types in the listing", false, listTypes},
		Case{"dir/dot and dotdot", false, dots},
		Case{"dir/bytes of a name", false, oddNames},
		Case{"dir/deeper than a path reaches", false, deep},
		Case{"dir/one creator wins", false, exclusive},
		Case{"dir/a replaced name is never missing", false, renameAtomic},
		Case{"dir/crossing renames", false, crossing},
		Case{"dir/hard links of several makers", false, linkRace},
		Case{"dir/removed and in use", false, removedInUse},
	)
}

// dirent is one record of getdents64(2).
type dirent struct {
	ino  uint64
	off  int64 // where the next one begins
	typ  byte
	name string
}

// getdents reads one buffer of a directory, without "." and ".." where plain.
func getdents(fd, size int, plain bool) ([]dirent, error) {
	buf := make([]byte, size)
	n, err := unix.Getdents(fd, buf)
	if err != nil || n == 0 {
		return nil, err
	}
	out := []dirent{}
	for b := buf[:n]; len(b) > 0; {
		l := binary.NativeEndian.Uint16(b[16:])
		name, _, _ := strings.Cut(string(b[19:l]), "\x00")
		if !plain || name != "." && name != ".." {
			out = append(out, dirent{binary.NativeEndian.Uint64(b), int64(binary.NativeEndian.Uint64(b[8:])), b[18], name})
		}
		b = b[l:]
	}
	return out, nil
}

// listAll reads a directory from where it stands to its end, in buffers of size bytes.
func (c *C) listAll(fd, size int) []dirent {
	var all []dirent
	for {
		d, err := getdents(fd, size, true)
		c.Must(err)
		if d == nil {
			return all
		}
		all = append(all, d...)
	}
}

func (c *C) fill(dir string, n int) map[string]bool {
	c.Must(unix.Mkdir(dir, 0o755))
	want := map[string]bool{}
	for i := range n {
		name := fmt.Sprintf("file-%05d", i)
		fd := c.openC(dir+"/"+name, unix.O_CREAT|unix.O_WRONLY|unix.O_EXCL, 0o644)
		unix.Close(fd)
		want[name] = true
	}
	return want
}

func (c *C) sameNames(what string, got []dirent, want map[string]bool) {
	seen := map[string]bool{}
	for _, d := range got {
		if seen[d.name] {
			c.Fatalf("%s: %s twice", what, d.name)
		}
		if !want[d.name] {
			c.Fatalf("%s: %s should not be there", what, d.name)
		}
		seen[d.name] = true
	}
	if len(seen) != len(want) {
		c.Fatalf("%s: %d names, want %d", what, len(seen), len(want))
	}
}

func manyNames(c *C) {
	want := c.fill("d", 5000)
	fd := c.openC("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	defer unix.Close(fd)
	for _, size := range []int{300, 4096, 1 << 20} {
		_, err := unix.Seek(fd, 0, unix.SEEK_SET)
		c.Must(err)
		c.sameNames(fmt.Sprintf("buffers of %d bytes", size), c.listAll(fd, size), want)
	}
	for name := range want {
		var st unix.Stat_t
		c.Must(unix.Fstatat(fd, name, &st, 0))
	}
}

// removeWhileListing does what rm -rf does: it removes what it has just read and reads on.
func removeWhileListing(c *C) {
	want := c.fill("d", 3000)
	fd := c.openC("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	defer unix.Close(fd)
	for {
		ds, err := getdents(fd, 2048, true)
		c.Must(err)
		if ds == nil {
			break
		}
		for _, d := range ds {
			if !want[d.name] {
				c.Fatalf("%s a second time, or never made", d.name)
			}
			delete(want, d.name)
			c.Must(unix.Unlinkat(fd, d.name, 0))
		}
	}
	c.Want("names that were passed over", len(want), 0)
	c.Must(unix.Rmdir("d"))
}

// stableOffsets goes back to each offset that a listing gave, after others were removed and added. POSIX leaves it open whether what was removed
// since the directory was opened is still listed.
func stableOffsets(c *C) {
	want := c.fill("d", 500)
	fd := c.openC("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	defer unix.Close(fd)
	all := c.listAll(fd, 700)
	c.sameNames("first", all, want)
	gone := map[string]bool{}
	for i, d := range all {
		if i%3 == 0 {
			c.Must(unix.Unlinkat(fd, d.name, 0))
			gone[d.name] = true
		}
	}
	extra := 0
	for i := range 100 {
		f := c.openC(fmt.Sprintf("d/extra-%d", i), unix.O_CREAT|unix.O_WRONLY, 0o644)
		unix.Close(f)
		extra++
	}
	for i := 0; i < len(all); i += 17 {
		_, err := unix.Seek(fd, all[i].off, unix.SEEK_SET)
		c.Must(err)
		rest := map[string]bool{}
		for _, d := range all[i+1:] {
			if !gone[d.name] {
				rest[d.name] = true
			}
		}
		for _, d := range c.listAll(fd, 4096) {
			if strings.HasPrefix(d.name, "extra-") {
				continue
			}
			if gone[d.name] {
				continue
			}
			if !rest[d.name] {
				c.Fatalf("from offset %d: %s comes before it, or twice", i, d.name)
			}
			delete(rest, d.name)
		}
		c.Want(fmt.Sprintf("names missing after offset %d", i), len(rest), 0)
	}
}

// churnWhileListing: what is there all the time is listed exactly once, whatever comes and goes.
func churnWhileListing(c *C) {
	want := c.fill("d", 400)
	dir := c.Dir + "/d/"
	stop := make(chan struct{})
	var wg sync.WaitGroup
	errs := make(chan error, 1)
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := fmt.Sprintf("%schurn-%d", dir, i%50)
			f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
			if err == nil {
				f.Close()
				err = os.Rename(name, name+"-moved")
			}
			if err == nil {
				err = os.Remove(name + "-moved")
			}
			if err != nil {
				select {
				case errs <- err:
				default:
				}
				return
			}
		}
	})
	defer wg.Wait()
	defer close(stop)
	for range 20 {
		fd := c.openC("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		left := map[string]bool{}
		for n := range want {
			left[n] = true
		}
		for _, d := range c.listAll(fd, 1024) {
			if strings.HasPrefix(d.name, "churn-") {
				continue
			}
			if !left[d.name] {
				c.Fatalf("%s twice", d.name)
			}
			delete(left, d.name)
		}
		unix.Close(fd)
		c.Want("names missing", len(left), 0)
	}
	select {
	case err := <-errs:
		c.Fatalf("%v", err)
	default:
	}
}

func listTypes(c *C) {
	for _, typ := range []string{"regular", "dir", "fifo", "socket", "symlink"} {
		_, err := calls["make"].run(c.m, []string{typ, typ})
		c.Must(err)
	}
	fd := c.openC(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	defer unix.Close(fd)
	all := c.listAll(fd, 4096)
	c.Want("names", len(all), 5)
	for _, d := range all {
		want := map[string]byte{"regular": unix.DT_REG, "dir": unix.DT_DIR, "fifo": unix.DT_FIFO, "socket": unix.DT_SOCK, "symlink": unix.DT_LNK}[d.name]
		c.Want("type of "+d.name, d.typ, want)
		var st unix.Stat_t
		c.Must(unix.Lstat(d.name, &st))
		c.Want("inode of "+d.name, d.ino, st.Ino)
	}
}

func dots(c *C) {
	c.Must(unix.Mkdir("d", 0o755))
	fd := c.openC("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	defer unix.Close(fd)
	ds, err := getdents(fd, 4096, false)
	c.Must(err)
	got := map[string]uint64{}
	for _, d := range ds {
		got[d.name] = d.ino
		c.Want("type of "+d.name, d.typ, unix.DT_DIR)
	}
	c.Want("entries", len(got), 2)
	var st unix.Stat_t
	c.Must(unix.Stat("d", &st))
	c.Want("inode of .", got["."], st.Ino)
	c.Must(unix.Stat(".", &st))
	c.Want("inode of ..", got[".."], st.Ino)
}

// oddNames takes every byte but slash and zero, and what is no UTF-8.
func oddNames(c *C) {
	var names []string
	for b := 1; b < 256; b++ {
		if b != '/' {
			names = append(names, "x"+string([]byte{byte(b)}), string([]byte{byte(b), byte(b), 'y'}))
		}
	}
	names = append(names, "...", " ", "\n", "-rf", "*", strings.Repeat("\xff", 255), "\xe2\x82", "a@@", "@@", "a@@1", ".share-x")
	want := map[string]bool{}
	for _, n := range names {
		if n == "xx" || n == ".." || n == "." {
			continue
		}
		fd, err := open(n, unix.O_CREAT|unix.O_WRONLY, 0o644)
		if err != nil {
			c.Fatalf("create %q: %v", n, err)
		}
		unix.Close(fd)
		want[n] = true
	}
	fd := c.openC(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	defer unix.Close(fd)
	c.sameNames("odd names", c.listAll(fd, 4096), want)
	for n := range want {
		c.Must(unix.Unlink(n))
	}
}

// deep builds directories whose joined path is several times PATH_MAX, works at the bottom and takes them down again.
func deep(c *C) {
	const levels = 60
	name := strings.Repeat("d", 255)
	fds := []int{c.openC(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for range levels {
		at := fds[len(fds)-1]
		c.Must(unix.Mkdirat(at, name, 0o755))
		fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		c.Must(err)
		fds = append(fds, fd)
	}
	bottom, top := fds[levels], fds[0]
	fd, err := unix.Openat(bottom, "file", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	c.Must(err)
	_, err = unix.Write(fd, []byte("text"))
	c.Must(err)
	c.Must(unix.Fsync(fd))
	unix.Close(fd)
	var st unix.Stat_t
	c.Must(unix.Fstatat(bottom, "file", &st, 0))
	c.Want("size at the bottom", st.Size, 4)
	c.Must(unix.Renameat(bottom, "file", top, "up"))
	c.Must(unix.Linkat(top, "up", bottom, "down", 0))
	c.Must(unix.Symlinkat("x", bottom, "link"))
	c.Must(unix.Fchmodat(bottom, "down", 0o600, 0))
	c.Must(unix.Unlinkat(bottom, "link", 0))
	c.Want("content", c.content("up"), "text")
	c.Must(unix.Unlinkat(bottom, "down", 0))
	c.Must(unix.Unlinkat(top, "up", 0))
	for i := levels - 1; i >= 0; i-- {
		c.Must(unix.Unlinkat(fds[i], name, unix.AT_REMOVEDIR))
	}
}

// together runs fn n times at once and returns the errors.
func together(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = fn(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func exclusive(c *C) {
	for round := range 50 {
		name := fmt.Sprintf("%s/f%d", c.Dir, round)
		won := 0
		for _, err := range together(4, func(i int) error {
			switch i % 2 {
			case 0:
				f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
				if err == nil {
					f.Close()
				}
				return err
			default:
				return os.Mkdir(name, 0o755)
			}
		}) {
			if err == nil {
				won++
			} else if !errors.Is(err, unix.EEXIST) {
				c.Fatalf("%v", err)
			}
		}
		c.Want("winners", won, 1)
	}
}

func renameAtomic(c *C) {
	c.put("f", "0")
	stop := make(chan struct{})
	errs := make(chan error, 3)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				b, err := os.ReadFile(c.Dir + "/f")
				if err == nil && len(b) == 0 {
					err = errors.New("read nothing")
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for i := range 500 {
		c.put("new", fmt.Sprint(i))
		c.Must(unix.Rename("new", "f"))
	}
	close(stop)
	wg.Wait()
	close(errs)
	c.Must(<-errs)
}

// crossing moves directories into one another from both sides: at no time may a loop come of it, nor may anything hang.
func crossing(c *C) {
	c.Must(unix.Mkdir("a", 0o755))
	c.Must(unix.Mkdir("b", 0o755))
	c.Must(unix.Mkdir("a/x", 0o755))
	c.Must(unix.Mkdir("b/y", 0o755))
	p := c.Dir + "/"
	moves := [][2]string{{"a/x", "b/y/x"}, {"b/y", "a/x/y"}, {"b/y/x", "a/x"}, {"a/x/y", "b/y"}}
	together(4, func(i int) error {
		for range 200 {
			os.Rename(p+moves[i][0], p+moves[i][1])
		}
		return nil
	})
	found := 0
	var walk func(dir string, depth int)
	walk = func(dir string, depth int) {
		if depth > 6 {
			c.Fatalf("a loop: %s", dir)
		}
		entries, err := os.ReadDir(dir)
		c.Must(err)
		for _, e := range entries {
			found++
			walk(dir+"/"+e.Name(), depth+1)
		}
	}
	walk(c.Dir, 0)
	c.Want("directories", found, 4)
}

func linkRace(c *C) {
	c.put("f", "x")
	p := c.Dir + "/"
	for i, err := range together(4, func(i int) error {
		for j := range 100 {
			if err := os.Link(p+"f", fmt.Sprintf("%sl%d-%d", p, i, j)); err != nil {
				return err
			}
			if j%2 == 0 {
				if err := os.Remove(fmt.Sprintf("%sl%d-%d", p, i, j)); err != nil {
					return err
				}
			}
		}
		return nil
	}) {
		if err != nil {
			c.Fatalf("maker %d: %v", i, err)
		}
	}
	var st unix.Stat_t
	c.Must(unix.Stat("f", &st))
	c.Want("links", st.Nlink, 201)
}

// removedInUse: in a directory that is gone nothing can be made, and its listing is empty.
func removedInUse(c *C) {
	c.Must(unix.Mkdir("d", 0o755))
	fd := c.openC("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	defer unix.Close(fd)
	c.Must(unix.Rmdir("d"))
	_, err := unix.Openat(fd, "f", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	c.Want("create", err, unix.ENOENT)
	c.Want("mkdir", unix.Mkdirat(fd, "s", 0o755), unix.ENOENT)
	c.Want("symlink", unix.Symlinkat("x", fd, "s"), unix.ENOENT)
	c.put("f", "x")
	c.Want("rename", unix.Renameat(unix.AT_FDCWD, "f", fd, "f"), unix.ENOENT)
	c.Want("link", unix.Linkat(unix.AT_FDCWD, "f", fd, "f", 0), unix.ENOENT)
	ds, err := getdents(fd, 4096, true)
	if err != nil && err != unix.ENOENT {
		c.Fatalf("listing: %v", err)
	}
	c.Want("entries", len(ds), 0)
	var st unix.Stat_t
	c.Must(unix.Fstat(fd, &st))
	c.Want("links", st.Nlink, 0)
}
