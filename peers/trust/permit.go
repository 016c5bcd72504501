package trust

import "sharefs"

// What goes to a peer is an [Envelope], and the send layer writes nothing else. An Envelope is made by a permission, and permissions are given by
// a [Policy] alone: [Plain] for a peer and a path where [OutPlain] goes out, [Cipher] for a peer to whom sealed files go, in a [FileEnvelope] (permit_file.go). A Cipher takes
// nothing but a [SealedFile], and that is made by a [FileSealer], which has looked through all of it with the key; no bytes can be declared to be sealed. So
// plain content for a peer of the level store cannot be written down: no function makes an envelope of it.
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
