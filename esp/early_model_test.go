package esp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sharefs/esp/internal/simnet"
	"sharefs/integration/race"
)

// TestEarlyModel has many streams at once do this and that over bad nets. What becomes of each is told by its first byte; every accepted one must
// carry exactly its bytes, every refused one say so, and in the end nothing must be left.
func TestEarlyModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if seed > 1 {
				race.Leave(t, race.Enough)
			}
			for _, base := range []Config{{DisableTCP: true}, {DisableUDP: true}, {DisableTCP: true, Scheduler: Aggregate}} {
				synctest.Test(t, func(t *testing.T) { earlyModel(t, seed, base) })
			}
		})
	}
}

func earlyModel(t *testing.T, seed uint64, base Config) {
	server := base
	server.Limits = Limits{Streams: 24, SessionWindow: 256 << 10}
	two := base.Scheduler == Aggregate
	cfg := simConfig{client: base, server: server, seed: seed,
		link: simnet.Link{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.05, Dup: 0.1, Reorder: 0.2}}
	if two {
		cfg.clientAddrs, cfg.serverAddrs = []string{clientIP, "10.1.0.1"}, []string{serverIP, "10.1.0.2"}
	}
	s := newSim(t, cfg)
	defer s.close()
	c, d := s.sessions()
	if two { // until there are two paths
		time.Sleep(10 * time.Second)
	}
	// The server's end refuses what the client opens while its listener is closed, now and then.
	var mu sync.Mutex
	stopped := false
	var served sync.WaitGroup
	serve := func(l *Listener) {
		for {
			f, err := l.AcceptStream()
			if err != nil {
				return
			}
			served.Go(func() {
				defer f.Close()
				var head [13]byte
				if _, err := io.ReadFull(f, head[:]); err != nil {
					return
				}
				n := binary.BigEndian.Uint32(head[1:])
				want := pattern(binary.BigEndian.Uint64(head[5:]), int(n))
				got, err := io.ReadAll(f)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d of %d bytes came, %v", len(got), n, err)
				}
				if head[0] == 'a' {
					f.Write(got)
				}
			})
		}
	}
	go serve(s.l)
	toggled := make(chan struct{})
	go func() {
		defer close(toggled)
		l := s.l
		for {
			time.Sleep(200 * time.Millisecond)
			l.Close()
			mu.Lock()
			end := stopped
			mu.Unlock()
			time.Sleep(200 * time.Millisecond)
			nl, err := s.server.Listen()
			if err != nil {
				t.Error(err)
				return
			}
			l = nl
			go serve(l)
			if end {
				return
			}
		}
	}()
	var clients sync.WaitGroup
	var accepted, refused int
	for i := range 6 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		clients.Go(func() {
			for range 25 {
				kind := "af"[rng.IntN(2)]
				size := []int{0, 100, 5000, 16 << 10, 40_000}[rng.IntN(5)]
				head := append([]byte{kind}, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(size)), rng.Uint64N(100))...)
				body := pattern(binary.BigEndian.Uint64(head[5:]), size)
				if rng.IntN(4) == 0 { // given up
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(40))*time.Millisecond)
					if e, err := c.Open(ctx); err == nil {
						e.Close()
					}
					cancel()
				}
				e, err := c.OpenEarly(t.Context(), head)
				if err == nil {
					_, err = e.Write(body)
				}
				if err == nil {
					err = e.CloseWrite()
				}
				var got []byte
				if err == nil && kind == 'a' {
					got, err = io.ReadAll(e)
				}
				mu.Lock()
				switch {
				case errors.Is(err, syscall.ECONNREFUSED):
					refused++
				case err != nil:
					t.Error(err)
				case kind == 'a' && !bytes.Equal(got, body):
					t.Errorf("%d of %d bytes came back", len(got), len(body))
				default:
					accepted++
				}
				mu.Unlock()
				if e != nil {
					e.Close()
				}
			}
		})
	}
	clients.Wait()
	mu.Lock()
	stopped = true
	mu.Unlock()
	<-toggled
	time.Sleep(30 * time.Second)
	served.Wait()
	s.settled(c, d)
	if accepted == 0 || refused == 0 {
		t.Errorf("%d accepted, %d refused: the test shows nothing", accepted, refused)
	}
	t.Logf("seed %d: %d accepted, %d refused", seed, accepted, refused)
}
