package replica

import (
	"encoding/binary"
	"errors"
	"slices"

	"sharefs"
	"sharefs/peers/record"
)

// chainID names one incarnation of one author.
type chainID struct {
	author      sharefs.PeerID
	incarnation uint64
}

// batchBytes is how large the records of a batch of this host may be together, in bytes: a peer can look for their contents when the batch is there as a whole, and over a link that has
// just come up, or is slow, that takes a while. A batch costs a signature.
const batchBytes = 32 << 10

func batchKey(author sharefs.PeerID, incarnation, number uint64) []byte {
	k := binary.BigEndian.AppendUint64(append([]byte(nil), author[:]...), incarnation)
	return binary.BigEndian.AppendUint64(k, number)
}

// loadChains reads the batches of all authors.
func (r *Replica) loadChains() error {
	var bad error
	read := func(v []byte, use func(c *record.Chain, b *record.Batch) error) bool {
		b, err := record.DecodeBatch(v)
		if err == nil {
			err = use(r.chain(b), b)
		}
		bad = err
		return err == nil
	}
	err := r.cfg.Store.Scan(spaceBatch, nil, nil, func(_, v []byte) bool {
		return read(v, func(c *record.Chain, b *record.Batch) error {
			if !c.Restore(b) {
				return damaged("batches")
			}
			return nil
		})
	})
	if err == nil && bad == nil {
		err = r.cfg.Store.Scan(spaceFork, nil, nil, func(_, v []byte) bool {
			return read(v, func(c *record.Chain, b *record.Batch) error {
				if err := c.Add(b, r.held(b)); err == nil || c.Fork() == nil {
					return damaged("evidence")
				}
				return nil
			})
		})
	}
	if err == nil {
		err = bad
	}
	return err
}

// chain returns the chain that a batch belongs to.
func (r *Replica) chain(b *record.Batch) *record.Chain {
	id := chainID{b.Author, b.Incarnation}
	c := r.chains[id]
	if c == nil {
		c = record.NewChain(b.Share, b.Author, b.Incarnation)
		r.chains[id] = c
	}
	return c
}

// held returns the reader of those batches of a chain that were taken.
func (r *Replica) held(b *record.Batch) func(number uint64) (*record.Batch, error) {
	return func(number uint64) (*record.Batch, error) {
		raw, ok, err := r.cfg.Store.Get(spaceBatch, batchKey(b.Author, b.Incarnation, number))
		if err == nil && !ok {
			err = damaged("batches")
		}
		if err != nil {
			return nil, err
		}
		return record.DecodeBatch(raw)
	}
}

// batchUp makes batches of what this host has authored.
func (r *Replica) batchUp() error {
	var again []*record.Record
	twice := map[record.ID]bool{}
	for _, id := range r.anew {
		if rec := r.tree.Record(id); rec != nil && !twice[id] {
			twice[id] = true
			again = append(again, rec)
		}
	}
	all := append(again, r.fresh...)
	if len(all) == 0 {
		r.anew = nil
		return nil
	}
	for i, rec := range all {
		if i >= len(again) {
			r.keep(judged{rec, Merged})
		}
	}
	for len(all) > 0 {
		at, size, share := r.now(), 0, all[0].Share
		var ids []record.ID
		back, took := r.backs[all[0].ID()], 0
		if cut := r.tree.Record(back); cut != nil && cut.Share == share {
			ids, at = append(ids, back), max(at, cut.HLC)
		}
		for _, rec := range all {
			if size += rec.Size(); took > 0 && size > batchBytes || len(ids) == record.MaxBatch || rec.Share != share || r.backs[rec.ID()] != back {
				break
			}
			ids = append(ids, rec.ID())
			took++
			at = max(at, rec.HLC)
			if back.IsZero() && rec.Body.Kind() == record.KindCut { // what comes behind it takes nothing back
				break
			}
		}
		if r.writer.Share != share {
			r.writer.Share = share
			r.begin()
		}
		b, err := r.writer.Batch(at, ids, r.cfg.Key)
		if err != nil {
			return err
		}
		r.chain(b).Restore(b)
		r.enlog(b)
		all = all[took:]
	}
	r.fresh, r.anew = nil, nil
	r.saveHead()
	return nil
}

// enlog puts a batch, whose records are there, into the database.
func (r *Replica) enlog(b *record.Batch) {
	key := batchKey(b.Author, b.Incarnation, b.Number)
	r.put(spaceBatch, key, b.Bytes())
	r.put(spaceLog, r.arrive(), key)
}

// incarnation returns the number of one that is later than another, and than any that this host had before it lost what it knew of it.
func (r *Replica) incarnation(last uint64) uint64 {
	return max(last+1, uint64(max(0, r.cfg.Now().UnixMilli())))
}

