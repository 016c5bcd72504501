// Package link keeps a store connected to its peers: one endpoint of esp for each store, one session with each peer that can be reached.
//
//	hub.go       who may connect: the keys of the book, strangers only while a pairing is open
//	dial.go      reaching peers: known addresses, those heard of, back-off
//	session.go   the hello with which a session begins, and what is said over it
//	ask.go       whether a peer lets this host read something
//	meeting.go   peers find each other through one that both reach
//	announce.go  beacons on the local network
//	pairing.go   links, digits, pairing by hand
//	serve.go     streams that peers open, by their purpose
//	guest.go     who is no peer, and has a key for which something is kept here
//	sound.go     peers of which nothing is heard
//	tell.go      what is told of it
//
// # Who is who
//
// A session proves an X25519 key, which belongs to an Ed25519 key of either sign; the hello proves the Ed25519 key, bound to the session. Nothing else is
// said before, but for what [Hub.Lead] is for. A peer that is blocked is refused in the handshake.
//
// # No polling
//
// A peer that is not connected is dialed when something changed (an address of this host, a beacon, word from another peer, a lost session) and beyond that
// after 1, 2, 4 … seconds, at most 5 minutes. While all peers are connected nothing is sent but the keep-alives of esp.
package link

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/peers/book"
	"sharefs/peers/discover"
	"sharefs/peers/pair"
)

// Config is what a hub needs.
type Config struct {
	Key    ed25519.PrivateKey
	Name   string // what this host calls itself
	Listen string // "auto": nowhere before the first pairing, then the port of last time or any; "off"; or HOST:PORT
	LAN    bool   // beacons
	Book   *book.Book
	Log    *slog.Logger
}

// Listen values beside an address.
const (
	Auto = "auto"
	Off  = "off"
)

// Hub is at work from [Start] to [Hub.Close]. Its methods may be called by several goroutines at once.
type Hub struct {
	cfg  Config
	id   sharefs.PeerID
	key  esp.PrivateKey
	boot uint64 // of this run: who has another one has restarted

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	kick   chan struct{} // of the announcer

	syncing sync.Mutex // held while the book is read and taken over, so that no older state of it overtakes a newer one; before mu
	telling sync.Mutex // likewise while addresses are read and told; before mu

	mu        sync.Mutex // guards what follows; nothing is sent or dialed under it
	closed    bool
	ep        *esp.Endpoint // nil while nothing is listened on
	listenErr error
	retry     *time.Timer // of listening
	lan       *discover.LAN
	watch     *discover.Watch
	peers     map[sharefs.PeerID]*peer
	byKey     map[esp.PublicKey]*peer
	windows   []*window
	strangers meter
	serving   int                   // streams of which the first message has not come
	servingOf map[esp.PublicKey]int // likewise, of each peer; of all others together under the zero key
	handlers  map[string]Handler
	followers []func(sharefs.PeerID, *esp.Session)
	leaders   []func(sharefs.PeerID, *esp.Session)
	changed   chan struct{}         // closed, and made anew, when a session becomes the one with a peer, or one that leaves
	heardOf   map[uint64]followed   // nonces of pairing beacons that were followed up
	aside     map[*esp.Session]bool // in which hosts pair; they end with that
	desk      *desk                 // nil: there is nothing for guests
	guests    map[*esp.Session]bool // sessions of guests
	silent    map[*esp.Session]bool // in which nothing had been said when they were last looked for
	// asked are hosts that peers are asked about, introduced what they said.
	asked      map[sharefs.PeerID]bool
	introduced map[sharefs.PeerID]Introduced
	sweep      *time.Timer // until they are looked for again; nil while there can be none
}

// peer is one of the book.
type peer struct {
	id     sharefs.PeerID
	key    esp.PublicKey
	secret discover.Secret
	cancel context.CancelFunc
	poke   chan struct{} // capacity 1: try now

	// Guarded by the hub's lock.
	welcome bool // not blocked
	link    *link
	heard   []string // addresses by beacons and meetings, the latest first
	err     string   // why the last try failed
	next    time.Time
	boot    uint64                       // of its last session
	past    map[uint64]bool              // those that another one has followed: a run that ended cannot come back
	twin    time.Time                    // when one did all the same: two hosts have this key
	flaps   int                          // sessions in a row that ended at once
	hellos  meter                        // those that are answered
	leaving map[*esp.Session]*time.Timer // that another one has taken the place of; until the timer ends them
}

