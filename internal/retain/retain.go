// Package retain is the rule by which the past gets thinner with age. It does no I/O and knows nothing of files: given rules, a
// moment that counts as now, moments that somebody gave a name, and what was kept up to now, it says which instants are kept.
//
// A state of something holds from one instant, inclusive, until another one, exclusive. It is kept if a kept instant lies in between; so every
// kept instant stays exactly as it was, and the state that holds now is always kept.
//
// Rules say for how long each instant is kept, and for how long the last instant of each hour, day, week, month and year. Periods are
// those of UTC; weeks begin on Monday (ISO 8601). The last instant of a period is the last clock reading before the next period begins. Each rule
// counts from now on backwards, so that what a rule keeps today it kept yesterday as well, and thinning every day comes to the same as thinning once.
package retain

import (
	"iter"
	"slices"
	"sort"
	"time"

	"sharefs"
)

// Rules say for how long instants are kept, by age. The zero value keeps none.
type Rules struct {
	All     Span `json:"all" toml:"all"`         // every instant
	Hourly  Span `json:"hourly" toml:"hourly"`   // the last one of each hour
	Daily   Span `json:"daily" toml:"daily"`     // of each day
	Weekly  Span `json:"weekly" toml:"weekly"`   // of each week
	Monthly Span `json:"monthly" toml:"monthly"` // of each month
	Yearly  Span `json:"yearly" toml:"yearly"`   // of each year
}

// Default are the rules of a new store.
func Default() Rules {
	return Rules{All: 24 * Hour, Hourly: 7 * Day, Daily: 30 * Day, Weekly: 365 * Day}
}

// Kept is the set of the instants that are kept. The zero value is all of them.
type Kept struct {
	Since sharefs.HLC   // every instant from this one on
	At    []sharefs.HLC // and these before it, rising
}

// Has reports whether an instant is kept.
func (k *Kept) Has(t sharefs.HLC) bool {
	last, ok := k.Last(t)
	return ok && last == t
}

// Last returns the last kept instant up to t; ok is false where there is none.
func (k *Kept) Last(t sharefs.HLC) (last sharefs.HLC, ok bool) {
	if t >= k.Since {
		return t, true
	}
	i := sort.Search(len(k.At), func(i int) bool { return k.At[i] > t })
	if i == 0 {
		return 0, false
	}
	return k.At[i-1], true
}

// Next returns the first kept instant from t on.
func (k *Kept) Next(t sharefs.HLC) sharefs.HLC {
	if i := sort.Search(len(k.At), func(i int) bool { return k.At[i] >= t }); i < len(k.At) {
		return k.At[i]
	}
	return max(t, k.Since)
}

// Any reports whether a kept instant lies in from ≤ t < until, which is empty where until is not after from.
func (k *Kept) Any(from, until sharefs.HLC) bool {
	return from < until && k.Next(from) < until
}

// Thin returns what is kept of k by rules: never an instant that k does not have. Pins are kept whatever their age, in any order; birth is
// an instant before which there was nothing. K is not changed.
func (k *Kept) Thin(now, birth sharefs.HLC, r *Rules, pins []sharefs.HLC) Kept {
	since := r.since(now)
	if since <= k.Since || since <= birth {
		since = k.Since
	}
	out := Kept{Since: since}
	for _, t := range k.At {
		if r.wants(now, t) {
			out.At = append(out.At, t)
		}
	}
	out.At = slices.AppendSeq(out.At, r.ends(now, max(k.Since, birth), since))
	for _, t := range pins {
		if t < since && k.Has(t) {
			out.At = append(out.At, t)
		}
	}
	slices.Sort(out.At)
	out.At = slices.Compact(out.At)
	return out
}

// Cut returns what is kept of k when nothing before an instant is but the pins.
func (k *Kept) Cut(before sharefs.HLC, pins []sharefs.HLC) Kept {
	out := Kept{Since: max(k.Since, before)}
	for _, t := range k.At {
		if t >= before {
			out.At = append(out.At, t)
		}
	}
	for _, t := range pins {
		if t < before && k.Has(t) {
			out.At = append(out.At, t)
		}
	}
	slices.Sort(out.At)
	out.At = slices.Compact(out.At)
	return out
}

