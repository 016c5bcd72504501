package qrcode

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	const link = "SHAREFS:AADQ4FI4EMVDCO/Q3KD/192.0.2.7:41300"
	plain, err := Text(link, false)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(plain, "\n"), "\n")
	width := utf8.RuneCountInString(lines[0])
	for i, line := range lines {
		if utf8.RuneCountInString(line) != width {
			t.Errorf("line %d is %d wide, the first %d", i, utf8.RuneCountInString(line), width)
		}
	}
	if len(lines) != (width+1)/2 {
		t.Errorf("%d lines of %d", len(lines), width)
	}
	// The finder pattern in the corner (ISO/IEC 18004, section 6.3.3), with the quiet zone around it.
	for i, want := range []string{"             ", "             ", "    █▀▀▀▀▀█  ", "    █ ███ █  ", "    █ ▀▀▀ █  ", "    ▀▀▀▀▀▀▀  "} {
		if got := string([]rune(lines[i])[:12]); got != string([]rune(want)[:12]) {
			t.Errorf("line %d begins %q, want %q", i, got, want)
		}
	}
	if coloured, err := Text(link, true); err != nil || strings.Count(coloured, "\x1b[0m\n") != len(lines) {
		t.Errorf("%q, %v", coloured, err)
	}
	if lower, err := Text(strings.ToLower(link), false); err != nil || len(lower) <= len(plain) {
		t.Errorf("small letters make no larger code: %v", err)
	}
	if _, err := Text(strings.Repeat("x", 4000), false); err == nil {
		t.Error("a text that no code holds")
	}
}
