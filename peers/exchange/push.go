package exchange

import (
	"bytes"
	"context"
	"slices"

	"sharefs/peers/exchange/wire"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// About how much is sent in one message: little at first, so that the peer has something to look for while more is on the way, then twice as much each time, up to the most. And how many
// records are read of the log at once.
const (
	pushFirst   = 32 << 10
	pushBytes   = 256 << 10
	pushRecords = 1024
)

// push writes the control stream. Each turn does the first thing that is due; it waits where nothing is.
func (p *peer) push(ctx context.Context, w *wire.Writer) error {
	if err := w.Hello(wire.Hello{Lowest: wire.Lowest, Highest: wire.Version}); err != nil {
		return err
	}
	for {
		did, err := p.turn(ctx, w)
		if err != nil {
			return err
		}
		if did {
			continue
		}
		select {
		case <-p.poke:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errBye ends a stream after the last message.
var errBye = context.Canceled

// turn does what is due: what ends something first, then what the peer waits for, and items last.
func (p *peer) turn(ctx context.Context, w *wire.Writer) (did bool, err error) {
	p.mu.Lock()
	bye, greeted := p.bye, p.greeted
	p.mu.Unlock()
	switch {
	case bye != nil:
		_ = w.Bye(*bye)
		return false, errBye
	case ctx.Err() != nil:
		return false, ctx.Err()
	}
	policy := p.x.cfg.Policy()
	g, plain, refused := p.granted(policy)
	if did, err = p.pushGrant(w, g, plain, refused == nil); did || err != nil || !greeted {
		return did, err
	}
	if did, err = p.pushTaking(w, policy.Most(p.id).Rights()); did || err != nil {
		return did, err
	}
	if refused != nil {
		return false, nil
	}
	if did, err = p.pushHere(w, g); did || err != nil {
		return did, err
	}
	if did, err = p.pushKeep(w); did || err != nil {
		return did, err
	}
	return p.pushItems(w, g)
}

// send writes a message for which a permission was given.
func send(w *wire.Writer, plain trust.Plain, message []byte) error {
	e, err := plain.Envelope(message)
	if err != nil {
		return err
	}
	return w.Send(e)
}

// pushGrant begins or ends what the grant is for.
func (p *peer) pushGrant(w *wire.Writer, g grant, plain trust.Plain, granted bool) (did bool, err error) {
	log := p.x.cfg.Log
	p.mu.Lock()
	p.partial = !g.whole
	offered, seen, old, was := p.offered, p.seen, p.ring, p.log
	p.mu.Unlock()
	if !granted {
		if !offered {
			return false, nil
		}
		p.mu.Lock()
		p.offered, p.sending, p.ring, p.seen = false, false, nil, false
		p.here = nil
		p.mu.Unlock()
		return true, w.Withdraw()
	}
	if p.x.cfg.Rings != nil {
		if ring := p.x.cfg.Rings.Ring(); len(ring) > 0 && !bytes.Equal(ring, old) {
			plain, err := p.still(g) // of this moment: a key that is made because the peer is not to have it is there only after the rules say so
			if err != nil {
				return true, nil // the next turn goes by the rules of then
			}
			p.mu.Lock()
			p.ring = bytes.Clone(ring)
			p.mu.Unlock()
			return true, send(w, plain, wire.RingMessage(ring))
		}
	}
	if !seen {
		p.mu.Lock()
		p.seen = true
		p.mu.Unlock()
		batch, err := log.Seen(p.id)
		if err != nil {
			p.trouble(err)
			p.mu.Lock()
			p.seen = false
			p.mu.Unlock()
			return false, nil
		}
		if batch != nil {
			return true, send(w, plain, wire.SeenMessage(batch))
		}
	}
	if id := log.ID(p.id); id != (LogID{}) && (!offered || id != was) {
		last := log.Last(p.id)
		plain, err := p.still(g) // of this moment: the log may be that of other rules
		if err != nil {
			return true, nil
		}
		p.mu.Lock()
		p.offered, p.log, p.last, p.sending, p.at, p.told, p.acked = true, id, last, false, 0, 0, 0
		p.mu.Unlock()
		return true, send(w, plain, wire.OfferMessage(wire.Offer{Log: id, Last: last}))
	}
	return false, nil
}

// trouble notes why the log of this host cannot be told; it is tried again when there is reason to.
func (p *peer) trouble(err error) {
	p.x.log.Error("records for a peer cannot be read", "peer", p.id.Short(), "error", err)
	p.mu.Lock()
	p.err = err.Error()
	p.mu.Unlock()
}

// pushHere tells of content that is here now. A peer may have asked for a version that it may not read.
func (p *peer) pushHere(w *wire.Writer, g grant) (did bool, err error) {
	p.mu.Lock()
	n := min(len(p.here), wire.MaxHere)
	list := slices.Clone(p.here[:n])
	p.here = p.here[n:]
	p.mu.Unlock()
	if n == 0 {
		return false, nil
	}
	list = slices.DeleteFunc(list, func(id record.ID) bool {
		v, err := p.x.cfg.Log.Version(p.id, id)
		return err != nil || v == nil
	})
	plain, err := p.still(g) // of this moment
	if err != nil || len(list) == 0 {
		return true, nil
	}
	return true, send(w, plain, wire.HereMessage(list))
}

// mostLeftOut is how many numbers of arrival that go by, because the peer sent what stands there itself, before it is told so.
const mostLeftOut = 1000

// pushItems sends what the log has and the peer lacks.
func (p *peer) pushItems(w *wire.Writer, g grant) (did bool, err error) {
	p.mu.Lock()
	sending, run, at, told, log, last, most := p.sending, p.run, p.at, p.told, p.log, p.last, p.most
	p.mu.Unlock()
	if !sending || at >= p.x.cfg.Log.Last(p.id) {
		return false, nil
	}
	items, err := p.x.cfg.Log.Since(p.id, log, at, pushRecords)
	if err != nil {
		p.trouble(err)
	}
	if err != nil || len(items) == 0 {
		return false, nil
	}
	m := wire.NewItems(run, told)
	flush := func(upTo uint64) (on bool, err error) {
		plain, err := p.still(g) // of this moment
		if err != nil {
			return false, nil // the next turn goes by the rules of then
		}
		p.mu.Lock()
		on = p.sending && p.run == run
		if on {
			most = min(2*most, pushBytes)
			p.at, p.told, p.most = upTo, upTo, most
		}
		p.mu.Unlock()
		if !on {
			return false, nil
		}
		err = send(w, plain, m.Message(upTo))
		m = wire.NewItems(run, upTo)
		return err == nil, err
	}
	for i := range items {
		it := &items[i]
		if large(it) {
			for _, r := range it.Records { // the batch alone follows
				if m.Record(r); m.Size() >= most {
					if on, err := flush(at); !on {
						return true, err
					}
				}
			}
			it = &Item{Batch: it.Batch, Next: it.Next}
		}
		p.add(m, it)
		at = it.Next
		if m.Size() >= most {
			if on, err := flush(at); !on {
				return true, err
			}
			told = at
		}
	}
	if m.Size() > 0 || at-told >= mostLeftOut || told < last && at >= last {
		_, err = flush(at)
		return true, err
	}
	p.mu.Lock()
	if p.sending && p.run == run {
		p.at = at
	}
	p.mu.Unlock()
	return true, nil
}

// large reports whether a batch is too large for one message.
func large(it *Item) bool {
	size := 0
	for _, r := range it.Records {
		size += r.Size()
	}
	return it.Batch != nil && size > wire.MaxBatchBytes
}

// add adds to a message what the peer did not send itself.
func (p *peer) add(m *wire.ItemsWriter, it *Item) {
	p.mu.Lock()
	has := it.Batch != nil && p.known.has(it.Batch.Hash())
	if it.Batch == nil {
		has = !slices.ContainsFunc(it.Records, func(r *record.Record) bool { return !p.known.has(r.ID()) })
	}
	p.mu.Unlock()
	switch {
	case has:
	case it.Batch != nil:
		m.Batch(it.Batch, it.Records)
	default:
		for _, r := range it.Records {
			m.Record(r)
		}
	}
}
