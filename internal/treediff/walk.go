package treediff

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sharefs"
)

// tree is one of the two at work.
type tree struct {
	side Side
	old  bool
	fd   int
	root *Entry
}

func (t *tree) open() error {
	fd, err := unix.Open(t.side.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &sharefs.Error{Op: "compare", Path: t.side.Dir, Kind: sharefs.KindOf(err), Err: err}
	}
	t.fd = fd
	t.root, err = t.side.Stat(fd, "", ".")
	if err != nil {
		t.close()
		return &sharefs.Error{Op: "compare", Path: t.side.Dir, Kind: sharefs.KindOf(err), Err: err}
	}
	return nil
}

func (t *tree) close() { unix.Close(t.fd) }

// Stat reads the attributes of a name in an open directory, of the directory itself where the name is empty. p is its path in the tree.
func (s *Side) Stat(dir int, name, p string) (*Entry, error) {
	var st unix.Stat_t
	var err error
	if name == "" {
		err = unix.Fstat(dir, &st)
	} else {
		err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return nil, err
	}
	at := func(ts unix.Timespec) sharefs.Time { return sharefs.MakeTime(ts.Sec, uint32(ts.Nsec)) }
	e := &Entry{
		Path: p, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: st.Nlink, Dev: st.Dev, Ino: st.Ino,
		Atime: at(st.Atim), Mtime: at(st.Mtim), Ctime: at(st.Ctim),
	}
	switch e.Type() {
	case unix.S_IFREG:
		e.Size = st.Size
	case unix.S_IFBLK, unix.S_IFCHR:
		e.Rdev = st.Rdev
	case unix.S_IFLNK:
		if e.Target, err = readlink(dir, name); err != nil {
			return nil, err
		}
	}
	if s.Fix != nil {
		s.Fix(Reach(dir, name), e)
	}
	return e, nil
}

func readlink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Reach is a path to a name in an open directory, for the calls that take no descriptor.
func Reach(dir int, name string) string { return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name }

// Open opens a path beneath a directory without following any symbolic link on the way, however long the path is. flags are those of
// open(2); O_CLOEXEC and O_NOFOLLOW are added.
func Open(dir int, p string, flags int) (int, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	if len(p) < unix.PathMax {
		fd, err := unix.Openat2(dir, p, &unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
		if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
	// A kernel or a sandbox without openat2(2), or a path longer than one call takes.
	names := strings.Split(p, "/")
	at := dir
	for i, name := range names {
		f := flags
		if i < len(names)-1 {
			f = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW
		}
		fd, err := unix.Openat(at, name, f, 0)
		if at != dir {
			unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at = fd
	}
	return at, nil
}

// listing is a directory that is open.
type listing struct {
	fd      int
	entries []*Entry        // sorted by name
	unknown map[string]bool // names of which nothing could be told
}

func (l *listing) close() {
	if l != nil {
		unix.Close(l.fd)
	}
}

// list reads a directory and the attributes of what is in it.
func (c *comparison) list(t *tree, p string) (*listing, error) {
	fd, err := Open(t.fd, p, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	names, err := readNames(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !c.wanted(join(p, name)) })
	slices.Sort(names)
	l := &listing{fd: fd, entries: make([]*Entry, 0, len(names)), unknown: map[string]bool{}}
	for _, name := range names {
		e, err := t.side.Stat(fd, name, join(p, name))
		switch {
		case err == unix.ENOENT: // gone meanwhile
		case err != nil:
			l.unknown[name] = true
			c.problem(t, join(p, name), err)
		case t.side.Skip == nil || !t.side.Skip(e):
			l.entries = append(l.entries, e)
		}
	}
	c.saw(uint64(len(names)))
	return l, nil
}

// wanted reports whether a path is compared, or something below it.
func (c *comparison) wanted(p string) bool {
	if c.opts.Only == nil {
		return true
	}
	compared, below := c.opts.Only(p)
	return compared || below
}

// compared reports whether a path that both trees have is compared, and below whether what lies below it is looked at.
func (c *comparison) compared(p string) (compared, below bool) {
	if c.opts.Only == nil {
		return true, true
	}
	return c.opts.Only(p)
}

func (c *comparison) saw(n uint64) {
	n = c.seen.Add(n)
	if c.opts.Progress != nil {
		c.opts.Progress(n)
	}
}

// readNames lists an open directory, which stays open.
func readNames(fd int) ([]string, error) {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(again), "")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	var inner *os.PathError
	var call *os.SyscallError
	switch {
	case errors.As(err, &inner):
		err = inner.Err
	case errors.As(err, &call):
		err = call.Err
	}
	return names, err
}

// foreign reports whether another filesystem is mounted on a directory of the tree.
func (t *tree) foreign(e *Entry) bool { return e.IsDir() && e.Dev != t.root.Dev }

// pool runs tasks that bring forth tasks, the latest first, so that a tree is gone through in depth and few tasks wait.
type pool struct {
	mu    sync.Mutex
	some  sync.Cond
	tasks []func()
	busy  int
}

func (p *pool) add(task func()) {
	p.mu.Lock()
	p.tasks = append(p.tasks, task)
	p.mu.Unlock()
	p.some.Signal()
}

// parallel runs first, then all tasks that were added, and returns when none is left.
func (c *comparison) parallel(first func()) {
	p := &c.pool
	p.some.L = &p.mu
	first()
	var all sync.WaitGroup
	for range c.opts.Workers {
		all.Go(p.work)
	}
	all.Wait()
}

func (p *pool) work() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for len(p.tasks) == 0 {
			if p.busy == 0 {
				p.some.Broadcast()
				return
			}
			p.some.Wait()
		}
		task := p.tasks[len(p.tasks)-1]
		p.tasks = p.tasks[:len(p.tasks)-1]
		p.busy++
		p.mu.Unlock()
		task()
		p.mu.Lock()
		p.busy--
	}
}
