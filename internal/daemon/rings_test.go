package daemon

import (
	"errors"
	"testing"
	"time"

	"sharefs"
	"sharefs/internal/keyring"
	"sharefs/peers/book"
	"sharefs/peers/trust"
)

// keyTree is a tree that has keys.
type keyTree struct {
	ring   keyring.Ring
	killed func(taken bool) error // is called before and after keys are taken; an error ends that
}

func (t *keyTree) Keys() keyring.Ring { return t.ring }

func (t *keyTree) AdoptKeys(more keyring.Ring) (bool, error) {
	next, err := t.ring.Add(more.Keys()...)
	if err == nil && t.killed != nil {
		err = t.killed(false)
	}
	if err == nil {
		t.ring = next
		if t.killed != nil {
			err = t.killed(true)
		}
	}
	return err == nil, err
}

// keptBook opens a book as it was kept last.
func keptBook(t *testing.T, kept *[]byte) func() *book.Book {
	return func() *book.Book {
		t.Helper()
		b, err := book.Open(*kept, func(text []byte) error { *kept = text; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// One peer cannot fill the ring, in however many steps and over however many starts, and another one has room.
func TestRoomForTheKeysOfOthers(t *testing.T) {
	var kept []byte
	open := keptBook(t, &kept)
	b := open()
	level := map[sharefs.PeerID]trust.Level{{1}: trust.Propose, {2}: trust.Write, {3}: trust.Write}
	for id, l := range level {
		if _, err := b.Add(id, "", book.ByHand, nil, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Grant(id.String(), l, trust.Pattern{}); err != nil {
			t.Fatal(err)
		}
	}
	tree := &keyTree{ring: keyring.New([32]byte{})}
	n := 0
	ring := func(keys int) keyring.Ring { // of keys that nobody has
		out := keyring.New([32]byte{1, byte(n), byte(n >> 8)})
		for range keys - 1 {
			n++
			next, err := out.Add(keyring.New([32]byte{1, byte(n), byte(n >> 8)}).First())
			if err != nil {
				t.Fatal(err)
			}
			out = next
		}
		n++
		return out
	}
	for id, most := range map[sharefs.PeerID]int{{1}: keyring.MaxOfProposer, {2}: keyring.MaxOfWriter} {
		if err := (&rings{tree: tree, book: b}).TakeRing(id, ring(most+1).Encode()); sharefs.KindOf(err) != sharefs.KindTooBig {
			t.Errorf("all at once: %v", err)
		}
		before, step := tree.ring.Len(), most/4
		for range 4 {
			b = open() // as after a start
			more := ring(step)
			for range 2 { // what it brings again does not count again
				if err := (&rings{tree: tree, book: b}).TakeRing(id, more.Encode()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := (&rings{tree: tree, book: b}).TakeRing(id, ring(1).Encode()); sharefs.KindOf(err) != sharefs.KindTooBig || tree.ring.Len() != before+most {
			t.Errorf("%d keys of %v: %v", tree.ring.Len()-before, id, err)
		}
	}
	if err := (&rings{tree: tree, book: b}).TakeRing(sharefs.PeerID{3}, ring(100).Encode()); err != nil {
		t.Errorf("another one: %v", err)
	}
}

// Whenever the daemon is killed while it takes keys of a peer, each counts once for that peer, and one that was not taken does not.
func TestKeysOfOthersCountOnce(t *testing.T) {
	killed := errors.New("killed")
	from := sharefs.PeerID{1}
	for _, taken := range []bool{false, true} {
		var kept []byte
		open := keptBook(t, &kept)
		if _, err := open().Add(from, "peer", book.ByHand, nil, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		tree := &keyTree{ring: keyring.New([32]byte{}), killed: func(now bool) error {
			if now == taken {
				return killed
			}
			return nil
		}}
		ring := keyring.New([32]byte{1})
		if err := (&rings{tree: tree, book: open()}).TakeRing(from, ring.Encode()); !errors.Is(err, killed) {
			t.Fatal(err)
		}
		tree.killed = nil
		if had := tree.ring.Has(ring); had != taken {
			t.Fatalf("the keys are there: %v", had)
		}
		for range 2 {
			if err := (&rings{tree: tree, book: open()}).TakeRing(from, ring.Encode()); err != nil {
				t.Fatal(err)
			}
			if p, _ := open().Peer(from); p.Keys != 1 || len(p.Bringing) > 0 || !tree.ring.Has(ring) {
				t.Errorf("killed with the keys taken: %v: %d keys count, %q", taken, p.Keys, p.Bringing)
			}
		}
	}
}
