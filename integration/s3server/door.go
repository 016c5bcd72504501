package s3server

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Door passes connections on from a port of loopback to a socket.
type Door struct {
	Host string // "127.0.0.1:PORT"

	listener net.Listener
	socket   string
	ended    sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]bool
	shut   bool // new connections are cut at once
	closed bool

	cutAfter atomic.Int64 // bytes from the client until its connection is cut; 0: it is not
}

func (d *Door) open(t *testing.T, socket string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.listener, d.socket, d.Host, d.conns = l, socket, l.Addr().String(), map[net.Conn]bool{}
	d.ended.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if !d.enter(c) {
				c.Close()
				continue
			}
			d.ended.Go(func() { d.pass(c) })
		}
	})
}

func (d *Door) enter(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut || d.closed {
		return false
	}
	d.conns[c] = true
	return true
}

// pass carries what both sides say until one of them ends.
func (d *Door) pass(c net.Conn) {
	defer func() {
		c.Close()
		d.mu.Lock()
		delete(d.conns, c)
		d.mu.Unlock()
	}()
	server, err := net.Dial("unix", d.socket)
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(c, server)
		c.Close()
	}()
	buf := make([]byte, 16<<10)
	for total := int64(0); ; {
		n, err := c.Read(buf)
		if n > 0 {
			total += int64(n)
			if most := d.cutAfter.Load(); most > 0 && total > most {
				break
			}
			if _, err := server.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	server.Close()
	c.Close()
	<-done
}

// Shut cuts all connections, and new ones at once until it is called with false.
func (d *Door) Shut(shut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = shut
	if shut {
		for c := range d.conns {
			c.Close()
		}
	}
}

// CutAfter cuts each connection when its client has sent more than so many bytes; 0: none is.
func (d *Door) CutAfter(bytes int64) { d.cutAfter.Store(bytes) }

func (d *Door) close() {
	if d.listener == nil {
		return
	}
	d.listener.Close()
	d.mu.Lock()
	d.closed = true
	for c := range d.conns {
		c.Close()
	}
	d.mu.Unlock()
	d.ended.Wait()
}
