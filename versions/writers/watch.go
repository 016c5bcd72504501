package writers

import (
	"encoding/binary"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"sharefs"
)

// watches is one inotify descriptor for all files, and one goroutine that reads it.
type watches struct {
	file  *os.File // the inotify descriptor, non-blocking, so that closing it ends the reader; nil where there is none
	fd    int
	open  func(sharefs.Ino) (int, error)
	queue chan hint
	done  chan struct{}
	ended sync.WaitGroup

	mu   sync.Mutex // guards the maps
	byID map[sharefs.Ino]int32
	byWD map[int32]sharefs.Ino
}

// newWatches starts an inotify instance. Where none is to be had (max_user_instances) every watch fails with the error.
func newWatches(open func(sharefs.Ino) (int, error)) (*watches, error) {
	w := &watches{
		fd: -1, open: open,
		queue: make(chan hint, 64), done: make(chan struct{}),
		byID: map[sharefs.Ino]int32{}, byWD: map[int32]sharefs.Ino{},
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return w, err
	}
	w.fd, w.file = fd, os.NewFile(uintptr(fd), "inotify")
	w.ended.Go(w.read)
	return w, nil
}

func (w *watches) watch(id sharefs.Ino, writes bool) error {
	if w.file == nil {
		return unix.ENOSYS
	}
	fd, err := w.open(id)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	mask := uint32(unix.IN_CLOSE_WRITE)
	if writes {
		mask |= unix.IN_MODIFY | unix.IN_ATTRIB
	}
	// By way of the descriptor: the inode is watched whatever becomes of its name. The reader resolves a watch descriptor under
	// the same lock, so an event that comes at once finds its file.
	w.mu.Lock()
	defer w.mu.Unlock()
	wd, err := unix.InotifyAddWatch(w.fd, "/proc/self/fd/"+strconv.Itoa(fd), mask)
	if err != nil {
		return err
	}
	if old, ok := w.byID[id]; ok && old != int32(wd) {
		// The number has another inode behind it than before.
		w.drop(id, old)
	}
	w.byID[id], w.byWD[int32(wd)] = int32(wd), id
	return nil
}

func (w *watches) unwatch(id sharefs.Ino) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if wd, ok := w.byID[id]; ok {
		w.drop(id, wd)
	}
}

// drop ends a watch; w.mu is held. EINVAL, where the kernel has ended it because the inode is gone, is as good.
func (w *watches) drop(id sharefs.Ino, wd int32) {
	delete(w.byID, id)
	delete(w.byWD, wd)
	unix.InotifyRmWatch(w.fd, uint32(wd))
}

func (w *watches) hints() <-chan hint { return w.queue }

func (w *watches) close() {
	close(w.done)
	if w.file != nil {
		w.mu.Lock()
		w.fd = -1 // the number may soon be another's
		w.file.Close()
		w.mu.Unlock()
	}
	w.ended.Wait()
}

// read hands on events until the descriptor is closed. Blocking on a full queue is right: the kernel's own queue then fills, which
// is an overflow that it reports.
func (w *watches) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		for _, h := range w.decode(buf[:n]) {
			select {
			case w.queue <- h:
			case <-w.done:
				return
			}
		}
	}
}

// decode turns inotify(7) records (wd, mask, cookie, len, each 32 bits, then len bytes of name) into hints, one for each file and kind.
func (w *watches) decode(b []byte) []hint {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []hint
	seen := map[hint]bool{}
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		name := int(binary.NativeEndian.Uint32(b[12:]))
		if name > len(b)-unix.SizeofInotifyEvent {
			return append(out, hint{lost: true})
		}
		b = b[unix.SizeofInotifyEvent+name:]
		var h hint
		switch id, ok := w.byWD[wd]; {
		case mask&unix.IN_Q_OVERFLOW != 0:
			h.lost = true
		case !ok:
			continue // an event from before unwatch
		case mask&unix.IN_IGNORED != 0:
			// The inode was deleted and the kernel ended the watch: a probe finds out that it is gone.
			delete(w.byWD, wd)
			delete(w.byID, id)
			h.id = id
		default:
			h.id, h.write = id, mask&(unix.IN_MODIFY|unix.IN_ATTRIB) != 0
		}
		if !seen[h] {
			seen[h] = true
			out = append(out, h)
		}
	}
	return out
}
