package trust

import (
	"strings"
	"testing"

	"sharefs"
)

// A key that this host had before opens nothing, whatever it may sign, and is one of a peer as soon as something is granted to it.
func TestFormerKeys(t *testing.T) {
	before := granted(t, bob, "manage", "write photos").Cap(bob, Write)
	p := before.WithFormer(bob)
	if !p.Former(bob) || p.Former(alice) || before.Former(bob) || p.Most(bob) != Blocked || p.Least(bob) != Blocked || p.Level(bob, "photos/x") != Blocked || p.Holds(bob) || len(p.Rules(bob)) > 0 {
		t.Error(p.Explain(bob, "photos/x"))
	}
	_, whole := p.Whole(bob)
	_, some := p.Some(bob)
	_, cipher := p.Cipher(bob)
	if whole == nil || some == nil || cipher == nil {
		t.Errorf("it is sent something: %v, %v, %v", whole, some, cipher)
	}
	if p.Print(bob) == (Policy{}).Print(bob) {
		t.Error("one that is unknown has the same print")
	}
	if got := p.Explain(bob, "photos/x").String(); !strings.HasPrefix(got, "former: ") || strings.Contains(got, "no rule") {
		t.Error(got)
	}
	if !before.Narrows(bob, p) {
		t.Error("it may read what it could before")
	}
	text := p.Format(nameOf)
	if q, err := Parse(text, byName); text != "former bob\n" || err != nil || !q.Former(bob) || q.Format(nameOf) != text {
		t.Errorf("%q, %v", text, err)
	}
	if q := p.Grant(Rule{Peer: bob, Level: Read}); q.Former(bob) || q.Level(bob, "x") != Read {
		t.Error(q.Format(nameOf))
	}
	if q := p.Forget(bob); q.Former(bob) || len(q.Peers()) > 0 {
		t.Error(q.Format(nameOf))
	}
	for _, in := range []string{"former bob\ngrant bob read", "grant bob read\nformer bob"} {
		if _, err := Parse(in, byName); err == nil || !strings.Contains(err.Error(), "line 2: \"bob\" is a former key of this host, or of one that is gone, and a peer") {
			t.Errorf("%q: %v", in, err)
		}
	}
	if _, err := Parse("former bob read", byName); err == nil || sharefs.KindOf(err) != sharefs.KindInvalid {
		t.Error(err)
	}
}
