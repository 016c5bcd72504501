package chunk

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"sharefs"
	"sharefs/integration/race"
)

// slowCut is the plain gear chunker: one byte a step, straight from the paper's algorithm 1 with two masks.
func slowCut(g *Gear, p *Params, b []byte) int {
	n := min(len(b), p.Max)
	var hash uint64
	for i := p.Min; i < n; i++ {
		hash = hash<<1 + g.one[b[i]]
		mask := p.loose
		if i < min(p.Avg, n) {
			mask = p.strict
		}
		if hash&mask == 0 {
			return i + 1
		}
	}
	return n
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 7})
	r.Read(b)
	return b
}

// wordy returns content with structure: words from a small vocabulary, so that cuts happen in all regions.
func wordy(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	vocabulary := random(seed, 4096)
	b := make([]byte, 0, n+16)
	for len(b) < n {
		at := r.IntN(len(vocabulary) - 16)
		b = append(b, vocabulary[at:at+1+r.IntN(16)]...)
	}
	return b[:n]
}

func TestCutEqualsTheOneByteRoll(t *testing.T) {
	g := NewGear([32]byte{1})
	tiny := params(64, 256, 1024)
	for seed := range uint64(16) {
		for _, p := range []Params{tiny, Small, Large} {
			b := wordy(seed, int(seed)*8191+int(seed%3))
			if seed%2 == 1 {
				b = random(seed, len(b))
			}
			for len(b) > 0 {
				fast, slow := g.Cut(&p, b), slowCut(g, &p, b)
				if fast != slow {
					t.Fatalf("seed %d, average %d, %d bytes left: cut at %d, the one-byte roll cuts at %d", seed, p.Avg, len(b), fast, slow)
				}
				b = b[fast:]
			}
		}
	}
	for n := range 600 {
		b := random(9, n)
		if fast, slow := g.Cut(&tiny, b), slowCut(g, &tiny, b); fast != slow {
			t.Fatalf("%d bytes: cut at %d instead of %d", n, fast, slow)
		}
	}
}

func TestLengthsStayInBoundsAroundTheAverage(t *testing.T) {
	g := NewGear([32]byte{2})
	for _, p := range []Params{Small, Large} {
		b := random(3, 200*p.Avg)
		count := 0
		for rest := b; len(rest) > 0; count++ {
			n := g.Cut(&p, rest)
			if n > p.Max || (n < p.Min && n != len(rest)) {
				t.Fatalf("a chunk of %d bytes with bounds %d and %d", n, p.Min, p.Max)
			}
			rest = rest[n:]
		}
		if mean := len(b) / count; mean < p.Avg*3/4 || mean > p.Avg*3/2 {
			t.Errorf("mean length %d, wanted about %d", mean, p.Avg)
		}
	}
}

// source is content with runs of data at known places; reads come back as short as it likes.
type source struct {
	data  []byte
	runs  [][2]int64 // where nil, the source is dense
	short *rand.Rand // where not nil, ReadAt returns fewer bytes than asked for
}

