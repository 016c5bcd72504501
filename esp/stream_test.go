package esp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sharefs/esp/internal/simnet"
)

func TestHalfClose(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		c, d := s.dial()
		question := pattern(1, 300_000)
		go func() {
			c.Write(question)
			c.CloseWrite()
			c.CloseWrite() // once more does no harm
		}()
		got, err := io.ReadAll(d)
		if err != nil || !bytes.Equal(got, question) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("Write after CloseWrite: %v", err)
		}
		go func() {
			d.Write(question[:1000])
			d.Close()
		}()
		if got, err = io.ReadAll(c); err != nil || len(got) != 1000 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("Read after EOF: %d, %v", n, err)
		}
		c.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if a, b := c.s.Stats().Streams, d.s.Stats().Streams; a != 0 || b != 0 {
			t.Fatalf("%d and %d streams are left", a, b)
		}
		if m := s.client.memory.Load() + s.server.memory.Load(); m != 0 {
			t.Fatalf("%d bytes of window are left", m)
		}
	})
}

func TestCloseWithUnread(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		c, d := s.dial()
		c.Write([]byte("nobody reads this"))
		time.Sleep(50 * time.Millisecond)
		d.Close()
		time.Sleep(50 * time.Millisecond)
		if _, err := c.Write([]byte("more")); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("Write to who has closed: %v", err)
		}
		if _, err := c.Read(make([]byte, 10)); err != io.EOF {
			t.Fatalf("Read from who has closed: %v", err)
		}
		c.Close()
		time.Sleep(time.Second)
		if a, b := c.s.Stats().Streams, d.s.Stats().Streams; a != 0 || b != 0 {
			t.Fatalf("%d and %d streams are left", a, b)
		}
	})
}

// TestCloseDelivers: what was written before Close arrives, in the background.
func TestCloseDelivers(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 20 * time.Millisecond, Rate: 2e6, Loss: 0.02}})
		defer s.close()
		c, d := s.dial()
		data := pattern(2, 400_000)
		if n, err := c.Write(data); n != len(data) || err != nil {
			t.Fatal(n, err)
		}
		start := time.Now()
		c.Close()
		if time.Since(start) > 0 {
			t.Fatal("Close waits")
		}
		got, err := io.ReadAll(d)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
		}
	})
}

// TestOwnEndpointDelivers: the connection of Dial takes its endpoint along, but not what was written.
func TestOwnEndpointDelivers(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 20 * time.Millisecond, Loss: 0.05}})
		defer s.close()
		cfg := base
		cfg.Net, cfg.Addrs = s.n.Host("10.0.0.3"), []string{"10.0.0.3:0"}
		s.n.Link("10.0.0.3", serverIP, simnet.Link{Delay: 20 * time.Millisecond, Loss: 0.05})
		c, err := Dial(t.Context(), s.address(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		d, err := s.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		data := pattern(2, 200_000)
		c.Write(data)
		c.Close()
		got, err := io.ReadAll(d)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		c, d := s.dial()
		start := time.Now()
		c.SetReadDeadline(start.Add(3 * time.Second))
		_, err := c.Read(make([]byte, 1))
		if ne, ok := err.(net.Error); !ok || !ne.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		// A Write that waits for a reader that does not read.
		c.SetWriteDeadline(time.Now().Add(2 * time.Second))
		data := pattern(1, 40<<20)
		n, err := c.Write(data)
		if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == len(data) {
			t.Fatalf("%d, %v", n, err)
		}
		// What it reported is delivered, and nothing else.
		c.SetWriteDeadline(time.Time{})
		go c.CloseWrite()
		got, err := io.ReadAll(d)
		if err != nil || !bytes.Equal(got, data[:n]) {
			t.Fatalf("%d bytes came, %d were reported: %v", len(got), n, err)
		}
		// A deadline that moves while Read waits.
		go func() {
			time.Sleep(time.Second)
			c.SetReadDeadline(time.Now())
		}()
		c.SetReadDeadline(time.Now().Add(time.Hour))
		start = time.Now()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
	})
}

// TestStalledStreams: streams that nobody reads do not keep others from moving, however many there are.
func TestStalledStreams(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		server := base
		server.Limits.SessionWindow = 4 << 20
		s := newSim(t, simConfig{client: base, server: server, link: simnet.Link{Delay: 2 * time.Millisecond}})
		defer s.close()
		for range 40 {
			c, d := s.dial()
			defer c.Close()
			defer d.Close()
			c.SetWriteDeadline(time.Now().Add(time.Second))
			go c.Write(pattern(1, 8<<20))
		}
		time.Sleep(5 * time.Second)
		c, d := s.dial()
		took := s.transfer(c, d, pattern(1, 1<<20))
		if took > 10*time.Second {
			t.Fatalf("the stream that is read took %v", took)
		}
		if held := s.server.Stats().Memory; held > 4<<20+minStreamWindow*50 {
			t.Fatalf("%d bytes are granted", held)
		}
	})
}

func TestStreamLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := Config{Limits: Limits{Streams: 10}}
		s := newSim(t, simConfig{server: server, link: simnet.Link{Delay: 2 * time.Millisecond}})
		defer s.close()
		var open []*Conn
		for range 10 {
			c, d := s.dial()
			open = append(open, c)
			defer d.Close()
		}
		done := make(chan error, 1)
		go func() {
			c, err := s.client.Dial(t.Context(), s.address())
			if err == nil {
				c.Close()
			}
			done <- err
		}()
		time.Sleep(5 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("the eleventh stream: %v", err)
		default:
		}
		for _, c := range open[:5] {
			c.Close()
		}
		go func() {
			for _, sess := range s.server.Sessions() {
				sess.mu.Lock()
				for _, c := range sess.streams {
					if c.rq.eof() {
						go c.Close()
					}
				}
				sess.mu.Unlock()
			}
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		// 500 more, one after the other: the credit follows.
		for range 500 {
			c, d := s.dialAny()
			c.Close()
			d.Close()
		}
	})
}

