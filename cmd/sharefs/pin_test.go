package main

import (
	"testing"

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
