package pair

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"sharefs"
	"sharefs/peers/frame"
	"sharefs/peers/identity"
)

// The modes of pairing, as the first message names them.
const (
	ByLink = "link"
	ByLAN  = "lan"
)

// Self is this host.
type Self struct {
	Key   ed25519.PrivateKey
	ID    sharefs.PeerID
	Name  string
	Addrs []string
}

// Other is who answered, its key proven.
type Other struct {
	ID    sharefs.PeerID
	Name  string // as it calls itself: anything
	Addrs []string
}

// Session is one end of a stream between two hosts that may not know each other.
type Session struct {
	io.ReadWriter
	Binding [32]byte
	Dialer  bool
	Self    Self
	// Holds reports whether the session was made with the key of id.
	Holds func(id sharefs.PeerID) bool
}

// Message is all that is said in pairing; which members there are depends on the step.
type Message struct {
	Purpose string         `json:"purpose,omitempty"` // of the stream; of the first message
	Mode    string         `json:"mode,omitempty"`
	ID      sharefs.PeerID `json:"id,omitzero"`
	Name    string         `json:"name,omitempty"`
	Addrs   []string       `json:"addresses,omitempty"`
	Proof   []byte         `json:"proof,omitempty"`
	Mac     []byte         `json:"mac,omitempty"`
	Commit  []byte         `json:"commit,omitempty"`
	Number  []byte         `json:"number,omitempty"`
	Agreed  *bool          `json:"agreed,omitempty"`
	Error   string         `json:"error,omitempty"`
}

// Purpose is that of streams in which hosts pair.
const Purpose = "pair"

const numberSize = 16

// me begins a message with who we are.
func (s *Session) me() Message {
	return Message{ID: s.Self.ID, Name: s.Self.Name, Addrs: s.Self.Addrs, Proof: identity.Prove(s.Self.Key, Purpose, s.Binding, s.Dialer)}
}

// who takes the other's identity out of a message, if it proves it.
func (s *Session) who(m *Message) (Other, error) {
	switch {
	case m.Error != "":
		return Other{}, &RefusedError{m.Error}
	case m.ID == s.Self.ID:
		return Other{}, &sharefs.Error{Op: "pair", Kind: sharefs.KindInvalid, Detail: "that is this very host"}
	case m.ID.IsZero() || !s.Holds(m.ID) || !identity.Proved(m.ID, Purpose, s.Binding, !s.Dialer, m.Proof):
		return Other{}, refuse("the other host does not prove who it is")
	}
	return Other{ID: m.ID, Name: m.Name, Addrs: Addresses(m.Addrs)}, nil
}

func refuse(detail string) error {
	return &sharefs.Error{Op: "pair", Kind: sharefs.KindPermission, Detail: detail}
}

// RefusedError is what the other host says that speaks against it.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "pair: the other host refuses: " + e.Reason }

// Is makes it one of KindPermission.
func (e *RefusedError) Is(target error) bool { return target == sharefs.KindPermission }

// Join runs the joiner's end of pairing by a link.
func (s *Session) Join(l Link) (Other, error) {
	m := s.me()
	m.Purpose, m.Mode, m.Mac = Purpose, ByLink, l.Token.mac("joiner", s.Binding, s.Self.ID)
	if err := frame.Write(s, m); err != nil {
		return Other{}, err
	}
	var answer Message
	if err := frame.Read(s, &answer); err != nil {
		return Other{}, err
	}
	other, err := s.who(&answer)
	if err != nil {
		return Other{}, err
	}
	if other.ID != l.ID || !hmac.Equal(answer.Mac, l.Token.mac("opener", s.Binding, other.ID)) {
		return Other{}, refuse("the other host is not the one that made the link")
	}
	return other, nil
}

// Asker returns who the joiner is whose first message is m.
func (s *Session) Asker(m *Message) (Other, error) { return s.who(m) }

// Knows reports whether the joiner's message shows the knowledge of a token.
func (s *Session) Knows(m *Message, t Token) bool {
	return hmac.Equal(m.Mac, t.mac("joiner", s.Binding, m.ID))
}

// Welcome ends the opener's side of pairing by a link.
func (s *Session) Welcome(t Token) error {
	m := s.me()
	m.Mac = t.mac("opener", s.Binding, s.Self.ID)
	return frame.Write(s, m)
}

// Refuse tells the other host why not.
func (s *Session) Refuse(reason string) { _ = frame.Write(s, Message{Error: reason}) }

// Meet runs pairing by digits up to where people compare them; first is the dialer's message, which the listener's end has read already.
func (s *Session) Meet(first *Message) (other Other, digits string, err error) {
	number := make([]byte, numberSize)
	rand.Read(number)
	var theirs Message
	if s.Dialer {
		if err := frame.Write(s, Message{Purpose: Purpose, Mode: ByLAN, Commit: commit(s.Binding, s.Self.ID, number)}); err != nil {
			return other, "", err
		}
		if err := frame.Read(s, &theirs); err != nil {
			return other, "", err
		}
	}
	if s.Dialer { // reveal only to who has shown its number
		if other, err = s.who(&theirs); err != nil {
			return other, "", err
		}
	}
	m := s.me()
	m.Number = number
	if err := frame.Write(s, m); err != nil {
		return other, "", err
	}
	if !s.Dialer {
		if err := frame.Read(s, &theirs); err != nil {
			return other, "", err
		}
		if other, err = s.who(&theirs); err != nil {
			return other, "", err
		}
		if !bytes.Equal(first.Commit, commit(s.Binding, theirs.ID, theirs.Number)) {
			return other, "", refuse("the other host does not keep to its first word: somebody may be in the middle")
		}
	}
	if len(theirs.Number) != numberSize {
		return other, "", refuse("the other host does not speak this protocol")
	}
	if s.Dialer {
		return other, Digits(s.Binding, s.Self.ID, other.ID, number, theirs.Number), nil
	}
	return other, Digits(s.Binding, other.ID, s.Self.ID, theirs.Number, number), nil
}

// Agree tells the other host what the person here said of the digits.
func (s *Session) Agree(yes bool) error { return frame.Write(s, Message{Agreed: &yes}) }

// Agreed waits for what the person there said.
func (s *Session) Agreed() (bool, error) {
	var m Message
	if err := frame.Read(s, &m); err != nil {
		return false, err
	}
	if m.Error != "" {
		return false, &RefusedError{m.Error}
	}
	return m.Agreed != nil && *m.Agreed, nil
}

func commit(binding [32]byte, id sharefs.PeerID, number []byte) []byte {
	h := sha256.New()
	h.Write([]byte("sharefs commit 1"))
	h.Write(binding[:])
	h.Write(id[:])
	h.Write(number)
	return h.Sum(nil)
}

// Digits are the six that both screens show, with a blank in the middle.
func Digits(binding [32]byte, dialer, listener sharefs.PeerID, ofDialer, ofListener []byte) string {
	h := sha256.New()
	h.Write([]byte("sharefs digits 1"))
	h.Write(binding[:])
	h.Write(dialer[:])
	h.Write(listener[:])
	h.Write(ofDialer)
	h.Write(ofListener)
	n := binary.BigEndian.Uint64(h.Sum(nil)) % 1_000_000
	return fmt.Sprintf("%03d %03d", n/1000, n%1000)
}
