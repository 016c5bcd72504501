package replica

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"sharefs"
	"sharefs/peers/record"
)

// Bounds of what is remembered of records that are passed over; what goes beyond is not counted. Whoever relays can make up authors.
const (
	mostPassedChains  = 1024 // of all authors
	mostPassedSingles = 4096 // records that came in no batch
)

// Passed tells of an author of whom nothing counts on this host, and whose records came with those of others.
type Passed struct {
	Author  sharefs.PeerID
	Records uint64         // at the least; each is counted once, however often it comes
	Via     sharefs.PeerID // who brought the last one
}

// passed is what of the records of one author was passed over.
type passed struct {
	chains  map[uint64]passedChain // by incarnation
	singles map[record.ID]sharefs.PeerID
	via     sharefs.PeerID
}

// passedChain is how far the batches of a chain were counted.
type passedChain struct {
	last, records uint64
}

func (p *passed) has(single record.ID) bool { _, ok := p.singles[single]; return ok }

func passedKey(author sharefs.PeerID, incarnation uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), author[:]...), incarnation)
}

func (r *Replica) passedOf(author sharefs.PeerID) *passed {
	p := r.passed[author]
	if p == nil {
		p = &passed{chains: map[uint64]passedChain{}, singles: map[record.ID]sharefs.PeerID{}}
		r.passed[author] = p
	}
	return p
}

// passOver counts an item of which nothing is kept. The error is of [sharefs.KindCorrupt]: a wrong signature.
func (r *Replica) passOver(from sharefs.PeerID, i *Item) error {
	author, id := i.Records[0].Author, i.Records[0].ID()
	if i.Batch == nil && r.have(id) || i.Batch != nil && r.taken(i.Batch) { // it counts as it did when it was taken
		return nil
	}
	p := r.passed[author]
	if i.Batch == nil {
		if p != nil && p.has(id) || r.passedSingles >= mostPassedSingles {
			return nil
		}
		if err := i.Records[0].Verify(); err != nil {
			return err
		}
		p = r.passedOf(author)
		p.singles[id], p.via = from, from
		r.passedSingles++
		r.put(spacePassed, append(append([]byte(nil), author[:]...), id[:]...), from[:])
		return nil
	}
	var at passedChain
	known := false
	if p != nil {
		at, known = p.chains[i.Batch.Incarnation]
	}
	if i.Batch.Number <= at.last || !known && r.passedChains >= mostPassedChains {
		return nil
	}
	if err := i.Batch.Verify(); err != nil {
		return err
	}
	if !known {
		r.passedChains++
	}
	p = r.passedOf(author)
	at.last, at.records = i.Batch.Number, at.records+uint64(len(i.Records))
	p.chains[i.Batch.Incarnation], p.via = at, from
	r.put(spacePassed, passedKey(author, i.Batch.Incarnation), append(append(u64(at.last), u64(at.records)...), from[:]...))
	return nil
}

// counted forgets what of an author was passed over: he counts by now.
func (r *Replica) counted(author sharefs.PeerID) {
	p := r.passed[author]
	if p == nil {
		return
	}
	for incarnation := range p.chains {
		r.drop(spacePassed, passedKey(author, incarnation))
		r.passedChains--
	}
	for id := range p.singles {
		r.drop(spacePassed, append(append([]byte(nil), author[:]...), id[:]...))
		r.passedSingles--
	}
	delete(r.passed, author)
}

// loadPassed reads what was counted of records that were passed over.
func (r *Replica) loadPassed() error {
	bad := false
	err := r.cfg.Store.Scan(spacePassed, nil, nil, func(k, v []byte) bool {
		switch {
		case len(k) == 40 && len(v) == 48:
			p := r.passedOf(sharefs.PeerID(k[:32]))
			p.chains[binary.BigEndian.Uint64(k[32:])] = passedChain{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])}
			p.via = sharefs.PeerID(v[16:])
			r.passedChains++
		case len(k) == 64 && len(v) == 32:
			p := r.passedOf(sharefs.PeerID(k[:32]))
			p.singles[record.ID(k[32:])] = sharefs.PeerID(v)
			p.via = sharefs.PeerID(v)
			r.passedSingles++
		default:
			bad = true
		}
		return !bad
	})
	if err == nil && bad {
		err = damaged("count of what was passed over")
	}
	return err
}

// PassedOver lists authors of whom records were passed over because nothing of them counts here, those with most records first. Authors who have come to count since are left out:
// what they wrote is asked for again.
func (r *Replica) PassedOver() (list []Passed, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	for author, p := range r.passed {
		if r.cfg.Counts(author) {
			continue
		}
		n := Passed{Author: author, Records: uint64(len(p.singles)), Via: p.via}
		for _, c := range p.chains {
			n.Records += c.records
		}
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b Passed) int {
		return cmp.Or(cmp.Compare(b.Records, a.Records), bytes.Compare(a.Author[:], b.Author[:]))
	})
	return list, nil
}
