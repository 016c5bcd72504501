package link

import (
	"slices"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/peers/book"
	"sharefs/peers/pair"
	"sharefs/peers/report"
)

// Peers tells of all peers, by name.
func (h *Hub) Peers() []report.Peer {
	known, policy := h.cfg.Book.Peers(), h.cfg.Book.Policy()
	out := make([]report.Peer, 0, len(known))
	for i := range known {
		level := policy.Most(known[i].ID).String()
		if policy.Former(known[i].ID) {
			level = report.Former
		}
		out = append(out, h.peerReport(&known[i], level))
	}
	return out
}

// twinTold is how long it is told that two hosts have one key.
const twinTold = 10 * time.Minute

func (h *Hub) peerReport(k *book.Peer, level string) report.Peer {
	r := report.Peer{Name: k.Name, ID: k.ID.String(), Level: level, Seen: k.Seen, How: k.How, Paired: k.Paired, Lost: k.Lost, Addresses: []string{}}
	if k.Calls != k.Name {
		r.Calls = k.Calls
	}
	for _, a := range slices.Concat(k.Given, k.Found) {
		if !slices.Contains(r.Addresses, a) {
			r.Addresses = append(r.Addresses, a)
		}
	}
	h.mu.Lock()
	p := h.peers[k.ID]
	var l *link
	var asked sounding
	twin := ""
	if p != nil {
		if l = p.link; l != nil {
			asked = l.sounding
		}
		if time.Since(p.twin) < twinTold {
			twin = "two hosts have this key, as when a store was copied: give one of them a store of its own"
		}
		r.Error, r.NextTry = p.err, p.next
		if !p.welcome {
			r.Error, r.NextTry = "", time.Time{}
		}
	}
	switch {
	case h.cfg.Listen == Off:
		r.Error = "this mount listens nowhere (listen=off)"
	case h.ep == nil && h.listenErr != nil:
		r.Error = "this host cannot " + h.listenErr.Error()
	}
	h.mu.Unlock()
	if l == nil || l.sess.Err() != nil {
		return r
	}
	now := time.Now()
	r.Connected, r.Since, r.Seen, r.Error, r.NextTry = true, l.since, now, twin, time.Time{}
	r.Heard = l.sess.Heard()
	r.Silent = asked.silent(r.Heard, now)
	for _, path := range l.sess.Paths() {
		if path.Active {
			r.Path = path.Kind + " " + path.Remote.String()
			r.RTTMS = float64(path.RTT.Microseconds()) / 1000
		}
	}
	return r
}

// Connected reports whether a peer is, and gives its session.
func (h *Hub) Connected(id sharefs.PeerID) (*esp.Session, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.peers[id]; p != nil && p.link != nil {
		return p.link.sess, true
	}
	return nil, false
}

// Pairing tells of this host and of all attempts to pair.
func (h *Hub) Pairing() report.Pairing {
	addrs := h.addresses()
	r := report.Pairing{ID: h.id.String(), Name: h.cfg.Name, Addresses: addrs, Asked: []report.Window{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ep != nil {
		r.Listening = h.ep.Addr().Addr.String()
	} else if h.listenErr != nil {
		r.Error = h.listenErr.Error()
	}
	for _, w := range h.windows {
		o := report.Window{Asked: w.asked, State: w.state, LAN: w.lan, Expires: w.expires, Error: w.err, Paired: w.paired, Candidates: []report.Candidate{}}
		if w.link && w.state == report.Open {
			o.Link = pair.Link{ID: h.id, Token: w.token, Addrs: addrs}.String()
		}
		for _, x := range w.candidates {
			o.Candidates = append(o.Candidates, report.Candidate{
				Number: x.number, Name: book.CleanName(x.other.Name), ID: x.other.ID.String(), Digits: x.digits, State: x.state,
			})
		}
		r.Asked = append(r.Asked, o)
	}
	return r
}
