package esp

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
)

// KeySize is the length of a [PrivateKey] and of a [PublicKey] in bytes.
const KeySize = 32

// PublicKey is the name of a peer: an X25519 point. The zero value is no key and stands for "not known".
type PublicKey [KeySize]byte

// PrivateKey is the identity of an endpoint: an X25519 scalar. The zero value is no key.
type PrivateKey [KeySize]byte

// keyEncoding is RFC 4648 base32 in lower case. A key and its three check bytes are 35 bytes, thus 56 characters
// without padding.
var keyEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

const (
	keyCheckSize  = 3
	keyTextLen    = 56
	secretKeyText = "secret-"
)

// ErrBadKey reports a text or a byte string that is no key.
var ErrBadKey = errors.New("esp: malformed key")

// GenerateKey makes a new identity from the system's randomness.
func GenerateKey() (PrivateKey, error) { return generateKey(rand.Reader) }

func generateKey(r io.Reader) (PrivateKey, error) {
	var k PrivateKey
	if _, err := io.ReadFull(r, k[:]); err != nil {
		return PrivateKey{}, fmt.Errorf("esp: generate key: %w", err)
	}
	return k, nil
}

// Public returns the public half of k.
func (k PrivateKey) Public() PublicKey {
	priv, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		panic("esp: a 32-byte X25519 key was refused: " + err.Error())
	}
	return PublicKey(priv.PublicKey().Bytes())
}

// IsZero reports whether k is no key.
func (k PrivateKey) IsZero() bool { return k == PrivateKey{} }

// String hides the key, so that a log line cannot leak it. [PrivateKey.MarshalText] writes it out.
func (k PrivateKey) String() string { return "esp private key of " + k.Public().String() }

// GoString hides the key from %#v.
func (k PrivateKey) GoString() string { return k.String() }

// MarshalText writes the key in full: "secret-" and 56 characters of base32.
func (k PrivateKey) MarshalText() ([]byte, error) { return []byte(secretKeyText + encodeKey(k)), nil }

// UnmarshalText reads what MarshalText wrote.
func (k *PrivateKey) UnmarshalText(text []byte) error {
	got, err := ParsePrivateKey(string(text))
	if err == nil {
		*k = got
	}
	return err
}

// ParsePrivateKey reads the text form of [PrivateKey.MarshalText]. The error wraps [ErrBadKey].
func ParsePrivateKey(s string) (PrivateKey, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), secretKeyText)
	if !ok {
		return PrivateKey{}, fmt.Errorf("%w: a private key begins with %q", ErrBadKey, secretKeyText)
	}
	raw, err := decodeKey(rest)
	return PrivateKey(raw), err
}

// IsZero reports whether k is no key.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// String is the text form: 56 characters of lower-case base32 over the key and three check bytes.
func (k PublicKey) String() string { return encodeKey(k) }

// Short is the first eight characters of the text form, for logs. It does not identify a peer.
func (k PublicKey) Short() string { return encodeKey(k)[:8] }

// MarshalText writes the text form.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the text form.
func (k *PublicKey) UnmarshalText(text []byte) error {
	got, err := ParsePublicKey(string(text))
	if err == nil {
		*k = got
	}
	return err
}

// ParsePublicKey reads the text form of a key; letter case does not matter. The error wraps [ErrBadKey].
func ParsePublicKey(s string) (PublicKey, error) {
	raw, err := decodeKey(strings.TrimSpace(s))
	return PublicKey(raw), err
}

func keyCheck(k [KeySize]byte) [keyCheckSize]byte {
	sum := sha256.Sum256(append([]byte("esp key"), k[:]...))
	return [keyCheckSize]byte(sum[:keyCheckSize])
}

func encodeKey(k [KeySize]byte) string {
	check := keyCheck(k)
	return keyEncoding.EncodeToString(append(k[:len(k):len(k)], check[:]...))
}

func decodeKey(s string) (k [KeySize]byte, err error) {
	if len(s) != keyTextLen {
		return k, fmt.Errorf("%w: %d characters where %d belong", ErrBadKey, len(s), keyTextLen)
	}
	raw, err := keyEncoding.DecodeString(strings.ToLower(s))
	if err != nil {
		return k, fmt.Errorf("%w: %v", ErrBadKey, err)
	}
	if len(raw) != KeySize+keyCheckSize { // the decoder passes over line breaks
		return k, fmt.Errorf("%w: a line break in it", ErrBadKey)
	}
	k = [KeySize]byte(raw[:KeySize])
	if keyCheck(k) != [keyCheckSize]byte(raw[KeySize:]) {
		return [KeySize]byte{}, fmt.Errorf("%w: the check characters do not fit (a typing error?)", ErrBadKey)
	}
	return k, nil
}

// PrivateKeyFromEd25519 derives the ESP identity that belongs to an Ed25519 signing key, so that a program needs one
// key file only. [PublicKeyFromEd25519] of the public half gives the matching public key (RFC 7748 and RFC 8032: the
// same curve in two coordinates; the scalar is that of RFC 8032 section 5.1.5 step 2).
func PrivateKeyFromEd25519(priv ed25519.PrivateKey) PrivateKey {
	h := sha512.Sum512(priv.Seed())
	k := PrivateKey(h[:KeySize])
	k[0] &= 248
	k[31] = k[31]&127 | 64
	return k
}

// curve25519P is 2²⁵⁵ − 19.
var curve25519P = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))

// PublicKeyFromEd25519 maps the public half of a signing key to the ESP key of the same peer: u = (1+y)/(1−y) (RFC
// 7748 section 4.1). The error wraps [ErrBadKey].
func PublicKeyFromEd25519(pub ed25519.PublicKey) (PublicKey, error) {
	if len(pub) != ed25519.PublicKeySize {
		return PublicKey{}, fmt.Errorf("%w: an Ed25519 key of %d bytes", ErrBadKey, len(pub))
	}
	be := make([]byte, KeySize)
	for i, b := range pub {
		be[KeySize-1-i] = b
	}
	be[0] &= 0x7f // the sign of x
	y := new(big.Int).SetBytes(be)
	if y.Cmp(curve25519P) >= 0 {
		return PublicKey{}, fmt.Errorf("%w: not a canonical Ed25519 point", ErrBadKey)
	}
	one := big.NewInt(1)
	den := new(big.Int).Sub(one, y)
	den.Mod(den, curve25519P)
	if den.Sign() == 0 {
		return PublicKey{}, fmt.Errorf("%w: the neutral Ed25519 point", ErrBadKey)
	}
	u := new(big.Int).Add(one, y)
	u.Mul(u, den.ModInverse(den, curve25519P)).Mod(u, curve25519P)
	u.FillBytes(be)
	var k PublicKey
	for i, b := range be {
		k[KeySize-1-i] = b
	}
	return k, nil
}
