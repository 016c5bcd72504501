package replica

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"maps"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/record"
)

// A host that was put back from a copy and is shown the last batch that a peer has of it tells anew what it wrote instead of what it lost, however much of both there is, so that the peer takes it.
func TestSawAnotherHistory(t *testing.T) {
	for _, c := range []struct {
		lost, since int
		back        time.Duration // the clock goes back after the copy
	}{{1, 0, 0}, {1, 1, 0}, {1, 3, 0}, {2, 1, 0}, {2, 2, 0}, {2, 4, 0}, {3, 2, time.Minute}, {3, 6, time.Minute}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			pen, now := newPen(), time.Unix(1e9, 0)
			open := func(db rows, self sharefs.PeerID) *Replica {
				t.Helper()
				now = now.Add(time.Second)
				r, err := Open(Config{Tree: noTree{}, Store: db, Self: self, Key: pen.key, Keys: anyKeys{}, Now: func() time.Time { return now }, Rand: rand.Reader,
					Counts: func(sharefs.PeerID) bool { return true }, Standing: func(*record.Record) Standing { return Merged }})
				check(t, err)
				return r
			}
			say := func(r *Replica, what string, n int) { // a batch each
				t.Helper()
				for i := range n {
					now = now.Add(time.Second)
					name := fmt.Sprint(what, i)
					sum := sha256.Sum256([]byte(name))
					check(t, r.enter())
					check(t, r.say(&record.Place{File: sharefs.FileID(sum[:16]), Type: record.Directory, Parent: record.Root, Name: name}))
					check(t, r.sync())
					r.mu.Unlock()
				}
			}
			tell := func(from, to *Replica) {
				t.Helper()
				items, _, err := from.Since(0, 1<<20)
				check(t, err)
				_, err = to.Take(sharefs.PeerID{}, items)
				check(t, err)
			}
			db := rows{}
			a, b := open(db, pen.author()), open(rows{}, sharefs.PeerID{2})
			say(a, "before", 2)
			image := maps.Clone(db)
			say(a, "lost", c.lost)
			tell(a, b)
			now = now.Add(-c.back)
			a = open(image, pen.author())
			say(a, "since", c.since)
			last, err := b.Newest(pen.author())
			check(t, err)
			had, err := a.Own()
			check(t, err)
			for range 2 { // it is shown it again
				check(t, a.Saw(last))
			}
			head, err := a.Own()
			check(t, err)
			if head.Incarnation <= had.Incarnation || c.since == 0 && head.Number != 0 {
				t.Errorf("it goes on from %+v with %+v", had, head)
			}
			say(a, "later", 1)
			tell(a, b)
			has := b.tree.Result()
			for what, n := range map[string]int{"before": 2, "lost": c.lost, "since": c.since, "later": 1} {
				for i := range n {
					if _, ok := has[fmt.Sprint(what, i)]; !ok {
						t.Errorf("the peer lacks %s%d", what, i)
					}
				}
			}
		})
	}
}
