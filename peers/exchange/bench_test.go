package exchange

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/integration/linkem"
	"sharefs/peers/frame"
	"sharefs/peers/identity"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// wired is an exchange over an endpoint without a hub.
type wired struct {
	*alone
	e *esp.Endpoint
}

// loose has what content costs of a memory, but the check of names.
type loose struct{ *memory }

func (loose) Check(*record.Record, sharefs.ChunkID, []byte) error { return nil }

// newPair connects two hosts that trust each other: over a link with a round trip, or the loopback where that is zero.
func newPair(b *testing.B, rtt time.Duration) (x, y *wired) {
	b.Helper()
	var n *linkem.TestNet
	var hosts [2]*linkem.Host
	addrs := []string{"127.0.0.1:0", "127.0.0.1:0"}
	cfg := []esp.Config{{}, {}}
	if rtt > 0 {
		n = linkem.Test(b)
		hosts[0], hosts[1] = n.Host("x"), n.Host("y")
		l := n.Link(hosts[0], hosts[1], linkem.Conditions{Delay: rtt / 2})
		for i := range hosts {
			addrs[i] = netip.AddrPortFrom(l.Addr(hosts[i]), 0).String()
			cfg[i].Net = hosts[i].Network()
		}
	}
	both := [2]*wired{}
	for i := range both {
		w := &wired{alone: &alone{host: &host{memory: newMemory(identity.New()), t: b, blamed: map[sharefs.PeerID]error{}}}}
		w.Exchange = New(Config{Self: w.key.ID, Policy: w.rules, Log: w.memory, Chunks: loose{w.memory}})
		cfg[i].Addrs = addrs[i : i+1]
		var err error
		if w.e, err = esp.New(cfg[i]); err != nil {
			b.Fatal(err)
		}
		both[i] = w
		b.Cleanup(func() {
			w.Exchange.Close()
			w.e.Close()
		})
	}
	x, y = both[0], both[1]
	x.set(y.key.ID, trust.Write)
	y.set(x.key.ID, trust.Write)
	for i, w := range both {
		l, err := w.e.Listen()
		if err != nil {
			b.Fatal(err)
		}
		go w.accept(l, both[1-i].key.ID)
	}
	s, err := x.e.Connect(b.Context(), y.e.PublicKey().String()+"@"+y.e.Addr().Addr.String())
	if err != nil {
		b.Fatal(err)
	}
	x.connected(y.key.ID, overESP{s})
	return x, y
}

// accept serves the streams that the other one opens.
func (w *wired) accept(l *esp.Listener, id sharefs.PeerID) {
	for {
		c, err := l.AcceptStream()
		if err != nil {
			return
		}
		go func() {
			var first struct {
				Purpose string `json:"purpose"`
			}
			var text json.RawMessage
			err := frame.Read(c, &text)
			if err == nil {
				err = json.Unmarshal(text, &first)
			}
			switch {
			case err != nil:
				c.Close()
			case first.Purpose == purposeRecords:
				w.serve(id, overESP{c.Session()}, c, (*peer).controlStream)
			default:
				w.serve(id, overESP{c.Session()}, c, (*peer).chunkStream)
			}
		}()
	}
}

const bulk = 128 << 20

// BenchmarkBulk fetches one large content, beside what the transport alone carries.
func BenchmarkBulk(b *testing.B) {
	for _, rtt := range []time.Duration{0, 50 * time.Millisecond} {
		b.Run(fmt.Sprintf("rtt=%v/exchange", rtt), func(b *testing.B) {
			x, y := newPair(b, rtt)
			var parts [][]byte
			for i := range bulk >> 16 {
				parts = append(parts, noise(uint64(i), 64<<10))
			}
			r, ids := x.version(b, parts...)
			x.author(b, r)
			y.sources(1)
			b.SetBytes(bulk)
			for b.Loop() {
				y.Want(r, ids[:len(parts)]...)
				for _, id := range ids[:len(parts)] {
					if _, err := y.Get(b.Context(), r, id); err != nil {
						b.Fatal(err)
					}
				}
				y.Drop(r.ID())
			}
		})
		b.Run(fmt.Sprintf("rtt=%v/esp", rtt), func(b *testing.B) {
			x, y := newPair(b, rtt)
			y.sources(1)
			l, err := y.e.Sessions()[0].Listen() // instead of the exchange
			if err != nil {
				b.Fatal(err)
			}
			data := noise(1, 1<<20)
			b.SetBytes(bulk)
			for b.Loop() {
				done := make(chan error, 1)
				go func() {
					c, err := l.AcceptStream()
					if err == nil {
						_, err = io.Copy(io.Discard, c)
						c.Close()
					}
					done <- err
				}()
				c, err := x.e.Sessions()[0].Open(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				for range bulk >> 20 {
					if _, err := c.Write(data); err != nil {
						b.Fatal(err)
					}
				}
				if err := c.CloseWrite(); err != nil {
					b.Fatal(err)
				}
				if err := <-done; err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}

// BenchmarkSmall fetches 10,000 small files.
func BenchmarkSmall(b *testing.B) {
	for _, rtt := range []time.Duration{0, 50 * time.Millisecond} {
		b.Run(fmt.Sprintf("rtt=%v", rtt), func(b *testing.B) {
			x, y := newPair(b, rtt)
			var list []*record.Record
			var ids []sharefs.ChunkID
			for i := range 10_000 {
				r, id := x.version(b, noise(uint64(i), 1000))
				list, ids = append(list, r), append(ids, id[0])
				if len(list)%1000 == 0 {
					x.author(b, list[len(list)-1000:]...)
				}
			}
			y.sources(1)
			b.SetBytes(10_000 * 1000)
			for b.Loop() {
				for i, r := range list {
					y.Want(r, ids[i])
				}
				for i, r := range list {
					if _, err := y.Get(b.Context(), r, ids[i]); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkRecord takes one record from one log to the other and acknowledges it: the latency of a change.
func BenchmarkRecord(b *testing.B) {
	for _, rtt := range []time.Duration{0, 50 * time.Millisecond} {
		b.Run(fmt.Sprintf("rtt=%v", rtt), func(b *testing.B) {
			x, y := newPair(b, rtt)
			y.sources(1)
			n := 0
			for b.Loop() {
				n++
				x.memory.write(b, fmt.Sprint(n))
				x.Grown()
				for y.count() < n {
					time.Sleep(20 * time.Microsecond)
				}
			}
		})
	}
}
