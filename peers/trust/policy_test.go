package trust

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sharefs"
)

var alice, bob = sharefs.PeerID{1}, sharefs.PeerID{2}

func pattern(t testing.TB, s string) Pattern {
	t.Helper()
	p, err := ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func granted(t testing.TB, id sharefs.PeerID, rules ...string) Policy {
	var p Policy
	for _, r := range rules {
		level, path, _ := strings.Cut(r, " ")
		l, err := ParseLevel(level)
		if err != nil {
			t.Fatal(err)
		}
		p = p.Grant(Rule{id, pattern(t, path), l})
	}
	return p
}

func TestMostSpecificRuleWins(t *testing.T) {
	for _, c := range []struct {
		rules string
		path  string
		want  Level
	}{
		{"", "a", Blocked},
		{"read a", "a", Read}, {"read a", "a/b/c", Read}, {"read a", "b", Paired}, {"read a", "", Paired}, {"read a", "ab", Paired}, {"read a", "b/a", Paired},
		{"read /", "", Read}, {"read /", "a/b", Read}, {"read **", "", Read}, {"read /a/", "a/b", Read},
		{"write /|read a", "a/b", Read}, {"read /|write a", "b", Read},
		{"read a|write a/b", "a/b/c", Write}, {"read a|write a/b", "a/c", Read},
		{"read a/**|write a/b", "a/b", Write}, {"read a/**|write a", "a/b", Write}, {"read a/*|write a/b", "a/b/c", Write},
		{"blocked **/*.key|write a/b", "a/b/c.key", Blocked}, {"blocked **/*.key|write a/b", "c.key", Blocked}, {"blocked **/*.key|write a/b", "a/b/c", Write},
		{"blocked **/secret|write secret/a", "secret/a", Write}, {"blocked **/secret|write a", "a/secret/b", Blocked},
		{"read a/?|write a/[b-c]", "a/b", Read}, // as many names written out, both without "**": "?" comes before "["
		{"read */b|write a/*", "a/b", Read},
		{"store a/**/c|write a/b/c", "a/b/c", Write}, {"read a//|write b", "a/x", Read},
	} {
		var p Policy
		if c.rules != "" {
			p = granted(t, bob, strings.Split(c.rules, "|")...)
		}
		if got := p.Level(bob, c.path); got != c.want {
			t.Errorf("%s: %q is %s, want %s\n%s", c.rules, c.path, got, c.want, p.Explain(bob, c.path))
		}
		if got := p.Level(alice, c.path); got != Blocked {
			t.Errorf("%s: somebody else has %s", c.rules, got)
		}
	}
}

func TestCeilingCaps(t *testing.T) {
	p := granted(t, bob, "write /", "store b").Cap(bob, Read)
	for path, want := range map[string]Level{"a": Read, "b": Store} {
		if got := p.Level(bob, path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if x := p.Explain(bob, "a"); !x.Capped || x.Rules[0].Level != Write || !strings.Contains(x.String(), "ceiling") {
		t.Error(x)
	}
	if x := p.Explain(bob, "b"); x.Capped || len(x.Rules) != 2 {
		t.Error(x)
	}
	if p.Most(bob) != Read || p.Cap(bob, Blocked).Most(bob) != Blocked || (Policy{}).Most(bob) != Blocked {
		t.Error("most")
	}
	if q := granted(t, bob, "blocked /"); q.Most(bob) != Blocked {
		t.Error("a peer that is blocked everywhere may connect")
	}
	if q := granted(t, bob, "blocked a"); q.Most(bob) != Paired || q.Level(bob, "b") != Paired {
		t.Error("a peer that is blocked somewhere may not connect")
	}
}

// TestPoliciesNeverChange holds that a decision in progress is not touched by a change of the rules.
func TestPoliciesNeverChange(t *testing.T) {
	p := granted(t, bob, "read /")
	q := p.Grant(Rule{bob, pattern(t, "a"), Write}).Grant(Rule{bob, pattern(t, "/"), Propose}).Grant(Rule{alice, Pattern{}, Manage})
	r := q.Revoke(bob, pattern(t, "a")).Forget(alice).Cap(bob, Store)
	for _, c := range []struct {
		p          Policy
		bob, alice Level
	}{{p, Read, Blocked}, {q, Write, Manage}, {r, Store, Blocked}, {Policy{}, Blocked, Blocked}, {p.Forget(bob), Blocked, Blocked}, {p.Revoke(bob, Pattern{}), Blocked, Blocked}} {
		if b, a := c.p.Level(bob, "a/b"), c.p.Level(alice, "a/b"); b != c.bob || a != c.alice {
			t.Errorf("bob %s, alice %s; want %s, %s", b, a, c.bob, c.alice)
		}
	}
	if len(q.Peers()) != 2 || len(r.Rules(bob)) != 1 || r.Ceiling(bob) != Store || q.Ceiling(bob) != Manage || q.Ceiling(sharefs.PeerID{9}) != Blocked {
		t.Error(q, r)
	}
	if len(p.Revoke(alice, Pattern{}).Peers()) != 1 || len(p.Revoke(bob, Pattern{}).Peers()) != 0 {
		t.Error("what says nothing remains")
	}
}

// TestNothingButThePathCounts: the order in which rules were granted does not, nor do rules that do not speak of the path.
func TestNothingButThePathCounts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "*", "?", "**", "[ab]"}
	for range 300 {
		var rules []Rule
		for range 1 + rng.IntN(6) {
			var parts []string
			for range 1 + rng.IntN(3) {
				parts = append(parts, names[rng.IntN(len(names))])
			}
			r := Rule{bob, pattern(t, strings.Join(parts, "/")), Level(rng.IntN(int(levels)))}
			if !slices.ContainsFunc(rules, func(o Rule) bool { return o.Pattern == r.Pattern }) {
				rules = append(rules, r)
			}
		}
		grant := func() (p Policy) {
			for _, r := range rules {
				p = p.Grant(r)
			}
			return p
		}
		p := grant()
		rng.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		q := grant()
		for _, path := range []string{"", "a", "b", "a/b", "a/a/b", "b/a/c", "c/c"} {
			x := p.Explain(bob, path)
			if q.Level(bob, path) != x.Level {
				t.Fatalf("%s or %s, by the order of granting:\n%s%s", x.Level, q.Level(bob, path), x, q.Explain(bob, path))
			}
			for i, r := range rules {
				if slices.Contains(x.Rules, r) {
					continue
				}
				if less := p.Revoke(bob, r.Pattern); len(rules) > 1 && less.Level(bob, path) != x.Level {
					t.Fatalf("rule %d does not speak of %q, but counts", i, path)
				}
			}
			for i := 1; i < len(x.Places); i++ {
				if x.Places[i] > x.Places[i-1] {
					t.Fatal("not in order", x)
				}
			}
		}
	}
}

func TestPatternsRefused(t *testing.T) {
	for s, want := range map[string]string{
		"a//b": "two slashes", "../a": "goes down only", "a/./b": "goes down only", "a/[b": "bracket", "a\x00": "NUL",
		"a**/b": "whole names", "***": "whole names", strings.Repeat("a", PatternMax+1): "at most 4096 bytes",
	} {
		if _, err := ParsePattern(s); !errors.Is(err, sharefs.KindInvalid) || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("%.20q: %v", s, err)
		}
	}
	for s, want := range map[string]string{"": "/", "/": "/", "**": "/", "/a/b/": "a/b", "**/*.o": "**/*.o"} {
		if got := pattern(t, s).String(); got != want {
			t.Errorf("%q: %q", s, got)
		}
	}
}

