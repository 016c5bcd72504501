package versions

import (
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/writers"
)

// file is what the tree knows in memory of a regular inode that is open, or whose row does not tell its attributes, or that an
// operation works on. There is one for each inode at most, and none for most.
type file struct {
	ino sharefs.Ino
	// content is held by whoever opens the file for writing, cuts it, sets its times or takes its content as it stands (capture), so
	// that none of these meets another. It comes before every other lock and may be held for as long as copying the file takes.
	content sync.Mutex

	pins int // handles, operations and reasons to remember the file; guarded by the shard's mutex

	// Guarded by Tree.mu.
	marked    bool // there is a mark row
	markFresh bool // and this is what it says

	mu sync.Mutex // guards what follows and the descriptors; the last lock to be taken
	// hot: the backing file tells size, blocks and times, not the row. Set with content and Tree.mu held, before anything can change;
	// reset when nobody can write any more and the row has been brought up to date.
	hot bool
	// fresh: the backing file's times are older than what the row says unless something was written since.
	fresh bool
	// adopted: a start found it marked, and has not yet been told whether anybody writes to it; no handle has since.
	adopted bool
	// mapped: there was a handle that a writable mapping can be made of since the file was last at rest.
	mapped   bool
	readers  bool // somebody may have read it since the row's atime was brought up to date
	handles  int
	opens    uint64        // counts handles that were ever opened
	writers  int           // of the handles
	closing  closing       // of the writers, where each close counts
	gen      uint64        // counts what makes a verdict that nobody writes obsolete
	base     writers.Stamp // of the content when the row was last brought up to date
	redated  writers.Stamp // of a hot file to which, as far as stamps tell, nothing was done since base but that its times were set
	seq      uint64        // the commit after which a crash finds the mark
	way      way           // of all handles
	entering int           // handles that are about to be opened; see Tree.enter
	born     sharefs.Ino   // the directory that it was made in; 0: that was before it was remembered

	hush bool                    // who opens it now is served, for it is about to become absent
	part atomic.Pointer[partial] // of an absent file that is open, or is being brought here; set with mu held
	// emptying: all content of the absent file goes, and its row does not say so yet; closed when it does, or nothing was done. Whoever is to read it waits.
	emptying chan struct{}

	changes atomic.Pointer[changing] // of a large file that is served: where it changes; nil: that is not known
	rd, wr  descriptor
}

// lock locks f.content; EINTR: cancel was closed before.
func (f *file) lock(cancel <-chan struct{}) error {
	if cancel == nil {
		f.content.Lock()
		return nil
	}
	if f.content.TryLock() {
		return nil
	}
	has := make(chan struct{})
	go func() {
		f.content.Lock()
		select {
		case has <- struct{}{}:
		case <-cancel:
			f.content.Unlock()
		}
	}()
	select {
	case <-has:
		return nil
	case <-cancel:
		return failed("wait for a file", unix.EINTR)
	}
}

// descriptor is a descriptor of a backing file that all handles of the inode share.
type descriptor struct {
	fd    int // -1: closed
	users int
}

// files is the table of them and the pool of their descriptors.
type files struct {
	live   *liveDir
	shards [cacheShards]struct {
		mu sync.Mutex
		m  map[sharefs.Ino]*file
		_  [40]byte // a cache line of its own
	}
	absent func(sharefs.Ino) bool // what the row of a file says

	open  atomic.Int64 // descriptors
	limit int64        // of open: beyond it idle ones are closed

	mu   sync.Mutex // guards idle
	fifo []*file    // files in the order in which descriptors were opened; some have none any more
}

// maxDescriptors bounds the pool however many the process may open.
const maxDescriptors = 4096

// newFiles makes the table; limit 0 takes a quarter of what the process may open.
func newFiles(live *liveDir, limit int64, absent func(sharefs.Ino) bool) *files {
	fs := &files{live: live, limit: limit, absent: absent}
	if limit == 0 {
		fs.limit = 256
		var r unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err == nil {
			fs.limit = int64(min(max(r.Cur/4, 64), maxDescriptors))
		}
	}
	for i := range fs.shards {
		fs.shards[i].m = map[sharefs.Ino]*file{}
	}
	return fs
}

