//go:build linux

package linkem

import (
	"container/heap"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// pipe is one direction of a link.
type pipe struct {
	in, out io.ReadWriteCloser
	origin  time.Time
	shaper  *shaper
	toward  *Host
	link    *Link

	cond atomic.Pointer[Conditions]

	mu     sync.Mutex
	flight flight // guarded by mu: packets under way
	seq    uint64 // guarded by mu
	stats  Stats  // guarded by mu

	wake chan struct{} // the earliest packet under way is a new one
	done chan struct{} // closed by Net.Close
}

// packet is under way until its time has come.
type packet struct {
	at   time.Duration
	seq  uint64
	data []byte
}

type flight []packet

func (f flight) Len() int { return len(f) }
func (f flight) Less(i, j int) bool {
	return f[i].at < f[j].at || f[i].at == f[j].at && f[i].seq < f[j].seq
}
func (f flight) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flight) Push(x any)   { *f = append(*f, x.(packet)) }
func (f *flight) Pop() any {
	old := *f
	p := old[len(old)-1]
	old[len(old)-1] = packet{}
	*f = old[:len(old)-1]
	return p
}

const maxPacket = 65535

// maxFlight bounds the memory of a link without a rate: packets beyond it overflow.
const maxFlight = 64 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, 2048); return &b }}

func getBuffer(p []byte) []byte {
	if len(p) > 2048 {
		return append([]byte(nil), p...)
	}
	b := *buffers.Get().(*[]byte)
	return b[:copy(b[:2048], p)]
}

func putBuffer(b []byte) {
	if cap(b) == 2048 {
		b = b[:2048]
		buffers.Put(&b)
	}
}

// read takes packets from the host, until its device is closed.
func (p *pipe) read() {
	buf := make([]byte, maxPacket)
	for {
		n, err := p.in.Read(buf)
		if err != nil {
			return
		}
		p.admit(buf[:n])
	}
}

func (p *pipe) admit(data []byte) {
	now := time.Since(p.origin)
	p.link.tapped(p.toward, now, data)
	c := p.cond.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Packets++
	p.stats.Bytes += uint64(len(data))
	at, twice, f := p.shaper.admit(now, len(data), c)
	if f == fateDeliver && len(p.flight) >= maxFlight {
		f = fateOverflow
	}
	switch f {
	case fateLost:
		p.stats.Lost++
	case fateOverflow:
		p.stats.Overflowed++
	case fateTooBig:
		p.stats.TooBig++
	case fateDown:
		p.stats.WhileDown++
	case fateDeliver:
		p.push(at, data)
		if twice > 0 {
			p.stats.Duplicated++
			p.push(twice, data)
		}
	}
}

// push puts a packet on its way. p.mu is held.
func (p *pipe) push(at time.Duration, data []byte) {
	p.seq++
	heap.Push(&p.flight, packet{at, p.seq, getBuffer(data)})
	if p.flight[0].seq == p.seq {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// coarse is what a timer of the Go runtime may be late by; shorter waits are slept by the kernel, which is exact to
// some 50 µs.
const coarse = 1500 * time.Microsecond

// deliver hands the packets to the other host when their time has come, until the link is closed.
func (p *pipe) deliver() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var due [][]byte
	for {
		p.mu.Lock()
		now := time.Since(p.origin)
		for len(p.flight) > 0 && p.flight[0].at <= now && len(due) < 64 {
			due = append(due, heap.Pop(&p.flight).(packet).data)
		}
		wait := time.Duration(-1)
		if len(p.flight) > 0 {
			wait = p.flight[0].at - now
		}
		if p.cond.Load().Down {
			p.stats.WhileDown += uint64(len(due))
			for _, b := range due {
				putBuffer(b)
			}
			due = due[:0]
		}
		p.stats.Delivered += uint64(len(due))
		p.mu.Unlock()

		if len(due) > 0 {
			for i, b := range due {
				_, _ = p.out.Write(b) // a device that is down drops it, as it should
				putBuffer(b)
				due[i] = nil
			}
			due = due[:0]
			continue
		}
		switch {
		case wait < 0:
			select {
			case <-p.wake:
			case <-p.done:
				return
			}
		case wait <= coarse:
			ts := unix.NsecToTimespec(int64(wait))
			_ = unix.Nanosleep(&ts, nil) // woken early, it looks again
			select {
			case <-p.done:
				return
			default:
			}
		default:
			timer.Reset(wait - coarse/2)
			select {
			case <-timer.C:
			case <-p.wake:
			case <-p.done:
				return
			}
		}
	}
}
