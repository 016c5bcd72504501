package fs

import (
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
const farAhead = 1000 * 24 * time.Hour

// moment reads a time. What lies in the future, or is now, is MaxHLC. Seconds is for how long the answer holds.
func (p *pins) moment(text string) (at sharefs.HLC, seconds uint64, ok bool) {
	now := time.Now()
	if p.now != nil {
		now = p.now()
	}
	at, err := when.Parse(text, now)
	if err != nil {
		return 0, 0, false
	}
	if later, err := when.Parse(text, now.Add(farAhead)); err == nil && later == at {
		return at, cacheSeconds, true
	}
	if at >= when.Reading(now) {
		at = sharefs.MaxHLC
	}
	return at, pinSeconds, true
}

// pinned returns the moment that a relative time keeps, or pins it to the one that fix returns.
func (p *pins) pinned(text string, fix func() (sharefs.HLC, error)) (sharefs.HLC, error) {
	now := time.Now()
	if p.now != nil {
		now = p.now()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.byText[text]; ok && now.Sub(old.used) < pinTime {
		p.byText[text] = pin{old.at, now}
		return old.at, nil
	}
	at, err := fix()
	if err != nil {
		return 0, err
	}
	if len(p.byText) >= maxPins {
		for t, old := range p.byText {
			if now.Sub(old.used) >= pinTime {
				delete(p.byText, t)
			}
		}
		if len(p.byText) >= maxPins {
			clear(p.byText)
		}
	}
	if p.byText == nil {
		p.byText = map[string]pin{}
	}
	p.byText[text] = pin{at, now}
	return at, nil
}
