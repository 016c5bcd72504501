package esp

import (
	"crypto/ecdh"
	"io"
	"time"
)

// keyExchange makes a fresh Diffie-Hellman exchange inside a session every hour, so that who has taken keys from one
// end loses track again (the ratchet alone protects only the past). The client begins:
//
//	client → server   KEYEX(n, the client's next epoch, X)      the client does not move to that epoch before it has the answer
//	server → client   KEYEX(n, the server's next epoch, Y)      the server does not move to its own before the answer has arrived
//
// Each side mixes X25519(x, Y) into the secret of the epoch that it named. The session's lock guards it.
type keyExchange struct {
	n       uint64 // exchanges begun or answered
	priv    *ecdh.PrivateKey
	waiting bool          // client: no answer yet; server: the answer has not been acknowledged
	last    time.Duration // when the last exchange began
	dh      []byte        // shared secret of the last exchange

	recvEpoch uint64 // the peer's epoch that mixes dh in
	recvSet   bool
}

// mayAdvance reports whether the sending epoch may move: not while an exchange is half done.
func (k *keyExchange) mayAdvance(*Session) bool { return !k.waiting }

// deadline is when the next exchange begins, 0: never.
func (k *keyExchange) deadline(s *Session) time.Duration {
	if !s.client || !s.confirmed || k.waiting {
		return 0
	}
	return k.last + dhInterval
}

func (k *keyExchange) tick(s *Session, now time.Duration) {
	if at := k.deadline(s); at != 0 && now >= at {
		k.begin(s, now)
	}
}

// begin starts an exchange; client only.
func (k *keyExchange) begin(s *Session, now time.Duration) {
	priv, err := newX25519(s.e.cfg.Rand)
	if err != nil {
		return // no randomness now: the next tick tries again
	}
	k.last = now
	k.n++
	k.priv, k.waiting = priv, true
	s.sendCtrl(&ctrl{typ: frameKeyEx, a: k.n, b: s.send.cur.epoch + 1, data: priv.PublicKey().Bytes()})
}

// newX25519 makes a key from r. ecdh.GenerateKey ignores a reader of the caller's, which the tests need.
func newX25519(r io.Reader) (*ecdh.PrivateKey, error) {
	var b [32]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, err
	}
	return ecdh.X25519().NewPrivateKey(b[:])
}

// received takes KEYEX.
func (k *keyExchange) received(s *Session, f *frame) {
	if s.client {
		if !k.waiting || f.off != k.n {
			return // an answer that came twice
		}
	} else if f.off <= k.n {
		return
	} else if f.off != k.n+1 || k.waiting {
		s.violation(CodeProtocol, "key exchange %d after %d", f.off, k.n)
		return
	}
	pub, err := ecdh.X25519().NewPublicKey(f.data)
	if err != nil {
		s.violation(CodeProtocol, "key exchange: %v", err)
		return
	}
	if !s.client {
		if k.priv, err = newX25519(s.e.cfg.Rand); err != nil {
			s.violation(CodeNone, "no randomness: %v", err)
			return
		}
	}
	dh, err := k.priv.ECDH(pub)
	if err != nil {
		s.violation(CodeProtocol, "key exchange: %v", err)
		return
	}
	keys := s.recvKeys.Load()
	if f.code != keys.cur.epoch+1 {
		s.violation(CodeProtocol, "key exchange for epoch %d in epoch %d", f.code, keys.cur.epoch)
		return
	}
	k.dh, k.recvEpoch, k.recvSet = dh, f.code, true
	s.recvKeys.Store(keys.mix(dh))
	next := s.send.cur.epoch + 1
	s.send.dh, s.send.dhEpoch = dh, next
	s.stats.exchanges++
	if s.client {
		k.priv, k.waiting = nil, false
		s.send.advanceSoon = true
		return
	}
	k.n = f.off
	k.waiting = true
	s.sendCtrl(&ctrl{typ: frameKeyEx, a: k.n, b: next, data: k.priv.PublicKey().Bytes()})
	k.priv = nil
}

// delivered: the peer has our KEYEX. It ends the exchange on the server, which may then use the new secret.
func (k *keyExchange) delivered(s *Session) {
	if !s.client && k.waiting {
		k.waiting = false
		s.send.advanceSoon = true
	}
}

// takeRecv returns what was mixed into the peer's epoch, as that epoch begins.
func (k *keyExchange) takeRecv(epoch uint64) []byte {
	if !k.recvSet || k.recvEpoch != epoch {
		return nil
	}
	k.recvSet = false
	return k.dh
}
