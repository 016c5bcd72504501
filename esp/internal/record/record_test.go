package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

// text returns n bytes that compress about as source text does.
func text(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	words := strings.Fields("func return if err != nil range for the of stream offset record encoder byte path 0x1f { } := [] ( )")
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "%s %d ", words[rng.IntN(len(words))], rng.IntN(1000))
	}
	return b.Bytes()[:n]
}

func random(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// decodeAll decodes in pieces: in arrives cut at random, out has room of random size.
func decodeAll(c *Codec, in []byte, rng *rand.Rand, maxIn, maxOut int) ([]byte, error) {
	d := c.NewDecoder()
	defer d.Close()
	var got []byte
	room := make([]byte, maxOut)
	avail := 0
	for at := 0; ; {
		if avail < len(in) {
			avail = min(len(in), avail+1+rng.IntN(maxIn))
		}
		out := room[:1+rng.IntN(maxOut)]
		o, i, err := d.Decode(out, in[at:avail])
		if err != nil {
			return got, err
		}
		got = append(got, out[:o]...)
		at += i
		if o == 0 && i == 0 && avail == len(in) {
			if d.Buffered() != 0 {
				return got, fmt.Errorf("%d bytes stay in the decoder", d.Buffered())
			}
			return got, d.End()
		}
	}
}

func TestHeaderOnTheWire(t *testing.T) {
	for _, c := range []struct {
		h   Header
		hex string
	}{
		{Header{1, 1, codecRaw}, "010100"},
		{Header{127, 127, codecRaw}, "7f7f00"},
		{Header{128, 100, codecZstd}, "80016401"},
		{Header{16384, 16383, codecZstd}, "808001ff7f01"},
		{Header{MaxRaw, MaxRaw, codecRaw}, "80801080801000"},
	} {
		if got := hex.EncodeToString(AppendHeader(nil, c.h)); got != c.hex {
			t.Errorf("%+v encodes to %s, want %s", c.h, got, c.hex)
		}
		b, _ := hex.DecodeString(c.hex)
		for n := range len(b) {
			if h, m, err := ParseHeader(b[:n]); m != 0 || err != nil {
				t.Errorf("%x: cut at %d: %+v %d %v, want to wait", b, n, h, m, err)
			}
		}
		if h, n, err := ParseHeader(append(b, 0xff)); h != c.h || n != len(b) || err != nil {
			t.Errorf("%x parses to %+v, %d, %v", b, h, n, err)
		}
	}
}

func TestBadHeaders(t *testing.T) {
	for name, s := range map[string]string{
		"raw length zero":         "00",
		"encoded length zero":     "0100",
		"raw too long":            "818010",
		"four bytes":              "80808001",
		"encoded too long":        "8080108180100 0",
		"long form of 1":          "818000",
		"raw with other length":   "050400",
		"zstd that does not gain": "050501",
		"zstd that grows":         "050601",
		"unknown codec":           "050402",
		"codec 255":               "0504ff",
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			b, _ = hex.DecodeString(s[:len(s)-3])
		}
		if _, n, err := ParseHeader(b); err == nil || n != 0 || !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s (%x): %d, %v; want an error", name, b, n, err)
		}
		d := NewCodec().NewDecoder()
		for range 2 { // the error stays
			if o, i, err := d.Decode(make([]byte, 10), b); o != 0 || i != 0 || !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: decoder: %d %d %v", name, o, i, err)
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	c := NewCodec()
	rapid.Check(t, func(t *rapid.T) {
		e := c.NewEncoder(Options{})
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var wire, want []byte
		for range rapid.IntRange(1, 6).Draw(t, "writes") {
			n := 1 + rng.IntN(1<<rng.IntN(17))
			src := text(rng.Uint64(), n)
			if rng.IntN(3) == 0 {
				src = random(rng.Uint64(), n)
			}
			before := len(wire)
			wire = e.Encode(wire, src)
			if grown := len(wire) - before; grown > MaxEncoded(n) {
				t.Fatalf("%d bytes became %d, MaxEncoded says %d", n, grown, MaxEncoded(n))
			}
			want = append(want, src...)
		}
		got, err := decodeAll(c, wire, rng, 1<<rng.IntN(20), 1<<rng.IntN(20))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came back as %d, equal %v, %v", len(want), len(got), bytes.Equal(got, want), err)
		}
		s := e.Stats()
		if s.RawBytes != uint64(len(want)) || s.EncodedBytes != uint64(len(wire)) {
			t.Fatalf("stats %+v of %d bytes in %d", s, len(want), len(wire))
		}
	})
}

