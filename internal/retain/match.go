package retain

import (
	"errors"
	"path"
	"strings"
)

// Match reports whether a pattern of a [Path] matches a path from the root of the tree, which has no slash at its ends. What matches a directory counts
// for all below it; that is the caller's business. A pattern without a slash, but at its end, matches the last name of a path; any other one matches the
// whole path. "*", "?" and "[…]" match within a name as in [path.Match], and a name "**" any number of names.
func Match(pattern, name string) bool {
	pattern = strings.TrimSuffix(pattern, "/")
	if !strings.Contains(pattern, "/") {
		ok, err := path.Match(pattern, name[strings.LastIndexByte(name, '/')+1:])
		return err == nil && (ok || pattern == "**")
	}
	return matchNames(strings.Split(strings.Trim(pattern, "/"), "/"), strings.Split(name, "/"))
}

// matchNames matches name by name. Of several "**" only the last one needs to be tried again (as with "*" in a string), so it takes no more than
// the product of both lengths.
func matchNames(pattern, names []string) bool {
	p, n := 0, 0
	again, at := -1, 0 // behind the last "**", and how many names it took
	for n < len(names) {
		if p < len(pattern) {
			if pattern[p] == "**" {
				p++
				again, at = p, n
				continue
			}
			if ok, err := path.Match(pattern[p], names[n]); err == nil && ok {
				p++
				n++
				continue
			}
		}
		if again < 0 {
			return false
		}
		at++
		p, n = again, at
	}
	for p < len(pattern) && pattern[p] == "**" {
		p++
	}
	return p == len(pattern)
}

// CheckPattern returns what is wrong with a pattern.
func CheckPattern(pattern string) error {
	if strings.Trim(pattern, "/") == "" {
		return errors.New("a pattern is a name or a path, such as \"*.o\" or \"build/**\"")
	}
	for _, p := range strings.Split(pattern, "/") {
		if _, err := path.Match(p, ""); err != nil {
			return errors.New("a bracket of the pattern is not closed")
		}
	}
	return nil
}
