package term

import (
	"os"
	"strings"
	"testing"
	"time"
)

// show makes a progress with a clock and a terminal of its own.
func show(width int) (p *Progress, out *strings.Builder, forward func(time.Duration)) {
	out = new(strings.Builder)
	now := time.Unix(1_800_000_000, 0)
	p = newProgress(out, func() int { return width }, func() time.Time { return now })
	return p, out, func(d time.Duration) { now = now.Add(d) }
}

func TestProgressIsSilentForTwoSeconds(t *testing.T) {
	p, out, forward := show(200)
	p.Show("comparing", 0, 1000, "files")
	forward(1900 * time.Millisecond)
	p.Show("comparing", 190, 1000, "files")
	p.draw()
	if out.Len() != 0 {
		t.Fatalf("it shows %q", out)
	}
	forward(100 * time.Millisecond)
	p.Show("comparing", 200, 1000, "files")
	p.draw()
	if got, want := out.String(), "\rcomparing  [####----------------]   20 %  200 of 1,000 files  100 files/s  8 s left\x1b[K"; got != want {
		t.Fatalf("%q, want %q", got, want)
	}
	out.Reset()
	p.Pause()
	p.Pause()
	if out.String() != "\r\x1b[K" {
		t.Fatalf("it wipes by %q", out)
	}
}

func TestProgressFitsTheTerminal(t *testing.T) {
	for width, want := range map[int]string{
		200: "reading  [##########----------]   50 %  512 MiB of 1.0 GiB  256 MiB/s  2 s left",
		70:  "reading   50 %  512 MiB of 1.0 GiB  256 MiB/s  2 s left",
		50:  "reading   50 %  512 MiB of 1.0 GiB  256 MiB/s",
		16:  "reading   50 %",
		8:   "reading",
		5:   "read",
		0:   "",
	} {
		p, _, forward := show(width)
		p.Show("reading", 0, 1<<30, "bytes")
		forward(2 * time.Second)
		p.Show("reading", 1<<29, 1<<30, "bytes")
		got := p.line(p.now(), width-1)
		if got != want {
			t.Errorf("%d columns: %q, want %q", width, got, want)
		}
	}
}

func TestProgressWithoutATotal(t *testing.T) {
	p, _, forward := show(80)
	p.Show("looking\x1b[31m", 0, 0, "files")
	if got := p.line(p.now(), 79); got != `looking\x1b[31m  0 files` {
		t.Errorf("%q", got)
	}
	forward(4 * time.Second)
	p.Show("looking\x1b[31m", 4000, 0, "files")
	if got := p.line(p.now(), 79); got != `looking\x1b[31m  4,000 files  1,000 files/s` {
		t.Errorf("%q", got)
	}
	p.Show("next", 1, 0, "files")
	if got := p.line(p.now(), 79); got != "next  1 file" {
		t.Errorf("a new stage has the rate of the one before: %q", got)
	}
}

func TestTheRateFollowsTheLastSeconds(t *testing.T) {
	var r rate
	at := time.Unix(1_800_000_000, 0)
	n := uint64(0)
	for range 300 { // 30 s at 1000 a second
		at, n = at.Add(100*time.Millisecond), n+100
		r.add(at, n)
	}
	if got := r.perSecond(at); got < 990 || got > 1010 {
		t.Errorf("%v a second, want 1000", got)
	}
	for range 150 { // 15 s at 10 a second
		at, n = at.Add(100*time.Millisecond), n+1
		r.add(at, n)
	}
	if got := r.perSecond(at); got < 9 || got > 12 {
		t.Errorf("%v a second, want 10", got)
	}
	if len(r.samples) > 60 {
		t.Errorf("%d samples are kept", len(r.samples))
	}
	// What stands still slows down.
	if got := r.perSecond(at.Add(90 * time.Second)); got > 2 {
		t.Errorf("%v a second while nothing moves", got)
	}
}

func TestProgressOfNothing(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := NewProgress(f) // no terminal
	if p != nil {
		t.Fatal("it draws on what is no terminal")
	}
	p.Show("x", 1, 2, "files")
	p.Pause()
	p.End()
	q, _, _ := show(80)
	go q.run()
	q.Show("x", 1, 2, "files")
	q.End()
	q.End()
}