// pin returns the file of an inode and keeps it until unpin.
func (fs *files) pin(ino sharefs.Ino) *file {
	s := &fs.shards[ino%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.m[ino]
	if f == nil {
		f = &file{ino: ino, rd: descriptor{fd: -1}, wr: descriptor{fd: -1}}
		s.m[ino] = f
	}
	f.pins++
	return f
}

// find returns the file of an inode if there is one, and keeps it until unpin.
func (fs *files) find(ino sharefs.Ino) *file {
	s := &fs.shards[ino%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.m[ino]
	if f != nil {
		f.pins++
	}
	return f
}

// unpin takes pin or find back. A file that nothing pins is forgotten.
func (fs *files) unpin(f *file) {
	s := &fs.shards[f.ino%cacheShards]
	s.mu.Lock()
	f.pins--
	last := f.pins == 0
	if last {
		delete(s.m, f.ino)
	}
	s.mu.Unlock()
	if last {
		f.mu.Lock()
		fs.shut(&f.rd)
		fs.shut(&f.wr)
		f.mu.Unlock()
		if p := f.part.Load(); p != nil {
			p.idle()
		}
	}
}

// each calls fn for every file there is, pinned.
func (fs *files) each(fn func(*file)) {
	for i := range fs.shards {
		s := &fs.shards[i]
		s.mu.Lock()
		all := make([]*file, 0, len(s.m))
		for _, f := range s.m {
			f.pins++
			all = append(all, f)
		}
		s.mu.Unlock()
		for _, f := range all {
			fn(f)
			fs.unpin(f)
		}
	}
}

// use returns a descriptor of the backing file, for reading or for both, that stays open until done is called with it. A descriptor that
// can write is asked for only by somebody whom the tracker of writers knows.
func (fs *files) use(f *file, write bool) (*descriptor, error) {
	f.mu.Lock()
	d := &f.rd
	flags := unix.O_RDONLY
	if write {
		d, flags = &f.wr, unix.O_RDWR
	}
	opened := false
	if d.fd < 0 {
		fd, err := fs.openContent(f.ino, flags)
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
			f.mu.Unlock()
			fs.trim(0)
			f.mu.Lock()
			fd, err = d.fd, nil
			if fd < 0 {
				fd, err = fs.openContent(f.ino, flags)
			}
		}
		if err != nil {
			f.mu.Unlock()
			return nil, failed("open a backing file", err)
		}
		if d.fd < 0 {
			opened = true
			d.fd = fd
		}
	}
	d.users++
	f.mu.Unlock()
	if opened {
		fs.entered(f)
	}
	return d, nil
}

// openContent opens a backing file of which somebody is to see what it holds.
func (fs *files) openContent(ino sharefs.Ino, flags int) (int, error) {
	fd, err := fs.live.open(ino, flags)
	if err != nil {
		return -1, err
	}
	if err := fs.isContent(ino, fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// isContent refuses the hole that stands for an absent file where the row says that the file is full.
func (fs *files) isContent(ino sharefs.Ino, fd int) error {
	for range 2 { // it may become full between the two looks
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return failed("read a backing file", err)
		}
		if st.Mode&unix.S_ISVTX == 0 || fs.absent(ino) {
			return nil
		}
	}
	return lostFetched(ino)
}

// done gives a descriptor back. It stays open for the next one as long as a handle is.
func (fs *files) done(f *file, d *descriptor) {
	f.mu.Lock()
	d.users--
	if d == &f.wr && f.writers == 0 || f.handles == 0 {
		fs.shut(d)
	}
	f.mu.Unlock()
}

// give makes a descriptor for reading that was opened elsewhere the file's own.
func (fs *files) give(f *file, fd int) {
	f.mu.Lock()
	if f.rd.fd >= 0 {
		unix.Close(fd)
		f.mu.Unlock()
		return
	}
	f.rd.fd = fd
	f.mu.Unlock()
	fs.entered(f)
}

// take returns the descriptor for reading, if it is open and nobody uses it, to the caller for good.
func (fs *files) take(f *file) (fd int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rd.fd < 0 || f.rd.users > 0 {
		return -1, false
	}
	fd = f.rd.fd
	f.rd.fd = -1
	fs.open.Add(-1)
	return fd, true
}

// shut closes a descriptor that nobody uses; f.mu is held.
func (fs *files) shut(d *descriptor) {
	if d.fd >= 0 && d.users == 0 {
		unix.Close(d.fd)
		d.fd = -1
		fs.open.Add(-1)
	}
}

// entered counts a descriptor that was opened, and closes idle ones of other files beyond the limit.
func (fs *files) entered(f *file) {
	n := fs.open.Add(1)
	fs.mu.Lock()
	fs.fifo = append(fs.fifo, f)
	long := int64(len(fs.fifo)) > 2*fs.limit
	fs.mu.Unlock()
	if n > fs.limit || long {
		fs.trim(fs.limit * 3 / 4)
	}
}

// trim closes idle descriptors, those opened first before others, until no more than n are left, and forgets files that have none.
func (fs *files) trim(n int64) {
	fs.mu.Lock()
	all := fs.fifo
	fs.fifo = nil
	fs.mu.Unlock()
	kept := all[:0]
	seen := make(map[*file]bool, len(all))
	for _, f := range all {
		if seen[f] {
			continue
		}
		seen[f] = true
		f.mu.Lock()
		if fs.open.Load() > n {
			fs.shut(&f.rd)
			fs.shut(&f.wr)
		}
		if f.rd.fd >= 0 || f.wr.fd >= 0 {
			kept = append(kept, f)
		}
		f.mu.Unlock()
	}
	fs.mu.Lock()
	fs.fifo = append(kept, fs.fifo...)
	fs.mu.Unlock()
}

// close closes all descriptors; nothing may use them any more.
func (fs *files) close() {
	fs.trim(0)
}

// count returns how many files are pinned.
func (fs *files) count() int {
	n := 0
	for i := range fs.shards {
		s := &fs.shards[i]
		s.mu.Lock()
		n += len(s.m)
		s.mu.Unlock()
	}
	return n
}

// hot reports whether a file may have been written to since it last came to rest, so that its backing file tells its size.
func (t *Tree) hot(ino sharefs.Ino) bool {
	return t.files.says(ino, func(f *file) bool { return f.hot })
}

// says asks a file with its mutex held; one that is not in the table says no.
func (fs *files) says(ino sharefs.Ino, ask func(f *file) bool) bool {
	f := fs.find(ino)
	if f == nil {
		return false
	}
	defer fs.unpin(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	return ask(f)
}
