//go:build linux

// Package esptest holds ESP against networks that misbehave: links that break, shrink, lose, reorder and filter, and hosts
// that flood. The hosts are network namespaces (package linkem); where there can be none, the tests say why and are
// skipped. What they assert holds on a busy machine too: that bytes come through and are right, not how fast.
package esptest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sharefs/esp"
	"sharefs/integration/linkem"
)

// patience only ends a test that hangs.
const patience = 3 * time.Minute

const (
	ms = time.Millisecond
	mb = 1e6
)

// world is two hosts, the links between them and an ESP endpoint on each. The client dials.
type world struct {
	t              *testing.T
	net            *linkem.TestNet
	a, b           *linkem.Host // of the client, of the server
	links          []*linkem.Link
	client, server *esp.Endpoint
	ln             *esp.Listener
	ctx            context.Context
}

// newWorld makes a world. The configurations may be zero: keys, hosts and addresses are filled in.
func newWorld(t *testing.T, client, server esp.Config, links ...linkem.Conditions) *world {
	t.Helper()
	w := &world{t: t, net: linkem.Test(t)}
	w.a, w.b = w.net.Host("client"), w.net.Host("server")
	for _, c := range links {
		w.links = append(w.links, w.net.Link(w.a, w.b, c))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	w.ctx = ctx
	client.Net, server.Net = w.a.Network(), w.b.Network()
	w.client, w.server = w.endpoint(client), w.endpoint(server)
	var err error
	if w.ln, err = w.server.Listen(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) endpoint(cfg esp.Config) *esp.Endpoint {
	w.t.Helper()
	cfg.Addrs = []string{"0.0.0.0:0"}
	cfg.Linger = -1
	e, err := esp.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { e.Close() })
	return e
}

// addr is the server's address on a link.
func (w *world) addr(l *linkem.Link) string {
	at := w.server.Addr()
	at.Addr = netip.AddrPortFrom(l.Addr(w.b), at.Addr.Port())
	return at.String()
}

// dial opens a stream over the first link.
func (w *world) dial() (c, s *esp.Conn) {
	w.t.Helper()
	c, err := w.client.Dial(w.ctx, w.addr(w.links[0]))
	if err != nil {
		w.t.Fatalf("dial: %v", err)
	}
	w.t.Cleanup(func() { c.Close() })
	if s, err = w.ln.AcceptStream(); err != nil {
		w.t.Fatalf("accept: %v", err)
	}
	w.t.Cleanup(func() { s.Close() })
	for _, k := range []*esp.Conn{c, s} {
		k.SetDeadline(time.Now().Add(patience))
	}
	return c, s
}

// until waits for something that must come to pass.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	for began := time.Now(); !cond(); time.Sleep(5 * ms) {
		if time.Since(began) > patience {
			w.t.Fatalf("it did not come to pass that %s; the client's paths are %s", what, w.paths())
		}
	}
}

func (w *world) paths() string {
	var b bytes.Buffer
	for _, s := range w.client.Sessions() {
		for _, p := range s.Paths() {
			fmt.Fprintf(&b, "\n  %d %s %v to %v %s active %v RTT %v MTU %d sent %d lost %d why %q", p.ID, p.Kind, p.Local, p.Remote, p.State,
				p.Active, p.RTT, p.MTU, p.PacketsSent, p.PacketsLost, p.Why)
		}
	}
	return b.String()
}

// ready counts the paths of a kind that can be used.
func ready(s *esp.Session, kind string) (n int) {
	for _, p := range s.Paths() {
		if p.Kind == kind && p.State == "ready" {
			n++
		}
	}
	return n
}

// active returns the path that data go over.
func active(s *esp.Session) (p esp.PathInfo) {
	for _, p := range s.Paths() {
		if p.Active {
			return p
		}
	}
	return p
}

