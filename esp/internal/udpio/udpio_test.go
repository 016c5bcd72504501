package udpio

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// patience ends a test that hangs; no test takes a share of it that matters.
const patience = 2 * time.Minute

func listen(t *testing.T, network, addr string, opt Options) []Conn {
	t.Helper()
	cs, err := Listen(network, addr, opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cs {
		t.Cleanup(func() { c.Close() })
		c.SetReadDeadline(time.Now().Add(patience))
	}
	return cs
}

func one(t *testing.T, network, addr string) Conn {
	t.Helper()
	return listen(t, network, addr, Options{Sockets: 1})[0]
}

// datagrams returns n datagrams of seg bytes end to end, the last one short, each marked with its number.
func datagrams(n, seg, last int) []byte {
	buf := make([]byte, (n-1)*seg+last)
	for i := range buf {
		buf[i] = byte(i/seg) ^ byte(i%seg)
	}
	return buf
}

// gather receives until want bytes are there, and returns them in order of arrival with the sizes of the datagrams.
func gather(t *testing.T, c Conn, want int, check func(Datagram)) (data []byte, sizes []int) {
	t.Helper()
	b := NewBatch(4)
	for len(data) < want {
		if err := c.Recv(b); err != nil {
			t.Fatalf("after %d of %d bytes: %v", len(data), want, err)
		}
		if len(b.Datagrams) == 0 {
			t.Fatal("Recv returned nothing")
		}
		for _, d := range b.Datagrams {
			data = append(data, d.Data...)
			sizes = append(sizes, len(d.Data))
			if check != nil {
				check(d)
			}
		}
	}
	return data, sizes
}

// kinds are the implementations on which the common tests run.
var kinds = map[string]func(*testing.T, string, string) Conn{
	"system": one,
	"adopted": func(t *testing.T, network, addr string) Conn {
		pc, err := net.ListenPacket(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pc.Close() })
		c, err := Adopt(pc, Options{})
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(patience))
		return c
	},
	"wrapped": func(t *testing.T, network, addr string) Conn {
		pc, err := net.ListenPacket(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pc.Close() })
		pc.SetReadDeadline(time.Now().Add(patience))
		return Wrap(pc)
	},
}

func TestSendAndReceive(t *testing.T) {
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) {
			a, b := open(t, "udp4", "127.0.0.1:0"), open(t, "udp4", "127.0.0.1:0")
			for _, c := range []struct{ n, seg, last int }{{1, 100, 100}, {2, 1, 1}, {5, 1200, 17}, {40, 1400, 1400}, {64, 1000, 3}} {
				buf := datagrams(c.n, c.seg, c.last)
				for at := 0; at < len(buf); { // as one who asks how much a Send may hold
					n := min(a.MaxSegments(b.LocalAddr(), c.seg)*c.seg, len(buf)-at)
					if err := a.Send(b.LocalAddr(), netip.Addr{}, buf[at:at+n], c.seg); err != nil {
						t.Fatal(err)
					}
					at += n
				}
				got, sizes := gather(t, b, len(buf), func(d Datagram) {
					if d.From != a.LocalAddr() {
						t.Errorf("from %v, want %v", d.From, a.LocalAddr())
					}
				})
				if !bytes.Equal(got, buf) || len(sizes) != c.n || sizes[0] != min(c.seg, len(buf)) || sizes[c.n-1] != c.last {
					t.Errorf("%+v: %d bytes in sizes %v, equal %v", c, len(got), sizes, bytes.Equal(got, buf))
				}
			}
			if s, r := a.Stats(), b.Stats(); s.SentDatagrams != 112 || r.RecvDatagrams != 112 || s.SendErrors != 0 || r.Truncated != 0 {
				t.Errorf("sender %+v, receiver %+v", s, r)
			}
		})
	}
}

func TestFamilies(t *testing.T) {
	for _, c := range []struct{ network, bind, network2, bind2, from string }{
		{"udp4", "127.0.0.1:0", "udp4", "127.0.0.1:0", "127.0.0.1"},
		{"udp6", "[::1]:0", "udp6", "[::1]:0", "::1"},
		{"udp", ":0", "udp4", "127.0.0.1:0", "127.0.0.1"}, // IPv4 over an AF_INET6 socket
		{"udp", ":0", "udp6", "[::1]:0", "::1"},
		{"udp4", "127.0.0.1:0", "udp", ":0", "127.0.0.1"},
	} {
		a, b := one(t, c.network, c.bind), one(t, c.network2, c.bind2)
		host := netip.MustParseAddr(c.from)
		to := netip.AddrPortFrom(host, b.LocalAddr().Port())
		for _, from := range []netip.Addr{{}, host} {
			buf := datagrams(8, 500, 5)
			if err := a.Send(to, from, buf, 500); err != nil {
				t.Fatalf("%+v from %v: %v", c, from, err)
			}
			got, sizes := gather(t, b, len(buf), func(d Datagram) {
				if want := netip.AddrPortFrom(host, a.LocalAddr().Port()); d.From != want {
					t.Errorf("%+v: from %v, want %v", c, d.From, want)
				}
				if d.To.IsValid() && d.To != host {
					t.Errorf("%+v: to %v, want %v", c, d.To, host)
				}
			})
			if !bytes.Equal(got, buf) || len(sizes) != 8 {
				t.Errorf("%+v: sizes %v", c, sizes)
			}
		}
	}
}