// Nobody has less anywhere than for the whole share, and that is not more than some rule says.
func TestLeastOfAll(t *testing.T) {
	for _, c := range []struct {
		rules string
		want  Level
	}{
		{"", Blocked}, {"write /", Write}, {"write a", Paired}, {"blocked a", Blocked}, {"write /|read a", Read}, {"read /|write a", Read},
		{"write /|paired **/*.key", Paired}, {"write /|read a|write a/b", Read}, {"store /|manage a", Store},
	} {
		var p Policy
		if c.rules != "" {
			p = granted(t, bob, strings.Split(c.rules, "|")...)
		}
		if got := p.Least(bob); got != c.want {
			t.Errorf("%s: %s, want %s", c.rules, got, c.want)
		}
		if got := p.Cap(bob, Store).Least(bob); got != min(c.want, Store) {
			t.Errorf("%s: under a ceiling %s", c.rules, got)
		}
		for _, path := range []string{"", "a", "a/b", "a/b/c.key", "x.key", "b"} {
			if got := p.Level(bob, path); got < p.Least(bob) {
				t.Errorf("%s: %s at %q, %s for the whole", c.rules, got, path, p.Least(bob))
			}
		}
	}
}

// A rule for a place leaves those alone that name something deeper.
func TestRulesBelow(t *testing.T) {
	rules := []string{"read /", "write priv", "read priv/s", "paired priv/s/t", "paired **/*.key", "write priv*", "read p?iv/*", "write other/s", "paired other/**/x", `read [ab]/c`}
	p := granted(t, alice, rules...)
	for above, want := range map[string]string{
		"/":          "**/*.key [ab]/c other/**/x other/s p?iv/* priv priv* priv/s priv/s/t",
		"priv":       "**/*.key p?iv/* priv/s priv/s/t",
		"priv/s":     "**/*.key priv/s/t",
		"priv/s/t":   "**/*.key",
		"other":      "**/*.key other/**/x other/s",
		"other/s":    "**/*.key other/**/x",
		"pr*":        "**/*.key p?iv/* priv/s priv/s/t other/**/x other/s [ab]/c",
		"b":          "**/*.key [ab]/c",
		"c":          "**/*.key",
		"**/*.key":   "",
		"none/x/y/z": "**/*.key",
	} {
		var got []string
		for _, r := range p.Below(alice, pattern(t, above)) {
			got = append(got, r.Pattern.String())
		}
		wanted := strings.Fields(want)
		slices.Sort(got)
		if slices.Sort(wanted); !slices.Equal(got, wanted) {
			t.Errorf("below %s: %q, not %q", above, got, wanted)
		}
	}
	if got := p.Below(bob, Pattern{}); got != nil {
		t.Errorf("%v", got)
	}
}
