// Package identity keeps the Ed25519 key that a host is known by, in one line of text, as it is or sealed by a passphrase:
//
//	sharefs-identity-1 SEED
//	sharefs-identity-2 PUBLIC LOGN R P SALT BOX
//
// SEED is the 32-byte seed of RFC 8032. In the second form PUBLIC is the public key, so that who the host is stays known while the
// seed is locked; LOGN, R and P are the cost of scrypt (RFC 7914: N = 2^LOGN), SALT 16 bytes, and BOX the seed under AES-256-GCM with
// the key that scrypt makes of the passphrase, a nonce of zeros (the salt makes each key one of a kind) and all before BOX
// as additional data. Bytes are in base64 (RFC 4648, section 4).
package identity

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/scrypt"

	"sharefs"
)

// The first words of the two forms.
const (
	PlainForm  = "sharefs-identity-1"
	SealedForm = "sharefs-identity-2"
)

// MaxText is the most that either form has, in bytes.
const MaxText = 512

// Cost is what scrypt is made to spend: about 128 · 2^LogN · R bytes of memory.
type Cost struct{ LogN, R, P int }

// DefaultCost takes 64 MiB and some 200 ms (RFC 7914 recommends R = 8).
var DefaultCost = Cost{LogN: 16, R: 8, P: 1}

// The most that a file may demand: 1 GiB.
var maxCost = Cost{LogN: 20, R: 8, P: 4}

const saltSize = 16

// Key is the identity of a host. The zero value is none.
type Key struct {
	ID      sharefs.PeerID
	private ed25519.PrivateKey // nil while locked
	locked  *sealed            // nil when it was never sealed
}

type sealed struct {
	cost      Cost
	salt, box []byte
	header    string // all before the box
}

// New makes an identity from the system's randomness.
func New() Key {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	return fromSeed(seed)
}

func fromSeed(seed []byte) (k Key) {
	k.private = ed25519.NewKeyFromSeed(seed)
	copy(k.ID[:], k.private.Public().(ed25519.PublicKey))
	return k
}

// Sealed reports whether the key is kept under a passphrase.
func (k *Key) Sealed() bool { return k.locked != nil }

// Locked reports whether the passphrase is still to be given.
func (k *Key) Locked() bool { return k.private == nil }

// Private is the signing key, nil while locked.
func (k *Key) Private() ed25519.PrivateKey { return k.private }

// String hides the seed, so that a log line cannot leak it.
func (k Key) String() string { return "identity " + k.ID.String() }

// GoString hides the seed from %#v.
func (k Key) GoString() string { return k.String() }

// Text is the form to keep, a line with its end: plain, or sealed if it was parsed or sealed so.
func (k *Key) Text() string {
	if k.locked != nil {
		return k.locked.header + " " + base64.StdEncoding.EncodeToString(k.locked.box) + "\n"
	}
	return PlainForm + " " + base64.StdEncoding.EncodeToString(k.private.Seed()) + "\n"
}

// Parse reads either form. The error is of KindCorrupt and says what is wrong with it.
func Parse(text string) (Key, error) {
	bad := func(detail string) (Key, error) {
		return Key{}, &sharefs.Error{Op: "identity", Kind: sharefs.KindCorrupt, Detail: detail}
	}
	words := strings.Split(strings.TrimRight(text, "\r\n"), " ")
	switch words[0] {
	case PlainForm:
		if len(words) != 2 {
			return bad("it is not 32 bytes in base64")
		}
		seed, err := decode(words[1], ed25519.SeedSize)
		if err != nil {
			return bad("it is not 32 bytes in base64")
		}
		return fromSeed(seed), nil
	case SealedForm:
		if len(words) != 7 {
			return bad("it has " + strconv.Itoa(len(words)) + " words where 7 belong")
		}
	default:
		return bad("it does not begin with " + PlainForm + " or " + SealedForm)
	}
	var k Key
	s := &sealed{header: strings.Join(words[:6], " ")}
	public, err := decode(words[1], len(k.ID))
	if err != nil {
		return bad("its public key is not 32 bytes in base64")
	}
	copy(k.ID[:], public)
	for i, c := range []struct {
		to   *int
		most int
	}{{&s.cost.LogN, maxCost.LogN}, {&s.cost.R, maxCost.R}, {&s.cost.P, maxCost.P}} {
		n, err := strconv.Atoi(words[2+i])
		if err != nil || n < 1 || n > c.most || strconv.Itoa(n) != words[2+i] {
			return bad("its cost is none that is known: " + strconv.Quote(words[2+i]))
		}
		*c.to = n
	}
	if s.salt, err = decode(words[5], saltSize); err != nil {
		return bad("its salt is not 16 bytes in base64")
	}
	if s.box, err = decode(words[6], ed25519.SeedSize+16); err != nil {
		return bad("its box is not 48 bytes in base64")
	}
	k.locked = s
	return k, nil
}

