package discover

import (
	"crypto/ecdh"
	"testing"
)

func public(t *testing.T, private [32]byte) [32]byte {
	t.Helper()
	k, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(k.PublicKey().Bytes())
}
