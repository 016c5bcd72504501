package host

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// What a host did is taken back on all hosts, but for what others went on from; and nothing of it is lost.
func TestPurge(t *testing.T) {
	all := sites(t, 3)
	a, b, c := all[0], all[1], all[2]
	a.mkdir("d")
	a.write("d/edited", "of a")
	a.write("d/removed", "of a")
	a.write("d/moved", "of a")
	a.write("both", "of a")
	c.write("of c", "of c")
	meet(t, all...)
	before := a.shows()
	b.write("d/edited", "of b")
	b.write("both", "of b")
	b.unlink("d/removed")
	b.rename("d/moved", "elsewhere")
	b.mkdir("bdir")
	b.write("bdir/new", "of b")
	b.mkdir("shared")
	b.write("went on", "of b")
	meet(t, all...)
	a.write("both", "of a, after b")
	a.write("went on", "of a, after b")
	a.write("shared/in", "of a")
	meet(t, all...)
	dry, err := a.rep.Purge(nil, b.self, true)
	check(t, err)
	meet(t, all...)
	if a.shows() == before {
		t.Fatal("it was not only shown")
	}
	list, err := a.rep.Purge(nil, b.self, false)
	check(t, err)
	want := []replica.Purged{{What: replica.PurgeRemoves, Path: "bdir"}, {What: replica.PurgeRemoves, Path: "bdir/new"}, {What: replica.PurgeContent, Path: "d/edited"},
		{What: replica.PurgeMoves, Path: "d/moved", From: "elsewhere"}, {What: replica.PurgeRestores, Path: "d/removed"}}
	if !slices.Equal(list, want) || !slices.Equal(dry, want) {
		t.Errorf("%+v\n%+v", list, dry)
	}
	meet(t, all...)
	same(t, all...)
	for _, s := range all {
		for path, content := range map[string]string{"d/edited": "of a", "d/removed": "of a", "d/moved": "of a", "both": "of a, after b", "went on": "of a, after b", "shared/in": "of a", "of c": "of c"} {
			if got := s.read(s.find(path)); got != content {
				t.Errorf("%s holds %q, not %q", path, got, content)
			}
		}
		s.right()
	}
	noConflicts(t, all...)
	if again, err := a.rep.Purge(nil, b.self, false); err != nil || len(again) != 0 {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

// Whatever hosts did: taking back what one of them did leaves all with one tree, in which nothing of it is left to be taken back.
func TestPurgeAfterAnything(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 7))
			all := sites(t, 3)
			n := 0
			for range 3 {
				workAndMeet(t, all, all, rnd, &n)
			}
			bad := all[rnd.IntN(2)+1]
			_, err := all[0].rep.Purge(nil, bad.self, false)
			check(t, err)
			meet(t, all...)
			same(t, all...)
			for _, s := range all {
				s.right()
			}
			if again, err := all[0].rep.Purge(nil, bad.self, true); err != nil || len(again) != 0 {
				t.Errorf("%+v, %v", again, err)
			}
		})
	}
}

// What a host told of others who did not sign it goes with what it did itself, in their names as well. What they signed stays, though it came by that host.
func TestPurgeOfWhatWasTold(t *testing.T) {
	all := sites(t, 4)
	a, evil, honest, nobody := all[0], all[1], all[2], all[3]
	a.mkdir("d")
	a.write("d/f", "of a")
	a.write("g", "of a")
	honest.write("of honest", "of honest")
	meet(t, a, honest)
	meet(t, evil, honest)
	before := a.shows()
	var f, g *record.Record
	for _, rec := range a.records() {
		if p, ok := rec.Body.(*record.Place); ok && p.Name == "f" {
			f = rec
		} else if ok && p.Name == "g" {
			g = rec
		}
	}
	var head []record.ID
	for _, rec := range a.records() {
		if v, ok := rec.Body.(*record.Version); ok && v.File == f.Body.(*record.Place).File {
			head = append(head, rec.ID())
		}
	}
	n := 0
	tell := func(body record.Body) record.ID {
		n++
		inner, err := record.New(share, nobody.self, sharefs.HLCAt(time.Now())+sharefs.HLC(n), body)
		check(t, err)
		rec, err := record.New(share, evil.self, inner.HLC+1, &record.Told{Record: inner})
		check(t, err)
		check(t, rec.Sign(evil.key))
		_, err = a.rep.Take(evil.self, []replica.Item{{Records: []*record.Record{rec}}})
		check(t, err)
		return inner.ID()
	}
	dir, junk := sharefs.FileID{1}, sharefs.FileID{2}
	tell(&record.Place{File: dir, Type: record.Directory, Name: "dir"})
	tell(&record.Place{File: junk, Type: record.Regular, Parent: dir, Name: "junk"})
	tell(&record.Version{File: junk})
	tell(&record.Version{File: f.Body.(*record.Place).File, Parents: head})
	tell(&record.Place{File: g.Body.(*record.Place).File, Type: record.Regular, Parent: dir, Name: "taken"})
	tell(&record.Attr{File: f.Body.(*record.Place).File, Mode: 0o777})
	check(t, must2(a.apply()))
	if a.read(a.find("d/f")) != "" || a.find("dir/taken") == 0 || a.find("dir/junk") == 0 {
		t.Fatal(a.shows())
	}
	for range 2 {
		list, err := a.rep.Purge(nil, evil.self, false)
		check(t, err)
		a.reopen()
		check(t, must2(a.apply()))
		if got := a.shows(); got != before {
			t.Errorf("%+v\n%s\nnot\n%s", list, got, before)
		}
		a.right()
	}
}
