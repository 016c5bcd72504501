package esp

import (
	"errors"
	"slices"
)

// seg is a run of received stream bytes. buf is the memory they lie in, nil when they have their own.
type seg struct {
	off  uint64
	data []byte
	buf  *rbuf
}

func (g *seg) end() uint64 { return g.off + uint64(len(g.data)) }

func (g *seg) release() {
	if g.buf != nil {
		g.buf.release()
		g.buf = nil
	}
	g.data = nil
}

// recvQueue puts the bytes of a stream back in order. The session's lock guards it.
type recvQueue struct {
	ready []seg  // in order, for Read to take
	next  uint64 // everything below has been put into ready
	high  uint64 // one past the highest offset seen
	ahead []seg  // beyond a gap: sorted by offset, disjoint
	first int    // ahead[:first] is gone
	gaps  int    // gaps between and before the runs of ahead

	final    uint64 // length of the stream, once known
	hasFinal bool
}

var (
	errFinalSize = errors.New("esp: the end of a stream moved")
	errTooMany   = errors.New("esp: too many gaps in a stream")
)

// setFinal notes the length of the stream.
func (q *recvQueue) setFinal(n uint64) error {
	if q.hasFinal && q.final != n || n < q.high {
		return errFinalSize
	}
	q.final, q.hasFinal = n, true
	return nil
}

// eof reports whether all bytes up to the end have been put into ready.
func (q *recvQueue) eof() bool { return q.hasFinal && q.next == q.final }

// insert takes data, which lie in buf (nil: the queue copies them). It returns how much the highest offset rose.
// errTooMany leaves the queue as it was: the packet must not be acknowledged. Where own is set the bytes are copied,
// so that buf is not held for long.
func (q *recvQueue) insert(off uint64, data []byte, buf *rbuf, own bool) (grown uint64, err error) {
	end := off + uint64(len(data))
	if q.hasFinal && end > q.final {
		return 0, errFinalSize
	}
	if end <= q.next || len(data) == 0 {
		return 0, nil
	}
	if off < q.next {
		data = data[q.next-off:]
		off = q.next
	}
	if off == q.next && q.first == len(q.ahead) {
		q.deliver(seg{off: off, data: data, buf: buf}, own)
	} else if err := q.insertAhead(off, data, buf, own); err != nil {
		return 0, err
	}
	if end > q.high {
		grown = end - q.high
		q.high = end
	}
	return grown, nil
}

// deliver appends g, which begins at next, to ready.
func (q *recvQueue) deliver(g seg, own bool) {
	q.next = g.end()
	if own {
		// Short pieces gather in a buffer of their own.
		if n := len(q.ready); n > 0 && q.ready[n-1].buf == nil && cap(q.ready[n-1].data)-len(q.ready[n-1].data) >= len(g.data) {
			q.ready[n-1].data = append(q.ready[n-1].data, g.data...)
			return
		}
		q.ready = append(q.ready, seg{off: g.off, data: copyShort(g.data)})
		return
	}
	g.hold()
	q.ready = append(q.ready, g)
}

func (g *seg) hold() {
	if g.buf != nil {
		g.buf.retain()
	} else {
		g.data = slices.Clone(g.data)
	}
}

// copyShort copies b into memory with some room to grow.
func copyShort(b []byte) []byte {
	return append(make([]byte, 0, max(len(b), 512)), b...)
}

// insertAhead takes bytes that lie beyond a gap, or fill one.
func (q *recvQueue) insertAhead(off uint64, data []byte, buf *rbuf, own bool) error {
	live := q.ahead[q.first:]
	end := off + uint64(len(data))
	// i is the first run that ends behind off.
	i, _ := slices.BinarySearchFunc(live, off, func(g seg, off uint64) int {
		if g.end() <= off {
			return -1
		}
		return 1
	})
	// One more gap at most comes from a new run; refuse it before anything is changed.
	if q.gaps >= outOfOrderRanges && off != q.next && (i == 0 || live[i-1].end() < off) && (i == len(live) || live[i].off > end) {
		return errTooMany
	}
	var add []seg
	at := i
	for cur := off; cur < end; {
		stop := end
		if i < len(live) {
			stop = min(end, live[i].off)
		}
		if cur < stop {
			g := seg{off: cur, data: data[cur-off : stop-off], buf: buf}
			if own {
				g.buf = nil
			}
			g.hold()
			add = append(add, g)
		}
		if i == len(live) || live[i].off >= end {
			break
		}
		add = append(add, live[i]) // keeps its place between the new pieces
		cur = live[i].end()
		i++
	}
	before := q.countGaps(q.first+at, q.first+i)
	q.ahead = slices.Replace(q.ahead, q.first+at, q.first+i, add...)
	q.gaps += q.countGaps(q.first+at, q.first+at+len(add)) - before
	q.drain()
	return nil
}

// countGaps counts the gaps that lie directly before ahead[from] to ahead[to], the latter included if there is one.
func (q *recvQueue) countGaps(from, to int) (n int) {
	for i := from; i <= to && i < len(q.ahead); i++ {
		at := q.next
		if i > q.first {
			at = q.ahead[i-1].end()
		}
		if q.ahead[i].off != at {
			n++
		}
	}
	return n
}

// drain moves what has become contiguous to ready.
func (q *recvQueue) drain() {
	for q.first < len(q.ahead) && q.ahead[q.first].off == q.next {
		g := q.ahead[q.first]
		q.ahead[q.first] = seg{}
		q.first++
		q.next = g.end()
		q.ready = append(q.ready, g)
	}
	if q.first == len(q.ahead) {
		q.ahead, q.first = q.ahead[:0], 0
	} else if q.first > 256 && q.first > len(q.ahead)/2 {
		n := copy(q.ahead, q.ahead[q.first:])
		clear(q.ahead[n:])
		q.ahead, q.first = q.ahead[:n], 0
	}
}

// takeAll hands over what is ready.
func (q *recvQueue) takeAll(into []seg) []seg {
	into = append(into, q.ready...)
	clear(q.ready)
	q.ready = q.ready[:0]
	return into
}

// drop frees everything.
func (q *recvQueue) drop() {
	for i := range q.ready {
		q.ready[i].release()
	}
	for i := q.first; i < len(q.ahead); i++ {
		q.ahead[i].release()
	}
	q.ready, q.ahead, q.first, q.gaps = nil, nil, 0, 0
}
