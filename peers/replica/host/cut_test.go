package host

import (
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// revoke has the owner of a host revoke another one, and the host heed what that means.
func (s *site) revoke(o *site) map[sharefs.PeerID]replica.TakenBack {
	s.t.Helper()
	s.revoked[o.self] = true
	check(s.t, s.rep.Cut(o.self, 2))
	return s.heed()
}

// heed has a host do what is due for cuts.
func (s *site) heed() map[sharefs.PeerID]replica.TakenBack {
	s.t.Helper()
	all := map[sharefs.PeerID]replica.TakenBack{}
	due, err := s.rep.Overruns()
	check(s.t, err)
	for _, author := range due {
		all[author], err = s.rep.TakeBack(nil, author, false, false)
		check(s.t, err)
	}
	return all
}

// says has somebody sign a record that a host is given.
func (s *site) says(o *site, body record.Body) {
	s.t.Helper()
	rec, err := record.New(share, s.self, sharefs.HLCAt(time.Now()), body)
	check(s.t, err)
	check(s.t, rec.Sign(s.key))
	_, err = o.rep.Take(s.self, []replica.Item{{Records: []*record.Record{rec}}})
	check(s.t, err)
}

// overrun returns hosts a, bad, c and d: a has revoked bad, which has gone on since, and c and d have taken that.
func overrun(t *testing.T, does func(a, bad *site)) (all []*site, before string) {
	t.Helper()
	all = sites(t, 4)
	a, bad := all[0], all[1]
	a.mkdir("d")
	for _, name := range []string{"d/edited", "d/removed", "d/moved"} {
		a.write(name, "of a")
	}
	bad.write("of bad", "within")
	meet(t, all...)
	before = a.shows()
	a.revoke(bad)
	does(a, bad)
	meet(t, all...)
	if a.shows() != before {
		t.Fatal("the one who has revoked it takes what it writes")
	}
	return all, before
}

func edits(_, bad *site) {
	bad.write("d/edited", "past")
	bad.write("of bad", "past")
	bad.unlink("d/removed")
	bad.rename("d/moved", "elsewhere")
	bad.mkdir("dir")
	bad.write("dir/new", "past")
}

// fetchOwn fetches what the host says that files hold again as before: what came and was replaced at once it need not have.
func (s *site) fetchOwn() {
	s.t.Helper()
	var own []*record.Record
	for _, rec := range s.records() {
		if rec.Author == s.self && rec.Body.Kind() == record.KindVersion {
			own = append(own, rec)
		}
	}
	l, errs, err := s.tree.Gather(Contents(own), s)
	check(s.t, err)
	s.t.Cleanup(l.End)
	for _, err := range errs {
		check(s.t, err)
	}
}

// Of what a host wrote that was revoked elsewhere first what is past that is taken back, whichever comes first, the cut or the revocation here; by two hosts at once as well.
func TestPastACut(t *testing.T) {
	want := []replica.Purged{{What: replica.PurgeMoves, Path: "d/moved", From: "elsewhere"}, {What: replica.PurgeRestores, Path: "d/removed"}}
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("the cut comes later: ", late), func(t *testing.T) {
			all := sites(t, 4)
			a, bad, c, d := all[0], all[1], all[2], all[3]
			a.mkdir("d")
			a.write("d/edited", "of a")
			a.write("d/removed", "of a")
			a.write("d/moved", "of a")
			bad.write("of bad", "within")
			meet(t, all...)
			before := a.shows()
			a.revoke(bad)
			if !late {
				meet(t, all...)
			}
			bad.unlink("d/removed")
			bad.rename("d/moved", "elsewhere")
			meet(t, bad, c, d)
			took := []map[sharefs.PeerID]replica.TakenBack{c.revoke(bad), d.revoke(bad)} // before they hear each other
			if late {
				for _, m := range took {
					if len(m[bad.self].Changes) > 0 {
						t.Fatalf("%+v", m)
					}
				}
				meet(t, a, c, d)
				took = []map[sharefs.PeerID]replica.TakenBack{c.heed(), d.heed()}
			}
			for _, m := range took {
				if got := m[bad.self]; !slices.Equal(got.Changes, want) || got.By != a.self {
					t.Errorf("%+v", got)
				}
			}
			meet(t, a, c, d)
			same(t, a, c, d)
			if got := c.shows(); got != before {
				t.Errorf("there is\n%s\nnot\n%s", got, before)
			}
			noConflicts(t, a, c, d)
			for _, s := range []*site{a, c, d} {
				s.right()
				s.reopen()
				if m := s.heed(); len(m) > 0 {
					t.Errorf("again: %+v", m)
				}
			}
		})
	}
}

