package esp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sharefs/esp/internal/simnet"
)

// sessions connects the client and returns both ends of the session.
func (s *sim) sessions() (c, d *Session) {
	s.t.Helper()
	c, err := s.client.Connect(s.t.Context(), s.address())
	if err != nil {
		s.log()
		s.t.Fatal(err)
	}
	time.Sleep(time.Second)
	all := s.server.Sessions()
	for end := time.Now().Add(testTime); len(all) == 0 && time.Now().Before(end); all = s.server.Sessions() {
		time.Sleep(time.Second) // the first packet was lost
	}
	if len(all) != 1 {
		s.t.Fatalf("%d sessions", len(all))
	}
	return c, all[0]
}

// settled fails the test unless both ends of a session have no stream left, and agree to the byte on what went over it.
func (s *sim) settled(c, d *Session) {
	s.t.Helper()
	for _, ends := range [][2]*Session{{c, d}, {d, c}} {
		from, to := ends[0], ends[1]
		from.mu.Lock()
		sent, windows, streams := from.sentData, from.windows, len(from.streams)
		from.mu.Unlock()
		to.mu.Lock()
		got, consumed := to.recvData, to.consumed
		to.mu.Unlock()
		if streams != 0 || windows != 0 || sent != got || got != consumed {
			s.log()
			s.t.Fatalf("%d streams and %d bytes of windows are left; %d bytes were sent, %d came, %d are accounted for", streams, windows, sent, got, consumed)
		}
	}
	if m := s.client.memory.Load() + s.server.memory.Load(); m != 0 {
		s.t.Fatalf("%d bytes of memory are spoken for", m)
	}
}

// TestEarlyAnswer: a question goes with OPEN, so that the answer is here after one round trip.
func TestEarlyAnswer(t *testing.T) {
	const trip = 50 * time.Millisecond
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: trip / 2}})
		defer s.close()
		c, d := s.sessions()
		go func() {
			for {
				e, err := s.l.AcceptStream()
				if err != nil {
					return
				}
				q, _ := io.ReadAll(e)
				e.Write(append([]byte("answer to "), q...))
				e.Close()
			}
		}()
		for _, size := range []int{1, 1000, 15 << 10} {
			q := pattern(1, size)
			start := time.Now()
			e, err := c.OpenEarly(t.Context(), q[:size/2])
			if err != nil || time.Since(start) != 0 {
				t.Fatalf("after %v: %v", time.Since(start), err)
			}
			e.Write(q[size/2:])
			e.CloseWrite()
			a, err := io.ReadAll(e)
			if err != nil || string(a) != "answer to "+string(q) {
				t.Fatalf("%d bytes: %d came, %v", size, len(a), err)
			}
			if took := time.Since(start); took > trip+15*time.Millisecond {
				t.Fatalf("%d bytes: the answer took %v", size, took)
			}
			e.Close()
		}
		time.Sleep(time.Second)
		s.settled(c, d)
	})
}

// TestEarlyPacket: OPEN and the first bytes are one packet.
func TestEarlyPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		udp := Config{DisableTCP: true}
		s := newSim(t, simConfig{client: udp, server: udp, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		c, _ := s.sessions()
		var mu sync.Mutex
		var sizes []int
		s.n.Tap(func(from, to netip.AddrPort, b []byte) {
			if to == serverPort {
				mu.Lock()
				sizes = append(sizes, len(b))
				mu.Unlock()
			}
		})
		e, err := c.OpenEarly(t.Context(), pattern(1, 500))
		if err != nil {
			t.Fatal(err)
		}
		s.n.Tap(nil)
		if len(sizes) != 1 || sizes[0] < 500 || sizes[0] > 600 {
			t.Fatalf("packets of %v bytes", sizes)
		}
		e.Close()
	})
}

// TestEarlyWindow: no more than the peer grants leaves before its answer.
func TestEarlyWindow(t *testing.T) {
	for _, granted := range []uint64{0, 5000, earlyWindow} {
		bothCarriages(t, func(t *testing.T, base Config) {
			s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 100 * time.Millisecond}})
			defer s.close()
			c, d := s.sessions()
			c.mu.Lock()
			c.peerParams.earlyWindow = granted
			c.mu.Unlock()
			data := pattern(1, 300_000)
			e, err := c.OpenEarly(t.Context(), data[:1000])
			if err == nil {
				_, err = e.Write(data[1000:])
			}
			if err == nil {
				err = e.CloseWrite()
			}
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(150 * time.Millisecond) // of the 200 until the answer is here
			if sent := e.Stats().Sent; sent != granted {
				t.Fatalf("%d bytes were sent of %d that are granted", sent, granted)
			}
			f, err := s.l.AcceptStream()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes came, %v", len(got), err)
			}
			e.Close()
			f.Close()
			time.Sleep(time.Second)
			s.settled(c, d)
		})
	}
}

