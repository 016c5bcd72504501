package versions

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestJoinedWrites holds what pieces of all sizes, with gaps, make of a file against the same in memory; the writes in between end at multiples of fillWrite.
func TestJoinedWrites(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		var key [32]byte
		key[0] = byte(seed)
		random := rand.NewChaCha8(key)
		f, err := os.Create(filepath.Join(t.TempDir(), "file"))
		check(t, err)
		w := joined{fd: int(f.Fd())}
		var want []byte
		most := []int{40, 5000, 64 << 10, 64 << 10}[seed%4]
		for range 300 {
			if r.IntN(40) == 0 {
				want = append(want, make([]byte, r.IntN(300<<10))...)
			}
			b := make([]byte, 1+r.IntN(most))
			random.Read(b)
			check(t, w.add(b, int64(len(want))))
			want = append(want, b...)
			if held := w.end - w.off; held < 0 || held >= fillWrite || len(w.pieces) >= fillPieces {
				t.Fatalf("seed %d: %d bytes in %d pieces wait", seed, held, len(w.pieces))
			}
		}
		check(t, w.write(w.end))
		got, err := os.ReadFile(f.Name())
		check(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("seed %d: the file holds other bytes", seed)
		}
		check(t, f.Close())
	}
}
