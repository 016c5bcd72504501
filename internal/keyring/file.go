package keyring

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/zeebo/blake3"

	"sharefs"
)

// The file share.key of a store with one key is one line, format 1, a line break at its end:
//
//	sharefs-share-1 BASE64
//
// That of a store with several has a line for each and one more, format 2: the first key, the others as [Ring.Keys] has them, and the first 16 bytes of the
// BLAKE3 hash of all lines before:
//
//	sharefs-share-2
//	key SHARE EPOCH BASE64
//	key SHARE EPOCH BASE64
//	sum HEX
//
// BASE64 is a key of 32 bytes (RFC 4648, section 4), SHARE a share's id in 32 hexadecimal digits, EPOCH a decimal number. The first key is of epoch 1 of
// the share whose id follows from it. Format 2 has one way to write a ring, and nothing else is read; of format 1 the line break may be missing, or have a
// carriage return before it.
const (
	magic1 = "sharefs-share-1 "
	magic2 = "sharefs-share-2\n"
	sumLen = 16
	// MaxFile is more than any ring takes, in bytes.
	MaxFile = 256 << 10
)

// Text returns what share.key holds.
func (r Ring) Text() []byte {
	if len(r.more) == 0 {
		return []byte(magic1 + encode(&r.first.Secret) + "\n")
	}
	b := []byte(magic2)
	for _, k := range r.Keys() {
		b = fmt.Appendf(b, "key %v %d %s\n", k.Share, k.Epoch, encode(&k.Secret))
	}
	return fmt.Appendf(b, "sum %x\n", sum(b))
}

func encode(secret *[32]byte) string { return base64.StdEncoding.EncodeToString(secret[:]) }

func sum(b []byte) []byte {
	h := blake3.Sum256(b)
	return h[:sumLen]
}

// Parse reads what Text has written. It errors with KindCorrupt.
func Parse(text []byte) (Ring, error) {
	if len(text) <= MaxFile && bytes.HasPrefix(text, []byte(magic2)) {
		return parse2(string(text))
	}
	body, ok := strings.CutPrefix(strings.TrimRight(string(text[:min(len(text), MaxFile)]), "\r\n"), magic1)
	if !ok {
		return Ring{}, corrupt("it begins neither with " + strings.TrimSpace(magic1) + " nor with " + strings.TrimSpace(magic2))
	}
	secret, ok := decode(body)
	if !ok {
		return Ring{}, corrupt("it is not 32 bytes in base64")
	}
	return New(secret), nil
}

func parse2(text string) (Ring, error) {
	at := strings.LastIndex(text, "\nsum ") + 1
	want, err := hex.DecodeString(strings.TrimSuffix(strings.TrimPrefix(text[at:], "sum "), "\n"))
	if err != nil || !bytes.Equal(want, sum([]byte(text[:at]))) {
		return Ring{}, corrupt("its last line is not the sum of the others: a part of it is damaged or missing")
	}
	var keys []Key
	for line := range strings.Lines(text[len(magic2):at]) {
		k, ok := parseLine(line)
		if !ok {
			return Ring{}, corrupt("a line of it is no key")
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return Ring{}, corrupt("there is no key in it")
	}
	r := New(keys[0].Secret)
	if r.first.Key != keys[0] {
		return Ring{}, corrupt("it does not begin with the first key of a share")
	}
	if r, err = r.Add(keys...); err != nil {
		return Ring{}, &sharefs.Error{Op: "read key", Kind: sharefs.KindCorrupt, Err: err}
	}
	if string(r.Text()) != text {
		return Ring{}, corrupt("it is not written as such a file is: a key is there twice, or in the wrong place")
	}
	return r, nil
}

func parseLine(line string) (k Key, ok bool) {
	f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if len(f) != 4 || f[0] != "key" {
		return k, false
	}
	share, err := hex.DecodeString(f[1])
	if err != nil || len(share) != len(k.Share) {
		return k, false
	}
	copy(k.Share[:], share)
	epoch, err := strconv.ParseUint(f[2], 10, 32)
	if err != nil {
		return k, false
	}
	k.Epoch = uint32(epoch)
	k.Secret, ok = decode(f[3])
	return k, ok
}

func decode(body string) (secret [32]byte, ok bool) {
	raw, err := base64.StdEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) != len(secret) || strings.ContainsAny(body, "\r\n") { // which the decoder skips
		return secret, false
	}
	return [32]byte(raw), true
}

func corrupt(detail string) error {
	return &sharefs.Error{Op: "read key", Kind: sharefs.KindCorrupt, Detail: detail}
}
