package trust

import (
	"crypto/cipher"
	"crypto/sha256"
	"slices"

	"sharefs"
)

// What goes to a peer is an [Envelope], and the send layer writes nothing else. An Envelope is made by a permission, and permissions are given by
// a [Policy] alone: [Plain] for a peer and a path where [OutPlain] goes out, [Cipher] for a peer to whom sealed objects go. A Cipher takes
// nothing but a [Sealed], and a Sealed is made by a [Sealer], which has encrypted it or opened it with the key; no bytes can be declared to be sealed. So
// plain content for a peer of the level store cannot be written down: no function makes an Envelope of it. What is too long for memory goes in a
// [FileEnvelope], which is made in the same way, of a [SealedFile] (permit_file.go).
//
// A permission is for one message: ask the policy of the moment for each. The zero values of all these types permit nothing and hold nothing.

// Envelope is a message to one peer, ready to be written.
type Envelope struct {
	to    sharefs.PeerID
	plain bool
	body  []byte
}

// To returns to whom the message goes: nobody, if it is the zero value, which must not be written.
func (e Envelope) To() sharefs.PeerID { return e.to }

// Plain reports whether the message can be read by whoever receives it.
func (e Envelope) Plain() bool { return e.plain }

// Body returns the message, not to be changed.
func (e Envelope) Body() []byte { return e.body }

// Plain permits to send one peer what can be read of one path.
type Plain struct {
	peer sharefs.PeerID
	path string
}

// Cipher permits to send one peer sealed objects.
type Cipher struct{ peer sharefs.PeerID }

// Plain returns the permission to send a peer records and content of a path. Below [Read] the error is of [sharefs.KindPermission].
func (p Policy) Plain(id sharefs.PeerID, path string) (Plain, error) {
	if x := p.Explain(id, path); x.Level.Rights().Out < OutPlain {
		return Plain{}, &sharefs.Error{Op: "send", Path: quote(path), Kind: sharefs.KindPermission,
			Detail: "this peer has the level " + x.Level.String() + " there and receives " + x.Level.Rights().Receives}
	}
	return Plain{id, path}, nil
}

// Whole returns the permission to send a peer records and content of the whole share, whatever the path: none of its rules leaves it less than [Read] anywhere.
// Otherwise the error is of [sharefs.KindPermission] and names what it does not receive.
func (p Policy) Whole(id sharefs.PeerID) (Plain, error) {
	e := p.peers[id]
	for _, r := range e.rules {
		if l := min(r.Level, e.ceiling); l.Rights().Out < OutPlain {
			return Plain{}, &sharefs.Error{Op: "send", Path: quote(r.Pattern.String()), Kind: sharefs.KindPermission,
				Detail: "this peer has the level " + l.String() + " there and receives " + l.Rights().Receives}
		}
	}
	return p.Plain(id, "")
}

// Some returns the permission to send a peer records and content of what it may read, if it may read anything at all: all of the share or a part of it. Whoever asks for it
// holds that nothing else is in the message ([Policy.Reads]). Otherwise the error is of [sharefs.KindPermission].
func (p Policy) Some(id sharefs.PeerID) (Plain, error) {
	if most := p.Most(id); most.Rights().Out < OutPlain {
		return Plain{}, &sharefs.Error{Op: "send", Kind: sharefs.KindPermission, Detail: "this peer has the level " + most.String() + " and receives " + most.Rights().Receives}
	}
	return Plain{id, ""}, nil
}

// Cipher returns the permission to send a peer sealed objects, which are of no path that it could see. A peer that has neither [Store] nor more anywhere is refused
// with an error of [sharefs.KindPermission].
func (p Policy) Cipher(id sharefs.PeerID) (Cipher, error) {
	if most := p.Most(id); most.Rights().Out < OutCipher {
		return Cipher{}, &sharefs.Error{Op: "send", Kind: sharefs.KindPermission,
			Detail: "this peer has the level " + most.String() + " and receives " + most.Rights().Receives}
	}
	return Cipher{id}, nil
}

var errNoPermission = &sharefs.Error{Op: "send", Kind: sharefs.KindPermission, Detail: "without permission: a policy gives one for each peer and path"}

// Path returns what the permission is for.
func (p Plain) Path() string { return p.path }

// Envelope makes a message of content that can be read. It keeps body.
func (p Plain) Envelope(body []byte) (Envelope, error) {
	if p.peer.IsZero() {
		return Envelope{}, errNoPermission
	}
	return Envelope{to: p.peer, plain: true, body: body}, nil
}

// Envelope makes a message of a sealed object.
func (c Cipher) Envelope(s Sealed) (Envelope, error) {
	if c.peer.IsZero() || s.body == nil {
		return Envelope{}, errNoPermission
	}
	return Envelope{to: c.peer, body: s.body}, nil
}

// Sealed is an object that nobody can read without the key.
type Sealed struct {
	id   [32]byte
	body []byte
}

// ID returns the SHA-256 of the sealed bytes, by which a peer can check what it keeps without a key.
func (s Sealed) ID() [32]byte { return s.id }

// Body returns the nonce and the sealed bytes, not to be changed.
func (s Sealed) Body() []byte { return s.body }

// Sealer makes sealed objects with one key. It may be used by several goroutines if its AEAD may, as those of the standard library.
type Sealer struct{ aead cipher.AEAD }

// NewSealer returns a sealer that uses aead, such as AES-256-GCM under a key derived for one pack.
func NewSealer(aead cipher.AEAD) *Sealer { return &Sealer{aead} }

// Seal encrypts plain content. The nonce, of the AEAD's size, must never serve twice under one key; bound is bound to it and not sent (share, epoch, pack).
func (s *Sealer) Seal(nonce, plain, bound []byte) (Sealed, error) {
	if len(nonce) != s.aead.NonceSize() {
		return Sealed{}, &sharefs.Error{Op: "seal", Kind: sharefs.KindInvalid, Detail: "a nonce of the wrong size"}
	}
	return made(s.aead.Seal(slices.Clone(nonce), nonce, plain, bound)), nil
}

// Adopt takes bytes as sealed that Seal made before, of which it makes sure with the key. It keeps body. Errors are of [sharefs.KindCorrupt].
func (s *Sealer) Adopt(body, bound []byte) (Sealed, error) {
	if _, err := s.Open(body, bound); err != nil {
		return Sealed{}, err
	}
	return made(body), nil
}

// Open returns the plain content of sealed bytes. Errors are of [sharefs.KindCorrupt].
func (s *Sealer) Open(body, bound []byte) ([]byte, error) {
	n := s.aead.NonceSize()
	if len(body) < n {
		return nil, &sharefs.Error{Op: "open a sealed object", Kind: sharefs.KindCorrupt, Detail: "it is shorter than its nonce"}
	}
	plain, err := s.aead.Open(nil, body[:n], body[n:], bound)
	if err != nil {
		return nil, &sharefs.Error{Op: "open a sealed object", Kind: sharefs.KindCorrupt, Detail: "it was not sealed with this key, or not for this place", Err: err}
	}
	return plain, nil
}

func made(body []byte) Sealed { return Sealed{sha256.Sum256(body), body} }
