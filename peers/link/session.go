package link

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/peers/book"
	"sharefs/peers/discover"
	"sharefs/peers/frame"
	"sharefs/peers/identity"
	"sharefs/peers/pace"
	"sharefs/peers/pair"
)

// link is a session with a peer whose hello has come.
type link struct {
	h     *Hub
	p     *peer
	sess  *esp.Session
	conn  *esp.Conn // over which notes go
	boot  uint64
	since time.Time
	// answering: the peer answers what it is asked (ask.go).
	answering bool

	// Guarded by the hub's lock.
	answers  answers
	sounding sounding
	addrs    []string
	told     []string // our addresses, as the peer knows them
	tags     map[discover.MeetingTag]bool
	waiting  []note // to be written
	writing  bool   // somebody is at it
}

// purposeHello is that of the stream that a session begins with.
const purposeHello = "hello"

// hello is the first message of each end.
type hello struct {
	Purpose string         `json:"purpose,omitempty"`
	ID      sharefs.PeerID `json:"id"`
	Name    string         `json:"name"`
	Boot    uint64         `json:"boot"`
	Alone   bool           `json:"alone"` // has no other session with the peer
	Addrs   []string       `json:"addresses"`
	Answers bool           `json:"answers,omitempty"` // answers noteAsk
	Proof   []byte         `json:"proof"`
}

// note is what is said after it.
type note struct {
	Kind   string   `json:"kind"`
	Addrs  []string `json:"addresses,omitempty"`
	Tags   [][]byte `json:"tags,omitempty"`
	Hosts  []whois  `json:"hosts,omitempty"`
	Number uint64   `json:"number,omitempty"`
	Reads  bool     `json:"reads,omitempty"`
}

// The kinds of notes; others are skipped.
const (
	noteAddresses = "addresses" // the sender's, changed
	noteMeet      = "meet"      // tags of those whom the sender misses
	noteFound     = "found"     // one of them is at these addresses
	noteWho       = "who"       // ids of hosts of which the sender knows nothing, as tags
	noteWhois     = "whois"     // who some of them are
	noteAsk       = "ask"       // a number: may the sender read something at the receiver?
	noteReads     = "reads"     // the answer, with that number
)

// How many notes of a peer are listened to in a second, and how many of those that are kept on disk, of which a few may come at once.
const (
	notesRate      = 20
	addressesRate  = 1
	addressesBurst = 4
)

// mostWaiting bounds what waits for a peer that does not read.
const mostWaiting = 64

func (h *Hub) hello(p *peer, s *esp.Session) hello {
	h.mu.Lock()
	alone := p.link == nil
	h.mu.Unlock()
	return hello{ID: h.id, Name: h.cfg.Name, Boot: h.boot, Alone: alone, Addrs: h.addresses(), Answers: true,
		Proof: identity.Prove(h.cfg.Key, purposeHello, s.Binding(), s.Dialed())}
}

// check says why a hello is not by a peer, over the session that it came by.
func (m *hello) check(p *peer, s *esp.Session) error {
	if m.ID != p.id || s.PeerKey() != p.key || !identity.Proved(m.ID, purposeHello, s.Binding(), !s.Dialed(), m.Proof) {
		return &sharefs.Error{Op: "connect", Kind: sharefs.KindPermission, Detail: "it does not prove who it is"}
	}
	return nil
}

// greet says hello over a session that we dialed, and keeps it.
func (h *Hub) greet(ctx context.Context, p *peer, s *esp.Session) error {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	mine := h.hello(p, s)
	mine.Purpose = purposeHello
	first, err := frame.Encode(mine)
	if err != nil {
		return err
	}
	c, err := s.OpenEarly(ctx, first)
	if err != nil {
		h.spare(s)
		return err
	}
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	h.lead(p, s)
	var theirs hello
	if err = unanswered(frame.Read(c, &theirs)); err == nil {
		err = theirs.check(p, s)
	}
	if err != nil {
		c.Close()
		h.spare(s)
		return err
	}
	h.adopt(p, s, c, &mine, &theirs)
	return nil
}

// unanswered says what it may mean that a peer ends the stream of the hello instead of answering: whom it does not let in need not be told so.
func unanswered(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &sharefs.Error{Op: "connect", Kind: sharefs.KindAgain, Detail: "the other side ended the connection: it may not know this host, or no longer let it in (sharefs peers, there)"}
	}
	return err
}