func (s *source) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(s.data)) {
		return 0, io.EOF
	}
	if s.short != nil && len(b) > 1 {
		b = b[:1+s.short.IntN(len(b))]
	}
	n := copy(b, s.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (s *source) NextData(off int64) (int64, int64, error) {
	if s.runs == nil {
		return off, int64(len(s.data)), nil
	}
	for _, run := range s.runs {
		if run[1] > off {
			return max(run[0], off), run[1], nil
		}
	}
	return 1 << 62, 1 << 62, nil
}

type seen struct {
	off, n int64
	hole   bool
}

// collect reads all pieces and checks that they join without a gap and hold the content.
func collect(t *testing.T, c *Chunker, data []byte) []seen {
	t.Helper()
	var all []seen
	var at int64
	for {
		p, err := c.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.Off != at || p.Len <= 0 || (p.Data != nil && int64(len(p.Data)) != p.Len) {
			t.Fatalf("piece at %d of %d bytes (%d of data), wanted one at %d", p.Off, p.Len, len(p.Data), at)
		}
		want := data[p.Off : p.Off+p.Len]
		if p.Data != nil && !bytes.Equal(p.Data, want) || p.Data == nil && !isZero(want) {
			t.Fatalf("the piece at %d does not hold the content", p.Off)
		}
		at += p.Len
		all = append(all, seen{p.Off, p.Len, p.Data == nil})
	}
	if at != int64(len(data)) {
		t.Fatalf("pieces end at %d of %d", at, len(data))
	}
	return all
}

func TestChunkerEqualsCuttingTheWholeContent(t *testing.T) {
	g := NewGear([32]byte{3})
	c := NewChunker(g)
	for seed := range uint64(8) {
		p := Small
		if seed%3 == 0 {
			p = Large
		}
		data := wordy(seed, int(seed*seed)*40_009)
		var want []seen
		for at := 0; at < len(data); {
			n := slowCut(g, &p, data[at:])
			want = append(want, seen{int64(at), int64(n), isZero(data[at : at+n])})
			at += n
		}
		for _, short := range []*rand.Rand{nil, rand.New(rand.NewPCG(seed, 2))} {
			c.Reset(&source{data: data, short: short}, int64(len(data)), p)
			got := collect(t, c, data)
			if len(got) != len(want) {
				t.Fatalf("seed %d: %d pieces instead of %d", seed, len(got), len(want))
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("seed %d: piece %d is %v instead of %v", seed, i, got[i], want[i])
				}
			}
		}
	}
}

func TestSparseContent(t *testing.T) {
	race.Leave(t, race.OneHand)
	g := NewGear([32]byte{4})
	c := NewChunker(g)
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		data := make([]byte, r.IntN(3<<20))
		var runs [][2]int64
		for at := int64(r.IntN(300_000)); at < int64(len(data)); {
			end := min(at+1+int64(r.IntN(300_000)), int64(len(data)))
			copy(data[at:end], wordy(seed, int(end-at)))
			runs = append(runs, [2]int64{at, end})
			at = end + int64(r.IntN(200_000))
		}
		if runs == nil {
			runs = [][2]int64{}
		}
		c.Reset(&source{data: data, runs: runs, short: r}, int64(len(data)), Small)
		collect(t, c, data)
	}
}

func TestHugeHoleCostsOnePiece(t *testing.T) {
	c := NewChunker(NewGear([32]byte{5}))
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 1 << 40
	island := random(1, 100_000)
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(island, size/2); err != nil {
		t.Fatal(err)
	}
	c.Reset(File{f}, size, Large)
	pieces, data := 0, int64(0)
	var at int64
	for {
		p, err := c.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.Off != at {
			t.Fatalf("a gap before %d", p.Off)
		}
		at += p.Len
		pieces++
		data += int64(len(p.Data))
	}
	if at != size || pieces > 20 || data < int64(len(island)) || data > int64(len(island))+1<<20 {
		t.Fatalf("%d pieces to %d with %d bytes of data", pieces, at, data)
	}
}

