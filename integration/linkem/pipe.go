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
	joined  bool // packets come joined, behind a header
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
	at      time.Duration
	seq     uint64
	data    []byte
	packets uint64 // that are joined in it
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

// Buffers for what is under way: for a packet of a common MTU, and for any.
const (
	roomSmall = 2048
	roomLarge = vnetHeader + maxPacket
)

var small, large = sync.Pool{New: func() any { return new([roomSmall]byte) }}, sync.Pool{New: func() any { return new([roomLarge]byte) }}

func getBuffer(p []byte) []byte {
	if len(p) <= roomSmall {
		return append(small.Get().(*[roomSmall]byte)[:0], p...)
	}
	return append(large.Get().(*[roomLarge]byte)[:0], p...)
}

func putBuffer(b []byte) {
	if cap(b) == roomSmall {
		small.Put((*[roomSmall]byte)(b[:roomSmall]))
	} else {
		large.Put((*[roomLarge]byte)(b[:roomLarge]))
	}
}

// read takes packets from the host, until its device is closed.
func (p *pipe) read() {
	buf := make([]byte, roomLarge)
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
	packets, bytes, ip := 1, len(data), data
	if p.joined {
		if packets, bytes = onWire(data); packets == 0 {
			return
		}
		ip = data[vnetHeader:]
	}
	p.link.tapped(p.toward, now, ip)
	c := p.cond.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := uint64(packets)
	p.stats.Packets += n
	p.stats.Bytes += uint64(bytes)
	at, twice, f := p.shaper.admit(now, bytes, c)
	if f == fateDeliver && len(p.flight) >= maxFlight {
		f = fateOverflow
	}
	switch f {
	case fateLost:
		p.stats.Lost += n
	case fateOverflow:
		p.stats.Overflowed += n
	case fateTooBig:
		p.stats.TooBig += n
	case fateDown:
		p.stats.WhileDown += n
	case fateDeliver:
		p.push(at, data, n)
		if twice > 0 {
			p.stats.Duplicated += n
			p.push(twice, data, n)
		}
	}
}

// push puts a packet on its way. p.mu is held.
func (p *pipe) push(at time.Duration, data []byte, packets uint64) {
	p.seq++
	heap.Push(&p.flight, packet{at, p.seq, getBuffer(data), packets})
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
	var due []packet
	for {
		p.mu.Lock()
		now := time.Since(p.origin)
		for len(p.flight) > 0 && p.flight[0].at <= now && len(due) < 64 {
			due = append(due, heap.Pop(&p.flight).(packet))
		}
		wait := time.Duration(-1)
		if len(p.flight) > 0 {
			wait = p.flight[0].at - now
		}
		if p.cond.Load().Down {
			for i := range due {
				p.stats.WhileDown += due[i].packets
				putBuffer(due[i].data)
			}
			due = due[:0]
		}
		for i := range due {
			p.stats.Delivered += due[i].packets
		}
		p.mu.Unlock()

		if len(due) > 0 {
			for i := range due {
				_, _ = p.out.Write(due[i].data) // a device that is down drops it, as it should
				putBuffer(due[i].data)
				due[i] = packet{}
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
