package esp

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"
)

// testTime ends a hang; no test takes that long.
const testTime = 5 * time.Minute

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	t.Cleanup(cancel)
	return ctx
}

// testEndpoint opens an endpoint on loopback that closes with the test.
func testEndpoint(t testing.TB, cfg Config) *Endpoint {
	t.Helper()
	if len(cfg.Addrs) == 0 {
		cfg.Addrs = []string{"127.0.0.1:0"}
	}
	if cfg.HandshakeTimeout == 0 {
		cfg.HandshakeTimeout = testTime // the machine may be busy
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// testPair is two endpoints, of which the second listens.
type testPair struct {
	t      testing.TB
	client *Endpoint
	server *Endpoint
	l      *Listener
}

func newTestPair(t testing.TB, client, server Config) *testPair {
	t.Helper()
	p := &testPair{t: t, client: testEndpoint(t, client), server: testEndpoint(t, server)}
	l, err := p.server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	p.l = l
	return p
}

// conns opens a stream and returns both ends.
func (p *testPair) conns() (c, s *Conn) {
	p.t.Helper()
	c, err := p.client.Dial(testContext(p.t), p.server.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	s, err = p.l.AcceptStream()
	if err != nil {
		p.t.Fatal(err)
	}
	return c, s
}

// waitFor waits until ok holds.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(testTime)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// leakCheck fails the test when it ends with more goroutines than it began with. Call it before anything else.
func leakCheck(t testing.TB) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		waitFor(t, "goroutines are back to the start", func() bool { return runtime.NumGoroutine() <= before })
	})
}

var _ net.Conn = (*Conn)(nil)
var _ net.Listener = (*Listener)(nil)
