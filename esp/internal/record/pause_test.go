package record

import (
	"fmt"
	"testing"
	"time"

	"sharefs/integration/race"
)

// attempts is a clock that only attempts move, each by cost: an encoder looks at it before and after one.
type attempts struct {
	cost  time.Duration
	now   time.Duration
	calls int
}

func (a *attempts) Now() time.Duration {
	if a.calls++; a.calls%2 == 0 {
		a.now += a.cost
	}
	return a.now
}

const piece = 64 << 10 // what a stream hands to its encoder at once

// feed encodes src over and over, in pieces, until total bytes went by, or until done says so after one of them. It
// returns how many bytes that took.
func feed(e *Encoder, src []byte, total int, done func() bool) (n int) {
	dst := make([]byte, 0, Room(piece))
	for at := 0; n < total; {
		_, k := e.Next(dst, src[at:min(at+piece, len(src))])
		n += k
		if at += k; at == len(src) {
			at = 0
		}
		if done != nil && done() {
			break
		}
	}
	return n
}

// compresses returns a function that is true as soon as e has made a compressed record that was not there before.
func compresses(e *Encoder) func() bool {
	before := e.Stats().ZstdRecords
	return func() bool { return e.Stats().ZstdRecords > before }
}

// longestPause is a bound on the bytes of one, in pieces, with those before and after.
func longestPause(rate float64) int {
	return max(1<<maxBackoff*piece, int(min(rate*maxPause.Seconds(), maxHold))) + 2*piece
}

// TestPathFasterThanEncoder follows the pauses on a path that is faster than the encoder: 2, 4, 8 … 64 records, each
// with a small attempt behind.
func TestPathFasterThanEncoder(t *testing.T) {
	clock := &attempts{cost: time.Millisecond}
	e := NewCodec().NewEncoder(Options{Now: clock.Now})
	src := text(1, piece) // 66 MB/s
	feed(e, src, piece, nil)
	e.SetPathRate(25e6)
	feed(e, src, 3*piece, nil)
	if s := e.Stats(); s.ZstdRecords != 4 || s.RawRecords != 0 {
		t.Fatalf("slow path: %+v", s)
	}
	e.SetPathRate(100e6)
	var gaps []uint64
	for range 6 {
		raw := e.Stats().RawRecords
		feed(e, src, 1<<30, compresses(e))
		gaps = append(gaps, e.Stats().RawRecords-raw)
		clock.cost = time.Millisecond / 4 // for a quarter of the bytes
	}
	if want := "[0 2 4 8 16 32]"; fmt.Sprint(gaps) != want {
		t.Errorf("raw records before an attempt: %v, want %s", gaps, want)
	}
	e.SetPathRate(0)
	e.explore = 0
	if n := feed(e, src, 1<<20, compresses(e)); n > piece {
		t.Errorf("on a path that is not known an attempt comes after %d bytes", n)
	}
}

// TestAttemptsAreRare holds what attempts that win nothing may cost, in time of the path: half a percent after the first
// ones.
func TestAttemptsAreRare(t *testing.T) {
	race.Leave(t, race.OneHand)
	for name, c := range map[string]struct {
		src  []byte
		cost time.Duration
		rate float64
	}{
		"text, fast path":       {text(1, 1<<20), 160 * time.Microsecond, 1.5e9}, // 100 MB/s for 16 KiB
		"text, faster path":     {text(1, 1<<20), 160 * time.Microsecond, 4e9},
		"random, fast path":     {random(1, 1<<20), 60 * time.Microsecond, 1.5e9},
		"random, not so fast":   {random(1, 1<<20), 60 * time.Microsecond, 200e6},
		"text, hardly faster":   {text(1, 1<<20), 160 * time.Microsecond, 150e6},
		"random, half a Gbit/s": {random(1, 1<<20), 60 * time.Microsecond, 62e6},
	} {
		clock := &attempts{cost: c.cost}
		e := NewCodec().NewEncoder(Options{Now: clock.Now})
		feed(e, c.src, piece, nil)
		e.SetPathRate(c.rate)
		feed(e, c.src, 16<<20, nil) // until the pauses are long
		total := longestPause(c.rate) * 5 / 4
		before := e.Stats()
		feed(e, c.src, total, nil)
		s := e.Stats()
		spent := (s.Spent - before.Spent).Seconds()
		saved := (float64(total) - float64(s.EncodedBytes-before.EncodedBytes)) / c.rate
		if share := (spent - max(saved, 0)) / (float64(total) / c.rate); share > 0.005 {
			t.Errorf("%s: attempts lost %.2f %% of the path's time", name, 100*share)
		}
		if s.ZstdRecords+s.InVain == before.ZstdRecords+before.InVain {
			t.Errorf("%s: no attempt at all in %d bytes", name, total)
		}
	}
}

