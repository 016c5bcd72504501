package versions

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"sharefs"
)

// nodes keeps nodes as packs do, in memory.
type nodes map[sharefs.ChunkID][]byte

func (n nodes) keep(node []byte) (id sharefs.ChunkID, err error) {
	var h [4]uint64
	for i, b := range node {
		h[i%4] = (h[i%4] ^ uint64(b)) * 1099511628211
		h[(i+1)%4] += h[i%4]
	}
	for i := range h {
		binary.BigEndian.PutUint64(id[i*8:], h[i]*0x9e3779b97f4a7c15)
	}
	n[id] = append([]byte(nil), node...)
	return id, nil
}

func (n nodes) load(id sharefs.ChunkID, _ uint8) ([]byte, error) {
	if b, ok := n[id]; ok {
		return b, nil
	}
	return nil, sharefs.KindCorrupt
}

// spansFor makes a content of n spans.
func spansFor(seed uint64, n int) []span {
	r := rand.New(rand.NewPCG(seed, 8))
	all := make([]span, n)
	for i := range all {
		all[i].len = 1 + r.Int64N(100_000)
		if r.IntN(20) == 0 {
			all[i].hole = true
			all[i].len *= 1000
			continue
		}
		for j := 0; j < 32; j += 8 {
			binary.BigEndian.PutUint64(all[i].id[j:], r.Uint64())
		}
	}
	return all
}

func build(t *testing.T, n nodes, all []span) manifest {
	t.Helper()
	m := mapper{keep: n.keep}
	for _, s := range all {
		if err := m.add(s); err != nil {
			t.Fatal(err)
		}
	}
	top, err := m.finish()
	if err != nil {
		t.Fatal(err)
	}
	return top
}

func TestManifestEqualsThePlainList(t *testing.T) {
	t.Parallel()
	for seed, n := range []int{0, 1, 2, 15, 16, 17, 100, 511, 512, 513, 5000, 40_000} {
		all := spansFor(uint64(seed), n)
		kept := nodes{}
		top := build(t, kept, all)
		if len(top.spans) > topSpans || top.level > maxLevel {
			t.Fatalf("%d spans: %d at the top of level %d", n, len(top.spans), top.level)
		}
		encoded := appendSpans(nil, top.spans)
		// The plain list: neighbouring holes are one.
		var plain []located
		var size int64
		for _, s := range all {
			if k := len(plain); s.hole && k > 0 && plain[k-1].hole {
				plain[k-1].len += s.len
			} else {
				plain = append(plain, located{s, size})
			}
			size += s.len
		}
		spans, ok := decodeSpans(encoded, size)
		if !ok {
			t.Fatal("the list at the top is not read back")
		}
		w := walker{top: manifest{top.level, spans}, size: size, load: kept.load}
		check := func(want located, at int64) {
			got, err := w.at(at)
			if err != nil {
				t.Fatal(err)
			}
			// A hole may be cut in two by the end of a node.
			if want.hole && got.hole && got.off >= want.off && got.off+got.len <= want.off+want.len && got.off <= at && at < got.off+got.len {
				return
			}
			if got != want {
				t.Fatalf("%d spans: at %d lies %+v, wanted %+v", n, at, got, want)
			}
		}
		for _, want := range plain {
			check(want, want.off)
			check(want, want.off+want.len-1)
		}
		r := rand.New(rand.NewPCG(uint64(seed), 9))
		for range min(1000, 10*len(plain)) {
			want := plain[r.IntN(len(plain))]
			check(want, want.off+r.Int64N(want.len))
		}
		if _, err := w.at(size); !errors.Is(err, sharefs.KindCorrupt) {
			t.Errorf("past the end: %v", err)
		}
	}
}

func TestAnInsertionChangesFewNodes(t *testing.T) {
	all := spansFor(3, 20_000)
	kept := nodes{}
	build(t, kept, all)
	before := len(kept)
	changed := append(append(append([]span{}, all[:7000]...), span{len: 5, id: sharefs.ChunkID{1, 2, 3, 31: 1}}), all[7000:]...)
	build(t, kept, changed)
	if fresh := len(kept) - before; fresh > 4 {
		t.Errorf("one chunk more made %d of %d nodes new", fresh, before)
	}
}

func TestManifestFaults(t *testing.T) {
	m := mapper{keep: func([]byte) (sharefs.ChunkID, error) { return sharefs.ChunkID{}, sharefs.KindNoSpace }}
	var err error
	for _, s := range spansFor(1, 600) {
		if err = m.add(s); err != nil {
			break
		}
	}
	if !errors.Is(err, sharefs.KindNoSpace) {
		t.Errorf("a node that cannot be kept: %v", err)
	}
	kept := nodes{}
	top := build(t, kept, spansFor(1, 600))
	w := walker{top: top, load: nodes{}.load}
	if _, err := w.at(0); !errors.Is(err, sharefs.KindCorrupt) {
		t.Errorf("a node that is missing: %v", err)
	}
	w = walker{top: top, load: func(sharefs.ChunkID, uint8) ([]byte, error) { return []byte{1, 2, 3}, nil }}
	if _, err := w.at(0); !errors.Is(err, sharefs.KindCorrupt) {
		t.Errorf("a node that is damaged: %v", err)
	}
}

func FuzzSpans(f *testing.F) {
	f.Add(appendSpans(nil, spansFor(1, 5)), int64(300_000))
	f.Add([]byte{3, 5, 7}, int64(6))
	f.Fuzz(func(t *testing.T, b []byte, length int64) {
		spans, ok := decodeSpans(b, length)
		if !ok {
			return
		}
		var sum int64
		for _, s := range spans {
			sum += s.len
		}
		if sum != length {
			t.Fatalf("spans fill %d of %d", sum, length)
		}
	})
}
