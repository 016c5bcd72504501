package exchange

import (
	"context"
	"fmt"
	"time"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// inboxMost is how many bytes of items may wait to be taken of a peer before nothing more is read of it, and inboxCost what each of them, and each message, takes beside its bytes.
const (
	inboxMost = 8 << 20
	inboxCost = 256
)

// sizeOfItems returns what a message of items takes while it waits, in bytes.
func sizeOfItems(m *wire.Items) int {
	size := inboxCost
	for i := range m.Items {
		it := &m.Items[i]
		size += inboxCost
		if it.Batch != nil {
			size += 2 * len(it.Batch.Bytes()) // and the ids that it names
		}
		for _, r := range it.Records {
			size += inboxCost + r.Size()
		}
	}
	return size
}

// pushTaking says to the peer what is taken of its log.
func (p *peer) pushTaking(w *wire.Writer, rights trust.Rights) (did bool, err error) {
	blamed := p.x.blamed(p.id) != nil
	p.mu.Lock()
	offer := p.offer
	ask := offer != nil && rights.Returns && !blamed
	change := ask != p.asking
	p.asking = ask
	p.mu.Unlock()
	if change {
		if ask {
			p.x.fetch.add(p.source)
		} else {
			p.x.fetch.remove(p.source)
		}
		p.x.changed(p.id)
	}
	p.mu.Lock()
	if p.began && (offer == nil || !rights.Relay || blamed || p.failed != nil) {
		p.began, p.stop, p.ack = false, offer != nil, false
	}
	stop, ack, taken := p.stop, p.ack && p.offer == offer && offer != nil, p.taken
	p.stop, p.ack = false, false
	p.mu.Unlock()
	switch {
	case stop:
		return true, w.Stop()
	case ack:
		return true, w.Ack(wire.Ack{Log: offer.Log, UpTo: taken})
	}
	return p.pushBegin(w, offer, rights.Relay && !blamed)
}

// pushBegin asks for the log of the peer, if it is to be taken and was not asked for, or is to be taken again.
func (p *peer) pushBegin(w *wire.Writer, offer *wire.Offer, may bool) (did bool, err error) {
	p.mu.Lock()
	look := p.look
	p.look = false
	p.mu.Unlock()
	if look {
		p.takeRing()
	}
	p.mu.Lock()
	wanted := offer != nil && p.offer == offer && may && p.failed == nil
	begin, again := wanted && !p.began, wanted && p.began && look
	p.mu.Unlock()
	if !begin && !again {
		return false, nil
	}
	have, err := p.x.cfg.Log.Have(p.id, offer.Log)
	if err != nil {
		p.fail(err, 0)
		return true, nil
	}
	p.mu.Lock()
	if p.offer != offer || again && have >= p.position {
		p.mu.Unlock()
		return again, nil
	}
	p.began = true
	p.mine++
	p.position, p.taken = have, have
	m := wire.Begin{Run: p.mine, Log: offer.Log, After: have}
	p.mu.Unlock()
	return true, w.Begin(m)
}

// fail stops the taking for a reason of this host, for a while that grows from time to time until something behind number at is taken.
func (p *peer) fail(err error, at uint64) {
	p.mu.Lock()
	p.failed, p.failedAt = err, at
	p.failures++
	n := p.failures
	p.mu.Unlock()
	if n == 1 {
		p.x.log.Error("records of a peer are not taken", "peer", p.id.Short(), "error", err)
	}
	poke(p.poke)
	time.AfterFunc(min(p.x.cfg.Limits.Again<<min(n-1, 16), max(p.x.cfg.Limits.Again, longestPause)), func() {
		p.mu.Lock()
		still := p.failures == n && p.failed != nil
		if still {
			p.look, p.failed = true, nil
		}
		p.mu.Unlock()
		if still {
			poke(p.poke)
		}
	})
}

// takeRing takes the keys of the peer, if its versions are kept here, be it in a part of the share: what it proposes is under them.
func (p *peer) takeRing() {
	if p.x.cfg.Rings == nil || p.x.cfg.Policy().Most(p.id).Rights().In < trust.InQuarantine {
		return
	}
	p.rings.Lock()
	defer p.rings.Unlock()
	p.mu.Lock()
	ring := p.theirRing
	p.mu.Unlock()
	if ring == nil {
		return
	}
	err := p.x.cfg.Rings.TakeRing(p.id, ring)
	p.mu.Lock()
	if err == nil || fault(err) {
		p.theirRing = nil
	}
	if err != nil {
		p.err = err.Error()
	}
	p.mu.Unlock()
	switch {
	case fault(err):
		p.x.blame(p.id, err)
	case err != nil:
		p.fail(err, 0)
	}
}

// fault reports whether an error is the peer's.
func fault(err error) bool {
	k := sharefs.KindOf(err)
	return err != nil && (k == sharefs.KindInvalid || k == sharefs.KindCorrupt)
}

// saw takes a batch that the peer has as one of this host's own.
func (p *peer) saw(b *record.Batch) error {
	if b.Author != p.x.cfg.Self {
		return refuse("a batch of somebody else, shown as one of this host's")
	}
	err := p.x.cfg.Log.Saw(b)
	if err != nil && !fault(err) {
		p.fail(err, 0)
		return nil
	}
	if err == nil {
		p.x.Grown() // the log may be another one, which all are to be offered
	}
	return err
}

// came takes a message of items. It waits while too much is waiting.
func (p *peer) came(ctx context.Context, m *wire.Items) error {
	size := sizeOfItems(m)
	for {
		p.mu.Lock()
		if m.Run != p.mine || !p.began {
			p.mu.Unlock()
			return nil // asked for before something changed
		}
		if m.After > p.position {
			p.mu.Unlock()
			return refuse(fmt.Sprintf("items after number %d, where %d was the last", m.After, p.position))
		}
		if p.inboxSize == 0 || p.inboxSize+size <= inboxMost {
			break
		}
		p.mu.Unlock()
		select {
		case <-p.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for i := range m.Items {
		if b := m.Items[i].Batch; b != nil {
			p.known.add(b.Hash())
			if !p.partial {
				continue
			}
		}
		for _, r := range m.Items[i].Records {
			p.known.add(r.ID())
		}
	}
	p.position = m.UpTo
	p.inbox, p.inboxSize = append(p.inbox, m), p.inboxSize+size
	p.mu.Unlock()
	poke(p.come)
	return nil
}

// take puts what has come into the log: all that waits at once, so that the disk is waited for once.
func (p *peer) take(ctx context.Context) {
	for {
		p.mu.Lock()
		list, run, offer := p.inbox, p.mine, p.offer
		p.inbox, p.inboxSize = nil, 0
		on := p.began
		p.mu.Unlock()
		if len(list) == 0 {
			select {
			case <-p.come:
			case <-ctx.Done():
				return
			}
			continue
		}
		poke(p.room)
		var items []Item
		var upTo uint64
		some := false
		for _, m := range list {
			if m.Run == run {
				items, upTo, some = append(items, m.Items...), m.UpTo, true
			}
		}
		if !on || offer == nil || !some {
			continue
		}
		p.common.taking.Lock()
		err := p.x.cfg.Log.Take(p.id, offer.Log, items, upTo)
		p.common.taking.Unlock()
		switch {
		case err == nil:
			p.mu.Lock()
			if p.mine == run {
				p.taken, p.ack = upTo, true
				if upTo >= p.failedAt {
					p.failures = 0
				}
			}
			p.mu.Unlock()
			p.x.Grown()
			poke(p.poke)
		case fault(err):
			p.x.blame(p.id, err)
		default:
			p.fail(err, upTo)
		}
	}
}
