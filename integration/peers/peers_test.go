// Package peers runs real daemons on hosts of their own, in network namespaces, which find each other and pair in each of the ways that there are.
package peers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/linkem"
	"sharefs/integration/mounttest"
	"sharefs/peers/discover"
	"sharefs/peers/report"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

// mode is that of all mounts here: the kernel's way to content does not matter.
func mode() mounttest.Mode {
	if os.Geteuid() != 0 {
		return mounttest.User
	}
	return mounttest.Passthrough
}

// host is one with a mount.
type host struct {
	*mounttest.Mount
	t     *testing.T
	net   *linkem.Host
	name  string
	links []*linkem.Link
}

// hosts makes hosts with a mount each, and a link between any two. Conf is added to their share.toml.
func hosts(t *testing.T, conf string, names ...string) (out []*host) {
	t.Helper()
	if testing.Short() {
		t.Skip("real mounts")
	}
	n := linkem.Test(t)
	for _, name := range names {
		out = append(out, &host{t: t, net: n.Host(name), name: name})
	}
	for i := range out {
		for _, other := range out[:i] {
			l := n.Link(out[i].net, other.net, linkem.Conditions{})
			out[i].links, other.links = append(out[i].links, l), append(other.links, l)
		}
	}
	for _, h := range out {
		store := filepath.Join(mounttest.TempDir(t), "store")
		if err := os.Mkdir(store, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(store, "share.toml"), []byte("[peers]\nname = \""+h.name+"\"\n"+conf), 0o600); err != nil {
			t.Fatal(err)
		}
		h.Mount = mounttest.Start(t, mode(), mounttest.On(store), mounttest.Through(h.net.Start))
	}
	return out
}

// tool runs sharefs on a host's mount.
func (h *host) tool(args ...string) (out string, err error) {
	h.t.Helper()
	return h.feed("", args...)
}

// feed runs it with something to read.
func (h *host) feed(in string, args ...string) (out string, err error) {
	h.t.Helper()
	cmd := exec.Command(mounttest.Bin(h.t, "sharefs"), append([]string{"-C", h.Dir}, args...)...)
	cmd.Stdin = strings.NewReader(in)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	text, err := cmd.Output()
	if err != nil {
		err = errors.New(strings.TrimSpace(errs.String()))
	}
	return string(text), err
}

func (h *host) must(args ...string) string {
	h.t.Helper()
	out, err := h.tool(args...)
	if err != nil {
		h.t.Fatalf("%s: sharefs %q: %v", h.name, args, err)
	}
	return out
}

func (h *host) peers() (all []report.Peer) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.must("peers", "--json")), &all); err != nil {
		h.t.Fatal(err)
	}
	return all
}

func (h *host) peer(name string) report.Peer {
	h.t.Helper()
	for _, p := range h.peers() {
		if p.Name == name {
			return p
		}
	}
	return report.Peer{}
}

// wantKeys checks how many share keys a host has, and which epoch is in use.
func (h *host) wantKeys(known int, epoch uint32) {
	h.t.Helper()
	if k := h.Status().Keys; k.Known != known || k.Shares != 1 || k.Epoch != epoch || k.Due != 0 || len(k.Share) != 32 {
		h.t.Errorf("%+v", k)
	}
	if text, err := os.ReadFile(filepath.Join(h.Store, "share.key")); err != nil || strings.Count(string(text), "\nkey ") != known {
		h.t.Errorf("%d lines in share.key, not %d: %v", strings.Count(string(text), "\n"), known, err)
	}
}

// shutOut has peers.json of a host that is not mounted say that another epoch of the share keys is due.
func (h *host) shutOut() {
	h.t.Helper()
	path := filepath.Join(h.Store, "peers.json")
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(text), `"format": 1,`, `"format": 1, "epochs_due": 1,`, 1)), 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) id() string {
	id, _, _ := strings.Cut(h.must("pair", "--id"), "\n")
	return id
}

// connected waits until two hosts are, as both see it.
func connected(t *testing.T, a, b *host) {
	t.Helper()
	mounttest.WaitFor(t, a.name+" and "+b.name+" connected", func() bool { return a.peer(b.name).Connected && b.peer(a.name).Connected })
}

