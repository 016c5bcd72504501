package recovery

import (
	"fmt"
	"strings"

	"sharefs"
)

// Parse reads a sheet: the text that was printed, what somebody has typed of it (the bucket or peers, and numbered lines of words), or the line that the QR code has.
// Lines that are none of these are passed over. Errors have KindInvalid and say what is wrong, and where.
func Parse(text string) (*Sheet, error) {
	var lines [Lines]string
	var p Place
	var peers []Peer
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
		case name == "peer" && rest != "":
			f := strings.Fields(rest)
			peer, err := ParsePeer(f[0], f[1:])
			if err != nil {
				return nil, err
			}
			peers = append(peers, peer)
			continue
		case name == "at" && rest != "" && len(peers) > 0:
			for _, a := range strings.Fields(rest) {
				if err := checkAddr(a); err != nil {
					return nil, err
				}
				if last := &peers[len(peers)-1]; len(last.Addrs) < maxAddrs {
					last.Addrs = append(last.Addrs, a)
				}
			}
			continue
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
	if p.URL == "" && len(peers) == 0 {
		return nil, &sharefs.Error{Op: "read the recovery sheet", Kind: sharefs.KindInvalid, Detail: "the bucket is missing, or the peer: a line such as bucket s3://host/bucket/prefix, or peer ID HOST:PORT"}
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
	return New(p, peers, words)
}

// New puts a sheet together out of what ParseLine has read.
func New(p Place, peers []Peer, lines [Lines][]int) (*Sheet, error) {
	var all []int
	for _, words := range lines {
		all = append(all, words...)
	}
	s, err := fromBytes(join(all), p)
	if err == nil {
		s.Peers = peers
	}
	return s, err
}
