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

// Record is one statement of one author. It never changes but for its signature; the origin and the body must not be changed. Of its encoding nothing is kept that follows from the rest, for
// hosts hold millions of records in memory.
type Record struct {
	*Origin
	HLC  sharefs.HLC
	Body Body

	id   ID
	sig  *[ed25519.SignatureSize]byte // nil: zeros, as those of a batch have
	size int                          // of the encoding, in bytes
}

const (
	recordDomain = "sharefs record 1\n"
	headerSize   = 1 + 16 + 32 + 8 + 1
)

// New makes a record without a signature. Errors are of [sharefs.KindInvalid] and say what cannot be said.
func New(share ShareID, author sharefs.PeerID, at sharefs.HLC, body Body) (*Record, error) {
	r := &Record{Origin: originOf(share, author), HLC: at, Body: body}
	if err := r.check(); err != nil {
		return nil, invalid("author a record", err)
	}
	b := r.appendSigned(make([]byte, 0, 256))
	r.id, r.size = hash(recordDomain, b), len(b)+ed25519.SignatureSize
	return r, nil
}

// appendSigned appends what the signature stands behind.
func (r *Record) appendSigned(b []byte) []byte {
	b = append(b, Format)
	b = append(b, r.Share[:]...)
	b = append(b, r.Author[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.HLC))
	b = append(b, r.Body.Kind())
	return r.Body.append(b)
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

// Decode reads a record. It keeps nothing of b, and does not check the signature. Errors are of [sharefs.KindInvalid], and where the format is
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
	r := &Record{size: len(b)}
	var share ShareID
	var author sharefs.PeerID
	d.array(share[:], "share")
	d.array(author[:], "author")
	r.Origin = originOf(share, author)
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
	r.setSignature(b[len(signed):])
	return r, nil
}

// setSignature keeps a signature, if it is one.
func (r *Record) setSignature(sig []byte) {
	r.sig = nil
	if s := [ed25519.SignatureSize]byte(sig); s != [ed25519.SignatureSize]byte{} {
		r.sig = &s
	}
}

// signature returns the 64 bytes of the signature, not to be changed.
func (r *Record) signature() []byte {
	if r.sig == nil {
		return unsigned[:]
	}
	return r.sig[:]
}

var unsigned [ed25519.SignatureSize]byte

// ID returns the record's name.
func (r *Record) ID() ID { return r.id }

// Size returns the length of the encoding, in bytes.
func (r *Record) Size() int { return r.size }

// Append appends the encoding.
func (r *Record) Append(b []byte) []byte { return append(r.appendSigned(b), r.signature()...) }

// AppendSized appends the length of the encoding as a uvarint, and the encoding: so a record stands among others.
func (r *Record) AppendSized(b []byte) []byte {
	return r.Append(binary.AppendUvarint(b, uint64(r.size)))
}

// Bytes returns the encoding, which is made anew each time.
func (r *Record) Bytes() []byte { return r.Append(make([]byte, 0, r.size)) }

// Sign signs the record. The key must be the author's.
func (r *Record) Sign(key ed25519.PrivateKey) error {
	sig, err := sign(r.Author, key, recordDomain, r.id)
	if err == nil {
		r.setSignature(sig)
	}
	return err
}

// Verify checks the signature. The error is of [sharefs.KindCorrupt].
func (r *Record) Verify() error {
	return verify("check a record", r.signature(), r.Author, recordDomain, r.id)
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

// Compare orders records as their orders do.
func (r *Record) Compare(o *Record) int {
	if c := cmp.Compare(r.HLC, o.HLC); c != 0 {
		return c
	}
	if c := bytes.Compare(r.Author[:], o.Author[:]); c != 0 {
		return c
	}
	return r.id.Compare(o.id)
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

func sign(author sharefs.PeerID, key ed25519.PrivateKey, domain string, sum [32]byte) (sig []byte, err error) {
	if len(key) != ed25519.PrivateKeySize || !bytes.Equal(key[32:], author[:]) {
		return nil, invalid("sign", fmt.Errorf("the key is not the author's"))
	}
	return ed25519.Sign(key, append([]byte(domain), sum[:]...)), nil
}

func verify(op string, sig []byte, author sharefs.PeerID, domain string, sum [32]byte) error {
	if !ed25519.Verify(author[:], append([]byte(domain), sum[:]...), sig) {
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
