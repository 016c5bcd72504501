package engine

import (
	"testing"

	"sharefs"
	"sharefs/peers/exchange"
	"sharefs/peers/replica"
	"sharefs/peers/trust"
)

// What counts is decided by the level of a peer, by path where that is not the same everywhere, and a log that was taken when something else counted is taken anew.
func TestStandingAndCursor(t *testing.T) {
	anna, bert := sharefs.PeerID{1}, sharefs.PeerID{2}
	grant := func(p trust.Policy, id sharefs.PeerID, level trust.Level, path string) trust.Policy {
		t.Helper()
		pattern, err := trust.ParsePattern(path)
		if err != nil {
			t.Fatal(err)
		}
		return p.Grant(trust.Rule{Peer: id, Pattern: pattern, Level: level})
	}
	var none trust.Policy
	write := grant(none, anna, trust.Write, "")
	for _, c := range []struct {
		what   string
		policy trust.Policy
		want   replica.Standing
	}{
		{"nobody", none, replica.PassedOver}, {"read", grant(none, anna, trust.Read, ""), replica.PassedOver}, {"propose", grant(none, anna, trust.Propose, ""), replica.Proposed},
		{"write", write, replica.Merged}, {"manage", grant(none, anna, trust.Manage, ""), replica.Merged},
	} {
		if s := Standing(c.policy, anna); s != c.want {
			t.Errorf("%s: %v", c.what, s)
		}
		if _, parts := Where(c.policy, anna); parts {
			t.Errorf("%s: not the same everywhere", c.what)
		}
	}
	for _, c := range []struct {
		what   string
		policy trust.Policy
		at     map[string]replica.Standing
	}{
		{"write a part", grant(none, anna, trust.Write, "a/b"), map[string]replica.Standing{"": replica.PassedOver, "a": replica.PassedOver, "a/b": replica.Merged, "a/b/c": replica.Merged}},
		{"less for a part", grant(write, anna, trust.Read, "a"), map[string]replica.Standing{"": replica.Merged, "a": replica.PassedOver, "b": replica.Merged}},
		{"propose, and write a part", grant(grant(none, anna, trust.Propose, ""), anna, trust.Write, "a"), map[string]replica.Standing{"b": replica.Proposed, "a": replica.Merged}},
	} {
		w, parts := Where(c.policy, anna)
		if !parts || Standing(c.policy, anna) != replica.Merged || Bulk(c.policy, anna).Files == 0 {
			t.Fatalf("%s: %v, %v", c.what, parts, Standing(c.policy, anna))
		}
		for path, want := range c.at {
			if got := w.Standing(path); got != want {
				t.Errorf("%s: %s at %q", c.what, got, path)
			}
		}
	}
	if w, _ := Where(grant(none, anna, trust.Write, "a/b"), anna); !w.Leads("a") || w.Leads("b") || w.Leads("a/b") {
		t.Error("what leads there")
	}
	for _, c := range []struct {
		policy trust.Policy
		held   bool
	}{
		{none, false}, {grant(none, anna, trust.Propose, ""), false}, {write, true}, {grant(none, anna, trust.Manage, ""), false}, {grant(none, anna, trust.Write, "a"), true},
		{grant(none, anna, trust.Manage, "").Cap(anna, trust.Write), true},
	} {
		if b := Bulk(c.policy, anna); (b.Files == trust.HoldFiles) != c.held || (b == replica.Bulk{}) == c.held {
			t.Errorf("%+v", b)
		}
	}
	log := exchange.LogID{7}
	same := (&Log{}).counted(write, log)
	for what, p := range map[string]trust.Policy{"another rule of the same effect": grant(write, anna, trust.Manage, ""), "a peer that may read": grant(write, bert, trust.Read, "")} {
		if (&Log{}).counted(p, log) != same {
			t.Errorf("%s has a log taken anew", what)
		}
	}
	for what, p := range map[string]trust.Policy{"a part less": grant(write, anna, trust.Read, "a"), "nobody": none, "less": grant(write, anna, trust.Propose, ""), "one more": grant(write, bert, trust.Write, "")} {
		if (&Log{}).counted(p, log) == same {
			t.Errorf("%s: a log that was taken under another policy counts", what)
		}
	}
	bound := uint64(1000)
	l := &Log{Most: func(sharefs.PeerID) uint64 { return bound }}
	if is := l.counted(write, log); is != l.counted(write, log) {
		t.Error("nothing has changed")
	} else if bound = 2000; is == l.counted(write, log) {
		t.Error("with another bound more may count")
	}
	if (&Log{}).counted(write, exchange.LogID{8}) == same {
		t.Error("two logs count as one")
	}
}
