package pair

import (
	"errors"
	"net"
	"strings"
	"testing"

	"sharefs"
	"sharefs/peers/frame"
	"sharefs/peers/identity"
)

func TestLinkText(t *testing.T) {
	l := Link{ID: identity.New().ID, Token: NewToken(), Addrs: []string{"192.0.2.1:7274", "[2001:db8::1]:80", "host.example:1"}}
	text := l.String()
	for _, s := range []string{text, " " + text + "\n", strings.ToUpper(text)} {
		got, err := ParseLink(s)
		if err != nil || got.ID != l.ID || got.Token != l.Token || strings.Join(got.Addrs, " ") != strings.Join(l.Addrs, " ") {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	if strings.ContainsAny(text, " []?&#*$'\"\\\n") {
		t.Errorf("a shell minds %q", text)
	}
	id, token := l.ID.Plain(), strings.Split(text, "/")[1]
	for n := range text {
		if _, err := ParseLink(text[:n]); !errors.Is(err, sharefs.KindInvalid) || n > len("sharefs:") && !strings.Contains(err.Error(), "it is not whole") {
			t.Errorf("%q: %v", text[:n], err)
		}
	}
	swapped := strings.Replace(text, "192.0.2.1", "192.0.1.2", 1)
	if _, err := ParseLink(swapped); !errors.Is(err, sharefs.KindInvalid) || !strings.Contains(err.Error(), "not as it was shown") {
		t.Error(err)
	}
	if _, err := ParseLink(text[:strings.LastIndexByte(text, '/')]); err == nil || !strings.Contains(err.Error(), "of an older version") { // as it was before there was a check
		t.Error(err)
	}
	for _, s := range []string{
		"sharefs:", "sharefs:" + id, "sharefs:" + id + "/", "sharefs:" + id + "/" + token[1:], "sharefs:" + id[1:] + "/" + token,
		text + "/", text + "/x", text + "/0.0.0.0:1", text + "/host:0", text + "/\x1b[31m:1", "sharefs:" + id + "/" + token + strings.Repeat("/a:1", maxAddresses+1),
	} {
		if _, err := ParseLink(s + "/" + checkOf(s)); !errors.Is(err, sharefs.KindInvalid) || strings.Contains(err.Error(), "whole,") {
			t.Errorf("%q, with a check: %v", s, err)
		}
	}
	for _, s := range []string{
		"", "sharefs:", "http://x", "sharefs:" + id, "sharefs:" + id + "/", "sharefs:" + id + "/" + token[1:], "sharefs:" + id[1:] + "/" + token,
		text + "/", text + "/x", text + "/0.0.0.0:1", text + "/host:0", text + "/\x1b[31m:1", "sharefs:" + id + "/" + token + strings.Repeat("/a:1", maxAddresses+1),
	} {
		if _, err := ParseLink(s); !errors.Is(err, sharefs.KindInvalid) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for s, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1:80", "2001:db8::1:80": "[2001:db8::1]:80", "[2001:db8::1]:80": "[2001:db8::1]:80", "::ffff:192.0.2.1:80": "192.0.2.1:80",
		"a.b:1": "a.b:1", "fe80::1:80": "", "224.0.0.1:80": "", "0.0.0.0:80": "", ":80": "", "a:0": "", "a:65536": "", "a": "", "a b:1": "", "-a:1": "", "\x1b:1": "",
		strings.Repeat("a", 300) + ":1": "", "255.255.255.255:1": "", "1.2.3.4%eth0:5": "",
	} {
		if got, ok := Address(s); got != want || ok != (want != "") {
			t.Errorf("%q: %q", s, got)
		}
	}
	if got := Addresses([]string{"192.0.2.1:1", "192.0.2.1:1", "x", "evil.example:80", "localhost:1", "2001:db8::1:80"}); strings.Join(got, " ") != "192.0.2.1:1 [2001:db8::1]:80" {
		t.Error(got)
	}
}

func FuzzParseLink(f *testing.F) {
	f.Add(Link{ID: sharefs.PeerID{1}, Addrs: []string{"a:1", "[::1]:2"}}.String())
	f.Add("sharefs:a/b/c:1")
	f.Add("sharefs:a/b/c:1/" + checkOf("sharefs:a/b/c:1"))
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseLink(text)
		if err != nil {
			return
		}
		if again, err := ParseLink(l.String()); err != nil || again.String() != l.String() {
			t.Errorf("%q: %v, %v", text, again, err)
		}
	})
}

// ends are the two ends of one session; whoever is in the middle gives them different bindings.
func ends(t *testing.T) (dialer, listener *Session) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	mine, theirs := identity.New(), identity.New()
	dialer = &Session{ReadWriter: a, Binding: [32]byte{1}, Dialer: true, Self: Self{mine.Private(), mine.ID, "joiner", []string{"192.0.2.1:1", "junk"}},
		Holds: func(id sharefs.PeerID) bool { return id == theirs.ID }}
	listener = &Session{ReadWriter: b, Binding: [32]byte{1}, Self: Self{theirs.Private(), theirs.ID, "opener", []string{"192.0.2.2:2"}},
		Holds: func(id sharefs.PeerID) bool { return id == mine.ID }}
	return dialer, listener
}

