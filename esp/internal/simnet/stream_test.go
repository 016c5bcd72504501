package simnet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// streams connects two hosts and returns both ends of a stream.
func streams(t *testing.T, l Link) (client, server net.Conn) {
	t.Helper()
	n := New(1)
	a, b := n.Host("10.0.0.1"), n.Host("10.0.0.2")
	n.Link("10.0.0.1", "10.0.0.2", l)
	at := netip.MustParseAddrPort("10.0.0.2:80")
	ln, err := b.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = a.Dial(t.Context(), netip.Addr{}, at)
	if err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// TestStreamEnds: the errors of either end after a Close are those of TCP.
func TestStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := streams(t, Link{Delay: time.Millisecond})
		data := bytes.Repeat([]byte("stream"), 200_000)
		go func() {
			c.Write(data)
			c.Close()
		}()
		got, err := io.ReadAll(d)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
		}
		if _, err := d.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Write to who has closed: %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write after Close: %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read after Close: %v", err)
		}
		if c.Close() == nil {
			t.Error("a second Close succeeds")
		}

		c, d = streams(t, Link{Delay: time.Millisecond})
		if _, err := c.Write([]byte("nobody reads this")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		d.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Read after unread bytes were thrown away: %v", err)
		}
	})
}

// TestStreamCloseAmidWrite closes both ends while both write. The race detector watches: the errors that Close leaves are read by who writes.
func TestStreamCloseAmidWrite(t *testing.T) {
	for range 50 {
		c, d := streams(t, Link{})
		var wg sync.WaitGroup
		for _, conn := range []net.Conn{c, d} {
			wg.Go(func() {
				for {
					if _, err := conn.Write(make([]byte, 1000)); err != nil {
						return
					}
				}
			})
			wg.Go(func() {
				_, _ = conn.Read(make([]byte, 100))
				conn.Close()
			})
		}
		wg.Wait()
	}
}