// Start begins. It fails for a key that is none; that an address cannot be listened on is told by [Hub.Pairing] and tried again.
func Start(cfg Config) (*Hub, error) {
	h := &Hub{
		cfg: cfg, key: esp.PrivateKeyFromEd25519(cfg.Key), kick: make(chan struct{}, 1),
		peers: map[sharefs.PeerID]*peer{}, byKey: map[esp.PublicKey]*peer{}, handlers: map[string]Handler{}, heardOf: map[uint64]followed{}, aside: map[*esp.Session]bool{}, guests: map[*esp.Session]bool{},
		servingOf: map[esp.PublicKey]int{}, changed: make(chan struct{}),
		strangers: meter{rate: strangersRate, burst: strangersBurst},
	}
	copy(h.id[:], cfg.Key.Public().(ed25519.PublicKey))
	h.cfg.Name = book.CleanName(cfg.Name)
	var b [8]byte
	rand.Read(b[:])
	h.boot = binary.BigEndian.Uint64(b[:])
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.Sync()
	if cfg.Listen != Auto && cfg.Listen != Off {
		_ = h.open() // told by Pairing
	}
	return h, nil
}

// Close ends all sessions. When it returns no goroutine of the hub is left.
func (h *Hub) Close() {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	ep, lan, watch := h.ep, h.lan, h.watch
	if h.retry != nil {
		h.retry.Stop()
	}
	if h.sweep != nil {
		h.sweep.Stop()
	}
	for _, w := range h.windows {
		w.end()
	}
	for _, p := range h.peers {
		for _, t := range p.leaving {
			t.Stop()
		}
	}
	h.mu.Unlock()
	h.cancel()
	if watch != nil {
		watch.Close()
	}
	if lan != nil {
		lan.Close()
	}
	if ep != nil {
		if err := ep.Close(); err != nil {
			h.cfg.Log.Debug("close", "error", err)
		}
	}
	h.wg.Wait()
}

// spawn runs fn on a goroutine that Close waits for, unless the hub is closed. h.mu is held.
func (h *Hub) spawn(fn func()) {
	if !h.closed {
		h.wg.Go(fn)
	}
}

// Sync takes over what has changed in the book: new peers are dialed, blocked and forgotten ones lose their session.
func (h *Hub) Sync() {
	end, some := h.takeOver()
	for _, s := range end {
		s.Abort() // now: who is shut out is not sent what waits to be sent
	}
	if some && h.cfg.Listen != Off {
		_ = h.open() // told by Pairing
	}
	h.meet()
	poke(h.kick)
}

// takeOver has the peers be those of the book, and returns the sessions that are to end and whether there is any peer.
func (h *Hub) takeOver() (end []*esp.Session, some bool) {
	h.syncing.Lock()
	defer h.syncing.Unlock()
	known, policy := h.cfg.Book.Peers(), h.cfg.Book.Policy()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, false
	}
	seen := map[sharefs.PeerID]bool{}
	for i := range known {
		id := known[i].ID
		if policy.Former(id) { // nobody is to answer to it
			continue
		}
		seen[id] = true
		p := h.peers[id]
		if p == nil {
			if p = h.newPeer(id); p == nil {
				continue
			}
		}
		was := p.welcome
		p.welcome = policy.Most(id).Rights().Connect
		if was && !p.welcome {
			h.endFor(id)
		}
		if !p.welcome {
			end = append(end, p.sessions()...)
		}
		poke(p.poke)
	}
	for id, p := range h.peers {
		if seen[id] {
			continue
		}
		if p.welcome {
			h.endFor(id)
		}
		p.cancel()
		p.welcome = false
		delete(h.peers, id)
		delete(h.byKey, p.key)
		end = append(end, p.sessions()...)
	}
	return end, len(h.peers) > 0
}

