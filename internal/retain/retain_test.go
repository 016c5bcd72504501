package retain

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sharefs"
	"sharefs/integration/race"
)

var noon = time.Date(2026, 3, 11, 12, 0, 0, 0, time.UTC) // a Wednesday

func at(t time.Time) sharefs.HLC { return sharefs.HLCAt(t) }

func endOf(t time.Time) sharefs.HLC { return at(t) - 1 }

func TestWhatTheDefaultRulesKeep(t *testing.T) {
	var all Kept
	r := Default()
	birth := noon.AddDate(-3, 0, 0)
	k := all.Thin(at(noon), at(birth), &r, nil)
	if k.Since != at(noon.Add(-24*time.Hour)) {
		t.Errorf("all since %v", k.Since)
	}
	var want []sharefs.HLC
	monday := time.Date(2025, 3, 17, 0, 0, 0, 0, time.UTC)
	for end := monday; end.Before(noon.AddDate(0, 0, -30)); end = end.AddDate(0, 0, 7) {
		want = append(want, endOf(end))
	}
	for end := time.Date(2026, 2, 10, 0, 0, 0, 0, time.UTC); end.Before(noon.AddDate(0, 0, -7)); end = end.AddDate(0, 0, 1) {
		want = append(want, endOf(end))
	}
	for end := noon.AddDate(0, 0, -7); !end.After(noon.Add(-24 * time.Hour)); end = end.Add(time.Hour) {
		want = append(want, endOf(end))
	}
	if !slices.Equal(k.At, want) {
		t.Errorf("kept\n%v, want\n%v", k.At, want)
	}
	if len(k.At) > 300 {
		t.Errorf("%d instants", len(k.At))
	}
	for _, tt := range k.At {
		if !k.Has(tt) || k.Has(tt+1) && tt+1 != k.Since || k.Has(tt-1) {
			t.Errorf("%v and its neighbours", tt)
		}
	}
}

func TestPeriods(t *testing.T) {
	when := time.Date(2024, 2, 29, 23, 59, 59, int(999*time.Millisecond), time.UTC).UnixMilli() // a Thursday
	for name, want := range map[string][]string{
		"hourly":  {"2024-03-01T00:00", "2024-03-01T01:00"},
		"daily":   {"2024-03-01T00:00", "2024-03-02T00:00"},
		"weekly":  {"2024-03-04T00:00", "2024-03-11T00:00"},
		"monthly": {"2024-03-01T00:00", "2024-04-01T00:00"},
		"yearly":  {"2025-01-01T00:00", "2026-01-01T00:00"},
	} {
		i := slices.IndexFunc(grains[:], func(g grain) bool { return g.name == name })
		end := when
		for _, w := range want {
			end = grains[i].after(end)
			if got := time.UnixMilli(end).UTC().Format("2006-01-02T15:04"); got != w {
				t.Errorf("%s: %s, want %s", name, got, w)
			}
		}
	}
}

func TestNothingOldEnough(t *testing.T) {
	var all Kept
	r := Default()
	if k := all.Thin(at(noon), at(noon.Add(-time.Hour)), &r, nil); k.Since != 0 || k.At != nil {
		t.Errorf("a store an hour old: %+v", k)
	}
	r.All = Forever
	if k := all.Thin(at(noon), at(noon.AddDate(-5, 0, 0)), &r, nil); k.Since != 0 || k.At != nil {
		t.Errorf("all for ever: %+v", k)
	}
	r = Rules{}
	k := all.Thin(at(noon), at(noon.AddDate(-5, 0, 0)), &r, nil)
	if k.Since != at(noon) || k.At != nil {
		t.Errorf("nothing at all: %+v", k)
	}
	if _, ok := k.Last(at(noon) - 1); ok {
		t.Error("an instant before is kept")
	}
}

