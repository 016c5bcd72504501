package link

import (
	"maps"
	"slices"

	"sharefs"
	"sharefs/peers/book"
	"sharefs/peers/pair"
	"sharefs/peers/trust"
)

// mostAsked bounds of how many strangers peers are asked who they are.
const mostAsked = 32

// whois is what one host says of another one: what it calls itself, and where it is.
type whois struct {
	ID    []byte   `json:"id"`
	Name  string   `json:"name"`
	Addrs []string `json:"addresses,omitempty"`
}

// Introduced is what a peer says of a host that this one is not paired with. It is a hint and nothing else: nobody is connected for it.
type Introduced struct {
	Via   sharefs.PeerID
	Name  string // as the host calls itself, made a word
	Addrs []string
}

// Strangers asks all peers, also those that come, who some hosts are: authors of what came by them, of whom nothing is known here. Those that were asked for before are forgotten.
func (h *Hub) Strangers(ids []sharefs.PeerID) {
	want := map[sharefs.PeerID]bool{}
	for _, id := range ids[:min(len(ids), mostAsked)] {
		want[id] = true
	}
	h.mu.Lock()
	same := maps.Equal(want, h.asked)
	h.asked = want
	maps.DeleteFunc(h.introduced, func(id sharefs.PeerID, _ Introduced) bool { return !want[id] })
	var links []*link
	for _, p := range h.peers {
		if p.link != nil {
			links = append(links, p.link)
		}
	}
	h.mu.Unlock()
	if !same {
		h.askWho(links...)
	}
}

// askWho asks some peers who the strangers are.
func (h *Hub) askWho(links ...*link) {
	n := note{Kind: noteWho}
	h.mu.Lock()
	for id := range h.asked {
		n.Tags = append(n.Tags, slices.Clone(id[:]))
	}
	h.mu.Unlock()
	if len(n.Tags) == 0 {
		return
	}
	for _, l := range links {
		l.tell(n)
	}
}

// Introduced returns what a peer said of a host that was asked for.
func (h *Hub) Introduced(id sharefs.PeerID) (Introduced, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, ok := h.introduced[id]
	return i, ok
}

// introduce tells a peer who some hosts are. Only one that may read all of the share is told, which has what they wrote from here, and only of those that are not shut out.
func (h *Hub) introduce(l *link, ids [][]byte) {
	policy := h.cfg.Book.Policy()
	if policy.Least(l.p.id).Rights().Out < trust.OutPlain {
		return
	}
	n := note{Kind: noteWhois}
	for _, b := range ids[:min(len(ids), mostAsked)] {
		if len(b) != len(sharefs.PeerID{}) {
			return
		}
		id := sharefs.PeerID(b)
		k, ok := h.cfg.Book.Peer(id)
		if !ok || k.Lost || id == l.p.id || !policy.Most(id).Rights().Connect {
			continue
		}
		n.Hosts = append(n.Hosts, whois{ID: slices.Clone(b), Name: k.Calls, Addrs: pair.Addresses(slices.Concat(k.Found, k.Given))})
	}
	if len(n.Hosts) > 0 {
		l.tell(n)
	}
}

// takeIntroduced takes word of strangers.
func (h *Hub) takeIntroduced(l *link, hosts []whois) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range hosts[:min(len(hosts), mostAsked)] {
		if len(w.ID) != len(sharefs.PeerID{}) {
			return
		}
		id := sharefs.PeerID(w.ID)
		if !h.asked[id] {
			continue
		}
		if h.introduced == nil {
			h.introduced = map[sharefs.PeerID]Introduced{}
		}
		name := w.Name
		if name != "" {
			name = book.CleanName(name)
		}
		h.introduced[id] = Introduced{Via: l.p.id, Name: name, Addrs: pair.Addresses(w.Addrs)}
	}
}
