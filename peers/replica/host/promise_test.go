package host

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// letting is a host that lets the content of a version go: it says so, asks the others one after the other, and lets it go if enough have promised to keep theirs.
type letting struct {
	at, id int
	end    func()
	ask    []int // hosts that are still to be asked
	yes    int
}

// However hosts that let the same contents go at once come in each other's way, and whenever they are started anew, so many copies are left as each of them demands.
func TestDropsLeaveCopies(t *testing.T) {
	const files, hosts = 6, 3
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 8))
		all := sites(t, hosts)
		for i := range files {
			all[0].write(fmt.Sprint("f", i), fmt.Sprint("content ", i))
		}
		all[0].settle()
		all[0].tell()
		for _, s := range all[1:] {
			for s.hear(all[0], 1000) > 0 {
			}
			if waiting, err := s.apply(); waiting > 0 || err != nil {
				t.Fatal(waiting, err)
			}
		}
		ids := make([]record.ID, files)
		has := make([][hosts]bool, files)
		for i := range files {
			rec, err := all[0].rep.Having(all[0].find(fmt.Sprint("f", i)), func(*record.Version) bool { return true })
			check(t, err)
			ids[i], has[i] = rec.ID(), [hosts]bool{true, true, true}
		}
		copies := func(i int) (n int) {
			for _, h := range has[i] {
				if h {
					n++
				}
			}
			return n
		}
		least := 1 + int(seed%2)
		var at []*letting
		gone := 0
		for range 300 {
			switch op := rng.IntN(30); {
			case op < 8:
				l := &letting{at: rng.IntN(hosts), id: rng.IntN(files)}
				if !has[l.id][l.at] {
					continue
				}
				end, err := all[l.at].rep.LetGo(ids[l.id])
				if sharefs.KindOf(err) == sharefs.KindBusy && err != nil {
					continue
				}
				check(t, err)
				l.end = end
				for o := range hosts {
					if o != l.at {
						l.ask = append(l.ask, o)
					}
				}
				at = append(at, l)
			case op == 8: // whoever is at it there begins anew
				s := rng.IntN(hosts)
				rest := at[:0]
				for _, l := range at {
					if l.at != s {
						rest = append(rest, l)
					}
				}
				at = rest
				all[s].reopen()
			case len(at) > 0:
				i := rng.IntN(len(at))
				l := at[i]
				if len(l.ask) > 0 {
					o := l.ask[0]
					l.ask = l.ask[1:]
					yes, err := all[o].rep.Promise(sharefs.PeerID{byte(l.at + 1)}, []record.ID{ids[l.id]}, func(*record.Record, sharefs.Ino) bool { return has[l.id][o] })
					check(t, err)
					l.yes += len(yes)
					continue
				}
				if l.yes >= least && has[l.id][l.at] {
					has[l.id][l.at] = false
					gone++
				}
				l.end()
				at = append(at[:i], at[i+1:]...)
				if n := copies(l.id); n < least {
					t.Fatalf("seed %d: %d copies of content %d are left, not %d", seed, n, l.id, least)
				}
			}
		}
		if gone == 0 {
			t.Errorf("seed %d: nothing went", seed)
		}
	}
}

// What a peer says of a promise counts for nothing once it was promised the same again, or was not asked, or the question has ended; what is said for another one does not, either.
func TestAReleaseIsForOneQuestion(t *testing.T) {
	all := sites(t, 2)
	a := all[0]
	a.write("f", "content")
	a.settle()
	a.tell()
	rec, err := a.rep.Having(a.find("f"), func(*record.Version) bool { return true })
	check(t, err)
	one, two, gone := sharefs.PeerID{1}, sharefs.PeerID{2}, sharefs.PeerID{3}
	ids := []record.ID{rec.ID()}
	promise := func(to sharefs.PeerID) {
		t.Helper()
		if yes, err := a.rep.Promise(to, ids, func(*record.Record, sharefs.Ino) bool { return true }); err != nil || len(yes) != 1 {
			t.Fatal(yes, err)
		}
	}
	is := func(what string, want ...sharefs.PeerID) {
		t.Helper()
		if to, ok, err := a.rep.Promised(ids[0]); err != nil || ok != (len(want) > 0) || !slices.Equal(to, want) {
			t.Errorf("%s: promised to %v, %v: %v", what, to, ok, err)
		}
		end, err := a.rep.LetGo(ids[0])
		if (err == nil) != (len(want) == 0) {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil {
			end()
		}
	}
	promise(one)
	promise(two)
	promise(one)
	is("twice to one", one, two)
	ask := a.rep.Ask(one, ids)
	promise(two)
	check(t, ask.Released([]record.ID{{7}}))
	is("what was not asked", one, two)
	promise(one)
	check(t, ask.Released(ids))
	is("promised again since", one, two)
	ask.End()
	ask = a.rep.Ask(one, ids)
	ask.End()
	check(t, ask.Released(ids))
	is("after the end", one, two)
	ask = a.rep.Ask(one, ids)
	check(t, ask.Released(ids))
	check(t, ask.Released(ids))
	ask.End()
	is("released by one", two)
	a.reopen()
	is("after a restart", two)
	promise(gone)
	peers := func() []sharefs.PeerID { return []sharefs.PeerID{one, two} }
	if left, err := a.rep.Settle(ids, peers); err != nil || len(left) != 1 || !slices.Equal(left[0].To, []sharefs.PeerID{two}) {
		t.Error(left, err)
	}
	is("one is no peer any more", two)

	// Rows of older builds name some, or nobody.
	space := uint8(slices.Index(replica.Spaces, "promise") + 1)
	check(t, a.store.Commit([]replica.Row{{Space: space, Key: ids[0][:], Value: []byte{1}}}))
	if _, err := a.rep.LetGo(ids[0]); sharefs.KindOf(err) != sharefs.KindBusy {
		t.Error(err)
	}
	_, err = a.rep.Settle(ids, peers)
	check(t, err)
	is("named", one, two)
	for _, id := range []sharefs.PeerID{one, two} {
		ask := a.rep.Ask(id, ids)
		check(t, ask.Released(ids))
		ask.End()
	}
	is("released by all")
}

// A file that somebody renames has no name between the two steps in which that is told: it needs what others promised all the same, also behind a start.
func TestARenamedFileNeedsWhatWasPromised(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	a.writeAndTell("f", "text")
	meet(t, a, b)
	rec, err := a.rep.Having(a.find("f"), func(*record.Version) bool { return true })
	check(t, err)
	needs := func(when string, want bool) {
		t.Helper()
		spare, needed, err := a.rep.Needs([]record.ID{rec.ID()}, func(*record.Record, sharefs.Ino) bool { return false })
		check(t, err)
		if len(spare) > 0 || want != (len(needed) > 0) {
			t.Errorf("%s: %d are spare and %d needed", when, len(spare), len(needed))
		}
	}
	needs("before", true)
	a.renameHalfTold("f")
	if live, _, err := a.rep.Live(rec.ID()); live != nil || err != nil {
		t.Fatal("it has a name: ", err)
	}
	needs("between the steps", false)
	a.reopen()
	needs("behind a start", false)
	a.tell()
	needs("told", true)
}
