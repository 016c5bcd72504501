package exchange

import (
	"context"
	"encoding/json"
	"net"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/peers/frame"
	"sharefs/peers/link"
	"sharefs/peers/pace"
)

// The purposes of streams.
const (
	purposeRecords = "records" // the control stream
	purposeChunks  = "chunks"  // over which whoever opened it asks for content
)

// purpose is the first message of a stream.
type purpose struct {
	Purpose string `json:"purpose"`
}

// Over has the exchange run over the sessions of a hub from now on. It is called once.
func (x *Exchange) Over(hub *link.Hub) {
	hub.Handle(purposeRecords, func(id sharefs.PeerID, c *esp.Conn, _ json.RawMessage) {
		x.serve(id, overESP{c.Session()}, c, (*peer).controlStream)
	})
	hub.Handle(purposeChunks, func(id sharefs.PeerID, c *esp.Conn, _ json.RawMessage) {
		x.serve(id, overESP{c.Session()}, c, (*peer).chunkStream)
	})
	hub.Lead(func(id sharefs.PeerID, s *esp.Session) { x.dialing(id, overESP{s}) })
	hub.Follow(func(id sharefs.PeerID, s *esp.Session) {
		x.connected(id, overESP{s})
		x.leave(id, func() (session, bool) {
			now, ok := hub.Connected(id)
			return overESP{now}, ok
		})
	})
}

// leave ends what goes over sessions with a peer that another one has taken the place of, or that was dialed and has not become the one: what was under way goes on over that one, and nothing goes twice. Current tells which
// one that is; it is asked with the lock held, for of two sessions the first may be told of last.
func (x *Exchange) leave(id sharefs.PeerID, current func() (session, bool)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now, ok := current()
	if !ok || x.peers[now] == nil { // it is not served yet: whoever has it served calls again
		return
	}
	for s, p := range x.peers {
		if p.id == id && s != now {
			p.cancel()
		}
	}
}

// Pauses before a control stream that ended is opened again; the first one after one that lasted.
const (
	firstPause   = time.Second
	longestPause = 5 * time.Minute
	lasted       = 10 * time.Second
)

// dialing begins with a session that may become the one with a peer, if there is no other.
func (x *Exchange) dialing(id sharefs.PeerID, s session) {
	for _, o := range x.all() {
		if o.id == id && o.isMet() {
			return
		}
	}
	if p := x.join(id, s); p != nil {
		p.tend()
	}
}

// connected serves a session from now on.
func (x *Exchange) connected(id sharefs.PeerID, s session) {
	p := x.join(id, s)
	for p != nil && !p.meet() {
		p = x.join(id, s)
	}
	if p == nil {
		return
	}
	p.tend()
}

// meet notes that the session is the one with the peer. It is false if the peer has ended meanwhile.
func (p *peer) meet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.met = p.ctx.Err() == nil
	return p.met
}

func (p *peer) isMet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.met && p.ctx.Err() == nil
}

// led reports whether this end has begun with the session, and it is not the one with the peer yet. p.mu is held.
func (p *peer) led() bool { return p.tended && !p.met }

// tend sees to it that there is a control stream. Whoever dialed the session opens it, and again if it ends before the session does; the other end does so once, if there is none after a while.
func (p *peer) tend() {
	p.mu.Lock()
	tended := p.tended
	p.tended = true
	p.mu.Unlock()
	if tended {
		return
	}
	p.x.spawn(func() {
		if !p.s.dialed() && pace.Sleep(p.ctx, firstPause) != nil {
			return
		}
		for pause := firstPause; ; pause = min(2*pause, longestPause) {
			if ended := p.controlled(); ended != nil {
				select {
				case <-ended:
				case <-p.ctx.Done():
					return
				}
			} else if p.openControl() {
				pause = firstPause
			}
			if !p.s.dialed() || pace.Sleep(p.ctx, pause) != nil {
				return
			}
			if b := p.x.blamed(p.id); b != nil {
				select {
				case <-b.ended:
				case <-p.ctx.Done():
					return
				}
			}
		}
	})
}

// openControl opens a control stream and serves it, and reports whether it lasted.
func (p *peer) openControl() bool {
	c, err := p.s.open(p.ctx, purposeRecords)
	if err != nil {
		p.x.log.Debug("a peer exchanges no records", "peer", p.id.Short(), "error", err)
		return false
	}
	began := time.Now()
	p.runControl(c, true)
	return time.Since(began) > lasted
}

// serve serves a stream that a peer opened, until it ends.
func (x *Exchange) serve(id sharefs.PeerID, s session, c net.Conn, fn func(*peer, net.Conn)) {
	p := x.join(id, s)
	done := make(chan struct{})
	if p == nil || !x.spawn(func() { defer close(done); fn(p, c) }) {
		c.Close()
		return
	}
	<-done
}

// overESP is a session of package esp.
type overESP struct{ s *esp.Session }

// open does not wait for the peer: what it says to a stream that it does not take comes with the first Read.
func (o overESP) open(ctx context.Context, name string) (net.Conn, error) {
	first, err := frame.Encode(purpose{name})
	if err != nil {
		return nil, err
	}
	c, err := o.s.OpenEarly(ctx, first)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (o overESP) dialed() bool          { return o.s.Dialed() }
func (o overESP) done() <-chan struct{} { return o.s.Done() }

func (o overESP) rtt() time.Duration {
	for _, p := range o.s.Paths() {
		if p.Active {
			return p.RTT
		}
	}
	return 0
}
