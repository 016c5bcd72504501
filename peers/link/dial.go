package link

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"sharefs"
	"sharefs/esp"
)

const (
	dialTimeout  = 10 * time.Second
	helloTimeout = 20 * time.Second
	firstPause   = time.Second
	longestPause = 5 * time.Minute
	leastPause   = 500 * time.Millisecond // between two tries, whatever is heard
	dialAtOnce   = 12                     // addresses
	heardMost    = 4
)

// keep keeps one peer connected until the context ends.
func (h *Hub) keep(ctx context.Context, p *peer) {
	pause := firstPause
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	var tries tries
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.poke: // something has changed
			pause = firstPause
		case <-timer.C:
		}
		if d := tries.pause(time.Now()); d > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(d):
			}
		}
		timer.Stop()
		tries.begin(time.Now())
		addrs, wanted := h.candidates(p)
		if !wanted || len(addrs) == 0 {
			continue // until something changes
		}
		err := h.reach(ctx, p, addrs)
		tries.end(err)
		h.mu.Lock()
		p.next = time.Time{}
		if err != nil && ctx.Err() == nil && p.link == nil {
			p.err = printable(err.Error())
			wait := pause*3/4 + rand.N(pause/2)
			p.next = time.Now().Add(wait)
			timer.Reset(wait)
			pause = min(2*pause, longestPause)
		}
		h.mu.Unlock()
		if err != nil {
			h.cfg.Log.Debug("peer not reached", "peer", p.id.Short(), "error", err)
		}
	}
}

// tries keeps those of one peer apart from each other, whatever is heard. The zero value is of none.
type tries struct{ last time.Time }

// pause is how long the next one is to wait.
func (t *tries) pause(now time.Time) time.Duration {
	return max(leastPause-now.Sub(t.last), 0)
}

func (t *tries) begin(now time.Time) { t.last = now }

// end takes how one ended. Where nobody was dialed, for the two were pairing still, who waits for the first connection need not wait for the next one.
func (t *tries) end(err error) {
	if errors.Is(err, errPairing) {
		t.last = time.Time{}
	}
}