// TestEarlyRefused: a stream that nobody wants has Read and Write fail as Open does, and no credit is lost by it, however often.
func TestEarlyRefused(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		client, server := base, base
		client.Limits = Limits{SendBuffer: 256 << 10}
		server.Limits = Limits{SessionWindow: 64 << 10, Streams: 8}
		s := newSim(t, simConfig{client: client, server: server, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		c, d := s.sessions()
		s.l.Close()
		data := pattern(1, 2<<20)
		for i := range 100 { // each has 16 KiB under way when it is refused; 128 KiB are the window of the session
			e, err := c.OpenEarly(t.Context(), data[:100])
			if err != nil {
				t.Fatal(err)
			}
			switch i % 4 {
			case 0: // waits for room when it is refused
				n, err := e.Write(data)
				if n == 0 || n == len(data) || !errors.Is(err, syscall.ECONNREFUSED) {
					t.Fatalf("Write: %d, %v", n, err)
				}
			case 1:
				e.Write(data[:100_000])
				e.CloseWrite()
			case 2:
				e.Write(data[:5000])
				e.CloseWrite()
			case 3:
				e.Write(data[:100_000])
				e.Close()
				continue
			}
			var oe *net.OpError
			if _, err := e.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) || !errors.As(err, &oe) {
				t.Fatalf("Read: %v", err)
			}
			if _, err := e.Write([]byte("x")); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatalf("Write: %v", err)
			}
			e.Close()
		}
		time.Sleep(time.Second)
		s.settled(c, d)
		if _, err := c.Open(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
	})
}

// TestEarlyEnds: what ends a stream, or a wait for it, before the peer has answered.
func TestEarlyEnds(t *testing.T) {
	link := simnet.Link{Delay: 50 * time.Millisecond}
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: link})
		defer s.close()
		c, d := s.sessions()
		open := func(first string) *Conn {
			t.Helper()
			e, err := c.OpenEarly(t.Context(), []byte(first))
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		accept := func(want string) *Conn {
			t.Helper()
			f, err := s.l.AcceptStream()
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(f, got); err != nil || string(got) != want {
				t.Fatalf("%q, %v", got, err)
			}
			return f
		}

		// Close: what was written is delivered all the same.
		e := open("fire")
		e.Write([]byte(" and forget"))
		e.Close()
		if _, err := e.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		f := accept("fire and forget")
		if _, err := f.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
		f.Close()

		// CloseRead: the acceptor learns that nobody reads.
		e = open("x")
		e.CloseRead()
		f = accept("x")
		time.Sleep(link.Delay)
		if _, err := f.Write([]byte("y")); !errors.Is(err, syscall.EPIPE) {
			t.Fatal(err)
		}
		e.Close()
		f.Close()

		// Deadlines.
		e = open("x")
		start := time.Now()
		e.SetDeadline(start.Add(20 * time.Millisecond))
		if _, err := e.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 20*time.Millisecond {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		time.Sleep(time.Millisecond) // the timer of the other half
		if _, err := e.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		e.SetDeadline(time.Time{})
		f = accept("x")
		exchange(t, e, f)
		e.Close()
		f.Close()

		// The listener closes between OPEN_ACK and Accept.
		e = open("x")
		time.Sleep(10 * link.Delay)
		s.l.Close()
		if _, err := e.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
		e.Close()
		time.Sleep(time.Second)
		s.settled(c, d)

		// A context that is over, and a session that ends.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.OpenEarly(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		e = open("x")
		go c.Close()
		if _, err := e.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
		<-c.Done()
		if _, err := c.OpenEarly(t.Context(), []byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	})
}