// slow is the rule said in the simplest way, tick by tick.
func slow(r *Rules, now, t sharefs.HLC) bool {
	ms := func(s Span) int64 { return time.Duration(s).Milliseconds() }
	tick, age := time.UnixMilli(int64(t>>16)).UTC(), int64(now>>16)-int64(t>>16)
	if r.All == Forever || age <= ms(r.All) {
		return true
	}
	next := time.UnixMilli(int64(t>>16) + 1).UTC()
	if uint16(t) != 0xffff {
		return false
	}
	for _, p := range []struct {
		keep Span
		of   func(time.Time) string
	}{
		{r.Hourly, func(t time.Time) string { return t.Format("2006-01-02 15") }},
		{r.Daily, func(t time.Time) string { return t.Format("2006-01-02") }},
		{r.Weekly, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, w) }},
		{r.Monthly, func(t time.Time) string { return t.Format("2006-01") }},
		{r.Yearly, func(t time.Time) string { return t.Format("2006") }},
	} {
		if p.keep > 0 && p.of(tick) != p.of(next) && (p.keep == Forever || int64(now>>16)-next.UnixMilli() <= ms(p.keep)) {
			return true
		}
	}
	return false
}

func randomRules(r *rand.Rand) Rules {
	span := func(unit Span, n int) Span {
		switch r.IntN(6) {
		case 0:
			return 0
		case 1:
			if r.IntN(4) == 0 {
				return Forever
			}
		}
		return Span(r.IntN(n))*unit + Span(r.IntN(3))*Span(time.Minute)
	}
	return Rules{span(Hour, 60), span(Hour, 300), span(Day, 60), span(Week, 30), span(31*Day, 12), span(Year, 3)}
}

// ticks are instants worth looking at between two times: ends of hours, their neighbours, and some others.
func ticks(r *rand.Rand, from, to time.Time) (out []sharefs.HLC) {
	for h := from.Truncate(time.Hour); h.Before(to); h = h.Add(time.Hour) {
		out = append(out, at(h)-1, at(h), at(h.Add(time.Duration(1+r.IntN(3599))*time.Second))|sharefs.HLC(r.IntN(1<<16)))
	}
	return out
}

// Thinned at random times by rules that change, with moments that get names and lose them, what is kept is what every run kept.
func TestThinAgainstModel(t *testing.T) {
	race.Leave(t, race.OneHand)
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			birth := noon.Add(-time.Duration(r.IntN(24)) * time.Hour)
			last := birth.AddDate(0, 5, 0)
			all := ticks(r, birth, last)
			gone := map[sharefs.HLC]bool{}
			var k Kept
			var pins []sharefs.HLC
			rules := randomRules(r)
			for now := birth; now.Before(last); now = now.Add(time.Duration(r.IntN(20*24)) * time.Hour).Add(time.Duration(r.IntN(1e6)) * time.Millisecond) {
				if r.IntN(3) == 0 {
					rules = randomRules(r)
				}
				if n := len(pins); n > 0 && r.IntN(3) == 0 {
					pins = slices.Delete(pins, 0, 1)
				}
				seen := slices.IndexFunc(all, func(t sharefs.HLC) bool { return t > at(now) })
				if seen < 0 {
					seen = len(all)
				}
				if seen > 0 {
					if p := all[r.IntN(seen)]; k.Has(p) {
						pins = append(pins, p)
					}
				}
				before := slices.Clone(k.At)
				next := k.Thin(at(now), at(birth), &rules, pins)
				if !slices.Equal(before, k.At) {
					t.Fatal("Thin changed what it was given")
				}
				k = next
				for _, tick := range all[:seen] {
					if !slow(&rules, at(now), tick) && !slices.Contains(pins, tick) && tick >= at(birth) {
						gone[tick] = true
					}
					if tick >= at(birth) && k.Has(tick) == gone[tick] && at(now)-at(birth) > sharefs.HLC(rules.All/1e6)<<16 {
						t.Fatalf("at %v with %+v: %v (%x) is kept: %v", now, rules, tick, uint64(tick), k.Has(tick))
					}
				}
				if again := k.Thin(at(now), at(birth), &rules, pins); again.Since != k.Since || !slices.Equal(again.At, k.At) {
					t.Fatalf("a second time at the same moment: %d instants instead of %d", len(again.At), len(k.At))
				}
				for range 200 {
					from, until := all[r.IntN(len(all))], all[r.IntN(len(all))]
					want := slices.ContainsFunc(k.At, func(t sharefs.HLC) bool { return from <= t && t < until }) || max(from, k.Since) < until && from < until
					if k.Any(from, until) != want {
						t.Fatalf("%x to %x: %v", uint64(from), uint64(until), !want)
					}
				}
			}
		})
	}
}

