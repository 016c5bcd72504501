package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sharefs/internal/client"
	"sharefs/internal/term"
)

func TestSizesThatLookTheSame(t *testing.T) {
	for _, c := range []struct {
		a, b uint64
		x, y string
	}{
		{1 << 20, 1 << 20, "1.0 MiB", "1.0 MiB"},
		{1 << 20, 2 << 20, "1.0 MiB", "2.0 MiB"},
		{572 << 20, 572<<20 - 1, "599,785,472 bytes", "599,785,471 bytes"},
	} {
		if x, y := apart(term.Size, c.a, c.b); x != c.x || y != c.y {
			t.Errorf("%d, %d: %s, %s", c.a, c.b, x, y)
		}
	}
}

// What waits for room is let go before what is here, however the paths are written.
func TestUnpinInOrder(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	u := unpinning{files: []client.Presence{
		{Path: "full", State: client.HereFull}, {Path: "mixed/full", State: client.HereFull}, {Path: "mixed/sub/lacks", State: client.HereAbsent},
		{Path: "mixedup/full", State: client.HereFull}, {Path: "lacks", State: client.HerePartial}, {Path: "..more/lacks", State: client.HereAbsent},
	}}
	for _, c := range []struct{ given, want []string }{
		{[]string{"full", "lacks"}, []string{"lacks", "full"}},
		{[]string{"lacks", "full"}, []string{"lacks", "full"}},
		{[]string{"full", "mixedup", "./mixed//", "lacks"}, []string{"./mixed//", "lacks", "full", "mixedup"}},
		{[]string{"full", filepath.Join(wd, "mixed")}, []string{filepath.Join(wd, "mixed"), "full"}},
		{[]string{"mixed/full", "mixed/sub"}, []string{"mixed/sub", "mixed/full"}},
		{[]string{"full", "..more"}, []string{"..more", "full"}},
		{[]string{"full", "."}, []string{".", "full"}},
	} {
		given := slices.Clone(c.given)
		if got := u.order(c.given); !slices.Equal(got, c.want) || !slices.Equal(c.given, given) {
			t.Errorf("%q are unpinned as %q", c.given, got)
		}
	}
}
