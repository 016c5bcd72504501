package udpio

import (
	"context"
	"net"
	"runtime"
	"strconv"
	"syscall"

	"github.com/libp2p/go-reuseport"
)

const (
	defaultRecvBuffer = 8 << 20 // 6 ms at 10 Gbit/s; the kernel counts its own overhead too
	defaultSendBuffer = 4 << 20
)

func (o *Options) setDefaults() {
	if o.RecvBuffer <= 0 {
		o.RecvBuffer = defaultRecvBuffer
	}
	if o.SendBuffer <= 0 {
		o.SendBuffer = defaultSendBuffer
	}
}

// Listen opens the sockets. The network is "udp", "udp4" or "udp6"; addr is as for [net.ListenPacket], and where its
// port is 0, all sockets get the one that the first was given.
func Listen(network, addr string, opt Options) ([]Conn, error) {
	n := opt.Sockets
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	opt.setDefaults()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	var conns []Conn
	for i := range n {
		var lc net.ListenConfig
		if n > 1 && (i > 0 || port != "0" && port != "") {
			lc.Control = reuseport.Control
		}
		c, err := listenOne(&lc, network, addr, opt)
		if err == nil && n > 1 && lc.Control == nil {
			// With the options set before, the kernel might choose a port that another such group of this user holds.
			err = share(c)
			addr = net.JoinHostPort(host, strconv.Itoa(int(c.LocalAddr().Port())))
		}
		if c != nil {
			conns = append(conns, c)
		}
		if err != nil {
			for _, c := range conns {
				c.Close()
			}
			return nil, err
		}
	}
	return conns, nil
}

// Adopt makes a Conn of a socket that somebody else has opened: a fast one of a [net.UDPConn], else as [Wrap] does. The
// socket's own options stay, but for the sizes of its buffers and DF.
func Adopt(pc net.PacketConn, opt Options) (Conn, error) {
	u, ok := pc.(*net.UDPConn)
	if !ok {
		return Wrap(pc), nil
	}
	opt.setDefaults()
	return newConn(u, opt)
}

// share allows other sockets on the port of c.
func share(c Conn) error {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	return reuseport.Control("", "", raw)
}

func listenOne(lc *net.ListenConfig, network, addr string, opt Options) (Conn, error) {
	pc, err := lc.ListenPacket(context.Background(), network, addr)
	if err != nil {
		return nil, err
	}
	c, err := newConn(pc.(*net.UDPConn), opt)
	if err != nil {
		pc.Close()
		return nil, err
	}
	return c, nil
}
