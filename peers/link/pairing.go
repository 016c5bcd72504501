package link

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/peers/book"
	"sharefs/peers/pair"
	"sharefs/peers/report"
	"sharefs/peers/trust"
)

// Limits of pairing.
const (
	mostWindows    = 8 // open at a time
	keptWindows    = 16
	mostCandidates = 8
	mostDenied     = 3 // digits that were said to differ, before a window gives up: each is a try of somebody in the middle
)

// window is one attempt to pair that somebody here has asked for. The hub's lock guards it.
type window struct {
	asked      string
	expires    time.Time
	state      string
	err        string
	link       bool // has a token to be given away
	token      pair.Token
	usedBy     sharefs.PeerID
	ended      map[sharefs.PeerID]bool // peers that were revoked or forgotten while it was open: it is no way back for them
	lan        bool
	nonce      uint64 // of its beacons
	denied     int
	candidates []*candidate
	followed   map[uint64]bool // nonces of those that were dialed
	paired     *report.Paired
	done       chan struct{} // closed when it is no longer open
	timer      *time.Timer
}

// candidate is a host whose digits are to be compared.
type candidate struct {
	number int
	other  pair.Other
	digits string
	state  string
	answer chan bool // of the user; capacity 1
}

func (w *window) open(now time.Time) bool { return w.state == report.Open && now.Before(w.expires) }

// searches reports whether it looks for others on the local network.
func (w *window) searches(now time.Time) bool { return w.lan && w.open(now) }

// end closes the window for good. The hub's lock is held.
func (w *window) end() {
	if w.state == report.Open {
		w.state = report.Closed
	}
	select {
	case <-w.done:
	default:
		close(w.done)
		w.timer.Stop()
	}
}

func (w *window) fail(err error) {
	if w.state == report.Open {
		w.state, w.err = report.Failed, printable(err.Error())
	}
	w.end()
}

// pairingOpen reports whether strangers are let in. h.mu is held.
func (h *Hub) pairingOpen(now time.Time) bool {
	for _, w := range h.windows {
		if w.open(now) {
			return true
		}
	}
	return false
}

// newWindow makes a window. The error is of KindBusy when there are too many.
func (h *Hub) newWindow(asked string, link, lan bool) (*window, error) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errors.New("the mount ends")
	}
	n := 0
	for _, w := range h.windows {
		if w.open(now) {
			n++
		}
	}
	if n >= mostWindows {
		return nil, &sharefs.Error{Op: "pair", Kind: sharefs.KindBusy, Detail: "eight attempts to pair are open already: wait for them, or end them with Ctrl-C where they were begun"}
	}
	if len(h.windows) >= keptWindows { // the oldest that is over
		for i, w := range h.windows {
			if !w.open(now) {
				h.windows = append(h.windows[:i:i], h.windows[i+1:]...)
				break
			}
		}
	}
	w := &window{asked: asked, expires: now.Add(pair.Life), state: report.Open, link: link, lan: lan, followed: map[uint64]bool{}, done: make(chan struct{})}
	if link {
		w.token = pair.NewToken()
	}
	var b [8]byte
	rand.Read(b[:])
	w.nonce = binary.BigEndian.Uint64(b[:])
	w.timer = time.AfterFunc(pair.Life, func() {
		h.mu.Lock()
		if w.state == report.Open {
			w.state, w.err = report.Expired, "nobody came within ten minutes"
		}
		w.end()
		h.settle()
		h.mu.Unlock()
	})
	h.windows = append(h.windows, w)
	h.settle()
	return w, nil
}

// settle has the endpoint answer strangers who do not know our key as long as somebody looks for others on the local network. h.mu is held.
func (h *Hub) settle() {
	if h.ep == nil {
		return
	}
	now, lan := time.Now(), false
	for _, w := range h.windows {
		lan = lan || w.searches(now)
	}
	h.ep.SetPairing(lan)
	poke(h.kick)
}

// Offer opens a window: a link to be given away, and a search on the local network if lan says so. Asked names it for who asks.
func (h *Hub) Offer(asked string, lan bool) error {
	if err := h.open(); err != nil {
		return err
	}
	_, err := h.newWindow(asked, true, lan && h.cfg.LAN)
	return err
}