// over reports whether the active path goes over a link.
func over(s *esp.Session, l *linkem.Link, h *linkem.Host) bool {
	return active(s).Remote.Addr() == l.Addr(h)
}

// transfer is a stream of bytes that both ends can make, so that the receiver knows at once when one is wrong.
type transfer struct {
	t       *testing.T
	sent    atomic.Int64
	got     atomic.Int64
	longest atomic.Int64 // pause between two reads, in ns
	done    chan struct{}
	once    sync.Once
	stop    chan struct{}
}

// startTransfer sends from one end to the other, at most limit bytes or until finish (limit 0), and checks what arrives.
func startTransfer(t *testing.T, from, to *esp.Conn, limit int64) *transfer {
	x := &transfer{t: t, done: make(chan struct{}), stop: make(chan struct{})}
	var wg sync.WaitGroup
	hashes := [2][]byte{}
	wg.Go(func() {
		h := sha256.New()
		rng := rand.NewChaCha8([32]byte{1})
		buf := make([]byte, 32<<10)
		for n := int64(0); limit == 0 || n < limit; n += int64(len(buf)) {
			select {
			case <-x.stop:
				limit = n
			default:
			}
			if limit > 0 && n >= limit {
				break
			}
			rng.Read(buf)
			h.Write(buf)
			if _, err := from.Write(buf); err != nil {
				t.Errorf("write after %d bytes: %v", n, err)
				return
			}
			x.sent.Add(int64(len(buf)))
		}
		hashes[0] = h.Sum(nil)
		if err := from.CloseWrite(); err != nil {
			t.Errorf("CloseWrite: %v", err)
		}
	})
	wg.Go(func() {
		h := sha256.New()
		buf := make([]byte, 64<<10)
		for last := time.Now(); ; {
			n, err := to.Read(buf)
			h.Write(buf[:n])
			x.got.Add(int64(n))
			if pause := int64(time.Since(last)); pause > x.longest.Load() {
				x.longest.Store(pause)
			}
			last = time.Now()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Errorf("read after %d bytes: %v", x.got.Load(), err)
				return
			}
		}
		hashes[1] = h.Sum(nil)
	})
	go func() {
		wg.Wait()
		if !t.Failed() && !bytes.Equal(hashes[0], hashes[1]) {
			t.Errorf("the bytes that arrived are not those that were sent (%d, %d)", x.got.Load(), x.sent.Load())
		}
		close(x.done)
	}()
	return x
}

// finish ends the sending and waits until all has arrived.
func (x *transfer) finish() {
	x.t.Helper()
	x.once.Do(func() { close(x.stop) })
	select {
	case <-x.done:
	case <-time.After(patience):
		x.t.Fatalf("the transfer hangs: %d bytes sent, %d arrived", x.sent.Load(), x.got.Load())
	}
	if x.got.Load() != x.sent.Load() {
		x.t.Errorf("%d bytes sent, %d arrived", x.sent.Load(), x.got.Load())
	}
}

// moves waits until n more bytes have arrived.
func (w *world) moves(x *transfer, n int64) {
	w.t.Helper()
	want := x.got.Load() + n
	w.until(fmt.Sprintf("%d more bytes arrive", n), func() bool { return x.got.Load() >= want })
}

// echo answers each message of 8 bytes on s by the same, until the stream ends.
func echo(s *esp.Conn) {
	buf := make([]byte, 8)
	for {
		if _, err := io.ReadFull(s, buf); err != nil {
			return
		}
		if _, err := s.Write(buf); err != nil {
			return
		}
	}
}

// ask sends a number over a stream that is echoed, and wants it back.
func ask(c *esp.Conn, n uint64) error {
	if err := binary.Write(c, binary.BigEndian, n); err != nil {
		return err
	}
	var got uint64
	if err := binary.Read(c, binary.BigEndian, &got); err != nil {
		return err
	}
	if got != n {
		return fmt.Errorf("%d came back instead of %d", got, n)
	}
	return nil
}
