package record

import "testing"

func benchEncode(b *testing.B, src []byte, opt Options) {
	e := NewCodec().NewEncoder(opt)
	benchWith(b, e, src)
}

func benchWith(b *testing.B, e *Encoder, src []byte) {
	var dst []byte
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		dst = e.Encode(dst[:0], src)
	}
	b.ReportMetric(float64(e.Stats().RawBytes)/float64(e.Stats().EncodedBytes), "ratio")
}

func BenchmarkEncodeText(b *testing.B)   { benchEncode(b, text(1, 1<<20), Options{}) }
func BenchmarkEncodeRandom(b *testing.B) { benchEncode(b, random(1, 1<<20), Options{}) }

// On a path of 1.5 GB/s, as loopback is.
func BenchmarkEncodeTextFast(b *testing.B)   { benchFast(b, text(1, 1<<20)) }
func BenchmarkEncodeRandomFast(b *testing.B) { benchFast(b, random(1, 1<<20)) }

func benchFast(b *testing.B, src []byte) {
	e := NewCodec().NewEncoder(Options{})
	e.Encode(nil, src)
	e.SetPathRate(1.5e9)
	for range 64 {
		e.Encode(nil, src)
	}
	benchWith(b, e, src)
}

func BenchmarkEncodeRaw(b *testing.B)      { benchEncode(b, random(1, 1<<20), Options{Disabled: true}) }
func BenchmarkEncodeText1K(b *testing.B)   { benchEncode(b, text(1, 1<<10), Options{}) }
func BenchmarkEncodeRandom1K(b *testing.B) { benchEncode(b, random(1, 1<<10), Options{}) }
func BenchmarkEncodeRaw1K(b *testing.B)    { benchEncode(b, random(1, 1<<10), Options{Disabled: true}) }
func BenchmarkLook(b *testing.B)           { benchLook(b, looksRandom) }
func BenchmarkGlance(b *testing.B)         { benchLook(b, glancesRandom) }

func benchLook(b *testing.B, look func([]byte) bool) {
	src := random(1, 1<<16)
	for b.Loop() {
		look(src)
	}
}

func BenchmarkDecodeText(b *testing.B) {
	c := NewCodec()
	src := text(1, 1<<20)
	wire := c.NewEncoder(Options{}).Encode(nil, src)
	out := make([]byte, len(src))
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		d := c.NewDecoder()
		for o, i := 0, 0; o < len(src); {
			n, m, err := d.Decode(out[o:], wire[i:])
			if err != nil {
				b.Fatal(err)
			}
			o, i = o+n, i+m
		}
	}
}
