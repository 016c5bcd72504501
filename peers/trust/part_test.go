package trust

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"sharefs"
	"sharefs/integration/race"
)

// somePolicy makes a policy of few rules about bob, with what is likely to meet.
func somePolicy(t *testing.T, rng *rand.Rand) (p Policy) {
	names := []string{"a", "b", "*", "**", "*.key"}
	for range rng.IntN(4) {
		var parts []string
		for range rng.IntN(3) {
			parts = append(parts, names[rng.IntN(len(names))])
		}
		p = p.Grant(Rule{bob, pattern(t, strings.Join(parts, "/")), []Level{Blocked, Paired, Store, Read, Write}[rng.IntN(5)]})
	}
	if rng.IntN(8) == 0 {
		p = p.Cap(bob, Level(rng.IntN(int(levels))))
	}
	return p
}

// Whoever loses something that it may read is found out, and rules that say the same have one print.
func TestNarrows(t *testing.T) {
	race.Leave(t, race.OneHand)
	rng := rand.New(rand.NewPCG(4, 5))
	paths := []string{"", "a", "b", "a/a", "a/b", "b/a", "x.key", "a/x.key", "a/b/x.key", "c", "c/c"}
	missed := 0
	for range 20000 {
		p, q := somePolicy(t, rng), somePolicy(t, rng)
		if rng.IntN(2) == 0 { // one rule more
			q = p
			for _, r := range somePolicy(t, rng).Rules(bob) {
				q = q.Grant(r)
			}
		}
		less, differs := false, false
		for _, path := range paths {
			less = less || p.Reads(bob, path) && !q.Reads(bob, path)
			differs = differs || p.Level(bob, path) != q.Level(bob, path)
		}
		if less && !p.Narrows(bob, q) {
			t.Fatalf("not told:\n%v %s\n%v %s", p.Rules(bob), p.Ceiling(bob), q.Rules(bob), q.Ceiling(bob))
		}
		if !less && p.Narrows(bob, q) {
			missed++
		}
		if differs && p.Print(bob) == q.Print(bob) {
			t.Fatalf("one print:\n%v\n%v", p.Rules(bob), q.Rules(bob))
		}
	}
	if missed > 4000 {
		t.Errorf("told %d times without need", missed)
	}
	p := granted(t, bob, "read a", "write b/c")
	if p.Print(bob) != granted(t, bob, "write b/c", "read a").Print(bob) || p.Print(bob) != p.Grant(Rule{alice, pattern(t, "a"), Read}).Print(bob) {
		t.Error("a print goes by the order of granting, or by what is said of others")
	}
	if (Policy{}).Print(bob) == p.Print(bob) {
		t.Error("one print for nothing")
	}
}

func TestSome(t *testing.T) {
	for rules, want := range map[string]bool{
		"": false, "paired /": false, "store a": false, "read a": true, "write a/b|blocked a": true, "read /": true,
	} {
		var p Policy
		if rules != "" {
			p = granted(t, bob, strings.Split(rules, "|")...)
		}
		plain, err := p.Some(bob)
		if (err == nil) != want || err != nil && !errors.Is(err, sharefs.KindPermission) {
			t.Errorf("%q: %v", rules, err)
		}
		if e, err := plain.Envelope([]byte("x")); (err == nil) != want || want && e.To() != bob {
			t.Errorf("%q: an envelope, %v", rules, err)
		}
		if _, err := p.Cap(bob, Store).Some(bob); err == nil {
			t.Errorf("%q: under a ceiling", rules)
		}
	}
}

func TestLeads(t *testing.T) {
	p := granted(t, bob, "write photos/2026/trip", "read work/x", "write **/z", "write a/*/b")
	for path, want := range map[string]bool{
		"": true, "photos": true, "photos/2026": true, "photos/2026/trip": false, "photos/2025": false, "work": false, "a": true, "a/q": true, "a/q/b": false, "b": false, "b/c": false,
	} {
		if got := p.Leads(bob, path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
	if p.Cap(bob, Read).Leads(bob, "photos") || p.Leads(alice, "photos") {
		t.Error("it leads whom it does not")
	}
}
