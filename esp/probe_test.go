package esp

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"sharefs/esp/internal/simnet"
)

// TestProbe: a session at rest learns within a round trip that the peer is there, by one packet for all who ask, and where it is not learns that nothing comes, and goes on.
func TestProbe(t *testing.T) {
	link := simnet.Link{Delay: 5 * time.Millisecond}
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: link})
		defer s.close()
		c, d := s.dial()
		exchange(t, c, d)
		time.Sleep(time.Minute)
		for _, sess := range []*Session{c.Session(), d.Session()} {
			time.Sleep(3 * time.Second)
			began, before := time.Now(), sess.Stats()
			if !sess.Heard().Before(began) {
				t.Error("heard of in time to come")
			}
			var who sync.WaitGroup
			for range 10 {
				who.Go(func() {
					if err := sess.Probe(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			who.Wait()
			if took := time.Since(began); took > 25*time.Millisecond { // over TCP an ACK may wait for 5
				t.Errorf("an answer after %v", took)
			}
			if heard := sess.Heard(); heard.Before(began) || heard.After(time.Now()) {
				t.Errorf("heard of %v after it was asked", heard.Sub(began))
			}
			if n := sess.Stats().PacketsSent - before.PacketsSent; n != 1 {
				t.Errorf("%d packets", n)
			}
		}
		s.n.Link(clientIP, serverIP, simnet.Link{Down: true})
		time.Sleep(3 * time.Second)
		sess := c.Session()
		before := sess.Heard()
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if err := sess.Probe(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("nothing can come: %v", err)
			}
			cancel()
		}
		if sess.Err() != nil || sess.Heard() != before {
			t.Errorf("%v, heard of %v ago", sess.Err(), time.Since(sess.Heard()))
		}
		s.n.Link(clientIP, serverIP, link)
		if err := sess.Probe(t.Context()); err != nil {
			t.Error(err)
		}
		exchange(t, c, d)
		c.Close()
		sess.Close()
		if err := sess.Probe(t.Context()); err == nil {
			t.Error("an answer in a session that is over")
		}
	})
}

// TestAbort: a session that is ended so waits for nobody, and what it had not sent does not come.
func TestAbort(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		base.Linger = time.Minute
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 5 * time.Millisecond}})
		c, d := s.dial()
		exchange(t, c, d)
		sess := c.Session()
		written := make(chan error, 1)
		go func() {
			for {
				if _, err := c.Write(make([]byte, 1<<20)); err != nil { // until there is no room: nobody reads
					written <- err
					return
				}
			}
		}()
		time.Sleep(time.Second)
		began := time.Now()
		sess.Abort()
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
		if err := <-written; err == nil {
			t.Error("a Write goes on")
		}
		select {
		case <-d.Session().Done():
		case <-time.After(time.Second):
			t.Error("the peer was not told")
		}
		s.close()
	})
}
