package link

import (
	"encoding/json"
	"slices"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/peers/frame"
	"sharefs/peers/pair"
)

// Handler serves a stream of one purpose that a connected peer has opened. It closes the stream. First is the message that named the purpose.
type Handler func(peer sharefs.PeerID, c *esp.Conn, first json.RawMessage)

// Bounds of streams of which the first message has not come: of all, and of one peer, or of all who are none.
const (
	mostServing   = 256
	mostServingOf = 32
)

// Handle has streams of a purpose served by fn from now on.
func (h *Hub) Handle(purpose string, fn Handler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers[purpose] = fn
}

// accept takes the streams that peers open.
func (h *Hub) accept(l *esp.Listener) {
	for {
		c, err := l.AcceptStream()
		if err != nil {
			return
		}
		h.mu.Lock()
		var of esp.PublicKey
		if p := h.byKey[c.PeerKey()]; p != nil && p.welcome {
			of = p.key
		}
		if h.serving >= mostServing || h.servingOf[of] >= mostServingOf || h.closed {
			h.mu.Unlock()
			c.Close()
			continue
		}
		h.serving++
		h.servingOf[of]++
		h.spawn(func() { h.serve(c, of) })
		h.mu.Unlock()
	}
}

// serve reads what a stream is for, which was counted for of. Only hello and pair are open to who has not said hello.
func (h *Hub) serve(c *esp.Conn, of esp.PublicKey) {
	var text json.RawMessage
	var first struct {
		Purpose string `json:"purpose"`
	}
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	err := frame.Read(c, &text)
	if err == nil {
		err = json.Unmarshal(text, &first)
	}
	h.mu.Lock()
	handler := h.handlers[first.Purpose]
	p := h.byKey[c.PeerKey()]
	welcome := p != nil && p.welcome
	var guest GuestHandler
	if err == nil && !welcome && h.isGuest(c.PeerKey()) && first.Purpose == h.desk.purpose && h.seat(c.Session()) {
		guest = h.desk.serve
	}
	h.mu.Unlock()
	connected := err == nil && handler != nil && welcome && h.joined(p, c.Session())
	h.mu.Lock()
	h.serving--
	if h.servingOf[of]--; h.servingOf[of] == 0 {
		delete(h.servingOf, of)
	}
	h.mu.Unlock()
	switch {
	case err != nil:
	case first.Purpose == purposeHello:
		err = h.answer(c, text)
	case first.Purpose == pair.Purpose:
		h.pairWith(c, text)
		return
	case connected:
		_ = c.SetDeadline(time.Time{})
		handler(p.id, c, text)
		return
	case guest != nil:
		_ = c.SetDeadline(time.Time{})
		guest(c.PeerKey(), c, text)
		return
	default:
		err = &sharefs.Error{Op: "stream", Kind: sharefs.KindPermission, Detail: "of no purpose that this peer may have"}
	}
	if err != nil {
		h.cfg.Log.Debug("a stream was refused", "error", err)
		c.Close()
		if !welcome || first.Purpose == purposeHello {
			h.spare(c.Session())
		}
	}
}

// Follow has fn called with each session that becomes the one with a peer, on a goroutine of its own, for which [Hub.Close] waits; with those that are by now
// too. A session may end at any time.
func (h *Hub) Follow(fn func(peer sharefs.PeerID, s *esp.Session)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.followers = append(h.followers, fn)
	for _, p := range h.peers {
		if l := p.link; l != nil {
			h.spawn(func() { fn(l.p.id, l.sess) })
		}
	}
}

// Lead has fn called, as [Hub.Follow] does, with each session that this host has dialed, when its hello is on the way and that of the peer has not come: what fn opens there needs not wait a round
// trip. The peer serves it when it has checked the hello, whichever comes first. The session may yet not become the one with the peer; if it does, who follows is told besides.
// That the session proves the X25519 key of the peer is all that is known: whoever has it has an Ed25519 key of one sign or the other, and the secret of both.
func (h *Hub) Lead(fn func(peer sharefs.PeerID, s *esp.Session)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaders = append(h.leaders, fn)
}

// lead tells of a session whose hello is on the way.
func (h *Hub) lead(p *peer, s *esp.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !p.missing() || !s.Dialed() {
		return
	}
	for _, fn := range h.leaders {
		h.spawn(func() { fn(p.id, s) })
	}
}

// joined waits until a session is the one with a peer, or was and leaves, and reports whether it came to that: of both ends one knows first, and opens streams at once.
func (h *Hub) joined(p *peer, s *esp.Session) bool {
	timer := time.NewTimer(helloTimeout)
	defer timer.Stop()
	for {
		h.mu.Lock()
		is, never, changed := slices.Contains(p.sessions(), s), !p.welcome || h.closed, h.changed
		h.mu.Unlock()
		if is || never {
			return is && !never
		}
		select {
		case <-changed:
		case <-s.Done():
			return false
		case <-timer.C:
			return false
		}
	}
}

// silence is how often sessions are looked for in which those who dialed say nothing: the second time one ends.
const silence = 2 * helloTimeout

// expectHello has a session that may begin now end if nothing is said in it. h.mu is held.
func (h *Hub) expectHello() {
	if h.sweep == nil && !h.closed {
		h.sweep = time.AfterFunc(silence, h.endSilent)
	}
}

// endSilent ends the sessions in which nothing was said since it was called the last time.
func (h *Hub) endSilent() {
	ep := h.endpoint()
	if ep == nil {
		return
	}
	all := ep.Sessions()
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.silent
	h.silent, h.sweep = map[*esp.Session]bool{}, nil
	for _, s := range all {
		if s.Dialed() || h.aside[s] || h.guests[s] || h.byKey[s.PeerKey()].has(s) {
			continue
		}
		h.silent[s] = true
		if before[s] {
			h.spawn(func() { _ = s.Close() })
		}
	}
	if len(h.silent) > 0 {
		h.expectHello()
	}
}
