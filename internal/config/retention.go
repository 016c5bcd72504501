package config

import (
	"fmt"

	"sharefs/internal/bytesize"
	"sharefs/internal/retain"
)

// Retention says how long history is kept.
//
//	[retention]
//	all          = "1d"      # every moment of the last day
//	hourly       = "7d"      # the last moment of each hour, for a week
//	daily        = "30d"
//	weekly       = "1y"
//	monthly      = "0"       # or a time, or "forever"
//	yearly       = "0"
//	min_versions = 3         # the newest of each file stay, whatever their age
//	quota        = "0"       # of the space that history takes, such as "20GiB"; "0": none
//
//	[[retention.path]]       # the content of some files: this rule alone counts for them
//	match        = "*.o"
//	all          = "1h"
//	min_versions = 1
type Retention struct {
	retain.Rules
	MinVersions int             `toml:"min_versions"`
	Quota       Size            `toml:"quota"`
	Path        []RetentionPath `toml:"path"`
}

// RetentionPath is a rule for the content of some files. What it does not name it does not keep, but for three versions.
type RetentionPath struct {
	Match string `toml:"match"`
	retain.Rules
	MinVersions *int `toml:"min_versions"`
}

// Size is a number of bytes with its unit in the file: "20GiB".
type Size = bytesize.Size

func defaultRetention() Retention {
	p := retain.DefaultPolicy()
	return Retention{Rules: p.Rules, MinVersions: p.MinVersions}
}

// retentionFile is the part of [File] that says how long history is kept.
const retentionFile = `
# How long history is kept; times are such as "12h", "7d", "4w", "1y", "forever" or "0".
[retention]
all          = "1d"      # every moment
hourly       = "7d"      # the last moment of each hour
daily        = "30d"     # of each day
weekly       = "1y"      # of each week
monthly      = "0"       # of each month
yearly       = "0"       # of each year
min_versions = 3         # the newest versions of each file, which stay whatever their age
quota        = "0"       # of the space that history takes, such as "20GiB"; "0": none

# The content of some files may be kept otherwise: the last rule that matches counts alone.
# [[retention.path]]
# match = "*.o"          # a name, or a path such as "build/**"; what matches a directory counts for all below it
# all = "1h"
# min_versions = 1
`

// retentionKeys are the keys of the file, pathKeys those that a rule for a path may have.
func retentionKeys() (keys []string) {
	for _, k := range append(retain.Keys(), "quota") {
		keys = append(keys, "retention."+k)
	}
	return keys
}

func pathKeys() (keys []string) {
	for _, k := range append([]string{"match"}, retain.Keys()...) {
		keys = append(keys, "retention.path."+k)
	}
	return keys
}

func (r *Retention) check() error {
	if len(r.Path) == 0 {
		r.Path = nil
	}
	if r.MinVersions < 0 || r.MinVersions > retain.MaxVersions {
		return fmt.Errorf("retention.min_versions is from 0 to %d, not %d", retain.MaxVersions, r.MinVersions)
	}
	for i := range r.Path {
		p := &r.Path[i]
		if err := retain.CheckPattern(p.Match); err != nil {
			return fmt.Errorf("retention.path number %d: match is %q: %w", i+1, p.Match, err)
		}
		if n := p.MinVersions; n != nil && (*n < 0 || *n > retain.MaxVersions) {
			return fmt.Errorf("retention.path %q: min_versions is from 0 to %d, not %d", p.Match, retain.MaxVersions, *n)
		}
	}
	return nil
}

// Policy returns what the tree is to go by.
func (r *Retention) Policy() retain.Policy {
	p := retain.Policy{Rules: r.Rules, MinVersions: r.MinVersions, Quota: uint64(r.Quota)}
	for i := range r.Path {
		rule := retain.Rule{Rules: r.Path[i].Rules, MinVersions: retain.DefaultVersions}
		if n := r.Path[i].MinVersions; n != nil {
			rule.MinVersions = *n
		}
		p.Paths = append(p.Paths, retain.Path{Match: r.Path[i].Match, Rule: rule})
	}
	return p
}