// Join takes a link that another host gave. It returns at once; how it ends is told under asked.
func (h *Hub) Join(asked, text string) error {
	l, err := pair.ParseLink(text)
	if err != nil {
		return err
	}
	key, err := esp.PublicKeyFromEd25519(l.ID[:])
	switch {
	case err != nil:
		return &sharefs.Error{Op: "link", Kind: sharefs.KindInvalid, Err: err}
	case l.ID == h.id:
		return &sharefs.Error{Op: "link", Kind: sharefs.KindInvalid, Detail: "this host made it itself: run sharefs pair LINK on the other one"}
	case len(l.Addrs) == 0:
		return &sharefs.Error{Op: "link", Kind: sharefs.KindInvalid, Detail: "it has no address: the host that made it was on no network"}
	}
	if err := h.open(); err != nil {
		return err
	}
	w, err := h.newWindow(asked, false, false)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spawn(func() {
		err := h.join(w, l, key)
		h.mu.Lock()
		defer h.mu.Unlock()
		if err != nil {
			w.fail(err)
		}
	})
	return nil
}

// joinTries is how often a link is shown: of two sessions that begin at the same time one ends, which may be that in which it is shown.
const joinTries = 3

func (h *Hub) join(w *window, l pair.Link, key esp.PublicKey) (err error) {
	ctx, cancel := context.WithTimeout(h.ctx, 2*helloTimeout)
	defer cancel()
	for range joinTries {
		var over bool
		if over, err = h.tryJoin(ctx, w, l, key); !over || ctx.Err() != nil {
			break
		}
	}
	return err
}

// tryJoin shows a link once. Over reports that the session ended before an answer came.
func (h *Hub) tryJoin(ctx context.Context, w *window, l pair.Link, key esp.PublicKey) (over bool, err error) {
	s, c, err := h.pairingStream(ctx, func() (*esp.Session, error) { return h.connect(ctx, key, l.Addrs) })
	if err != nil {
		if r := new(esp.RefusedError); errors.As(err, &r) && r.Reason == errUnknown.Error() {
			return false, &sharefs.Error{Op: "pair", Kind: sharefs.KindPermission, Detail: "the link was used already or has expired: make another one there (sharefs pair)"}
		}
		return false, explain(err, l.Addrs, outdate)
	}
	defer h.setAside(s)()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	other, err := h.session(c).Join(l)
	if r := new(pair.RefusedError); errors.As(err, &r) {
		r.Reason = clean(r.Reason)
	}
	if err != nil {
		return s.Err() != nil && !errors.Is(err, sharefs.KindPermission), err
	}
	return false, h.finish(w, other, book.ByLink, l.Addrs)
}

// pairingStream opens a stream to pair in. A session that an earlier attempt has set aside ends first.
func (h *Hub) pairingStream(ctx context.Context, connect func() (*esp.Session, error)) (*esp.Session, *esp.Conn, error) {
	for {
		s, err := connect()
		if err != nil {
			return nil, nil, err
		}
		h.mu.Lock()
		aside := h.aside[s]
		h.mu.Unlock()
		if aside {
			select {
			case <-s.Done():
				continue
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		}
		c, err := s.Open(ctx)
		if err == nil {
			return s, c, nil
		}
		if s.Err() == nil || ctx.Err() != nil {
			return nil, nil, err
		}
	}
}

// setAside has a session serve for pairing alone, unless it is one with a peer already. What it returns ends the session; the two then connect as peers do.
// Who was dialed leaves the end to the other side, for a while.
func (h *Hub) setAside(s *esp.Session) (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byKey[s.PeerKey()].has(s) || h.aside[s] {
		return func() {}
	}
	h.aside[s] = true
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.spawn(func() {
			if !s.Dialed() {
				select {
				case <-s.Done():
				case <-h.ctx.Done():
				case <-time.After(helloTimeout):
				}
			}
			_ = s.Close()
			h.mu.Lock()
			delete(h.aside, s)
			if p := h.byKey[s.PeerKey()]; p != nil {
				poke(p.poke)
			}
			h.mu.Unlock()
		})
	}
}

// session is a stream as package pair sees it.
func (h *Hub) session(c *esp.Conn) *pair.Session {
	s := c.Session()
	return &pair.Session{
		ReadWriter: c, Binding: s.Binding(), Dialer: s.Dialed(),
		Self: pair.Self{Key: h.cfg.Key, ID: h.id, Name: h.cfg.Name, Addrs: h.addresses()},
		Holds: func(id sharefs.PeerID) bool {
			key, err := esp.PublicKeyFromEd25519(id[:])
			return err == nil && key == s.PeerKey()
		},
	}
}

