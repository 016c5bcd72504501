//go:build linux

package linkem

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultMTU is that of the devices at the ends of a link.
const DefaultMTU = 1500

// Net is a set of hosts and the links between them. Its methods may be called by several goroutines.
type Net struct {
	seed   uint64
	origin time.Time
	done   chan struct{}
	wg     sync.WaitGroup

	mu     sync.Mutex
	hosts  []*Host
	links  []*Link
	closed bool
}

// Available reports why networks cannot be emulated here; nil where they can.
var Available = sync.OnceValue(func() error {
	if os.Geteuid() != 0 {
		return errors.New("emulated networks need root, to make network namespaces")
	}
	n := New(0)
	defer n.Close()
	a, err := n.AddHost("a")
	if err != nil {
		return fmt.Errorf("network namespaces cannot be made: %w", err)
	}
	b, err := n.AddHost("b")
	if err != nil {
		return fmt.Errorf("network namespaces cannot be made: %w", err)
	}
	if _, err := n.Connect(a, b, DefaultMTU, Conditions{}); err != nil {
		return fmt.Errorf("TUN devices cannot be made: %w", err)
	}
	return nil
})

// New returns an empty network. The seed decides about all chance in it.
func New(seed uint64) *Net {
	return &Net{seed: seed, origin: time.Now(), done: make(chan struct{})}
}

// AddHost makes a host.
func (n *Net) AddHost(name string) (*Host, error) {
	fd, err := newNamespace()
	if err != nil {
		return nil, err
	}
	h := &Host{Name: name, net: n, ns: fd}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		unix.Close(fd)
		return nil, os.ErrClosed
	}
	n.hosts = append(n.hosts, h)
	return h, nil
}

// Connect makes a link with those conditions in both directions. Each link is a subnet of its own, 10.77.I.0/24, and a
// device linkI on each host.
func (n *Net) Connect(a, b *Host, mtu int, c Conditions) (*Link, error) {
	return n.connect(a, b, mtu, c, false)
}

// ConnectJoined is Connect for a link that carries packets joined as network cards do (offload.go), which takes far less of this machine: for what measures programs, and neither
// looks at single packets nor loses any. Conditions apply to what is joined as a whole; Stats count packets.
func (n *Net) ConnectJoined(a, b *Host, mtu int, c Conditions) (*Link, error) {
	return n.connect(a, b, mtu, c, true)
}

func (n *Net) connect(a, b *Host, mtu int, c Conditions, joined bool) (*Link, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, os.ErrClosed
	}
	i := len(n.links)
	if i > 255 {
		return nil, errors.New("a network has at most 256 links")
	}
	l := &Link{net: n, name: fmt.Sprintf("link%d", i)}
	devs := [2]io.ReadWriteCloser{}
	for k, h := range []*Host{a, b} {
		l.hosts[k] = h
		l.addrs[k] = netip.AddrFrom4([4]byte{10, 77, byte(i), byte(k + 1)})
		err := h.Do(func() (err error) {
			devs[k], err = openTUN(l.name, netip.PrefixFrom(l.addrs[k], 24), mtu, joined)
			return err
		})
		if err != nil {
			if k == 1 {
				devs[0].Close()
			}
			return nil, fmt.Errorf("link between %s and %s: %w", a.Name, b.Name, err)
		}
	}
	for k := range 2 {
		p := &pipe{
			in: devs[k], out: devs[1-k], origin: n.origin, toward: l.hosts[1-k], link: l,
			joined: joined, shaper: newShaper(n.seed, uint64(2*i+k)), wake: make(chan struct{}, 1), done: n.done,
		}
		p.cond.Store(&c)
		l.pipes[k] = p
		n.wg.Go(p.read)
		n.wg.Go(p.deliver)
	}
	n.links = append(n.links, l)
	return l, nil
}

// Close removes all links and hosts. Sockets on them stay open, and go nowhere.
func (n *Net) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	n.mu.Unlock()
	close(n.done)
	var errs []error
	for _, l := range n.links {
		for _, p := range l.pipes {
			errs = append(errs, p.in.Close())
		}
	}
	n.wg.Wait()
	for _, h := range n.hosts {
		errs = append(errs, unix.Close(h.ns))
	}
	return errors.Join(errs...)
}

// Link joins two hosts.
type Link struct {
	net   *Net
	name  string
	hosts [2]*Host
	addrs [2]netip.Addr
	pipes [2]*pipe // pipes[k] comes from hosts[k]
	tap   atomic.Pointer[func(Packet)]
}

// Packet is what a tap sees: an IP packet that enters the link, whatever becomes of it. Data must not be kept.
type Packet struct {
	At     time.Duration // since the network was made
	Toward *Host
	Data   []byte
}

// Device returns the name of the link's devices.
func (l *Link) Device() string { return l.name }

// Addr returns the address of a host on the link, the zero address where it is not on it.
func (l *Link) Addr(h *Host) netip.Addr {
	for k := range l.hosts {
		if l.hosts[k] == h {
			return l.addrs[k]
		}
	}
	return netip.Addr{}
}

// Set changes the conditions in both directions, for packets that come from now on.
func (l *Link) Set(c Conditions) {
	for _, p := range l.pipes {
		p.cond.Store(&c)
	}
}

// SetToward changes the conditions of one direction.
func (l *Link) SetToward(h *Host, c Conditions) { l.toward(h).cond.Store(&c) }

// Conditions returns those of the direction toward h.
func (l *Link) Conditions(toward *Host) Conditions { return *l.toward(toward).cond.Load() }

// Stats returns the counters of the direction toward h.
func (l *Link) Stats(toward *Host) Stats {
	p := l.toward(toward)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

func (l *Link) toward(h *Host) *pipe {
	for _, p := range l.pipes {
		if p.toward == h {
			return p
		}
	}
	panic("linkem: " + h.Name + " is not on " + l.name)
}

// Inject delivers an IP packet to a host at once, as if it had come over the link: from any address, for one.
func (l *Link) Inject(toward *Host, packet []byte) error {
	p := l.toward(toward)
	if p.joined {
		packet = append(make([]byte, vnetHeader), packet...)
	}
	_, err := p.out.Write(packet)
	return err
}

// Tap lets fn see all packets that enter the link, in both directions; it is called by two goroutines, and must be
// quick. nil ends it, but a call may still be under way.
func (l *Link) Tap(fn func(Packet)) {
	if fn == nil {
		l.tap.Store(nil)
		return
	}
	l.tap.Store(&fn)
}

func (l *Link) tapped(toward *Host, at time.Duration, data []byte) {
	if fn := l.tap.Load(); fn != nil {
		(*fn)(Packet{At: at, Toward: toward, Data: data})
	}
}

// TestNet is a Net whose failures end a test.
type TestNet struct {
	*Net
	t testing.TB
}

// Test returns a network for a test, which is skipped with the reason where there can be none. All goes with the test.
func Test(t testing.TB) *TestNet {
	t.Helper()
	if err := Available(); err != nil {
		t.Skip(err)
	}
	n := New(1)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return &TestNet{n, t}
}

// Host makes a host.
func (n *TestNet) Host(name string) *Host {
	n.t.Helper()
	h, err := n.AddHost(name)
	if err != nil {
		n.t.Fatal(err)
	}
	return h
}

// Link makes a link with the default MTU.
func (n *TestNet) Link(a, b *Host, c Conditions) *Link {
	n.t.Helper()
	l, err := n.Connect(a, b, DefaultMTU, c)
	if err != nil {
		n.t.Fatal(err)
	}
	return l
}