// Any reports whether rules keep an instant in from ≤ t < until.
func (r *Rules) Any(now, from, until sharefs.HLC) bool {
	if from >= until {
		return false
	}
	if max(from, r.since(now)) < until {
		return true
	}
	for range r.ends(now, from, until) {
		return true
	}
	return false
}

// since returns the instant from which on every one is kept.
func (r *Rules) since(now sharefs.HLC) sharefs.HLC {
	if r.All >= Forever {
		return 0
	}
	return sharefs.HLC(max(0, int64(now>>16)-time.Duration(max(0, r.All)).Milliseconds())) << 16
}

// wants reports whether the rules keep an instant by itself.
func (r *Rules) wants(now, t sharefs.HLC) bool {
	if t >= r.since(now) {
		return true
	}
	end := int64(t>>16) + 1
	if t != lastBefore(end) {
		return false
	}
	for i := range grains {
		g := &grains[i]
		if keep := g.keep(r); keep > 0 && g.after(end-1) == end && keep.holds(now, end) {
			return true
		}
	}
	return false
}

// ends yields the last instants of periods in from ≤ t < to that the rules keep. They may come twice and are not in order.
func (r *Rules) ends(now, from, to sharefs.HLC) iter.Seq[sharefs.HLC] {
	return func(yield func(sharefs.HLC) bool) {
		for i := range grains {
			g := &grains[i]
			keep := g.keep(r)
			if keep <= 0 {
				continue
			}
			// The first period that ends at from or later, and not too long ago.
			begin := max(from>>16, sharefs.HLC(keep.reach(now)))
			for end := g.after(int64(begin)); ; end = g.after(end) {
				t := lastBefore(end)
				if t >= to {
					break
				}
				if t >= from && keep.holds(now, end) && !yield(t) {
					return
				}
			}
		}
	}
}

// lastBefore returns the last clock reading before a millisecond since 1970.
func lastBefore(ms int64) sharefs.HLC { return sharefs.HLC(ms)<<16 - 1 }

// reach returns the millisecond since 1970 after which a period must end to be young enough, not less than 0.
func (s Span) reach(now sharefs.HLC) int64 {
	if s >= Forever {
		return 0
	}
	return max(0, int64(now>>16)-time.Duration(s).Milliseconds()-1)
}

// holds reports whether a period that ended at a millisecond since 1970 is young enough.
func (s Span) holds(now sharefs.HLC, end int64) bool {
	return s >= Forever || int64(now>>16)-end <= time.Duration(s).Milliseconds()
}

// grain is a kind of period.
type grain struct {
	name  string
	keep  func(*Rules) Span
	after func(ms int64) int64 // the first end of a period after a millisecond since 1970
}

const (
	hourMS = int64(time.Hour / time.Millisecond)
	dayMS  = 24 * hourMS
	weekMS = 7 * dayMS
)

var grains = [...]grain{
	{"hourly", func(r *Rules) Span { return r.Hourly }, func(ms int64) int64 { return (ms/hourMS + 1) * hourMS }},
	{"daily", func(r *Rules) Span { return r.Daily }, func(ms int64) int64 { return (ms/dayMS + 1) * dayMS }},
	// 1970 began on a Thursday.
	{"weekly", func(r *Rules) Span { return r.Weekly }, func(ms int64) int64 { return ((ms+3*dayMS)/weekMS+1)*weekMS - 3*dayMS }},
	{"monthly", func(r *Rules) Span { return r.Monthly }, func(ms int64) int64 {
		t := time.UnixMilli(ms).UTC()
		return time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	}},
	{"yearly", func(r *Rules) Span { return r.Yearly }, func(ms int64) int64 {
		return time.Date(time.UnixMilli(ms).UTC().Year()+1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	}},
}
