package versions

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/race"
	"sharefs/versions/chunk"
)

// edited is a file that is edited at random, with what was changed noted.
type edited struct {
	t       *testing.T
	r       *rand.Rand
	f       *os.File
	content []byte // what it holds, by the slow way
	dirty   ranges
	sparse  bool
	filled  uint64
}

func newEdited(t *testing.T, seed uint64, size int, sparse bool) *edited {
	e := &edited{t: t, r: rand.New(rand.NewPCG(seed, 31)), sparse: sparse}
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "edited"), os.O_RDWR|os.O_CREATE, 0o600)
	check(t, err)
	t.Cleanup(func() { f.Close() })
	e.f = f
	for at := 0; at < size; {
		n := min(size-at, 1+e.r.IntN(1<<20))
		if sparse && e.r.IntN(2) == 0 {
			e.resize(at + n)
		} else {
			e.write(at, n)
		}
		at += n
	}
	e.dirty = ranges{}
	return e
}

// data returns bytes that are found nowhere else, a part of them zeros now and then.
func (e *edited) data(n int) []byte {
	e.filled++
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(e.filled), byte(e.filled >> 8), byte(e.filled >> 16), byte(e.r.Uint32())}).Read(b)
	if e.r.IntN(8) == 0 {
		at := e.r.IntN(n)
		clear(b[at:min(n, at+e.r.IntN(300_000))])
	}
	return b
}

func (e *edited) write(at, n int) {
	b := e.data(n)
	e.dirty.add(int64(at), int64(at+n))
	if at+n > len(e.content) {
		e.resize(at + n)
	}
	copy(e.content[at:], b)
	_, err := e.f.WriteAt(b, int64(at))
	check(e.t, err)
}

func (e *edited) resize(size int) {
	e.dirty.add(int64(min(size, len(e.content))), endless)
	if size > len(e.content) {
		e.content = append(e.content, make([]byte, size-len(e.content))...)
	}
	e.content = e.content[:size]
	check(e.t, e.f.Truncate(int64(size)))
}

func (e *edited) punch(at, n int) {
	n = min(n, len(e.content)-at)
	if n <= 0 {
		return
	}
	clear(e.content[at : at+n])
	e.dirty.add(int64(at), int64(at+n))
	check(e.t, unix.Fallocate(int(e.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(at), int64(n)))
}

// edit changes something.
func (e *edited) edit() {
	size := len(e.content)
	at := e.r.IntN(size + 1)
	n := 1 + e.r.IntN(1<<(2+e.r.IntN(17)))
	switch k := e.r.IntN(20); {
	case k == 0:
		e.resize(size - min(n, size/2))
	case k == 1:
		e.resize(size + n)
	case k == 2:
		e.write(size, n)
	case k == 3 && e.sparse:
		e.punch(at&^4095, (n+4095)&^4095)
	default:
		e.write(min(at, max(size-1, 0)), n)
	}
}

// readBack reads what a manifest leads to.
func readBack(t *testing.T, h *history, top manifest, size int64) []byte {
	t.Helper()
	r := &keptReader{h: h, size: size}
	r.walk = walker{top: top, size: size, load: h.loadNode}
	b := make([]byte, size)
	for at := int64(0); at < size; {
		l, err := r.walk.at(at)
		check(t, err)
		if l.off != at {
			t.Fatalf("at %d there is the middle of a chunk", at)
		}
		if !l.hole {
			data, err := h.readChunk(l.id, nil)
			check(t, err)
			copy(b[at:], data)
		}
		at += l.len
	}
	return b
}

// TestRecutEqualsCuttingAnew compares with the slow way, which cuts the whole content: after random edits the manifest is the same, to the names of its
// nodes, and leads to what the file holds. Holes that changed may have other cuts beside them; the content is the same then too.
func TestRecutEqualsCuttingAnew(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	tree := testTree(t, t.TempDir(), byHand)
	h := &tree.past
	unmoved := func(int64) error { return nil }
	seeds := uint64(2)
	if os.Getenv("SHAREFS_SOAK") != "" {
		seeds = 20
	}
	for seed := range seeds {
		for _, sparse := range []bool{false, true} {
			e := newEdited(t, seed, 2<<20+int(seed)*900_000, sparse)
			b := h.newBatch(h.tools)
			top, err := b.cut(e.f, int64(len(e.content)), unmoved)
			check(t, err)
			check(t, b.flush())
			size := int64(len(e.content))
			for round := range 12 {
				for range e.r.IntN(4) {
					e.edit()
				}
				now := int64(len(e.content))
				if chunk.For(now) != chunk.For(size) || now == 0 {
					break
				}
				whole, err := b.cut(e.f, now, unmoved)
				check(t, err)
				// The same with what is said by ranges, and by looking at each chunk.
				for _, how := range []string{"ranges", "names"} {
					base := &basis{top: top, size: size}
					if how == "ranges" {
						base.byRanges(&e.dirty)
					} else {
						base.byNames(b, chunk.File{File: e.f})
					}
					reused := h.counts.reused.Load()
					got, err := b.recut(chunk.File{File: e.f}, now, base, unmoved)
					check(t, err)
					check(t, b.flush())
					name := fmt.Sprintf("seed %d, sparse %v, round %d, by %s", seed, sparse, round, how)
					if !sparse && (got.level != whole.level || !slices.Equal(got.spans, whole.spans)) {
						t.Fatalf("%s: the manifest is not that of the whole content", name)
					}
					if !bytes.Equal(readBack(t, h, got, now), e.content) {
						t.Fatalf("%s: the content differs", name)
					}
					least := now - chunk.MaxLen
					if how == "names" {
						least = now / 10 // zeros that were written have no name
					}
					if saved := int64(h.counts.reused.Load() - reused); len(e.dirty.runs) == 0 && saved < least {
						t.Errorf("%s: %d of %d bytes are taken over though nothing changed", name, saved, now)
					}
					if how == "names" {
						top, size = got, now
						e.dirty = ranges{}
					}
				}
			}
			b.lease.end()
		}
	}
}
