//go:build linux

package esptest

import (
	"context"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"sharefs/esp"
	"sharefs/integration/linkem"
)

const dropUDP = "table inet f { chain i { type filter hook input priority 0; meta l4proto udp drop; }; }"

// firewalled skips the test where nftables do not work, and drops UDP that comes to the server.
func firewalled(t *testing.T, w *world) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed")
	}
	if err := w.b.Firewall(w.ctx, dropUDP); err != nil {
		t.Skipf("nftables do not work here: %v", err)
	}
}

// TestUDPBlockedThenOpened dials where UDP does not get through, and goes over to UDP when it does, without losing a byte.
func TestUDPBlockedThenOpened(t *testing.T) {
	w := newWorld(t, esp.Config{}, esp.Config{}, linkem.Conditions{Rate: 4 * mb, Delay: 5 * ms})
	firewalled(t, w)
	began := time.Now()
	client, server := w.dial()
	t.Logf("dialed over TCP in %v", time.Since(began))
	if p := active(client.Session()); p.Kind != "tcp" {
		t.Fatalf("the session goes over %q, though UDP is blocked", p.Kind)
	}
	x := startTransfer(t, client, server, 0)
	w.moves(x, 256<<10)
	if err := w.b.Firewall(w.ctx, ""); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	w.until("the session is on UDP", func() bool { return active(client.Session()).Kind == "udp" })
	t.Logf("on UDP after %v", time.Since(began))
	w.moves(x, 256<<10)
	x.finish()
}

// TestUDPBlockedInMidTransfer: TCP takes over where UDP stops getting through.
func TestUDPBlockedInMidTransfer(t *testing.T) {
	w := newWorld(t, esp.Config{}, esp.Config{}, linkem.Conditions{Rate: 4 * mb, Delay: 5 * ms})
	client, server := w.dial()
	if p := active(client.Session()); p.Kind != "udp" {
		t.Fatalf("the session goes over %q", p.Kind)
	}
	x := startTransfer(t, client, server, 0)
	w.moves(x, 256<<10)
	firewalled(t, w)
	w.until("the session is on TCP", func() bool { return active(client.Session()).Kind == "tcp" })
	w.moves(x, 256<<10)
	t.Logf("the longest pause was %v", time.Duration(x.longest.Load()))
	x.finish()
}

// TestFlood lets a third party send handshakes from invented addresses: genuine ones, made with the server's key, so that
// each would cost it a Diffie-Hellman. A session that stands must go on, and memory must not grow with the flood.
func TestFlood(t *testing.T) {
	cfg := esp.Config{DisableTCP: true, Limits: esp.Limits{Handshakes: 64}}
	w := newWorld(t, cfg, cfg, linkem.Conditions{Delay: ms})
	client, server := w.dial()
	go echo(server)
	if err := ask(client, 1); err != nil {
		t.Fatal(err)
	}
	inits := captureInits(t, w, 60) // more than may be unfinished before cookies are asked for

	stop := make(chan struct{})
	done := make(chan struct{})
	var sent atomic.Int64
	began := time.Now()
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if i%10 == 0 {
				time.Sleep(ms) // some 8000 each second, 80 Mbit/s: more would only measure who gets the processor
			}
			p := respoof(inits[i%len(inits)], w.links[0].Addr(w.b), w.server.Addr().Addr.Port(), i)
			if w.links[0].Inject(w.b, p) == nil {
				sent.Add(1)
			}
		}
	}()
	for i := uint64(2); i < 200 || sent.Load() < 5000 || w.server.Stats().Cookies == 0; i++ {
		if err := ask(client, i); err != nil {
			t.Errorf("during the flood: %v", err)
			break
		}
	}
	close(stop)
	<-done
	st := w.server.Stats()
	t.Logf("%d packets: %+v", sent.Load(), st)
	if most := 300*time.Since(began).Seconds() + 300; float64(st.Handshakes) > most {
		t.Errorf("%d handshakes were worked on, in %v", st.Handshakes, time.Since(began))
	}
	if st.Repeated+st.Cookies+st.Overload < st.Handshakes {
		t.Errorf("the flood was not held off: %+v", st)
	}
	if st.Sessions != 1 {
		t.Errorf("the server has %d sessions", st.Sessions)
	}
	if err := ask(client, 1<<40); err != nil {
		t.Errorf("after the flood: %v", err)
	}
	// Who is real still gets in.
	e := w.endpoint(esp.Config{Net: w.a.Network(), DisableTCP: true})
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	go func() {
		if s, err := w.ln.AcceptStream(); err == nil {
			echo(s)
		}
	}()
	c, err := e.Dial(ctx, w.addr(w.links[0]))
	if err != nil {
		t.Fatalf("a new peer after the flood: %v", err)
	}
	if err := ask(c, 7); err != nil {
		t.Error(err)
	}
}
