package peers

import (
	"bytes"
	"os"
	"testing"

	"sharefs/integration/mounttest"
	where "sharefs/internal/client"
)

// What a host with a budget has, because it is pinned or was read there, it gives to others, although it fetched it: what is there when they ask, what comes later, and
// what is there in part.
func TestAHostWithABudgetGivesWhatItFetched(t *testing.T) {
	const size = 3 << 20
	hs := hosts(t, "", "anna", "bert", "cleo")
	a, b, c := hs[0], hs[1], hs[2]
	b.rationed("64MiB", "")
	for _, two := range [][2]*host{{a, b}, {a, c}, {b, c}} {
		pairByLink(t, two[0], two[1])
		two[0].must("grant", two[1].name, "write")
		two[1].must("grant", two[0].name, "write")
	}
	a.must("grant", "cleo", "paired") // so that anna gives cleo nothing
	want := map[string][]byte{"pinned": random(1, size), "later": random(2, size), "read": random(3, size), "part": random(4, size)}
	large := bytes.Repeat(random(5, 1<<20), 9) // the same chunks again and again
	copy(large[4<<20:], "changed in the middle")
	want["large"] = large
	for name, text := range want {
		a.do(os.WriteFile(a.Path(name), text, 0o644))
	}
	for name, text := range want {
		b.named(name, len(text))
	}
	b.must("pin", "pinned", "large")
	c.holdsFile("pinned", want["pinned"])
	c.holdsFile("large", want["large"])

	// Cleo has asked for the others in vain, which bert has not.
	if p := b.here("later"); p.State != where.HereAbsent {
		t.Errorf("%+v", p)
	}
	mounttest.WaitFor(t, "cleo to wait for the rest", func() bool { return c.status().Peers.Sync.Contents == 3 })
	b.must("pin", "later")
	c.holdsFile("later", want["later"])
	b.holdsFile("read", want["read"])
	c.holdsFile("read", want["read"])

	// A file of which bert has a part comes from there, but for what it lacks.
	f, err := os.Open(b.Path("part"))
	b.do(err)
	half := make([]byte, size/2)
	_, err = f.ReadAt(half, 0)
	b.do(err)
	b.do(f.Close())
	if p := b.here("part"); p.State != where.HerePartial || !bytes.Equal(half, want["part"][:size/2]) {
		t.Errorf("%+v", p)
	}
	a.must("grant", "cleo", "write")
	c.holdsFile("part", want["part"])

	// It gives nothing that it has not any more, and goes on to free what is not pinned.
	b.must("free", "read")
	if p := b.here("read"); p.State != where.HereAbsent {
		t.Errorf("%+v", p)
	}
	for _, h := range hs {
		if out := h.must("fsck"); !bytes.Contains([]byte(out), []byte("all is well")) {
			t.Errorf("%s: %s", h.name, out)
		}
	}
}
