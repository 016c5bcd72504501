package retain

import (
	"strings"
	"testing"
)

func TestSpans(t *testing.T) {
	for text, want := range map[string]Span{
		"0": 0, "forever": Forever, "90m": Span(90) * Hour / 60, "24h": Day, "7d": Week, "4w": 28 * Day, "1y": 365 * Day, "30d": 30 * Day, "0d": 0, "200y": maxSpan,
	} {
		got, err := ParseSpan(text)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if back, err := ParseSpan(got.String()); back != got || err != nil {
			t.Errorf("%q is written %q", text, got)
		}
	}
	for _, text := range []string{"", "d", "1", "-1d", "+1d", "1s", "1.5d", "1dd", "201y", "99999999999999999999d", " 1d", "Forever", "1M", "dd", "4294967295y"} {
		if s, err := ParseSpan(text); err == nil {
			t.Errorf("%q is taken as %v", text, s)
		}
	}
	for text, want := range map[string]string{"24h": "1d", "365d": "1y", "14d": "2w", "28d": "4w", "30d": "30d", "36h": "36h", "90m": "90m"} {
		if s, _ := ParseSpan(text); s.String() != want {
			t.Errorf("%q is written %q, want %q", text, s, want)
		}
	}
}

func TestRules(t *testing.T) {
	for text, want := range map[string]Rule{
		"forever":                    {Rules{All: Forever}, 3},
		"none":                       {},
		"all=1d":                     {Rules{All: Day}, 3},
		"all=1d, daily=forever\n":    {Rules{All: Day, Daily: Forever}, 3},
		"weekly=1y min_versions=10":  {Rules{Weekly: Year}, 10},
		"min_versions=0":             {},
		"hourly=2d monthly=1y":       {Rules{Hourly: 2 * Day, Monthly: Year}, 3},
		"yearly=forever,all=90m":     {Rules{Yearly: Forever, All: Span(90) * Hour / 60}, 3},
		"all=0 hourly=0 daily=0":     {Rule{}.Rules, 3},
		"\tall=1h\tmin_versions=1  ": {Rules{All: Hour}, 1},
	} {
		got, err := ParseRule(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if back, err := ParseRule(got.String()); back != got || err != nil {
			t.Errorf("%q is written %q, which is %+v, %v", text, got, back, err)
		}
	}
	for text, want := range map[string]string{
		"":                   "a rule is",
		"always":             `"always": a rule is`,
		"all=1d all=2d":      "each once",
		"each=1d":            `"each" is not one of all, hourly`,
		"all=soon":           `all: "soon" is not a time`,
		"min_versions=-1":    "min_versions is a number",
		"min_versions=10000": "min_versions is a number",
		"forever none":       "a rule is",
	} {
		if _, err := ParseRule(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"forever", "none", "all=1d daily=30d", "min_versions=7,weekly=4w", "all=", "=", "all=9999999999y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			return
		}
		if back, err := ParseRule(r.String()); err != nil || back != r {
			t.Fatalf("%q: %+v is written %q, which is %+v, %v", s, r, r, back, err)
		}
	})
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*.o", "a.o", true}, {"*.o", "x/y/a.o", true}, {"*.o", "a.out", false}, {"build", "x/build", true}, {"build/", "build", true},
		{"/build", "build", true}, {"/build", "x/build", false}, {"x/*", "x/y", true}, {"x/*", "x/y/z", false}, {"x/**", "x/y/z", true},
		{"**/tmp", "a/b/tmp", true}, {"**/tmp", "tmp", true}, {"a/**/b/**/c", "a/x/b/b/y/c", true}, {"a/**/b", "a/c", false},
		{"a/**/b", "a/b", true}, {"**", "any/thing", true}, {"a?c/[xy]", "abc/y", true}, {"a?c/[xy]", "abc/z", false}, {"**/a/**/a/**/a/**", "a/b/a/c/d/a", true},
		{"x/**/y", "x/a/b/y/c", false}, {"**/**/x", "x", true}, {"docs/*.md", "docs/a.md", true}, {"docs/*.md", "a/docs/a.md", false},
	} {
		if got := Match(c.pattern, c.name); got != c.want {
			t.Errorf("%q and %q: %v", c.pattern, c.name, got)
		}
	}
	for pattern, ok := range map[string]bool{"a": true, "": false, "/": false, "[": false, "a/[b": false, "a/**": true, "[a]": true} {
		if err := CheckPattern(pattern); (err == nil) != ok {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}