func TestWrittenZerosAndHolesGiveTheSameData(t *testing.T) {
	g := NewGear([32]byte{6})
	data := append(append(random(1, 1<<20), make([]byte, 4<<20)...), random(2, 1<<20)...)
	sparse := &source{data: data, runs: [][2]int64{{0, 1 << 20}, {5 << 20, 6 << 20}}}
	h := NewHasher([32]byte{1})
	ids := func(s *source) map[sharefs.ChunkID]bool {
		c := NewChunker(g)
		c.Reset(s, int64(len(data)), Small)
		found := map[sharefs.ChunkID]bool{}
		for {
			p, err := c.Next()
			if err == io.EOF {
				return found
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.Data != nil {
				found[h.ID(p.Data)] = true
			}
		}
	}
	dense, holes := ids(&source{data: data}), ids(sparse)
	shared := 0
	for id := range holes {
		if dense[id] {
			shared++
		}
	}
	if shared < len(holes)-8 {
		t.Errorf("only %d of %d chunks are shared", shared, len(holes))
	}
}

func TestShorterContentAndFailingReadsAreErrors(t *testing.T) {
	c := NewChunker(NewGear([32]byte{7}))
	last := func(src io.ReaderAt, size int64) error {
		c.Reset(src, size, Small)
		for {
			if _, err := c.Next(); err != nil {
				return err
			}
		}
	}
	err := last(bytes.NewReader(make([]byte, 1000)), 5000)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, sharefs.KindAgain) {
		t.Errorf("content that became shorter: %v", err)
	}
	if err := last(failing{}, 10); err == nil || err == io.EOF {
		t.Errorf("a failing read: %v", err)
	}
	if err := last(bytes.NewReader(nil), 0); err != io.EOF {
		t.Errorf("empty content: %v", err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, os.ErrPermission }

func TestInsertSharesMost(t *testing.T) {
	g := NewGear([32]byte{8})
	h := NewHasher([32]byte{2})
	before := random(4, 4<<20)
	r := rand.New(rand.NewPCG(1, 1))
	after := bytes.Clone(before)
	for range 16 {
		at := r.IntN(len(after))
		after = append(after[:at:at], append([]byte("sixteen more here"), after[at:]...)...)
	}
	ids := map[sharefs.ChunkID]bool{}
	for rest := before; len(rest) > 0; {
		n := g.Cut(&Small, rest)
		ids[h.ID(rest[:n])] = true
		rest = rest[n:]
	}
	fresh := 0
	for rest := after; len(rest) > 0; {
		n := g.Cut(&Small, rest)
		if !ids[h.ID(rest[:n])] {
			fresh += n
		}
		rest = rest[n:]
	}
	if fresh > 16*3*Small.Avg {
		t.Errorf("16 small inserts make %d bytes new", fresh)
	}
}

// The vector is from BLAKE3's test_vectors.json: keyed hash of the empty input.
func TestIDIsKeyedBLAKE3(t *testing.T) {
	var key [32]byte
	copy(key[:], "whats the Elvish word for friend")
	h := NewHasher(key)
	h.ID([]byte("something else first"))
	const want = "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26"
	if got := h.ID(nil); hex.EncodeToString(got[:]) != want {
		t.Errorf("got %s", got)
	}
	if NewHasher([32]byte{1}).ID([]byte("x")) == NewHasher([32]byte{2}).ID([]byte("x")) {
		t.Error("the key does not matter")
	}
	if *NewGear([32]byte{1}) == *NewGear([32]byte{2}) {
		t.Error("the key does not matter to the gear table")
	}
}

// Formats depend on the cuts: another table or masks would share nothing with what is stored.
func TestCutsArePinned(t *testing.T) {
	g := NewGear([32]byte{42})
	b := random(42, 1<<20)
	var got []int
	for rest := b; len(rest) > 0 && len(got) < 6; {
		n := g.Cut(&Small, rest)
		got = append(got, n)
		rest = rest[n:]
	}
	want := []int{18543, 25636, 14827, 16982, 18479, 16529}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("cuts %v, wanted %v", got, want)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add([]byte("some seed"), uint16(3))
	f.Add(random(1, 3000), uint16(900))
	g := NewGear([32]byte{9})
	p := params(64, 256, 1024)
	f.Fuzz(func(t *testing.T, b []byte, repeat uint16) {
		if len(b) > 0 {
			b = bytes.Repeat(b, 1+int(repeat)%(1+8192/len(b)))
		}
		for len(b) > 0 {
			n := g.Cut(&p, b)
			if n != slowCut(g, &p, b) {
				t.Fatalf("cut at %d, the one-byte roll cuts at %d", n, slowCut(g, &p, b))
			}
			b = b[n:]
		}
	})
}

func BenchmarkChunkAndName(b *testing.B) {
	data := random(1, 64<<20)
	c := NewChunker(NewGear([32]byte{1}))
	h := NewHasher([32]byte{1})
	for _, named := range []bool{false, true} {
		b.Run(map[bool]string{false: "cut", true: "cut+name"}[named], func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				c.Reset(bytes.NewReader(data), int64(len(data)), Large)
				for {
					p, err := c.Next()
					if err != nil {
						break
					}
					if named {
						h.ID(p.Data)
					}
				}
			}
		})
	}
}