// pairWith serves a stream in which somebody wants to pair.
func (h *Hub) pairWith(c *esp.Conn, text json.RawMessage) {
	defer h.setAside(c.Session())()
	defer c.Close()
	s := h.session(c)
	var m pair.Message
	if err := json.Unmarshal(text, &m); err != nil {
		return
	}
	var err error
	switch m.Mode {
	case pair.ByLink:
		err = h.pairByLink(s, &m)
	case pair.ByLAN:
		h.mu.Lock()
		var mine *window
		for _, w := range h.windows {
			if w.searches(time.Now()) {
				mine = w
			}
		}
		h.mu.Unlock()
		if mine == nil {
			s.Refuse("nobody waits here to compare digits any more")
			return
		}
		err = h.compare(mine, s, c, &m)
	default:
		s.Refuse("pairing of a kind that is not known here")
	}
	if err != nil {
		h.cfg.Log.Info("pairing was refused", "by", m.Mode, "error", err)
	}
}

// endFor has the links that are open be no way back for a peer. h.mu is held.
func (h *Hub) endFor(id sharefs.PeerID) {
	for _, w := range h.windows {
		if w.link && w.state == report.Open {
			if w.ended == nil {
				w.ended = map[sharefs.PeerID]bool{}
			}
			w.ended[id] = true
		}
	}
}

// welcomes reports whether a host is a peer that is not blocked. h.mu is held.
func (h *Hub) welcomes(id sharefs.PeerID) bool {
	p := h.peers[id]
	return p != nil && p.welcome
}

// pairByLink is the end of the host that made the link.
func (h *Hub) pairByLink(s *pair.Session, m *pair.Message) error {
	other, err := s.Asker(m)
	if err != nil {
		s.Refuse("you do not prove who you are")
		return err
	}
	now := time.Now()
	blocked := h.cfg.Book.Policy().Most(other.ID) == trust.Blocked
	var mine *window
	again := false // its answer was lost
	h.mu.Lock()
	for _, w := range h.windows {
		if w.link && s.Knows(m, w.token) {
			mine = w
		}
	}
	reason := ""
	switch {
	case mine == nil:
		reason = "the link is not, or no longer, good here"
	case mine.usedBy == other.ID && mine.open(now): // it could not be kept
	case mine.usedBy == other.ID && mine.paired != nil && now.Before(mine.expires) && h.welcomes(other.ID): // who was revoked since does not come back by it
		again = true
	case !mine.usedBy.IsZero():
		reason = "the link was used already"
	case !mine.open(now):
		reason = "the link has expired, or was taken back"
	case mine.ended[other.ID] && !h.welcomes(other.ID), blocked && h.welcomes(other.ID): // the hub may not have heard of it yet
		reason = "this host was revoked or forgotten there after the link was made"
	default:
		mine.usedBy = other.ID
	}
	h.mu.Unlock()
	if reason != "" {
		s.Refuse(reason)
		return errors.New(reason)
	}
	if again {
		return s.Welcome(mine.token)
	}
	if err := h.finish(mine, other, book.ByLink, nil); err != nil {
		s.Refuse("it could not be kept there")
		return err
	}
	return s.Welcome(mine.token)
}

// meetOnLAN dials a host that waits to be paired as well.
func (h *Hub) meetOnLAN(w *window, nonce uint64, addr string) {
	ep := h.endpoint()
	ctx, cancel := context.WithTimeout(h.ctx, dialTimeout)
	defer cancel()
	s, c, err := h.pairingStream(ctx, func() (*esp.Session, error) { return ep.Connect(ctx, addr) }) // whoever answers: the digits decide
	if err != nil {
		h.cfg.Log.Debug("a host that waits to be paired was not reached", "address", addr, "error", err)
		return
	}
	defer h.setAside(s)()
	defer c.Close()
	h.mu.Lock()
	w.followed[nonce] = true
	h.mu.Unlock()
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	if err := h.compare(w, h.session(c), c, nil); err != nil {
		h.cfg.Log.Info("pairing on the local network", "address", addr, "error", err)
		h.mu.Lock()
		delete(w.followed, nonce)
		h.mu.Unlock()
	}
}

