package book

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is in bytes.
const maxName = 48

// CleanName makes a name for a peer of what it calls itself: letters, digits, ".", "_" and "-", so that it is one word for a shell, a file name, and nothing that
// plays tricks on a terminal.
func CleanName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '.' || r == '_') {
			return r
		}
		return '-'
	}, s[:min(len(s), 4*maxName)])
	for len(s) > maxName {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	s = strings.Trim(s, ".-")
	for strings.Contains(s, "--") {
		s = strings.ReplaceAll(s, "--", "-")
	}
	if s == "" {
		return "peer"
	}
	return s
}

// free returns the name, or one with a number behind it, that no other peer has; case does not tell names apart.
func free(name string, taken func(string) bool) string {
	if !taken(name) {
		return name
	}
	for n := 2; ; n++ {
		if with := name + "-" + strconv.Itoa(n); !taken(with) {
			return with
		}
	}
}
