package esp

import (
	"context"
	"net"
	"net/netip"
	"time"

	"sharefs/esp/internal/udpio"
)

// Network makes the sockets of an endpoint. Tests put a net in memory here; a program may put a proxy or a VRF.
type Network interface {
	// ListenPacket opens a UDP-like socket on a local address.
	ListenPacket(addr netip.AddrPort) (net.PacketConn, error)
	// Listen opens a TCP-like listener on a local address.
	Listen(addr netip.AddrPort) (net.Listener, error)
	// Dial connects a TCP-like stream. local may be invalid: any.
	Dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error)
	// Addrs lists the addresses of this host that peers could reach.
	Addrs() ([]netip.Addr, error)
}

// reacher is a Network that can tell whether anything sent from one of its addresses to another one would leave this host.
type reacher interface {
	Reaches(local netip.Addr, remote netip.AddrPort) bool
}

// reaches reports whether a path between two addresses is worth a packet, as far as that is known.
func (e *Endpoint) reaches(local netip.Addr, remote netip.AddrPort) bool {
	r, ok := e.cfg.Net.(reacher)
	return !ok || r.Reaches(local, remote)
}

// systemNet is the operating system's net. Its UDP sockets are opened by openPackets, several on one port.
type systemNet struct{}

func (systemNet) ListenPacket(addr netip.AddrPort) (net.PacketConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
}

func (systemNet) Listen(addr netip.AddrPort) (net.Listener, error) {
	return net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
}

func (systemNet) Dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAlive: 30 * time.Second}
	if local.IsValid() && !local.IsUnspecified() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	return d.DialContext(ctx, "tcp", remote.String())
}

// Reaches implements reacher: to connect a UDP socket sends nothing, and looks for a route.
func (systemNet) Reaches(local netip.Addr, remote netip.AddrPort) bool {
	c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.UDPAddrFromAddrPort(remote))
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func (systemNet) Addrs() ([]netip.Addr, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out, loop []netip.Addr
	for _, ifc := range ifaces {
		if ifc.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := ifc.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			ip := p.Addr().Unmap()
			switch {
			case ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified():
			case ip.IsLoopback():
				loop = append(loop, ip)
			default:
				out = append(out, ip)
			}
		}
	}
	return append(out, loop...), nil
}

// openPackets opens the UDP sockets for one address; n sockets share the port where the system can do that.
func openPackets(nw Network, addr netip.AddrPort, n int) ([]udpio.Conn, error) {
	if _, ok := nw.(systemNet); ok {
		network := "udp"
		if addr.Addr().Is4() {
			network = "udp4"
		}
		return udpio.Listen(network, addr.String(), udpio.Options{Sockets: n})
	}
	pc, err := nw.ListenPacket(addr)
	if err != nil {
		return nil, err
	}
	c, err := udpio.Adopt(pc, udpio.Options{})
	if err != nil {
		pc.Close()
		return nil, err
	}
	return []udpio.Conn{c}, nil
}
