package engine

import (
	"testing"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/exchange"
	"sharefs/peers/trust"
)

// What counts is decided by the lowest level that a peer has anywhere, and a log that was taken when something else counted is taken anew.
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
		want   converge.Standing
		ok     bool
	}{
		{"nobody", none, 0, false}, {"read", grant(none, anna, trust.Read, ""), 0, false}, {"propose", grant(none, anna, trust.Propose, ""), converge.Known, true},
		{"write", write, converge.Merged, true}, {"manage", grant(none, anna, trust.Manage, ""), converge.Merged, true},
		{"write a part", grant(none, anna, trust.Write, "a"), 0, false}, {"less for a part", grant(write, anna, trust.Read, "a"), 0, false},
	} {
		if s, ok := Standing(c.policy, anna); s != c.want || ok != c.ok {
			t.Errorf("%s: %v, %v", c.what, s, ok)
		}
	}
	log := exchange.LogID{7}
	same := counted(write, log)
	for what, p := range map[string]trust.Policy{"another rule of the same effect": grant(write, anna, trust.Manage, ""), "a peer that may read": grant(write, bert, trust.Read, "")} {
		if counted(p, log) != same {
			t.Errorf("%s has a log taken anew", what)
		}
	}
	for what, p := range map[string]trust.Policy{"nobody": none, "less": grant(write, anna, trust.Propose, ""), "one more": grant(write, bert, trust.Write, "")} {
		if counted(p, log) == same {
			t.Errorf("%s: a log that was taken under another policy counts", what)
		}
	}
	if counted(write, exchange.LogID{8}) == same {
		t.Error("two logs count as one")
	}
}
