package esp

import (
	"net"
	"sync"
)

// Listener takes the streams that peers open: a [net.Listener]. All methods may be called by several goroutines at
// once.
type Listener struct {
	e    *Endpoint
	s    *Session // takes the streams of this session alone; nil: of all others
	owns bool     // closing it closes the endpoint

	mu    sync.Mutex // a leaf
	queue fifo[*Conn]
	err   error
	wake  chan struct{} // capacity 1: there may be something for one Accept
	done  chan struct{} // closed with err
}

func newListener(e *Endpoint, s *Session) *Listener {
	return &Listener{e: e, s: s, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// offer hands over a stream, or says why not. A nil listener refuses.
func (l *Listener) offer(c *Conn) CloseCode {
	if l == nil {
		return CodeRefused
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return CodeRefused
	}
	if l.queue.len() >= l.e.cfg.Limits.Backlog {
		return CodeLimit
	}
	l.queue.push(c)
	poke(l.wake)
	return CodeNone
}

// Accept implements [net.Listener]. The connection is a *[Conn].
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptStream()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptStream is Accept for those who want a *Conn.
func (l *Listener) AcceptStream() (*Conn, error) {
	for {
		l.mu.Lock()
		if l.err != nil {
			err := l.err
			l.mu.Unlock()
			return nil, &net.OpError{Op: "accept", Net: "esp", Addr: l.Addr(), Err: err}
		}
		if l.queue.len() > 0 {
			c := l.queue.pop()
			if l.queue.len() > 0 {
				poke(l.wake)
			}
			l.mu.Unlock()
			return c, nil
		}
		l.mu.Unlock()
		select {
		case <-l.wake:
		case <-l.done:
		}
	}
}

// Addr returns an [Addr], which peers can dial as it is when the endpoint was bound to one address.
func (l *Listener) Addr() net.Addr {
	if l.s != nil {
		return l.s.LocalAddr()
	}
	return l.e.Addr()
}

// Endpoint returns the endpoint that the listener belongs to.
func (l *Listener) Endpoint() *Endpoint { return l.e }

// fail ends all Accepts with err. It returns what nobody has accepted.
func (l *Listener) fail(err error) (rest []*Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil
	}
	l.err = err
	for l.queue.len() > 0 {
		rest = append(rest, l.queue.pop())
	}
	close(l.done)
	return rest
}

// Close stops listening: streams that nobody has accepted are reset, later ones refused. Those that were accepted
// live on. A listener of the package's Listen also closes the endpoint, at once or when the last of its streams is
// over.
func (l *Listener) Close() error {
	l.mu.Lock()
	closed := l.err != nil
	l.mu.Unlock()
	if closed {
		return &net.OpError{Op: "close", Net: "esp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	for _, c := range l.fail(net.ErrClosed) {
		c.s.mu.Lock()
		c.abort(CodeRefused)
		c.s.flushUnlock()
	}
	if l.s != nil {
		l.s.mu.Lock()
		if l.s.listener == l {
			l.s.listener = nil
		}
		l.s.mu.Unlock()
	} else {
		l.e.mu.Lock()
		if l.e.listener == l {
			l.e.listener = nil
		}
		l.e.mu.Unlock()
	}
	if l.owns {
		l.e.retire()
	}
	return nil
}