// TestChangesAreFound holds after how many bytes an encoder that has long sent all as it is compresses again.
func TestChangesAreFound(t *testing.T) {
	txt, rnd, zeros := text(1, 1<<20), random(1, 1<<20), make([]byte, 1<<20)
	repeated := random(2, piece/4)
	for len(repeated) < 1<<20 {
		repeated = append(repeated, repeated...)
	}
	for _, rate := range []float64{0, 25e6, 300e6, 10e9} {
		pause := longestPause(rate)
		long := 3 * pause / 2
		after := func(src []byte) (*Encoder, *attempts) {
			clock := &attempts{cost: 655 * time.Microsecond}
			e := NewCodec().NewEncoder(Options{Now: clock.Now})
			feed(e, txt, piece, nil) // 100 MB/s
			e.SetPathRate(rate)
			feed(e, src, long, nil)
			return e, clock
		}
		check := func(what string, n, most int) {
			t.Helper()
			if n > most {
				t.Errorf("path of %.0f MB/s: %s: compressed after %d bytes, want at most %d", rate/1e6, what, n, most)
			}
		}
		e, _ := after(rnd)
		check("text after random bytes", feed(e, txt, long, compresses(e)), maxLookGap+piece)
		e, _ = after(rnd)
		check("repetitions after random bytes", feed(e, repeated, long, compresses(e)), pause)
		if rate <= 100e6 {
			continue
		}
		e, _ = after(txt)
		e.SetPathRate(25e6)
		check("text, when the path has become slow", feed(e, txt, long, compresses(e)), piece)
		e, clock := after(txt)
		clock.cost = time.Microsecond // zeros take next to no time
		n := feed(e, zeros, long, func() bool { return e.rate > rate })
		check("zeros after text", n, pause+6*rateMean*piece)
	}
}

// TestLooksThatMislead sends what looks as if it would compress and does not: the attempts must become as rare as those
// on random bytes.
func TestLooksThatMislead(t *testing.T) {
	e := NewCodec().NewEncoder(Options{})
	e.pause.start(false, 0, 0)
	e.pause.looked = true
	for range maxBackoff {
		e.fail(0)
	}
	if e.pause.changed(text(1, piece), 25e6) {
		t.Error("a look counts although it has misled before")
	}
	e.pause.stop()
	if feed(e, text(1, piece), piece, nil); e.pause.blind {
		t.Error("a success has not made looks count again")
	}
}

// TestRoom holds that Next encodes in place where dst has as much room as Room says.
func TestRoom(t *testing.T) {
	e := NewCodec().NewEncoder(Options{})
	for name, src := range map[string][]byte{"text": text(1, MaxRaw), "random": random(1, MaxRaw)} {
		for n := 1; n <= MaxRaw; n = 3*n + 1 {
			dst := make([]byte, 0, Room(n))
			e.pause.stop()
			if out, _ := e.Next(dst, src[:n]); &out[0] != &dst[:1][0] {
				t.Errorf("%s: %d bytes did not fit", name, n)
			}
		}
	}
}