// TestEarlyLimits: streams beyond the limit wait, those beyond the backlog are refused, and a host that accepts nothing holds what it granted and no more.
func TestEarlyLimits(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		const streams, backlog = 16, 4
		server := base
		server.Limits = Limits{Streams: streams, Backlog: backlog, SessionWindow: 64 << 10}
		s := newSim(t, simConfig{client: base, server: server, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		c, d := s.sessions()
		data := pattern(1, 100_000)
		var open []*Conn
		for range streams {
			e, err := c.OpenEarly(t.Context(), data)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, e)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := c.OpenEarly(ctx, data); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("one stream too many: %v", err)
		}
		time.Sleep(time.Second)
		if held := s.server.Stats().Memory; held > 64<<10+backlog*minStreamWindow {
			t.Fatalf("%d bytes are granted", held)
		}
		refused := 0
		for _, e := range open {
			e.SetReadDeadline(time.Now().Add(time.Second))
			_, err := e.Read(make([]byte, 1))
			var se *SessionError
			switch {
			case errors.As(err, &se) && se.Code == CodeLimit:
				refused++
			case !errors.Is(err, os.ErrDeadlineExceeded):
				t.Fatal(err)
			}
		}
		if refused != streams-backlog {
			t.Fatalf("%d of %d streams were refused", refused, streams)
		}
		for range backlog {
			f, err := s.l.AcceptStream()
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				io.Copy(io.Discard, f)
				f.Close()
			}()
		}
		for _, e := range open {
			e.Close()
		}
		time.Sleep(5 * time.Second)
		s.settled(c, d)
	})
}

// TestEarlyOvertaken takes the frames of streams in every order, and again when they are over.
func TestEarlyOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		udp := Config{DisableTCP: true}
		s := newSim(t, simConfig{client: udp, server: udp, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		c, d := s.sessions()
		record := []byte{2, 2, 0, 'h', 'i'}
		frames := []frame{
			{typ: frameOpen, off: 1 << 20},
			{typ: frameStream, off: 0, data: record[:2]},
			{typ: frameStream, off: 2, data: record[2:], fin: true},
			{typ: frameStopSending},
		}
		take := func(id uint64, f frame) {
			f.id = id
			if f.typ == frameStream {
				if !d.onStream(&f, nil, true) {
					t.Fatal("no room")
				}
			} else {
				d.onControl(d.paths[0], &f, nil, 0)
			}
		}
		next := uint64(0)
		for _, order := range permutations(len(frames)) {
			id := streamID(next, true)
			next++
			d.mu.Lock()
			before := d.stats.accepted
			for at, i := range order {
				take(id, frames[i])
				take(id, frames[i]) // a packet that was sent again
				if opened := d.stats.accepted > before; opened != (at >= indexOf(order, 0)) {
					t.Fatalf("order %v: opened %v after %d frames", order, opened, at+1)
				}
			}
			d.flushUnlock()
			f, err := s.l.AcceptStream()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(f); err != nil || string(got) != "hi" {
				t.Fatalf("order %v: %q, %v", order, got, err)
			}
			f.Close()
			d.mu.Lock()
			d.ctrlAcked(&ctrl{typ: frameReset, id: id})
			if d.streams[id] != nil {
				t.Fatalf("order %v: the stream is not over", order)
			}
			for _, f := range frames {
				take(id, f)
			}
			if len(d.streams) != 0 || d.stats.accepted != before+1 || d.err != nil {
				t.Fatalf("order %v: a stream that is over comes back", order)
			}
			d.flushUnlock()
		}

		// A stream that is given up before OPEN is here is not handed out.
		id := streamID(next, true)
		d.mu.Lock()
		take(id, frame{typ: frameStopSending, code: uint64(CodeCancelled)})
		take(id, frame{typ: frameReset, code: uint64(CodeCancelled), off: 3})
		take(id, frames[0])
		if d.stats.accepted != next || d.err != nil {
			d.mu.Unlock()
			t.Fatal("it is")
		}
		d.ctrlAcked(&ctrl{typ: frameReset, id: id})
		if len(d.streams) != 0 {
			t.Fatal("it stays")
		}
		// One of which only the end has come when it is closed: what was under way counts.
		id += 2
		take(id, frames[0])
		take(id, frame{typ: frameStream, off: 2, fin: true})
		d.streams[id].abort(CodeNone)
		d.ctrlAcked(&ctrl{typ: frameReset, id: id})
		if len(d.streams) != 0 || d.err != nil {
			t.Fatal("it stays")
		}
		got, consumed := d.recvData, d.consumed
		d.mu.Unlock()
		if want := next*uint64(len(record)) + 3 + 2; got != want || consumed != want {
			t.Fatalf("%d bytes came, %d are accounted for, not %d", got, consumed, want)
		}
		_ = c
	})
}

