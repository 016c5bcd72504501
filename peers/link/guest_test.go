package link

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"sharefs/esp"
	"sharefs/peers/frame"
)

// Who has a key for which something is kept is let in for that, says no hello, and opens nothing else; as many as there may be. Anybody else is refused as ever.
func TestGuests(t *testing.T) {
	a := newHost(t, "anna")
	guest, stranger := esp.PrivateKey{1, 2, 3}, esp.PrivateKey{4, 5, 6}
	served := make(chan esp.PublicKey, 100)
	a.HandleGuests("fetch", func(key esp.PublicKey) bool { return key == guest.Public() }, func(key esp.PublicKey, c *esp.Conn, _ json.RawMessage) {
		defer c.Close()
		served <- key
		_ = frame.Write(c, "yes")
	})
	at := a.key
	key, err := esp.PublicKeyFromEd25519(at.ID[:])
	if err != nil {
		t.Fatal(err)
	}
	dial := func(as esp.PrivateKey) (*esp.Session, error) {
		t.Helper()
		ep, err := esp.New(esp.Config{Key: as, Addrs: []string{"127.0.0.1:0"}, Authorize: func(esp.PublicKey) error { return errors.New("nobody") }, Linger: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ep.Close() })
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return ep.Connect(ctx, key.String()+"@"+a.endpoint().Addr().Addr.String())
	}
	ask := func(s *esp.Session, purpose string) (answer string, err error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := s.Open(ctx)
		if err != nil {
			return "", err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if err = frame.Write(c, map[string]string{"purpose": purpose}); err == nil {
			err = frame.Read(c, &answer)
		}
		return answer, err
	}
	if s, err := dial(stranger); err == nil {
		if text, err := ask(s, "fetch"); err == nil {
			t.Errorf("a stranger was answered %q", text)
		}
	}
	s, err := dial(guest)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if text, err := ask(s, "fetch"); err != nil || text != "yes" || <-served != guest.Public() {
			t.Fatalf("%q, %v", text, err)
		}
	}
	a.endSilent() // it said no hello, and stays nevertheless
	a.endSilent()
	if text, err := ask(s, "fetch"); err != nil || text != "yes" {
		t.Fatalf("%q, %v", text, err)
	}
	if text, err := ask(s, "records"); err == nil {
		t.Errorf("a guest was answered %q", text)
	}
	if len(a.Peers()) != 0 {
		t.Error("a guest is a peer")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wait(t, "that it is gone", func() bool {
		a.Hub.mu.Lock()
		defer a.Hub.mu.Unlock()
		return len(a.guests) == 0
	})
	a.Hub.mu.Lock()
	for range mostGuests {
		a.guests[new(esp.Session)] = true
	}
	a.Hub.mu.Unlock()
	if s, err := dial(guest); err != nil {
		t.Error(err)
	} else if text, err := ask(s, "fetch"); err == nil {
		t.Errorf("one too many was answered %q", text)
	}
}
