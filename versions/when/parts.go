package when

import (
	"strings"
	"time"
)

// date is a day, or the month that begins with it (days 0); the day may lie outside its month, as time.Date takes it.
type date struct {
	year  int
	month time.Month
	day   int
	days  int // 1 for a day, 0 for a month
}

// end returns the last nanosecond of the span.
func (d date) end(zone *time.Location) time.Time {
	month := d.month
	if d.days == 0 {
		month++
	}
	return time.Date(d.year, month, d.day+d.days, 0, 0, 0, 0, zone).Add(-1)
}

// clock is a time of day.
type clock struct {
	hour, minute, second, nano int
	precision                  time.Duration // of the smallest part that was written: a minute, a second, or less
	zone                       *time.Location
}

// slack is how far the last instant that the clock time takes in lies behind its first.
func (c clock) slack() time.Duration {
	if c.precision >= time.Minute {
		return 0
	}
	return c.precision - 1
}

// on returns the last instant that the time takes in on a day.
func (c clock) on(d date, zone *time.Location) time.Time {
	if c.zone != nil {
		zone = c.zone
	}
	return time.Date(d.year, d.month, d.day, c.hour, c.minute, c.second, c.nano, zone).Add(c.slack())
}

// digits reads exactly n digits from the front of s.
func digits(s string, n int) (value int, rest string, ok bool) {
	if len(s) < n {
		return 0, s, false
	}
	for i := range n {
		if s[i] < '0' || s[i] > '9' {
			return 0, s, false
		}
		value = value*10 + int(s[i]-'0')
	}
	return value, s[n:], true
}

var weekdays = [...]string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

