package tier

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"io"
	"time"

	"sharefs"
)

// Root is what a bucket holds of a store, as of one moment: the object "root". It is replaced by compare-and-swap alone, and never names what is not
// there. In the bucket: "sharefs-root-2\n", a nonce of 12 random bytes, and JSON, compressed (gzip, RFC 1952) and sealed (AES-256-GCM, with what stands before it bound)
// with a key that follows from the share key: whoever has the bucket and not the key learns when a root was written, and how long it is.
type Root struct {
	Store  string `json:"store"` // whose it is: 16 random bytes, hexadecimal
	Nonce  string `json:"nonce"` // of this root: 16 random bytes, hexadecimal
	Number uint64 `json:"number"`
	Host   string `json:"host"` // who wrote it
	// Authors are the public keys with which this store has signed what it told others, the one in use first; empty: a version before this wrote the root.
	Authors []sharefs.PeerID `json:"authors,omitempty"`
	// Peers are what the store calls the hosts that may write to it, for people: those have what was freed there.
	Peers   []string  `json:"peers,omitempty"`
	Written time.Time `json:"written"`
	Config  []byte    `json:"config,omitempty"` // of the store, sealed by whoever has it
	// Keys are the share keys beside the first, sealed by whoever has the first; empty: there are none.
	Keys []byte `json:"keys,omitempty"`
	// Files are what a restore needs.
	Files []RootFile `json:"files"`
	// Dropped are files that a root before this one named and that are not yet deleted.
	Dropped []Dropped `json:"dropped,omitempty"`
}

// RootFile is a file of the store; its key is its name.
type RootFile struct {
	Name string `json:"n"` // relative to the store, with slashes
	Size int64  `json:"s"` // bytes; the object may be longer if the file grows still
	// Sum is the SHA-256 of the file as it was put, in hexadecimal, so that a bucket that gives something else is found out; empty: it is not known.
	Sum string `json:"h,omitempty"`
}

// Dropped is a file that is not needed any more.
type Dropped struct {
	Name  string    `json:"n"`
	Since time.Time `json:"t"`
}

// RootKey is the key of the object.
const RootKey = "root"

const (
	rootMagic = "sharefs-root-2\n"
	maxRoot   = 256 << 20 // bytes, as JSON and in the bucket
)

// Seal returns what seals with a key that serves for few messages: AES-256-GCM with nonces by chance, which stand before what was sealed (NIST SP 800-38D, 8.2.2).
func Seal(key *[32]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // a key of 32 bytes is one
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// encode returns the object.
func (r *Root) encode(key *[32]byte) ([]byte, error) {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	if err := errors.Join(json.NewEncoder(z).Encode(r), z.Close()); err != nil {
		return nil, err
	}
	return Seal(key).Seal([]byte(rootMagic), nil, body.Bytes(), []byte(rootMagic)), nil
}

// openRoot opens the seal. It errors with KindAccess where the object was made with another key, or is no root at all.
func openRoot(key *[32]byte, b []byte) ([]byte, error) {
	foreign := &sharefs.Error{Op: opRoot, Kind: sharefs.KindAccess, Detail: "what is there is no root of a store with this share key"}
	sealed, ok := bytes.CutPrefix(b, []byte(rootMagic))
	if !ok {
		return nil, foreign
	}
	body, err := Seal(key).Open(nil, nil, sealed, []byte(rootMagic))
	if err != nil {
		return nil, foreign
	}
	return body, nil
}

const opRoot = "read the root of the bucket"

// CheckRoot sees that an object is a root that was sealed with the key. Errors: KindAccess.
func CheckRoot(key [32]byte, b []byte) error {
	_, err := openRoot(&key, b)
	return err
}

// decodeRoot is the inverse of encode. Errors: those of openRoot, KindCorrupt.
func decodeRoot(key *[32]byte, b []byte) (*Root, error) {
	body, err := openRoot(key, b)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, &sharefs.Error{Op: opRoot, Kind: sharefs.KindCorrupt, Err: err}
	}
	r := &Root{}
	if err := json.NewDecoder(io.LimitReader(z, maxRoot)).Decode(r); err != nil {
		return nil, &sharefs.Error{Op: opRoot, Kind: sharefs.KindCorrupt, Err: err}
	}
	return r, nil
}
