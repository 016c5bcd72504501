// Package pace holds the bytes that go to peers and come from them to so many a second: for each peer a token bucket each way, which all streams of the peer share.
//
// What is written goes out in pieces of about a tenth of a second's worth, and what comes is read in such pieces. So what is limited never waits in the transport, where it would hold up
// what is not, and a limit that changes counts within a moment.
package pace

import (
	"context"
	"io"
	"sync"

	"sharefs"
)

// Pacer has the buckets of all peers. Its methods may be called by several goroutines at once; a nil Pacer holds up nobody.
type Pacer struct {
	rates func(peer sharefs.PeerID) (up, down uint64)

	mu    sync.Mutex // guards what follows
	peers map[sharefs.PeerID]*[2]Bucket
}

// Ways that bytes go.
const (
	up = iota
	down
)

// New makes a pacer. Rates says how many bytes a second may go to a peer, and come from it, as of now; 0: as many as can.
func New(rates func(peer sharefs.PeerID) (up, down uint64)) *Pacer {
	return &Pacer{rates: rates, peers: map[sharefs.PeerID]*[2]Bucket{}}
}

// of returns the rate of a peer one way as of now, in bytes a second, and its bucket.
func (p *Pacer) of(peer sharefs.PeerID, way int) (rate float64, b *Bucket) {
	u, d := p.rates(peer)
	rate = float64([2]uint64{u, d}[way])
	if rate == 0 {
		return 0, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	both := p.peers[peer]
	if both == nil {
		both = new([2]Bucket)
		p.peers[peer] = both
	}
	return rate, &both[way]
}

// Down returns the rate at which a peer's bytes are read, in bytes a second; 0: as fast as they come.
func (p *Pacer) Down(peer sharefs.PeerID) uint64 {
	if p == nil {
		return 0
	}
	_, d := p.rates(peer)
	return d
}

// Sizes of pieces, in bytes, and how much of a second's worth they are.
const (
	leastPiece = 1 << 10
	mostPiece  = 64 << 10
	pieces     = 10 // in a second
)

func piece(rate float64) int { return int(min(max(rate/pieces, leastPiece), mostPiece)) }

// Writer returns a writer to a peer that holds to its rate. Its Write waits, and errors with that of the context once that ends.
func (p *Pacer) Writer(ctx context.Context, peer sharefs.PeerID, w io.Writer) io.Writer {
	if p == nil {
		return w
	}
	return &writer{p, ctx, peer, w}
}

type writer struct {
	p    *Pacer
	ctx  context.Context
	peer sharefs.PeerID
	w    io.Writer
}

func (w *writer) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		part := b
		if rate, bucket := w.p.of(w.peer, up); rate > 0 {
			part = b[:min(len(b), piece(rate))]
			if err = bucket.Spend(w.ctx, float64(len(part)), rate); err != nil {
				return n, err
			}
		}
		var m int
		m, err = w.w.Write(part)
		n, b = n+m, b[m:]
	}
	return n, err
}

// Reader returns a reader from a peer that holds to its rate. Its Read waits behind what it has read, and errors with that of the context once that ends. Moved, which may be nil, is called
// when bytes have come, and when they were waited for: as long as it is, nothing is stuck.
func (p *Pacer) Reader(ctx context.Context, peer sharefs.PeerID, r io.Reader, moved func()) io.Reader {
	if moved == nil {
		moved = func() {}
	}
	return &reader{p, ctx, peer, r, moved}
}

type reader struct {
	p     *Pacer
	ctx   context.Context
	peer  sharefs.PeerID
	r     io.Reader
	moved func()
}

func (r *reader) Read(b []byte) (n int, err error) {
	var rate float64
	var bucket *Bucket
	if r.p != nil {
		if rate, bucket = r.p.of(r.peer, down); rate > 0 {
			b = b[:min(len(b), piece(rate))]
		}
	}
	n, err = r.r.Read(b)
	if n > 0 {
		r.moved()
	}
	if rate > 0 && n > 0 && err == nil {
		if err = bucket.Spend(r.ctx, float64(n), rate); err != nil {
			return n, err
		}
		r.moved()
	}
	return n, err
}