func TestSocketsShareAPort(t *testing.T) {
	cs := listen(t, "udp4", "127.0.0.1:0", Options{Sockets: 4})
	for _, c := range cs {
		if c.LocalAddr() != cs[0].LocalAddr() {
			t.Errorf("%v beside %v", c.LocalAddr(), cs[0].LocalAddr())
		}
	}
	// Every sender's datagrams reach one of the sockets.
	const senders = 32
	got := make(chan byte, senders)
	var wg sync.WaitGroup
	for _, c := range cs {
		wg.Go(func() {
			b := NewBatch(1)
			for c.Recv(b) == nil {
				for _, d := range b.Datagrams {
					got <- d.Data[0]
				}
			}
		})
	}
	for i := range senders {
		if err := one(t, "udp4", "127.0.0.1:0").Send(cs[0].LocalAddr(), netip.Addr{}, []byte{byte(i)}, 1); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[byte]bool{}
	for range senders {
		select {
		case i := <-got:
			seen[i] = true
		case <-time.After(patience):
			t.Fatalf("only %d of %d arrived", len(seen), senders)
		}
	}
	if len(seen) != senders {
		t.Errorf("%d of %d senders were heard", len(seen), senders)
	}
	listen(t, "udp4", cs[0].LocalAddr().String(), Options{Sockets: 2}) // a given port, while it is held
	for _, c := range cs {
		c.Close()
	}
	wg.Wait()
	busy := 0
	for _, c := range cs {
		if c.Stats().RecvDatagrams > 0 {
			busy++
		}
	}
	if busy < 2 && runtime.GOOS == "linux" { // by chance once in 4^31 runs
		t.Error("the kernel gave all flows to one socket")
	}
}

func TestCloseWakesRecv(t *testing.T) {
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) {
			c := open(t, "udp4", "127.0.0.1:0")
			done := make(chan error, 1)
			go func() { done <- c.Recv(NewBatch(1)) }()
			c.Close()
			select {
			case err := <-done:
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("%v, want net.ErrClosed", err)
				}
			case <-time.After(patience):
				t.Fatal("Recv did not wake")
			}
			if err := c.Send(c.LocalAddr(), netip.Addr{}, []byte{1}, 1); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Send after Close: %v", err)
			}
		})
	}
}

func TestReadDeadline(t *testing.T) {
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) {
			c := open(t, "udp4", "127.0.0.1:0")
			c.SetReadDeadline(time.Now().Add(-time.Second))
			if err := c.Recv(NewBatch(1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v, want os.ErrDeadlineExceeded", err)
			}
		})
	}
}

func TestTooBig(t *testing.T) {
	a, b := one(t, "udp4", "127.0.0.1:0"), one(t, "udp4", "127.0.0.1:0")
	if err := a.Send(b.LocalAddr(), netip.Addr{}, make([]byte, MaxDatagram), MaxDatagram); err != nil {
		t.Fatalf("the largest datagram: %v", err)
	}
	if got, _ := gather(t, b, MaxDatagram, nil); len(got) != MaxDatagram {
		t.Errorf("%d bytes arrived", len(got))
	}
	if err := a.Send(b.LocalAddr(), netip.Addr{}, make([]byte, MaxDatagram+1), MaxDatagram+1); !IsTooBig(err) {
		t.Errorf("one byte more: %v", err)
	}
	if s := a.Stats(); s.SendErrors != 1 {
		t.Errorf("%+v", s)
	}
}

func TestManySenders(t *testing.T) {
	a, b := one(t, "udp4", "127.0.0.1:0"), one(t, "udp4", "127.0.0.1:0")
	const senders, each = 4, 20
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			from := netip.Addr{}
			if s%2 == 0 {
				from = a.LocalAddr().Addr()
			}
			for i := range each { // different shapes, so that the cached control data changes hands
				seg := 100 + 10*s + i
				if err := a.Send(b.LocalAddr(), from, make([]byte, 3*seg), seg); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want := 0
	for s := range senders {
		for i := range each {
			want += 3 * (100 + 10*s + i)
		}
	}
	if _, sizes := gather(t, b, want, nil); len(sizes) != 3*senders*each {
		t.Errorf("%d datagrams, want %d", len(sizes), 3*senders*each)
	}
}

func TestTryRecvDoesNotWait(t *testing.T) {
	a, b := one(t, "udp4", "127.0.0.1:0"), one(t, "udp4", "127.0.0.1:0")
	batch := NewBatch(1)
	b.SetReadDeadline(time.Now().Add(-time.Second)) // of no concern to it
	if ok, err := b.TryRecv(batch); ok || err != nil {
		t.Fatalf("nothing was sent: %v, %v", ok, err)
	}
	if err := a.Send(b.LocalAddr(), netip.Addr{}, []byte("x"), 1); err != nil {
		t.Fatal(err)
	}
	b.SetReadDeadline(time.Time{})
	if err := b.Recv(batch); err != nil { // waits until it is there
		t.Fatal(err)
	}
	a.Send(b.LocalAddr(), netip.Addr{}, []byte("x"), 1)
	for start := time.Now(); runtime.GOOS == "linux"; {
		ok, err := b.TryRecv(batch)
		if ok && err == nil && string(batch.Datagrams[0].Data) == "x" {
			break
		}
		if err != nil || time.Since(start) > patience {
			t.Fatalf("%v, %v", ok, err)
		}
	}
	b.Close()
	if ok, err := b.TryRecv(batch); ok || runtime.GOOS == "linux" && !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v, %v", ok, err)
	}
}
