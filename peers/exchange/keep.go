package exchange

import (
	"context"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// keeps is what goes on with a peer about promises: to keep the content of versions, so that the other host need not. Guarded by the lock of the peer.
type keeps struct {
	number  uint32 // of the last question
	ask     []wire.Keep
	waiting map[uint32]chan []record.ID
	answer  []wire.Kept
	working int // questions that are being answered
}

// mostKeeps is how many questions of a peer are answered at once; those beyond are answered with nothing.
const mostKeeps = 4

// over ends what waits for answers.
func (k *keeps) over() {
	for _, c := range k.waiting {
		close(c)
	}
	k.ask, k.waiting, k.answer = nil, nil, nil
}

// Keep asks the peers that are connected, of those that may ask the same of this host and whose versions are merged here, to promise to keep the content of versions, at most
// wire.MaxKeep. It returns which of them promised it, by version, when all have answered or the context has ended.
func (x *Exchange) Keep(ctx context.Context, versions []record.ID) map[record.ID][]sharefs.PeerID {
	type asked struct {
		p *peer
		n uint32
		c chan []record.ID
	}
	var all []asked
	policy, twice := x.cfg.Policy(), map[sharefs.PeerID]bool{}
	for _, p := range x.all() {
		if _, err := policy.Whole(p.id); err != nil || policy.Least(p.id).Rights().In < trust.InMerge || twice[p.id] {
			continue
		}
		p.mu.Lock()
		if on := p.control != nil && p.greeted; on {
			twice[p.id] = true
			p.keeps.number++
			c := make(chan []record.ID, 1)
			if p.keeps.waiting == nil {
				p.keeps.waiting = map[uint32]chan []record.ID{}
			}
			p.keeps.waiting[p.keeps.number] = c
			p.keeps.ask = append(p.keeps.ask, wire.Keep{Number: p.keeps.number, Versions: versions})
			all = append(all, asked{p, p.keeps.number, c})
		}
		p.mu.Unlock()
		poke(p.poke)
	}
	wanted := map[record.ID]bool{}
	for _, id := range versions {
		wanted[id] = true
	}
	by := map[record.ID][]sharefs.PeerID{}
	for _, a := range all {
		var yes []record.ID
		select {
		case yes = <-a.c:
		case <-ctx.Done():
			a.p.mu.Lock()
			delete(a.p.keeps.waiting, a.n)
			a.p.mu.Unlock()
		case <-x.ctx.Done():
		}
		once := map[record.ID]bool{}
		for _, id := range yes {
			if wanted[id] && !once[id] {
				once[id] = true
				by[id] = append(by[id], a.p.id)
			}
		}
	}
	return by
}

// askedToKeep has a question answered, beside the work.
func (p *peer) askedToKeep(m *wire.Keep) {
	answer := func(yes []record.ID) {
		p.mu.Lock()
		p.keeps.answer = append(p.keeps.answer, wire.Kept{Number: m.Number, Versions: yes})
		p.mu.Unlock()
		poke(p.poke)
	}
	_, err := p.x.cfg.Policy().Whole(p.id)
	p.mu.Lock()
	may := err == nil && p.x.cfg.Keep != nil && p.keeps.working < mostKeeps
	if may {
		p.keeps.working++
	}
	p.mu.Unlock()
	if !may {
		answer(nil)
		return
	}
	if !p.x.spawn(func() {
		yes := p.x.cfg.Keep(p.id, m.Versions)
		p.mu.Lock()
		p.keeps.working--
		p.mu.Unlock()
		answer(yes)
	}) {
		p.mu.Lock()
		p.keeps.working--
		p.mu.Unlock()
	}
}

// kept takes an answer.
func (p *peer) kept(m *wire.Kept) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.keeps.waiting[m.Number]; ok {
		delete(p.keeps.waiting, m.Number)
		c <- m.Versions
	}
}

// pushKeep asks, and answers.
func (p *peer) pushKeep(w *wire.Writer) (did bool, err error) {
	plain, refused := p.x.cfg.Policy().Whole(p.id) // of this moment
	if refused != nil {
		return false, nil
	}
	p.mu.Lock()
	k := &p.keeps
	var message []byte
	switch {
	case len(k.answer) > 0:
		message = wire.KeptMessage(k.answer[0])
		k.answer = k.answer[1:]
	case len(k.ask) > 0:
		message = wire.KeepMessage(k.ask[0])
		k.ask = k.ask[1:]
	}
	p.mu.Unlock()
	if message == nil {
		return false, nil
	}
	return true, send(w, plain, message)
}
