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
)

// The purposes of streams.
const (
	purposeRecords = "records" // the control stream, which whoever dialed the session opens
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

// Pauses before a control stream that ended is opened again.
const (
	firstPause   = time.Second
	longestPause = 5 * time.Minute
)

// connected serves a session from now on. Whoever dialed it opens the control stream, again if it ends before the session does.
func (x *Exchange) connected(id sharefs.PeerID, s session) {
	p := x.join(id, s)
	if p == nil || !s.dialed() {
		return
	}
	x.spawn(func() {
		for pause := firstPause; ; pause = min(2*pause, longestPause) {
			began := time.Now()
			c, err := s.open(p.ctx, purposeRecords)
			if err == nil {
				p.controlStream(c)
			} else {
				x.log.Debug("a peer exchanges no records", "peer", id.Short(), "error", err)
			}
			if time.Since(began) > longestPause {
				pause = firstPause
			}
			if x.blamed(id) != nil || sleep(p.ctx, pause) != nil {
				return
			}
		}
	})
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
