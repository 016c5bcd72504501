package sharefs

import (
	"sync"
	"time"
)

// HLC is a hybrid logical clock reading: 48 bits of milliseconds since the Unix epoch, then a 16-bit counter
// (Kulkarni et al., "Logical Physical Clocks", 2014). Readings compare as integers. Zero is before every change.
type HLC uint64

// MaxHLC is after every change.
const MaxHLC = ^HLC(0)

// MaxClockLead is how far ahead of this host's clock a foreign reading may be before [Clock.Observe] refuses it.
const MaxClockLead = 5 * time.Minute

// HLCAt returns the first reading of the millisecond that t lies in; times before the epoch give zero.
func HLCAt(t time.Time) HLC {
	ms := t.UnixMilli()
	if ms < 0 {
		return 0
	}
	return HLC(ms) << 16
}

// Time returns the reading's physical part, to the millisecond, in local time.
func (h HLC) Time() time.Time { return time.UnixMilli(int64(h >> 16)) }

func (h HLC) String() string { return h.Time().Format("2006-01-02T15:04:05.000") }

// Clock hands out strictly rising readings that never run behind the physical clock. The zero value reads time.Now.
// It may be used by several goroutines.
type Clock struct {
	Now func() time.Time // replaces time.Now in tests; set before first use

	mu   sync.Mutex
	last HLC
}

func (c *Clock) physical() HLC {
	if c.Now != nil {
		return HLCAt(c.Now())
	}
	return HLCAt(time.Now())
}

// Next returns a reading later than all before it.
func (c *Clock) Next() HLC {
	now := c.physical()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now > c.last {
		c.last = now
	} else {
		c.last++
	}
	return c.last
}

// Last returns the latest reading that was handed out or observed.
func (c *Clock) Last() HLC {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Observe makes later readings follow h, a reading from a peer or from disk. It refuses one that is more than
// [MaxClockLead] ahead with an [Error] of [KindInvalid].
func (c *Clock) Observe(h HLC) error {
	limit := c.physical() + HLC(MaxClockLead/time.Millisecond)<<16
	if h > limit {
		return &Error{Op: "clock", Kind: KindInvalid, Detail: "reading " + h.String() + " is more than 5 minutes ahead of this host's clock"}
	}
	c.Restore(h)
	return nil
}

// Restore makes later readings follow h without asking how far ahead it is: for readings this host wrote itself.
func (c *Clock) Restore(h HLC) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, h)
}