// missing reports whether a peer is looked for. The hub's lock is held.
func (p *peer) missing() bool { return p.link == nil && p.welcome }

// has reports whether a session is the one with the peer. p may be nil; the hub's lock is held.
func (p *peer) has(s *esp.Session) bool { return p != nil && p.link != nil && p.link.sess == s }

// sessions are all of a peer in which hello was said. The hub's lock is held.
func (p *peer) sessions() []*esp.Session {
	all := slices.Collect(maps.Keys(p.leaving))
	if p.link != nil {
		all = append(all, p.link.sess)
	}
	return all
}

// newPeer begins to keep a peer. h.mu is held.
func (h *Hub) newPeer(id sharefs.PeerID) *peer {
	key, err := esp.PublicKeyFromEd25519(id[:])
	var secret discover.Secret
	if err == nil {
		secret, err = discover.NewSecret(h.key, key)
	}
	if err != nil { // nobody has such a key
		h.cfg.Log.Warn("a peer has no proper key", "peer", id.Short(), "error", err)
		return nil
	}
	ctx, cancel := context.WithCancel(h.ctx)
	p := &peer{id: id, key: key, secret: secret, cancel: cancel, poke: make(chan struct{}, 1), hellos: meter{rate: hellosRate, burst: hellosBurst}}
	h.peers[id], h.byKey[key] = p, p
	h.spawn(func() { h.keep(ctx, p) })
	return p
}

// listenRetry is how long after a failure an address is tried again; one may not be there yet while a machine starts.
const listenRetry = 10 * time.Second

// open begins to listen, if it has not.
func (h *Hub) open() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return net.ErrClosed
	case h.ep != nil:
		return nil
	case h.cfg.Listen == Off:
		return &sharefs.Error{Op: "peers", Kind: sharefs.KindNotSupported,
			Detail: "this mount listens nowhere (listen=off): mount it without that, or take it out of [peers] in share.toml"}
	}
	addrs := []string{h.cfg.Listen}
	if h.cfg.Listen == Auto {
		addrs = []string{":" + strconv.Itoa(int(h.cfg.Book.Port())), ":0"}
	}
	var ep *esp.Endpoint
	var err error
	for _, a := range addrs { // the port of last time may be another's by now
		if ep, err = esp.New(esp.Config{Key: h.key, Authorize: h.authorize, Addrs: []string{a}, Limits: limits, HandshakeTimeout: dialTimeout, Linger: linger}); err == nil {
			break
		}
	}
	if h.listenErr = nil; err != nil {
		h.listenErr = h.deaf(err)
		if h.retry == nil {
			h.cfg.Log.Warn("no peer can reach this store", "listen", h.cfg.Listen, "error", err)
			h.retry = time.AfterFunc(listenRetry, func() { _ = h.open() })
		} else {
			h.retry.Reset(listenRetry)
		}
		return h.listenErr
	}
	l, err := ep.Listen()
	if err != nil {
		ep.Close()
		return err
	}
	h.ep = ep
	addr := ep.Addr().Addr
	h.cfg.Log.Info("listening for peers", "address", addr)
	if h.cfg.Listen == Auto {
		if err := h.cfg.Book.SetPort(addr.Port()); err != nil {
			h.cfg.Log.Warn("the port could not be kept", "error", err)
		}
	}
	h.spawn(func() { h.accept(l) })
	h.spawn(h.meetAgain)
	for _, p := range h.peers {
		poke(p.poke)
	}
	if h.watch, err = discover.WatchNetwork(h.networkChanged); err != nil {
		h.cfg.Log.Warn("changes of the network are not seen", "error", err)
	}
	if h.cfg.LAN {
		if h.lan, err = discover.ListenLAN(addr.Addr(), h.heard, h.cfg.Log); err != nil {
			h.cfg.Log.Warn("no beacons on the local network", "error", err)
		} else {
			h.spawn(h.announce)
		}
	}
	return nil
}

