package discover

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"sharefs"
)

// Where beacons go: a group of the administratively scoped block (RFC 2365) and one of the link-local scope (RFC 4291, section 2.7). Packets have a
// time to live of 1, so no router passes them on.
var (
	group4 = net.UDPAddr{IP: net.IPv4(239, 255, 83, 70), Port: Port}
	group6 = net.UDPAddr{IP: net.ParseIP("ff12::5346"), Port: Port}
)

// Port is that of beacons.
const Port = 27274

// Limits of what is listened to: beacons in a second, of one address and of all.
const (
	ratePerHost = 20
	rateOfAll   = 1000
	hostsKept   = 1024
)

// LAN sends and hears beacons on the interfaces of this machine.
type LAN struct {
	only  netip.Addr // of the interface; invalid: all
	heard func(b Beacon, from netip.Addr)
	log   *slog.Logger
	v4    *ipv4.PacketConn // nil where the machine has none
	v6    *ipv6.PacketConn
	wg    sync.WaitGroup

	mu     sync.Mutex // guards what follows
	ifaces []net.Interface
	flood  flood
}

// ListenLAN begins to listen. Heard is called for each beacon that could be one, from one goroutine for each version of IP; an address that holds on one link alone has the
// index of the interface as its zone. Only limits it to the interface that has an address. The caller must Close it.
func ListenLAN(only netip.Addr, heard func(b Beacon, from netip.Addr), log *slog.Logger) (*LAN, error) {
	if only.IsUnspecified() {
		only = netip.Addr{}
	}
	l := &LAN{only: only, heard: heard, log: log}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			for _, opt := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} { // several stores of a machine share the port
				err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, opt, 1))
			}
		})
		return errors.Join(err, cerr)
	}}
	var errs []error
	if !only.IsValid() || only.Is4() {
		if c, err := lc.ListenPacket(context.Background(), "udp4", group4.String()); err == nil {
			l.v4 = ipv4.NewPacketConn(c)
			errs = append(errs, control(c, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL), l.v4.SetMulticastLoopback(true))
		} else {
			errs = append(errs, err)
		}
	}
	if !only.IsValid() || only.Is6() {
		if c, err := lc.ListenPacket(context.Background(), "udp6", group6.String()); err == nil {
			l.v6 = ipv6.NewPacketConn(c)
			errs = append(errs, control(c, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL), l.v6.SetMulticastLoopback(true), l.v6.SetControlMessage(ipv6.FlagInterface, true))
		} else {
			errs = append(errs, err)
		}
	}
	if l.v4 == nil && l.v6 == nil {
		return nil, &sharefs.Error{Op: "listen on the local network", Kind: sharefs.KindOther, Err: errors.Join(errs...)}
	}
	l.Refresh()
	if l.v4 != nil {
		l.wg.Go(func() {
			l.listen(func(b []byte) (int, int, net.Addr, error) {
				n, _, from, err := l.v4.ReadFrom(b)
				return n, 0, from, err
			})
		})
	}
	if l.v6 != nil {
		l.wg.Go(func() {
			l.listen(func(b []byte) (n, ifc int, from net.Addr, err error) {
				n, cm, from, err := l.v6.ReadFrom(b)
				if cm != nil {
					ifc = cm.IfIndex
				}
				return n, ifc, from, err
			})
		})
	}
	return l, nil
}

// control has a socket get the groups only that it joined itself.
func control(c net.PacketConn, level, option int) error {
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), level, option, 0) })
	return errors.Join(err, serr)
}

// Refresh joins the groups on interfaces that have come.
func (l *LAN) Refresh() {
	all, err := net.Interfaces()
	if err != nil {
		l.log.Warn("interfaces", "error", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ifaces = l.ifaces[:0]
	for _, ifc := range all {
		if ifc.Flags&net.FlagUp == 0 || ifc.Flags&(net.FlagMulticast|net.FlagLoopback|net.FlagPointToPoint) == 0 || !l.wants(&ifc) {
			continue
		}
		l.ifaces = append(l.ifaces, ifc)
		// What was joined before says EADDRINUSE; what cannot be joined, as an interface that has no address of version 6 yet, is not heard on.
		if l.v4 != nil {
			_ = l.v4.JoinGroup(&ifc, &group4)
		}
		if l.v6 != nil {
			_ = l.v6.JoinGroup(&ifc, &group6)
		}
	}
}

// wants reports whether beacons go over an interface.
func (l *LAN) wants(ifc *net.Interface) bool {
	if !l.only.IsValid() {
		return true
	}
	addrs, err := ifc.Addrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == l.only {
			return true
		}
	}
	return false
}

// Send sends a beacon over all interfaces.
func (l *LAN) Send(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.ifaces {
		if l.v4 != nil {
			cm := &ipv4.ControlMessage{IfIndex: l.ifaces[i].Index}
			if l.only.Is4() {
				cm.Src = l.only.AsSlice()
			}
			_, _ = l.v4.WriteTo(b, cm, &group4) // lost as any datagram may be
		}
		if l.v6 != nil {
			cm := &ipv6.ControlMessage{IfIndex: l.ifaces[i].Index}
			if l.only.Is6() {
				cm.Src = l.only.AsSlice()
			}
			_, _ = l.v6.WriteTo(b, cm, &group6)
		}
	}
}

// listen takes what read reads, which also tells the index of the interface for addresses that hold on one link alone.
func (l *LAN) listen(read func([]byte) (n, ifc int, from net.Addr, err error)) {
	b := make([]byte, MaxBeacon+1)
	for {
		n, ifc, from, err := read(b)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(100 * time.Millisecond) // an interface that is gone, say: no busy loop
			continue
		}
		udp, ok := from.(*net.UDPAddr)
		if !ok {
			continue
		}
		host := udp.AddrPort().Addr().Unmap().WithZone("")
		now := time.Now()
		l.mu.Lock()
		take := l.flood.take(host, now)
		l.mu.Unlock()
		if !take {
			continue
		}
		beacon, ok := Decode(b[:n], now)
		if !ok {
			continue
		}
		if host.Is6() && host.IsLinkLocalUnicast() {
			if ifc == 0 {
				continue // it leads nowhere
			}
			host = host.WithZone(strconv.Itoa(ifc))
		}
		l.heard(beacon, host)
	}
}

// Close ends it. No call of heard is under way when it returns.
func (l *LAN) Close() {
	if l.v4 != nil {
		l.v4.Close()
	}
	if l.v6 != nil {
		l.v6.Close()
	}
	l.wg.Wait()
}

// flood counts the beacons of this second.
type flood struct {
	second int64
	all    int
	hosts  map[netip.Addr]int
}

func (f *flood) take(host netip.Addr, now time.Time) bool {
	if s := now.Unix(); s != f.second || f.hosts == nil {
		f.second, f.all, f.hosts = s, 0, map[netip.Addr]int{}
	}
	if f.hosts[host] >= ratePerHost || f.all >= rateOfAll || len(f.hosts) >= hostsKept {
		return false
	}
	f.hosts[host]++
	f.all++
	return true
}
