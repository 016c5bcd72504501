package esp

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"sharefs/esp/internal/udpio"
)

// rbuf is received memory. Packets are decrypted in place in it, and the streams hold on to it until a Read has
// copied the bytes out, which is the one copy on the way in. It goes back to its pool with the last reference.
type rbuf struct {
	refs  atomic.Int32
	batch *udpio.Batch // of a UDP socket
	mem   []byte       // of a TCP link
}

// linkBuffer is the receive buffer of a TCP link: four full records, so that in a bulk transfer hardly anything of a
// fifth must be moved over to the next buffer.
const linkBuffer = 4 * maxLinkPacket

var (
	batchPool = sync.Pool{New: func() any { return &rbuf{batch: udpio.NewBatch(1)} }}
	linkPool  = sync.Pool{New: func() any { return &rbuf{mem: make([]byte, linkBuffer)} }}
)

func newBatchBuf() *rbuf {
	b := batchPool.Get().(*rbuf)
	b.refs.Store(1)
	return b
}

func newLinkBuf() *rbuf {
	b := linkPool.Get().(*rbuf)
	b.refs.Store(1)
	return b
}

func (b *rbuf) retain() { b.refs.Add(1) }

// alone reports whether the caller's is the only reference, so that it may fill the buffer again.
func (b *rbuf) alone() bool { return b.refs.Load() == 1 }

func (b *rbuf) release() {
	if n := b.refs.Add(-1); n > 0 {
		return
	} else if n < 0 {
		panic("esp: receive buffer released twice")
	}
	if b.batch != nil {
		batchPool.Put(b)
	} else {
		linkPool.Put(b)
	}
}

// chunk is a piece of the send buffer of a stream: encoded records that wait to be sent or acknowledged. data grows
// at its end only, under the session's lock, so that what is already there may be read by who builds packets.
type chunk struct {
	off  uint64 // stream offset of data[0]
	data []byte // mem[chunkHead:]
	mem  []byte
	refs int // of the queue and of the batches that seal straight from it; guarded by the session's lock
}

const (
	// writePiece is how much of a Write becomes one record at least, when the Write is that long.
	writePiece = 64 << 10

	// chunkHead is room before the data for the frames that precede them in a record, which is then sealed straight
	// from the chunk.
	chunkHead = 64

	chunkSmall  = 2 << 10
	chunkMiddle = 16 << 10
	chunkLarge  = writePiece + 128 // record.Room(writePiece), rounded up
)

var chunkPools = [3]sync.Pool{
	{New: func() any { return &chunk{mem: make([]byte, chunkHead+chunkSmall)} }},
	{New: func() any { return &chunk{mem: make([]byte, chunkHead+chunkMiddle)} }},
	{New: func() any { return &chunk{mem: make([]byte, chunkHead+chunkLarge)} }},
}

func chunkClass(n int) int {
	switch {
	case n <= chunkSmall:
		return 0
	case n <= chunkMiddle:
		return 1
	}
	return 2
}

// newChunk returns an empty chunk with room for at least n bytes, n up to chunkLarge.
func newChunk(n int) *chunk {
	c := chunkPools[chunkClass(n)].Get().(*chunk)
	c.data = c.mem[chunkHead:chunkHead]
	c.off, c.refs = 0, 1
	return c
}

// free gives up one reference.
func (c *chunk) free() {
	if c.refs--; c.refs == 0 {
		chunkPools[chunkClass(len(c.mem)-chunkHead)].Put(c)
	}
}

// outPacket is one packet of a sendBatch.
type outPacket struct {
	start, end int // in buf; end without the tag
	pn         uint64
	direct     *chunk // the plain text lies in this chunk, chunkHead and below; nil: in buf
	head       int    // how many bytes of it lie before the chunk's data
}

// sendBatch is what one system call sends on one path: packets end to end, all of the same size but the last.
type sendBatch struct {
	buf    []byte
	pkts   []outPacket
	seg    int
	key    *epochKey
	paced  int64 // bytes that count for the pacer
	nonce  nonceBuf
	skip   int            // bytes of buf that were written already, on a TCP path
	remote netip.AddrPort // where it goes, and from which of our addresses
	local  netip.Addr

	probe     bool // it is one packet that tests a larger PMTU
	eliciting bool // of the last packet: it asks for an ACK
	carried   sent // what the last packet carries
}

const sendBuffer = 72 << 10 // more than 64 KiB of packets (the kernel's bound for one send) and more than one TCP record

var sendPool = sync.Pool{New: func() any {
	return &sendBatch{buf: make([]byte, 0, sendBuffer), pkts: make([]outPacket, 0, 64)}
}}

func newSendBatch() *sendBatch {
	b := sendPool.Get().(*sendBatch)
	b.buf, b.pkts, b.seg, b.key, b.paced, b.skip, b.probe = b.buf[:0], b.pkts[:0], 0, nil, 0, 0, false
	return b
}

func (b *sendBatch) free() {
	b.key, b.carried = nil, sent{}
	sendPool.Put(b)
}
