package retain

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Span is a length of time as rules say it.
type Span time.Duration

// Lengths of time. A year is 365 days.
const (
	Hour    Span = Span(time.Hour)
	Day     Span = 24 * Hour
	Week    Span = 7 * Day
	Year    Span = 365 * Day
	Forever Span = math.MaxInt64
)

// maxSpan is the longest one that is not for ever.
const maxSpan = 200 * Year

var units = map[string]Span{"m": Span(time.Minute), "h": Hour, "d": Day, "w": Week, "y": Year}

// ParseSpan reads a number with a unit out of m (minutes), h, d, w and y (365 days), "0" or "forever".
func ParseSpan(s string) (Span, error) {
	switch s {
	case "forever":
		return Forever, nil
	case "0":
		return 0, nil
	}
	digits := strings.TrimRight(s, "mhdwy")
	unit, ok := units[s[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || digits[0] < '0' || digits[0] > '9' {
		return 0, fmt.Errorf("%q is not a time such as \"12h\", \"7d\", \"4w\", \"1y\", \"forever\" or \"0\"", s)
	}
	if n > uint64(maxSpan/unit) {
		return 0, fmt.Errorf("%q is longer than 200 years: write \"forever\"", s)
	}
	return Span(n) * unit, nil
}

// String writes what ParseSpan reads, in the largest unit that fits.
func (s Span) String() string {
	switch {
	case s >= Forever:
		return "forever"
	case s <= 0:
		return "0"
	}
	for _, u := range [...]string{"y", "w", "d", "h"} {
		if s%units[u] == 0 {
			return strconv.FormatInt(int64(s/units[u]), 10) + u
		}
	}
	return strconv.FormatInt(int64(s/units["m"]), 10) + "m"
}

// UnmarshalText reads what ParseSpan reads.
func (s *Span) UnmarshalText(text []byte) error {
	v, err := ParseSpan(string(text))
	if err == nil {
		*s = v
	}
	return err
}

// MarshalText writes what ParseSpan reads.
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
