package link

import (
	"context"
	"sync"
	"time"

	"sharefs"
)

// A session outlives silence, for a cable is put in again and a laptop moves; so that a peer is connected says little until it is asked. Nobody asks without being asked himself.
const (
	quiet      = 2 * time.Second        // a peer that was heard of no longer ago is there
	soundTime  = 500 * time.Millisecond // for which a sign of life is waited for, or three round trips
	soundAgain = 5 * time.Second        // before one that has not come is waited for again
)

// sounding is when a peer was last asked for a sign of life, and until when that was waited for. The hub's lock guards it.
type sounding struct{ at, until time.Time }

// silent reports whether a peer that was heard of at a time has not given one.
func (s sounding) silent(heard, now time.Time) bool {
	return heard.Before(s.at) && !now.Before(s.until)
}

// Sound asks each connected peer that was not heard of for a while for a sign of life, and waits a moment for that, so that what Peers tells is of now.
func (h *Hub) Sound() {
	h.mu.Lock()
	var links []*link
	for _, p := range h.peers {
		if p.link != nil {
			links = append(links, p.link)
		}
	}
	h.mu.Unlock()
	var wg sync.WaitGroup
	for _, l := range links {
		if until := h.sound(l); !until.IsZero() {
			wg.Go(func() { h.probe(l, until) })
		}
	}
	wg.Wait()
}

// sound returns until when a sign of life of a peer is to be waited for; the zero time: there is no need to, or no use.
func (h *Hub) sound(l *link) time.Time {
	heard, rtt, now := l.sess.Heard(), l.rtt(), time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &l.sounding
	switch {
	case now.Sub(heard) < quiet, s.silent(heard, now) && now.Sub(s.at) < soundAgain:
		return time.Time{}
	case !heard.Before(s.at) || s.silent(heard, now):
		*s = sounding{now, now.Add(max(soundTime, 3*rtt))}
	}
	return s.until
}

// Silent asks a connected peer for a sign of life as Sound does, and reports whether none came.
func (h *Hub) Silent(id sharefs.PeerID) bool {
	h.mu.Lock()
	var l *link
	if p := h.peers[id]; p != nil {
		l = p.link
	}
	h.mu.Unlock()
	if l == nil {
		return false
	}
	if until := h.sound(l); !until.IsZero() {
		h.probe(l, until)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return l.sounding.silent(l.sess.Heard(), time.Now())
}

// probe waits for a sign of life. When it was heard of tells whether one came.
func (h *Hub) probe(l *link, until time.Time) {
	ctx, cancel := context.WithDeadline(h.ctx, until)
	defer cancel()
	_ = l.sess.Probe(ctx)
}

// rtt is that of the path in use.
func (l *link) rtt() time.Duration {
	for _, path := range l.sess.Paths() {
		if path.Active {
			return path.RTT
		}
	}
	return 0
}
