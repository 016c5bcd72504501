package fs

import (
	"strings"
	"testing"
)

func TestSplitPast(t *testing.T) {
	for _, c := range []struct {
		name, file, suffix string
		ok                 bool
	}{
		{"a@@", "a", "", true},
		{"a@@3", "a", "3", true},
		{"a@@2026-11-20@10:00", "a", "2026-11-20@10:00", true},
		{"a@@b@@3", "a@@b", "3", true},
		{"a@@@", "a@", "", true},
		{"@@3", "", "", false}, // no file
		{"@@", "", "", false},
		{"a@3", "", "", false},
		{"", "", "", false},
	} {
		file, suffix, ok := splitPast(c.name)
		if file != c.file || suffix != c.suffix || ok != c.ok {
			t.Errorf("splitPast(%q) = %q, %q, %v, want %q, %q, %v", c.name, file, suffix, ok, c.file, c.suffix, c.ok)
		}
	}
}

func TestVersionNumber(t *testing.T) {
	for _, c := range []struct {
		s  string
		n  uint64
		ok bool
	}{
		{"1", 1, true}, {"10", 10, true}, {"9223372036854775807", 1<<63 - 1, true},
		{"0", 0, false}, {"01", 0, false}, {"", 0, false},
		{"-1", 0, false}, {"+1", 0, false}, {"1a", 0, false}, {" 1", 0, false},
		{"9223372036854775808", 0, false}, {"1_0", 0, false},
	} {
		if n, ok := versionNumber(c.s); ok != c.ok || ok && n != c.n {
			t.Errorf("versionNumber(%q) = %d, %v, want %d, %v", c.s, n, ok, c.n, c.ok)
		}
	}
}

// What is split can be joined again, and the file's name is never empty.
func FuzzSplitPast(f *testing.F) {
	for _, s := range []string{"a@@", "a@@3", "@@", "a@@b@@c", "@@@@@", "no"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		file, suffix, ok := splitPast(name)
		switch {
		case ok && (file == "" || file+pastMark+suffix != name || strings.Contains(suffix, pastMark)):
			t.Errorf("splitPast(%q) = %q, %q", name, file, suffix)
		case !ok && strings.LastIndex(name, pastMark) > 0:
			t.Errorf("splitPast(%q) found nothing", name)
		}
	})
}
