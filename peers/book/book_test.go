package book

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/trust"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// kept is a book with what it last saved, read back after each change.
type kept struct {
	*Book
	text []byte
	fail error
}

func (k *kept) save(text []byte) error {
	if k.fail == nil {
		k.text = slices.Clone(text)
	}
	return k.fail
}

func newBook(t *testing.T) *kept {
	t.Helper()
	k := &kept{}
	var err error
	if k.Book, err = Open(nil, k.save); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *kept) again(t *testing.T) {
	t.Helper()
	b, err := Open(k.text, k.save)
	if err != nil {
		t.Fatalf("%v in %s", err, k.text)
	}
	if got, want := b.names(), k.names(); got != want || b.Port() != k.Port() || b.EpochsDue() != k.EpochsDue() || b.Policy().Format(sharefs.PeerID.String) != k.Policy().Format(sharefs.PeerID.String) {
		t.Fatalf("%s, want %s", got, want)
	}
	b.Reserve(k.reserved)
	k.Book = b
}

func (b *Book) names() string {
	var out []string
	for _, p := range b.Peers() {
		out = append(out, p.Name+"="+b.Policy().Most(p.ID).String())
	}
	return strings.Join(out, " ")
}

func id(n byte) sharefs.PeerID { return sharefs.PeerID{n} }

