package sim

import (
	"errors"
	"math/rand/v2"
	"slices"

	"sharefs"
	"sharefs/peers/replica"
)

// session is one direction of a connection: what one host sends arrives in order or not at all. Whoever begins anew goes on from what was acknowledged.
type session struct {
	log   replica.LogID // of the sender
	sent  uint64        // number of arrival there of the last that was sent
	queue []message
	again bool // something has to come again: the cursor stays, and what comes after is taken
}

// message is what is under way, as bytes.
type message struct {
	items [][]byte
	next  uint64
}

// session returns that from one host to another; nil while they do not reach each other. It goes on from what the other one has.
func (w *world) session(from, to *host) *session {
	if from.rep == nil || to.rep == nil || !w.linked(from, to) {
		return nil
	}
	at := [2]int{from.index, to.index}
	if w.sessions[at] == nil {
		if !w.meet(from, to) {
			return nil
		}
		log, sent, err := to.rep.Cursor(from.self)
		if err != nil {
			w.fail("%s: cursor: %v", to, err)
		}
		id, _, ok := w.logOf(from, to)
		if !ok {
			return nil
		}
		s := &session{log: id}
		if log == w.parts.named(s.log) && w.gave(from, to, id, sent) {
			s.sent = sent
		}
		w.sessions[at] = s
	}
	return w.sessions[at]
}

// gave reports whether a host gave a number in the log that it tells another one.
func (w *world) gave(from, to *host, log replica.LogID, number uint64) (ok bool) {
	var err error
	if w.parts.partly(to) {
		ok, err = from.rep.ScopeGave(to.self, log, number)
	} else {
		ok, err = from.rep.Gave(number)
	}
	if err != nil {
		w.fail("%s: gave: %v", from, err)
	}
	return ok
}

// meet shows a host the last batch that another one has of it, as an exchange does when it begins, and reports whether it runs still. Hosts that have parts exchange nothing.
func (w *world) meet(from, to *host) bool {
	if w.parts.partly(from) && w.parts.partly(to) {
		return false
	}
	b, err := from.rep.Newest(to.self)
	if err != nil {
		w.fail("%s: newest: %v", from, err)
	}
	if b != nil {
		to.run(func() { to.recover("look at a batch", to.rep.Saw(b)) })
	}
	return to.rep != nil
}

// send puts under way what the other host lacks, and returns how many items that are.
func (w *world) send(from, to *host, most int) int {
	s := w.session(from, to)
	if s == nil {
		return 0
	}
	list, next, err := w.since(from, to, s, most)
	if err != nil {
		w.fail("%s: since: %v", from, err)
	}
	if len(list) == 0 && next == s.sent {
		return 0
	}
	s.sent = next
	s.queue = append(s.queue, message{encode(list), next})
	return len(list)
}

func encode(list []replica.Item) (all [][]byte) {
	for _, i := range list {
		all = append(all, i.Append(nil))
	}
	return all
}

// deliver has the first message that is under way arrive.
func (w *world) deliver(from, to *host) bool {
	s := w.sessions[[2]int{from.index, to.index}]
	if s == nil || len(s.queue) == 0 {
		return false
	}
	for first := true; len(s.queue) > 0 && (first || w.even); first = false {
		m := s.queue[0]
		s.queue = s.queue[1:]
		switch err := to.take(m.items); {
		case errors.Is(err, sharefs.KindAgain), errors.Is(err, sharefs.KindBusy):
			s.again = true
		case err != nil:
			w.cut(from, to)
			return false
		}
		if !s.again {
			to.run(func() { to.recover("cursor", to.rep.SetCursor(from.self, w.parts.named(s.log), m.next)) })
		}
	}
	return true
}

// take gives a host what came. Without an error it has all of it on disk.
func (h *host) take(list [][]byte) (err error) {
	whole := h.run(func() {
		var items []replica.Item
		for _, b := range list {
			var i replica.Item
			if i, err = replica.DecodeItem(b); err != nil {
				h.w.log("%s: refused: %v", h, err)
				return
			}
			items = append(items, i)
		}
		_, err = h.rep.Take(sharefs.PeerID{}, items)
		h.recover("take", err, sharefs.KindInvalid, sharefs.KindCorrupt, sharefs.KindAgain, sharefs.KindBusy)
	})
	if !whole {
		return errDisk
	}
	return err
}

// gossip gives a host some items that another one has, in any order and some twice, beside any session.
func (w *world) gossip(from, to *host, rnd *rand.Rand) {
	if from.rep == nil || to.rep == nil {
		return
	}
	id, _, ok := w.logOf(from, to)
	if !ok {
		return
	}
	list, _, err := w.since(from, to, &session{log: id}, 1<<20)
	if err != nil {
		w.fail("%s: since: %v", from, err)
	}
	if w.even && w.intruder != nil {
		list = slices.DeleteFunc(list, func(i replica.Item) bool { return i.Records[0].Author == w.intruder.self })
	}
	if len(list) == 0 {
		return
	}
	var some []replica.Item
	for range 1 + rnd.IntN(2*len(list)) {
		some = append(some, list[rnd.IntN(len(list))])
	}
	to.take(encode(some))
}

// heard reports whether a host has all that another one knows.
func (w *world) heard(h *host) bool {
	return slices.ContainsFunc(w.hosts, func(o *host) bool {
		if o == h || o.rep == nil {
			return false
		}
		id, last, ok := w.logOf(o, h)
		log, taken, err := h.rep.Cursor(o.self)
		return ok && err == nil && log == w.parts.named(id) && taken >= last
	})
}

// exchange has all hosts tell each other what they lack until nothing is under way, and returns how many items were sent.
func (w *world) exchange() (n int) {
	for _, from := range w.hosts {
		for _, to := range w.hosts {
			if from == to {
				continue
			}
			if s := w.session(from, to); s != nil && s.again {
				w.cut(from, to)
			}
			n += w.send(from, to, 1<<20)
			for w.deliver(from, to) {
			}
		}
	}
	return n
}
