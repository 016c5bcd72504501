// Package config reads share.toml, the configuration of one store. It is strict: a key that is not known, a value of the wrong
// type or out of its range is an error that names it, because a slip in a file nobody looks at again must not go unseen.
//
//	[mount]
//	passthrough = "auto"      # or "off": content always goes through the daemon
//	atime       = "relatime"  # or "noatime", "strictatime"
//
//	[versions]
//	settle      = "1s"        # a file must be quiet for so long before its version is taken; "0s" keeps every close
//	pause       = "2s"        # after so long without a change, the next one of a command is another operation
//
//	[journal]
//	max_delay   = "5s"        # what no fsync asked for is on disk at the latest after so long
//	copy_delay  = "5s"        # and in checkpoints/, where a lost meta.db is made anew from, after so long again
//
//	[peers]                   # how other hosts are reached; see Peers
//	[metrics]                 # where programs are told how the mount is; see Metrics
//	[space]                   # how much of the share is kept here; see Space
//	[retention]               # how long history is kept; see Retention
//	[tier]                    # a bucket that keeps a second copy; see Tier
//
// Options of the mount (-o) win over the file, the file wins over the defaults.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"sharefs"
	"sharefs/internal/mountopt"
)

// Config is share.toml.
type Config struct {
	Mount     Mount     `toml:"mount"`
	Versions  Versions  `toml:"versions"`
	Journal   Journal   `toml:"journal"`
	Peers     Peers     `toml:"peers"`
	Retention Retention `toml:"retention"`
	Space     Space     `toml:"space"`
	Tier      Tier      `toml:"tier"`
	Metrics   Metrics   `toml:"metrics"`
}

// Mount holds defaults of the mount's options.
type Mount struct {
	Passthrough mountopt.Passthrough `toml:"passthrough"`
	Atime       mountopt.Atime       `toml:"atime"`
}

// Versions says how versions are made.
type Versions struct {
	Settle Duration `toml:"settle"`
	Pause  Duration `toml:"pause"`
}

// Journal bounds what a power loss may take.
type Journal struct {
	MaxDelay  Duration `toml:"max_delay"`
	CopyDelay Duration `toml:"copy_delay"`
}

// Duration is a time with its unit in the file: "1s".
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a time with its unit, such as \"1s\"", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Bounds of journal.max_delay: below the first the disk does nothing but sync, above the second a power loss takes minutes.
const (
	minDelay = 10 * time.Millisecond
	maxDelay = time.Minute
)

// Bounds of journal.copy_delay.
const (
	minCopyDelay = 100 * time.Millisecond
	maxCopyDelay = time.Hour
)

// Bounds of versions.pause: a command that works at all changes something more often than the second, and hardly any without pauses as long as the first.
const (
	minPause = 100 * time.Millisecond
	maxPause = 10 * time.Minute
)

// Default is the configuration of a new store.
func Default() Config {
	return Config{
		Mount:     Mount{Passthrough: mountopt.PassthroughAuto, Atime: mountopt.RelAtime},
		Versions:  Versions{Settle: Duration(time.Second), Pause: Duration(2 * time.Second)},
		Journal:   Journal{MaxDelay: Duration(5 * time.Second), CopyDelay: Duration(5 * time.Second)},
		Peers:     defaultPeers(),
		Retention: defaultRetention(),
		Space:     defaultSpace(),
	}
}

// File is what a new store's share.toml says: every key with its default, so that the file is its own manual.
const File = `# Configuration of this ShareFS store. A key that is not known is an error.
# Options of the mount (-o) win over this file.

[mount]
passthrough = "auto"     # "off": content always goes through the daemon
atime       = "relatime" # or "noatime", "strictatime"

[versions]
settle      = "1s"       # a file must be quiet for so long before its version is taken; "0s" keeps every close
pause       = "2s"       # after so long without a change, the next one of a command is another operation (sharefs undo)

[journal]
max_delay   = "5s"       # what no fsync asked for is on disk at the latest after so long
copy_delay  = "5s"       # and in checkpoints/, where a lost meta.db is made anew from, after so long again
` + peersFile + metricsFile + spaceFile + retentionFile + tierFile

