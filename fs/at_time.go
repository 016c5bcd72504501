package fs

import (
	"strings"
	"sync"
	"time"

	"sharefs"
	"sharefs/versions/when"
)

// A time that depends on when it is read (-2h, yesterday, 10:30) means the same moment to all that look it up within pinTime of each other, so that a
// program which walks by path (diff -r, rsync) sees one tree. The kernel may believe for pinSeconds that the name leads there.
const (
	pinTime    = 10 * time.Second
	pinSeconds = 1
	maxPins    = 1024
)

// pins remembers what such times mean.
type pins struct {
	now func() time.Time // nil: time.Now

	mu     sync.Mutex // guards byText
	byText map[string]pin
}

type pin struct {
	at   sharefs.HLC
	used time.Time
}

// farAhead is so long that no text which depends on the present means the same then.
const farAhead = 40_000 * 24 * time.Hour

// spanOf is how far the end of a time that is written in full may lie ahead: that of today, in any zone, or of this month.
func spanOf(text string) time.Duration {
	if strings.Count(text, "-") < 2 {
		return 33 * 24 * time.Hour
	}
	return 2 * 24 * time.Hour
}

// moment reads a time. MaxHLC is now; a time that is written in full may lie ahead, for the clock of the tree may be ahead of the host's. Seconds is for how long
// the answer holds: pinSeconds for what depends on when it is asked, and for what lies ahead.
func (p *pins) moment(text string) (at sharefs.HLC, seconds uint64, ok bool) {
	now := time.Now()
	if p.now != nil {
		now = p.now()
	}
	at, err := when.Parse(text, now.Add(farAhead))
	if err != nil {
		return 0, 0, false
	}
	if later, err := when.Parse(text, now.Add(2*farAhead)); err == nil && later == at {
		if at > when.Reading(now.Add(spanOf(text))) {
			return 0, 0, false // it has not even begun
		}
		if at > when.Reading(now) {
			return at, pinSeconds, true
		}
		return at, cacheSeconds, true
	}
	if at, err = when.Parse(text, now); err != nil {
		return 0, 0, false
	}
	if at >= when.Reading(now) {
		at = sharefs.MaxHLC
	}
	return at, pinSeconds, true
}

// pinned returns the moment that a relative time keeps, or pins it to the one that fix returns. Of several who pin at once the first one counts.
func (p *pins) pinned(text string, fix func() (sharefs.HLC, error)) (sharefs.HLC, error) {
	now := time.Now()
	if p.now != nil {
		now = p.now()
	}
	if at, ok := p.use(text, now, 0); ok {
		return at, nil
	}
	at, err := fix() // without the lock, for it asks the tree
	if err != nil {
		return 0, err
	}
	at, _ = p.use(text, now, at)
	return at, nil
}

// use returns the moment that a time keeps, or pins it to another one unless that is 0.
func (p *pins) use(text string, now time.Time, at sharefs.HLC) (sharefs.HLC, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.byText[text]; ok && now.Sub(old.used) < pinTime {
		at = old.at
	}
	if at == 0 {
		return 0, false
	}
	if len(p.byText) >= maxPins {
		p.sweep(now)
	}
	if p.byText == nil {
		p.byText = map[string]pin{}
	}
	p.byText[text] = pin{at, now}
	return at, true
}

// sweep makes room: what is not used goes, and all where everything is.
func (p *pins) sweep(now time.Time) {
	for text, old := range p.byText {
		if now.Sub(old.used) >= pinTime {
			delete(p.byText, text)
		}
	}
	if len(p.byText) >= maxPins {
		clear(p.byText)
	}
}
