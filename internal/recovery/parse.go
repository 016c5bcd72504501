package recovery

import (
	"fmt"
	"strings"

	"sharefs"
)

// Parse reads a sheet: the text that was printed, what somebody has typed of it (the bucket, and numbered lines of words), or the line that the QR code has.
// Lines that are none of these are passed over. Errors have KindInvalid and say what is wrong, and where.
func Parse(text string) (*Sheet, error) {
	var lines [Lines]string
	var p Place
	for line := range strings.Lines(text) {
		first, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		if first == magic {
			return parseLine(strings.TrimSpace(line))
		}
		name := strings.ToLower(strings.TrimRight(first, ":.)"))
		var to *string
		switch {
		case name == "bucket" && strings.Contains(rest, "://"):
			to = &p.URL
		case name == "region" && rest != "" && !strings.Contains(rest, " "):
			to = &p.Region
		case name == "http" && (rest == "true" || rest == "false"):
			to = &p.HTTP
		case len(name) == 1 && name[0] >= '1' && name[0] < '1'+Lines:
			to = &lines[name[0]-'1']
		default:
			continue
		}
		if *to != "" && *to != rest {
			return nil, &sharefs.Error{Op: "read the recovery sheet", Path: first, Kind: sharefs.KindInvalid, Detail: "it is there twice"}
		}
		*to = rest
	}
	if p.URL == "" {
		return nil, &sharefs.Error{Op: "read the recovery sheet", Kind: sharefs.KindInvalid, Detail: "the bucket is missing: a line such as bucket s3://host/bucket/prefix"}
	}
	var words [Lines][]int
	for i, text := range lines {
		if text == "" {
			return nil, &sharefs.Error{Op: "read the recovery sheet", Path: fmt.Sprintf("line %d", i+1), Kind: sharefs.KindInvalid,
				Detail: "it is missing: a line begins with its number, and has five words"}
		}
		var err error
		if words[i], err = ParseLine(i+1, text); err != nil {
			return nil, err
		}
	}
	return New(p, words)
}

// New puts a sheet together out of what ParseLine has read.
func New(p Place, lines [Lines][]int) (*Sheet, error) {
	var all []int
	for _, words := range lines {
		all = append(all, words...)
	}
	return fromBytes(join(all), p)
}