// answer takes the hello of a peer that dialed, on its goroutine, and serves the session.
func (h *Hub) answer(c *esp.Conn, text json.RawMessage) error {
	s := c.Session()
	var theirs hello
	if err := json.Unmarshal(text, &theirs); err != nil {
		return err
	}
	h.mu.Lock()
	p := h.byKey[s.PeerKey()]
	welcome := p != nil && p.welcome
	often := welcome && !p.hellos.take(time.Now())
	h.mu.Unlock()
	switch {
	case !welcome:
		return errNotWelcome
	case often:
		return errOften
	}
	if err := theirs.check(p, s); err != nil {
		return err
	}
	mine := h.hello(p, s)
	if err := frame.Write(c, mine); err != nil {
		return err
	}
	h.adopt(p, s, c, &mine, &theirs)
	return nil
}

// adopt makes a session the one with its peer, unless there is a better one; m is the peer's hello.
func (h *Hub) adopt(p *peer, s *esp.Session, c *esp.Conn, mine, m *hello) {
	_ = c.SetDeadline(time.Time{})
	l := &link{h: h, p: p, sess: s, conn: c, boot: m.Boot, since: time.Now(), answering: m.Answers, answers: answers{come: make(chan struct{})}, addrs: pair.Addresses(m.Addrs), told: mine.Addrs}
	if a, ok := remote(s); ok {
		l.addrs = pair.Addresses(append([]string{a}, l.addrs...))
	}
	h.mu.Lock()
	old := p.link
	if h.closed || !p.welcome {
		h.mu.Unlock()
		h.spare(s)
		return
	}
	if p.has(s) {
		h.mu.Unlock()
		c.Close()
		return
	}
	if p.past[m.Boot] {
		p.twin = time.Now()
		h.cfg.Log.Warn("two hosts have the key of a peer; one of them is kept", "peer", p.id.Short(), "other", s.RemoteAddr())
		if old != nil {
			h.mu.Unlock()
			h.spare(s)
			return
		}
		delete(p.past, m.Boot) // the other one is gone
	}
	if old != nil && !h.better(l, old, m.Alone) {
		h.leave(p, s)
		h.mu.Unlock()
		return
	}
	if p.boot != 0 && p.boot != m.Boot {
		if p.past == nil || len(p.past) >= mostPast {
			p.past = map[uint64]bool{}
		}
		p.past[p.boot] = true
	}
	p.boot = m.Boot
	p.link, p.err, p.heard, p.next = l, "", nil, time.Time{}
	h.spawn(l.listen)
	for _, fn := range h.followers {
		h.spawn(func() { fn(p.id, s) })
	}
	close(h.changed)
	h.changed = make(chan struct{})
	if old != nil {
		if old.boot == l.boot {
			h.leave(p, old.sess)
		} else { // of a run that is over
			h.spawn(func() { _ = old.sess.Close() })
		}
	}
	h.mu.Unlock()
	h.tellAddresses() // they may have changed since the hello was written
	h.cfg.Log.Info("peer connected", "peer", p.id.Short(), "name", book.CleanName(m.Name), "address", s.RemoteAddr())
	if err := h.cfg.Book.Met(p.id, m.Name, l.addrs, time.Now()); err != nil {
		h.cfg.Log.Warn("peers could not be kept", "error", err)
	}
	h.meet()
	h.askWho(l)
	poke(h.kick)
}

// Of two sessions with one peer the one that is not kept ends after leaveTime; of so many at most one peer can make us keep.
const (
	leaveTime   = 10 * time.Second
	mostLeaving = 4
)

// leave has a session end that another one has taken the place of, when what is under way in it has had the time to. h.mu is held.
func (h *Hub) leave(p *peer, s *esp.Session) {
	if len(p.leaving) >= mostLeaving || h.closed {
		h.spawn(func() { _ = s.Close() })
		return
	}
	if p.leaving == nil {
		p.leaving = map[*esp.Session]*time.Timer{}
	}
	close(h.changed)
	h.changed = make(chan struct{})
	p.leaving[s] = time.AfterFunc(leaveTime, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(p.leaving, s)
		h.spawn(func() { _ = s.Close() })
	})
}

// mostPast bounds the runs of a peer that are remembered.
const mostPast = 64

// raceTime is how close to each other two sessions begin of which both ends dialed one.
const raceTime = 10 * time.Second

