package fs

import (
	"container/list"
	"sync"

	"golang.org/x/sys/unix"

	"sharefs"
)

// registrar is the kernel's side of passthrough; [device.Conn] in earnest.
type registrar interface {
	OpenBacking(fd int) (int32, error)
	CloseBacking(id int32) error
}

// backings keeps the registrations of backing files. The kernel wants that all who have a file open at a time use one
// id, or an open fails with EIO; so each inode has one, counted. After the last close it stays registered for a
// while, as many files are opened again soon, and the registration pins nothing but the file: a bounded number of
// them, the least recently used goes first.
type backings struct {
	kernel registrar
	shards [backingShards]backingShard
}

const (
	backingShards = 64
	// idleBackings is kept by each shard: 4,096 files in all that the kernel holds with nobody using them.
	idleBackings = 64
)

type backingShard struct {
	mu   sync.Mutex // guards what follows, across the calls of the kernel for its inodes
	ids  map[sharefs.Ino]*backing
	idle list.List // of *backing without users, least recently used first
}

type backing struct {
	ino   sharefs.Ino
	id    int32
	users int
	place *list.Element // in idle, while there are no users
}

func (b *backings) init(kernel registrar) {
	b.kernel = kernel
	for i := range b.shards {
		b.shards[i].ids = make(map[sharefs.Ino]*backing)
		b.shards[i].idle.Init()
	}
}

func (b *backings) shard(ino sharefs.Ino) *backingShard { return &b.shards[ino%backingShards] }

// acquire returns the inode's id and counts a user; openPath is called where there is none yet, for a descriptor to
// register, which is closed then.
func (b *backings) acquire(ino sharefs.Ino, openPath func() (fd int, err error)) (int32, error) {
	s := b.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.ids[ino]
	if e == nil {
		fd, err := openPath()
		if err != nil {
			return 0, err
		}
		id, err := b.kernel.OpenBacking(fd)
		unix.Close(fd)
		if err != nil {
			return 0, &sharefs.Error{Op: "register for passthrough", Err: err}
		}
		e = &backing{ino: ino, id: id}
		s.ids[ino] = e
	}
	if e.place != nil {
		s.idle.Remove(e.place)
		e.place = nil
	}
	e.users++
	return e.id, nil
}

// release takes one user away.
func (b *backings) release(ino sharefs.Ino) {
	s := b.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.ids[ino]
	if e == nil || e.users == 0 {
		return
	}
	if e.users--; e.users > 0 {
		return
	}
	e.place = s.idle.PushBack(e)
	if s.idle.Len() > idleBackings {
		b.remove(s, s.idle.Front().Value.(*backing))
	}
}

// drop gives up the inode's registration unless it has users, and reports whether there is none.
func (b *backings) drop(ino sharefs.Ino) bool {
	s := b.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.ids[ino]
	switch {
	case e == nil:
		return true
	case e.users > 0:
		return false
	}
	b.remove(s, e)
	return true
}

func (b *backings) remove(s *backingShard, e *backing) {
	b.kernel.CloseBacking(e.id)
	s.idle.Remove(e.place)
	delete(s.ids, e.ino)
}

// count tells how many registrations there are, and how many of them are idle.
func (b *backings) count() (all, idle int) {
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		all += len(s.ids)
		idle += s.idle.Len()
		s.mu.Unlock()
	}
	return all, idle
}
