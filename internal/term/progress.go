package term

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// Progress shows on one line of a terminal how far a long task has come: the stage, a bar, what is done, its rate and the time left.
//
//	comparing  [########------------]  41 %  4,113 of 10,000 files  2,301 files/s  2 s left
//
// Nothing is shown where the output is no terminal, and nothing before the task has taken two seconds, so that what is quick stays quiet.
// The line is wiped at the end. All methods may be called at once from several goroutines, and on nil, which shows nothing.
type Progress struct {
	out   io.Writer
	width func() int // columns of the terminal
	now   func() time.Time
	begun time.Time
	stop  chan struct{}
	ended chan struct{}

	mu    sync.Mutex // guards all below
	stage string
	done  uint64
	total uint64 // 0: not known
	unit  string // of both; "bytes" are written as sizes
	rate  rate
	shown bool // a line stands on the terminal
	over  bool
}

const (
	progressDelay = 2 * time.Second
	progressEvery = 200 * time.Millisecond
	barWidth      = 20
)

// NewProgress shows progress on f if that is a terminal which understands how to wipe a line; else it returns nil. End must be called.
func NewProgress(f *os.File) *Progress {
	if !IsTerminal(f) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	p := newProgress(f, func() int { return Width(f) }, time.Now)
	go p.run()
	return p
}

func newProgress(out io.Writer, width func() int, now func() time.Time) *Progress {
	return &Progress{out: out, width: width, now: now, begun: now(), stop: make(chan struct{}), ended: make(chan struct{})}
}

func (p *Progress) run() {
	defer close(p.ended)
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			p.draw()
		}
	}
}

// Show tells how far a stage has come: done of total, counted in unit ("files", "rows", "bytes"); total is 0 where it is not known. A new
// name of the stage, or less done than before, begins the rate anew.
func (p *Progress) Show(stage string, done, total uint64, unit string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if stage != p.stage || unit != p.unit || done < p.done {
		p.rate = rate{}
	}
	p.stage, p.done, p.total, p.unit = stage, done, total, unit
	p.rate.add(p.now(), done)
}

// End wipes the line. Nothing is shown after it.
func (p *Progress) End() {
	if p == nil {
		return
	}
	p.mu.Lock()
	over := p.over
	p.over = true
	p.wipe()
	p.mu.Unlock()
	if !over {
		close(p.stop)
		<-p.ended
	}
}

// Pause wipes the line, so that something else can be written; the next tick draws it again.
func (p *Progress) Pause() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
}

func (p *Progress) wipe() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}

func (p *Progress) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.over || p.stage == "" || now.Sub(p.begun) < progressDelay {
		return
	}
	fmt.Fprint(p.out, "\r"+p.line(now, p.width()-1)+"\x1b[K")
	p.shown = true
}

// line is what there is to say, cut to width columns: what says least is left out first.
func (p *Progress) line(now time.Time, width int) string {
	stage := Clean(p.stage)
	parts := []string{stage}
	whole := p.total > 0
	done := min(p.done, p.total)
	if whole {
		of := Count(done)
		if p.unit == "bytes" {
			of = Size(done)
		}
		full := int(float64(done) / float64(p.total) * barWidth)
		parts = append(parts, "["+strings.Repeat("#", full)+strings.Repeat("-", barWidth-full)+"]", fmt.Sprintf("%3d %%", int(float64(done)/float64(p.total)*100)),
			of+" of "+Amount(p.total, p.unit))
	} else {
		parts = append(parts, Amount(p.done, p.unit))
	}
	if r := p.rate.perSecond(now); r > 0 {
		parts = append(parts, Amount(uint64(r+0.5), p.unit)+"/s")
		if whole {
			parts = append(parts, Span((time.Duration(float64(p.total-done)/r*1e9)).Truncate(time.Second))+" left")
		}
	}
	for {
		s := strings.Join(parts, "  ")
		if len([]rune(s)) <= width {
			return s
		}
		if whole && len(parts) > 1 && strings.HasPrefix(parts[1], "[") {
			parts = append(parts[:1], parts[2:]...) // the bar
			continue
		}
		if len(parts) == 1 {
			return string([]rune(s)[:max(width, 0)])
		}
		parts = parts[:len(parts)-1]
	}
}

// Amount is a number of what unit names in the plural, "1,200 files", "1 file"; of "bytes" a size.
func Amount(n uint64, unit string) string {
	if unit == "bytes" {
		return Size(n)
	}
	return Of(n, strings.TrimSuffix(unit, "s"))
}

// rate is how fast a count rises: over the last ten seconds at the most, so that it follows what goes on and does not tremble.
type rate struct {
	samples []sample // oldest first, at least rateGrain apart
}

type sample struct {
	at time.Time
	n  uint64
}

const (
	rateSpan  = 10 * time.Second
	rateGrain = 250 * time.Millisecond
)

func (r *rate) add(now time.Time, n uint64) {
	k := len(r.samples)
	if k > 1 && now.Sub(r.samples[k-2].at) < rateGrain {
		r.samples[k-1] = sample{now, n}
		return
	}
	r.samples = append(r.samples, sample{now, n})
	for len(r.samples) > 2 && now.Sub(r.samples[1].at) > rateSpan {
		r.samples = r.samples[1:]
	}
}

// perSecond returns 0 while there is too little to tell from.
func (r *rate) perSecond(now time.Time) float64 {
	if len(r.samples) < 2 {
		return 0
	}
	first, last := r.samples[0], r.samples[len(r.samples)-1]
	took := now.Sub(first.at)
	if took < rateGrain {
		return 0
	}
	return float64(last.n-first.n) / took.Seconds()
}