// What is past a cut is taken back with files, their contents and directories; what others went on from stays, and what is within the cut.
func TestWhatIsTakenBackIsPastTheCut(t *testing.T) {
	all, _ := overrun(t, edits)
	a, bad, c, d := all[0], all[1], all[2], all[3]
	d.write("dir/of d", "of d")
	d.write("d/edited", "of d, after")
	meet(t, a, c, d)
	c.revoke(bad)
	d.revoke(bad)
	meet(t, a, c, d)
	same(t, a, c, d)
	for _, s := range []*site{a, c, d} {
		for path, content := range map[string]string{"d/edited": "of d, after", "of bad": "within", "d/removed": "of a", "d/moved": "of a", "dir/of d": "of d"} {
			if got := s.read(s.find(path)); got != content {
				t.Errorf("%s holds %q, not %q", path, got, content)
			}
		}
		if s.find("dir/new") != 0 || s.find("elsewhere") != 0 {
			t.Error(s.shows())
		}
		s.right()
	}
	noConflicts(t, a, c, d)
}

// settled has hosts meet and do what is due for cuts until there is nothing to do.
func settled(t *testing.T, all ...*site) {
	t.Helper()
	for range 10 {
		meet(t, all...)
		n := 0
		for _, s := range all {
			n += len(s.heed())
		}
		if n == 0 {
			same(t, all...)
			return
		}
	}
	t.Fatal("they do not come to an end")
}

// A lower cut that comes behind what was taken back for another one leaves nothing of what was put back then and is past it as well, whoever hears of it first; but for
// what somebody has decided since.
func TestALowerCutComesLater(t *testing.T) {
	for what, c := range map[string]struct{ apart, writes, purges bool }{
		"one hears of it first": {},
		"all at once":           {apart: true},
		"written to meanwhile":  {writes: true},
		"all of it goes":        {purges: true},
	} {
		t.Run(what, func(t *testing.T) {
			all := sites(t, 5)
			a, bad, first, second, low := all[0], all[1], all[2], all[3], all[4]
			a.mkdir("d")
			for _, name := range []string{"d/edited", "d/moved", "d/mode"} {
				a.write(name, "of a")
			}
			for i := range 20 { // so that what is to go is not much
				a.mkdir(fmt.Sprintf("other%d", i))
			}
			meet(t, all...)
			before := a.shows()
			low.revoke(bad)
			bad.write("d/edited", "between")
			bad.rename("d/moved", "between")
			chmod(bad, "d/mode", 0o600)
			bad.write("made", "between")
			bad.mkdir("dir")
			bad.write("dir/in", "between")
			honest := []*site{a, first, second}
			meet(t, append([]*site{bad}, honest...)...)
			between := a.shows()
			a.revoke(bad)
			bad.write("d/edited", "past")
			bad.rename("between", "elsewhere")
			chmod(bad, "d/mode", 0o640)
			bad.unlink("made")
			meet(t, bad, first, second)
			meet(t, a, first, second)
			first.revoke(bad)
			second.revoke(bad)
			if settled(t, honest...); first.shows() != between {
				t.Fatalf("there is\n%s\nnot\n%s", first.shows(), between)
			}
			if c.writes {
				first.write("d/edited", "mine")
				meet(t, honest...)
			}
			for _, s := range honest {
				s.reopen()
			}
			switch {
			case c.purges:
				_, err := first.rep.Purge(nil, bad.self, false)
				check(t, err)
			case c.apart:
				for _, s := range honest {
					s.hear(low, 1<<20)
				}
				for _, s := range honest {
					s.heed()
				}
			}
			everybody := append([]*site{low}, honest...)
			settled(t, everybody...)
			if got := second.read(second.find("d/edited")); c.writes && got != "mine" {
				t.Errorf("what somebody wrote himself is %q", got)
			}
			if got := first.shows(); got != before && !c.writes {
				t.Errorf("there is\n%s\nnot\n%s", got, before)
			}
			noConflicts(t, everybody...)
			for _, s := range everybody {
				s.right()
			}
		})
	}
}

