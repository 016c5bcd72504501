package trust

import (
	"cmp"
	"strconv"
	"strings"

	"sharefs"
	"sharefs/internal/retain"
)

// Pattern names places of a share, from its root: names parted by slashes, where "*", "?" and "[…]" match within a name as in [path.Match] and
// a name "**" any number of names. What it matches it names with all that lies below. The zero value names the whole share.
type Pattern struct{ text string }

// PatternMax bounds a pattern, in bytes.
const PatternMax = 4096

// ParsePattern reads a pattern. Slashes at its ends count for nothing: "", "/" and "**" are the whole share. Errors are of [sharefs.KindInvalid].
func ParsePattern(s string) (Pattern, error) {
	refuse := func(detail string) (Pattern, error) {
		return Pattern{}, &sharefs.Error{Op: "trust", Path: quote(s), Kind: sharefs.KindInvalid, Detail: detail}
	}
	text := strings.Trim(s, "/")
	if text == "" || text == "**" {
		return Pattern{}, nil
	}
	if len(text) > PatternMax {
		return refuse("a path of a rule is at most " + strconv.Itoa(PatternMax) + " bytes long")
	}
	for _, name := range strings.Split(text, "/") {
		switch {
		case name == "":
			return refuse("two slashes in a row in the path of a rule")
		case name == "." || name == "..":
			return refuse("the path of a rule begins at the root of the share and goes down only, without \".\" and \"..\"")
		case strings.Contains(name, "**") && name != "**":
			return refuse("\"**\" stands for whole names: write it alone between slashes")
		case strings.ContainsRune(name, 0):
			return refuse("a name cannot hold a NUL byte")
		}
	}
	if err := retain.CheckPattern("/" + text); err != nil {
		return refuse(err.Error())
	}
	return Pattern{text}, nil
}

// String returns the pattern; the whole share is "/".
func (p Pattern) String() string {
	if p.text == "" {
		return "/"
	}
	return p.text
}

// place returns how many names the highest place has that the pattern names on the way to path, whose names stand in names; ok is false where it names
// none of them.
func (p Pattern) place(names []string) (depth int, ok bool) {
	if p.text == "" {
		return 0, true
	}
	for depth = 1; depth <= len(names); depth++ {
		if retain.Match("/"+p.text, strings.Join(names[:depth], "/")) {
			return depth, true
		}
	}
	return 0, false
}

// leads reports whether names are those of directories that lead to what the pattern names.
func (p Pattern) leads(names []string) bool {
	all := strings.Split(p.text, "/")
	if len(all) <= len(names) {
		return false
	}
	for i, name := range names {
		if all[i] == "**" || !retain.Match("/"+all[i], name) {
			return false
		}
	}
	return true
}

// below reports whether the pattern may name something that lies below what another one names, of which it is not known how deep it is if "**" is in it.
func (p Pattern) below(above Pattern) bool {
	if above.text == "" {
		return p.text != ""
	}
	all, names := strings.Split(p.text, "/"), strings.Split(above.text, "/")
	for i, name := range names {
		switch {
		case name == "**" || i == len(all):
			return false
		case all[i] == "**":
			return p != above
		case name != all[i] && !strings.ContainsAny(name, `*?[\`) && !retain.Match("/"+all[i], name):
			return false
		}
	}
	return len(all) > len(names)
}

// narrower orders patterns that name the same place: before zero, p comes first.
func (p Pattern) narrower(q Pattern) int {
	pw, pa := p.weigh()
	qw, qa := q.weigh()
	return cmp.Or(cmp.Compare(qw, pw), cmp.Compare(pa, qa), cmp.Compare(p.text, q.text))
}

// weigh counts the names that are written out, and those that are "**".
func (p Pattern) weigh() (written, any int) {
	for _, name := range strings.Split(p.text, "/") {
		switch {
		case name == "**":
			any++
		case name != "" && !strings.ContainsAny(name, `*?[\`):
			written++
		}
	}
	return written, any
}

// splitPath returns the names of a path from the root of the share; slashes at its ends and in a row count for nothing.
func splitPath(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
}

// quote makes text of others fit for a terminal.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
