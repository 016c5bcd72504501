package esp

import (
	"sort"

	"sharefs/esp/internal/interval"
)

// sendQueue holds what was written to a stream until the peer has acknowledged it. Offsets are those of the stream.
// The session's lock guards it.
//
//	base ≤ next ≤ end      acknowledged without a gap ≤ sent once ≤ written
type sendQueue struct {
	chunks []*chunk // oldest first; chunks[0] holds base
	head   int      // chunks before it are gone
	base   uint64
	next   uint64
	end    uint64
	acked  interval.Set // above base
	lost   interval.Set // sent, and to be sent again

	fin      bool // nothing will be written any more
	finSent  bool
	finLost  bool
	finAcked bool
}

// tail returns the last chunk if it has room for n more bytes.
func (q *sendQueue) tail(n int) *chunk {
	if len(q.chunks) == q.head {
		return nil
	}
	if c := q.chunks[len(q.chunks)-1]; cap(c.data)-len(c.data) >= n {
		return c
	}
	return nil
}

// push appends c, which the queue owns from now on. Bytes that fit into the last chunk are copied there, so that many
// short writes do not hold a chunk each.
func (q *sendQueue) push(c *chunk) {
	n := len(c.data)
	if t := q.tail(n); t != nil && n <= cap(c.data)/2 {
		t.data = append(t.data, c.data...)
		q.end += uint64(n)
		c.free()
		return
	}
	c.off = q.end
	q.end += uint64(n)
	if q.head > 0 && len(q.chunks) == cap(q.chunks) {
		q.chunks = q.chunks[:copy(q.chunks, q.chunks[q.head:])]
		q.head = 0
	}
	q.chunks = append(q.chunks, c)
}

// pushBytes appends a copy of b, which is short.
func (q *sendQueue) pushBytes(b []byte) {
	c := q.tail(len(b))
	if c == nil {
		c = newChunk(len(b))
		c.off = q.end
		q.chunks = append(q.chunks, c)
	}
	c.data = append(c.data, b...)
	q.end += uint64(len(b))
}

// buffered is how many bytes wait for an acknowledgement or to be sent at all.
func (q *sendQueue) buffered() int { return int(q.end - q.base) }

// unsent is how many bytes were never sent.
func (q *sendQueue) unsent() int { return int(q.end - q.next) }

// pending reports whether there is anything to send, given that offsets from limit on may not be sent yet.
func (q *sendQueue) pending(limit uint64) bool {
	return !q.lost.Empty() || q.finLost || q.next < q.end && q.next < limit || q.finDue()
}

// finDue reports whether a FIN is to be sent for the first time, together with the last byte or alone.
func (q *sendQueue) finDue() bool { return q.fin && !q.finSent && q.next == q.end }

// done reports whether the peer has everything, the end included.
func (q *sendQueue) done() bool { return q.finAcked && q.base == q.end }

// peek says what would be sent next: n bytes from off on, at most limit. fresh tells that they were never sent. n may
// be 0 where only fin is due; ok is false when nothing is.
func (q *sendQueue) peek(limit uint64) (off, n uint64, fresh, ok bool) {
	if !q.lost.Empty() {
		r := q.lost.At(0)
		return r.Start, r.Len(), false, true
	}
	if q.finLost {
		return q.end, 0, false, true
	}
	if end := min(q.end, limit); q.next < end {
		return q.next, end - q.next, true, true
	}
	if q.finDue() {
		return q.end, 0, true, true
	}
	return 0, 0, false, false
}

// take marks n bytes from off on as sent, as peek offered them, and reports whether the FIN rides with them.
func (q *sendQueue) take(off, n uint64) (fin bool) {
	if off == q.next && n > 0 {
		q.next += n
	} else if n > 0 {
		q.lost.Remove(off, off+n)
	}
	if q.fin && off+n == q.end && (!q.finSent || q.finLost || n == 0) {
		q.finSent, q.finLost = true, false
		return true
	}
	return false
}

// copyTo fills dst with the bytes from off on, which the queue must still hold.
func (q *sendQueue) copyTo(dst []byte, off uint64) {
	live := q.chunks[q.head:]
	i := 0
	if len(live) > 1 && off >= live[0].off+uint64(len(live[0].data)) {
		i = sort.Search(len(live), func(i int) bool { return live[i].off+uint64(len(live[i].data)) > off })
	}
	for len(dst) > 0 {
		c := live[i]
		n := copy(dst, c.data[off-c.off:])
		dst = dst[n:]
		off += uint64(n)
		i++
	}
}

// direct looks for a large chunk to seal straight from. It returns how much of the n bytes from off on to send in one
// packet: all of the chunk that begins there, which it returns if nobody else seals from it; else not beyond the
// beginning of the next large chunk.
func (q *sendQueue) direct(off, n uint64) (uint64, *chunk) {
	live := q.chunks[q.head:]
	i := sort.Search(len(live), func(i int) bool { return live[i].off+uint64(len(live[i].data)) > off })
	if i == len(live) {
		return n, nil
	}
	if c := live[i]; c.off == off && len(c.data) >= directMin && uint64(len(c.data)) <= n {
		n = uint64(len(c.data))
		// An encoder that found too little room has put the data elsewhere.
		if c.refs == 1 && &c.data[0] == &c.mem[chunkHead] {
			return n, c
		}
		return n, nil
	}
	for i++; i < len(live) && live[i].off < off+n; i++ {
		if len(live[i].data) >= directMin {
			return live[i].off - off, nil
		}
	}
	return n, nil
}

// ack notes that the peer has n bytes from off on, and the FIN. It returns how many bytes left the buffer.
func (q *sendQueue) ack(off, n uint64, fin bool) (freed int) {
	if fin {
		q.finAcked, q.finLost = true, false
	}
	end := off + n
	if end <= q.base {
		return 0
	}
	off = max(off, q.base)
	if !q.lost.Empty() {
		q.lost.Remove(off, end)
	}
	old := q.base
	if off == q.base {
		q.base = end
		for !q.acked.Empty() && q.acked.At(0).Start <= q.base {
			q.base = max(q.base, q.acked.At(0).End)
			q.acked.RemoveBelow(q.base)
		}
		q.release()
	} else {
		q.acked.Add(off, end)
	}
	return int(q.base - old)
}

// release frees the chunks below base.
func (q *sendQueue) release() {
	for q.head < len(q.chunks) {
		c := q.chunks[q.head]
		if c.off+uint64(len(c.data)) > q.base {
			break
		}
		c.free()
		q.chunks[q.head] = nil
		q.head++
	}
	if q.head == len(q.chunks) {
		q.chunks, q.head = q.chunks[:0], 0
	}
}

// lose notes that a packet with n bytes from off on, and perhaps the FIN, was lost: what is not acknowledged yet is
// to be sent again.
func (q *sendQueue) lose(off, n uint64, fin bool) {
	if fin && !q.finAcked {
		q.finLost = true
	}
	end := off + n
	off = max(off, q.base)
	if off >= end {
		return
	}
	if q.acked.Empty() {
		q.lost.Add(off, end)
		return
	}
	for r := range q.acked.Gaps(off, end) {
		q.lost.Add(r.Start, r.End)
	}
}

// drop frees everything: the stream was reset.
func (q *sendQueue) drop() {
	for _, c := range q.chunks[q.head:] {
		c.free()
	}
	q.chunks, q.head = nil, 0
	q.lost.Clear()
	q.acked.Clear()
	q.base, q.next = q.end, q.end
	q.finLost = false
}
