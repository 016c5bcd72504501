package esp

import (
	"math"
	"slices"
	"time"
)

// What is lost at the end of a flight costs more than what is lost in it: nothing that comes behind it tells the peer, so it is the probe timeout that does, and a question or a
// short answer is nothing but end. So on a path that is known to lose, the end of a flight is sent twice: what has not been acknowledged leaves again, in packets of its own, a
// moment after the last of it, when there is nothing else to send. It is paced and counts in the window as all else does, and is bounded by a share of what the path
// carries. (Flach et al., "Reducing Web Latency: the Virtue of Gentle Aggression", SIGCOMM 2013, call it proactive.) A flight that is longer than a first window has
// later packets that tell of most of its losses; of such a one only the last packets leave again, which does what the probe of RFC 8985, section 7, does, but sooner.

const (
	tailLoss  = 0.003                 // rate of loss, in either direction, from which on a path is held to lose
	tailRTT   = 10 * time.Millisecond // below it a probe timeout is no long time
	tailWhole = 48 << 10              // bytes in flight that are sent again as a whole
	tailLast  = 4                     // packets of a longer flight
	tailShare = 0.02                  // of what the path carries, at most
	tailSaved = tailWhole             // bytes of that which may be saved up

	// What is lost at one moment is often lost together, so the second time is this part of the round trip later, within bounds.
	tailPart  = 16
	tailLeast = time.Millisecond
	tailMost  = 5 * time.Millisecond
)

// tail is what a path knows of the end of the flight. The session's lock guards it.
type tail struct {
	fresh   time.Duration // when something left that is to be sent twice and was not yet; 0: nothing was
	from    uint64        // packets with lower numbers have been seen to
	again   []sentFrame   // to be sent again
	spent   float64       // bytes that may not be sent again yet
	spentAt time.Duration // when that was so
}

// loses reports whether the path is known to lose, and so far away that it matters.
func (p *path) loses() bool {
	return p.link == nil && max(p.rec.LossRate(), p.acker.LossRate()) >= tailLoss && p.rec.RTT().Min >= tailRTT
}

// tailAt is when it is to be looked whether the end of the flight is sent again; 0: it has not ended, or need not be. s.mu is held.
func (s *Session) tailAt(p *path) time.Duration {
	if p.tail.fresh == 0 || p != s.active || s.sendq.len() > 0 {
		return 0
	}
	return p.tail.fresh + min(max(p.rec.RTT().Min/tailPart, tailLeast), tailMost)
}

// endFlight finds what is to be sent again, when it is time. s.mu is held.
func (s *Session) endFlight(p *path, now time.Duration) {
	t := &p.tail
	if p != s.active {
		t.fresh, t.again = 0, nil // what was under way leaves again elsewhere
	}
	if t.fresh == 0 || s.sendq.len() > 0 {
		return
	}
	if !p.loses() {
		t.fresh = 0
		return
	}
	if now < s.tailAt(p) {
		return
	}
	t.fresh = 0
	t.spent = max(0, t.spent-tailShare*p.bandwidth()*(now-t.spentAt).Seconds())
	t.spentAt = now
	first, most := len(t.again), tailLast
	if p.rec.Inflight() <= tailWhole {
		most = math.MaxInt
	}
	p.rec.Recent(t.from, func(size int, payload *sent) bool {
		if most == 0 || t.spent+float64(size) > tailSaved {
			return false
		}
		before := len(t.again)
		payload.each(func(f *sentFrame) {
			if f.twice() {
				t.again = append(t.again, *f)
			}
		})
		if len(t.again) > before {
			most--
			t.spent += float64(size)
		}
		return true
	})
	t.from = p.rec.NextNumber()
	slices.Reverse(t.again[first:])
}

// twice reports whether a frame is sent again at the end of a flight: what somebody may wait for, once.
func (f *sentFrame) twice() bool {
	return !f.again && (f.kind == sentStream || f.kind == sentCtrl && f.ctrl.opens())
}

// opens reports whether a stream waits for the frame.
func (c *ctrl) opens() bool { return c.typ == frameOpen || c.typ == frameOpenAck }

// writeAgain puts what is to be sent again into a packet, as far as there is room.
func (s *Session) writeAgain(p *path, w *packetWriter) {
	t := &p.tail
	for len(t.again) > 0 && w.room() > streamFrameOverhead {
		f := &t.again[0]
		switch {
		case f.kind == sentCtrl:
			if f.ctrl.size() > w.room() {
				return
			}
			w.b.buf = f.ctrl.append(w.b.buf)
			w.add(sentFrame{kind: sentCtrl, ctrl: f.ctrl, again: true})
		case !f.c.removed && !f.c.reset && f.off >= f.c.sq.base:
			n := min(int(f.n), w.room()-streamHeaderLen(f.c.id, f.off, w.room()))
			fin := f.fin && n == int(f.n)
			f.c.sq.copyTo(w.stream(f.c.id, f.off, n, fin), f.off)
			w.add(sentFrame{kind: sentStream, c: f.c, off: f.off, n: uint32(n), fin: fin, again: true})
			s.stats.copiedBytes += uint64(n)
			p.stats.dataOut += uint64(n)
			if f.off, f.n = f.off+uint64(n), f.n-uint32(n); f.n > 0 {
				continue
			}
		}
		t.again = t.again[1:]
	}
	if len(t.again) == 0 {
		t.again = nil
	}
}
