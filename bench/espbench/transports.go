package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"

	"sharefs/esp"
)

// place is where the two ends of a connection are: on loopback, or on two hosts of an emulated network.
type place interface {
	client() esp.Network
	server() esp.Network
	serverAddr() netip.Addr
	clientAddr() netip.Addr
}

// system is the machine itself, over loopback.
type system struct{}

var loop = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func (system) client() esp.Network    { return nil }
func (system) server() esp.Network    { return nil }
func (system) serverAddr() netip.Addr { return loop }
func (system) clientAddr() netip.Addr { return loop }

func listenTCP(p place) (net.Listener, error) {
	at := netip.AddrPortFrom(p.serverAddr(), 0)
	if n := p.server(); n != nil {
		return n.Listen(at)
	}
	return net.Listen("tcp", at.String())
}

func dialTCP(p place, to string) (net.Conn, error) {
	if n := p.client(); n != nil {
		return n.Dial(context.Background(), netip.Addr{}, netip.MustParseAddrPort(to))
	}
	return net.Dial("tcp", to)
}

// stream is one direction or both of a connection.
type stream interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
}

// pair is an established connection.
type pair struct {
	client, server stream
	close          func()
}

// transport makes connections of one kind.
type transport func(p place) (*pair, error)

const connectTimeout = 30 * time.Second

// tcp is the kernel's TCP with the given congestion control, "" for its default.
func tcp(congestion string) transport {
	return func(p place) (*pair, error) {
		ln, err := listenTCP(p)
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		c, s, err := meet(func() (net.Conn, error) { return dialTCP(p, ln.Addr().String()) }, ln.Accept)
		if err != nil {
			return nil, err
		}
		if congestion != "" {
			err = errors.Join(setCongestion(c, congestion), setCongestion(s, congestion))
		}
		return &pair{c, s, func() { c.Close(); s.Close() }}, err
	}
}

func setCongestion(c net.Conn, name string) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
	})
	return errors.Join(err, cerr)
}

// meet connects both ends.
func meet[C, S io.Closer](dial func() (C, error), accept func() (S, error)) (c C, s S, err error) {
	var wg sync.WaitGroup
	var aerr error
	wg.Go(func() { s, aerr = accept() })
	c, err = dial()
	if err != nil {
		return c, s, err
	}
	wg.Wait()
	return c, s, aerr
}

var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

// tls13 is crypto/tls over TCP.
func tls13(p place) (*pair, error) {
	cert, err := certificate()
	if err != nil {
		return nil, err
	}
	raw, err := tcp("")(p)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw.client.(net.Conn), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	s := tls.Server(raw.server.(net.Conn), &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	var wg sync.WaitGroup
	var serr error
	wg.Go(func() { serr = s.Handshake() })
	err = c.Handshake()
	wg.Wait()
	return &pair{c, s, func() { c.Close(); s.Close() }}, errors.Join(err, serr)
}

// quicGo is quic-go with one stream. size fixes the size of its packets, 0 lets it find out.
func quicGo(size uint16) transport {
	return func(p place) (*pair, error) {
		cert, err := certificate()
		if err != nil {
			return nil, err
		}
		const window = 16 << 20 // as much as ESP allows itself
		cfg := &quic.Config{
			InitialPacketSize: size, DisablePathMTUDiscovery: size > 0,
			InitialStreamReceiveWindow: window, MaxStreamReceiveWindow: window,
			InitialConnectionReceiveWindow: 2 * window, MaxConnectionReceiveWindow: 2 * window,
		}
		spc, err := listenUDP(p.server(), p.serverAddr())
		if err != nil {
			return nil, err
		}
		cpc, err := listenUDP(p.client(), p.clientAddr())
		if err != nil {
			spc.Close()
			return nil, err
		}
		st, ct := &quic.Transport{Conn: spc}, &quic.Transport{Conn: cpc}
		closeAll := func() { ct.Close(); st.Close(); cpc.Close(); spc.Close() }
		ln, err := st.Listen(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"bench"}}, cfg)
		if err != nil {
			closeAll()
			return nil, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		defer cancel()
		c, s, err := meet(func() (*quic.Stream, error) {
			conn, err := ct.Dial(ctx, spc.LocalAddr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"bench"}}, cfg)
			if err != nil {
				return nil, err
			}
			s, err := conn.OpenStreamSync(ctx)
			if err == nil {
				_, err = s.Write([]byte{0}) // the other end learns of a stream by its first byte
			}
			return s, err
		}, func() (*quic.Stream, error) {
			conn, err := ln.Accept(ctx)
			if err != nil {
				return nil, err
			}
			s, err := conn.AcceptStream(ctx)
			if err == nil {
				_, err = io.ReadFull(s, make([]byte, 1))
			}
			return s, err
		})
		return &pair{c, s, closeAll}, err
	}
}

func listenUDP(n esp.Network, at netip.Addr) (net.PacketConn, error) {
	if n != nil {
		return n.ListenPacket(netip.AddrPortFrom(at, 0))
	}
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
}

// espOver is ESP with one stream; base is the configuration of both ends.
func espOver(base esp.Config) transport {
	return func(p place) (*pair, error) {
		scfg, ccfg := base, base
		scfg.Net, ccfg.Net = p.server(), p.client()
		if len(base.Addrs) == 0 {
			scfg.Addrs = []string{netip.AddrPortFrom(p.serverAddr(), 0).String()}
			ccfg.Addrs = []string{netip.AddrPortFrom(p.clientAddr(), 0).String()}
		}
		srv, err := esp.New(scfg)
		if err != nil {
			return nil, err
		}
		cli, err := esp.New(ccfg)
		if err != nil {
			srv.Close()
			return nil, err
		}
		closeAll := func() { cli.Close(); srv.Close() }
		ln, err := srv.Listen()
		if err != nil {
			closeAll()
			return nil, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		defer cancel()
		to := srv.Addr()
		to.Addr = netip.AddrPortFrom(p.serverAddr(), to.Addr.Port())
		c, s, err := meet(func() (*esp.Conn, error) { return cli.Dial(ctx, to.String()) }, ln.AcceptStream)
		if err != nil {
			closeAll()
			return nil, err
		}
		return &pair{c, s, closeAll}, nil
	}
}
