package simdisk

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content1(t *testing.T, d *Disk, name string) string {
	t.Helper()
	b, err := d.ReadFile(name)
	if err != nil {
		return "none"
	}
	return string(b)
}

func TestFates(t *testing.T) {
	d := New()
	f, err := d.Create("a")
	must(t, err)
	_, err = f.WriteAt([]byte("synced"), 0)
	must(t, err)
	must(t, f.Datasync())
	if got := content1(t, d.PowerLoss(d.Len(), Lost), "a"); got != "none" {
		t.Errorf("a name that was not synced: %q", got)
	}
	must(t, d.SyncDir())
	_, err = f.WriteAt([]byte("-loose"), 6)
	must(t, err)
	_, err = f.WriteAt([]byte("-more"), 12)
	must(t, err)
	must(t, d.Remove("a"))
	n := d.Len()
	loose := d.Unsynced(n)
	if len(loose) != 3 {
		t.Fatalf("%d operations unsynced, want 3: %v", len(loose), loose)
	}
	for _, c := range []struct {
		at   int
		fate Fate
		want string
	}{
		{n, Lost, "synced"},
		{n, Kept, "none"},
		{n - 1, Kept, "synced-loose-more"},
		{n, Torn(loose[0].Index, 0), "synced"},
		{n, Torn(loose[0].Index, 3), "synced-lo"},
		{n, Torn(loose[1].Index, 1), "synced-loose-"},
		{n, Torn(loose[2].Index, 1), "none"},
		{n, func(op Op) []Span {
			if op.Index == loose[1].Index {
				return []Span{{2, 3}}
			}
			return nil
		}, "synced" + strings.Repeat("\x00", 8) + "o"},
	} {
		if got := content1(t, d.PowerLoss(c.at, c.fate), "a"); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if got := content1(t, d.Killed(n-1), "a"); got != "synced-loose-more" {
		t.Errorf("killed: %q", got)
	}
	if got := len(d.Killed(n).Unsynced(n)); got != 3 {
		t.Errorf("%d operations unsynced after the kill, want 3", got)
	}
}

// Of a write over several sectors each lands whole or not at all.
func TestScatter(t *testing.T) {
	d := New()
	f, err := d.Create("a")
	must(t, err)
	must(t, d.SyncDir())
	const size = 4 * Sector
	_, err = f.WriteAt([]byte(strings.Repeat("x", size)), 100)
	must(t, err)
	seen := map[string]bool{}
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		got := content1(t, d.PowerLoss(d.Len(), Scatter(r)), "a")
		got += strings.Repeat("\x00", 100+size-len(got))
		var sig strings.Builder
		for at := 0; at < len(got); {
			end := min(len(got), (at/Sector+1)*Sector)
			part := got[max(at, 100):end]
			if part != strings.Repeat(part[:1], len(part)) {
				t.Fatalf("the sector at %d is torn", at)
			}
			sig.WriteString(part[:1])
			at = end
		}
		seen[sig.String()] = true
	}
	if len(seen) != 32 {
		t.Errorf("%d of 32 outcomes", len(seen))
	}
}
