package retain

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultVersions is how many versions of each live file stay whatever their age.
const DefaultVersions = 3

// MaxVersions bounds that number: finding them is work for each file.
const MaxVersions = 1000

// NoHistory is the quota of which nothing but what has to stay can be kept; 0 is no quota.
const NoHistory = 1

// Policy is everything that a user says about how long history is kept.
type Policy struct {
	Rules
	MinVersions int    // of each live file: so many of the newest stay whatever their age
	Quota       uint64 // bytes of history; 0: as many as it takes
	Paths       []Path // where several match, the last one counts
}

// Path is a rule for the content of some files. It may keep more than the policy or less.
type Path struct {
	Match string // see [Match]
	Rule
}

// Rule is what is said of one file or of all below a directory: it counts alone, so that what it does not name is not kept.
type Rule struct {
	Rules
	MinVersions int
}

// DefaultPolicy is that of a new store.
func DefaultPolicy() Policy { return Policy{Rules: Default(), MinVersions: DefaultVersions} }

// Keys are the words of a rule, in the order in which they are written.
func Keys() []string {
	return []string{"all", "hourly", "daily", "weekly", "monthly", "yearly", "min_versions"}
}

func (r *Rules) span(key string) *Span {
	switch key {
	case "all":
		return &r.All
	case "hourly":
		return &r.Hourly
	case "daily":
		return &r.Daily
	case "weekly":
		return &r.Weekly
	case "monthly":
		return &r.Monthly
	case "yearly":
		return &r.Yearly
	}
	return nil
}

// ParseRule reads a rule from one line: "all=1d daily=30d min_versions=5", or "forever" (all=forever), or "none" (nothing but what the file holds
// now). Words may be parted by spaces, commas and line breaks. What is not named is not kept, but for the DefaultVersions newest versions.
func ParseRule(s string) (Rule, error) {
	r := Rule{MinVersions: DefaultVersions}
	words := strings.FieldsFunc(s, func(c rune) bool { return c == ' ' || c == ',' || c == '\n' || c == '\t' })
	if len(words) == 1 {
		switch words[0] {
		case "forever":
			r.All = Forever
			return r, nil
		case "none":
			return Rule{}, nil
		}
	}
	if len(words) == 0 {
		return r, fmt.Errorf("a rule is \"forever\", \"none\", or words such as all=1d daily=30d")
	}
	seen := map[string]bool{}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok || seen[key] {
			return r, fmt.Errorf("%q: a rule is \"forever\", \"none\", or words such as all=1d daily=30d, each once", w)
		}
		seen[key] = true
		if key == "min_versions" {
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil || n > MaxVersions {
				return r, fmt.Errorf("min_versions is a number from 0 to %d, not %q", MaxVersions, value)
			}
			r.MinVersions = int(n)
			continue
		}
		span := r.span(key)
		if span == nil {
			return r, fmt.Errorf("%q is not one of %s", key, strings.Join(Keys(), ", "))
		}
		var err error
		if *span, err = ParseSpan(value); err != nil {
			return r, fmt.Errorf("%s: %w", key, err)
		}
	}
	return r, nil
}

// String writes what ParseRule reads.
func (r Rule) String() string {
	var b strings.Builder
	for _, key := range Keys() {
		if s := r.span(key); s != nil && *s > 0 {
			fmt.Fprintf(&b, "%s=%v ", key, *s)
		}
	}
	fmt.Fprintf(&b, "min_versions=%d", r.MinVersions)
	return b.String()
}
