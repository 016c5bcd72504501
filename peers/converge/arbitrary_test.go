package converge

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/peers/record"
)

// arbitrary makes a record that no honest author would make of a few files, names and times: types that clash, circles, parents that are no versions, removals of what never was, and
// references to records before it.
func arbitrary(rng *rand.Rand, before []*record.Record) *record.Record {
	file := func() sharefs.FileID { return sharefs.FileID{byte(1 + rng.IntN(7))} }
	parent := func() sharefs.FileID {
		if rng.IntN(3) == 0 {
			return record.Root
		}
		return file()
	}
	ids := func() (ids []record.ID) {
		for range rng.IntN(3) {
			if len(before) > 0 {
				ids = append(ids, before[rng.IntN(len(before))].ID())
			} else {
				ids = append(ids, record.ID{byte(rng.Int())})
			}
		}
		slices.SortFunc(ids, record.ID.Compare)
		return slices.Compact(ids)
	}
	// Parents of a version are nearly always versions of that file, or nothing would ever be accepted.
	parents := func(f sharefs.FileID) (ids []record.ID) {
		for _, r := range before {
			if v, ok := r.Body.(*record.Version); ok && v.File == f && rng.IntN(3) == 0 && len(ids) < 3 {
				ids = append(ids, r.ID())
			}
		}
		slices.SortFunc(ids, record.ID.Compare)
		return ids
	}
	for {
		var body record.Body
		f := file()
		typ := record.Type(1 + int(f[0])%3)
		if f[0] > 5 {
			typ = record.Directory
		}
		if rng.IntN(20) == 0 {
			typ = record.Type(1 + rng.IntN(3))
		}
		link := uint64(0)
		if typ != record.Directory {
			link = uint64(rng.IntN(3))
		}
		switch rng.IntN(8) {
		case 0, 1, 2, 3:
			body = &record.Place{File: f, Link: link, Type: typ, Parent: parent(), Name: string(rune('a' + rng.IntN(2)))}
		case 4:
			seen := ids()
			if rng.IntN(2) == 0 {
				seen = parents(f)
			}
			body = &record.Place{File: f, Link: link, Type: typ, Parent: record.Nowhere, Seen: seen}
		case 5, 6:
			v := &record.Version{File: f, Parents: parents(f), Mtime: sharefs.Time(rng.IntN(4))}
			if rng.IntN(20) == 0 {
				v.Parents = ids()
			}
			if typ == record.Symlink {
				v.Target = "x"
			}
			body = v
		case 7:
			body = &record.Attr{File: parent(), Mode: uint16(rng.IntN(8))}
		}
		if r, err := record.New(record.ShareID{}, sharefs.PeerID{byte(1 + rng.IntN(3))}, sharefs.HLC(1+rng.IntN(30)), body); err == nil {
			return r
		}
	}
}

// TestArbitraryRecords: whatever records there are, the tree is the specification's after each portion, and what was told leads to it.
func TestArbitraryRecords(t *testing.T) {
	race.Leave(t, race.OneHand)
	for seed := range uint64(rounds(250, 20000)) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var all []*record.Record
		for range 5 + rng.IntN(60) {
			all = append(all, arbitrary(rng, all))
		}
		if rng.IntN(2) == 0 {
			rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		}
		h := newHosts(&testCase{t, fmt.Sprintf("seed %d", seed)}, 1)[0]
		for rest := all; len(rest) > 0; {
			n := 1 + rng.IntN(min(len(rest), 8))
			var in []Input
			for _, r := range rest[:n] {
				s := Merged
				switch rng.IntN(12) {
				case 0, 1:
					s = Known
				case 2, 3:
					s = Leads
				}
				in = append(in, Input{r, s})
			}
			if rng.IntN(5) == 0 { // one of those before is raised, or comes again
				in = append(in, Input{all[rng.IntN(len(all)-len(rest)+n)], Merged})
			}
			h.take(in...)
			h.check()
			rest = rest[n:]
		}
	}
}

// testCase says of which case a failure is.
type testCase struct {
	*testing.T
	name string
}

func (n *testCase) Fatalf(format string, args ...any) {
	n.T.Helper()
	n.T.Fatalf("%s: "+format, append([]any{n.name}, args...)...)
}

// TestLowTrustChangesNothing compares two worlds: in the one, authors of low trust say things, in the other they are silent. As long as nobody who is trusted goes on from
// what they say, the trees are the same, and so is what is told.
func TestLowTrustChangesNothing(t *testing.T) {
	for seed := range uint64(rounds(100, 5000)) {
		rng := rand.New(rand.NewPCG(seed, 4))
		var trusted, low []*record.Record
		for range 60 {
			if rng.IntN(2) == 0 {
				trusted = append(trusted, arbitrary(rng, trusted))
			} else {
				low = append(low, arbitrary(rng, append(slices.Clone(trusted), low...)))
			}
		}
		quiet, loud := New(), New()
		for _, r := range trusted {
			a := quiet.Add(Input{r, Merged})
			for range rng.IntN(3) {
				if ops := loud.Add(Input{low[rng.IntN(len(low))], Known}); len(ops) > 0 {
					t.Fatalf("seed %d: low trust changes %v", seed, ops)
				}
			}
			if b := loud.Add(Input{r, Merged}); !reflect.DeepEqual(a, b) {
				t.Fatalf("seed %d: the same record changes %v, and %v where others spoke", seed, a, b)
			}
		}
		if d := differ(quiet.Result(), loud.Result()); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}