// TestEarlyHostile: what a peer that may begin streams with data must not do.
func TestEarlyHostile(t *testing.T) {
	data := make([]byte, earlyWindow+1)
	beyond := streamID(4096, true)
	for name, bad := range map[string]struct {
		code   CloseCode
		frames []frame
	}{
		"more than granted before OPEN":           {CodeFlow, []frame{{typ: frameStream, data: data}}},
		"the same in pieces":                      {CodeFlow, []frame{{typ: frameStream, data: data[1:]}, {typ: frameStream, off: earlyWindow, data: data[:1]}}},
		"only its end beyond what is granted":     {CodeFlow, []frame{{typ: frameStream, off: earlyWindow + 1, fin: true}}},
		"RESET beyond what is granted":            {CodeFlow, []frame{{typ: frameReset, off: earlyWindow + 1}}},
		"more than granted to one who refuses":    {CodeFlow, []frame{{typ: frameOpen}, {typ: frameStream, data: data}}},
		"RESET beyond that to one who refuses":    {CodeFlow, []frame{{typ: frameOpen}, {typ: frameStream, data: data[:9]}, {typ: frameReset, off: earlyWindow + 1}}},
		"an end that moves":                       {CodeProtocol, []frame{{typ: frameStream, off: 1, data: data[:4], fin: true}, {typ: frameStream, off: 5, data: data[:1]}}},
		"an end that moves, at one who refuses":   {CodeProtocol, []frame{{typ: frameOpen}, {typ: frameStream, data: data[:5]}, {typ: frameReset, off: 4}}},
		"a stream beyond the limit":               {CodeProtocol, []frame{{typ: frameStream, id: beyond, data: data[:1]}}},
		"RESET of a stream beyond the limit":      {CodeProtocol, []frame{{typ: frameReset, id: beyond}}},
		"an answer to OPEN that nobody has asked": {CodeProtocol, []frame{{typ: frameStream, data: data[:1]}, {typ: frameOpenAck}}},
		"credit for a stream that is not opened":  {CodeProtocol, []frame{{typ: frameMaxStreamData, off: 1}}},
		"data of a stream that is not its own":    {CodeProtocol, []frame{{typ: frameStream, id: 1, data: data[:1]}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSim(t, simConfig{link: simnet.Link{Delay: 5 * time.Millisecond}})
			defer s.close()
			_, d := s.sessions()
			s.l.Close()
			d.mu.Lock()
			for _, f := range bad.frames {
				if f.typ == frameStream {
					d.onStream(&f, nil, true)
				} else {
					d.onControl(d.paths[0], &f, nil, 0)
				}
			}
			d.flushUnlock()
			var se *SessionError
			if err := d.Err(); !errors.As(err, &se) || se.Remote || se.Code != bad.code {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func permutations(n int) (all [][]int) {
	var grow func(head []int)
	grow = func(head []int) {
		if len(head) == n {
			all = append(all, append([]int(nil), head...))
			return
		}
		for i := range n {
			if indexOf(head, i) == len(head) {
				grow(append(head, i))
			}
		}
	}
	grow(nil)
	return all
}

func indexOf(list []int, v int) int {
	for i, w := range list {
		if w == v {
			return i
		}
	}
	return len(list)
}

// TestEarlyOpenCancelled: a Dial that is given up while its OPEN is lost does no harm to the session.
func TestEarlyOpenCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		udp := Config{DisableTCP: true}
		link := simnet.Link{Delay: 5 * time.Millisecond}
		s := newSim(t, simConfig{client: udp, server: udp, link: link})
		defer s.close()
		c, d := s.sessions()
		s.n.OneWay(clientIP, serverIP, simnet.Link{Down: true})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := c.Open(ctx)
			done <- err
		}()
		synctest.Wait()
		s.n.OneWay(clientIP, serverIP, link)
		cancel() // its RESET comes first
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if c.Err() != nil || d.Err() != nil {
			t.Fatalf("%v; %v", c.Err(), d.Err())
		}
		s.settled(c, d)
	})
}
