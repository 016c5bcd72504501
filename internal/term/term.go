// Package term writes for people: sizes and times as they read them, colour only on a terminal, and names from a filesystem so that
// none of them can play tricks on the terminal.
package term

import (
	"fmt"
	"math/big"
	"math/bits"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	xterm "golang.org/x/term"

	"sharefs/internal/bytesize"
)

// Clean makes text from outside fit for a terminal: control characters, and those that turn the direction of writing, become
// visible escapes ("\x1b", "\u202e"); so does what is not UTF-8.
func Clean(s string) string {
	if clean(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case harmless(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += size
	}
	return b.String()
}

// CleanLine is [Clean] for a line of text, which may hold tabs.
func CleanLine(s string) string {
	parts := strings.Split(s, "\t")
	for i := range parts {
		parts[i] = Clean(parts[i])
	}
	return strings.Join(parts, "\t")
}

func clean(s string) bool {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || !harmless(r) {
			return false
		}
		i += size
	}
	return true
}

func harmless(r rune) bool {
	return r == ' ' || unicode.IsGraphic(r) && !unicode.Is(unicode.Bidi_Control, r)
}

// Quote is [Clean] for a path that a message names, in quotes where the shell would not take it as one word.
func Quote(s string) string {
	plain := s != ""
	for _, r := range s {
		plain = plain && (r >= utf8.RuneSelf || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@%,:=~^", r))
	}
	switch {
	case !clean(s):
		return "$'" + strings.ReplaceAll(Clean(strings.ReplaceAll(s, `\`, `\\`)), "'", `\'`) + "'"
	case plain:
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Size is a number of bytes as people read it: "512 B", "1.5 KiB", "3.2 GiB".
func Size(bytes uint64) string {
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	return humanize.IBytes(bytes)
}

// SizeUp is [Size] of a bound from above: what it says is never less than the bytes, so that who adds as much has enough.
func SizeUp(bytes uint64) string {
	text := Size(bytes)
	if shown, err := humanize.ParseBytes(text); err != nil || shown >= bytes {
		return text
	}
	step := uint64(1) << (10 * ((bits.Len64(bytes) - 1) / 10))
	if bytes < 10*step {
		step /= 10 // the text has a decimal
	}
	return Size(bytes + step)
}

// SizeIn is a size as Size has it, but in units of powers of ten, "50 GB", where another one was given so: sizes beside a bound are in the units of the bound.
func SizeIn(bound, bytes uint64) string {
	if bytes < 1000 || !bytesize.Size(bound).Decimal() {
		return Size(bytes)
	}
	return humanize.Bytes(bytes)
}

// Count is a number with separators: "1,234,567".
func Count(n uint64) string { return humanize.BigComma(new(big.Int).SetUint64(n)) }

// Of counts things whose plural ends in s: "1 file", "1,200 files".
func Of(n uint64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return Count(n) + " " + thing
}

// TimeLayout is how times are shown, in local time; the JSON of the same time has the same digits and the zone behind.
const TimeLayout = "2006-01-02 15:04:05.000"

// JSONTimeLayout is RFC 3339 with milliseconds.
const JSONTimeLayout = "2006-01-02T15:04:05.000Z07:00"

// Time shows a time to the millisecond, in local time.
func Time(t time.Time) string { return t.Local().Format(TimeLayout) }

// Second shows a time to the second, in local time.
func Second(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// Span is a length of time as people read it, with two units at the most: "350 ms", "12 s", "3 min 5 s", "2 h 10 min", "4 d 3 h".
func Span(d time.Duration) string {
	two := func(a time.Duration, an string, b time.Duration, bn string) string {
		if rest := d % a / b; rest != 0 {
			return fmt.Sprintf("%d %s %d %s", d/a, an, rest, bn)
		}
		return fmt.Sprintf("%d %s", d/a, an)
	}
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + Span(-d)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return two(time.Minute, "min", time.Second, "s")
	case d < day:
		return two(time.Hour, "h", time.Minute, "min")
	}
	return two(day, "d", time.Hour, "h")
}

// IsTerminal reports whether f is one.
func IsTerminal(f *os.File) bool { return xterm.IsTerminal(int(f.Fd())) }

// Width is how many columns a terminal has; 80 where it does not say.
func Width(f *os.File) int {
	w, _, err := xterm.GetSize(int(f.Fd()))
	if err != nil || w <= 0 {
		return 80
	}
	return w
}

// Style is how a word stands out.
type Style string

// The styles, by what they say.
const (
	Plain  Style = ""
	Good   Style = "32" // green
	Warn   Style = "33" // yellow
	Bad    Style = "31" // red
	Strong Style = "1"
	Added  Style = "32"
	Gone   Style = "31"
	Place  Style = "36" // cyan
)

// Painter colours, or leaves all as it is.
type Painter bool

// NewPainter colours where f is a terminal and neither NO_COLOR (no-color.org) nor TERM=dumb is set.
func NewPainter(f *os.File) Painter {
	return Painter(os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && IsTerminal(f))
}

// Paint puts text in a style.
func (p Painter) Paint(style Style, text string) string {
	if !bool(p) || style == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(style) + "m" + text + "\x1b[0m"
}
