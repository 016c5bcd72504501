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
	hub.Follow(func(id sharefs.PeerID, s *esp.Session) { x.connected(id, overESP{s}) })
}

// Pauses before a control stream that ended is opened again; the first one after one that lasted.
const (
	firstPause   = time.Second
	longestPause = 5 * time.Minute
	lasted       = 10 * time.Second
)

// connected serves a session from now on. Both ends open the control stream, for neither knows which of them begins first; from then on whoever dialed the session opens it
// again if it ends before the session does.
func (x *Exchange) connected(id sharefs.PeerID, s session) {
	p := x.join(id, s)
	if p == nil {
		return
	}
	x.spawn(func() {
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
			if !s.dialed() || pace.Sleep(p.ctx, pause) != nil {
				return
			}
			if b := x.blamed(id); b != nil {
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

func (o overESP) open(ctx context.Context, name string) (net.Conn, error) {
	c, err := o.s.Open(ctx)
	if err != nil {
		return nil, err
	}
	_ = c.SetWriteDeadline(time.Now().Add(helloTime))
	if err := frame.Write(c, purpose{name}); err != nil {
		c.Close()
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
