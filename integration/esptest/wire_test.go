//go:build linux

package esptest

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"

	"sharefs/esp"
	"sharefs/integration/linkem"
)

const ipHeader, udpHeader = 20, 8

// udpPayload returns what a UDP packet over IPv4 carries, nil where it is none.
func udpPayload(ip []byte) []byte {
	if len(ip) < ipHeader+udpHeader || ip[0] != 0x45 || ip[9] != 17 {
		return nil
	}
	return ip[ipHeader+udpHeader:]
}

// tap collects copies of what goes over a link, up to a number of packets.
type tap struct {
	mu      sync.Mutex
	packets [][]byte
}

func tapLink(l *linkem.Link, most int) *tap {
	t := &tap{}
	l.Tap(func(p linkem.Packet) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if len(t.packets) < most {
			t.packets = append(t.packets, bytes.Clone(p.Data))
		}
	})
	return t
}

func (t *tap) take() [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.packets
}

// TestNothingIsToBeRead captures a session that moves from one link to another: no plain text is in it, and no run of
// bytes beyond chance that is the same on both links, by which the two could be told to be one session.
func TestNothingIsToBeRead(t *testing.T) {
	const secret = "attack at dawn; "
	c := linkem.Conditions{Rate: 4 * mb, Delay: 2 * ms}
	cfg := esp.Config{DisableTCP: true, Compression: esp.CompressOff}
	w := newWorld(t, cfg, cfg, c, c)
	taps := []*tap{tapLink(w.links[0], 1000), tapLink(w.links[1], 1000)}
	client, server := w.dial()
	text := bytes.Repeat([]byte(secret), 1000)
	go func() {
		buf := make([]byte, 64<<10)
		for {
			if _, err := server.Read(buf); err != nil {
				return
			}
		}
	}()
	write := func() bool { // some data, on whatever path
		if _, err := client.Write(text); err != nil {
			t.Fatal(err)
		}
		return true
	}
	write()
	w.until("two paths are ready", func() bool { return write() && ready(client.Session(), "udp") >= 2 })
	first, second := 0, 1
	w.until("the link in use has carried data", func() bool {
		if first, second = 0, 1; over(client.Session(), w.links[1], w.b) {
			first, second = 1, 0
		}
		return write() && len(taps[first].take()) >= 100
	})
	w.links[first].Set(linkem.Conditions{Down: true})
	w.until("the session has moved", func() bool { return write() && over(client.Session(), w.links[second], w.b) })
	w.until("the second link has carried data", func() bool { return write() && len(taps[second].take()) > 300 })
	const window = 16 // 2¹²⁸ runs: none comes twice by chance
	seen := map[[window]byte]bool{}
	for i, tp := range []*tap{taps[first], taps[second]} {
		packets := tp.take()
		if len(packets) < 100 {
			t.Errorf("only %d packets went over link %d", len(packets), i)
		}
		for _, ip := range packets {
			p := udpPayload(ip)
			if bytes.Contains(p, []byte(secret[:12])) {
				t.Fatal("a packet holds plain text")
			}
			for at := 0; at+window <= len(p); at++ {
				k := [window]byte(p[at:])
				if i == 0 {
					seen[k] = true
				} else if seen[k] && k != [window]byte{} { // zeros pad the handshake
					t.Fatalf("% x stands in packets of both links, here at offset %d of %d bytes", k, at, len(p))
				}
			}
		}
	}
	// The connection ids alone, too: 8 bytes after the first one.
	ids := map[uint64]bool{}
	for i, tp := range []*tap{taps[first], taps[second]} {
		for _, ip := range tp.take() {
			p := udpPayload(ip)
			if len(p) < 40 || p[0]&0x80 != 0 {
				continue
			}
			id := binary.BigEndian.Uint64(p[1:])
			if i == 0 {
				ids[id] = true
			} else if ids[id] {
				t.Fatalf("connection id %x was used on both links", id)
			}
		}
	}
}

// captureInits lets endpoints dial a port where nobody answers, with the server's key, and returns their first packets.
func captureInits(t *testing.T, w *world, n int) [][]byte {
	t.Helper()
	hole, err := w.b.ListenPacket("udp", netip.AddrPortFrom(w.links[0].Addr(w.b), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	at := w.server.Addr()
	at.Addr = netip.MustParseAddrPort(hole.LocalAddr().String())
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var inits [][]byte
	buf := make([]byte, 2048)
	for range n {
		e := w.endpoint(esp.Config{Net: w.a.Network(), DisableTCP: true})
		dctx, stop := context.WithCancel(ctx)
		wg.Go(func() {
			if c, err := e.Dial(dctx, at.String()); err == nil {
				c.Close()
			}
		})
		k, _, err := hole.ReadFrom(buf)
		stop()
		if err != nil {
			t.Fatal(err)
		}
		inits = append(inits, bytes.Clone(buf[:k]))
	}
	return inits
}

// respoof makes an IP packet of a UDP payload, from an address that depends on i.
func respoof(payload []byte, to netip.Addr, port uint16, i int) []byte {
	p := make([]byte, ipHeader+udpHeader, ipHeader+udpHeader+len(payload))
	p[0], p[8], p[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(p[2:], uint16(ipHeader+udpHeader+len(payload)))
	src := [4]byte{10, 77, 0, byte(3 + i%250)} // of the link's subnet, where answers have somewhere to go
	dst := to.As4()
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	var sum uint32
	for k := 0; k < ipHeader; k += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[k:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum))
	binary.BigEndian.PutUint16(p[20:], uint16(1024+i%60000))
	binary.BigEndian.PutUint16(p[22:], port)
	binary.BigEndian.PutUint16(p[24:], uint16(udpHeader+len(payload))) // a checksum of 0: none
	return append(p, payload...)
}