// dateOf reads a date from the front of s.
func dateOf(s string, now time.Time) (d date, rest string, ok bool) {
	y, m, today := now.Date()
	if rest, ok := strings.CutPrefix(s, "today"); ok {
		return date{y, m, today, 1}, rest, true
	}
	if rest, ok := strings.CutPrefix(s, "yesterday"); ok {
		return date{y, m, today - 1, 1}, rest, true
	}
	for i, name := range weekdays {
		if rest, ok := strings.CutPrefix(s, name); ok {
			past := (int(now.Weekday()) - i + 7) % 7
			if past == 0 {
				past = 7
			}
			return date{y, m, today - past, 1}, rest, true
		}
	}
	d.year, rest, ok = digits(s, 4)
	if !ok || rest == "" {
		return d, s, false
	}
	basic := rest[0] != '-'
	if !basic {
		rest = rest[1:]
	}
	month, rest, ok := digits(rest, 2)
	if !ok || month < 1 || month > 12 {
		return d, s, false
	}
	d.month, d.day = time.Month(month), 1
	if basic {
		d.day, rest, ok = digits(rest, 2)
		ok = ok && strings.HasPrefix(rest, "t") // digits alone are a version's number
	} else if strings.HasPrefix(rest, "-") {
		d.day, rest, ok = digits(rest[1:], 2)
	} else {
		return d, rest, true
	}
	d.days = 1
	lastDay := time.Date(d.year, d.month+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return d, rest, ok && d.day >= 1 && d.day <= lastDay
}

// clockOf reads a time of day with an optional zone; nothing may follow.
func clockOf(s string) (c clock, ok bool) {
	var rest string
	if c.hour, rest, ok = digits(s, 2); !ok {
		if c.hour, rest, ok = digits(s, 1); !ok || !strings.HasPrefix(rest, ":") {
			return c, false
		}
	}
	colon := strings.HasPrefix(rest, ":")
	if c.minute, rest, ok = digits(strings.TrimPrefix(rest, ":"), 2); !ok {
		return c, false
	}
	c.precision = time.Minute
	after, more := rest, !colon && rest != "" && rest[0] >= '0' && rest[0] <= '9'
	if colon {
		after, more = strings.CutPrefix(rest, ":")
	}
	if more {
		if c.second, rest, ok = digits(after, 2); !ok {
			return c, false
		}
		c.precision = time.Second
		if len(rest) > 1 && (rest[0] == '.' || rest[0] == ',') {
			if rest, ok = c.fraction(rest[1:]); !ok {
				return c, false
			}
		}
	}
	if c.zone, ok = zoneOf(strings.TrimPrefix(rest, " ")); !ok {
		return c, false
	}
	// 60 is a leap second, which time.Date takes as the next minute's first; RFC 3339 allows it.
	return c, c.hour <= 23 && c.minute <= 59 && c.second <= 60
}

// fraction reads up to nine digits of a second; more are refused.
func (c *clock) fraction(s string) (rest string, ok bool) {
	for rest = s; rest != "" && rest[0] >= '0' && rest[0] <= '9'; rest = rest[1:] {
		if c.precision /= 10; c.precision == 0 {
			return s, false
		}
		c.nano += int(rest[0]-'0') * int(c.precision)
	}
	return rest, len(rest) < len(s)
}

// zoneOf reads "", "z", "+01:00", "+0100" or "+01".
func zoneOf(s string) (*time.Location, bool) {
	switch {
	case s == "":
		return nil, true
	case s == "z" || s == "utc":
		return time.UTC, true
	case s[0] != '+' && s[0] != '-':
		return nil, false
	}
	hours, rest, ok := digits(s[1:], 2)
	minutes := 0
	if ok && rest != "" {
		minutes, rest, ok = digits(strings.TrimPrefix(rest, ":"), 2)
	}
	if !ok || rest != "" || hours > 23 || minutes > 59 {
		return nil, false
	}
	offset := hours*3600 + minutes*60
	if s[0] == '-' {
		offset = -offset
	}
	return time.FixedZone("", offset), true
}

// unix reads seconds since the epoch with an optional fraction.
func unix(s string) (time.Time, bool) {
	whole, fraction, dotted := strings.Cut(s, ".")
	if whole == "" || len(whole) > 12 {
		return time.Time{}, false
	}
	seconds, _, ok := digits(whole, len(whole))
	c := clock{precision: time.Second}
	if dotted {
		rest, good := c.fraction(fraction)
		ok = ok && good && rest == ""
	}
	return time.Unix(int64(seconds), int64(c.nano)).Add(c.slack()), ok
}

// units of a span back. Months and years follow the calendar.
var units = []struct {
	name         string
	length       time.Duration
	years, month int
	days         int
}{
	{"seconds", time.Second, 0, 0, 0}, {"second", time.Second, 0, 0, 0}, {"sec", time.Second, 0, 0, 0}, {"s", time.Second, 0, 0, 0},
	{"minutes", time.Minute, 0, 0, 0}, {"minute", time.Minute, 0, 0, 0}, {"min", time.Minute, 0, 0, 0},
	{"months", 0, 0, 1, 0}, {"month", 0, 0, 1, 0}, {"mo", 0, 0, 1, 0}, {"m", time.Minute, 0, 0, 0},
	{"hours", time.Hour, 0, 0, 0}, {"hour", time.Hour, 0, 0, 0}, {"h", time.Hour, 0, 0, 0},
	{"days", 0, 0, 0, 1}, {"day", 0, 0, 0, 1}, {"d", 0, 0, 0, 1},
	{"weeks", 0, 0, 0, 7}, {"week", 0, 0, 0, 7}, {"w", 0, 0, 0, 7},
	{"years", 0, 1, 0, 0}, {"year", 0, 1, 0, 0}, {"y", 0, 1, 0, 0},
}

// maxCount bounds the number before a unit, so that no sum overflows: 200 years of seconds.
const maxCount = 200 * 366 * 86400

// back reads numbers with units, "1h30m", and goes back that far. Days and longer units keep the time of day.
func back(s string, now time.Time) (time.Time, bool) {
	at := now
	if s == "" {
		return at, false
	}
	for s != "" {
		n, count := 0, 0
		for ; n < len(s) && s[n] >= '0' && s[n] <= '9'; n++ {
			if count = count*10 + int(s[n]-'0'); count > maxCount {
				return at, false
			}
		}
		if n == 0 {
			return at, false
		}
		s = strings.TrimPrefix(s[n:], " ")
		found := false
		for _, u := range units {
			rest, ok := strings.CutPrefix(s, u.name)
			if !ok || (rest != "" && (rest[0] < '0' || rest[0] > '9')) {
				continue
			}
			if u.length == 0 && count > 1_000_000 {
				return at, false
			}
			// By seconds, for a time.Duration ends at 292 years.
			seconds := int64(count) * int64(u.length/time.Second)
			at = time.Unix(at.Unix()-seconds, int64(at.Nanosecond())).In(at.Location()).AddDate(-count*u.years, -count*u.month, -count*u.days)
			s, found = rest, true
			break
		}
		if !found {
			return at, false
		}
	}
	return at, true
}
