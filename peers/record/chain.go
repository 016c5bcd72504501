package record

import (
	"crypto/ed25519"
	"fmt"

	"sharefs"
)

// Head is how far a chain goes.
type Head struct {
	Author      sharefs.PeerID
	Incarnation uint64
	Number      uint64 // of the last batch; 0: there is none
	Hash        Hash   // zero if there is none
}

// Chain is what is known of one incarnation of one author: which batches were taken, the evidence of equivocation, and the cut. It is used by one goroutine at
// a time.
type Chain struct {
	share       ShareID
	author      sharefs.PeerID
	incarnation uint64
	hashes      []Hash // of the batches 1, 2, …
	fork        *Fork
	cut         *Cut
}

// Fork is evidence that an author signed two batches of one number: somebody else has its key, or its state was restored and it went on from there
// again. Whoever has both can convince anybody.
type Fork struct {
	Taken   *Batch // the one that came first here, and counts
	Refused *Batch
}

// NewChain returns a chain without batches.
func NewChain(share ShareID, author sharefs.PeerID, incarnation uint64) *Chain {
	return &Chain{share: share, author: author, incarnation: incarnation}
}

// Share returns the share of all batches of the chain.
func (c *Chain) Share() ShareID { return c.share }

// Head returns how far the chain goes.
func (c *Chain) Head() Head {
	h := Head{Author: c.author, Incarnation: c.incarnation, Number: uint64(len(c.hashes))}
	if h.Number > 0 {
		h.Hash = c.hashes[h.Number-1]
	}
	return h
}

// Fork returns the evidence of equivocation; nil where there is none.
func (c *Chain) Fork() *Fork { return c.fork }

// Cut ends the chain. Of several cuts the lowest counts.
func (c *Chain) Cut(cut *Cut) {
	if cut.Author != c.author {
		return
	}
	if c.cut == nil || !cut.Allows(c.cut.Incarnation, c.cut.Number) {
		c.cut = cut
	}
}

// Counts reports whether a batch was taken and is not past a cut.
func (c *Chain) Counts(number uint64) bool {
	return number > 0 && number <= uint64(len(c.hashes)) && (c.cut == nil || c.cut.Allows(c.incarnation, number))
}

// Add checks a batch and takes it as the next one; taking one again does nothing. Held returns a batch of this chain that was taken, which may be one half of
// the evidence. The kinds of errors:
//
//   - [sharefs.KindCorrupt]: the signature is wrong, or the batch is of another chain.
//   - [sharefs.KindAgain]: other batches have to come first; the error says which.
//   - [sharefs.KindPermission]: the author equivocated, of which [Chain.Fork] is the evidence, or the batch is past a cut.
//
// Equivocation stops a chain: what was taken before still counts, so that a stolen key cannot take back what its owner wrote, but nothing is
// taken after it. The author goes on with a new incarnation.
func (c *Chain) Add(b *Batch, held func(number uint64) (*Batch, error)) error {
	refuse := func(kind sharefs.Kind, format string, args ...any) error {
		return &sharefs.Error{Op: "take a batch", Kind: kind, Detail: fmt.Sprintf("batch %d of incarnation %d: ", b.Number, b.Incarnation) + fmt.Sprintf(format, args...)}
	}
	if b.Share != c.share || b.Author != c.author || b.Incarnation != c.incarnation {
		return refuse(sharefs.KindCorrupt, "it belongs to another chain")
	}
	n := uint64(len(c.hashes))
	if b.Number <= n && c.hashes[b.Number-1] == b.hash {
		return nil
	}
	if err := b.Verify(); err != nil {
		return err
	}
	switch {
	case c.fork != nil:
		return refuse(sharefs.KindPermission, "its author signed two batches of number %d; nothing is taken until it begins anew", c.fork.Taken.Number)
	case b.Number <= n && b.Number > 1 && b.Prev != c.hashes[b.Number-2]:
		// The two histories part before: evidence is the first batch of the other one, of which its author learns from where it has to begin anew.
		return refuse(sharefs.KindAgain, "it follows another batch %d than the one here: that one comes first", b.Number-1)
	case b.Number <= n:
		taken, err := held(b.Number)
		if err != nil {
			return err
		}
		if taken.hash != c.hashes[b.Number-1] {
			return refuse(sharefs.KindCorrupt, "what is held under this number is not what was taken")
		}
		c.fork = &Fork{taken, b}
		return refuse(sharefs.KindPermission, "its author has signed another batch of this number before; nothing is taken until it begins anew")
	case b.Number > n+1:
		return refuse(sharefs.KindAgain, "batches %d to %d come first", n+1, b.Number-1)
	case n > 0 && b.Prev != c.hashes[n-1]:
		// There are two of number n: whoever sent this one can show the other.
		return refuse(sharefs.KindAgain, "it follows another batch %d than the one here: that one comes first", n)
	case c.cut != nil && !c.cut.Allows(b.Incarnation, b.Number):
		return refuse(sharefs.KindPermission, "the chain was cut after batch %d of incarnation %d", c.cut.Number, c.cut.Incarnation)
	}
	c.hashes = append(c.hashes, b.hash)
	return nil
}

