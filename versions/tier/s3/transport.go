package s3

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// newTransport returns a transport whose connections give up when nothing moves for a while, and send no faster than they may all together.
func newTransport(stall time.Duration, rate int64) *http.Transport {
	dialer := net.Dialer{Timeout: stall, KeepAlive: 30 * time.Second}
	limit := &limiter{rate: rate}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &conn{Conn: c, stall: stall, limit: limit}, nil
		},
		MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: stall, ExpectContinueTimeout: time.Second, DisableCompression: true,
	}
}

// conn is a connection that fails when nothing moves for a while, in either direction: whoever waits for an answer waits as long as something is sent.
type conn struct {
	net.Conn
	stall time.Duration
	limit *limiter
}

func (c *conn) Read(b []byte) (int, error) {
	c.Conn.SetDeadline(time.Now().Add(c.stall))
	return c.Conn.Read(b)
}

// sendPiece is sent at a time where there is a bound: at the lowest rate that the configuration allows it takes a second.
const sendPiece = 16 << 10

func (c *conn) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		piece := b
		if c.limit.rate > 0 {
			piece = b[:min(len(b), sendPiece)]
			time.Sleep(c.limit.take(time.Now(), len(piece)))
		}
		c.Conn.SetDeadline(time.Now().Add(c.stall))
		sent, err := c.Conn.Write(piece)
		n += sent
		if err != nil {
			return n, err
		}
		b = b[sent:]
	}
	return n, nil
}

// limiter spreads what is sent over time.
type limiter struct {
	rate int64 // bytes in a second; 0: no bound

	mu   sync.Mutex
	next time.Time // when the next byte may go
}

// take books n bytes and returns how long to wait before they may be sent.
func (l *limiter) take(now time.Time, n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next.Before(now) {
		l.next = now
	}
	wait := l.next.Sub(now)
	l.next = l.next.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	return wait
}