func pairByLink(t *testing.T, a, b *host) {
	t.Helper()
	if out, err := b.feed(a.must("pair", "--link"), "pair", "-"); err != nil || !strings.Contains(out, "Paired with "+a.name+" (") || !strings.Contains(out, "Its level is paired") {
		t.Fatalf("%s, %v", out, err)
	}
	connected(t, a, b)
}

func (h *host) ctl(elem ...string) string {
	h.t.Helper()
	text, err := os.ReadFile(h.Path(append([]string{".share/ctl"}, elem...)...))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

func TestPairByLinkAndWhatFollows(t *testing.T) {
	hs := hosts(t, "", "anna", "bert")
	a, b := hs[0], hs[1]
	if out := a.must("peers"); out != "This store is paired with nobody. sharefs pair begins it.\n" || len(a.peers()) != 0 {
		t.Errorf("%s", out)
	}
	if out := a.must("pair", "--id"); !strings.Contains(out, "\nIt calls itself anna.\n") || !strings.Contains(out, "listens nowhere; pairing begins that") {
		t.Errorf("a store without peers: %s", out)
	}
	pairByLink(t, a, b)
	var p report.Peer // of two sessions that begin at the same time one ends, so it may be without one for a moment
	mounttest.WaitFor(t, "a path", func() bool { p = a.peer("bert"); return p.Path != "" })
	if p.ID != b.id() || p.Level != "paired" || p.How != "link" || !strings.Contains(p.Path, " 10.77.0.") || p.Since.IsZero() || len(p.Addresses) == 0 {
		t.Errorf("%+v", p)
	}
	if got := a.ctl("peers/bert/id"); got != b.id()+"\n" {
		t.Errorf("%s", got)
	}
	mounttest.WaitFor(t, "a connection in the status of the peer", func() bool { return strings.Contains(a.ctl("peers/bert/status"), "Connected  since") })
	mounttest.WaitFor(t, "a connection in the status", func() bool { return strings.Contains(a.ctl("status"), "1 known, 1 connected now") })
	// What it may.
	a.must("grant", "bert", "read")
	a.must("grant", "bert", "write", a.Path("photos"))
	if err := os.WriteFile(a.Path(".share/ctl/peers/bert/level"), []byte("propose\n"), 0); err != nil {
		t.Error(err)
	}
	if got := a.ctl("peers/bert/rules"); got != "grant bert propose\ngrant bert write /photos\n" {
		t.Errorf("%s", got)
	}
	if out := a.must("trust", "explain", "bert", "photos/x.jpg"); !strings.HasPrefix(out, "write: ") || !strings.Contains(out, "wins") {
		t.Errorf("%s", out)
	}
	if out := a.must("trust", "explain", "bert", "/other"); !strings.HasPrefix(out, "propose: ") {
		t.Errorf("%s", out)
	}
	if out := a.must("trust", "explain", b.id()[:7], "/other"); !strings.HasPrefix(out, "propose: ") {
		t.Errorf("by its id: %s", out)
	}
	for _, in := range []string{"", "\n", b.id() + "\n", "sharefs:x\n"} {
		if out, err := a.feed(in, "pair", "-"); err == nil || !strings.HasPrefix(err.Error(), "sharefs: ") {
			t.Errorf("%q: %s, %v", in, out, err)
		}
	}
	for _, c := range [][]string{{"trust", "explain", "bert", "/proc"}, {"trust", "explain", b.id()[:6], "/other"}, {"pair", "-", "x"}, {"grant", "bert", "read", "/proc"}, {"grant", "bert", "root"}, {"grant", "nobody", "read"}, {"peers", "rename", "bert", "../x"}, {"peers", "rename", "bert", a.id()[:7]}, {"pair", "x"}, {"pair", "sharefs:x"}, {"revoke", "cleo"}} {
		if out, err := a.tool(c...); err == nil {
			t.Errorf("%q: %s", c, out)
		}
	}
	// A name is this host's own.
	a.must("peers", "rename", "bert", "studio")
	if p := a.peer("studio"); p.ID != b.id() || p.Calls != "bert" || p.Level != "write" {
		t.Errorf("%+v", p)
	}
	// It holds over restarts of either.
	b.Remount()
	mounttest.WaitFor(t, "connection after a restart", func() bool { return a.peer("studio").Connected && b.peer("anna").Connected })
	a.Kill()
	a.shutOut() // as if it had ended somebody's trust, and been killed before it made the next share key
	a.Mount.Mount()
	mounttest.WaitFor(t, "connection after a crash", func() bool { return a.peer("studio").Connected && b.peer("anna").Connected })
	if p := a.peer("studio"); p.Level != "write" {
		t.Errorf("%+v", p)
	}
	a.wantKeys(2, 2)
	// Revoked, and let in again. Who had the share keys is not to have the next one.
	a.must("revoke", "studio")
	a.wantKeys(3, 3)
	mounttest.WaitFor(t, "the end of the connection", func() bool { return !a.peer("studio").Connected && !b.peer("anna").Connected })
	if out := a.must("trust", "explain", "studio", "photos"); !strings.HasPrefix(out, "blocked: ") {
		t.Errorf("%s", out)
	}
	a.must("grant", "studio", "paired")
	a.wantKeys(3, 3)
	mounttest.WaitFor(t, "connection after a grant", func() bool { return a.peer("studio").Connected })
	// Paired a second time.
	if out := b.must("pair", strings.TrimSpace(a.must("pair", "--link"))); !strings.Contains(out, "Paired with anna again, which was paired before; its level is paired.") {
		t.Errorf("%s", out)
	}
	a.must("peers", "forget", "studio")
	if len(a.peers()) != 0 {
		t.Error("a peer that was forgotten is there")
	}
	mounttest.WaitFor(t, "word of that", func() bool { return strings.Contains(b.peer("anna").Error, "does not know this host") })
}

// Whoever grants as soon as a pairing is made is told what the other host has yet to do, and nothing that it has done.
func TestGrantsRightBehindAPairing(t *testing.T) {
	hs := hosts(t, "", "anna", "bert")
	a, b := hs[0], hs[1]
	b.must("pair", strings.TrimSpace(a.must("pair", "--link")))
	if out := b.must("grant", "anna", "write"); out != "anna has the level write everywhere.\nIt has to grant this host something, too, before its files come here: sharefs grant bert LEVEL, there.\n" {
		t.Errorf("%s", out)
	}
	if out := a.must("grant", "bert", "write"); out != "bert has the level write everywhere.\n" {
		t.Errorf("%s", out)
	}
	b.Unmount()
	mounttest.WaitFor(t, "the end of the connection", func() bool { return !a.peer("bert").Connected })
	for _, c := range []struct{ level, more string }{
		{"read", "It is not connected at present. Its files come here once it is, and has granted this host read or more, too: if it has not, sharefs grant anna LEVEL, there.\n"},
		{"paired", "What it has received it knows for ever. What is new here is kept under another share key, which it is not given;\nother hosts that trust bert still pass on to it what they have: take it back from it on each of them.\n"},
		{"blocked", ""},
	} {
		if out := a.must("grant", "bert", c.level); out != "bert has the level "+c.level+" everywhere.\n"+c.more {
			t.Errorf("%s", out)
		}
	}
}

// A link is good once, and not for who has changed it.
func TestLinksThatAreNotGood(t *testing.T) {
	hs := hosts(t, "", "anna", "bert", "cleo")
	a, b, c := hs[0], hs[1], hs[2]
	link := strings.TrimSpace(a.must("pair", "--link"))
	parts := strings.Split(link, "/")
	parts[1] = strings.Map(func(r rune) rune {
		if r == 'a' {
			return 'b'
		}
		return 'a'
	}, parts[1])
	if out, err := c.tool("pair", strings.Join(parts, "/")); err == nil {
		t.Errorf("a wrong token: %s", out)
	}
	b.must("pair", link)
	if out, err := c.tool("pair", link); err == nil || !strings.HasPrefix(err.Error(), "sharefs: pair: the link was used already") {
		t.Errorf("a link twice: %s, %v", out, err)
	}
	if out, err := a.tool("pair", strings.TrimSpace(a.must("pair", "--link"))); err == nil || !strings.Contains(err.Error(), "made it itself") {
		t.Errorf("its own: %s, %v", out, err)
	}
	if len(a.peers()) != 1 || len(c.peers()) != 0 {
		t.Errorf("%+v, %+v", a.peers(), c.peers())
	}
}

// screen is sharefs pair in front of a person.
type screen struct {
	*exec.Cmd
	in   io.WriteCloser
	text chan string
}

var digits = regexp.MustCompile(`^ +([0-9]{3} [0-9]{3})$`)

func (h *host) screen() *screen {
	h.t.Helper()
	s := &screen{Cmd: exec.Command(mounttest.Bin(h.t, "sharefs"), "-C", h.Dir, "pair"), text: make(chan string, 1000)}
	in, err := s.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := s.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	s.in = in
	if err := s.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = s.Process.Kill()
		_ = s.Wait()
	})
	go func() {
		defer close(s.text)
		for r := bufio.NewScanner(out); r.Scan(); {
			if m := digits.FindStringSubmatch(r.Text()); m != nil {
				s.text <- m[1]
			}
		}
	}()
	return s
}

