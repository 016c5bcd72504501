package host

import (
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// What an author proposes changes nothing until somebody decides, also if he may write since, and a restart knows it still.
func TestWhatIsProposedWaits(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	level := replica.Proposed
	b.standing = func(sharefs.PeerID) replica.Standing { return level }
	b.reopen()
	a.write("f", "proposed")
	meet(t, all...)
	if got := b.shows(); got != "" {
		t.Fatalf("b has\n%s", got)
	}
	level = replica.Merged
	for range 2 {
		list, err := b.rep.Aside(a.self, replica.Proposed)
		check(t, err)
		count, err := b.rep.AsideCounts()
		check(t, err)
		if len(list) < 3 || count[a.self][replica.Proposed] != len(list) {
			t.Fatalf("%d proposed records, %v", len(list), count)
		}
		if s, ok, err := b.rep.StandingOf(list[0].ID()); s != replica.Proposed || !ok || err != nil {
			t.Fatal(s, ok, err)
		}
		if n, ok, err := b.rep.Find(a.self, "f"); !ok || err != nil || n.Version == nil {
			t.Fatalf("the tree of the proposer has no f: %v %v", n, err)
		}
		b.reopen()
	}
	list, err := b.rep.Aside(a.self, replica.Proposed)
	check(t, err)
	var ids []record.ID
	for _, rec := range list {
		ids = append(ids, rec.ID())
	}
	check(t, b.rep.Decide(replica.Merged, append(ids, record.ID{1})...))
	check(t, b.rep.Decide(replica.Known, ids...)) // what is merged stays so
	b.reopen()
	meet(t, all...)
	if got := b.shows(); !strings.Contains(got, "f 100644") {
		t.Fatalf("b has\n%s", got)
	}
	if list, err := b.rep.Aside(a.self, replica.Proposed); len(list) > 0 || err != nil {
		t.Fatal(list, err)
	}
}

// What is passed over is counted once, however it comes, over restarts, and no more as soon as its author counts.
func TestWhatIsPassedOverIsCounted(t *testing.T) {
	all := filled(t, 3)
	a, b, c := all[0], all[1], all[2]
	level := replica.PassedOver
	c.standing = func(author sharefs.PeerID) replica.Standing {
		if author == a.self {
			return level
		}
		return replica.Merged
	}
	c.reopen()
	b.hear(a, 1<<20)
	want := uint64(0)
	for _, i := range a.log() {
		want += uint64(len(i.Records))
	}
	is := func(want uint64, via ...sharefs.PeerID) {
		t.Helper()
		list, err := c.rep.PassedOver()
		check(t, err)
		if want == 0 && len(list) == 0 {
			return
		}
		if len(list) != 1 || list[0].Author != a.self || list[0].Records != want || !slices.Contains(via, list[0].Via) {
			t.Fatalf("%v, want %d", list, want)
		}
	}
	c.hear(b, 1)
	c.hear(a, 1<<20)
	is(want, a.self, b.self)
	c.hear(b, 1<<20)
	c.reopen()
	is(want, a.self, b.self)
	single := replica.Item{Records: []*record.Record{a.log()[0].Records[0]}}
	for range 2 {
		_, err := c.rep.Take(b.self, []replica.Item{single})
		check(t, err)
	}
	is(want+1, b.self)
	// A relay that makes something up is told so, and it is not counted.
	raw := slices.Clone(a.log()[0].Records[1].Bytes())
	raw[len(raw)-1] ^= 1
	forged, err := record.Decode(raw)
	check(t, err)
	if _, err := c.rep.Take(b.self, []replica.Item{{Records: []*record.Record{forged}}}); sharefs.KindOf(err) != sharefs.KindCorrupt {
		t.Fatal(err)
	}
	is(want+1, b.self)
	if log := c.log(); len(log) > 0 {
		t.Fatalf("%d items are kept", len(log))
	}
	level = replica.Merged
	is(0)
	check(t, c.rep.Reconsider())
	meet(t, all...)
	level = replica.PassedOver
	is(0)
}

// Of a batch some records can count and others not: it is in the log as it is.
func TestABatchOfWhichAPartCounts(t *testing.T) {
	all := sites(t, 3)
	a, b := all[0], all[1]
	a.write("yes", "1")
	a.write("no", "2")
	a.settle()
	a.tell()
	var yes sharefs.FileID
	for _, rec := range a.records() {
		if p, ok := rec.Body.(*record.Place); ok && p.Name == "yes" {
			yes = p.File
		}
	}
	b.part = func(rec *record.Record) replica.Standing {
		of := sharefs.FileID{}
		switch body := rec.Says().Body.(type) {
		case *record.Place:
			of = body.File
		case *record.Version:
			of = body.File
		case *record.Attr:
			of = body.File
		}
		if of == yes {
			return replica.Merged
		}
		return replica.PassedOver
	}
	b.reopen()
	meet(t, a, b)
	b.reopen()
	if got := b.shows(); !strings.Contains(got, "yes") || strings.Contains(got, "no") {
		t.Fatalf("b has\n%s", got)
	}
	if list, err := b.rep.Aside(a.self, replica.PassedOver); len(list) == 0 || err != nil {
		t.Fatal(list, err)
	}
	meet(t, b, all[2]) // who has another rule
	if got := all[2].shows(); !strings.Contains(got, "yes") || !strings.Contains(got, "no") {
		t.Fatalf("a third host has\n%s", got)
	}
	if s := replica.Standing(77); s.String() != "unknown" || replica.Held.String() != "held" {
		t.Error(s)
	}
}
