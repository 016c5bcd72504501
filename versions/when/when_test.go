package when

import (
	"errors"
	"testing"
	"time"

	"sharefs"
)

// zone is fixed, so that the zone of the machine does not matter.
var zone = time.FixedZone("", 3600)

// A Friday.
var now = time.Date(2026, 11, 20, 15, 4, 5, 678_000_000, zone)

func at(y int, m time.Month, d, h, min, s, ns int) time.Time {
	return time.Date(y, m, d, h, min, s, ns, zone)
}

func TestForms(t *testing.T) {
	const last = 999_999_999
	for text, want := range map[string]time.Time{
		"now":                           now,
		"NOW":                           now,
		"today":                         now,
		"yesterday":                     at(2026, 11, 19, 23, 59, 59, last),
		" Yesterday ":                   at(2026, 11, 19, 23, 59, 59, last),
		"monday":                        at(2026, 11, 16, 23, 59, 59, last),
		"friday":                        at(2026, 11, 13, 23, 59, 59, last),
		"2026-11-19":                    at(2026, 11, 19, 23, 59, 59, last),
		"2026-11-20":                    now,
		"2030-01-01":                    now,
		"2024-02-29":                    at(2024, 2, 29, 23, 59, 59, last),
		"2026-10":                       at(2026, 10, 31, 23, 59, 59, last),
		"2026-11":                       now,
		"2025-12":                       at(2025, 12, 31, 23, 59, 59, last),
		"2026-11-20T10:30":              at(2026, 11, 20, 10, 30, 0, 0),
		"2026-11-20t10:30":              at(2026, 11, 20, 10, 30, 0, 0),
		"2026-11-20 10:30":              at(2026, 11, 20, 10, 30, 0, 0),
		"2026-11-20_10:30":              at(2026, 11, 20, 10, 30, 0, 0),
		"2026-11-20@10:30":              at(2026, 11, 20, 10, 30, 0, 0),
		"2026-11-20T10:30:15":           at(2026, 11, 20, 10, 30, 15, last),
		"2026-11-20T10:30:15.123":       at(2026, 11, 20, 10, 30, 15, 123_999_999),
		"2026-11-20T10:30:15,5":         at(2026, 11, 20, 10, 30, 15, 599_999_999),
		"2026-11-20T10:30:15.123456789": at(2026, 11, 20, 10, 30, 15, 123_456_789),
		"20261120T103015":               at(2026, 11, 20, 10, 30, 15, last),
		"20261120T1030":                 at(2026, 11, 20, 10, 30, 0, 0),
		"2026-11-20T09:30:15Z":          at(2026, 11, 20, 10, 30, 15, last),
		"2026-11-20T10:30:15+01:00":     at(2026, 11, 20, 10, 30, 15, last),
		"2026-11-20T04:30:15-0500":      at(2026, 11, 20, 10, 30, 15, last),
		"2026-11-20T10:30+01":           at(2026, 11, 20, 10, 30, 0, 0),
		"2026-11-20 09:30 UTC":          at(2026, 11, 20, 10, 30, 0, 0),
		"yesterday 10:30":               at(2026, 11, 19, 10, 30, 0, 0),
		"yesterdayT9:05":                at(2026, 11, 19, 9, 5, 0, 0),
		"sunday@23:59:59":               at(2026, 11, 15, 23, 59, 59, last),
		"10:30":                         at(2026, 11, 20, 10, 30, 0, 0),
		"15:04:05":                      now,
		"15:05":                         at(2026, 11, 19, 15, 5, 0, 0),
		"23:59:30":                      at(2026, 11, 19, 23, 59, 30, last),
		"-2h":                           now.Add(-2 * time.Hour),
		"-1h30m":                        now.Add(-90 * time.Minute),
		"-45s":                          now.Add(-45 * time.Second),
		"-3d":                           at(2026, 11, 17, 15, 4, 5, 678_000_000),
		"-1w":                           at(2026, 11, 13, 15, 4, 5, 678_000_000),
		"-6mo":                          at(2026, 5, 20, 15, 4, 5, 678_000_000),
		"-1y2d":                         at(2025, 11, 18, 15, 4, 5, 678_000_000),
		"-0s":                           now,
		"2h ago":                        now.Add(-2 * time.Hour),
		"2 hours ago":                   now.Add(-2 * time.Hour),
		"3.days.ago":                    at(2026, 11, 17, 15, 4, 5, 678_000_000),
		"3-days-ago":                    at(2026, 11, 17, 15, 4, 5, 678_000_000),
		"1 month ago":                   at(2026, 10, 20, 15, 4, 5, 678_000_000),
		"@0":                            time.Unix(0, last),
		"@1790000000":                   time.Unix(1790000000, last),
		"@1790000000.5":                 time.Unix(1790000000, 599_999_999),
		"@999999999999":                 now,
	} {
		got, err := Instant(text, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q is %v (%v), wanted %v", text, got, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, text := range []string{
		"", " ", "3", "2026", "20261120", "2026-", "2026-13", "2026-00", "2026-11-31", "2025-02-29", "2026-11-2", "2026-11-20T",
		"2026-11-20T1", "2026-11-20T24:00", "2026-11-20T10:60", "2026-11-20T10:30:61", "2026-11-20T10:30:15.", "2026-11T10:30",
		"2026-11-20T10:30:15.1234567890", "2026-11-20T10:30x", "2026-11-20T10:30+1", "2026-11-20T10:30+01:0", "2026-11-20T10:30+99:00",
		"2026-11-20x10:30", "10", "1030", "10:3", "25:00", "10:30Z", "-", "-h", "-2", "-2q", "-2h3", "-99999999999999999999s", "-9999999999d", "-99999999h", "-2562048h",
		"ago", " ago", "h ago", "@", "@x", "@-1", "@1.", "@1234567890123", "tomorrow", "alice", "monday-", "todayx", "1969-12-30",
		"-200y", "1960-01", "nowt",
	} {
		got, err := Instant(text, now)
		if !errors.Is(err, sharefs.KindInvalid) {
			t.Errorf("%q is taken for %v (%v)", text, got, err)
		}
	}
}

func TestParseTakesInTheWholeMillisecond(t *testing.T) {
	h, err := Parse("2026-11-20T10:30:15.123", now)
	if err != nil || h != sharefs.HLCAt(at(2026, 11, 20, 10, 30, 15, 123_000_000))|0xffff {
		t.Errorf("%v, %v", h, err)
	}
}

func TestFormatIsReadBack(t *testing.T) {
	for _, ms := range []int64{0, 1, 999, 1_700_000_000_123, now.UnixMilli()} {
		h := sharefs.HLC(ms)<<16 | 77
		back, err := Parse(Format(h), now)
		if err != nil || back != h|0xffff {
			t.Errorf("%s is read as %v (%v)", Format(h), back, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"now", "2026-11-20T10:30:15.123+01:00", "-1h30m", "3 days ago", "@17.5", "monday 9:05"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := Parse(s, now)
		if err != nil {
			if !errors.Is(err, sharefs.KindInvalid) {
				t.Fatalf("%q: an error of kind %v", s, sharefs.KindOf(err))
			}
			return
		}
		if h > Reading(now) {
			t.Fatalf("%q lies in the future: %v", s, h)
		}
		if again, err := Parse(Format(h), now); err != nil || again != h {
			t.Fatalf("%q is %s, which is read as %v (%v)", s, Format(h), again, err)
		}
	})
}