func TestTextShrinksAndRandomDoesNotGrow(t *testing.T) {
	c := NewCodec()
	if n := len(c.NewEncoder(Options{}).Encode(nil, text(1, 1<<20))); n > 1<<19 {
		t.Errorf("1 MiB of text became %d bytes", n)
	}
	if n := len(c.NewEncoder(Options{}).Encode(nil, random(1, 1<<20))); n > 1<<20+9*MaxHeader {
		t.Errorf("1 MiB of random bytes became %d bytes", n)
	}
	if n := len(c.NewEncoder(Options{Disabled: true}).Encode(nil, text(1, 1<<20))); n < 1<<20 {
		t.Errorf("a disabled encoder compressed to %d bytes", n)
	}
	if n := len(c.NewEncoder(Options{}).Encode(nil, text(1, minCompress-1))); n != minCompress-1+5 {
		t.Errorf("a short text became %d bytes", n)
	}
}

// TestBackoff follows the pauses after attempts in vain: 2, 4, 8 … 64 records.
func TestBackoff(t *testing.T) {
	e := NewCodec().NewEncoder(Options{})
	src := random(3, 1000)
	var gaps []int
	last := uint64(0)
	for i := range 400 {
		e.Encode(nil, src)
		if s := e.Stats(); s.InVain != last {
			last = s.InVain
			gaps = append(gaps, i)
		}
	}
	want := []int{0, 3, 8, 17, 34, 67, 132, 197, 262, 327, 392}
	if fmt.Sprint(gaps) != fmt.Sprint(want) {
		t.Errorf("attempts at records %v, want %v", gaps, want)
	}
	// Text of some length ends the pause at once, shorter text when it is over.
	n := e.Stats().ZstdRecords
	e.Encode(nil, text(1, 8000))
	if e.Stats().ZstdRecords != n+1 {
		t.Error("text after random bytes was not noticed")
	}
}

// TestExplores lets the encoder be the bottleneck: it must send some bytes raw, ever more rarely, to learn of the path.
func TestExplores(t *testing.T) {
	var now time.Duration
	calls := 0
	clock := func() time.Duration { // a millisecond goes by in each attempt and none beside
		if calls++; calls%2 == 0 {
			now += time.Millisecond
		}
		return now
	}
	e := NewCodec().NewEncoder(Options{Now: clock})
	src := make([]byte, chunk)
	explored := func(total int) (raw int) {
		before := e.Stats().RawBytes
		zstd := e.Stats().ZstdRecords
		for e.Stats().RawBytes < before+uint64(total) {
			e.Next(nil, src)
		}
		return int(e.Stats().RawBytes-before) - int(e.Stats().ZstdRecords-zstd)*chunk
	}
	if got := explored(16 << 20); got != exploreBytes {
		t.Errorf("first 16 MiB: %d bytes raw, want %d", got, exploreBytes)
	}
	if got := explored(112 << 20); got != 2*exploreBytes { // after 32 MiB, and 64 MiB after that
		t.Errorf("next 112 MiB: %d bytes raw", got)
	}
	idle := NewCodec().NewEncoder(Options{Now: clock})
	for range 128 {
		idle.Encode(nil, src)
		now += 10 * time.Millisecond // the writer waits for the path
	}
	if n := idle.Stats().RawRecords; n != 0 {
		t.Errorf("a path that is the bottleneck was explored %d times", n)
	}
}

