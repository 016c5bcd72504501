//go:build linux

package linkem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is a network namespace with a loopback device and the ends of its links.
type Host struct {
	Name string

	net *Net
	ns  int // descriptor of the namespace, which exists as long as it is open
}

// newNamespace returns a descriptor of a new network namespace with its loopback device up.
func newNamespace() (fd int, err error) {
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		// Router solicitations and the like would only disturb who counts packets.
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
		if err := setUp("lo"); err != nil {
			return err
		}
		fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return os.NewSyscallError("open the namespace", err)
	})
	return fd, err
}

// onThread runs fn on a thread of its own, which ends with it: its namespace is nobody else's business.
func onThread(fn func() error) error {
	errc := make(chan error, 1)
	go func() {
		err := errors.New("the function did not return")
		defer func() { errc <- err }()
		runtime.LockOSThread() // and never unlocked
		err = fn()
	}()
	return <-errc
}

// Do runs fn with this host's network: sockets that it makes belong to the host for ever, whoever uses them. What it
// starts in other goroutines runs elsewhere, so connect to addresses, not to names.
func (h *Host) Do(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(h.ns, unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return fn()
	})
}

// Listen is [net.Listen] on this host.
func (h *Host) Listen(network, address string) (l net.Listener, err error) {
	err = h.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket is [net.ListenPacket] on this host.
func (h *Host) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = h.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Dial is [net.Dialer.DialContext] on this host. The address must not need a resolver.
func (h *Host) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = h.Do(func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Start starts a command on this host. It must not have a Pdeathsig, which would strike when the thread ends.
func (h *Host) Start(cmd *exec.Cmd) error { return h.Do(cmd.Start) }

// Run runs a command on this host and returns what it prints. The error names the command and holds its last words.
func (h *Host) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return h.run(exec.CommandContext(ctx, name, args...))
}

func (h *Host) run(cmd *exec.Cmd) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := h.Start(cmd); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return out.Bytes(), fmt.Errorf("%s on %s: %w: %s", strings.Join(cmd.Args, " "), h.Name, err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), nil
}

// Firewall replaces all nftables rules of the host by those of a ruleset in nft(8)'s language; an empty one allows all.
func (h *Host) Firewall(ctx context.Context, ruleset string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader("flush ruleset\n" + ruleset + "\n")
	_, err := h.run(cmd)
	return err
}

// Network is the host's net in the form that package esp takes: sockets are opened on the host, whoever asks for them.
type Network struct{ h *Host }

// Network returns the host's net.
func (h *Host) Network() Network { return Network{h} }

// ListenPacket opens a UDP socket.
func (n Network) ListenPacket(addr netip.AddrPort) (net.PacketConn, error) {
	return n.h.ListenPacket("udp", addr.String())
}

// Listen opens a TCP listener.
func (n Network) Listen(addr netip.AddrPort) (net.Listener, error) {
	return n.h.Listen("tcp", addr.String())
}

// Dial opens a TCP connection, from the local address where that is valid.
func (n Network) Dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (c net.Conn, err error) {
	err = n.h.Do(func() error {
		var d net.Dialer
		if local.IsValid() && !local.IsUnspecified() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
		}
		c, err = d.DialContext(ctx, "tcp", remote.String())
		return err
	})
	return c, err
}

// Addrs returns the host's addresses on its links, those of its first links first.
func (n Network) Addrs() ([]netip.Addr, error) {
	n.h.net.mu.Lock()
	defer n.h.net.mu.Unlock()
	var addrs []netip.Addr
	for _, l := range n.h.net.links {
		if a := l.Addr(n.h); a.IsValid() {
			addrs = append(addrs, a)
		}
	}
	return addrs, nil
}
