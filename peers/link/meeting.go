package link

import (
	"slices"
	"time"

	"sharefs/peers/discover"
	"sharefs/peers/pair"
)

// mostTags bounds what one peer may ask for; there are two for each peer it misses.
const mostTags = 512

// meetEvery is how often tags are sent anew while somebody is missing: they hold for one hour and the next.
const meetEvery = 30 * time.Minute

// meet asks all peers that are connected for those that are not.
func (h *Hub) meet() {
	now := time.Now()
	type asked struct {
		l *link
		n note
	}
	var all []asked
	h.mu.Lock()
	for _, via := range h.peers {
		if via.link == nil {
			continue
		}
		n := note{Kind: noteMeet}
		for _, p := range h.peers {
			if !p.missing() || len(n.Tags) >= mostTags {
				continue
			}
			for _, tag := range p.secret.MeetingTags(via.id, now) {
				n.Tags = append(n.Tags, tag[:])
			}
		}
		all = append(all, asked{via.link, n})
	}
	h.mu.Unlock()
	for _, a := range all {
		a.l.tell(a.n)
	}
}

// meetAgain keeps the tags fresh.
func (h *Hub) meetAgain() {
	t := time.NewTicker(meetEvery)
	defer t.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-t.C:
			h.meet()
		}
	}
}

// match takes the tags of one peer, and tells those who have given the same tag where the other is.
func (h *Hub) match(l *link, tags [][]byte) {
	set := make(map[discover.MeetingTag]bool, min(len(tags), mostTags))
	for _, t := range tags[:min(len(tags), mostTags)] {
		if len(t) == len(discover.MeetingTag{}) {
			set[discover.MeetingTag(t)] = true
		}
	}
	type found struct {
		to *link
		n  note
	}
	var all []found
	h.mu.Lock()
	old := l.tags
	l.tags = set
	for _, p := range h.peers {
		o := p.link
		if o == nil || o == l || l.p.link != l {
			continue
		}
		for tag := range set {
			if !old[tag] && o.tags[tag] {
				all = append(all, found{l, note{Kind: noteFound, Tags: [][]byte{tag[:]}, Addrs: o.addrs}}, found{o, note{Kind: noteFound, Tags: [][]byte{tag[:]}, Addrs: l.addrs}})
				break
			}
		}
	}
	h.mu.Unlock()
	for _, f := range all {
		f.to.tell(f.n)
	}
}

// found takes word of a peer that is missed.
func (h *Hub) found(via *link, n *note) {
	if len(n.Tags) != 1 || len(n.Tags[0]) != len(discover.MeetingTag{}) {
		return
	}
	tag, now := discover.MeetingTag(n.Tags[0]), time.Now()
	var who *peer
	h.mu.Lock()
	for _, p := range h.peers {
		if p.missing() && who == nil {
			if tags := p.secret.MeetingTags(via.p.id, now); tag == tags[0] || tag == tags[1] {
				who = p
			}
		}
	}
	h.mu.Unlock()
	if who == nil {
		return
	}
	h.cfg.Log.Debug("heard of a peer", "peer", who.id.Short(), "through", via.p.id.Short())
	addrs := pair.Addresses(n.Addrs)
	for _, a := range slices.Backward(addrs[:min(len(addrs), heardMost)]) {
		h.hear(who, a)
	}
}