func (k *kept) add(t *testing.T, n byte, calls string) Added {
	t.Helper()
	a, err := k.Add(id(n), calls, ByLink, nil, []string{"192.0.2.1:1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	k.again(t)
	return a
}

func TestTheLifeOfPeers(t *testing.T) {
	b := newBook(t)
	a := b.add(t, 1, "laptop")
	if a.Again || a.Freed || a.Twin != "" || a.Level != trust.Paired || a.Peer.Name != "laptop" {
		t.Errorf("%+v", a)
	}
	if _, err := b.Grant("laptop", trust.Write, trust.Pattern{}); err != nil {
		t.Fatal(err)
	}
	// Paired again it keeps name and level, whatever it calls itself now.
	if a = b.add(t, 1, "other"); !a.Again || a.Level != trust.Write || a.Peer.Name != "laptop" || a.Peer.Calls != "other" {
		t.Errorf("%+v", a)
	}
	// Another key under the same name gets another name, and nothing of what the first may.
	if a = b.add(t, 2, "LAPTOP"); a.Peer.Name != "LAPTOP-2" || a.Twin != "LAPTOP" || a.Level != trust.Paired {
		t.Errorf("%+v", a)
	}
	if _, err := b.Rename("LAPTOP-2", "laptop"); !errors.Is(err, sharefs.KindExist) {
		t.Error(err)
	}
	if _, err := b.Rename("laptop", "a/b"); !errors.Is(err, sharefs.KindInvalid) {
		t.Error(err)
	}
	if p, err := b.Rename("laptop", "Laptop"); err != nil || p.Name != "Laptop" {
		t.Error(p, err)
	}
	if _, _, err := b.Replace("Laptop", "Laptop"); !errors.Is(err, sharefs.KindInvalid) {
		t.Error(err)
	}
	was, is, err := b.Replace("Laptop", id(2).String())
	if err != nil || was.Name != "Laptop-lost" || !was.Lost || is.Name != "Laptop" {
		t.Errorf("%+v, %+v, %v", was, is, err)
	}
	b.again(t)
	if got := b.names(); got != "Laptop=paired Laptop-lost=blocked" {
		t.Error(got)
	}
	// One that was revoked begins anew when somebody pairs with it again.
	if a = b.add(t, 1, "x"); !a.Again || !a.Freed || a.Level != trust.Paired {
		t.Errorf("%+v", a)
	}
	if _, err := b.Revoke("Laptop"); err != nil || b.Policy().Level(id(2), "a") != trust.Blocked {
		t.Error(err)
	}
	if p, err := b.Forget(id(2).Short()); err != nil || p.ID != id(2) {
		t.Error(p, err)
	}
	b.again(t)
	if _, err := b.Forget("Laptop"); !errors.Is(err, sharefs.KindNotExist) || !strings.Contains(err.Error(), "known are Laptop-lost") {
		t.Error(err)
	}
	if err := b.SetPort(7000); err != nil {
		t.Fatal(err)
	}
	b.again(t)
}

// Whoever is revoked when what it wrote counted is due to be told of to the other hosts, until they were, or until it is trusted again.
func TestCutDue(t *testing.T) {
	b := newBook(t)
	due := func(want bool) {
		t.Helper()
		b.again(t)
		if p, _ := b.Peer(id(1)); p.CutDue != want {
			t.Errorf("%v, not %v", p.CutDue, want)
		}
	}
	grant := func(level trust.Level) {
		t.Helper()
		if _, err := b.Grant("laptop", level, trust.Pattern{}); err != nil {
			t.Fatal(err)
		}
	}
	revoke := func() {
		t.Helper()
		if _, err := b.Revoke("laptop"); err != nil {
			t.Fatal(err)
		}
	}
	b.add(t, 1, "laptop")
	for _, c := range []struct {
		level trust.Level
		due   bool
	}{{trust.Read, false}, {trust.Propose, false}, {trust.Write, true}, {trust.Manage, true}} {
		grant(c.level)
		revoke()
		due(c.due)
		if c.due {
			revoke() // again
			due(true)
			if err := b.CutSaid(id(1)); err != nil {
				t.Fatal(err)
			}
			due(false)
			revoke() // it was told already
			due(false)
		}
	}
	grant(trust.Write)
	grant(trust.Blocked) // a lower level
	due(false)
	grant(trust.Write)
	revoke()
	grant(trust.Read)
	due(false)
	if _, err := b.Forget("laptop"); err != nil {
		t.Fatal(err)
	}
	if err := b.CutSaid(id(1)); err != nil {
		t.Error(err)
	}
	// One whose key is lost is revoked as well; so is a key of this host itself.
	b.add(t, 1, "laptop")
	b.add(t, 2, "new")
	grant(trust.Write)
	if _, _, err := b.Replace("laptop", "new"); err != nil {
		t.Fatal(err)
	}
	due(true)
	if err := b.AddFormer(id(3), "me", now); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Revoke(id(3).String()); err != nil {
		t.Fatal(err)
	}
	if p, _ := b.Peer(id(3)); !p.CutDue {
		t.Error("what the former key wrote counted")
	}
}

// A name that means something else here is not given, neither by a peer nor by the user; what a user calls a host is not what it calls itself.
func TestReservedNames(t *testing.T) {
	b := newBook(t)
	b.Reserve(func(name string) string {
		if strings.EqualFold(name, "now") {
			return "it is a time"
		}
		return ""
	})
	if a := b.add(t, 1, "now"); a.Peer.Name != "peer-now" || a.Peer.Calls != "now" || a.Reserved != "it is a time" || a.Twin != "" {
		t.Errorf("%+v", a)
	}
	if a := b.add(t, 2, "NOW"); a.Peer.Name != "peer-NOW-2" || a.Reserved == "" || a.Twin != "peer-NOW" {
		t.Errorf("%+v", a)
	}
	if a := b.add(t, 3, "laptop"); a.Peer.Name != "laptop" || a.Reserved != "" {
		t.Errorf("%+v", a)
	}
	if got := b.FreeName("now") + " " + b.FreeName("LAPTOP") + " " + b.FreeName("bert"); got != "peer-now-3 LAPTOP-2 bert" {
		t.Error(got)
	}
	before := b.names()
	for name, kind := range map[string]sharefs.Kind{
		"": sharefs.KindInvalid, "now": sharefs.KindInvalid, "be rt": sharefs.KindInvalid, ".x": sharefs.KindInvalid, "Laptop": sharefs.KindExist,
		id(3).Plain()[:7]: sharefs.KindExist, id(3).Plain()[:12]: sharefs.KindExist,
	} {
		if err := b.MayName(id(9), name); !errors.Is(err, kind) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := b.Rename("peer-now", name); !errors.Is(err, kind) {
			t.Errorf("rename to %q: %v", name, err)
		}
		if _, err := b.Add(id(9), name, ByHand, nil, nil, now); name != "" && !errors.Is(err, kind) {
			t.Errorf("add %q: %v", name, err)
		}
		_, _ = b.Forget(id(9).String()) // one without a name is added
	}
	if got := b.names(); got != before {
		t.Errorf("%s, not %s", got, before)
	}
	// By hand: what it calls itself is not known until it says so.
	a, err := b.Add(id(4), "studio", ByHand, nil, nil, now)
	if err != nil || a.Peer.Name != "studio" || a.Peer.Calls != "" || a.Twin != "" {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := b.Add(id(4), "other", ByHand, nil, nil, now); !errors.Is(err, sharefs.KindExist) || !strings.Contains(err.Error(), "called studio") {
		t.Error(err)
	}
	if a, err = b.Add(id(4), "Studio", ByHand, nil, nil, now); err != nil || !a.Again || a.Peer.Name != "studio" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err = b.Add(id(3), "", ByHand, nil, nil, now); err != nil || a.Peer.Calls != "laptop" {
		t.Errorf("%+v, %v", a, err)
	}
	b.again(t)
}

// A peer that was added by hand without a name is called as it calls itself once it says so, by the rules for all names, and never again by what it says.
func TestWhoIsNamedLater(t *testing.T) {
	b := newBook(t)
	b.Reserve(func(name string) string {
		if name == "now" {
			return "it is a time"
		}
		return ""
	})
	b.add(t, 1, "laptop")
	unnamed := func(n byte) {
		t.Helper()
		if a, err := b.Add(id(n), "", ByHand, nil, nil, now); err != nil || !a.Peer.Unnamed || !strings.HasPrefix(a.Peer.Name, "peer") || a.Peer.Calls != "" {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	says := func(n byte, calls, want string) {
		t.Helper()
		if err := b.Met(id(n), calls, nil, now); err != nil {
			t.Fatal(err)
		}
		if p, _ := b.Peer(id(n)); p.Name != want || p.Unnamed || p.Calls != CleanName(calls) {
			t.Errorf("%+v, not %s", p, want)
		}
		b.again(t)
	}
	for n := byte(2); n < 8; n++ {
		unnamed(n)
	}
	if _, err := b.Grant(id(2).Plain()[:7], trust.Write, trust.Pattern{}); err != nil {
		t.Fatal(err)
	}
	says(2, "studio", "studio")
	if got := b.Policy().Most(id(2)); got != trust.Write {
		t.Error(got)
	}
	says(2, "other", "studio")
	says(3, "laptop", "laptop-2")
	says(4, "now", "peer-now")
	says(5, "peer-4", "peer-4") // its own name for the time being
	if _, err := b.Rename(id(6).String(), "mine"); err != nil {
		t.Fatal(err)
	}
	says(6, "theirs", "mine")
	// Nor may somebody who adds it again take a name that another one has.
	if _, err := b.Add(id(7), "Laptop", ByHand, nil, nil, now); !errors.Is(err, sharefs.KindExist) {
		t.Error(err)
	}
	if a, err := b.Add(id(7), "desk", ByHand, nil, nil, now); err != nil || !a.Again || a.Peer.Name != "desk" {
		t.Errorf("%+v, %v", a, err)
	}
	says(7, "theirs", "desk")
	unnamed(8)
	if a, err := b.Add(id(8), "attic", ByLink, nil, nil, now); err != nil || !a.Again || a.Peer.Name != "attic" {
		t.Errorf("%+v, %v", a, err)
	}
	b.again(t)
}

func TestWhatCannotBeKeptIsNotTold(t *testing.T) {
	b := newBook(t)
	b.add(t, 1, "a")
	b.fail = errors.New("disk full")
	if _, err := b.Add(id(2), "b", ByLAN, nil, nil, now); !errors.Is(err, b.fail) {
		t.Error(err)
	}
	if _, err := b.Grant("a", trust.Manage, trust.Pattern{}); !errors.Is(err, b.fail) {
		t.Error(err)
	}
	if got := b.names(); got != "a=paired" {
		t.Error(got)
	}
}

func TestAddresses(t *testing.T) {
	b := newBook(t)
	b.add(t, 1, "a")
	for i := range 30 {
		if err := b.Met(id(1), "a", []string{"h:" + strings.Repeat("1", i%9+1), "192.0.2.1:1"}, now); err != nil {
			t.Fatal(err)
		}
	}
	b.again(t)
	p, _ := b.Peer(id(1))
	if len(p.Found) > maxFound || p.Found[0] != "h:111" || p.Found[1] != "192.0.2.1:1" || !p.Seen.Equal(now) {
		t.Errorf("%+v", p)
	}
	for _, c := range []struct{ at, want time.Time }{{now.Add(time.Hour), now.Add(time.Hour)}, {now.Add(time.Minute), now.Add(time.Hour)}} {
		if err := b.Left(id(1), c.at); err != nil {
			t.Fatal(err)
		}
		b.again(t)
		if q, _ := b.Peer(id(1)); !q.Seen.Equal(c.want) || q.Calls != p.Calls || !slices.Equal(q.Found, p.Found) {
			t.Errorf("gone at %v: %+v", c.at, q)
		}
	}
	if err := b.Left(id(9), now); err != nil || len(b.Peers()) != 1 {
		t.Error("the end of who is not known was noted")
	}
	if err := b.Met(id(9), "nobody", nil, now); err != nil || len(b.Peers()) != 1 {
		t.Error("who is not known was noted")
	}
}

// Whatever a peer calls itself, the book can be read again, and no word that means another peer means it.
func TestNamesThatAreMeantToHarm(t *testing.T) {
	b := newBook(t)
	b.add(t, 1, "bianca")
	for n, calls := range []string{"BIANCA", "b\u0130anca", "bian\u017fca", "bi\u0430nca", "biança", id(1).Plain()[:7], strings.ToUpper(id(1).Short()), id(1).Plain(), "bianca-2", strings.Repeat("x", maxName), strings.Repeat("X", 2*maxName), strings.Repeat("ä", maxName), strings.Repeat("ä", maxName)} {
		a := b.add(t, byte(10+n), calls)
		if p, err := b.Find("bianca"); err != nil || p.ID != id(1) {
			t.Errorf("%q: %+v, %v", calls, p, err)
		}
		if p, err := b.Find(id(1).Plain()[:7]); err != nil || p.ID != id(1) {
			t.Errorf("%q is called %s: %+v, %v", calls, a.Peer.Name, p, err)
		}
	}
	if _, _, err := b.Replace(strings.Repeat("x", maxName), "bianca"); err != nil {
		t.Error(err)
	}
	b.again(t)
}

func TestNames(t *testing.T) {
	for s, want := range map[string]string{
		"laptop": "laptop", "my laptop": "my-laptop", "../..": "peer", "": "peer", "\x1b[31mred": "31mred", "a\u202eb": "a-b", "Käse.local": "Käse.local", "-x-": "x",
		strings.Repeat("ä", 100): strings.Repeat("ä", maxName/2), "a/b": "a-b", "\xff\xfe": "peer", "a   b": "a-b", ".hidden": "hidden",
		"anna\u3164": "anna",
	} {
		if got := CleanName(s); got != want || CleanName(got) != got {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	b := &kept{}
	b.Book, _ = Open(nil, b.save)
	_, _ = b.Add(id(1), "laptop", ByLink, nil, []string{"192.0.2.1:1"}, now)
	_, _ = b.Grant("laptop", trust.Read, trust.Pattern{})
	f.Add(b.text)
	f.Add([]byte(`{"format":1,"peers":[{"id":"x"}],"trust":["grant a read"]}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		k := &kept{}
		b, err := Open(text, k.save)
		if err != nil {
			if !errors.Is(err, sharefs.KindCorrupt) {
				t.Error(err)
			}
			return
		}
		if err := b.SetPort(b.Port() + 1); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(k.text, k.save); err != nil {
			t.Errorf("%v in %s", err, k.text)
		}
	})
}

// The keys that a host had before it came back are in its book, under names of their own, until something else is said about them.
func TestFormerKeysOfThisHost(t *testing.T) {
	b := newBook(t)
	b.Add(id(1), "anna-lost", ByLink, nil, nil, now)
	for i, n := range []byte{3, 2, 2, 1} {
		if err := b.AddFormer(id(n), "anna", now.Add(time.Duration(-i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	b.again(t)
	if got := b.names(); got != "anna-lost=paired anna-lost-2=blocked anna-lost-3=blocked" {
		t.Error(got)
	}
	if got := b.Former(); !slices.Equal(got, []sharefs.PeerID{id(3), id(2)}) {
		t.Error(got)
	}
	if p, _ := b.Peer(id(3)); !p.Lost || p.How != ByRecovery {
		t.Errorf("%+v", p)
	}
	if _, err := b.Revoke("anna-lost-2"); err != nil || !slices.Equal(b.Former(), []sharefs.PeerID{id(2)}) {
		t.Error(err, b.Former())
	}
	if a, err := b.Add(id(2), "anna", ByLink, nil, nil, now); err != nil || !a.Freed || len(b.Former()) > 0 || a.Peer.Lost {
		t.Errorf("%+v, %v", a, err)
	}
	b.again(t)
}

// A host that is gone is taken up, or a peer is noted to be: it is let in no more, stays over a start, and is as any other once it is paired again.
func TestGone(t *testing.T) {
	var kept []byte
	save := func(text []byte) error { kept = slices.Clone(text); return nil }
	b, err := Open(nil, save)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1e9, 0)
	anna, bert := sharefs.PeerID{1}, sharefs.PeerID{2}
	if _, err := b.Add(anna, "anna", ByLink, nil, nil, now); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Grant("anna", trust.Write, trust.Pattern{}); err != nil {
		t.Fatal(err)
	}
	if p, err := b.Gone(bert, "anna", now); err != nil || p.Name != "anna-2" || !p.Lost {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := b.Gone(anna, "other", now); err != nil || p.Name != "anna" || !p.Lost {
		t.Errorf("%+v, %v", p, err)
	}
	if b, err = Open(kept, save); err != nil {
		t.Fatal(err)
	}
	for _, id := range []sharefs.PeerID{anna, bert} {
		if p := b.Policy(); !p.Former(id) || p.Most(id) != trust.Blocked {
			t.Errorf("%v", p.Most(id))
		}
	}
	own := sharefs.PeerID{3}
	if err := b.AddFormer(own, "cleo", now); err != nil || !slices.Equal(b.Former(), []sharefs.PeerID{own}) {
		t.Errorf("of the keys of this host are %v, %v", b.Former(), err)
	}
	a, err := b.Add(anna, "anna", ByLink, nil, nil, now)
	if err != nil || !a.Again || a.Freed || a.Level != trust.Paired || a.Peer.Lost || b.Policy().Former(anna) {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := b.Revoke("anna-2"); err != nil || b.Policy().Former(bert) || b.Policy().Most(bert) != trust.Blocked {
		t.Error(err)
	}
	if p, _ := b.Peer(bert); !p.CutDue {
		t.Error("the others are not told where it ends")
	}
}