// candidates are the addresses that a peer is to be tried at; none is wanted while it is connected or not welcome.
func (h *Hub) candidates(p *peer) (addrs []string, wanted bool) {
	known, _ := h.cfg.Book.Peer(p.id)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !p.missing() || h.ep == nil {
		return nil, false
	}
	for _, a := range slices.Concat(p.heard, known.Given, known.Found) {
		if !slices.Contains(addrs, a) && len(addrs) < dialAtOnce {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		p.err = "no address of it is known: it was not heard of yet"
	}
	return addrs, true
}

// hear notes an address of a peer, and tries it at once.
func (h *Hub) hear(p *peer, addr string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !p.missing() {
		return
	}
	p.heard = slices.DeleteFunc(p.heard, func(a string) bool { return a == addr })
	p.heard = append([]string{addr}, p.heard...)
	p.heard = p.heard[:min(len(p.heard), heardMost)]
	poke(p.poke)
}

// reach dials a peer at all addresses at once; the first that answers counts. A session in which the two are pairing ends with that, and is none to begin with.
func (h *Hub) reach(ctx context.Context, p *peer, addrs []string) error {
	for {
		s, err := h.connect(ctx, p.key, addrs)
		if err != nil {
			return explain(err, addrs, moved)
		}
		h.mu.Lock()
		aside, leaving := h.aside[s], p.leaving[s] != nil
		connected := p.link != nil && p.link.sess != s
		h.mu.Unlock()
		switch {
		case connected && !leaving: // a second session would have a part of what is under way in the first
			h.spare(s)
			return errConnected
		case aside:
			return errPairing
		case !leaving:
			return broken(h.greet(ctx, p, s), s)
		}
		_ = s.Close() // which makes room for one that stays
	}
}

var (
	errConnected = errors.New("it has connected by itself meanwhile")
	errPairing   = errors.New("pairing is being finished")
)

// connect dials a key.
func (h *Hub) connect(ctx context.Context, key esp.PublicKey, addrs []string) (*esp.Session, error) {
	ep := h.endpoint()
	if ep == nil {
		return nil, errors.New("this host listens nowhere")
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var mu sync.Mutex
	var first *esp.Session
	errs := make([]error, len(addrs))
	var wg sync.WaitGroup
	for i, a := range addrs {
		wg.Go(func() {
			s, err := ep.Connect(ctx, key.String()+"@"+a)
			if err != nil {
				errs[i] = err
				if r := new(esp.RefusedError); errors.As(err, &r) {
					cancel() // whoever has the key has spoken
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = s
				cancel()
			} else if first != s {
				h.spare(s)
			}
		})
	}
	wg.Wait()
	if first != nil {
		return first, nil
	}
	for _, err := range errs { // a clear answer says more than silence
		if r := new(esp.RefusedError); errors.As(err, &r) {
			return nil, err
		}
	}
	return nil, errs[0]
}

// spare closes a session that is one too many, beside the work.
func (h *Hub) spare(s *esp.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spawn(func() { _ = s.Close() })
}

// What helps where nobody listens at an address that was good: of a peer, and of a host that made a link.
const (
	moved   = "a new link tells which (sharefs pair --link there, sharefs pair LINK here; its level stays)"
	outdate = "make another link there (sharefs pair --link)"
)

// explain says why a host was not reached, and what to do where it may be elsewhere.
func explain(err error, addrs []string, elsewhere string) error {
	at := strings.Join(addrs[:min(3, len(addrs))], ", ")
	if r := new(esp.RefusedError); errors.As(err, &r) {
		if r.Reason == errUnknown.Error() {
			return &sharefs.Error{Op: "connect", Kind: sharefs.KindPermission, Detail: "it answers, but does not know this host (any more): pair there as well"}
		}
		return &sharefs.Error{Op: "connect", Kind: sharefs.KindPermission, Detail: "it refuses: " + said(r.Reason)}
	}
	if errors.Is(err, esp.ErrNoAnswer) || errors.Is(err, context.DeadlineExceeded) {
		return &sharefs.Error{Op: "connect", Kind: sharefs.KindAgain, Detail: "no answer at " + at + " (it is off, out of reach, or a host with another key is there now)"}
	}
	return &sharefs.Error{Op: "connect", Kind: sharefs.KindAgain, Detail: "at " + at + ": " + reason(err, elsewhere)}
}

// said is a reason that the other host gave, as whoever sits here would say it: "this host" is there the one that wrote it.
func said(reason string) string {
	switch reason {
	case errNotWelcome.Error():
		return "this host is revoked there, until somebody there pairs with it again (sharefs pair)"
	case errUnknown.Error():
		return "this host is not paired there (any more): pair there as well"
	case errOften.Error():
		return "this host begins sessions more often than it need"
	}
	return clean(reason)
}

// ended says in words why a session with a peer is over, by its error.
func ended(err error) string {
	const by, is = "it ended the connection", "the connection ended"
	why := new(esp.SessionError)
	if !errors.As(err, &why) {
		return is
	}
	says := ""
	if why.Code != esp.CodeNone || why.Reason != "" {
		says = ": " + said(cmp.Or(why.Reason, why.Code.String()))
	}
	switch {
	case why.Timeout():
		return is + ": nothing was heard of it any more"
	case why.Remote && says == "":
		return by + ": it was unmounted there, or does not let this host in any more"
	case why.Remote:
		return by + says
	}
	return is + says
}

// broken says why a session that ended while the hosts greeted each other did so, without the addresses and keys that an error of the transport names.
func broken(err error, s *esp.Session) error {
	if e := new(net.OpError); !errors.As(err, &e) {
		return err
	}
	detail := "the connection ended while the two greeted each other"
	why := new(esp.SessionError)
	switch {
	case !errors.As(err, &why) && !errors.As(s.Err(), &why):
		detail += ": " + reason(err, moved)
	case why.Timeout():
		detail = "it answered, and then fell silent while the two greeted each other"
	case why.Remote && why.Reason != "":
		detail += ": the other side says " + said(why.Reason)
	}
	return &sharefs.Error{Op: "connect", Kind: sharefs.KindAgain, Detail: detail + "; it is tried again"}
}

// reason says in words why nothing could be sent, or nobody listens, and what to do where a host may be elsewhere.
func reason(err error, elsewhere string) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there: it is not mounted, or on another port; " + elsewhere
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return "there is no way to that network from here; it is tried again when that changes"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "this machine does not let packets go there (a firewall?)"
	}
	for { // what it is about at last, without the addresses and keys by which it was dialed
		next := errors.Unwrap(err)
		if next == nil {
			return clean(err.Error())
		}
		err = next
	}
}

// clean makes a text by a peer short and fit for a terminal.
func clean(s string) string { return printable(s[:min(len(s), 200)]) }

// printable makes a text that may have some by a peer in it fit for a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
