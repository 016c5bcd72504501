package record

import (
	"math/bits"
	"slices"
	"time"
)

const (
	minCompress = 512 // bytes; below, a zstd header and its time outweigh what can be won
	maxBackoff  = 6   // at most 2^6 records are skipped after an attempt in vain
	minGain     = 32  // a 1/32 (3 %) must be won, or the record goes raw

	lookInstead = 16 << 10 // attempts on shorter records begin with a look at the entropy, since there it is cheaper
	lookDuring  = 4 << 10  // skipped records from this length on are looked at, so that text after an image is noticed

	// The path's rate is known only from what was sent. Where the encoder itself is what limits the stream, it sends
	// some bytes raw now and then, so that a path that is faster than the encoder can show it.
	busyWindow   = 4 << 20 // raw bytes over which the encoder's share of the time is taken
	busyShare    = 0.7     // from which it is held to be the bottleneck
	exploreBytes = 2 << 20
	exploreFirst = 32 << 20 // raw bytes between two such explorations, doubled each time
	exploreMax   = 1 << 30
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

	backoff int // exponent of the next pause
	skip    int // records still to go raw

	pathRate float64 // bytes/s, 0 = unknown
	rate     float64 // raw bytes/s that zstd takes on this stream's data, 0 = unknown
	since    int     // records since rate was measured

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
	first := src[:min(len(src), chunk)]
	if e.skip > 0 && len(first) >= lookDuring && !e.opt.Disabled {
		// The copy is looked at, since it is in the cache: a sample of src would wait for memory a dozen times.
		out, n = appendRaw(dst, src)
		if glancesRandom(out[len(out)-n:][:len(first)]) {
			e.skip--
			e.countRaw(n, len(out)-len(dst))
			return out, n
		}
		dst, e.skip, e.backoff = out[:len(dst)], 0, 0
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
	e.since++
}

// worthTrying decides whether src, the beginning of what is to be sent, goes through zstd.
func (e *Encoder) worthTrying(src []byte) bool {
	switch {
	case e.opt.Disabled || len(src) < minCompress:
		return false
	case e.skip > 0:
		e.skip--
		return false
	case len(src) < lookInstead && e.backoff < maxBackoff && looksRandom(src):
		// At the longest pause the attempt is made in full, since a look does not see repetitions.
		e.fail()
		return false
	}
	if e.explore > 0 {
		return false
	}
	// The encoder's speed is measured again now and then, as the data may have changed.
	return e.pathRate <= 0 || e.rate <= 0 || e.pathRate < e.rate || e.since >= 1<<maxBackoff
}

// fail lengthens the pause after an attempt in vain.
func (e *Encoder) fail() {
	e.stats.InVain++
	e.backoff = min(e.backoff+1, maxBackoff)
	e.skip = 1 << e.backoff
}

// try appends src as a compressed record; ok is false, and dst as it was, where that wins too little.
func (e *Encoder) try(dst, src []byte) (out []byte, ok bool) {
	start := e.opt.Now()
	out, ok = e.compress(dst, src)
	spent := e.opt.Now() - start
	e.stats.Spent += spent
	e.since = 0
	if !ok {
		e.fail()
		return dst, false
	}
	if spent > 0 { // an attempt in vain is no measure: it gives up at once
		r := float64(len(src)) / spent.Seconds()
		if e.rate == 0 {
			e.rate = r
		} else {
			e.rate += (r - e.rate) / 8
		}
	}
	e.backoff = 0
	e.stats.ZstdRecords++
	e.count(len(src), len(out)-len(dst))
	e.watch(start, spent)
	return out, true
}

func (e *Encoder) compress(dst, src []byte) (out []byte, ok bool) {
	room := 2*lenLen(len(src)) + 1 // the body begins no further in, as its length is not longer than the raw one
	at := len(dst) + room
	dst = slices.Grow(dst, room+len(src)+64) // zstd may pass the raw length a little before it knows better
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