// compare has people on both sides compare digits.
func (h *Hub) compare(w *window, s *pair.Session, c *esp.Conn, first *pair.Message) error {
	other, digits, err := s.Meet(first)
	if err != nil {
		return err
	}
	_ = c.SetDeadline(w.expires)
	h.mu.Lock()
	open := 0
	for _, x := range w.candidates {
		if x.state == report.Compare || x.state == report.Waits {
			open++
		}
	}
	if open >= mostCandidates || len(w.candidates) >= 4*mostCandidates || !w.open(time.Now()) {
		h.mu.Unlock()
		s.Refuse("too many wait there to be compared")
		return errBusy
	}
	x := &candidate{number: len(w.candidates) + 1, other: other, digits: digits, state: report.Compare, answer: make(chan bool, 1)}
	w.candidates = append(w.candidates, x)
	h.mu.Unlock()
	set := func(state string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		x.state = state
		if state == report.Denied {
			if w.denied++; w.denied >= mostDenied {
				w.fail(errors.New("digits differed three times: somebody may be between the two hosts; pair by a link instead"))
				h.settle()
			}
		}
	}
	theirs := make(chan error, 1)
	agreed := false
	go func() {
		var err error
		agreed, err = s.Agreed()
		theirs <- err
	}()
	here, there := false, false
	for !here || !there {
		select {
		case yes := <-x.answer:
			if err := s.Agree(yes); err != nil || !yes {
				set(report.Denied)
				return err
			}
			here = true
			set(report.Waits)
		case err := <-theirs:
			if err != nil {
				set(report.Vanished)
				return err
			}
			if !agreed {
				set(report.Denied)
				return errors.New("the other side says that the digits differ")
			}
			there = true
		case <-w.done:
			return errors.New("the attempt is over")
		case <-h.ctx.Done():
			return h.ctx.Err()
		}
	}
	set("")
	if err := h.finish(w, other, book.ByLAN, nil); err != nil || !s.Dialer {
		return err
	}
	// The session ends with this end of the stream: the other one must have read its last message.
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(helloTimeout))
	_, _ = io.Copy(io.Discard, c)
	return nil
}

// Answer says what the user here said of a candidate's digits.
func (h *Hub) Answer(asked string, number int, yes bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.windows {
		if w.asked != asked || number < 1 || number > len(w.candidates) {
			continue
		}
		x := w.candidates[number-1]
		if x.state != report.Compare {
			return &sharefs.Error{Op: "pair", Kind: sharefs.KindStale, Detail: "the other host is gone, or was answered already"}
		}
		select {
		case x.answer <- yes:
		default:
		}
		return nil
	}
	return &sharefs.Error{Op: "pair", Kind: sharefs.KindNotExist, Detail: "there is no such attempt to pair (any more)"}
}

// End closes a window; its link is good no more.
func (h *Hub) End(asked string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.windows {
		if w.asked == asked {
			w.end()
		}
	}
	h.settle()
}

// AddByHand takes up a peer whose id the user typed. The two connect when the other side has done the same.
func (h *Hub) AddByHand(asked string, id sharefs.PeerID, name string, given []string) error {
	if id == h.id {
		return &sharefs.Error{Op: "pair", Kind: sharefs.KindInvalid, Detail: "this is the id of this very host: give the other one's"}
	}
	if _, err := esp.PublicKeyFromEd25519(id[:]); err != nil {
		return &sharefs.Error{Op: "pair", Kind: sharefs.KindInvalid, Err: err}
	}
	if _, known := h.cfg.Book.Peer(id); name != "" && !known { // before anything is opened for it
		if err := h.cfg.Book.MayName(id, name); err != nil {
			return err
		}
	}
	if err := h.open(); err != nil {
		return err
	}
	w, err := h.newWindow(asked, false, false)
	if err != nil {
		return err
	}
	return h.finish(w, pair.Other{ID: id, Name: name}, book.ByHand, given)
}

// finish keeps the new peer and closes the window.
func (h *Hub) finish(w *window, other pair.Other, how string, given []string) error {
	a, err := h.cfg.Book.Add(other.ID, other.Name, how, given, other.Addrs, time.Now())
	if err != nil {
		return err
	}
	h.cfg.Log.Info("paired", "peer", other.ID.Short(), "name", a.Peer.Name, "by", how, "again", a.Again)
	h.mu.Lock()
	w.paired = &report.Paired{Name: a.Peer.Name, ID: a.Peer.ID.String(), Level: a.Level.String(), Again: a.Again, Freed: a.Freed, Twin: a.Twin, Calls: a.Peer.Calls, Unnamed: a.Peer.Unnamed, Reserved: a.Reserved}
	if how == book.ByHand {
		p := h.peers[a.Peer.ID]
		w.paired.Waits = p == nil || p.link == nil
	}
	w.state, w.err = report.Done, ""
	w.end()
	h.settle()
	h.mu.Unlock()
	h.Sync()
	return nil
}
