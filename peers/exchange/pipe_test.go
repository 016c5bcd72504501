package exchange

import (
	"bufio"
	"context"

	"net"
	"sync"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/identity"
	"sharefs/peers/trust"
)

// fake is a session whose other end is a test: it gets the streams that the exchange opens.
type fake struct {
	over    chan struct{}
	once    sync.Once
	control chan net.Conn
	chunks  chan net.Conn
	dials   bool
	away    time.Duration
	gate    chan struct{} // if not nil, streams open when it is closed
	asked   chan struct{} // and who waits for that says so here
	stream  net.Conn      // if not nil, that the exchange gets in place of one to the test
}

func newFake(dials bool) *fake {
	return &fake{over: make(chan struct{}), control: make(chan net.Conn, 16), chunks: make(chan net.Conn, 64), dials: dials}
}

func (f *fake) open(_ context.Context, purpose string) (net.Conn, error) {
	if f.gate != nil {
		f.asked <- struct{}{}
		<-f.gate
	}
	if f.stream != nil {
		return f.stream, nil
	}
	mine, theirs := net.Pipe()
	to := f.chunks
	if purpose == purposeRecords {
		to = f.control
	}
	select {
	case <-f.over:
		return nil, net.ErrClosed
	case to <- theirs:
		return mine, nil
	default:
		return nil, net.ErrClosed
	}
}

func (f *fake) dialed() bool          { return f.dials }
func (f *fake) done() <-chan struct{} { return f.over }
func (f *fake) rtt() time.Duration    { return f.away }
func (f *fake) end()                  { f.once.Do(func() { close(f.over) }) }

// alone is an exchange without a hub, whose peers are fakes.
type alone struct {
	*host
	mu     sync.Mutex
	policy trust.Policy
}

func newAlone(t testing.TB, limits Limits, options ...func(*Config)) *alone {
	t.Helper()
	a := &alone{host: &host{memory: newMemory(identity.New()), t: t, name: "anna", blamed: map[sharefs.PeerID]error{}}}
	h := a.host
	c := Config{Self: h.key.ID, Policy: a.rules, Log: h.memory, Chunks: h.memory, Rings: h.memory, Limits: limits,
		Changed: func(sharefs.PeerID) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.changes++
		},
		Misbehaved: func(id sharefs.PeerID, err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.blamed[id] = err
		}}
	for _, o := range options {
		o(&c)
	}
	a.Exchange = New(c)
	t.Cleanup(a.Exchange.Close)
	return a
}

func (a *alone) rules() trust.Policy {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.policy
}

func (a *alone) set(id sharefs.PeerID, l trust.Level) {
	a.mu.Lock()
	a.policy = a.policy.Grant(trust.Rule{Peer: id, Level: l})
	a.mu.Unlock()
	a.Refresh()
}

func (a *alone) blame(id sharefs.PeerID) error {
	a.host.mu.Lock()
	defer a.host.mu.Unlock()
	return a.blamed[id]
}

// other is what a test plays: a peer, with the streams of a session with the exchange.
type other struct {
	t   testing.TB
	a   *alone
	id  sharefs.PeerID
	s   *fake
	c   net.Conn // the control stream
	w   *wire.Writer
	got chan wire.Message // of the control stream; closed at its end
}

// meet has a peer open a session, and the control stream in it.
func (a *alone) meet(id sharefs.PeerID, l trust.Level) *other {
	a.t.Helper()
	a.set(id, l)
	o := &other{t: a.t, a: a, id: id, s: newFake(false), got: make(chan wire.Message, 1000)}
	a.connected(id, o.s)
	o.open()
	a.t.Cleanup(o.s.end)
	return o
}

// open opens the control stream.
func (o *other) open() {
	o.c = o.streamAs((*peer).controlStream, func(c net.Conn) net.Conn { return read{c} })
	o.w = wire.NewWriter(o.c, o.a.key.ID)
	go func() {
		defer close(o.got)
		r := wire.NewReader(bufio.NewReader(o.c))
		for {
			m, err := r.Next()
			if err != nil {
				return
			}
			o.got <- m
		}
	}()
}

