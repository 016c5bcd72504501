package peers

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"sharefs/integration/mounttest"
	where "sharefs/internal/client"
)

// A host with a budget of 1 GB shows a share of 100 GB: all of it has its true size and content there, wherever it is read, what is written travels, and a pin that
// cannot be kept is refused. The files are nearly all holes, which take no room and no time; what is in them is read at their true places.
func TestOneGigabyteOfAHundred(t *testing.T) {
	const files, size, budget = 10, 10 << 30, 1_000_000_000
	a, b := spacious(t, "1GB", true)
	places := []int64{0, 3<<30 + 12345, size/2 - 100, size - 200_000}
	text := func(i, at int) []byte { return random(uint64(i*len(places)+at), 150_000) }
	name := func(i int) string { return fmt.Sprintf("large%d", i) }
	for i := range files {
		f, err := os.Create(a.Path(name(i)))
		a.do(err)
		a.do(f.Truncate(size))
		for at, place := range places {
			_, err := f.WriteAt(text(i, at), place)
			a.do(err)
		}
		a.do(f.Close())
	}
	for i := range files {
		b.named(name(i), size)
	}
	if p := b.here(name(0)); p.State != where.HereAbsent || p.Size != size {
		t.Errorf("%+v", p)
	}
	r := b.status().Room
	if r == nil || r.Budget != budget || r.AbsentFiles != files || r.Absent < files*size-1<<20 || r.Used > 1<<24 {
		t.Fatalf("%+v", r)
	}

	// wants reads a place with what lies before and behind it.
	wants := func(h *host, i int, place int64, want []byte) {
		t.Helper()
		const beside = 100_000
		from := max(place-beside, 0)
		to := min(place+int64(len(want))+beside, size)
		all := make([]byte, to-from)
		copy(all[place-from:], want)
		f, err := os.Open(h.Path(name(i)))
		h.do(err)
		defer f.Close()
		got := make([]byte, to-from)
		if _, err := f.ReadAt(got, from); err != nil || !bytes.Equal(got, all) {
			t.Errorf("%s: what lies at %d of %s is another thing: %v", h.name, place, name(i), err)
		}
	}
	for i := range files {
		for at, place := range places {
			wants(b, i, place, text(i, at))
		}
		wants(b, i, 7<<30, make([]byte, 4096)) // nothing but a hole
	}
	if p := b.here(name(1)); p.Size != size || p.Here > 1<<24 {
		t.Errorf("%+v", p)
	}

	b.says(true, []string{"it has 11 GB, and the budget of 1.0 GB has room for"}, "pin", name(2))
	if p := b.here(name(2)); p.Pinned {
		t.Errorf("%+v", p)
	}

	// What is written there travels: a new file, and a change within one of those.
	b.write("new", "by bert")
	f, err := os.OpenFile(b.Path(name(3)), os.O_WRONLY, 0)
	b.do(err)
	_, err = f.WriteAt([]byte("changed"), 8<<30)
	b.do(err)
	b.do(f.Close())
	a.holdsFile("new", []byte("by bert"))
	mounttest.WaitFor(t, "the change is there", func() bool {
		f, err := os.Open(a.Path(name(3)))
		a.do(err)
		defer f.Close()
		got := make([]byte, 7)
		_, err = f.ReadAt(got, 8<<30)
		return err == nil && string(got) == "changed"
	})
	wants(a, 3, 8<<30, []byte("changed"))
	wants(a, 3, places[1], text(3, 1))
	wants(b, 3, 8<<30, []byte("changed"))
	wants(b, 3, places[3], text(3, 3))

	mounttest.WaitFor(t, "what it takes counts", func() bool { r = b.status().Room; return r != nil && r.OverSince.IsZero() && r.Used <= budget })
	if n := b.taken(); n > budget {
		t.Errorf("%d bytes are here", n)
	}
	b.Kill()
	b.Mount.Mount()
	wants(b, 4, places[2], text(4, 2))
	if n := b.taken(); n > budget {
		t.Errorf("%d bytes are here", n)
	}
}