// digits waits for those that it shows.
func (s *screen) digits(t *testing.T) string {
	t.Helper()
	select {
	case text, ok := <-s.text:
		if !ok {
			t.Fatal("it ended without showing digits")
		}
		return text
	case <-time.After(mounttest.Patience):
		t.Fatalf("no digits within %v", mounttest.Patience)
	}
	return ""
}

func TestPairByDigits(t *testing.T) {
	hs := hosts(t, "", "anna", "bert")
	a, b := hs[0], hs[1]
	x, y := a.screen(), b.screen()
	dx, dy := x.digits(t), y.digits(t)
	if dx != dy {
		t.Fatalf("%q and %q", dx, dy)
	}
	for _, s := range []*screen{x, y} {
		if _, err := io.WriteString(s.in, "t\n\ny\n"); err != nil { // a slip is no answer
			t.Fatal(err)
		}
	}
	connected(t, a, b)
	if p := a.peer("bert"); p.How != "lan" || p.Level != "paired" {
		t.Errorf("%+v", p)
	}
}

// On a link without addresses but those that IPv6 makes of itself (RFC 4291, section 2.5.6) beacons are heard, and followed.
func TestBeaconsOfOneLink(t *testing.T) {
	hs := hosts(t, "", "anna", "bert")
	a, b := hs[0], hs[1]
	for _, h := range hs {
		if err := h.net.Do(func() error {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/link0/disable_ipv6", []byte("0"), 0); err != nil {
				return err
			}
			return noIPv4("link0")
		}); err != nil {
			t.Skipf("no IPv6 here: %v", err)
		}
	}
	a.must("pair", b.id(), "--name", "bert")
	b.must("pair", a.id(), "--name", "anna")
	connected(t, a, b)
	mounttest.WaitFor(t, "a path between addresses of the link", func() bool { return strings.HasPrefix(a.peer("bert").Path, "udp [fe80:") })
}