// stream opens a stream that the exchange serves.
func (o *other) stream(fn func(*peer, net.Conn)) net.Conn {
	return o.streamAs(fn, func(c net.Conn) net.Conn { return c })
}

// read is a stream whose other end is read at all times. The exchange does not give it up, however small its limits and however slow the machine.
type read struct{ net.Conn }

func (read) SetWriteDeadline(time.Time) error { return nil }

// streamAs opens a stream of which the exchange has the end that as returns.
func (o *other) streamAs(fn func(*peer, net.Conn), as func(net.Conn) net.Conn) net.Conn {
	mine, theirs := net.Pipe()
	go o.a.serve(o.id, o.s, as(theirs), fn)
	o.t.Cleanup(func() { mine.Close() })
	_ = mine.SetDeadline(time.Now().Add(patience))
	return mine
}

// next returns the next message of the control stream; nil at its end.
func (o *other) next() wire.Message {
	o.t.Helper()
	select {
	case m := <-o.got:
		return m
	case <-time.After(patience):
		o.t.Fatal("no message")
		return nil
	}
}

// until skips messages until one of a type.
func until[M wire.Message](o *other) (m M) {
	o.t.Helper()
	for {
		got := o.next()
		if got == nil {
			o.t.Fatalf("the stream ended before a %T", m)
		}
		if m, ok := got.(M); ok {
			return m
		}
	}
}

// over waits for the end of the control stream.
func (o *other) over() (bye *wire.Bye) {
	o.t.Helper()
	for {
		switch m := o.next().(type) {
		case nil:
			return bye
		case *wire.Bye:
			bye = m
		}
	}
}

// permit permits to send the exchange anything, for the test that plays the peer.
func (o *other) permit() trust.Plain {
	plain, err := trust.Policy{}.Grant(trust.Rule{Peer: o.a.key.ID, Level: trust.Read}).Whole(o.a.key.ID)
	if err != nil {
		o.t.Fatal(err)
	}
	return plain
}

func (o *other) send(message []byte) error { return send(o.w, o.permit(), message) }

// hello says hello and waits for the other one.
func (o *other) hello() {
	o.t.Helper()
	if err := o.w.Hello(wire.Hello{Lowest: 1, Highest: 1}); err != nil {
		o.t.Fatal(err)
	}
	until[*wire.Hello](o)
}

// offer offers a log and returns what is asked of it.
func (o *other) offer(id LogID) *wire.Begin {
	o.t.Helper()
	if err := o.send(wire.OfferMessage(wire.Offer{Log: id})); err != nil {
		o.t.Fatal(err)
	}
	return until[*wire.Begin](o)
}

// seed plays a peer that has the chunks of a memory and serves them as told: change may change answers, or end the stream with nil.
func (o *other) seed(m *memory, change func(answers [][]byte) [][]byte) {
	o.t.Helper()
	o.hello()
	if err := o.send(wire.OfferMessage(wire.Offer{Log: LogID{9}})); err != nil {
		o.t.Fatal(err)
	}
	plain := o.permit()
	go func() {
		for {
			var c net.Conn
			select {
			case c = <-o.s.chunks:
			case <-o.s.over:
				return
			}
			go func() {
				defer c.Close()
				r, w := wire.NewReader(c), wire.NewWriter(c, o.a.key.ID)
				asked := make(chan *wire.Want, 10000)
				go func() {
					defer close(asked)
					for {
						m, err := r.Next()
						if err != nil {
							return
						}
						asked <- m.(*wire.Want)
					}
				}()
				for want := range asked {
					var answers [][]byte
					for _, g := range want.Groups {
						for _, id := range g.IDs {
							m.mu.Lock()
							answers = append(answers, m.chunks[id])
							m.mu.Unlock()
						}
					}
					if answers = change(answers); answers == nil {
						return
					}
					out := wire.NewChunks()
					for _, d := range answers {
						out.Add(d)
					}
					if send(w, plain, out.Message()) != nil {
						return
					}
				}
			}()
		}
	}()
}

func asIs(answers [][]byte) [][]byte { return answers }
