package daemon

import (
	"errors"
	"maps"
	"slices"
	"sort"
	"strings"
	"testing"

	"sharefs"
)

func TestParseCtl(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                   nil,
		"\n \t\n":                            nil,
		"sync":                               {"sync"},
		"sync\nset atime=noatime\n":          {"sync", "set atime=noatime"},
		" set  atime=noatime atime=relatime": {"set atime=relatime"}, // the last one holds
	} {
		got, err := parseCtl(text)
		if err != nil || !slices.Equal(lines(got), want) {
			t.Errorf("%q reads as %q, %v", text, lines(got), err)
		}
	}
	for _, text := range []string{"sink", "sync now", "sync a=b", "set", "set atime", "set atime=", "set a=b", "SYNC", "sync\nset x"} {
		if _, err := parseCtl(text); !errors.Is(err, sharefs.KindInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// lines writes commands as they are typed.
func lines(commands []command) (out []string) {
	for _, c := range commands {
		line := c.verb
		keys := slices.Collect(maps.Keys(c.args))
		sort.Strings(keys)
		for _, key := range keys {
			line += " " + key + "=" + c.args[key]
		}
		out = append(out, line)
	}
	return out
}

// What is read is what verbs allows, and reads the same again.
func FuzzParseCtl(f *testing.F) {
	f.Add("sync\nset atime=relatime\n")
	f.Add("set atime=noatime atime=x\r\n\n sync")
	f.Fuzz(func(t *testing.T, text string) {
		commands, err := parseCtl(text)
		if err != nil {
			if !errors.Is(err, sharefs.KindInvalid) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for _, c := range commands {
			v, ok := verbs[c.verb]
			if !ok {
				t.Errorf("%q: %q is no verb", text, c.verb)
			}
			for key, value := range c.args {
				if !slices.Contains(v.keys, key) || value == "" {
					t.Errorf("%q: %s=%q", text, key, value)
				}
			}
		}
		again, err := parseCtl(strings.Join(lines(commands), "\n"))
		if err != nil || !slices.Equal(lines(again), lines(commands)) {
			t.Errorf("%q reads as %q, and that as %q, %v", text, lines(commands), lines(again), err)
		}
	})
}