// TestLook holds that random bytes look random at any length and seed, and text and machine code do not.
func TestLook(t *testing.T) {
	for name, look := range map[string]func([]byte) bool{"look": looksRandom, "glance": glancesRandom} {
		for n := minCompress; n < 1<<17; n = 3*n + 1 {
			for seed := range uint64(5) {
				if !look(random(seed, n)) {
					t.Errorf("%s: %d random bytes of seed %d do not look random", name, n, seed)
				}
				if look(text(seed, n)) {
					t.Errorf("%s: %d bytes of text of seed %d look random", name, n, seed)
				}
			}
		}
	}
}

func zstdBody(t *testing.T, plain []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(plain, nil)
}

// TestBombs sends bodies that decode to more, or less, than they promise, and frames that want much memory.
func TestBombs(t *testing.T) {
	zeros := make([]byte, 64<<20)
	bomb := zstdBody(t, zeros)
	var stream bytes.Buffer // without a content size in its frame header
	w, _ := zstd.NewWriter(&stream, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	io.Copy(w, bytes.NewReader(zeros))
	w.Close()
	for name, c := range map[string]struct {
		raw  int
		body []byte
	}{
		"64 MiB in 256 KiB":      {MaxRaw, bomb},
		"64 MiB in 5000 B":       {5000, bomb[:min(len(bomb), 4999)]},
		"no size, large window":  {MaxRaw, stream.Bytes()},
		"one byte more":          {9999, zstdBody(t, zeros[:10000])},
		"one byte less":          {10001, zstdBody(t, zeros[:10000])},
		"two frames, too much":   {10000, append(zstdBody(t, zeros[:9000]), zstdBody(t, zeros[:9000])...)},
		"truncated":              {10000, zstdBody(t, zeros[:10000])[:8]},
		"not zstd":               {10000, []byte("not at all zstd")},
		"only a skippable frame": {10000, []byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0}},
	} {
		in := append(AppendHeader(nil, Header{c.raw, len(c.body), codecZstd}), c.body...)
		for _, room := range []int{1, 2 * MaxRaw} {
			d := NewCodec().NewDecoder()
			out := make([]byte, room)
			var err error
			for i, at := 0, 0; err == nil; at += i {
				var o int
				if o, i, err = d.Decode(out, in[at:]); o == 0 && i == 0 && err == nil {
					break
				}
				if o > 0 {
					t.Errorf("%s: %d bytes came out", name, o)
					break
				}
			}
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v, want ErrCorrupt", name, err)
			}
			if d.End() != err || d.Buffered() != 0 || d.body != nil || d.plain != nil {
				t.Errorf("%s: after the error End is %v, %d buffered", name, d.End(), d.Buffered())
			}
		}
	}
}

func TestEndWithinARecord(t *testing.T) {
	c := NewCodec()
	wire := c.NewEncoder(Options{}).Encode(nil, text(1, 10000))
	for _, n := range []int{1, 2, 5, 10, len(wire) - 1} {
		if _, err := decodeAll(c, wire[:n], rand.New(rand.NewPCG(1, 1)), 100, 100); err != io.ErrUnexpectedEOF {
			t.Errorf("cut at %d of %d: %v", n, len(wire), err)
		}
	}
	d := c.NewDecoder()
	if err := d.End(); err != nil {
		t.Errorf("an empty stream: %v", err)
	}
	d.Decode(nil, wire) // all consumed, nothing read
	if d.Buffered() != 10000 || d.End() != io.ErrUnexpectedEOF {
		t.Errorf("%d buffered, End %v", d.Buffered(), d.End())
	}
	d.Close()
	d.Close()
	if _, _, err := d.Decode(make([]byte, 1), wire); err != io.ErrClosedPipe {
		t.Errorf("after Close: %v", err)
	}
}

func TestRawArrivesInPart(t *testing.T) {
	c := NewCodec()
	wire := c.NewEncoder(Options{Disabled: true}).Encode(nil, random(1, MaxRaw))
	d := c.NewDecoder()
	out := make([]byte, MaxRaw)
	if o, i, err := d.Decode(out, wire[:1007]); o != 1000 || i != 1007 || err != nil {
		t.Errorf("the first 1007 bytes gave %d, %d, %v", o, i, err)
	}
}