// better decides between two sessions with one peer; both ends decide alike. A peer that has restarted, or says that it has no other session, has lost the
// old one. Where both dialed at the same time the session that the lower id dialed is kept.
func (h *Hub) better(l, old *link, alone bool) bool {
	switch {
	case l.boot != old.boot:
		return true
	case l.sess.Dialed() == old.sess.Dialed():
		return true
	case time.Since(old.since) > raceTime:
		return alone || l.sess.Dialed()
	}
	return l.sess.Dialed() == (string(h.id[:]) < string(l.p.id[:]))
}

// remote is the address of the peer as we see it, where it listens there too: over UDP it sends from the port it listens on.
func remote(s *esp.Session) (string, bool) {
	a, ok := s.RemoteAddr().(esp.Addr)
	if !ok || a.TCP && !s.Dialed() {
		return "", false
	}
	return pair.Address(a.Addr.String())
}

// flapTime is how long a session lives at least that is none of those that end at once.
const flapTime = 5 * time.Second

// listen takes notes until the session ends.
func (l *link) listen() {
	h := l.h
	var err error
	var notes, addresses pace.Bucket
	for {
		var n note
		if err = frame.Read(l.conn, &n); err != nil {
			break
		}
		l.take(&n)
		for n.Kind == noteAddresses && err == nil && !addresses.Take(time.Now(), 1, addressesRate, addressesBurst) {
			err = pace.Sleep(h.ctx, time.Second/addressesRate)
		}
		if err = cmp.Or(err, notes.Spend(h.ctx, 1, notesRate)); err != nil {
			break
		}
	}
	l.sess.Close()
	h.mu.Lock()
	if l.p.link != l {
		h.mu.Unlock()
		return
	}
	l.p.link = nil
	l.p.err = ended(l.sess.Err())
	if time.Since(l.since) < flapTime { // as with one that refuses after the hello: no session a second, for ever
		l.p.flaps++
		wait := min(firstPause<<min(l.p.flaps-1, 10), longestPause)
		l.p.next = time.Now().Add(wait)
		time.AfterFunc(wait, func() { poke(l.p.poke) })
	} else {
		l.p.flaps = 0
		poke(l.p.poke)
	}
	closed := h.closed
	h.mu.Unlock()
	h.cfg.Log.Info("peer gone", "peer", l.p.id.Short(), "error", err)
	if err := h.cfg.Book.Left(l.p.id, time.Now()); err != nil {
		h.cfg.Log.Warn("peers could not be kept", "error", err)
	}
	if !closed {
		h.meet()
		poke(h.kick)
	}
}

// take does what a note says.
func (l *link) take(n *note) {
	h := l.h
	switch n.Kind {
	case noteAddresses:
		addrs := pair.Addresses(n.Addrs)
		h.mu.Lock()
		l.addrs = addrs
		h.mu.Unlock()
		if p, ok := h.cfg.Book.Peer(l.p.id); ok {
			if err := h.cfg.Book.Met(p.ID, p.Calls, addrs, time.Now()); err != nil {
				h.cfg.Log.Warn("peers could not be kept", "error", err)
			}
		}
	case noteMeet:
		h.match(l, n.Tags)
	case noteFound:
		h.found(l, n)
	case noteWho:
		h.introduce(l, n.Tags)
	case noteWhois:
		h.takeIntroduced(l, n.Hosts)
	case noteAsk:
		h.answerAsk(l, n.Number)
	case noteReads:
		h.takeAnswer(l, n)
	}
}

// tell sends a note, beside the work: a peer that does not read holds nobody up. Of addresses, and of those that are missed, the latest count alone.
func (l *link) tell(n note) {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	if n.Kind != noteFound {
		l.waiting = slices.DeleteFunc(l.waiting, func(old note) bool { return old.Kind == n.Kind })
	}
	if len(l.waiting) >= mostWaiting {
		return
	}
	l.waiting = append(l.waiting, n)
	if !l.writing {
		l.writing = true
		l.h.spawn(l.write)
	}
}

// write sends the notes that wait.
func (l *link) write() {
	for {
		l.h.mu.Lock()
		if len(l.waiting) == 0 {
			l.writing = false
			l.h.mu.Unlock()
			return
		}
		n := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.h.mu.Unlock()
		_ = l.conn.SetWriteDeadline(time.Now().Add(helloTimeout))
		if err := frame.Write(l.conn, n); err != nil {
			l.sess.Close() // and nothing more is written: writing stays set
			return
		}
	}
}