func decode(text string, size int) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err == nil && (len(raw) != size || strings.ContainsAny(text, "\r\n")) { // which the decoder skips
		err = fmt.Errorf("%d bytes", len(raw))
	}
	return raw, err
}

// Unlock opens a sealed key. The error is of KindAccess for a wrong passphrase, which a damaged box cannot be told from.
func (k *Key) Unlock(passphrase []byte) error {
	if !k.Locked() {
		return nil
	}
	aead, err := k.locked.cipher(passphrase)
	if err != nil {
		return err
	}
	seed, err := aead.Open(nil, make([]byte, aead.NonceSize()), k.locked.box, []byte(k.locked.header))
	if err != nil {
		return &sharefs.Error{Op: "identity", Kind: sharefs.KindAccess, Detail: "the passphrase is wrong, or the key is damaged"}
	}
	open := fromSeed(seed)
	if open.ID != k.ID {
		return &sharefs.Error{Op: "identity", Kind: sharefs.KindCorrupt, Detail: "the sealed key is not that of its public half"}
	}
	k.private = open.private
	return nil
}

// Seal has [Key.Text] give the sealed form from now on.
func (k *Key) Seal(passphrase []byte, cost Cost) error {
	if k.Locked() {
		return errors.New("identity: a locked key cannot be sealed")
	}
	salt := make([]byte, saltSize)
	rand.Read(salt)
	s := &sealed{cost: cost, salt: salt}
	s.header = fmt.Sprintf("%s %s %d %d %d %s", SealedForm, base64.StdEncoding.EncodeToString(k.ID[:]), cost.LogN, cost.R, cost.P,
		base64.StdEncoding.EncodeToString(salt))
	aead, err := s.cipher(passphrase)
	if err != nil {
		return err
	}
	s.box = aead.Seal(nil, make([]byte, aead.NonceSize()), k.private.Seed(), []byte(s.header))
	k.locked = s
	return nil
}

func (s *sealed) cipher(passphrase []byte) (cipher.AEAD, error) {
	key, err := scrypt.Key(passphrase, s.salt, 1<<s.cost.LogN, s.cost.R, s.cost.P, 32)
	if err != nil {
		return nil, &sharefs.Error{Op: "identity", Kind: sharefs.KindCorrupt, Err: err}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// maxPassphrase is in bytes.
const maxPassphrase = 1024

// Passphrase takes the passphrase out of what a file holds: all but the end of its line.
func Passphrase(file []byte) ([]byte, error) {
	p := bytes.TrimRight(file, "\r\n")
	switch {
	case len(p) == 0:
		return nil, &sharefs.Error{Op: "passphrase", Kind: sharefs.KindInvalid, Detail: "the file is empty"}
	case len(p) > maxPassphrase:
		return nil, &sharefs.Error{Op: "passphrase", Kind: sharefs.KindInvalid, Detail: "the file holds more than 1024 bytes"}
	case bytes.ContainsAny(p, "\r\n"):
		return nil, &sharefs.Error{Op: "passphrase", Kind: sharefs.KindInvalid, Detail: "the file has several lines: it holds the passphrase alone"}
	}
	return p, nil
}