// Load reads the file; a missing one gives the defaults.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Default(), nil
	}
	if err != nil {
		return Config{}, &sharefs.Error{Op: "read configuration", Kind: sharefs.KindOf(err), Err: err}
	}
	return Parse(path, text)
}

// mistyped is how the decoder begins to say that a value is not of the type of its key.
var mistyped = regexp.MustCompile(`^line (\d+) \(last key "(.*?)"\): (?:incompatible types|type mismatch)`)

// Parse reads text; path is for errors, which are [sharefs.Error] of KindInvalid.
func Parse(path string, text []byte) (Config, error) {
	c := Default()
	meta, err := toml.NewDecoder(bytes.NewReader(text)).Decode(&c)
	if err != nil {
		detail := strings.ReplaceAll(strings.TrimPrefix(err.Error(), "toml: "), "\n", " ")
		var at toml.ParseError
		if errors.As(err, &at) {
			detail = fmt.Sprintf("line %d: %s", at.Position.Line, at.Message)
			if at.LastKey != "" {
				detail = fmt.Sprintf("line %d: %s: %s", at.Position.Line, at.LastKey, at.Message)
			}
		} else if m := mistyped.FindStringSubmatch(detail); m != nil { // in the words of Go's types
			detail = fmt.Sprintf("line %s: %s: its value is of another type than belongs there: texts, times and sizes stand in quotes, numbers, true and false do not, and [NAME] begins a section", m[1], m[2])
		}
		return Config{}, invalid(path, detail)
	}
	if odd := meta.Undecoded(); len(odd) > 0 {
		key := odd[0].String()
		detail := fmt.Sprintf("key %s is not known", key)
		if near := mountopt.Nearest(key, append(Keys(), pathKeys()...)); near != "" {
			detail += "; did you mean " + near + "?"
		}
		return Config{}, invalid(path, detail)
	}
	if err := c.check(); err != nil {
		return Config{}, invalid(path, err.Error())
	}
	return c, nil
}

// Keys lists all keys, in the order of the file.
func Keys() []string {
	return append([]string{"mount.passthrough", "mount.atime", "versions.settle", "versions.pause", "journal.max_delay", "journal.copy_delay"},
		slices.Concat(peersKeys(), metricsKeys(), spaceKeys(), retentionKeys(), tierKeys())...)
}

func (c *Config) check() error {
	if _, err := mountopt.ParsePassthrough(string(c.Mount.Passthrough)); err != nil {
		return fmt.Errorf("mount.passthrough is \"auto\" or \"off\", not %q", c.Mount.Passthrough)
	}
	if _, err := mountopt.ParseAtime(string(c.Mount.Atime)); err != nil {
		return fmt.Errorf("mount.atime is \"noatime\", \"relatime\" or \"strictatime\", not %q", c.Mount.Atime)
	}
	if s := time.Duration(c.Versions.Settle); s < 0 || s > mountopt.MaxSettle {
		return fmt.Errorf("versions.settle is from \"0s\" to \"24h\", not \"%v\"", s)
	}
	if p := time.Duration(c.Versions.Pause); p < minPause || p > maxPause {
		return fmt.Errorf("versions.pause is from \"100ms\" to \"10m\", not \"%v\"", p)
	}
	if d := time.Duration(c.Journal.MaxDelay); d < minDelay || d > maxDelay {
		return fmt.Errorf("journal.max_delay is from \"10ms\" to \"1m\", not \"%v\"", d)
	}
	if d := time.Duration(c.Journal.CopyDelay); d < minCopyDelay || d > maxCopyDelay {
		return fmt.Errorf("journal.copy_delay is from \"100ms\" to \"1h\", not \"%v\"", d)
	}
	if err := c.Peers.check(); err != nil {
		return err
	}
	if err := c.Metrics.check(); err != nil {
		return err
	}
	if err := c.Space.check(); err != nil {
		return err
	}
	if err := c.Tier.check(); err != nil {
		return err
	}
	return c.Retention.check()
}

func invalid(path, detail string) error {
	return &sharefs.Error{Op: "configuration", Path: path, Kind: sharefs.KindInvalid, Detail: detail}
}
