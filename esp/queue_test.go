package esp

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"sharefs/integration/race"
)

// TestRecvQueueModel feeds pieces of a known stream in random order, overlapping and repeated, and compares with a
// byte map.
func TestRecvQueueModel(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		total := 1 + rng.IntN(4000)
		stream := make([]byte, total)
		for i := range stream {
			stream[i] = byte(rng.Uint32())
		}
		var q recvQueue
		have := make([]bool, total)
		var got []byte
		high := uint64(0)
		for !q.eof() {
			off := rng.IntN(total)
			n := rng.IntN(min(total-off, 300)) + 1
			if rng.IntN(10) == 0 && len(got) < total {
				off = len(got)
				n = min(n, total-off)
			}
			if off+n == total {
				if err := q.setFinal(uint64(total)); err != nil {
					t.Fatal(err)
				}
			}
			var buf *rbuf
			data := bytes.Clone(stream[off : off+n])
			if rng.IntN(2) == 0 {
				buf = newLinkBuf()
				copy(buf.mem, data)
				data = buf.mem[:n:n]
			}
			grown, err := q.insert(uint64(off), data, buf, rng.IntN(2) == 0)
			if err != nil {
				t.Fatal(err)
			}
			if buf != nil {
				buf.release()
			} else {
				clear(data) // the queue must have copied them
			}
			want := max(high, uint64(off+n))
			if grown != want-high || q.high != want {
				t.Fatalf("seed %d: grown %d, high %d, want high %d", seed, grown, q.high, want)
			}
			high = want
			for i := off; i < off+n; i++ {
				have[i] = true
			}
			for _, g := range q.takeAll(nil) {
				if g.off != uint64(len(got)) {
					t.Fatalf("seed %d: a run at %d after %d bytes", seed, g.off, len(got))
				}
				got = append(got, g.data...)
				g.release()
			}
			next, gaps := 0, 0
			for next < total && have[next] {
				next++
			}
			for i, in := next, false; i < total; i++ {
				if have[i] && !in {
					gaps++
				}
				in = have[i]
			}
			if len(got) != next || q.gaps != gaps {
				t.Fatalf("seed %d: %d bytes in order, want %d; %d gaps, want %d", seed, len(got), next, q.gaps, gaps)
			}
		}
		if !bytes.Equal(got, stream) {
			t.Fatalf("seed %d: the bytes differ", seed)
		}
	}
}

func TestRecvQueueLimits(t *testing.T) {
	var q recvQueue
	for i := range outOfOrderRanges {
		if _, err := q.insert(uint64(2*i+1), []byte{1}, nil, true); err != nil {
			t.Fatal(i, err)
		}
	}
	high := q.high
	if _, err := q.insert(high+5, []byte{1}, nil, true); err != errTooMany {
		t.Fatalf("one gap too many: %v", err)
	}
	if _, err := q.insert(high, []byte{1}, nil, true); err != nil || q.high != high+1 {
		t.Fatalf("bytes that make no new gap: %v", err)
	}
	if _, err := q.insert(2, []byte{1}, nil, true); err != nil || q.gaps != outOfOrderRanges-1 {
		t.Fatalf("bytes that close a gap: %v, %d gaps", err, q.gaps)
	}
	if err := q.setFinal(q.high - 1); err != errFinalSize {
		t.Fatalf("an end before what was seen: %v", err)
	}
	if err := q.setFinal(q.high); err != nil {
		t.Fatal(err)
	}
	if err := q.setFinal(q.high + 1); err != errFinalSize {
		t.Fatalf("a second end: %v", err)
	}
	if _, err := q.insert(q.high, []byte{1}, nil, true); err != errFinalSize {
		t.Fatalf("bytes behind the end: %v", err)
	}
	q.drop()
}

// TestSendQueueModel sends through a model of a lossy net until all is acknowledged, and checks every byte that is
// sent.
func TestSendQueueModel(t *testing.T) {
	race.Leave(t, race.OneHand)
	type flight struct {
		off, n uint64
		fin    bool
	}
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var q sendQueue
		var stream []byte
		var air []flight
		got := map[uint64]bool{}
		finGot := false
		limit := uint64(0)
		writes := rng.IntN(40)
		for step := 0; !q.done(); step++ {
			if step > 1_000_000 {
				t.Fatalf("seed %d: no progress: %+v", seed, &q)
			}
			switch rng.IntN(5) {
			case 0: // write
				if writes == 0 {
					q.fin = true
					break
				}
				writes--
				b := make([]byte, 1+rng.IntN(5000))
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				stream = append(stream, b...)
				if rng.IntN(2) == 0 {
					q.pushBytes(b)
				} else {
					c := newChunk(len(b))
					c.data = append(c.data, b...)
					q.push(c)
				}
			case 1:
				limit += uint64(rng.IntN(6000))
			case 2, 3: // send
				off, n, _, ok := q.peek(limit)
				if ok != q.pending(limit) {
					t.Fatalf("seed %d: peek says %v, pending %v", seed, ok, !ok)
				}
				if !ok {
					break
				}
				n = min(n, uint64(1+rng.IntN(1400)))
				fin := q.take(off, n)
				if off+n > limit && n > 0 {
					t.Fatalf("seed %d: sent beyond the limit", seed)
				}
				b := make([]byte, n)
				q.copyTo(b, off)
				if !bytes.Equal(b, stream[off:off+n]) {
					t.Fatalf("seed %d: wrong bytes at %d", seed, off)
				}
				if fin && (!q.fin || off+n != uint64(len(stream))) {
					t.Fatalf("seed %d: FIN at %d of %d", seed, off+n, len(stream))
				}
				air = append(air, flight{off, n, fin})
			case 4: // the fate of a packet
				if len(air) == 0 {
					break
				}
				i := rng.IntN(len(air))
				f := air[i]
				switch rng.IntN(4) {
				case 0: // lost for good
					q.lose(f.off, f.n, f.fin)
					air = append(air[:i], air[i+1:]...)
				case 1: // thought lost, acknowledged later
					q.lose(f.off, f.n, f.fin)
				default:
					before := q.base
					freed := q.ack(f.off, f.n, f.fin)
					if uint64(freed) != q.base-before {
						t.Fatalf("seed %d: freed %d, base moved %d", seed, freed, q.base-before)
					}
					for o := f.off; o < f.off+f.n; o++ {
						got[o] = true
					}
					finGot = finGot || f.fin
					air = append(air[:i], air[i+1:]...)
					for o := before; o < q.base; o++ {
						if !got[o] {
							t.Fatalf("seed %d: base passed %d, which nobody acknowledged", seed, o)
						}
					}
				}
			}
		}
		if len(got) != len(stream) || !finGot || q.buffered() != 0 {
			t.Fatalf("seed %d: done with %d of %d bytes", seed, len(got), len(stream))
		}
		q.drop()
	}
}
