//go:build linux

package linkem

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience only ends a test that hangs: the machine may be busy with other things.
const patience = 2 * time.Minute

func pair(t *testing.T, c Conditions) (a, b *Host, l *Link) {
	n := Test(t)
	a, b = n.Host("a"), n.Host("b")
	return a, b, n.Link(a, b, c)
}

// echo answers UDP packets on b, and returns a socket of a that is connected to it.
func echo(t *testing.T, a, b *Host, l *Link) net.Conn {
	t.Helper()
	pc, err := b.ListenPacket("udp", netip.AddrPortFrom(l.Addr(b), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(buf[:n], from)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	c, err := a.Dial(ctx, "udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

func until(t *testing.T, cond func() bool) {
	t.Helper()
	for start := time.Now(); !cond(); time.Sleep(ms) {
		if time.Since(start) > patience {
			t.Fatal("it did not come to pass")
		}
	}
}

func TestDelay(t *testing.T) {
	a, b, l := pair(t, Conditions{Delay: 20 * ms})
	c := echo(t, a, b, l)
	buf := make([]byte, 100)
	for range 3 {
		start := time.Now()
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != "ping" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		if d := time.Since(start); d < 40*ms {
			t.Errorf("a round trip took %v, less than twice 20 ms", d)
		}
	}
	if s := l.Stats(b); s.Packets != 3 || s.Delivered != 3 || s.Bytes != 3*(20+8+4) {
		t.Errorf("%+v", s)
	}
}

func TestLossAndDuplicatesAreCounted(t *testing.T) {
	a, b, l := pair(t, Conditions{})
	l.SetToward(b, Conditions{Loss: 0.25, Duplicate: 0.25})
	c := echo(t, a, b, l)
	const packets = 120 // with the duplicates they fit into any socket buffer
	got := make(chan int, 1)
	go func() {
		buf := make([]byte, 2048)
		n := 0
		for {
			k, err := c.Read(buf)
			if err != nil || k == 1 {
				got <- n
				return
			}
			n++
		}
	}()
	for range packets {
		c.Write(make([]byte, 100))
	}
	until(t, func() bool { return l.Stats(b).Packets == packets })
	l.SetToward(b, Conditions{})
	c.Write([]byte{0}) // all others have come when this one does, as the link keeps their order
	arrived := <-got
	s := l.Stats(b)
	if s.Lost < packets/8 || s.Lost > packets/2 || s.Duplicated < packets/16 || s.Packets != packets+1 {
		t.Errorf("%+v", s)
	}
	if want := int(s.Packets - s.Lost + s.Duplicated - 1); arrived != want {
		t.Errorf("%d packets arrived, want %d", arrived, want)
	}
}

func TestPlugPulled(t *testing.T) {
	a, b, l := pair(t, Conditions{Delay: ms})
	c := echo(t, a, b, l)
	buf := make([]byte, 100)
	l.Set(Conditions{Down: true})
	c.Write([]byte("lost"))
	until(t, func() bool { return l.Stats(b).WhileDown == 1 })
	l.Set(Conditions{MTU: 200})
	c.Write(make([]byte, 300))
	c.Write([]byte("here"))
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "here" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	if s := l.Stats(b); s.WhileDown != 1 || s.TooBig != 1 || s.Delivered != 1 {
		t.Errorf("%+v", s)
	}
}

// TestTCP sends a megabyte through a slow, lossy, reordering link, and taps it.
func TestTCP(t *testing.T) {
	a, b, l := pair(t, Conditions{Delay: ms, Jitter: 2 * ms, Rate: 20e6, Loss: 0.01, Reorder: 0.01})
	ln, err := b.Listen("tcp", netip.AddrPortFrom(l.Addr(b), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	want := bytes.Repeat([]byte("a link carries bytes. "), 50000)
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	var mu sync.Mutex
	seen := map[*Host]int{}
	l.Tap(func(p Packet) {
		mu.Lock()
		defer mu.Unlock()
		seen[p.Toward] += len(p.Data)
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := a.Dial(ctx, "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(want); err != nil {
		t.Error(err)
	}
	c.Close()
	wg.Wait()
	l.Tap(nil)
	mu.Lock()
	defer mu.Unlock()
	if seen[b] < len(want) || seen[a] == 0 {
		t.Errorf("the tap has seen %d bytes there and %d back", seen[b], seen[a])
	}
}

func TestHostsAreApart(t *testing.T) {
	n := Test(t)
	a, b, c := n.Host("a"), n.Host("b"), n.Host("c")
	ab, bc := n.Link(a, b, Conditions{}), n.Link(b, c, Conditions{})
	if ab.Addr(a) == bc.Addr(b) || ab.Addr(c).IsValid() || ab.Device() == bc.Device() {
		t.Errorf("%v, %v", ab.Addr(a), bc.Addr(b))
	}
	out, err := b.Run(context.Background(), "cat", "/proc/net/dev")
	if err != nil || !bytes.Contains(out, []byte("link0:")) || !bytes.Contains(out, []byte("link1:")) || bytes.Contains(out, []byte("eth0:")) {
		t.Errorf("devices of b: %s, %v", out, err)
	}
	if _, err := b.Run(context.Background(), "sh", "-c", "echo oh no >&2; exit 3"); err == nil || !bytes.Contains([]byte(err.Error()), []byte("oh no")) {
		t.Errorf("a command that fails: %v", err)
	}
	err = a.Do(func() error { return errors.New("mine") })
	if err == nil || err.Error() != "mine" {
		t.Errorf("Do: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if c, err := a.Dial(ctx, "udp", netip.AddrPortFrom(bc.Addr(c), 9).String()); !errors.Is(err, syscall.ENETUNREACH) {
		if err == nil {
			c.Close()
		}
		t.Errorf("a reaches a link that it is not on: %v", err)
	}
}

func TestFirewall(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed")
	}
	a, b, l := pair(t, Conditions{})
	c := echo(t, a, b, l)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.Firewall(ctx, "table inet f { chain o { type filter hook output priority 0; meta l4proto udp drop; }; }"); err != nil {
		t.Skipf("nftables do not work here: %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a blocked packet: %v", err)
	}
	if err := a.Firewall(ctx, ""); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	c.Write([]byte("y"))
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "y" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if err := a.Firewall(ctx, "nonsense"); err == nil {
		t.Error("a ruleset of nonsense was taken")
	}
}

func TestCloseEndsAll(t *testing.T) {
	if err := Available(); err != nil {
		t.Skip(err)
	}
	n := New(1)
	a, err := n.AddHost("a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.AddHost("b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Connect(a, b, DefaultMTU, Conditions{Delay: time.Hour}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := n.AddHost("c"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a host after the end: %v", err)
	}
	if _, err := n.Connect(a, b, DefaultMTU, Conditions{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a link after the end: %v", err)
	}
}
