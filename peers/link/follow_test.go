package link

import (
	"context"
	"encoding/json"
	"testing"

	"sharefs"
	"sharefs/esp"
	"sharefs/peers/frame"
)

// Who follows is told of each session, and may open streams at once, whichever end knows first that they are connected.
func TestFollowersOpenStreamsAtOnce(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	served := make(chan sharefs.PeerID, 100)
	follow := func(o *host) {
		o.Handle("test", func(peer sharefs.PeerID, c *esp.Conn, _ json.RawMessage) {
			defer c.Close()
			served <- peer
		})
		o.Follow(func(_ sharefs.PeerID, s *esp.Session) {
			c, err := s.Open(context.Background())
			if err != nil { // of two sessions that began at the same time one ends
				return
			}
			defer c.Close()
			if frame.Write(c, map[string]string{"purpose": "test"}) == nil {
				_, _ = c.Read(make([]byte, 1)) // until it was served
			}
		})
	}
	follow(a) // before they are connected
	follow(b)
	a.pairWith(b)
	both := func() {
		t.Helper()
		got := map[sharefs.PeerID]bool{}
		wait(t, "a stream of each", func() bool {
			for {
				select {
				case id := <-served:
					got[id] = true
				default:
					return got[a.key.ID] && got[b.key.ID]
				}
			}
		})
	}
	both()
	a.Close()
	a.start("127.0.0.1:0")
	follow(a) // it may be connected by now
	b.connected(a)
	both()
}