// What takes back the part of one host stays where that of another one is taken back which says the same.
func TestWhatIsTakenBackOfAnotherStays(t *testing.T) {
	all := sites(t, 4)
	a, bad, worse, c := all[0], all[1], all[2], all[3]
	for i := range 20 { // so that what is to go is not much
		a.mkdir(fmt.Sprintf("other%d", i))
	}
	meet(t, all...)
	before := a.shows()
	a.revoke(bad)
	bad.write("made", "past")
	meet(t, bad, worse, c)
	worse.unlink("made")
	worse.settle()
	meet(t, a, c)
	if took := c.revoke(bad)[bad.self]; len(took.Changes) != 1 {
		t.Fatalf("%+v", took)
	}
	meet(t, worse, c)
	_, err := c.rep.Purge(nil, worse.self, false)
	check(t, err)
	meet(t, a, c)
	if c.shows() != before {
		t.Errorf("there is\n%s\nnot\n%s", c.shows(), before)
	}
}

// What came alone, in no batch, is past a cut wherever all is here that the cut allows, whatever time it says: but for what is as old as an incarnation before, of which
// not all need be here.
func TestAlonePastACut(t *testing.T) {
	key := ed25519.NewKeyFromSeed(slices.Repeat([]byte{77}, ed25519.SeedSize))
	var bad sharefs.PeerID
	copy(bad[:], key.Public().(ed25519.PublicKey))
	now := time.Now()
	n := byte(0)
	name := func(name string, ago time.Duration) *record.Record {
		n++
		rec, err := record.New(share, bad, sharefs.HLCAt(now.Add(-ago)), &record.Place{File: sharefs.FileID{77, n}, Type: record.Directory, Parent: record.Root, Name: name})
		check(t, err)
		check(t, rec.Sign(key))
		return rec
	}
	var w record.Writer
	batch := func(incarnation uint64, ago time.Duration, recs ...*record.Record) replica.Item {
		if w.Head.Incarnation != incarnation {
			w = record.Writer{Share: share, Head: record.Head{Author: bad, Incarnation: incarnation}}
		}
		var ids []record.ID
		for _, rec := range recs {
			ids = append(ids, rec.ID())
		}
		b, err := w.Batch(sharefs.HLCAt(now.Add(-ago)), ids, key)
		check(t, err)
		return replica.Item{Batch: b, Records: recs}
	}
	alone := func(name *record.Record) replica.Item { return replica.Item{Records: []*record.Record{name}} }
	for _, before := range []bool{false, true} {
		all := sites(t, 2)
		a, c := all[0], all[1]
		w = record.Writer{}
		gives := func(items ...replica.Item) {
			check(t, must2(c.rep.Take(bad, items)))
			check(t, must2(c.apply()))
		}
		within := name("within", 3*time.Hour)
		gives(alone(within)) // it comes alone first
		if before {
			gives(batch(1, 5*time.Hour, name("in the incarnation before", 5*time.Hour)))
		}
		gives(batch(2, 2*time.Hour, within, name("within, too", 2*time.Hour)))
		gives(alone(name("older than all", 6*time.Hour)), alone(name("older than a batch", 4*time.Hour)), alone(name("newer than all", time.Minute)))
		a.says(c, &record.Cut{Author: bad, Incarnation: 2, Number: 1})
		c.revoked[bad] = true
		back := c.heed()[bad]
		check(t, must2(c.apply()))
		want := []string{"newer than all", "older than a batch"}
		if !before {
			want = append(want, "older than all")
		}
		var got []string
		for _, p := range back.Changes {
			got = append(got, p.Path)
		}
		if !slices.Equal(got, want) || c.find("within") == 0 || c.find("within, too") == 0 {
			t.Errorf("an incarnation before: %v: %q is taken back, not %q\n%s", before, got, want, c.shows())
		}
	}
}

