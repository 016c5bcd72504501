package versions

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// stock hands out inode numbers, and backing files that were made before they are needed: making one on the disk is the dearest part
// of creating a file. Numbers are taken from the store in blocks, so that the row that says which may be in use is written seldom;
// what is left of a block when the daemon is killed is lost, which 2^64 of them bear.
type stock struct {
	t    *Tree
	wake chan struct{} // 1 deep: the stock runs low

	mu    sync.Mutex // guards all below; taken after Tree.mu
	next  sharefs.Ino
	limit sharefs.Ino // numbers below it are ours
	ready []prepared
	out   map[sharefs.Ino]struct{} // numbers of backing files that are being made, or taken and without a row yet
	made  bool                     // run is filling up

	blockMu sync.Mutex // held while a block is written; taken before Tree.mu
}

// prepared is an empty backing file and the inode that it will belong to.
type prepared struct {
	ino sharefs.Ino
	fd  int // read-only
}

const (
	inoBlock  = 4096
	firstIno  = sharefs.RootIno + 1
	stockSize = 256
	oldBlocks = 4 // blocks after which a prepared file is given up
)

// openStock reads where the numbers go on and removes backing files that were prepared and never used.
func openStock(t *Tree) (*stock, error) {
	s := &stock{t: t, wake: make(chan struct{}, 1), next: firstIno, limit: firstIno, out: map[sharefs.Ino]struct{}{}}
	b, ok, err := t.db.Get(spaceGlobal, globalInos)
	if err != nil {
		return nil, failed("open the store", err)
	}
	if !ok {
		return s, nil
	}
	if len(b) != 16 {
		return nil, corrupt("the row of inode numbers", 0)
	}
	low := sharefs.Ino(binary.BigEndian.Uint64(b))
	s.next = sharefs.Ino(binary.BigEndian.Uint64(b[8:]))
	s.limit = s.next
	if t.cfg.ReadOnly {
		return s, nil
	}
	for ino := low; ino < s.next; ino++ {
		_, ok, err := t.db.Get(spaceInode, inoKey(ino))
		if err != nil {
			return nil, failed("open the store", err)
		}
		if !ok {
			if err := t.live.remove(ino); err != nil {
				return nil, failed("remove an unused backing file", err)
			}
		}
	}
	return s, nil
}

// number returns an inode number that was never used. Tree.mu must not be held.
func (s *stock) number() (sharefs.Ino, error) { return s.draw(false) }

// draw returns a new number and, for a backing file, notes that it is being made.
func (s *stock) draw(backing bool) (sharefs.Ino, error) {
	for {
		s.mu.Lock()
		if s.next < s.limit {
			ino := s.next
			s.next++
			if backing {
				s.out[ino] = struct{}{}
			}
			s.mu.Unlock()
			return ino, nil
		}
		s.mu.Unlock()
		if err := s.block(); err != nil {
			return 0, err
		}
	}
}

// block takes another block of numbers.
func (s *stock) block() error {
	s.blockMu.Lock()
	defer s.blockMu.Unlock()
	s.mu.Lock()
	if s.next < s.limit {
		s.mu.Unlock()
		return nil // another one was first
	}
	// Files that have waited while many inodes of other types were made would let a start look at as many numbers.
	var old []prepared
	for len(s.ready) > 0 && s.ready[0].ino+oldBlocks*inoBlock < s.next {
		old = append(old, s.ready[0])
		s.out[s.ready[0].ino] = struct{}{}
		s.ready = s.ready[1:]
	}
	s.mu.Unlock()
	for _, p := range old {
		unix.Close(p.fd)
		if err := s.t.live.remove(p.ino); err != nil {
			return failed("remove an unused backing file", err) // it stays among those that are looked at
		}
		s.used(p)
	}
	s.mu.Lock()
	low, limit := s.lowest(), s.limit
	s.mu.Unlock()
	limit += inoBlock
	if err := s.write(low, limit); err != nil {
		return err
	}
	s.mu.Lock()
	s.limit = limit
	s.mu.Unlock()
	return nil
}

// lowest returns a number below which every backing file has a row; s.mu is held.
func (s *stock) lowest() sharefs.Ino {
	low := s.next
	for _, p := range s.ready {
		low = min(low, p.ino)
	}
	for ino := range s.out {
		low = min(low, ino)
	}
	return low
}

