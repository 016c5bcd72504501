package link

import (
	"slices"
	"testing"

	"sharefs"
	"sharefs/peers/identity"
	"sharefs/peers/trust"
)

// A host asks who a stranger is, and is told by a peer that knows him, if it may read all of the share, and never of one that is shut out. What was not asked for is not taken.
func TestIntroductions(t *testing.T) {
	a, b, c := newHost(t, "anna"), newHost(t, "bert"), newHost(t, "cleo")
	b.pairWith(a)
	c.pairWith(a)
	b.connected(a)
	c.connected(a)
	grant := func(of *host, level trust.Level) {
		t.Helper()
		if _, err := a.cfg.Book.Grant(of.key.ID.String(), level, trust.Pattern{}); err != nil {
			t.Fatal(err)
		}
		a.Sync()
	}
	unknown := identity.New().ID
	ask := func() {
		c.Strangers(nil)
		c.Strangers([]sharefs.PeerID{unknown, b.key.ID})
	}
	// Told in the order in which it is asked, so that an answer to a later question says that there is none to the one before.
	grant(c, trust.Store)
	ask()
	grant(c, trust.Read)
	ask()
	var is Introduced
	wait(t, "who it is", func() (ok bool) { is, ok = c.Introduced(b.key.ID); return ok })
	if is.Via != a.key.ID || is.Name != "bert" || len(is.Addrs) == 0 || !slices.Contains(is.Addrs, b.addresses()[0]) {
		t.Errorf("%+v", is)
	}
	if _, ok := c.Introduced(unknown); ok {
		t.Error("a host that nobody knows is introduced")
	}
	if c.Strangers(nil); c.introducedTo(b.key.ID) {
		t.Error("what is not asked for any more is remembered")
	}
	// One that is shut out is told of to nobody.
	grant(b, trust.Blocked)
	l := a.linkOf(c)
	a.introduce(l, [][]byte{b.key.ID[:], c.key.ID[:], {1}})
	a.mu2(func() {
		for _, n := range l.waiting {
			if n.Kind == noteWhois {
				t.Errorf("%+v", n)
			}
		}
	})
	// Nobody can be made to believe what he did not ask for, nor to remember much.
	many := make([]whois, 1000)
	for i := range many {
		id := sharefs.PeerID{1, byte(i), byte(i >> 8)}
		many[i] = whois{ID: id[:], Name: "x"}
	}
	a.takeIntroduced(l, append(many, whois{ID: []byte{1}}))
	a.mu2(func() {
		if len(a.introduced) > 0 {
			t.Errorf("%d are remembered", len(a.introduced))
		}
	})
}

func (o *host) introducedTo(id sharefs.PeerID) bool { _, ok := o.Introduced(id); return ok }

// linkOf returns the link to another host.
func (o *host) linkOf(other *host) (l *link) {
	o.t.Helper()
	wait(o.t, "a link", func() bool {
		o.mu2(func() {
			if p := o.peers[other.key.ID]; p != nil {
				l = p.link
			}
		})
		return l != nil
	})
	return l
}