// Whoever still trusts the one that was cut does nothing; nor does one for whom the revoker does not count, or not everywhere.
func TestACutIsNoRule(t *testing.T) {
	for what, c := range map[string]struct {
		revokes  bool
		standing replica.Standing
		told     int
	}{
		"trusts it still":        {false, replica.Merged, 1},
		"the revoker reads":      {true, replica.PassedOver, 0},
		"the revoker proposes":   {true, replica.Proposed, 0},
		"the revoker counts now": {true, replica.Merged, 1},
	} {
		t.Run(what, func(t *testing.T) {
			all := sites(t, 3)
			a, bad, o := all[0], all[1], all[2]
			o.standing = func(id sharefs.PeerID) replica.Standing {
				if id == a.self {
					return c.standing
				}
				return replica.Merged
			}
			bad.write("f", "past") // of which a has nothing
			meet(t, bad, o)
			a.says(o, &record.Cut{Author: bad.self})
			before := o.shows()
			if c.revokes {
				o.revoke(bad)
			}
			m := o.heed()
			if _, err := o.apply(); err != nil {
				t.Fatal(err)
			}
			changed := o.shows() != before
			if want := c.revokes && c.told > 0; changed != want {
				t.Errorf("%+v, %s", m, o.shows())
			}
			cuts, err := o.rep.Cuts(bad.self)
			check(t, err)
			if n := len(slices.DeleteFunc(cuts, func(cut replica.Cut) bool { return cut.By == o.self })); n != c.told {
				t.Errorf("%d cuts are told of", n)
			}
			if list, err := o.rep.Aside(a.self, replica.Proposed, replica.Held); err != nil || len(list) > 0 {
				t.Errorf("%v waits for somebody, %v", list, err)
			}
		})
	}
}

// Cuts that mean nothing, or are made up, do nothing, and no more of them are kept than one host can have peers.
func TestHostileCuts(t *testing.T) {
	race.Leave(t, race.OneHand)
	all := sites(t, 3)
	a, evil, bad := all[0], all[1], all[2]
	a.write("of a", "of a")
	bad.write("of bad", "of bad")
	evil.write("of evil", "of evil")
	meet(t, all...)
	before := a.shows()
	a.revoke(bad)
	evil.says(a, &record.Cut{Author: a.self})
	evil.says(a, &record.Cut{Author: evil.self})
	evil.says(a, &record.Cut{Author: bad.self, Incarnation: 1 << 62, Number: 1 << 62})
	evil.says(a, &record.Cut{Author: sharefs.PeerID{9}, Number: 1})
	for i := range 1100 {
		evil.says(a, &record.Cut{Author: sharefs.PeerID{8, byte(i), byte(i >> 8)}})
	}
	a.heed()
	check(t, must2(a.apply()))
	if got := a.shows(); got != before {
		t.Fatal(got)
	}
	n, last := 0, 0
	for i := range 1100 {
		cuts, err := a.rep.Cuts(sharefs.PeerID{8, byte(i), byte(i >> 8)})
		check(t, err)
		if n += len(cuts); len(cuts) > 0 {
			last = i
		}
	}
	if n > 1024 || n < 512 || last != 1099 {
		t.Errorf("%d are kept, up to the one of number %d", n, last)
	}
	if cuts, err := a.rep.Cuts(bad.self); err != nil || !slices.ContainsFunc(cuts, func(c replica.Cut) bool { return c.By == a.self }) {
		t.Errorf("its own cut went with the flood: %v, %v", cuts, err)
	}
	// What the one that is revoked says counts for nothing.
	bad.says(a, &record.Cut{Author: evil.self})
	if cuts, err := a.rep.Cuts(evil.self); err != nil || slices.ContainsFunc(cuts, func(c replica.Cut) bool { return c.By == bad.self }) {
		t.Errorf("%v, %v", cuts, err)
	}
}

// A low cut has no more be taken back than an author may remove at once, unless somebody says so.
func TestALowCutIsBounded(t *testing.T) {
	all := sites(t, 3)
	a, bad, liar := all[0], all[1], all[2]
	for i := range 12 {
		bad.write(fmt.Sprintf("f%02d", i), "of bad")
	}
	meet(t, all...)
	before := a.shows()
	liar.says(a, &record.Cut{Author: bad.self})
	for range 2 {
		got := a.revoke(bad)[bad.self]
		if check(t, must2(a.apply())); !got.Much || got.By != liar.self || len(got.Changes) != 12 || a.shows() != before {
			t.Fatalf("%+v\n%s", got, a.shows())
		}
		a.reopen()
	}
	if got, err := a.rep.TakeBack(nil, bad.self, true, true); err != nil || len(got.Changes) != 12 {
		t.Fatalf("%+v, %v", got, err)
	}
	check(t, must2(a.apply()))
	if a.shows() != before {
		t.Fatal("it was only shown")
	}
	if got, err := a.rep.TakeBack(nil, bad.self, false, true); err != nil || len(got.Changes) != 12 {
		t.Fatalf("%+v, %v", got, err)
	}
	check(t, must2(a.apply()))
	if due, err := a.rep.Overruns(); a.shows() != "" || len(due) > 0 || err != nil {
		t.Fatal(a.shows(), due, err)
	}
}

