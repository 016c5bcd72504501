package esp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Addr is the address of one end of a session: who, and where on the net that one is (at this moment). It is a
// [net.Addr].
type Addr struct {
	Key  PublicKey      // zero where it is not known yet
	Addr netip.AddrPort // the end of the path that is in use
	TCP  bool           // the path is carried by TCP
}

// Network is always "esp".
func (a Addr) Network() string { return "esp" }

// String is "KEY@HOST:PORT", which [Dial] takes as it is.
func (a Addr) String() string {
	if a.Key.IsZero() {
		return a.Addr.String()
	}
	return a.Key.String() + "@" + a.Addr.String()
}

// splitAddress parts "KEY@HOST:PORT" or "HOST:PORT". HOST may be a name; the port must be a number or a service name.
func splitAddress(address string) (key PublicKey, hostport string, err error) {
	hostport = address
	if k, rest, ok := strings.Cut(address, "@"); ok {
		if key, err = ParsePublicKey(k); err != nil {
			return key, "", err
		}
		hostport = rest
	}
	if _, _, err := net.SplitHostPort(hostport); err != nil {
		return key, "", err
	}
	return key, hostport, nil
}

// resolve turns HOST:PORT into addresses, IPv6 and IPv4 mixed as the resolver gives them, at most limit of them.
func resolve(ctx context.Context, hostport string, limit int) ([]netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(hostport); err == nil {
		return []netip.AddrPort{unmapPort(ap)}, nil
	}
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		n, lerr := net.DefaultResolver.LookupPort(ctx, "udp", service)
		if lerr != nil {
			return nil, lerr
		}
		port = uint64(n)
	}
	if host == "" {
		return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, ip := range ips {
		if len(out) == limit {
			break
		}
		out = append(out, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	if len(out) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return out, nil
}

// unmapPort turns ::ffff:a.b.c.d, which a dual-stack socket reports, into a.b.c.d, so that one peer has one spelling.
func unmapPort(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// addrPortOf reads the address of a socket.
func addrPortOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return unmapPort(a.AddrPort())
	case *net.TCPAddr:
		return unmapPort(a.AddrPort())
	case nil:
		return netip.AddrPort{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return unmapPort(ap)
}

// parseListenAddr resolves a listening address such as ":7000" or "[::1]:7000".
func parseListenAddr(addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("esp: port %q: %w", port, err)
	}
	if host == "" {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n)), nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		a, rerr := net.ResolveIPAddr("ip", host)
		if rerr != nil {
			return netip.AddrPort{}, rerr
		}
		ip, _ = netip.AddrFromSlice(a.IP)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}
