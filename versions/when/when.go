// Package when reads the times that people type: FILE@@2026-11-20, .share/at/-2h, log --since yesterday.
//
// The answer to "as it was when?" is always an instant, the last one that counts:
//
//   - A date names a span, and the state asked for is the one at its end: 2026-11-20 is the end of that day, 2026-11 the
//     end of that month, "yesterday" and "monday" the end of that day.
//   - A time names its instant. Listings show times cut to what they have room for, so a time to the second takes that second in whole,
//     one to the millisecond that millisecond; a time to the minute (10:30) is the first instant of the minute, with nothing beyond.
//   - A span back (-2h, "3 days ago") ends at this instant less the span.
//   - What lies in the future is now: there is no later state.
//
// Forms, case does not matter, and between date and time a "T", a space, "_" or "@" may stand:
//
//	now  today  yesterday  monday … sunday (the last such day before today)
//	2026-11  2026-11-20
//	2026-11-20T10:30  2026-11-20T10:30:15  2026-11-20T10:30:15.123  20261120T103015
//	2026-11-20T10:30:15Z  2026-11-20T10:30:15.123+01:00  (RFC 3339; the zone may follow any time)
//	yesterday 10:30  monday 10:30
//	10:30  10:30:15  (the latest such time of day that is past: of today, otherwise of yesterday)
//	-2h  -1h30m  -45s  -3d  -1w  -6mo  -1y
//	2h ago  3 days ago  3.days.ago  3-days-ago
//	@1795000000  @1795000000.5  (seconds since the Unix epoch)
//
// Digits alone are no time: FILE@@2026 is version 2026. Without a zone, times are in the zone of the instant given as now.
// A time of day that daylight saving skips or repeats is read as [time.Date] reads it.
package when

import (
	"strings"
	"time"

	"sharefs"
)

// Parse returns the last clock reading that the text takes in, never one after now. What it cannot read is an error of kind
// invalid; so is a time before 1970.
func Parse(text string, now time.Time) (sharefs.HLC, error) {
	at, err := Instant(text, now)
	if err != nil {
		return 0, err
	}
	return Reading(at), nil
}

// Reading returns the last clock reading of the millisecond that t lies in.
func Reading(t time.Time) sharefs.HLC { return sharefs.HLCAt(t) | 0xffff }

// Format returns the text of a reading that [Parse] turns into the last reading of the same millisecond: local time to the
// millisecond with its zone, so that it means the same on every host and in the hour that daylight saving repeats.
func Format(h sharefs.HLC) string { return h.Time().Format("2006-01-02T15:04:05.000Z07:00") }

// Instant returns the last instant that the text takes in, never one after now, in now's zone.
func Instant(text string, now time.Time) (time.Time, error) {
	s := strings.ToLower(strings.TrimSpace(text))
	at, ok := span(s, now)
	if !ok {
		at, ok = moment(s, now)
	}
	switch {
	case !ok:
		return time.Time{}, &sharefs.Error{Op: "time", Path: text, Kind: sharefs.KindInvalid,
			Detail: `not a time; write 2026-11-20, "2026-11-20T10:30", 10:30, yesterday, -2h or @SECONDS`}
	case at.After(now):
		at = now
	case at.Unix() < 0:
		return time.Time{}, &sharefs.Error{Op: "time", Path: text, Kind: sharefs.KindInvalid, Detail: "before 1970"}
	}
	return at.In(now.Location()), nil
}

// span reads what is relative to now as a length of time, and the Unix form.
func span(s string, now time.Time) (time.Time, bool) {
	switch {
	case s == "now":
		return now, true
	case strings.HasPrefix(s, "@"):
		return unix(s[1:])
	case strings.HasPrefix(s, "-"):
		return back(s[1:], now)
	case strings.HasSuffix(s, "ago") && len(s) > 4 && strings.ContainsRune(" .-", rune(s[len(s)-4])):
		return back(strings.NewReplacer(" ", "", ".", "", "-", "").Replace(s[:len(s)-4]), now)
	}
	return time.Time{}, false
}

// moment reads a date, a time of day, or both.
func moment(s string, now time.Time) (time.Time, bool) {
	if day, rest, ok := dateOf(s, now); ok {
		if rest == "" {
			return day.end(now.Location()), true
		}
		if day.days != 1 || !strings.ContainsRune("t _@", rune(rest[0])) {
			return time.Time{}, false
		}
		clock, ok := clockOf(rest[1:])
		return clock.on(day, now.Location()), ok
	}
	clock, ok := clockOf(s)
	if !ok || clock.zone != nil || !strings.Contains(s, ":") {
		return time.Time{}, false
	}
	y, m, d := now.Date()
	at := clock.on(date{y, m, d, 1}, now.Location())
	if at.Add(-clock.slack()).After(now) {
		at = clock.on(date{y, m, d - 1, 1}, now.Location())
	}
	return at, true
}
