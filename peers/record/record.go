package record

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"sharefs"
)

// Format is the only format of records and batches that there is.
const Format = 1

// MaxRecord bounds the encoding of a record, in bytes: the largest has 64 KiB of extended attributes.
const MaxRecord = 72 << 10

// ID names a record: the hash of all that was signed.
type ID [32]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether no record is named.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders ids by their bytes.
func (id ID) Compare(o ID) int { return bytes.Compare(id[:], o[:]) }

// ShareID is the identity of a share: 128 random bits.
type ShareID [16]byte

func (id ShareID) String() string { return hex.EncodeToString(id[:]) }

// The kinds of bodies, as they stand in a record.
const (
	KindPlace   = 1
	KindVersion = 2
	KindAttr    = 3
	KindCut     = 4
	KindTold    = 5
)

// Body is what a record says: *[Place], *[Version], *[Attr], *[Cut] or *[Told].
type Body interface {
	// Kind returns the number of the kind.
	Kind() uint8
	// check says what is wrong with the value, so that nobody encodes what no one decodes.
	check() error
	append(b []byte) []byte
}

// Record is one statement of one author. It never changes but for its signature; the body must not be changed.
type Record struct {
	Share  ShareID
	Author sharefs.PeerID
	HLC    sharefs.HLC
	Body   Body

	id  ID
	raw []byte // the encoding; the last 64 bytes are the signature
}

const (
	recordDomain = "sharefs record 1\n"
	headerSize   = 1 + 16 + 32 + 8 + 1
)

// New makes a record without a signature. Errors are of [sharefs.KindInvalid] and say what cannot be said.
func New(share ShareID, author sharefs.PeerID, at sharefs.HLC, body Body) (*Record, error) {
	r := &Record{Share: share, Author: author, HLC: at, Body: body}
	if err := r.check(); err != nil {
		return nil, invalid("author a record", err)
	}
	b := make([]byte, 0, 256)
	b = append(b, Format)
	b = append(b, share[:]...)
	b = append(b, author[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = append(b, body.Kind())
	b = body.append(b)
	r.id = hash(recordDomain, b)
	r.raw = append(b, make([]byte, ed25519.SignatureSize)...)
	return r, nil
}

func (r *Record) check() error {
	switch {
	case r.HLC == 0:
		return fmt.Errorf("a time of zero")
	case r.Author.IsZero():
		return fmt.Errorf("an author of zeros")
	}
	if t, ok := r.Body.(*Told); ok {
		switch {
		case t.Record.Author == r.Author:
			return fmt.Errorf("what its own author said")
		case t.Record.HLC >= r.HLC:
			return fmt.Errorf("what another author said later")
		}
	}
	return r.Body.check()
}

// Decode reads a record and keeps b, which must not be changed. It does not check the signature. Errors are of [sharefs.KindInvalid], and where the format is
// not known of [sharefs.KindNotSupported].
func Decode(b []byte) (*Record, error) {
	const op = "read a record"
	if len(b) > MaxRecord {
		return nil, invalid(op, fmt.Errorf("%d bytes, allowed are %d", len(b), MaxRecord))
	}
	signed, d, err := opened(op, b, headerSize)
	if err != nil {
		return nil, err
	}
	r := &Record{raw: b}
	d.array(r.Share[:], "share")
	d.array(r.Author[:], "author")
	r.HLC = sharefs.HLC(d.u64("time"))
	switch kind := d.u8("kind"); kind {
	case KindPlace:
		r.Body = decodePlace(&d)
	case KindVersion:
		r.Body = decodeVersion(&d)
	case KindAttr:
		r.Body = decodeAttr(&d)
	case KindCut:
		r.Body = decodeCut(&d)
	case KindTold:
		r.Body = decodeTold(&d)
	default:
		return nil, invalid(op, fmt.Errorf("a body of kind %d, which this version of ShareFS does not know", kind))
	}
	if err := d.end(r.check); err != nil {
		return nil, invalid(op, err)
	}
	r.id = hash(recordDomain, signed)
	return r, nil
}

// ID returns the record's name.
func (r *Record) ID() ID { return r.id }

// Bytes returns the encoding, not to be changed.
func (r *Record) Bytes() []byte { return r.raw }

// Sign signs the record. The key must be the author's.
func (r *Record) Sign(key ed25519.PrivateKey) error {
	return sign(r.raw, r.Author, key, recordDomain, r.id)
}

// Verify checks the signature. The error is of [sharefs.KindCorrupt].
func (r *Record) Verify() error {
	return verify("check a record", r.raw, r.Author, recordDomain, r.id)
}

// Order is where a record stands among all others: later ones win. Equal times are told apart by author and id, so that no two records are equal.
type Order struct {
	HLC    sharefs.HLC
	Author sharefs.PeerID
	ID     ID
}

// Order returns the record's place in the order of all records.
func (r *Record) Order() Order { return Order{r.HLC, r.Author, r.id} }

// Compare orders by time, author, id.
func (o Order) Compare(p Order) int {
	if c := cmp.Compare(o.HLC, p.HLC); c != 0 {
		return c
	}
	if c := bytes.Compare(o.Author[:], p.Author[:]); c != 0 {
		return c
	}
	return o.ID.Compare(p.ID)
}

// After returns the time of a record that replaces what was said at the times before: the time now, or the first after all of them.
func After(now sharefs.HLC, before ...sharefs.HLC) sharefs.HLC {
	at := now &^ 0xffff
	for _, h := range before {
		at = max(at, h+1)
	}
	return max(at, 1)
}

func hash(domain string, signed []byte) (sum [32]byte) {
	h := sha256.New()
	h.Write([]byte(domain))
	h.Write(signed)
	h.Sum(sum[:0])
	return sum
}

func sign(raw []byte, author sharefs.PeerID, key ed25519.PrivateKey, domain string, sum [32]byte) error {
	if len(key) != ed25519.PrivateKeySize || !bytes.Equal(key[32:], author[:]) {
		return invalid("sign", fmt.Errorf("the key is not the author's"))
	}
	copy(raw[len(raw)-ed25519.SignatureSize:], ed25519.Sign(key, append([]byte(domain), sum[:]...)))
	return nil
}

func verify(op string, raw []byte, author sharefs.PeerID, domain string, sum [32]byte) error {
	if !ed25519.Verify(author[:], append([]byte(domain), sum[:]...), raw[len(raw)-ed25519.SignatureSize:]) {
		return &sharefs.Error{Op: op, Kind: sharefs.KindCorrupt, Detail: "the signature is not its author's, or something was changed"}
	}
	return nil
}

// File returns the file that a record is about; Nowhere, if it is about none. There may be no record.
func (r *Record) File() sharefs.FileID {
	if r != nil {
		switch b := r.Body.(type) {
		case *Place:
			return b.File
		case *Version:
			return b.File
		case *Attr:
			return b.File
		}
	}
	return Nowhere
}
