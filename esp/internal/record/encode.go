package record

import (
	"math/bits"
	"slices"
	"time"
)

const (
	minCompress = 512 // bytes; below, a zstd header and its time outweigh what can be won
	minGain     = 32  // a 1/32 (3 %) must be won, or the record goes raw

	// The path's rate is known only from what was sent. Where the encoder itself is what limits the stream, it sends
	// some bytes raw now and then, so that a path that is faster than the encoder can show it.
	busyWindow   = 4 << 20 // raw bytes over which the encoder's share of the time is taken
	busyShare    = 0.7     // from which it is held to be the bottleneck
	exploreBytes = 2 << 20
	exploreFirst = 32 << 20 // raw bytes between two such explorations, doubled each time
	exploreMax   = 1 << 30

	scratch = 64 // bytes by which zstd may pass the raw length before it knows better
)

// Options say how an [Encoder] works. The zero value is what most want.
type Options struct {
	Disabled bool                 // every record goes raw
	Now      func() time.Duration // a clock for measuring the encoder's speed; nil: the system's monotonic one
}

// Stats counts what an encoder did.
type Stats struct {
	RawBytes     uint64 // as written
	EncodedBytes uint64 // with headers
	RawRecords   uint64
	ZstdRecords  uint64
	InVain       uint64        // attempts that won too little
	Spent        time.Duration // in zstd
}

// Encoder makes records of what is written to one stream. It is not safe for concurrent use.
type Encoder struct {
	codec *Codec
	opt   Options
	stats Stats

	pause pause

	pathRate float64 // bytes/s, 0 = unknown
	rate     float64 // raw bytes/s that zstd takes on this stream's data, 0 = unknown
	measured int     // attempts that rate is the mean of, up to rateMean

	winStart time.Duration // of the busy window
	winBusy  time.Duration
	winBytes int64
	explore  int64 // raw bytes still to send uncompressed
	nextExpl int64 // raw bytes until the next exploration may begin
	explGap  int64
}

// NewEncoder returns an encoder for one stream.
func (c *Codec) NewEncoder(opt Options) *Encoder {
	if opt.Now == nil {
		origin := time.Now()
		opt.Now = func() time.Duration { return time.Since(origin) }
	}
	return &Encoder{codec: c, opt: opt, explGap: exploreFirst}
}

// SetPathRate tells how fast the path under the stream takes encoded bytes, in bytes/s; 0 where that is not known.
// Where the path is faster than the encoder, compressing would only slow the stream, so it is left out.
func (e *Encoder) SetPathRate(bytesPerSecond float64) { e.pathRate = bytesPerSecond }

// Stats returns the counters.
func (e *Encoder) Stats() Stats { return e.stats }

// MaxEncoded returns how many bytes Encode appends at most for n bytes.
func MaxEncoded(n int) int { return n + (n/chunk+1)*MaxHeader }

// Room returns how much spare capacity dst must have so that Next can encode n bytes, at most [MaxRaw], in place.
func Room(n int) int { return n + MaxHeader + scratch }

// Encode appends the records of one write to dst and returns the extended slice.
func (e *Encoder) Encode(dst, src []byte) []byte {
	for len(src) > 0 {
		var n int
		dst, n = e.Next(dst, src)
		src = src[n:]
	}
	return dst
}

// Next appends one record that holds the first n bytes of src, at most [MaxRaw], to dst. Who writes more than that
// calls it again with the rest, so that a long write can wait for room between its records. src must not be empty.
func (e *Encoder) Next(dst, src []byte) (out []byte, n int) {
	if e.opt.Disabled || len(src) < minCompress || e.explore > 0 {
		out, n = appendRaw(dst, src)
		e.countRaw(n, len(out)-len(dst))
		return out, n
	}
	if e.paused() {
		// The copy is looked at, since it is in the cache: a sample of src would wait for memory a dozen times.
		out, n = appendRaw(dst, src)
		if !e.pause.changed(out[len(out)-n:], e.pathRate) {
			e.pause.pass(n)
			e.countRaw(n, len(out)-len(dst))
			return out, n
		}
		dst = out[:len(dst)]
	}
	first := src[:min(len(src), chunk)]
	if e.pause.slow && e.pathFaster() { // it is only to be seen whether the encoder is still that slow
		first = src[:min(len(src), measureBytes)]
	}
	if e.worthTrying(first) {
		if out, ok := e.try(dst, first); ok {
			return out, len(first)
		}
	}
	out, n = appendRaw(dst, src)
	e.countRaw(n, len(out)-len(dst))
	return out, n
}

// appendRaw appends the first n bytes of src, at most [MaxRaw], as a raw record.
func appendRaw(dst, src []byte) (out []byte, n int) {
	n = min(len(src), MaxRaw)
	out = AppendHeader(slices.Grow(dst, MaxHeader+n), Header{RawLen: n, EncLen: n, Codec: codecRaw})
	return append(out, src[:n]...), n
}

func (e *Encoder) countRaw(raw, encoded int) {
	e.stats.RawRecords++
	e.count(raw, encoded)
}

func (e *Encoder) count(raw, encoded int) {
	e.stats.RawBytes += uint64(raw)
	e.stats.EncodedBytes += uint64(encoded)
	e.winBytes += int64(raw)
	e.explore -= min(e.explore, int64(raw))
	e.nextExpl -= min(e.nextExpl, int64(raw))
}

// try appends src as a compressed record; ok is false, and dst as it was, where that wins too little.
func (e *Encoder) try(dst, src []byte) (out []byte, ok bool) {
	start := e.opt.Now()
	out, ok = e.compress(dst, src)
	spent := e.opt.Now() - start
	e.stats.Spent += spent
	if !ok {
		e.fail(spent)
		return dst, false
	}
	encoded := len(out) - len(dst)
	e.won(len(src), encoded, spent)
	e.stats.ZstdRecords++
	e.count(len(src), encoded)
	e.watch(start, spent)
	return out, true
}

func (e *Encoder) compress(dst, src []byte) (out []byte, ok bool) {
	room := 2*lenLen(len(src)) + 1 // the body begins no further in, as its length is not longer than the raw one
	at := len(dst) + room
	dst = slices.Grow(dst, room+len(src)+scratch)
	body := e.codec.enc().EncodeAll(src, dst[:at])[at:]
	if len(body) > len(src)-len(src)/minGain {
		return dst, false
	}
	dst = AppendHeader(dst, Header{RawLen: len(src), EncLen: len(body), Codec: codecZstd})
	return append(dst, body...), true // moves the body down by a byte where its length is shorter; they may overlap
}

// lenLen returns how many bytes a length takes as a varint.
func lenLen(n int) int { return (bits.Len(uint(n)) + 6) / 7 }

// watch looks whether the encoder is what limits the stream, and lets it explore the path then.
func (e *Encoder) watch(start, spent time.Duration) {
	if e.winStart == 0 {
		e.winStart, e.winBusy, e.winBytes = start, 0, 0
	}
	e.winBusy += spent
	if e.winBytes < busyWindow {
		return
	}
	total := start + spent - e.winStart
	busy := total > 0 && float64(e.winBusy) > busyShare*float64(total)
	e.winStart, e.winBusy, e.winBytes = start+spent, 0, 0
	if busy && e.nextExpl == 0 {
		e.explore = exploreBytes
		e.nextExpl = e.explGap
		e.explGap = min(2*e.explGap, exploreMax)
	}
}