// Has reports whether a batch was taken.
func (c *Chain) Has(b *Batch) bool {
	return b.Share == c.share && b.Author == c.author && b.Incarnation == c.incarnation && b.Number <= uint64(len(c.hashes)) && c.hashes[b.Number-1] == b.hash
}

// Restore takes a batch as the next one that was taken before, as from a database, without checking its signature again. It reports false for one that is not the next
// one.
func (c *Chain) Restore(b *Batch) bool {
	n := uint64(len(c.hashes))
	if b.Share != c.share || b.Author != c.author || b.Incarnation != c.incarnation || b.Number != n+1 || n > 0 && b.Prev != c.hashes[n-1] {
		return false
	}
	c.hashes = append(c.hashes, b.hash)
	return true
}

// Relation is how a head that a peer tells of stands to a chain.
type Relation uint8

// The relations.
const (
	Same   Relation = iota
	Longer          // the peer has batches that are missing here, as far as can be seen
	// Shorter: the peer lacks batches. If it is the chain's author, it lost state (a rollback): it must not go on before it has begun anew.
	Shorter
	Forked // the peer has another batch of that number; it is the evidence
	Other  // another author, or another incarnation
)

// Compare tells how a head stands to the chain.
func (c *Chain) Compare(h Head) Relation {
	n := uint64(len(c.hashes))
	switch {
	case h.Author != c.author || h.Incarnation != c.incarnation:
		return Other
	case h.Number > n:
		return Longer
	case h.Number > 0 && h.Hash != c.hashes[h.Number-1]:
		return Forked
	case h.Number < n:
		return Shorter
	}
	return Same
}

// Writer authors the batches of this host. Its state must be on disk before a batch goes out. It is used by one goroutine at a time.
type Writer struct {
	Share ShareID
	Head  Head // the last batch that was authored
}

// Batch authors the next batch of the chain.
func (w *Writer) Batch(at sharefs.HLC, ids []ID, key ed25519.PrivateKey) (*Batch, error) {
	b := &Batch{Share: w.Share, Author: w.Head.Author, Incarnation: w.Head.Incarnation, Number: w.Head.Number + 1, Prev: w.Head.Hash, HLC: at, Records: ids}
	if err := b.Seal(); err != nil {
		return nil, err
	}
	if err := b.Sign(key); err != nil {
		return nil, err
	}
	w.Head.Number, w.Head.Hash = b.Number, b.hash
	return b, nil
}

// Saw tells the writer of a batch of its own chain that a peer has, of which it has made sure. If it is not among those that this host knows to have authored, state was lost
// or restored here: the writer begins a new incarnation, and Saw returns true. It knows its last batch alone: one of a lower number passes for its own.
func (w *Writer) Saw(b *Batch) bool {
	h := w.Head
	if b.Author != h.Author || b.Incarnation < h.Incarnation {
		return false
	}
	if b.Incarnation == h.Incarnation && (b.Number < h.Number || b.Number == h.Number && b.hash == h.Hash) {
		return false
	}
	w.Head = Head{Author: h.Author, Incarnation: b.Incarnation + 1}
	return true
}