// noIPv4 takes the address of version 4 from a device of the calling thread's namespace (netdevice(7)).
func noIPv4(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := ifr.SetInet4Addr(make([]byte, 4)); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, unix.SIOCSIFADDR, ifr)
}

// Two that know nothing but each other's key find each other by beacons, whatever else is sent there.
func TestBeaconsAndJunk(t *testing.T) {
	hs := hosts(t, "", "anna", "bert")
	a, b := hs[0], hs[1]
	stop := make(chan struct{})
	flooded := make(chan struct{})
	var lan *discover.LAN
	if err := b.net.Do(func() (err error) {
		lan, err = discover.ListenLAN(netip.Addr{}, func(discover.Beacon, netip.Addr) {}, slog.New(slog.DiscardHandler))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer lan.Close()
	go func() { // a thousand a second, half of them proper beacons of nobody
		for i := uint64(0); ; i++ {
			select {
			case <-stop:
				close(flooded)
				return
			case <-time.After(time.Millisecond):
			}
			beacon := discover.Encode(discover.Kind(1+i/2%2), sharefs.PeerID{1}, 7, i, time.Now(), make([]discover.Secret, 64))
			if i%2 == 0 {
				beacon = beacon[:uint64(len(beacon))*(i%16)/16]
			}
			lan.Send(beacon)
		}
	}()
	if out := a.must("pair", b.id(), "--name", "bert"); strings.Contains(out, "Paired") || !strings.Contains(out, "once the other host does the same: sharefs pair "+a.id()+", there") {
		t.Errorf("nobody did the same there: %s", out)
	}
	b.must("pair", a.id(), "--name", "anna")
	connected(t, a, b)
	close(stop)
	<-flooded
	if p := a.peer("bert"); p.How != "hand" {
		t.Errorf("%+v", p)
	}
}

// Two that know nothing but each other's key, and cannot hear each other, find each other through one whom both reach.
func TestThroughAPeerOfBoth(t *testing.T) {
	hs := hosts(t, "lan = false\n", "anna", "bert", "cleo")
	a, b, c := hs[0], hs[1], hs[2]
	pairByLink(t, c, a)
	pairByLink(t, c, b)
	a.must("pair", b.id(), "--name", "bert")
	b.must("pair", a.id(), "--name", "anna")
	connected(t, a, b)
	mounttest.WaitFor(t, "both at the third", func() bool { return strings.Count(c.must("peers"), "connected for") == 2 })
}

// A machine that was set up anew has another key: it is another peer, whatever it calls itself, until somebody says otherwise.
func TestALostHost(t *testing.T) {
	hs := hosts(t, "", "anna", "bert", "x")
	a, b, other := hs[0], hs[1], hs[2]
	pairByLink(t, a, b)
	a.must("grant", "bert", "write")
	other.Unmount()
	if err := os.WriteFile(filepath.Join(other.Store, "share.toml"), []byte("[peers]\nname = \"\\u001b[31mBERT\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other.Mount.Mount()
	link := strings.TrimSpace(other.must("pair", "--link"))
	out := a.must("pair", link)
	if strings.ContainsRune(out, '\x1b') || !strings.Contains(out, "Paired with 31mBERT (") {
		t.Errorf("%q", out)
	}
	a.must("peers", "forget", "31mBERT")
	other.Unmount()
	// What it calls itself is a word that means something else: bert@@now would be no version of its.
	if err := os.WriteFile(filepath.Join(other.Store, "share.toml"), []byte("[peers]\nname = \"now\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other.Mount.Mount()
	out = a.must("pair", strings.TrimSpace(other.must("pair", "--link")))
	if !strings.Contains(out, "Paired with peer-now (") || !strings.Contains(out, "It calls itself now, and is called peer-now here: the name can be read as a time.") || strings.Contains(out, "another key") {
		t.Errorf("%s", out)
	}
	a.must("peers", "forget", "peer-now")
	other.Unmount()
	if err := os.WriteFile(filepath.Join(other.Store, "share.toml"), []byte("[peers]\nname = \"bert\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other.Mount.Mount()
	out = a.must("pair", strings.TrimSpace(other.must("pair", "--link")))
	if !strings.Contains(out, "Paired with bert-2 (") || !strings.Contains(out, "another peer, with another key, has that name") {
		t.Errorf("%s", out)
	}
	if p := a.peer("bert"); p.ID != b.id() || p.Level != "write" {
		t.Errorf("%+v", p)
	}
	if out := a.must("peers", "replace", "bert", "bert-2"); !strings.Contains(out, "The key of bert is revoked, and it is called bert-lost from now on; bert-2 has its name now, with the level paired") {
		t.Errorf("%s", out)
	}
	if p := a.peer("bert"); p.ID != other.id() || p.Level != "paired" {
		t.Errorf("%+v", p)
	}
	if p := a.peer("bert-lost"); p.ID != b.id() || p.Level != "blocked" || !p.Lost {
		t.Errorf("%+v", p)
	}
}

func TestASealedIdentity(t *testing.T) {
	m := mounttest.Start(t, mode())
	pass := filepath.Join(t.TempDir(), "pass") // no directory of mounttest, which would end the daemon that names it
	if err := os.WriteFile(pass, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := func() string {
		out, err := exec.Command(mounttest.Bin(t, "sharefs"), "-C", m.Dir, "pair", "--id").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	before := id()
	m.Unmount()
	if err := m.TryMount("passphrase=" + pass); err != nil {
		t.Fatal(err)
	}
	if now := id(); now != before {
		t.Errorf("sealed, it is %s, not %s", now, before)
	}
	m.Unmount()
	if err := m.TryMount(); !errors.Is(err, mounttest.ErrNotMounted) || !strings.Contains(err.Error(), "sealed by a passphrase: mount with -o passphrase=FILE") {
		t.Errorf("without the passphrase: %v", err)
	}
	if err := m.TryMount("passphrase=" + pass); err != nil {
		t.Fatal(err)
	}
	if now := id(); now != before {
		t.Errorf("opened, it is %s, not %s", now, before)
	}
}
