package trust

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"sharefs"
)

var people = map[string]sharefs.PeerID{"alice": alice, "bob": bob, "my laptop": {3}, "#4": {4}}

func byName(word string) (sharefs.PeerID, bool) { id, ok := people[word]; return id, ok }

func nameOf(id sharefs.PeerID) string {
	for name, have := range people {
		if have == id {
			return name
		}
	}
	return ""
}

func TestTextForm(t *testing.T) {
	in := "# who may what\n\n  grant\tbob  write projects/**\r\ngrant bob paired # all else\nceiling bob propose\n" +
		"grant alice read \"a b/*.\\\"x\\\"\"\ngrant \"my laptop\" manage /\ngrant \"#4\" store \"\\x1b]31m\"\n"
	p, err := Parse(in, byName)
	if err != nil {
		t.Fatal(err)
	}
	want := `grant alice read "a b/*.\"x\""
ceiling bob propose
grant bob paired
grant bob write projects/**
grant "my laptop" manage
grant "#4" store "\x1b]31m"
`
	if got := p.Format(nameOf); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if p.Level(bob, "projects/x") != Propose || p.Level(alice, `a b/c."x"`) != Read || p.Level(people["my laptop"], "x") != Manage {
		t.Error("levels")
	}
	wantText := "propose: receives versions and content; what it writes is shown aside until you accept it\n" +
		"  write    projects/**              wins\n" +
		"  paired   /                        a rule for a place nearer to it wins\n" +
		"  propose                           is the peer's ceiling\n"
	if got := p.Explain(bob, "projects/x").String(); got != wantText {
		t.Errorf("%s\nwant\n%s", got, wantText)
	}
	if got := p.Explain(alice, "b").String(); !strings.Contains(got, "no rule of this peer speaks of the path") {
		t.Error(got)
	}
	if got := p.Explain(sharefs.PeerID{9}, "b").String(); !strings.Contains(got, "there is no rule for this peer") {
		t.Error(got)
	}
}

func TestTextRefused(t *testing.T) {
	for in, want := range map[string]string{
		"\nallow bob read":                   `line 2: "allow": a line begins with`,
		"grant bob":                          "2 words",
		"grant bob read a b":                 "5 words",
		"ceiling bob read a":                 "4 words",
		"grant carol read":                   `"carol": no peer of this name`,
		"grant bob reed":                     "there are blocked, paired",
		"grant bob read a//b":                "two slashes",
		"grant bob read\ngrant bob write /":  "line 1 says the same",
		"ceiling bob read\nceiling bob read": "line 1 says the same",
		`grant bob read "a`:                  "does not end",
		`grant bob read "a"b`:                "a space is missing",
		`grant bob read a"b"`:                "quote the whole word",
		"grant \x1b[1m read":                 `"\x1b[1m": no peer`,
	} {
		p, err := Parse(in, byName)
		if !errors.Is(err, sharefs.KindInvalid) || !strings.Contains(err.Error(), want) || len(p.Peers()) > 0 {
			t.Errorf("%q: %v", in, err)
		}
	}
	if _, err := Parse(strings.Repeat("#", TextMax+1), byName); !errors.Is(err, sharefs.KindTooBig) {
		t.Error(err)
	}
}

// FuzzParse: no text panics, and what is read is written and read back the same.
func FuzzParse(f *testing.F) {
	f.Add("grant bob read a/b\nceiling bob write\n# x")
	f.Add("grant \"a \\u00e9\" manage \"x y\"")
	f.Add("grant bob blocked \"\\x00\"")
	resolve := func(w string) (id sharefs.PeerID, ok bool) {
		id[0] = byte(len(w))
		copy(id[1:], w)
		return id, len(w) < 31 && len(w) > 0
	}
	name := func(id sharefs.PeerID) string { return string(id[1 : 1+id[0]]) }
	f.Fuzz(func(t *testing.T, in string) {
		p, err := Parse(in, resolve)
		if err != nil {
			if !errors.Is(err, sharefs.KindInvalid) && !errors.Is(err, sharefs.KindTooBig) {
				t.Fatal(err)
			}
			return
		}
		text := p.Format(name)
		q, err := Parse(text, resolve)
		if err != nil || q.Format(name) != text {
			t.Fatalf("%q reads, is written as %q, and reads as %q, %v", in, text, q.Format(name), err)
		}
		for _, id := range p.Peers() {
			if x := p.Explain(id, "a/b"); x.Level != q.Level(id, "a/b") || x.Level > p.Most(id) {
				t.Fatal(hex.EncodeToString(id[:]), x)
			}
		}
	})
}
