package tier_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"sharefs"
	"sharefs/versions/tier"
	"sharefs/versions/tier/membucket"
)

// A bit of what a store knows of its bucket is flipped, in each byte another one. The file is said to be damaged, or the bucket refuses the store that it seems to be another one, or
// all goes on; the root in the bucket stays one of this store, and whatever it names is there. With the file as it was all goes on.
func TestFlippedBitsOfTheState(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{}
	f.set("packs/ab/1", "one")
	cfg := config(t, b, f)
	u := start(t, cfg)
	same(t, b, f)
	u.Close()
	damaged, refused, fine := 0, 0, 0
	for at := 0; ; at++ {
		whole, err := os.ReadFile(cfg.State)
		if err != nil {
			t.Fatal(err)
		}
		if at >= len(whole) {
			break
		}
		bad := bytes.Clone(whole)
		bad[at] ^= 1 << (at % 8)
		if err := os.WriteFile(cfg.State, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		f.set(fmt.Sprintf("packs/ab/%d", 2+at), "more")
		u, err := tier.Start(cfg)
		if err != nil {
			if sharefs.KindOf(err) != sharefs.KindCorrupt {
				t.Fatalf("byte %d: %v", at, err)
			}
			damaged++
		} else {
			done := func() bool {
				s := u.Stats()
				return s.BacklogFiles == 0 && s.Behind.IsZero() && !s.Complete.IsZero()
			}
			until(t, fmt.Sprintf("it is refused, or goes on (byte %d)", at), func() bool { return u.Stats().Refused || done() })
			if u.Stats().Refused {
				refused++
			} else {
				fine++
			}
			u.Close()
		}
		named(t, b)
		if err == nil && !bytes.Equal(bad, whole) {
			// What it wrote in the place of the damaged file is the newest state, where it was not refused.
			if now, err := os.ReadFile(cfg.State); err != nil || !bytes.Equal(now, bad) {
				continue
			}
		}
		if err := os.WriteFile(cfg.State, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		u = start(t, cfg)
		same(t, b, f)
		u.Close()
	}
	if damaged == 0 || refused == 0 {
		t.Errorf("of the flips %d were said to be damage, %d refused, %d went on", damaged, refused, fine)
	}
	t.Logf("%d damaged, %d refused, %d went on", damaged, refused, fine)
}
