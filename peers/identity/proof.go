package identity

import (
	"crypto/ed25519"

	"sharefs"
)

// Prove signs that the holder of the key takes part in a session: purpose says in what, binding is the session's (the same for both ends, different for any
// two sessions), dialer which end it is. A proof is of no use in another session, at the other end, or for another purpose.
func Prove(key ed25519.PrivateKey, purpose string, binding [32]byte, dialer bool) []byte {
	return ed25519.Sign(key, proofText(purpose, binding, dialer))
}

// Proved reports whether sig is what the holder of the key of id gives for these.
func Proved(id sharefs.PeerID, purpose string, binding [32]byte, dialer bool, sig []byte) bool {
	return len(sig) == ed25519.SignatureSize && ed25519.Verify(id[:], proofText(purpose, binding, dialer), sig)
}

func proofText(purpose string, binding [32]byte, dialer bool) []byte {
	end := "\x00listener\x00"
	if dialer {
		end = "\x00dialer\x00"
	}
	return append([]byte("sharefs proof 1\x00"+purpose+end), binding[:]...)
}
