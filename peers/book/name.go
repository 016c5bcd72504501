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
// plays tricks on a terminal. Letters that are not seen (U+3164, say) are none.
func CleanName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r != utf8.RuneError && (unicode.IsLetter(r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) || unicode.IsDigit(r) || r == '.' || r == '_') {
			return r
		}
		return '-'
	}, s[:min(len(s), 4*maxName)])
	s = short(s, maxName)
	for strings.Contains(s, "--") {
		s = strings.ReplaceAll(s, "--", "-")
	}
	if s == "" {
		return "peer"
	}
	return s
}

// short cuts a name to at most so many bytes, between two characters.
func short(s string, most int) string {
	for len(s) > most {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return strings.Trim(s, ".-")
}

// free returns the name, or one with a number behind it, that no other peer has; case does not tell names apart.
func free(name string, taken func(string) bool) string {
	if !taken(name) {
		return name
	}
	for n := 2; ; n++ {
		number := "-" + strconv.Itoa(n)
		if with := short(name, maxName-len(number)) + number; !taken(with) {
			return with
		}
	}
}
