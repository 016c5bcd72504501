package term

import (
	"os"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
)

func TestNothingReachesTheTerminalThatIsNotText(t *testing.T) {
	for in, want := range map[string]string{
		"plain näme ✓ 日本":    "plain näme ✓ 日本",
		"red\x1b[31m":        `red\x1b[31m`,
		"a\nb\tc\rd\x00\x7f": `a\nb\tc\x0dd\x00\x7f`,
		"\xffx":              `\xffx`,
		"abc\u202etxt":       `abc\u202etxt`,
		"\u200e\u2066":       `\u200e\u2066`,
		"c1 \u009b31m":       `c1 \u009b31m`,
		"\ufffd":             "\ufffd",
		"\U000e0001":         `\U000e0001`,
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestQuoteIsWhatAShellTakesAsOneWord(t *testing.T) {
	for in, want := range map[string]string{
		"/a/b-c_1.txt": "/a/b-c_1.txt", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "a\nb": `$'a\nb'`, "a'\n\\": `$'a\'\n\\'`,
		"$(x)": "'$(x)'", "naïve": "naïve",
	} {
		if got := Quote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestNumbersAsPeopleReadThem(t *testing.T) {
	for in, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 3 << 30: "3.0 GiB", 1 << 63: "8.0 EiB"} {
		if got := Size(in); got != want {
			t.Errorf("%d: %s, want %s", in, got, want)
		}
	}
	for in, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1025: "1.1 KiB", 6<<20 + 44<<10: "6.1 MiB", 10 << 20: "10 MiB", 10<<20 + 1: "11 MiB", 3 << 30: "3.0 GiB"} {
		if got := SizeUp(in); got != want {
			t.Errorf("%d: %s at most, want %s", in, got, want)
		}
	}
	for n := uint64(1); n < 1<<62; n += n/97 + 1 {
		shown, err := humanize.ParseBytes(SizeUp(n))
		if err != nil || shown+1 < n || float64(shown) > float64(n)*1.12+2 { // of a fraction of a byte the parser takes nothing
			t.Fatalf("%d: %s, %v", n, SizeUp(n), err)
		}
	}
	for in, want := range map[uint64]string{0: "0", 999: "999", 1234567: "1,234,567", 1<<64 - 1: "18,446,744,073,709,551,615"} {
		if got := Count(in); got != want {
			t.Errorf("%d: %s, want %s", in, got, want)
		}
	}
	for in, want := range map[time.Duration]string{
		0: "0 ms", 350 * time.Millisecond: "350 ms", 12 * time.Second: "12 s", 185 * time.Second: "3 min 5 s", time.Hour: "1 h",
		130 * time.Minute: "2 h 10 min", 99 * time.Hour: "4 d 3 h", -time.Second: "-1 s",
	} {
		if got := Span(in); got != want {
			t.Errorf("%v: %s, want %s", in, got, want)
		}
	}
}

func TestTextAndJSONShowTheSameTime(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	if a, b := Time(at), at.Local().Format(JSONTimeLayout); a[:10] != b[:10] || a[11:] != b[11:23] {
		t.Errorf("%s and %s", a, b)
	}
}

func TestColourOnlyOnATerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if p := NewPainter(w); p.Paint(Bad, "x") != "x" {
		t.Error("colour goes into a pipe")
	}
	if got := Painter(true).Paint(Bad, "x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("%q", got)
	}
}

// FuzzClean holds that nothing but graphic characters and spaces comes out.
func FuzzClean(f *testing.F) {
	f.Add("a\x1b[0m\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		for _, out := range []string{Clean(s), Quote(s)} {
			if !utf8.ValidString(out) || !clean(out) {
				t.Fatalf("%q becomes %q", s, out)
			}
		}
		if Clean(Clean(s)) != Clean(s) {
			t.Fatalf("%q changes twice", s)
		}
	})
}

func TestOf(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 files", 1: "1 file", 1200: "1,200 files"} {
		if got := Of(n, "file"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
