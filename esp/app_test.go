package esp

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sharefs/integration/race"
)

// realCarriages runs a test over both carriages on loopback.
func realCarriages(t *testing.T, test func(t *testing.T, cfg Config)) {
	for _, v := range []struct {
		name string
		cfg  Config
	}{{"udp", Config{DisableTCP: true}}, {"tcp", Config{DisableUDP: true}}} {
		t.Run(v.name, func(t *testing.T) { test(t, v.cfg) })
	}
}

// TestHTTP runs net/http unchanged: a thousand requests at once.
func TestHTTP(t *testing.T) {
	realCarriages(t, func(t *testing.T, cfg Config) {
		leakCheck(t)
		p := newTestPair(t, cfg, cfg)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %x", r.URL.Path, sha256.Sum256(body))
		})}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(p.l) }()
		defer func() {
			srv.Close()
			if err := <-served; err != http.ErrServerClosed {
				t.Error(err)
			}
		}()
		addr := p.server.Addr().String()
		tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return p.client.Dial(ctx, addr) }}
		defer tr.CloseIdleConnections()
		cl := &http.Client{Transport: tr, Timeout: testTime}
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				body := strings.Repeat(fmt.Sprint("request ", i, " "), 200)
				resp, err := cl.Post(fmt.Sprintf("http://peer/%d", i), "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if want := fmt.Sprintf("/%d %x", i, sha256.Sum256([]byte(body))); err != nil || string(got) != want {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		wg.Wait()
	})
}

