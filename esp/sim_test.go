package esp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"sharefs/esp/internal/simnet"
)

// lockedRand is a seeded source for Config.Rand, so that a test always runs the same way.
type lockedRand struct {
	mu  sync.Mutex
	rng *rand.ChaCha8
}

func seeded(seed uint64) io.Reader {
	var s [32]byte
	binary.BigEndian.PutUint64(s[:], seed)
	return &lockedRand{rng: rand.NewChaCha8(s)}
}

func (r *lockedRand) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rng.Read(p)
}

// sim is two endpoints on a net in memory.
type sim struct {
	t              *testing.T
	n              *simnet.Net
	ch, sh         *simnet.Host
	client, server *Endpoint
	l              *Listener
	events         []string
	mu             sync.Mutex
}

// simConfig is what a test may change before the endpoints are made.
type simConfig struct {
	client, server Config
	clientAddrs    []string // of the client's host; one socket on each
	serverAddrs    []string
	link           simnet.Link
	seed           uint64
}

const (
	clientIP = "10.0.0.1"
	serverIP = "10.0.0.2"
)

// newSim makes the endpoints. It must run in a bubble, or in real time.
func newSim(t *testing.T, c simConfig) *sim {
	t.Helper()
	s := &sim{t: t, n: simnet.New(c.seed + 1)}
	if c.clientAddrs == nil {
		c.clientAddrs = []string{clientIP}
	}
	if c.serverAddrs == nil {
		c.serverAddrs = []string{serverIP}
	}
	s.ch, s.sh = s.n.Host(c.clientAddrs...), s.n.Host(c.serverAddrs...)
	for _, a := range c.clientAddrs {
		for _, b := range c.serverAddrs {
			s.n.Link(a, b, c.link)
		}
	}
	s.client = s.endpoint(c.client, s.ch, c.clientAddrs, 100+c.seed)
	s.server = s.endpoint(c.server, s.sh, c.serverAddrs, 200+c.seed)
	l, err := s.server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s.l = l
	return s
}

func (s *sim) endpoint(cfg Config, h *simnet.Host, addrs []string, seed uint64) *Endpoint {
	s.t.Helper()
	cfg.Net = h
	if cfg.Rand == nil {
		cfg.Rand = seeded(seed)
	}
	for _, a := range addrs {
		cfg.Addrs = append(cfg.Addrs, net.JoinHostPort(a, "7000"))
	}
	if cfg.Trace == nil {
		cfg.Trace = s.trace
	}
	e, err := New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

func (s *sim) trace(ev Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	side := "server"
	if ev.Session.client {
		side = "client"
	}
	s.events = append(s.events, fmt.Sprintf("%9.3fs %s %v %d: %s", ev.At.Seconds(), side, ev.Kind, ev.Path, ev.Detail))
}

// log shows what happened, for a test that fails.
func (s *sim) log() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		s.t.Log(e)
	}
}

func (s *sim) close() {
	s.client.Close()
	s.server.Close()
}

func (s *sim) address() string { return s.server.PublicKey().String() + "@" + serverIP + ":7000" }

// dial opens a stream and returns both ends.
func (s *sim) dial() (c, d *Conn) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	defer cancel()
	c, err := s.client.Dial(ctx, s.address())
	if err != nil {
		s.log()
		s.t.Fatal(err)
	}
	if d, err = s.l.AcceptStream(); err != nil {
		s.t.Fatal(err)
	}
	return c, d
}

// pattern fills n bytes that no two offsets share.
func pattern(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), 7})
	r.Read(b)
	return b
}

// transfer sends data from a to b and half-closes; it returns how long that took.
func (s *sim) transfer(a, b *Conn, data []byte) time.Duration {
	s.t.Helper()
	start := time.Now()
	errs := make(chan error, 1)
	go func() {
		_, err := a.Write(data)
		if err == nil {
			err = a.CloseWrite()
		}
		errs <- err
	}()
	h := sha256.New()
	n, err := io.Copy(h, b)
	if werr := <-errs; err == nil {
		err = werr
	}
	want := sha256.Sum256(data)
	if err != nil || int(n) != len(data) || !bytes.Equal(h.Sum(nil), want[:]) {
		s.log()
		s.t.Fatalf("%d of %d bytes arrived (or the wrong ones): %v", n, len(data), err)
	}
	return time.Since(start)
}

func TestSimTransfer(t *testing.T) {
	for _, link := range []simnet.Link{
		{Delay: 5 * time.Millisecond},
		{Delay: 25 * time.Millisecond, Rate: 25e6},
		{Delay: 25 * time.Millisecond, Rate: 25e6, Loss: 0.01},
		{Delay: 10 * time.Millisecond, Loss: 0.05, Dup: 0.05, Reorder: 0.1, Jitter: 5 * time.Millisecond},
		{Delay: 10 * time.Millisecond, Loss: 0.1, Corrupt: 0.05, Cut: 0.05, Dup: 0.1},
	} {
		for _, off := range []string{"tcp", "udp"} {
			synctest.Test(t, func(t *testing.T) {
				s := newSim(t, simConfig{link: link, client: Config{DisableTCP: off == "tcp", DisableUDP: off == "udp"}})
				defer s.close()
				c, d := s.dial()
				data := pattern(1, 4<<20)
				took := s.transfer(c, d, data)
				t.Logf("%+v without %s: %v, %.2f MB/s", link, off, took, float64(len(data))/took.Seconds()/1e6)
				s.transfer(d, c, data[:1<<20])
				c.Close()
				d.Close()
			})
		}
	}
}

// TestConnOverLossyNet runs in real time, since nettest uses subtests.
func TestConnOverLossyNet(t *testing.T) {
	s := newSim(t, simConfig{
		link:   simnet.Link{Delay: time.Millisecond, Jitter: time.Millisecond, Loss: 0.05, Dup: 0.05, Reorder: 0.1},
		client: Config{DisableTCP: true},
	})
	defer s.close()
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := s.dial()
		return a, b, func() {
			a.Close()
			b.Close()
		}, nil
	})
}
