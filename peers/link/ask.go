package link

import (
	"context"

	"sharefs"
	"sharefs/peers/report"
	"sharefs/peers/trust"
)

// answers is what the other end of a link has answered. The hub's lock guards it.
type answers struct {
	asked uint64        // the number of the last question
	upTo  uint64        // of the last one that was answered
	reads bool          // the answer
	come  chan struct{} // closed, and made anew, when one comes
}

// Ask asks a peer whether this host may read something there, as of a moment after this was called, and returns one of the words of [report.Answer]. It waits, until the context ends, for the peer to connect and to answer.
// Of two sessions that begin at the same time one ends, perhaps with the question: the other one is asked then.
func (h *Hub) Ask(ctx context.Context, id sharefs.PeerID) string {
	for {
		h.mu.Lock()
		p := h.peers[id]
		if p == nil || !p.welcome || h.closed {
			h.mu.Unlock()
			return report.SaysAway
		}
		l, changed := p.link, h.changed
		h.mu.Unlock()
		if l == nil || l.sess.Err() != nil {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return report.SaysAway
			}
		}
		if says := h.askOver(ctx, l, changed); says != "" {
			return says
		}
	}
}

// askOver asks over one link, and returns an empty word if it is over, or may be, as it is when changed is closed.
func (h *Hub) askOver(ctx context.Context, l *link, changed <-chan struct{}) string {
	if !l.answering {
		return report.SaysNothing
	}
	began := l.sess.Heard()
	h.mu.Lock()
	l.answers.asked++
	number := l.answers.asked
	h.mu.Unlock()
	l.tell(note{Kind: noteAsk, Number: number})
	for {
		h.mu.Lock()
		done, reads, come := l.answers.upTo >= number, l.answers.reads, l.answers.come
		h.mu.Unlock()
		switch {
		case done && reads:
			return report.SaysReads
		case done:
			return report.SaysRefuses
		}
		select {
		case <-come:
		case <-changed:
			return ""
		case <-l.sess.Done():
			return ""
		case <-ctx.Done():
			switch {
			case l.sess.Err() != nil:
				return report.SaysAway
			case l.sess.Heard().After(began):
				return report.SaysNothing
			}
			return report.SaysSilent
		}
	}
}

// answerAsk tells a peer whether it may read something here.
func (h *Hub) answerAsk(l *link, number uint64) {
	l.tell(note{Kind: noteReads, Number: number, Reads: h.cfg.Book.Policy().Most(l.p.id).Rights().Out >= trust.OutPlain})
}

// takeAnswer takes what a peer answers.
func (h *Hub) takeAnswer(l *link, n *note) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a := &l.answers; n.Number > a.upTo && n.Number <= a.asked {
		a.upTo, a.reads = n.Number, n.Reads
		close(a.come)
		a.come = make(chan struct{})
	}
}