// dialAny is dial where other streams may wait in the backlog.
func (s *sim) dialAny() (c, d *Conn) {
	s.t.Helper()
	c, err := s.client.Dial(s.t.Context(), s.address())
	if err != nil {
		s.t.Fatal(err)
	}
	for {
		d, err := s.l.AcceptStream()
		if err != nil {
			s.t.Fatal(err)
		}
		if d.id == c.id {
			return c, d
		}
		d.Close()
	}
}

// TestSessionEnds: the peer that closes, and the peer that vanishes.
func TestSessionEnds(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		link := simnet.Link{Delay: 5 * time.Millisecond}
		s := newSim(t, simConfig{client: base, server: base, link: link})
		defer s.close()
		c, d := s.dial()
		c.Write([]byte("last words"))
		time.Sleep(100 * time.Millisecond)
		sess := c.Session()
		sess.Close()
		if err := sess.Err(); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		<-d.Session().Done()
		buf := make([]byte, 100)
		if n, err := d.Read(buf); string(buf[:n]) != "last words" || err != nil {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		if _, err := d.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}

		c, d = s.dial()
		s.n.Link(clientIP, serverIP, simnet.Link{Down: true})
		start := time.Now()
		c.Write([]byte("hello?"))
		_, err := c.Read(buf)
		took := time.Since(start)
		if !errors.Is(err, syscall.ETIMEDOUT) || took < 30*time.Second || took > 61*time.Second {
			t.Fatalf("after %v: %v", took, err)
		}
		if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
			t.Fatalf("%#v", err)
		}
		if _, err = d.Read(buf); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Fatal(err)
		}
		s.n.Link(clientIP, serverIP, link)
		c, d = s.dial() // a new session
		exchange(t, c, d)
	})
}

// TestKeepAlive: a session with an open stream lives on without traffic, one without streams ends.
func TestKeepAlive(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		c, d := s.dial()
		time.Sleep(30 * time.Minute)
		exchange(t, c, d)
		c.Close()
		d.Close()
		time.Sleep(5 * time.Minute)
		if a, b := len(s.client.Sessions()), len(s.server.Sessions()); a != 0 || b != 0 {
			t.Fatalf("%d and %d sessions without streams live on", a, b)
		}
		sess, err := s.client.Connect(t.Context(), s.address())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		if sess.Err() != nil || len(s.server.Sessions()) != 1 {
			t.Fatalf("a session that was asked for is gone: %v", sess.Err())
		}
	})
}

// TestRekey: hours of traffic, packets of many epochs and several key exchanges.
func TestRekey(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 5 * time.Millisecond, Loss: 0.05, Reorder: 0.2}})
		defer s.close()
		c, d := s.dial()
		for range 1000 {
			exchange(t, c, d)
			time.Sleep(11 * time.Second)
		}
		for _, sess := range []*Session{c.Session(), d.Session()} {
			st := sess.Stats()
			if st.Exchanges < 2 || st.Rekeys < 50 {
				s.log()
				t.Fatalf("%+v", st)
			}
		}
		c.s.mu.Lock()
		a, b := c.s.send.cur.epoch, d.s.recvKeys.Load().cur.epoch
		c.s.mu.Unlock()
		if a != b {
			t.Fatalf("epochs %d and %d", a, b)
		}
	})
}

// TestStatelessReset: an endpoint that has lost its memory tells the peer, who believes it because of the token.
func TestStatelessReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := PrivateKey{1, 2, 3}
		server := Config{Key: key, DisableTCP: true}
		s := newSim(t, simConfig{client: Config{DisableTCP: true}, server: server, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer func() { s.close() }()
		c, d := s.dial()
		exchange(t, c, d)
		// The server dies without a word and is started again.
		s.n.Link(clientIP, serverIP, simnet.Link{Down: true})
		s.server.Close()
		time.Sleep(100 * time.Millisecond)
		s.n.Link(clientIP, serverIP, simnet.Link{Delay: 5 * time.Millisecond})
		s.server = s.endpoint(server, s.sh, []string{serverIP}, 999)
		start := time.Now()
		c.Write([]byte("are you there?"))
		_, err := c.Read(make([]byte, 1))
		if !errors.Is(err, syscall.ECONNRESET) || time.Since(start) > 2*time.Second {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		if s.client.Stats().ResetsReceived != 1 || s.server.Stats().ResetsSent == 0 {
			t.Fatalf("%+v, %+v", s.client.Stats(), s.server.Stats())
		}
		l, err := s.server.Listen()
		if err != nil {
			t.Fatal(err)
		}
		s.l = l
		c, d = s.dial()
		exchange(t, c, d)
	})
}

func TestSessionListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, simConfig{link: simnet.Link{Delay: 2 * time.Millisecond}})
		defer s.close()
		c, d := s.dial()
		if _, err := d.Session().Open(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
		l, err := c.Session().Listen()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Session().Listen(); err == nil {
			t.Fatal("two listeners")
		}
		e, err := d.Session().Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, e, f)
		go l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		exchange(t, e, f)
	})
}
