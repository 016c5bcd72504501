package tier

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"time"

	"sharefs"
)

// Root is what a bucket holds of a store, as of one moment: the object "root". It is replaced by compare-and-swap alone, and never names what is not
// there. On disk and in the bucket: the line "sharefs-root-1 " with the HMAC-SHA-256 (RFC 2104) of all that follows in hexadecimal, by a key that follows from the
// share key; then JSON, compressed (gzip, RFC 1952).
type Root struct {
	Store   string    `json:"store"` // whose it is: 16 random bytes, hexadecimal
	Nonce   string    `json:"nonce"` // of this root: 16 random bytes, hexadecimal
	Number  uint64    `json:"number"`
	Host    string    `json:"host"` // who wrote it
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
}

// Dropped is a file that is not needed any more.
type Dropped struct {
	Name  string    `json:"n"`
	Since time.Time `json:"t"`
}

const (
	rootKey   = "root"
	rootMagic = "sharefs-root-1 "
	rootHead  = len(rootMagic) + 2*sha256.Size + 1
	maxRoot   = 256 << 20 // bytes, as JSON and in the bucket
)

func rootSum(key *[32]byte, body []byte) []byte {
	m := hmac.New(sha256.New, key[:])
	m.Write(body)
	return m.Sum(nil)
}

// encode returns the object.
func (r *Root) encode(key *[32]byte) ([]byte, error) {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	if err := errors.Join(json.NewEncoder(z).Encode(r), z.Close()); err != nil {
		return nil, err
	}
	b := append([]byte(rootMagic), hex.EncodeToString(rootSum(key, body.Bytes()))...)
	return append(append(b, '\n'), body.Bytes()...), nil
}

// decodeRoot is the inverse of encode. It errors with KindAccess where the object was made with another key, or is no root at all.
func decodeRoot(key *[32]byte, b []byte) (*Root, error) {
	const op = "read the root of the bucket"
	foreign := &sharefs.Error{Op: op, Kind: sharefs.KindAccess, Detail: "what is there is no root of a store with this share key"}
	if len(b) < rootHead || string(b[:len(rootMagic)]) != rootMagic || b[rootHead-1] != '\n' {
		return nil, foreign
	}
	sum, err := hex.DecodeString(string(b[len(rootMagic) : rootHead-1]))
	if err != nil || !hmac.Equal(sum, rootSum(key, b[rootHead:])) {
		return nil, foreign
	}
	z, err := gzip.NewReader(bytes.NewReader(b[rootHead:]))
	if err != nil {
		return nil, &sharefs.Error{Op: op, Kind: sharefs.KindCorrupt, Err: err}
	}
	r := &Root{}
	if err := json.NewDecoder(io.LimitReader(z, maxRoot)).Decode(r); err != nil {
		return nil, &sharefs.Error{Op: op, Kind: sharefs.KindCorrupt, Err: err}
	}
	return r, nil
}
