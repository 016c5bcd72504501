//go:build linux

package esptest

import (
	"testing"
	"time"

	"sharefs/esp"
	"sharefs/integration/linkem"
)

// TestPathDiesInMidTransfer pulls the plug of the link that carries a transfer, while another link stands by.
func TestPathDiesInMidTransfer(t *testing.T) {
	c := linkem.Conditions{Rate: 4 * mb, Delay: 5 * ms}
	w := newWorld(t, esp.Config{DisableTCP: true}, esp.Config{DisableTCP: true}, c, c)
	client, server := w.dial()
	x := startTransfer(t, client, server, 0)
	w.until("two paths are ready", func() bool { return ready(client.Session(), "udp") >= 2 })
	w.until("the transfer goes over one of the links", func() bool { return active(client.Session()).RTT > 0 })
	for range 2 { // and back again
		l, other := w.links[0], w.links[1]
		if over(client.Session(), other, w.b) {
			l, other = other, l
		}
		w.moves(x, 1*mb)
		x.longest.Store(0)
		before := other.Stats(w.b).Bytes
		l.Set(linkem.Conditions{Down: true})
		w.until("the session is on the other link", func() bool { return over(client.Session(), other, w.b) })
		w.until("the other link carries the transfer", func() bool { return other.Stats(w.b).Bytes-before > 1*mb })
		w.moves(x, 256<<10)
		t.Logf("the longest pause was %v", time.Duration(x.longest.Load()))
		l.Set(c)
		w.until("two paths are ready again", func() bool { return ready(client.Session(), "udp") >= 2 })
	}
	x.finish()
	if n := client.Session().Stats().Migrations; n < 2 {
		t.Errorf("%d migrations", n)
	}
}

// TestMTUCut lets large packets vanish in the middle of a transfer, without a word from the network.
func TestMTUCut(t *testing.T) {
	c := linkem.Conditions{Rate: 4 * mb, Delay: 5 * ms}
	w := newWorld(t, esp.Config{DisableTCP: true}, esp.Config{DisableTCP: true}, c)
	client, server := w.dial()
	x := startTransfer(t, client, server, 0)
	w.until("the path's MTU is found", func() bool { return active(client.Session()).MTU > 1400 })
	w.moves(x, 1*mb)
	c.MTU = 1300
	w.links[0].Set(c)
	w.until("the smaller MTU is found", func() bool {
		mtu := active(client.Session()).MTU
		return w.links[0].Stats(w.b).TooBig > 0 && mtu > 0 && mtu <= 1300-28
	})
	w.moves(x, 2*mb) // more than can have been under way
	x.finish()
}

// TestAggregation sends over two slow links at once.
func TestAggregation(t *testing.T) {
	c := linkem.Conditions{Rate: 2 * mb, Delay: 10 * ms}
	cfg := esp.Config{DisableTCP: true, Scheduler: esp.Aggregate}
	w := newWorld(t, cfg, cfg, c, c)
	client, server := w.dial()
	x := startTransfer(t, client, server, 0)
	w.until("two paths are ready", func() bool { return ready(client.Session(), "udp") >= 2 })
	before := [2]uint64{w.links[0].Stats(w.b).Bytes, w.links[1].Stats(w.b).Bytes}
	w.until("both links have carried a share", func() bool {
		return w.links[0].Stats(w.b).Bytes-before[0] > 1*mb && w.links[1].Stats(w.b).Bytes-before[1] > 1*mb
	})
	x.finish()
	t.Logf("%d bytes over the first link, %d over the second", w.links[0].Stats(w.b).Bytes, w.links[1].Stats(w.b).Bytes)
}

// TestBadLink transfers in both directions over a link that does all that links may do.
func TestBadLink(t *testing.T) {
	c := linkem.Conditions{Rate: 6 * mb, Delay: 5 * ms, Jitter: 5 * ms, Loss: 0.05, Duplicate: 0.02, Reorder: 0.02}
	for _, cfg := range []esp.Config{{DisableTCP: true}, {DisableTCP: true, Congestion: "cubic"}, {DisableUDP: true}} {
		w := newWorld(t, cfg, cfg, c)
		client, server := w.dial()
		x, y := startTransfer(t, client, server, 512<<10), startTransfer(t, server, client, 512<<10)
		<-x.done
		<-y.done
		x.finish()
		y.finish()
		if s := w.links[0].Stats(w.b); s.Lost == 0 || s.Duplicated == 0 {
			t.Errorf("the link did nothing bad: %+v", s)
		}
	}
}