// Every day for a year, at some time of the day, comes to the same as once at the end.
func TestEveryDayIsAsOnce(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 2))
		rules := randomRules(r)
		if seed == 0 {
			rules = Default()
		}
		birth := noon.Add(time.Duration(r.IntN(1e9)) * time.Millisecond)
		var daily, once Kept
		pins := []sharefs.HLC{at(birth.AddDate(0, 2, 0)), at(birth.AddDate(0, 4, 7)) + 17}
		now := birth
		for now.Before(birth.AddDate(1, 1, 0)) {
			now = now.Add(time.Duration(20+r.IntN(8)) * time.Hour).Add(time.Duration(r.IntN(1e6)) * time.Millisecond)
			known := slices.DeleteFunc(slices.Clone(pins), func(p sharefs.HLC) bool { return p > at(now) })
			daily = daily.Thin(at(now), at(birth), &rules, known)
		}
		once = once.Thin(at(now), at(birth), &rules, pins)
		if daily.Since != once.Since || !slices.Equal(daily.At, once.At) {
			t.Fatalf("seed %d, %+v: daily\n%v, once\n%v", seed, rules, daily.At, once.At)
		}
	}
}

// Any of the rules alone is what Thin of everything comes to.
func TestAnyAgainstThin(t *testing.T) {
	race.Leave(t, race.OneHand)
	r := rand.New(rand.NewPCG(5, 5))
	for range 100 {
		rules := randomRules(r)
		now := noon.Add(time.Duration(r.IntN(1e9)) * time.Millisecond)
		k := (&Kept{}).Thin(at(now), 1, &rules, nil)
		all := ticks(r, now.AddDate(0, 0, -r.IntN(300)-1), now)
		for range 50 {
			from := all[r.IntN(len(all))]
			until := from + sharefs.HLC(r.IntN(int(40*24*time.Hour.Milliseconds())))<<16
			if got, want := rules.Any(at(now), from, until), k.Any(from, until); got != want && until <= at(now) {
				t.Fatalf("%+v at %v: %v to %v (%x): %v, want %v", rules, now, from, until, uint64(until), got, want)
			}
		}
		for range 50 {
			tick := all[r.IntN(len(all))]
			if got, want := rules.wants(at(now), tick), slow(&rules, at(now), tick); got != want {
				t.Fatalf("%+v at %v: %x: %v, want %v", rules, now, uint64(tick), got, want)
			}
		}
	}
}

func TestCut(t *testing.T) {
	k := Kept{Since: 100, At: []sharefs.HLC{10, 20, 30, 40}}
	for _, c := range []struct {
		before sharefs.HLC
		pins   []sharefs.HLC
		want   Kept
	}{
		{0, nil, k},
		{25, nil, Kept{100, []sharefs.HLC{30, 40}}},
		{30, []sharefs.HLC{20, 15}, Kept{100, []sharefs.HLC{20, 30, 40}}}, // 15 was not kept
		{120, []sharefs.HLC{110, 10}, Kept{120, []sharefs.HLC{10, 110}}},
	} {
		if got := k.Cut(c.before, c.pins); got.Since != c.want.Since || !slices.Equal(got.At, c.want.At) {
			t.Errorf("before %d: %+v, want %+v", c.before, got, c.want)
		}
	}
}

func TestLastAndNext(t *testing.T) {
	k := Kept{Since: 100, At: []sharefs.HLC{10, 40}}
	for _, c := range []struct{ t, last, next sharefs.HLC }{{9, 0, 10}, {10, 10, 10}, {11, 10, 40}, {40, 40, 40}, {99, 40, 100}, {100, 100, 100}, {101, 101, 101}} {
		last, ok := k.Last(c.t)
		if last != c.last || ok != (c.last != 0) || k.Next(c.t) != c.next {
			t.Errorf("%d: last %d %v, next %d", c.t, last, ok, k.Next(c.t))
		}
	}
	var all Kept
	if last, ok := all.Last(0); last != 0 || !ok || !all.Has(7) || !all.Any(3, 4) || all.Any(4, 4) {
		t.Error("the zero value does not keep everything")
	}
}
