package pack

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// large returns a chunk of some size for a seed: of four one compresses.
func large(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), 7
	rand.NewChaCha8(key).Read(b)
	if seed%4 == 0 {
		clear(b[n/3:])
	}
	return b
}

// TestUnreadReadsAsAllElse appends much more than is gathered before it is written, some of it as unread, reads at once what is in the buffer, across its end and on disk, and
// opens the store anew in the midst.
func TestUnreadReadsAsAllElse(t *testing.T) {
	dir := Dir(filepath.Join(t.TempDir(), "packs"))
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 9))
		s := open(t, dir, 12<<20)
		var locs []Loc
		var sizes []int
		must := func(i int) {
			t.Helper()
			x := uint64(i)
			got, err := s.Read(locs[i], idOf(x+1), nil)
			if err != nil || !bytes.Equal(got, large(x, sizes[i])) {
				t.Fatalf("seed %d, record %d: %d bytes instead of %d, %v", seed, i, len(got), sizes[i], err)
			}
		}
		put := s.AppendTo
		for i := range 600 {
			if i%20 == 0 {
				if put = s.AppendTo; r.IntN(3) > 0 {
					put = s.AppendUnread
				}
			}
			n := 1 + r.IntN(120_000)
			loc, err := put(Epoch{Number: 1}, TypeChunk, idOf(uint64(i)+1), large(uint64(i), n))
			if err != nil {
				t.Fatal(err)
			}
			locs, sizes = append(locs, loc), append(sizes, n)
			switch r.IntN(60) {
			case 0:
				must(i)
			case 1:
				if err := s.Sync(); err != nil {
					t.Fatal(err)
				}
			case 2, 3, 4, 5, 6, 7:
				must(r.IntN(len(locs)))
			case 8:
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, dir, 12<<20)
				put = s.AppendTo
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, 12<<20)
		for i := range locs {
			must(i)
		}
		ids, err := s.Packs()
		if err != nil || len(ids) < 2 {
			t.Fatalf("%d packs, %v", len(ids), err)
		}
		for _, id := range ids {
			if err := s.Verify(id, func(r Record, err error) { t.Errorf("%v: %v", r, err) }); err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWrittenEndsAtARecord holds what is said to be in the file of a pack that grows against the places of its records.
func TestWrittenEndsAtARecord(t *testing.T) {
	s := open(t, Dir(filepath.Join(t.TempDir(), "packs")), 64<<20)
	defer s.Close()
	ends, inside := map[int64]bool{packHeaderLen: true}, 0
	for x := range uint64(400) {
		loc, err := s.AppendTo(Epoch{Number: 1}, TypeChunk, idOf(x+1), large(x, 40_000+int(x)*7))
		if err != nil {
			t.Fatal(err)
		}
		ends[loc.end()] = true
		w := s.growsNow(loc.Pack)
		if w == nil {
			t.Fatal("the pack does not grow")
		}
		size, err := w.file.file.Size()
		if at := w.written.Load(); err != nil || size > 0 && !ends[at] || at > size {
			t.Fatalf("after %d records %d bytes of %d are said to be whole records, %v", x+1, at, size, err)
		} else if size > at {
			inside++
		}
	}
	if inside == 0 {
		t.Error("no write ended in a record: this test shows nothing")
	}
}
