package daemon

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"sharefs"
	"sharefs/versions"
)

// slowEvict frees one file after the other, the one that was used longest ago first, until enough has gone.
func slowEvict(list []versions.Here, bytes uint64, stays map[sharefs.Ino]bool) (freed []sharefs.Ino) {
	gone := uint64(0)
	for gone < bytes {
		oldest := -1
		for i := range list {
			h := &list[i]
			if h.Bytes > 0 && !stays[h.Ino] && !slices.Contains(freed, h.Ino) && (oldest < 0 || h.Used < list[oldest].Used) {
				oldest = i
			}
		}
		if oldest < 0 {
			break
		}
		gone += list[oldest].Bytes
		freed = append(freed, list[oldest].Ino)
	}
	return freed
}

// What is freed is what was used longest ago of what can be, and no more than it takes, though files are freed several at once and some stay.
func TestEvictAsTheSlowModel(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 1))
		list := make([]versions.Here, rng.IntN(3*freeBatch))
		stays := map[sharefs.Ino]bool{}
		total := uint64(1)
		for i, used := range rng.Perm(len(list)) {
			list[i] = versions.Here{Ino: sharefs.Ino(i + 2), Bytes: uint64(rng.IntN(100)), Used: sharefs.Time(used)}
			stays[list[i].Ino] = rng.IntN(4) == 0
			total += list[i].Bytes
		}
		bytes := rng.Uint64N(total)
		want := slowEvict(list, bytes, stays)
		slices.SortFunc(list, func(a, b versions.Here) int { return cmp.Compare(a.Used, b.Used) })
		var freed []sharefs.Ino
		all := evict(list, bytes, func(batch []versions.Here) (gone uint64, errs []error) {
			if len(batch) > freeBatch {
				t.Fatalf("%d at once", len(batch))
			}
			for _, h := range batch {
				if stays[h.Ino] {
					errs = append(errs, sharefs.KindBusy)
					continue
				}
				errs = append(errs, nil)
				freed = append(freed, h.Ino)
				gone += h.Bytes
			}
			return gone, errs
		})
		sum := uint64(0)
		for _, ino := range want {
			sum += list[slices.IndexFunc(list, func(h versions.Here) bool { return h.Ino == ino })].Bytes
		}
		if !slices.Equal(freed, want) || sum != 0 {
			t.Fatalf("seed %d: %d bytes: freed %v, want %v", seed, bytes, freed, want)
		}
		if all < bytes && slices.ContainsFunc(list, func(h versions.Here) bool { return h.Bytes > 0 && !stays[h.Ino] }) {
			t.Fatalf("seed %d: %d of %d bytes, and more could go", seed, all, bytes)
		}
	}
}
