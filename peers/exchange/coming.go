package exchange

import (
	"cmp"
	"math"
	"slices"
	"time"

	"sharefs"
	"sharefs/peers/record"
)

// Coming tells what comes of a version of which something is wanted.
type Coming struct {
	Version *record.Record
	Bytes   uint64           // that came
	Rate    float64          // bytes/s lately
	From    []sharefs.PeerID // who sent something of it, most first
}

// comes is what is known of a version of which chunks are wanted. Guarded by the fetcher.
type comes struct {
	version *record.Record
	bytes   uint64
	from    map[sharefs.PeerID]uint64
	recent  float64 // bytes, older ones count less
	began   time.Time
	last    time.Time
}

const (
	rateTime   = 3.0 // seconds: what came so long before counts for a third
	shortest   = 1.0 // seconds: in less time than that too little comes to tell a rate by
	comingIdle = 5 * time.Second
	mostComing = 1 << 12
)

// count notes what came of a version. f.mu is held.
func (f *fetcher) count(v *record.Record, from sharefs.PeerID, bytes int) {
	id, now := v.ID(), time.Now()
	c := f.coming[id]
	if c == nil {
		if len(f.coming) >= mostComing {
			return
		}
		c = &comes{version: v, from: map[sharefs.PeerID]uint64{}, began: now, last: now}
		f.coming[id] = c
	}
	c.recent = c.recent*c.faded(now) + float64(bytes)
	c.bytes, c.last = c.bytes+uint64(bytes), now
	c.from[from] += uint64(bytes)
}

// faded returns how much what came up to now counts at a moment.
func (c *comes) faded(now time.Time) float64 { return math.Exp(-now.Sub(c.last).Seconds() / rateTime) }

// rate returns how many bytes/s came lately: as many as came, by the time in which they did, each as it counts still.
func (c *comes) rate(now time.Time) float64 {
	age := max(now.Sub(c.began).Seconds(), shortest)
	return c.recent * c.faded(now) / (rateTime * (1 - math.Exp(-age/rateTime)))
}

// Coming tells what comes at present, or came a moment ago.
func (x *Exchange) Coming() []Coming {
	f := x.fetch
	f.mu.Lock()
	defer f.mu.Unlock()
	list := []Coming{}
	now := time.Now()
	for id, c := range f.coming {
		if f.of[id] == nil && now.Sub(c.last) > comingIdle { // nothing more is wanted, though nobody said so
			delete(f.coming, id)
			continue
		}
		one := Coming{Version: c.version, Bytes: c.bytes, Rate: c.rate(now)}
		for p := range c.from {
			one.From = append(one.From, p)
		}
		slices.SortFunc(one.From, func(a, b sharefs.PeerID) int {
			return cmp.Or(cmp.Compare(c.from[b], c.from[a]), slices.Compare(a[:], b[:]))
		})
		list = append(list, one)
	}
	return list
}