// deaf says why nothing can be listened on, and what to do.
func (h *Hub) deaf(err error) error {
	detail := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		detail = "another program, or another mount, has that port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		detail = "this machine has no such address at present"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		detail = "this user may not listen there"
	default:
		detail = reason(err, "")
	}
	return &sharefs.Error{Op: "listen on", Path: h.cfg.Listen, Kind: sharefs.KindOf(err),
		Detail: detail + "; it is tried again every ten seconds, and -o listen=ADDRESS, or listen in [peers] of share.toml, names another one (port 0: any that is free)"}
}

// limits of what peers, and those who are none, can make us spend.
var limits = esp.Limits{Sessions: 4096, Handshakes: 256, Streams: 1024, Memory: 512 << 20}

// linger is how long the end of a mount waits for a peer to have what was written.
const linger = 2 * time.Second

// Strangers that are let in while a pairing is open, and sessions that one peer begins, in a second and at once.
const (
	strangersRate  = 2
	strangersBurst = 20
	hellosRate     = 1
	hellosBurst    = 10
)

var (
	errNotWelcome = errors.New("this host does not want to hear of you")
	errUnknown    = errors.New("you are not paired with this host, and nothing is open here to pair with (a link is good once, for ten minutes)")
	errBusy       = errors.New("too many try to pair at the moment")
	errOften      = errors.New("a peer begins sessions more often than it need")
)

// authorize decides about a key before anything is kept about it.
func (h *Hub) authorize(key esp.PublicKey) error {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.byKey[key]
	switch {
	case p != nil && p.welcome:
	case h.isGuest(key), h.pairingOpen(now): // who was blocked may be paired anew by whoever sits here
		if !h.strangers.take(now) {
			return errBusy
		}
	case p != nil:
		return errNotWelcome
	default:
		return errUnknown
	}
	h.expectHello()
	return nil
}

// networkChanged is called when addresses of this host have changed.
func (h *Hub) networkChanged() {
	h.mu.Lock()
	lan := h.lan
	for _, p := range h.peers {
		poke(p.poke)
	}
	h.mu.Unlock()
	if lan != nil {
		lan.Refresh()
	}
	h.tellAddresses()
	poke(h.kick)
}

// tellAddresses tells the addresses of this host to the peers that know others.
func (h *Hub) tellAddresses() {
	h.telling.Lock()
	defer h.telling.Unlock()
	addrs := h.addresses()
	var links []*link
	h.mu.Lock()
	for _, p := range h.peers {
		if p.link != nil && !slices.Equal(p.link.told, addrs) {
			p.link.told = addrs
			links = append(links, p.link)
		}
	}
	h.mu.Unlock()
	for _, l := range links {
		l.tell(note{Kind: noteAddresses, Addrs: addrs})
	}
}

// endpoint is nil while nothing is listened on.
func (h *Hub) endpoint() *esp.Endpoint {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ep
}

// addresses are where peers may reach this host, those of the local network first.
func (h *Hub) addresses() []string {
	ep := h.endpoint()
	if ep == nil {
		return []string{}
	}
	at := ep.Addr().Addr
	if !at.Addr().IsUnspecified() {
		return []string{at.String()}
	}
	port := strconv.Itoa(int(at.Port()))
	var out, loop []string
	list, _ := net.InterfaceAddrs()
	for _, a := range list {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := prefix.Addr().Unmap()
		text := net.JoinHostPort(ip.String(), port)
		switch {
		case at.Addr().Is4() && !ip.Is4(), ip.IsLinkLocalUnicast(), ip.IsMulticast():
		case ip.IsLoopback():
			loop = append(loop, text)
		default:
			out = append(out, text)
		}
	}
	if len(out) == 0 {
		out = loop
	}
	slices.SortStableFunc(out, func(a, b string) int { return len(a) - len(b) }) // the short ones of version 4 fit a QR code better
	return pair.Addresses(out)
}

// poke wakes whoever waits.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// meter is a token bucket.
type meter struct {
	rate, burst float64 // in a second, at once
	have        float64
	at          time.Time
}

func (m *meter) take(now time.Time) bool {
	if m.at.IsZero() {
		m.have = m.burst
	} else if d := now.Sub(m.at); d > 0 {
		m.have = min(m.burst, m.have+d.Seconds()*m.rate)
	}
	m.at = now
	if m.have < 1 {
		return false
	}
	m.have--
	return true
}
