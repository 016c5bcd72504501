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
	From    []sharefs.PeerID // who sends it, who sent most first; where nobody does at the moment, who is asked
}

// comes is what is known of a version of which chunks are wanted. Guarded by the fetcher.
type comes struct {
	version *record.Record
	bytes   uint64
	from    map[sharefs.PeerID]*sent
	recent  float64 // bytes, older ones count less
	began   time.Time
	last    time.Time
}

// sent is what came of one peer.
type sent struct {
	bytes uint64
	last  time.Time
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
		c = &comes{version: v, from: map[sharefs.PeerID]*sent{}, began: now, last: now}
		f.coming[id] = c
	}
	c.recent = c.recent*c.faded(now) + float64(bytes)
	c.bytes, c.last = c.bytes+uint64(bytes), now
	s := c.from[from]
	if s == nil {
		s = &sent{}
		c.from[from] = s
	}
	s.bytes, s.last = s.bytes+uint64(bytes), now
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
		for p, of := range c.from {
			if now.Sub(of.last) <= comingIdle { // who had a little of it is not who sends the rest
				one.From = append(one.From, p)
			}
		}
		slices.SortFunc(one.From, func(a, b sharefs.PeerID) int {
			return cmp.Or(cmp.Compare(c.from[b].bytes, c.from[a].bytes), slices.Compare(a[:], b[:]))
		})
		if len(one.From) == 0 {
			one.From = f.asked(id)
		}
		list = append(list, one)
	}
	return list
}

// asked lists the peers that are asked for something of a version at present. f.mu is held.
func (f *fetcher) asked(id record.ID) (list []sharefs.PeerID) {
	for s := range f.sources {
		if slices.ContainsFunc(s.openAsks(), func(a *ask) bool { return !a.answered && a.version == id }) {
			list = append(list, s.p.id)
		}
	}
	slices.SortFunc(list, func(a, b sharefs.PeerID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(list)
}