// write commits the row that says which numbers may be in use without a row of their own.
func (s *stock) write(low, limit sharefs.Ino) error {
	b := binary.BigEndian.AppendUint64(nil, uint64(low))
	b = binary.BigEndian.AppendUint64(b, uint64(limit))
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	x := s.t.begin()
	x.b.Put(spaceGlobal, globalInos, b)
	return x.commit()
}

// take returns a backing file, prepared where there is one; used or put must follow. Tree.mu must not be held.
func (s *stock) take() (prepared, error) {
	s.mu.Lock()
	var p prepared
	n := len(s.ready)
	if n > 0 {
		p = s.ready[0]
		s.ready = s.ready[1:]
		s.out[p.ino] = struct{}{}
	}
	low := n <= stockSize/2 && !s.made
	s.made = s.made || low
	s.mu.Unlock()
	if low {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	if n > 0 {
		return p, nil
	}
	return s.make()
}

// used tells that the inode of a backing file has its row.
func (s *stock) used(p prepared) {
	s.mu.Lock()
	delete(s.out, p.ino)
	s.mu.Unlock()
}

// put gives a backing file back that was not used.
func (s *stock) put(p prepared) {
	s.mu.Lock()
	delete(s.out, p.ino)
	s.ready = append([]prepared{p}, s.ready...)
	s.mu.Unlock()
}

func (s *stock) make() (prepared, error) {
	ino, err := s.draw(true)
	if err != nil {
		return prepared{}, err
	}
	fd, err := s.t.live.create(ino)
	if errors.Is(err, unix.EEXIST) {
		// The number was given out before a loss of power that took the row with it, but not the file.
		if err = s.t.live.remove(ino); err == nil {
			fd, err = s.t.live.create(ino)
		}
	}
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		s.t.files.trim(0)
		fd, err = s.t.live.create(ino)
	}
	if err != nil {
		s.used(prepared{ino: ino})
		return prepared{}, failed("make a backing file", err)
	}
	return prepared{ino, fd}, nil
}

// run fills the stock up whenever it runs low.
func (s *stock) run() {
	size := min(stockSize, int(s.t.files.limit/4))
	for {
		select {
		case <-s.t.stop:
			return
		case <-s.wake:
		}
		for full := false; !full; {
			p, err := s.make()
			if err != nil {
				// Whoever needs a file meets the same failure and reports it.
				s.t.log.Warn("no backing file could be prepared", "err", err)
				if !s.t.sleep(time.Second) {
					return
				}
				break
			}
			s.mu.Lock()
			delete(s.out, p.ino)
			s.ready = append(s.ready, p)
			full = len(s.ready) >= size
			s.mu.Unlock()
			select {
			case <-s.t.stop:
				return
			default:
			}
		}
		s.mu.Lock()
		s.made = false
		s.mu.Unlock()
	}
}

// discard removes what is left of the stock, at the end, when nothing else goes on.
func (s *stock) discard() error {
	s.close()
	s.mu.Lock()
	ready := s.ready
	s.ready = nil
	s.mu.Unlock()
	for _, p := range ready {
		if err := s.t.live.remove(p.ino); err != nil {
			return failed("remove an unused backing file", err) // the next start tries again
		}
	}
	if s.next == s.limit && len(ready) == 0 {
		return nil
	}
	if err := s.write(s.next, s.next); err != nil {
		return err
	}
	s.limit = s.next
	return nil
}

// close closes the descriptors of the stock.
func (s *stock) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.ready {
		if s.ready[i].fd >= 0 {
			unix.Close(s.ready[i].fd)
			s.ready[i].fd = -1
		}
	}
}

// owns reports whether a backing file without a row may lie there: because it is prepared or being used for the first time, or is left
// from before a loss of power that took the number back.
func (s *stock) owns(ino sharefs.Ino) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ino >= s.limit {
		return true
	}
	for _, p := range s.ready {
		if p.ino == ino {
			return true
		}
	}
	_, ok := s.out[ino]
	return ok
}

// sleep waits and reports false if the tree is being closed.
func (t *Tree) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.stop:
		return false
	case <-timer.C:
		return true
	}
}
