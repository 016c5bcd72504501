package fs

import (
	"sync"
	"sync/atomic"

	"sharefs"
	"sharefs/fs/device"
)

// entryQueue sends the notifications that drop a name. The kernel takes the directory's lock for them, which a
// program may hold until one of its requests is answered; so they never go out from the goroutine that caused them.
type entryQueue struct {
	conn *device.Conn
	sent atomic.Uint64

	mu    sync.Mutex // guards what follows
	more  sync.Cond
	names []entryName
	ended bool
}

type entryName struct {
	parent sharefs.Ino
	name   string
}

func (q *entryQueue) init(conn *device.Conn) {
	q.conn = conn
	q.more.L = &q.mu
	go q.run()
}

func (q *entryQueue) add(parent sharefs.Ino, name string) {
	q.mu.Lock()
	q.names = append(q.names, entryName{parent, name})
	q.mu.Unlock()
	q.more.Signal()
}

func (q *entryQueue) close() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.more.Signal()
}

func (q *entryQueue) run() {
	for {
		q.mu.Lock()
		for len(q.names) == 0 && !q.ended {
			q.more.Wait()
		}
		names := q.names
		q.names = nil
		ended := q.ended
		q.mu.Unlock()
		if ended {
			return
		}
		for _, n := range names {
			q.sent.Add(1)
			q.conn.InvalidateEntry(uint64(n.parent), n.name)
		}
	}
}