// TestTLSInside runs crypto/tls over a Conn unchanged.
func TestTLSInside(t *testing.T) {
	realCarriages(t, func(t *testing.T, cfg Config) {
		p := newTestPair(t, cfg, cfg)
		c, s := p.conns()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		srv := tls.Server(s, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
		cl := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		data := pattern(4, 4<<20)
		go func() {
			cl.Write(data)
			cl.Close()
		}()
		got, err := io.ReadAll(srv)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
}

// TestBigWrite writes 64 MiB in one call.
func TestBigWrite(t *testing.T) {
	data := pattern(5, 64<<20)
	want := sha256.Sum256(data)
	realCarriages(t, func(t *testing.T, cfg Config) {
		p := newTestPair(t, cfg, cfg)
		c, s := p.conns()
		h := sha256.New()
		done := make(chan error, 1)
		go func() {
			n, err := io.Copy(h, s)
			if err == nil && n != int64(len(data)) {
				err = fmt.Errorf("%d bytes came", n)
			}
			done <- err
		}()
		if n, err := c.Write(data); n != len(data) || err != nil {
			t.Fatal(n, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(h.Sum(nil), want[:]) {
			t.Fatal("the bytes differ")
		}
	})
}

// textOf makes n bytes that look like a tree of sources: some of it compresses well, some hardly, some not at all.
func textOf(seed uint64, n int) []byte {
	rng := mrand.New(mrand.NewPCG(seed, 3))
	var words [400][]byte
	for i := range words {
		words[i] = fmt.Appendf(nil, "%x ", rng.Uint64()>>(8*rng.IntN(7)))
	}
	b := make([]byte, 0, n+1<<20)
	for len(b) < n {
		switch end := len(b) + 1<<10 + rng.IntN(300<<10); rng.IntN(6) {
		case 0: // nothing to be won
			for len(b) < end {
				b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
			}
		case 1: // almost nothing but zeros
			b = append(append(b, make([]byte, end-len(b))...), byte(rng.Uint32()))
		default:
			for few := 1 + rng.IntN(len(words)); len(b) < end; {
				b = append(b, words[rng.IntN(few)]...)
			}
		}
	}
	return b[:n]
}

// TestBulkText sends text in bulk, which passes through all that the encoder does, and compares every byte.
func TestBulkText(t *testing.T) {
	data := textOf(1, 12<<20)
	realCarriages(t, func(t *testing.T, cfg Config) {
		p := newTestPair(t, cfg, cfg)
		for name, send := range map[string]func(c *Conn, data []byte) error{
			"in one Write": func(c *Conn, data []byte) error { _, err := c.Write(data); return err },
			"in pieces of any size": func(c *Conn, data []byte) error {
				rng := mrand.New(mrand.NewPCG(2, 2))
				for rest := data; len(rest) > 0; {
					n := min(len(rest), 1+rng.IntN(1<<(4+rng.IntN(15))))
					if _, err := c.Write(rest[:n]); err != nil {
						return err
					}
					rest = rest[n:]
				}
				return nil
			},
		} {
			c, s := p.conns()
			sent := make(chan error, 1)
			go func() {
				err := send(c, data)
				if err == nil {
					err = c.CloseWrite()
				}
				sent <- err
			}()
			buf := make([]byte, 256<<10)
			at := 0
			for {
				n, err := s.Read(buf)
				if !bytes.HasPrefix(data[at:], buf[:n]) {
					t.Fatalf("%s: other bytes than were sent, between %d and %d", name, at, at+n)
				}
				at += n
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("%s: after %d bytes: %v", name, at, err)
				}
			}
			if err := <-sent; err != nil || at != len(data) {
				t.Fatalf("%s: %d of %d bytes came: %v", name, at, len(data), err)
			}
			if st := c.Stats(); st.Sent >= st.Written {
				t.Errorf("%s: nothing was compressed: %+v", name, st)
			}
			c.Close()
			s.Close()
		}
	})
}

// TestManyConns holds 5,000 connections open in one process, with bytes flowing on each, and leaves nothing behind.
func TestManyConns(t *testing.T) {
	for _, n := range []int{500, 5000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			if n > 500 {
				race.Leave(t, race.Enough)
			}
			manyConns(t, n)
		})
	}
}

func manyConns(t *testing.T, n int) {
	realCarriages(t, func(t *testing.T, cfg Config) {
		cfg.Limits = Limits{Streams: n}
		leakCheck(t)
		var before runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		func() {
			client, server := cfg, cfg
			client.Addrs, server.Addrs = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
			ce, err := New(client)
			if err != nil {
				t.Fatal(err)
			}
			defer ce.Close()
			se, err := New(server)
			if err != nil {
				t.Fatal(err)
			}
			defer se.Close()
			l, err := se.Listen()
			if err != nil {
				t.Fatal(err)
			}
			go func() { // an echo server
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						io.Copy(c, c)
					}()
				}
			}()
			ctx := testContext(t)
			conns := make([]*Conn, n)
			var wg sync.WaitGroup
			for w := range 50 {
				wg.Go(func() {
					for i := w; i < n; i += 50 {
						c, err := ce.Dial(ctx, se.Addr().String())
						if err != nil {
							t.Error(err)
							return
						}
						conns[i] = c
					}
				})
			}
			wg.Wait()
			if t.Failed() {
				return
			}
			goroutines := runtime.NumGoroutine()
			for round := range 3 {
				for i, c := range conns {
					if _, err := fmt.Fprintf(c, "%8d %8d", round, i); err != nil {
						t.Fatal(err)
					}
				}
				for i, c := range conns {
					var buf [17]byte
					if _, err := io.ReadFull(c, buf[:]); err != nil || string(buf[:]) != fmt.Sprintf("%8d %8d", round, i) {
						t.Fatalf("conn %d: %q, %v", i, buf, err)
					}
				}
			}
			t.Logf("%d goroutines, of which %d are the echo server's", goroutines, n)
			for _, c := range conns {
				c.Close()
			}
			waitFor(t, "all streams are gone", func() bool {
				for _, e := range []*Endpoint{ce, se} {
					for _, s := range e.Sessions() {
						if s.Stats().Streams > 0 {
							return false
						}
					}
				}
				return true
			})
		}()
		var after runtime.MemStats
		waitFor(t, "memory is back", func() bool {
			runtime.GC()
			runtime.ReadMemStats(&after)
			return after.HeapAlloc < before.HeapAlloc+16<<20
		})
	})
}

// TestListenAndDial is the package as most will use it.
func TestListenAndDial(t *testing.T) {
	leakCheck(t)
	l, err := Listen("127.0.0.1:0", Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	c, err := Dial(ctx, l.Addr().String(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil { // what was accepted lives on
		t.Fatal(err)
	}
	exchange(t, c, s)
	if _, err := Dial(ctx, l.Addr().String(), Config{HandshakeTimeout: 5 * time.Second}); err == nil {
		t.Fatal("a closed listener took a connection")
	}
	c.Close()
	if _, err := io.ReadAll(s); err != nil {
		t.Fatal(err)
	}
	s.Close()
	waitFor(t, "the endpoint of the listener is closed", func() bool {
		l.e.mu.Lock()
		defer l.e.mu.Unlock()
		return l.e.closed
	})
	l.Close()
}