// begin begins a new incarnation of this host's chain.
func (r *Replica) begin() {
	r.writer.Head = record.Head{Author: r.cfg.Self, Incarnation: r.incarnation(r.writer.Head.Incarnation)}
	r.saveHead()
}

func (r *Replica) saveHead() {
	h := r.writer.Head
	v := append([]byte(nil), r.writer.Share[:]...)
	v = binary.BigEndian.AppendUint64(v, h.Incarnation)
	v = binary.BigEndian.AppendUint64(v, h.Number)
	r.put(spaceGlobal, globalSelf, append(v, h.Hash[:]...))
}

// link takes a batch into its author's chain, and reports whether it is new.
func (r *Replica) link(b *record.Batch) (fresh bool, err error) {
	c := r.chain(b)
	had, forked := c.Head().Number, c.Fork() != nil
	err = c.Add(b, r.held(b))
	if c.Head().Number == 0 && c.Fork() == nil {
		delete(r.chains, chainID{b.Author, b.Incarnation})
	}
	if c.Fork() != nil && !forked {
		r.put(spaceFork, binary.BigEndian.AppendUint64(append([]byte(nil), b.Author[:]...), b.Incarnation), b.Bytes())
		r.cfg.Log.Warn("a host has signed two histories: it was restored from a copy, or somebody else has its key", "author", b.Author.String(), "batch", b.Number)
	}
	if b.Author == r.cfg.Self {
		if err := r.saw(b, err, c.Fork() != nil && !forked); err != nil {
			return false, err
		}
	}
	return err == nil && c.Head().Number > had, err
}

// saw is told of a batch of this host's own chain that a peer has, of whether it could be taken, and whether it is the first that tells of another history than the one here.
func (r *Replica) saw(b *record.Batch, refused error, first bool) error {
	h := r.writer.Head
	forked := errors.Is(refused, sharefs.KindPermission) && b.Incarnation == h.Incarnation
	if forked || first {
		// This host went on from a copy of its state, be it until it was shown a later batch. Others have what the state held that was lost, and take nothing of what it wrote instead:
		// that is told anew.
		for n := b.Number; ; n++ {
			own, err := r.own(b.Incarnation, n)
			if err != nil {
				return err
			}
			if own == nil {
				break
			}
			r.anew = append(r.anew, own.Records...)
		}
	}
	switch {
	case forked:
	case refused != nil || !r.writer.Saw(b):
		return nil
	}
	return r.beginAfter(b)
}

// beginAfter begins a new incarnation after a batch of this host's own that it has lost.
func (r *Replica) beginAfter(b *record.Batch) error {
	r.cfg.Log.Warn("peers have records of this host that it has lost: it begins a new chain", "incarnation", b.Incarnation, "batch", b.Number)
	r.writer.Head.Incarnation = max(r.writer.Head.Incarnation, b.Incarnation)
	r.begin()
	return r.newLog()
}

// own returns a batch of this host, nil where there is none.
func (r *Replica) own(incarnation, number uint64) (*record.Batch, error) {
	raw, ok, err := r.cfg.Store.Get(spaceBatch, batchKey(r.cfg.Self, incarnation, number))
	if err != nil || !ok {
		return nil, err
	}
	return record.DecodeBatch(raw)
}

// insteadOf has told anew what this host wrote instead of a batch that it does not know: what has its number or a higher one in the same chain, and what is later. Whoever sends it single records
// alone does not send it the batches that it lost, of which the first that is another one here would tell that exactly. If the batch is ahead of the clock, time does not tell what is later, and
// all is told anew.
func (r *Replica) insteadOf(b *record.Batch) error {
	h := r.writer.Head
	ahead := b.HLC > sharefs.HLCAt(r.cfg.Now())
	var later [][]record.ID // the last batch first
	for n := h.Number; n > 0; n-- {
		own, err := r.own(h.Incarnation, n)
		if err != nil {
			return err
		}
		other := b.Incarnation == h.Incarnation && n >= b.Number
		if own == nil || !other && !ahead && own.HLC < b.HLC {
			break
		}
		later = append(later, own.Records)
	}
	for _, ids := range slices.Backward(later) {
		r.anew = append(r.anew, ids...)
	}
	return nil
}

// Own returns how far this host's own chain goes.
func (r *Replica) Own() (record.Head, error) {
	if err := r.enter(); err != nil {
		return record.Head{}, err
	}
	defer r.mu.Unlock()
	return r.writer.Head, nil
}

// Forks returns the evidence against authors that signed two histories.
func (r *Replica) Forks() (all []*record.Fork, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	for _, c := range r.chains {
		if f := c.Fork(); f != nil {
			all = append(all, f)
		}
	}
	return all, nil
}