// open is an opener's end with one token.
func open(s *Session, token Token) (Other, error) {
	var m Message
	if err := frame.Read(s, &m); err != nil {
		return Other{}, err
	}
	other, err := s.Asker(&m)
	if err != nil {
		s.Refuse("no proof")
		return other, err
	}
	if m.Purpose != Purpose || m.Mode != ByLink || !s.Knows(&m, token) {
		s.Refuse("wrong token")
		return other, errors.New("wrong token")
	}
	return other, s.Welcome(token)
}

func TestPairingByLink(t *testing.T) {
	token := NewToken()
	for name, c := range map[string]struct {
		change func(l *Link, dialer, listener *Session)
		ok     bool
	}{
		"as it should be":        {func(*Link, *Session, *Session) {}, true},
		"a wrong token":          {func(l *Link, _, _ *Session) { l.Token[3]++ }, false},
		"another host answers":   {func(l *Link, _, _ *Session) { l.ID = identity.New().ID }, false},
		"somebody in the middle": {func(_ *Link, d, _ *Session) { d.Binding[0]++ }, false},
		"another key's session":  {func(_ *Link, d, _ *Session) { d.Holds = func(sharefs.PeerID) bool { return false } }, false},
		"a borrowed id":          {func(_ *Link, d, _ *Session) { d.Self.ID = identity.New().ID }, false},
		"oneself":                {func(_ *Link, d, l *Session) { d.Self = l.Self }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dialer, listener := ends(t)
			l := Link{ID: listener.Self.ID, Token: token}
			c.change(&l, dialer, listener)
			type result struct {
				other Other
				err   error
			}
			opened := make(chan result, 1)
			go func() {
				other, err := open(listener, token)
				opened <- result{other, err}
			}()
			other, err := dialer.Join(l)
			r := <-opened
			if c.ok {
				if err != nil || r.err != nil || other.ID != listener.Self.ID || r.other.ID != dialer.Self.ID || other.Name != "opener" || r.other.Name != "joiner" ||
					strings.Join(r.other.Addrs, " ") != "192.0.2.1:1" {
					t.Errorf("%+v %v, %+v %v", other, err, r.other, r.err)
				}
			} else if err == nil {
				t.Error("it passes")
			}
		})
	}
}

func meet(s *Session, first *Message) (Other, string, error) {
	if !s.Dialer {
		if err := frame.Read(s, first); err != nil {
			return Other{}, "", err
		}
	}
	return s.Meet(first)
}

func TestPairingByDigits(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(dialer, listener *Session)
		same, ok bool
	}{
		"as it should be":       {func(*Session, *Session) {}, true, true},
		"another key's session": {func(d, _ *Session) { d.Holds = func(sharefs.PeerID) bool { return false } }, false, false},
		"another session":       {func(d, _ *Session) { d.Binding[0]++ }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			dialer, listener := ends(t)
			c.change(dialer, listener)
			type result struct {
				other  Other
				digits string
				err    error
			}
			got := make(chan result, 1)
			go func() {
				other, digits, err := meet(listener, new(Message))
				if err == nil {
					err = listener.Agree(true)
				}
				listener.ReadWriter.(net.Conn).Close()
				got <- result{other, digits, err}
			}()
			other, digits, err := meet(dialer, nil)
			agreed := false
			if err == nil {
				agreed, err = dialer.Agreed()
			}
			dialer.ReadWriter.(net.Conn).Close()
			r := <-got
			if (err == nil && r.err == nil) != c.ok {
				t.Fatalf("%v, %v", err, r.err)
			}
			if c.ok && (!agreed || digits != r.digits || len(digits) != 7 || other.ID != listener.Self.ID || r.other.ID != dialer.Self.ID) {
				t.Errorf("%q and %q, %+v, %+v, %v", digits, r.digits, other, r.other, agreed)
			}
		})
	}
}

// Who changes its number after it has seen the other's is found out.
func TestTheCommitmentHolds(t *testing.T) {
	dialer, listener := ends(t)
	got := make(chan error, 1)
	go func() {
		_, _, err := meet(listener, new(Message))
		listener.ReadWriter.(net.Conn).Close()
		got <- err
	}()
	if err := frame.Write(dialer, Message{Purpose: Purpose, Mode: ByLAN, Commit: commit(dialer.Binding, dialer.Self.ID, make([]byte, numberSize))}); err != nil {
		t.Fatal(err)
	}
	var theirs Message
	if err := frame.Read(dialer, &theirs); err != nil {
		t.Fatal(err)
	}
	m := dialer.me()
	m.Number = append(make([]byte, numberSize-1), 1)
	if err := frame.Write(dialer, m); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, sharefs.KindPermission) || !strings.Contains(err.Error(), "first word") {
		t.Error(err)
	}
}

func TestDigitsHangOnEverything(t *testing.T) {
	a, b := sharefs.PeerID{1}, sharefs.PeerID{2}
	seen := map[string]bool{}
	for _, d := range []string{
		Digits([32]byte{1}, a, b, []byte{1}, []byte{2}), Digits([32]byte{2}, a, b, []byte{1}, []byte{2}), Digits([32]byte{1}, b, a, []byte{1}, []byte{2}),
		Digits([32]byte{1}, a, b, []byte{2}, []byte{1}), Digits([32]byte{1}, a, b, []byte{1}, []byte{3}),
	} {
		if seen[d] {
			t.Errorf("%s twice", d)
		}
		seen[d] = true
	}
}
