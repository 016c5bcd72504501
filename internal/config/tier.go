package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// Tier says in which bucket the store is kept a second time; without a URL in none.
//
//	[tier]
//	url         = "s3://s3.example.com/bucket/prefix"
//	region      = "eu-central-1"            # by default the server is asked
//	credentials = "/home/me/.aws/other"     # by default those of the environment, or of ~/.aws/credentials
//	cache       = "20GiB"                   # what packs may take on the disk; what else of them the bucket has is fetched when it is read. "0": all stay
//	copies      = 2                         # so many places have a pack before it leaves this disk: the bucket, and peers that keep a backup; by default the bucket alone
//	rate        = "2MiB"                    # sent in a second at most; "0": no bound
//	http        = false                     # true: without TLS; on loopback that is the default
//	take_over   = ""                        # of a copy that is gone for good; the error says what to write here
type Tier struct {
	URL         string `toml:"url"`
	Region      string `toml:"region"`
	Credentials string `toml:"credentials"`
	Cache       Size   `toml:"cache"`
	Copies      int    `toml:"copies"`
	Rate        Size   `toml:"rate"`
	HTTP        *bool  `toml:"http"`
	TakeOver    string `toml:"take_over"`
}

// leastRate is the lowest bound, in bytes a second, with which an object of some size still gets there before its time.
const leastRate = 16 << 10

// leastCache is the least budget, in bytes: two packs.
const leastCache = 64 << 20

// mostCopies is how many can be wanted.
const mostCopies = 100

// tierFile is the part of [File] that tells of a bucket.
const tierFile = `
# A second copy of everything, sealed, in a bucket that speaks S3. Without these lines there is none.
# [tier]
# url         = "s3://s3.example.com/bucket/prefix"
# region      = "eu-central-1"  # by default the server is asked
# credentials = "/path/of/file" # by default those of the environment, or of ~/.aws/credentials
# cache       = "20GiB"         # what history may take on this disk: older packs are then in the bucket alone; "0": all stay
# copies      = 2               # so many places have a pack before it leaves this disk: the bucket, and peers of the level store (1: the bucket alone)
# rate        = "2MiB"          # sent in a second at most; "0": no bound
# http        = true            # without TLS; on loopback that is the default
# take_over   = ""              # only if an error says what to write here
`

func tierKeys() (keys []string) {
	for _, k := range []string{"url", "region", "credentials", "cache", "copies", "rate", "http", "take_over"} {
		keys = append(keys, "tier."+k)
	}
	return keys
}

// Place is what a URL of a bucket says.
type Place struct {
	Host   string // and port
	Bucket string
	Prefix string // empty, or with a slash at its end
	HTTP   bool   // without TLS
}

// Place returns where the bucket is.
func (t *Tier) Place() (p Place, err error) {
	const form = `tier.url is such as "s3://host/bucket/prefix"`
	rest, ok := strings.CutPrefix(t.URL, "s3://")
	if !ok {
		return p, fmt.Errorf("%s, not %q", form, t.URL)
	}
	p.Host, rest, _ = strings.Cut(rest, "/")
	p.Bucket, p.Prefix, _ = strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	switch {
	case strings.Contains(p.Host, "@"):
		return p, errors.New("tier.url is no place for credentials: they belong into the environment or into the file that tier.credentials names")
	case p.Host == "" || p.Bucket == "" || strings.ContainsAny(p.Host+p.Bucket, "?# \t\\%"):
		return p, fmt.Errorf("%s, not %q", form, t.URL)
	case len(p.Prefix) > 256 || strings.ContainsFunc(p.Prefix, func(r rune) bool { return r < ' ' || strings.ContainsRune(`?#\%`, r) }):
		return p, fmt.Errorf("the prefix in tier.url is up to 256 bytes of ordinary characters, not %q", p.Prefix)
	}
	for _, part := range strings.Split(p.Prefix, "/") {
		if p.Prefix != "" && (part == "" || part == "." || part == "..") {
			return p, fmt.Errorf("the prefix in tier.url has an empty part, or one that is . or ..: %q", p.Prefix)
		}
	}
	if p.Prefix != "" {
		p.Prefix += "/"
	}
	p.HTTP = loopback(p.Host)
	if t.HTTP != nil {
		p.HTTP = *t.HTTP
	}
	return p, nil
}

// loopback reports whether a host, with or without a port, is this machine.
func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (t *Tier) check() error {
	if t.URL == "" {
		if *t != (Tier{}) {
			return errors.New("the keys of [tier] are of no use without tier.url")
		}
		return nil
	}
	if _, err := t.Place(); err != nil {
		return err
	}
	if t.Cache > 0 && t.Cache < leastCache {
		return errors.New(`tier.cache is "0" or at least "64MiB"`)
	}
	if t.Copies < 0 || t.Copies > mostCopies {
		return fmt.Errorf("tier.copies is 1 to %d, and counts the bucket", mostCopies)
	}
	if t.Rate > 0 && t.Rate < leastRate {
		return errors.New(`tier.rate is "0" or at least "16KiB"`)
	}
	if t.Credentials != "" && !filepath.IsAbs(t.Credentials) {
		return fmt.Errorf("tier.credentials is the path of a file from the root on, not %q", t.Credentials)
	}
	if len(t.TakeOver) > 0 && len(t.TakeOver) < 16 {
		return errors.New("tier.take_over is what an error said, at least 16 characters of it")
	}
	return nil
}

// SetTier sets keys of [tier] in the text of a share.toml, and leaves all else as it is. It errors with KindInvalid where that cannot be done.
func SetTier(text []byte, path string, values map[string]string) ([]byte, error) {
	var out []string
	left := maps.Clone(values)
	flush := func() {
		for _, key := range slices.Sorted(maps.Keys(left)) {
			out = append(out, fmt.Sprintf("%s = %q\n", key, left[key]))
		}
		left = nil
	}
	inside := false
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "[") {
			inside = strings.HasPrefix(trimmed, "[tier]") && left != nil
		}
		if key, _, ok := strings.Cut(trimmed, "="); ok && inside {
			if _, set := values[strings.TrimSpace(key)]; set {
				continue
			}
		}
		out = append(out, strings.TrimSuffix(line, "\n")+"\n")
		if inside && left != nil {
			flush()
		}
	}
	if len(left) > 0 {
		out = append(out, "\n[tier]\n")
		flush()
	}
	text = []byte(strings.Join(out, ""))
	c, err := Parse(path, text)
	if err != nil {
		return nil, err
	}
	for key, value := range values {
		if got := map[string]string{"url": c.Tier.URL, "region": c.Tier.Region, "credentials": c.Tier.Credentials}[key]; got != value {
			return nil, invalid(path, fmt.Sprintf("tier.%s cannot be set to %q", key, value))
		}
	}
	return text, nil
}