// Nor do cuts that come one after the other, each a little lower.
func TestLowerAndLowerCutsAreBounded(t *testing.T) {
	all := sites(t, 3)
	a, bad, liar := all[0], all[1], all[2]
	for i := range 20 {
		bad.write(fmt.Sprintf("f%02d", i), "of bad")
		bad.settle()
		bad.tell()
	}
	meet(t, all...)
	a.revoke(bad)
	end, err := a.rep.Lowest(bad.self)
	check(t, err)
	took, much := 0, false
	for n := end.Ends.Number; n > 0 && !much; n-- {
		liar.says(a, &record.Cut{Author: bad.self, Incarnation: end.Ends.Incarnation, Number: n - 1})
		got := a.heed()[bad.self]
		if much = got.Much; !much {
			took += len(got.Changes)
		}
		check(t, must2(a.apply()))
		a.reopen()
	}
	if left := a.count(); !much || took == 0 || took > 10 || left != 20-took {
		t.Fatalf("%d were taken back one after the other, and %d are there", took, left)
	}
}

// Who trusts a host anew takes his cut back, for all; and cuts it anew when he revokes it again, where it is by then.
func TestACutIsTakenBack(t *testing.T) {
	all := sites(t, 3)
	a, b, c := all[0], all[1], all[2]
	b.write("f", "1")
	meet(t, all...)
	a.revoke(b)
	a.reopen()
	check(t, a.rep.Cut(b.self, 0)) // it is said once
	meet(t, all...)
	first, err := c.rep.Cuts(b.self)
	check(t, err)
	if len(first) != 1 || first[0].By != a.self || first[0].Ends.Epoch != 2 || first[0].Ends.Number == 0 {
		t.Fatalf("%+v", first)
	}
	a.revoked[b.self] = false
	own, err := a.rep.OwnCuts()
	check(t, err)
	if !slices.Equal(own, []sharefs.PeerID{b.self}) {
		t.Fatal(own)
	}
	check(t, a.rep.Uncut(b.self))
	check(t, a.rep.Uncut(b.self))
	check(t, a.rep.Reconsider())
	b.write("f", "2")
	meet(t, all...)
	if cuts, err := c.rep.Cuts(b.self); err != nil || len(cuts) > 0 {
		t.Fatalf("%+v, %v", cuts, err)
	}
	if own, err := a.rep.OwnCuts(); err != nil || len(own) > 0 {
		t.Fatal(own, err)
	}
	a.revoke(b)
	c.revoke(b)
	meet(t, a, c)
	c.heed()
	check(t, must2(c.apply()))
	second, err := c.rep.Cuts(b.self)
	check(t, err)
	if len(second) != 2 || second[0].Ends.Allows(first[0].Ends.Incarnation, first[0].Ends.Number+1) == false {
		t.Fatalf("%+v", second)
	}
	if got := c.read(c.find("f")); got != "2" {
		t.Errorf("f holds %q", got)
	}
}

// Whatever a host did past a cut, hosts that revoked it come to one tree, without conflicts that were not there before.
func TestPastACutAfterAnything(t *testing.T) {
	var took atomic.Int64
	t.Cleanup(func() {
		if took.Load() == 0 {
			t.Error("nothing was taken back")
		}
	})
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 9))
			all := sites(t, 4)
			n := 0
			work := func(list ...*site) { workAndMeet(t, all, list, rnd, &n) }
			work(all...)
			bad, honest := all[3], all[:3]
			honest[0].revoke(bad)
			work(bad)
			honest[1].revoke(bad)
			work(all...)
			honest[2].revoke(bad)
			work(honest...)
			for _, s := range honest {
				due, err := s.rep.Overruns()
				check(t, err)
				for _, author := range due {
					back, err := s.rep.TakeBack(nil, author, false, true)
					check(t, err)
					took.Add(int64(len(back.Changes)))
				}
			}
			meet(t, honest...)
			same(t, honest...)
			for _, s := range honest {
				s.all = honest
				s.fetchOwn()
				s.right()
			}
		})
	}
}
