package record

import "time"

// When an attempt to compress is made, and when not.
//
// An attempt is in vain where the data do not shrink, or where the path would have taken the bytes it saved in less time
// than it took. After each one in vain the encoder pauses: for 2, 4, 8 … 64 records; and, once it has come to 64, until
// the path has had the time for 256 times what the last attempt lost, so that attempts in vain cost 0.4 % of the time of
// a fast path. What ends a pause before:
//
//	the path turns out to be slower than the encoder    at the next record, where speed was the reason
//	a record does not look random any more              where the data were the reason: records of at least 4 KiB are looked at, each
//	                                                    one on a path up to 16 MB/s, on the fastest one in 256 KiB
//
// So text after random bytes is found within 256 KiB and a record (in records of less than 4 KiB within the pause), and
// whatever else makes compression pay, such as repetitions of random bytes, which a look does not see, within the pause:
// 64 records, or what the path takes in 0.1 s, but 128 MiB at most.
const (
	maxBackoff = 6

	attemptShare = 256
	maxPause     = 100 * time.Millisecond // of the path's time, longer than 64 records
	maxHold      = 128 << 20              // bytes

	lookInstead = 16 << 10               // attempts on shorter records begin with a look at the entropy, since there it is cheaper
	lookDuring  = 4 << 10                // the shortest record that is looked at during a pause
	lookTime    = 250 * time.Microsecond // of the path's time between two such looks, a thousand times what one takes
	maxLookGap  = 256 << 10              // bytes

	measureBytes = 16 << 10 // of an attempt that is there to measure the encoder's speed
	rateMean     = 8        // attempts of which that speed is the mean, the older ones fading
)

// pause is a time without attempts. It is over when records and bytes are both spent.
type pause struct {
	backoff int   // exponent of the number of records of the last one
	records int   // still to go raw
	bytes   int64 // likewise
	slow    bool  // the path is faster than the encoder; else the data do not compress

	unseen int64 // bytes since the last look
	looked bool  // a look has ended the pause
	blind  bool  // and has misled: what the data look like says nothing, until an attempt succeeds
}

// start begins the next pause, after an attempt that has lost so much time on a path of that rate (bytes/s; 0: unknown).
func (p *pause) start(slow bool, lost time.Duration, pathRate float64) {
	if slow != p.slow {
		p.slow, p.backoff = slow, 0
	}
	p.backoff = min(p.backoff+1, maxBackoff)
	p.records, p.bytes = 1<<p.backoff, 0
	if p.backoff == maxBackoff {
		p.bytes = int64(min(min(attemptShare*lost, maxPause).Seconds()*pathRate, maxHold))
	}
}

// stop ends the pause; the next one is a short one again.
func (p *pause) stop() { p.backoff, p.records, p.bytes = 0, 0, 0 }

// pass counts a record of n raw bytes that went by.
func (p *pause) pass(n int) {
	p.records -= min(p.records, 1)
	p.bytes -= min(p.bytes, int64(n))
}

// changed looks at a record, now and then, and ends the pause where it looks as if it would compress.
func (p *pause) changed(record []byte, pathRate float64) bool {
	p.unseen += int64(len(record))
	if p.slow || p.blind || len(record) < lookDuring || float64(p.unseen) < min(lookTime.Seconds()*pathRate, maxLookGap) {
		return false
	}
	p.unseen = 0
	if glancesRandom(record) {
		return false
	}
	p.looked, p.records, p.bytes = true, 0, 0
	return true
}

// paused reports whether the next record goes raw, if a look at it does not tell otherwise.
func (e *Encoder) paused() bool {
	p := &e.pause
	if p.slow && !e.pathFaster() {
		p.stop()
	}
	return p.records > 0 || p.bytes > 0
}

// pathFaster reports whether the path is known to take raw bytes at least as fast as the encoder does.
func (e *Encoder) pathFaster() bool { return e.rate > 0 && e.pathRate >= e.rate }

// worthTrying decides whether src goes through zstd, when there is no pause.
func (e *Encoder) worthTrying(src []byte) bool {
	if len(src) < lookInstead && e.pause.backoff < maxBackoff && looksRandom(src) {
		// At the longest pause the attempt is made in full, since a look does not see repetitions.
		e.fail(0)
		return false
	}
	return true
}

// fail begins a pause after an attempt that won too few bytes.
func (e *Encoder) fail(spent time.Duration) {
	e.stats.InVain++
	p := &e.pause
	p.blind = p.blind || p.looked
	p.looked = false
	p.start(false, spent, e.pathRate)
}

// won takes note of an attempt that made so few bytes of raw ones, and begins a pause where it won no time.
func (e *Encoder) won(raw, encoded int, spent time.Duration) {
	p := &e.pause
	p.looked, p.blind = false, false
	var rate float64
	if spent > 0 { // an attempt in vain is no measure: it gives up at once
		rate = float64(raw) / spent.Seconds()
		e.measured = min(e.measured+1, rateMean)
		e.rate += (rate - e.rate) / float64(e.measured)
	}
	if !e.pathFaster() {
		p.stop()
		return
	}
	if rate > e.pathRate { // it may have become faster, so it is measured again soon
		p.stop()
	}
	saved := time.Duration(float64(raw-encoded) / e.pathRate * float64(time.Second))
	p.start(true, max(spent-saved, 0), e.pathRate)
}
