package link

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/peers/book"
	"sharefs/peers/frame"
	"sharefs/peers/identity"
	"sharefs/peers/pair"
	"sharefs/peers/report"
	"sharefs/peers/trust"
)

// patience only ends a hang.
const patience = 90 * time.Second

// host is a hub with its book in memory.
type host struct {
	*Hub
	t    *testing.T
	key  identity.Key
	name string
	log  slog.Handler // nil: none
	mu   sync.Mutex
	text []byte
}

func newHost(t *testing.T, name string) *host {
	t.Helper()
	o := &host{t: t, key: identity.New(), name: name}
	o.start("127.0.0.1:0")
	t.Cleanup(func() { o.Close() })
	return o
}

func (o *host) start(listen string) {
	o.t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	b, err := book.Open(o.text, func(text []byte) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.text = text
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
	o.mu.Unlock()
	log := o.log
	if log == nil {
		log = slog.DiscardHandler
	}
	o.Hub, err = Start(Config{Key: o.key.Private(), Name: o.name, Listen: listen, Book: b, Log: slog.New(log)})
	o.mu.Lock()
	if err != nil {
		o.t.Fatal(err)
	}
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func (o *host) window(asked string) report.Window {
	for _, w := range o.Pairing().Asked {
		if w.Asked == asked {
			return w
		}
	}
	return report.Window{}
}

func (o *host) offer(asked string) string {
	o.t.Helper()
	if err := o.Offer(asked, false); err != nil {
		o.t.Fatal(err)
	}
	return o.window(asked).Link
}

// join takes a link and returns how that ended.
func (o *host) join(asked, link string) report.Window {
	o.t.Helper()
	if err := o.Join(asked, link); err != nil {
		o.t.Fatal(err)
	}
	wait(o.t, "the end of pairing", func() bool { return o.window(asked).State != report.Open })
	return o.window(asked)
}

func (o *host) pairWith(other *host) {
	o.t.Helper()
	asked := rand.Text()
	if w := o.join(asked, other.offer(asked)); w.State != report.Done {
		o.t.Fatalf("%+v", w)
	}
	o.connected(other)
}

// connected waits until two hosts are, as both see it.
func (o *host) connected(other *host) {
	o.t.Helper()
	wait(o.t, o.name+" and "+other.name+" connected", func() bool {
		a, aok := o.Connected(other.key.ID)
		b, bok := other.Connected(o.key.ID)
		return aok && bok && a.Binding() == b.Binding()
	})
}

func TestPairingByLinkConnects(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	link := a.offer("1")
	w := b.join("2", link)
	if w.State != report.Done || w.Paired.Name != "anna" || w.Paired.Level != "paired" || w.Paired.Again {
		t.Fatalf("%+v", w)
	}
	if w := a.window("1"); w.State != report.Done || w.Paired.Name != "bert" || w.Link != "" {
		t.Fatalf("%+v", w)
	}
	var p []report.Peer
	wait(t, "the two connected", func() bool { p = a.Peers(); return len(p) == 1 && p[0].Connected && p[0].Path != "" })
	if p[0].ID != b.key.ID.String() || p[0].Level != "paired" || !strings.HasPrefix(p[0].Path, "udp 127.0.0.1:") || p[0].How != "link" {
		t.Errorf("%+v", p)
	}
	// The link is good once.
	c := newHost(t, "cleo")
	if w := c.join("3", link); w.State != report.Failed || !strings.Contains(w.Error, "used already or has expired") || len(c.Peers()) != 0 {
		t.Errorf("%+v", w)
	}
	// And so it is while another window lets strangers in.
	other := a.offer("4")
	if w := c.join("5", link); w.State != report.Failed || !strings.Contains(w.Error, "the link was used already") {
		t.Errorf("%+v", w)
	}
	// Paired again, the two stay what they are.
	if _, err := a.cfg.Book.Grant("bert", trust.Read, trust.Pattern{}); err != nil {
		t.Fatal(err)
	}
	w = b.join("6", other)
	if w.State != report.Done || !w.Paired.Again || !a.window("4").Paired.Again || a.window("4").Paired.Level != "read" {
		t.Errorf("%+v", w)
	}
	a.connected(b)
}

func TestLinksThatAreNotGood(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	expired := a.offer("1")
	a.mu2(func() { a.windows[0].expires = time.Now().Add(-time.Second) })
	a.offer("2") // so that strangers are let in
	good, err := pair.ParseLink(a.offer("3"))
	if err != nil {
		t.Fatal(err)
	}
	wrong := good
	wrong.Token[0]++
	foreign := good
	foreign.ID = identity.New().ID
	taken := a.offer("4")
	a.End("4")
	for name, c := range map[string]struct{ link, want string }{
		"expired":                    {expired, "expired"},
		"wrong":                      {wrong.String(), "not, or no longer, good here"},
		"taken back":                 {taken, "expired, or was taken back"},
		"of a host with another key": {foreign.String(), "no answer at 127.0.0.1:"},
	} {
		if w := b.join(name, c.link); w.State != report.Failed || !strings.Contains(w.Error, c.want) {
			t.Errorf("%s: %+v", name, w)
		}
	}
	for name, c := range map[string]struct{ link, want string }{
		"its own":    {b.offer("own"), "made it itself"},
		"no address": {pair.Link{ID: a.key.ID}.String(), "no address"},
		"no link":    {"hello", "begins with sharefs:"},
	} {
		if err := b.Join(name, c.link); !errors.Is(err, sharefs.KindInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(a.Peers())+len(b.Peers()) != 0 {
		t.Error("somebody was paired")
	}
	// Nobody who waits: strangers meet refusal.
	a.End("2")
	a.End("3")
	if w := b.join("late", good.String()); w.State != report.Failed || !strings.Contains(w.Error, "used already or has expired") {
		t.Errorf("%+v", w)
	}
}

func (o *host) mu2(fn func()) {
	o.Hub.mu.Lock()
	defer o.Hub.mu.Unlock()
	fn()
}

func TestByHand(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	at := b.addresses()
	if err := a.AddByHand("1", b.key.ID, "bert", at); err != nil {
		t.Fatal(err)
	}
	if w := a.window("1"); w.Paired == nil || !w.Paired.Waits {
		t.Errorf("nobody did the same on the other side: %+v", w.Paired)
	}
	wait(t, "a word that the other side lacks us", func() bool { return strings.Contains(a.Peers()[0].Error, "pair there as well") })
	if err := b.AddByHand("1", a.key.ID, "anna", nil); err != nil { // it has no address: it is dialed
		t.Fatal(err)
	}
	a.connected(b)
	if err := a.AddByHand("2", a.key.ID, "me", nil); !errors.Is(err, sharefs.KindInvalid) {
		t.Error(err)
	}
	if p := a.Peers()[0]; p.How != "hand" || p.Calls != "" || p.Name != "bert" {
		t.Errorf("%+v", p)
	}
}

func TestByHandWithoutAName(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	if err := a.AddByHand("1", b.key.ID, "", b.addresses()); err != nil {
		t.Fatal(err)
	}
	if w := a.window("1"); w.Paired == nil || !w.Paired.Unnamed {
		t.Errorf("%+v", w.Paired)
	}
	if err := b.AddByHand("1", a.key.ID, "nan", nil); err != nil {
		t.Fatal(err)
	}
	wait(t, "the name that it says", func() bool { p := a.Peers()[0]; return p.Connected && p.Name == "bert" && p.Calls == "" })
	wait(t, "the name that was given", func() bool { p := b.Peers()[0]; return p.Connected && p.Name == "nan" && p.Calls == "anna" })
}

// How a session ended is told in words, none of which is the transport's.
func TestHowASessionEnded(t *testing.T) {
	for want, err := range map[string]error{
		"it ended the connection: it was unmounted there, or does not let this host in any more":                       &esp.SessionError{Remote: true},
		"it ended the connection: he does not want":                                                                    &esp.SessionError{Code: esp.CodeRefused, Remote: true, Reason: "he does not want"},
		"it ended the connection: this host is revoked there, until somebody there pairs with it again (sharefs pair)": &esp.SessionError{Code: esp.CodeRefused, Remote: true, Reason: errNotWelcome.Error()},
		"it ended the connection: limit reached":                                                                       &esp.SessionError{Code: esp.CodeLimit, Remote: true},
		"the connection ended: protocol violation":                                                                     fmt.Errorf("read: %w", &esp.SessionError{Code: esp.CodeProtocol}),
		"the connection ended: nothing was heard of it any more":                                                       &esp.SessionError{Code: esp.CodeTimeout},
		"the connection ended": &esp.SessionError{},
	} {
		if got := ended(err); got != want {
			t.Errorf("%v: %s, not %s", err, got, want)
		}
	}
	if got := ended(nil); got != "the connection ended" {
		t.Error(got)
	}
}

// A port that somebody else has is told once, with what to do, by all who tell it; and listened on when it is free.
func TestAPortThatIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := taken.Addr().String()
	a := &host{t: t, key: identity.New(), name: "anna"}
	a.start(at)
	t.Cleanup(func() { a.Close() })
	err = a.Offer("1", false)
	want := "listen on " + at + ": another program, or another mount, has that port; it is tried again"
	if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "-o listen=ADDRESS") || strings.Count(err.Error(), at) != 1 {
		t.Error(err)
	}
	if got := a.Pairing().Error; got != err.Error() {
		t.Errorf("%s, not %v", got, err)
	}
}

// Who takes a link where nobody listens any more is told to have another one made, and not of a level that it has not.
func TestALinkOfOneThatIsGone(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := gone.Addr().String()
	gone.Close()
	a, b := newHost(t, "anna"), newHost(t, "bert")
	if err := a.Join("1", pair.Link{ID: b.key.ID, Token: pair.NewToken(), Addrs: []string{at}}.String()); err != nil {
		t.Fatal(err)
	}
	wait(t, "an end", func() bool { return a.window("1").State == report.Failed })
	if got := a.window("1").Error; !strings.Contains(got, "at "+at+": nobody listens there") || !strings.Contains(got, "make another link there") || strings.Contains(got, "level") {
		t.Error(got)
	}
}

// Whoever is not let in, and is not told so, reads what that may mean.
func TestAnEndInsteadOfAHello(t *testing.T) {
	for _, ended := range []error{io.EOF, io.ErrUnexpectedEOF} {
		if err := unanswered(ended); !errors.Is(err, sharefs.KindAgain) || !strings.Contains(err.Error(), "no longer let it in") || strings.Contains(err.Error(), "EOF") {
			t.Errorf("%v: %v", ended, err)
		}
	}
	for _, other := range []error{nil, net.ErrClosed} {
		if err := unanswered(other); err != other {
			t.Errorf("%v: %v", other, err)
		}
	}
}

// A session that ends before the hosts have greeted each other, as one in which they were paired may, is told of in words, without the addresses and keys of the transport.
func TestASessionThatEndsBeforeTheHello(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for what, end := range map[string]func(*esp.Session, *esp.Endpoint){
		"here":  func(s *esp.Session, _ *esp.Endpoint) { s.Close() },
		"there": func(_ *esp.Session, e *esp.Endpoint) { e.Close() },
	} {
		t.Run(what, func(t *testing.T) {
			a := newHost(t, "anna")
			e, key := stranger(t)
			if _, err := e.Listen(); err != nil {
				t.Fatal(err)
			}
			if err := a.AddByHand("1", key.ID, "bert", nil); err != nil {
				t.Fatal(err)
			}
			var p *peer
			a.mu2(func() { p = a.peers[key.ID] })
			s, err := a.connect(ctx, p.key, []string{e.Addr().Addr.String()})
			if err != nil {
				t.Fatal(err)
			}
			end(s, e)
			<-s.Done()
			raw := a.greet(ctx, p, s)
			if op := new(net.OpError); !errors.As(raw, &op) || !strings.Contains(raw.Error(), "esp") {
				t.Fatalf("the transport says %v", raw)
			}
			err = broken(raw, s)
			if !errors.Is(err, sharefs.KindAgain) || !strings.Contains(err.Error(), "it is tried again") || strings.Contains(err.Error(), "esp") || strings.Contains(err.Error(), "127.0.0.1") {
				t.Error(err)
			}
			t.Log(err)
		})
	}
	if err := broken(errNotWelcome, nil); err != errNotWelcome {
		t.Error(err)
	}
}

func TestRevokedForgottenAndBack(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	b.pairWith(a)
	if _, err := a.cfg.Book.Revoke("bert"); err != nil {
		t.Fatal(err)
	}
	a.Sync()
	wait(t, "the end of the session", func() bool {
		return !a.Peers()[0].Connected && strings.Contains(b.Peers()[0].Error, "this host is revoked there, until ")
	})
	if _, err := a.cfg.Book.Grant("bert", trust.Paired, trust.Pattern{}); err != nil {
		t.Fatal(err)
	}
	a.Sync()
	a.connected(b)
	if _, err := a.cfg.Book.Forget("bert"); err != nil {
		t.Fatal(err)
	}
	a.Sync()
	wait(t, "word that it is forgotten", func() bool { return strings.Contains(b.Peers()[0].Error, "pair there as well") })
	b.pairWith(a)
}

// Addresses are told to who does not know them, and to nobody else.
func TestAddressesAreToldOnce(t *testing.T) {
	a := newHost(t, "anna")
	key := identity.New()
	if err := a.AddByHand("1", key.ID, "bert", nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a.greetedBy(ctx, key)
	var l *link
	told := func() (n int) {
		a.mu2(func() {
			for _, w := range l.waiting {
				if w.Kind == noteAddresses {
					n++
				}
			}
		})
		return n
	}
	wait(t, "an end of what is told at the beginning", func() (done bool) {
		a.mu2(func() {
			l = a.Hub.peers[key.ID].link
			if done = !l.writing; done {
				l.writing = true // so that what is to be told stays where it can be seen
			}
		})
		return done
	})
	a.networkChanged()
	if n := told(); n != 0 {
		t.Errorf("%d notes of addresses that the peer knows", n)
	}
	a.mu2(func() { l.told = []string{"192.0.2.1:7"} })
	a.networkChanged()
	a.networkChanged()
	if n := told(); n != 1 {
		t.Errorf("%d notes of other addresses", n)
	}
}

// Two peers of one host find each other through it when neither has an address of the other.
func TestThroughAPeerOfBoth(t *testing.T) {
	c, a, b := newHost(t, "cleo"), newHost(t, "anna"), newHost(t, "bert")
	a.pairWith(c)
	b.pairWith(c)
	if err := a.AddByHand("1", b.key.ID, "bert", nil); err != nil {
		t.Fatal(err)
	}
	if err := b.AddByHand("1", a.key.ID, "anna", nil); err != nil {
		t.Fatal(err)
	}
	a.connected(b)
	c.connected(a)
	c.connected(b)
}

// A store that was copied makes two hosts of one key: one is kept, and it is told.
func TestTwoHostsOfOneKey(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	b.pairWith(a)
	clone := &host{t: t, key: b.key, name: "bert"}
	b.mu.Lock()
	clone.text = b.text
	b.mu.Unlock()
	clone.start("127.0.0.1:0")
	defer clone.Close()
	wait(t, "word of two", func() bool {
		p := a.Peers()[0]
		return p.Connected && strings.Contains(p.Error, "two hosts have this key")
	})
	a.connected(clone)
	kept, _ := a.Connected(b.key.ID)
	last := func() (at time.Time) {
		a.mu2(func() { at = a.Hub.peers[b.key.ID].twin })
		return at
	}
	before := last()
	wait(t, "another try of the earlier one", func() bool { return last().After(before) })
	if now, ok := a.Connected(b.key.ID); !ok || now != kept {
		t.Error("the earlier one ended the session of the later")
	}
	clone.Close() // the earlier one is not shut out for ever
	a.connected(b)
}

// greetedBy has a peer with that key dial and say hello, and returns its end of the session, which is the one with the peer then.
func (o *host) greetedBy(ctx context.Context, key identity.Key) *esp.Session {
	o.t.Helper()
	return o.greetedOver(ctx, strangerWith(o.t, key), key, false)
}

// greetedOver has it do so from an endpoint, and say whether it answers questions.
func (o *host) greetedOver(ctx context.Context, e *esp.Endpoint, key identity.Key, answers bool) *esp.Session {
	o.t.Helper()
	c, err := e.Dial(ctx, o.espAddr())
	if err != nil {
		o.t.Fatal(err)
	}
	s := c.Session()
	if err := frame.Write(c, hello{Purpose: purposeHello, ID: key.ID, Name: "bert", Boot: 1, Answers: answers, Proof: identity.Prove(key.Private(), purposeHello, s.Binding(), s.Dialed())}); err != nil {
		o.t.Fatal(err)
	}
	var answer hello
	if err := frame.Read(c, &answer); err != nil {
		o.t.Fatal(err)
	}
	wait(o.t, "the session to be that of the peer", func() bool {
		now, ok := o.Connected(key.ID)
		return ok && now.Binding() == s.Binding()
	})
	return s
}

// stranger is an endpoint that speaks the protocol as it likes.
func stranger(t *testing.T) (*esp.Endpoint, identity.Key) {
	t.Helper()
	key := identity.New()
	return strangerWith(t, key), key
}

func strangerWith(t *testing.T, key identity.Key) *esp.Endpoint {
	t.Helper()
	e, err := esp.New(esp.Config{Key: esp.PrivateKeyFromEd25519(key.Private()), Addrs: []string{"127.0.0.1:0"}, Authorize: func(esp.PublicKey) error { return nil }, Linger: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func (o *host) espAddr() string {
	return o.Hub.key.Public().String() + "@" + o.addresses()[0]
}

func TestStrangersAreRefused(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	b.pairWith(a)
	e, key := stranger(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := e.Dial(ctx, a.espAddr()); err == nil || !strings.Contains(err.Error(), "not paired with this host") {
		t.Errorf("without a pairing: %v", err)
	}
	a.offer("1")
	first := func(v any) error {
		c, err := e.Dial(ctx, a.espAddr())
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if err := frame.Write(c, v); err != nil {
			return err
		}
		var answer pair.Message
		if err := frame.Read(c, &answer); err != nil {
			return err
		}
		if answer.Error != "" {
			return errors.New(answer.Error)
		}
		return nil
	}
	c, err := e.Dial(ctx, a.espAddr())
	if err != nil {
		t.Fatal(err)
	}
	binding := c.Session().Binding()
	c.Close()
	for name, v := range map[string]any{
		"hello of another":      hello{Purpose: purposeHello, ID: b.key.ID, Name: "bert"},
		"hello of its own":      hello{Purpose: purposeHello, ID: key.ID, Name: "x", Proof: identity.Prove(key.Private(), purposeHello, binding, true)},
		"no purpose":            struct{}{},
		"an unknown purpose":    map[string]string{"purpose": "files"},
		"not even an object":    "x",
		"pairing of a kind":     pair.Message{Purpose: pair.Purpose, Mode: "x"},
		"digits without search": pair.Message{Purpose: pair.Purpose, Mode: pair.ByLAN},
		"a link without proof":  pair.Message{Purpose: pair.Purpose, Mode: pair.ByLink, ID: key.ID},
		"another's id":          pair.Message{Purpose: pair.Purpose, Mode: pair.ByLink, ID: b.key.ID, Proof: make([]byte, 64)},
	} {
		if err := first(v); err == nil {
			t.Errorf("%s: it is answered", name)
		}
	}
	if len(a.Peers()) != 1 || a.window("1").State != report.Open {
		t.Errorf("%+v", a.Pairing())
	}
	if p := a.Peers()[0]; p.Name != "bert" {
		t.Errorf("%+v", p)
	}
}

// Who floods a host that waits to be paired is held off, and its peers are not.
func TestAFloodOfStrangers(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	b.pairWith(a)
	a.offer("1")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	const few = 5
	a.mu2(func() { a.strangers = meter{burst: few} }) // and none later, so that the test does not hang on the clock
	in := 0
	for i := range 3 * few {
		e, _ := stranger(t)
		_, err := e.Dial(ctx, a.espAddr())
		switch {
		case err == nil:
			in++
		case i == 0 || !strings.Contains(err.Error(), errBusy.Error()):
			t.Errorf("stranger %d: %v", i+1, err)
		}
		e.Close()
	}
	if in > few { // fewer where one knocks twice, over UDP and over TCP
		t.Errorf("%d were let in", in)
	}
	a.connected(b)
}

func TestMeter(t *testing.T) {
	m, at := meter{rate: 2, burst: 3}, time.Unix(1000, 0)
	for i, c := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {0, true}, {0, true}, {0, false}, {499 * time.Millisecond, false}, {time.Millisecond, true}, {0, false}, {time.Hour, true}, {0, true}, {0, true}, {0, false}, {-time.Hour, false}} {
		at = at.Add(c.after)
		if m.take(at) != c.want {
			t.Errorf("%d: %v", i, !c.want)
		}
	}
}

func TestTooManyWindows(t *testing.T) {
	a := newHost(t, "anna")
	for range mostWindows {
		a.offer("x")
	}
	if err := a.Offer("y", false); !errors.Is(err, sharefs.KindBusy) {
		t.Error(err)
	}
	a.End("x")
	for range 3 * keptWindows {
		a.offer("z")
		a.End("z")
	}
	if n := len(a.Pairing().Asked); n > keptWindows {
		t.Errorf("%d are kept", n)
	}
}

// Digits over a session that the two made without knowing each other's key.
func TestDigits(t *testing.T) {
	for name, c := range map[string]struct{ here, there, paired bool }{"agree": {true, true, true}, "differ here": {false, true, false}, "differ there": {true, false, false}} {
		t.Run(name, func(t *testing.T) {
			a, b := newHost(t, "anna"), newHost(t, "bert")
			a.cfg.LAN, b.cfg.LAN = true, true // nothing is sent: the beacon is heard by hand
			for _, o := range []*host{a, b} {
				if err := o.Offer("1", true); err != nil {
					t.Fatal(err)
				}
			}
			an, bn := a.Hub.windows[0].nonce, b.Hub.windows[0].nonce
			a.heardPairing(bn, "b", b.addresses()[0])
			b.heardPairing(an, "a", a.addresses()[0])
			wait(t, "candidates", func() bool { return len(a.window("1").Candidates) == 1 && len(b.window("1").Candidates) == 1 })
			x, y := a.window("1").Candidates[0], b.window("1").Candidates[0]
			if x.Digits != y.Digits || x.Name != "bert" || y.Name != "anna" || x.ID != b.key.ID.String() || x.State != report.Compare {
				t.Fatalf("%+v, %+v", x, y)
			}
			if err := a.Answer("1", 1, c.here); err != nil {
				t.Fatal(err)
			}
			if err := b.Answer("1", 1, c.there); err != nil && c.here {
				t.Fatal(err)
			}
			if !c.paired {
				wait(t, "the end", func() bool {
					over := func(o *host) bool {
						s := o.window("1").Candidates[0].State
						return s == report.Denied || s == report.Vanished
					}
					return over(a) && over(b)
				})
				if len(a.Peers())+len(b.Peers()) != 0 {
					t.Error("paired all the same")
				}
				return
			}
			wait(t, "pairing", func() bool { return a.window("1").State == report.Done && b.window("1").State == report.Done })
			a.connected(b)
			if err := a.Answer("1", 1, true); !errors.Is(err, sharefs.KindStale) {
				t.Error(err)
			}
		})
	}
}

// Beacons of others who wait to be paired are followed up within bounds, and one address does not take all of them.
func TestAFloodOfPairingBeacons(t *testing.T) {
	a := newHost(t, "anna")
	a.cfg.LAN = true
	if err := a.Offer("1", true); err != nil {
		t.Fatal(err)
	}
	a.mu2(func() { a.windows[0].nonce = 0 }) // the lowest: it dials them all
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	count := func() (n int) {
		a.mu2(func() { n = len(a.heardOf) })
		return n
	}
	for n := range uint64(1000) {
		a.heardPairing(1+n, "192.0.2.1", silent.LocalAddr().String())
	}
	if n := count(); n > mostOfAddress {
		t.Errorf("%d beacons of one address", n)
	}
	for n := range uint64(1000) {
		a.heardPairing(10_000+n, fmt.Sprint("host ", n), silent.LocalAddr().String())
	}
	if n := count(); n > mostFollowed || n <= mostOfAddress {
		t.Errorf("%d beacons", n)
	}
}

func TestListeningThatFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	a := &host{t: t, key: identity.New(), name: "anna"}
	a.start(taken.Addr().String())
	defer a.Close()
	if r := a.Pairing(); r.Error == "" || r.Listening != "" {
		t.Errorf("%+v", r)
	}
	if err := a.Offer("1", false); err == nil {
		t.Error("a link to nowhere")
	}
	off := &host{t: t, key: identity.New(), name: "off"}
	off.start(Off)
	defer off.Close()
	if err := off.Offer("1", false); !errors.Is(err, sharefs.KindNotSupported) {
		t.Error(err)
	}
	auto := &host{t: t, key: identity.New(), name: "auto"}
	auto.start(Auto)
	if auto.Pairing().Listening != "" {
		t.Error("it listens before it has a peer")
	}
	auto.offer("1")
	for try := 1; ; try++ {
		at := auto.Pairing().Listening
		auto.Close()
		auto.start(Auto)
		auto.offer("1")
		now := auto.Pairing().Listening
		if at != "" && now == at {
			break
		}
		if try == 5 { // another process may have taken the port, but not each time
			t.Errorf("it listens at %s, not at %s as before", now, at)
			break
		}
	}
	auto.Close()
}
