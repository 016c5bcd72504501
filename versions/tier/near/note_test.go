package near

import (
	"bytes"
	"strings"
	"testing"

	"sharefs"
	"sharefs/versions/pack"
)

func someNote() note {
	n := note{id: pack.ID{1, 2, 3}, size: 32 << 20, tail: 32<<20 - 50000, sum: 7, etag: "abc", url: "s3://host/bucket/prefix"}
	copy(n.head[:], "sharefsP and so on")
	return n
}

func TestNote(t *testing.T) {
	n := someNote()
	b := n.encode()
	// The format, byte for byte.
	want := []byte("sharefsN\x00\x01\x00\x03\x00\x17\x00\x00\x01\x02\x03" + strings.Repeat("\x00", 13) +
		"\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\xff\x3c\xb0\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00")
	if !bytes.Equal(b[:60], want) || string(b[64:82]) != "sharefsP and so on" || string(b[128:154]) != "abcs3://host/bucket/prefix" || len(b) != 4096 {
		t.Errorf("%q", b[:160])
	}
	back, err := decodeNote(b)
	if err != nil || back != n {
		t.Fatalf("%+v, %v", back, err)
	}
	if n.blocks() != 512 || n.table() != 4096+53248 || n.data() != n.table()+4096 || n.blockSize(511) != blockLen {
		t.Errorf("%d blocks, table at %d, data at %d", n.blocks(), n.table(), n.data())
	}
	for i := range b { // whichever bit is flipped, it is no note
		c := bytes.Clone(b)
		c[i] ^= 1 << (i % 8)
		if _, err := decodeNote(c); err == nil {
			t.Fatalf("byte %d", i)
		}
	}
	b[9]++
	sum := noteSum(b)
	b[60], b[61], b[62], b[63] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
	if _, err := decodeNote(b); sharefs.KindOf(err) != sharefs.KindNotSupported {
		t.Errorf("a later format: %v", err)
	}
}

func FuzzDecodeNote(f *testing.F) {
	n := someNote()
	f.Add(n.encode())
	f.Add([]byte("sharefsN"))
	f.Add(make([]byte, noteLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= noteLen { // a checksum that fits does not keep the rest from being nonsense
			sum := noteSum(b[:noteLen])
			b[60], b[61], b[62], b[63] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		}
		n, err := decodeNote(b)
		if err != nil {
			return
		}
		if n.blocks() <= 0 || n.data() <= n.table() || n.size-n.tail > pinnedMax || n.blockSize(n.blocks()-1) <= 0 {
			t.Fatalf("%+v", n)
		}
	})
}

func TestWalk(t *testing.T) {
	var w walk
	const blocks = 512
	asked := make([]bool, blocks)
	ahead := 0
	for i := range blocks { // in order: everything is asked for once, and ahead of its being read
		from, to := w.read(i, i+1, blocks, maxWindow)
		for b := from; b < to; b++ {
			if asked[b] || b <= i {
				t.Fatalf("block %d is asked for when %d is read", b, i)
			}
			asked[b] = true
		}
		if asked[i] {
			ahead++
		}
	}
	if ahead < blocks-2 {
		t.Errorf("%d of %d blocks were asked for ahead", ahead, blocks)
	}
	w = walk{}
	for _, i := range []int{100, 300, 20, 400, 200} { // not in order: nothing
		if from, to := w.read(i, i+1, blocks, maxWindow); from < to {
			t.Errorf("at %d blocks %d to %d are asked for", i, from, to)
		}
	}
	w = walk{}
	total := 0
	for _, i := range []int{1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10} { // by several readers, a little out of order
		from, to := w.read(i, i+1, blocks, maxWindow)
		total += to - from
	}
	if total < 10 {
		t.Errorf("%d blocks ahead", total)
	}
	w = walk{}
	total = 0
	for i := 0; i < 400; i += 4 { // one of several readers is late
		for _, at := range []int{i + 4, i - 30} {
			if at >= 0 {
				from, to := w.read(at, at+4, blocks, maxWindow)
				total += to - from
			}
		}
	}
	if total < 350 {
		t.Errorf("%d blocks ahead beside one who is late", total)
	}
	w = walk{}
	total = 0
	for i := range 200 { // two readers, and one who jumps about
		for _, at := range []int{i, 250 + i, (i * 197) % blocks} {
			from, to := w.read(at, at+1, blocks, maxWindow)
			total += to - from
		}
	}
	if total < 390 {
		t.Errorf("%d blocks ahead of two readers", total)
	}
	w = walk{}
	for i := range 100 { // slowly
		if from, to := w.read(i, i+1, blocks, 1); to-from > 1 {
			t.Errorf("%d blocks at once on a slow line", to-from)
		}
	}
}
