package vault

import (
	"errors"
	"net"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sharefs"
	"sharefs/peers/frame"
)

// Purpose is that of the streams, in the message with which they begin.
const Purpose = "vault"

// All messages are JSON, as package frame has them. The giver begins with opening, the keeper answers with opened; then the giver sends one request after the other, and each is answered by a reply.
// Bytes of objects follow the message that tells how many there are: those of a put behind the reply to it, which says that it may be, and then comes another one; those
// of a read behind its reply.
type opening struct {
	Purpose string `json:"purpose"`
	Fetcher []byte `json:"fetcher,omitempty"` // of a giver: the key of who may fetch, X25519
	Of      string `json:"of,omitempty"`      // of who fetches: of which giver; empty: the one that gave last
}

type opened struct {
	Error  *fault  `json:"error,omitempty"`
	Vaults []Offer `json:"vaults,omitempty"` // for who fetches: what there is for its key
	As     string  `json:"as,omitempty"`     // what a giver is called there, also if there is an error
	state
}

// Offer is what a keeper has for who fetches.
type Offer struct {
	Giver   string    `json:"giver"` // its id
	Objects int       `json:"objects"`
	Bytes   uint64    `json:"bytes"`
	Written time.Time `json:"written"` // when something was put last
}

// The operations.
const (
	opPut    = "put"    // key, size, sum, absent or tag; then bytes
	opRead   = "read"   // key, off, len
	opList   = "list"   // prefix, after
	opDelete = "delete" // key
	opProve  = "prove"  // key, nonce, ranges
)

type request struct {
	Op     string     `json:"op"`
	Key    string     `json:"key,omitempty"`
	Size   int64      `json:"size,omitempty"`
	Sum    []byte     `json:"sum,omitempty"` // SHA-256 of what comes
	Absent bool       `json:"absent,omitempty"`
	Tag    string     `json:"tag,omitempty"`
	Off    int64      `json:"off,omitempty"`
	Len    int64      `json:"len,omitempty"`
	Prefix string     `json:"prefix,omitempty"`
	After  string     `json:"after,omitempty"`
	Nonce  []byte     `json:"nonce,omitempty"`
	Ranges [][2]int64 `json:"ranges,omitempty"` // offset and length of each
}

type reply struct {
	Error   *fault  `json:"error,omitempty"`
	N       int64   `json:"n,omitempty"`    // bytes that follow
	Size    int64   `json:"size,omitempty"` // of the object
	Tag     string  `json:"tag,omitempty"`  // its SHA-256 in hexadecimal
	Objects []entry `json:"objects,omitempty"`
	More    bool    `json:"more,omitempty"` // the list goes on behind the last of them
	Proof   []byte  `json:"proof,omitempty"`
	state
}

// state is told with each answer.
type state struct {
	Used    uint64 `json:"used"`    // of the quota, bytes
	Quota   uint64 `json:"quota"`   // 0: nothing more is taken
	Damaged int    `json:"damaged"` // objects that do not read back as they were put; they are not listed
}

type entry struct {
	Key  string `json:"k"`
	Size int64  `json:"s"`
	Tag  string `json:"t"`
}

// fault is why something was not done.
type fault struct {
	Kind uint8  `json:"kind"`
	Text string `json:"text"`
}

// Bounds.
const (
	maxKey       = 512       // bytes
	maxObject    = 4 << 30   // bytes
	maxObjects   = 200_000   // of a giver
	maxRead      = 2 << 20   // bytes of one read
	maxPage      = 48 << 10  // bytes of one answer to a list, roughly
	maxRanges    = 16        // of a proof
	maxProved    = 1 << 20   // bytes of a range
	nonceLen     = 16        // bytes, at least
	maxText      = 300       // bytes of what a fault says
	piece        = 256 << 10 // bytes between two looks at the clock
	maxVaults    = 64        // that are told to who fetches
	maxListed    = 250_000   // objects that a giver lists: some more than there can be
	streamsOf    = 8         // of one peer, or of who has one fetcher's key
	streamsAll   = 64
	busyAll      = 16 // operations at work at a time
	giveUp       = 60 * time.Second
	idleKeeper   = 10 * time.Minute
	idleGiver    = 30 * time.Second
	streamsGiver = 6
)

// validKey reports whether a key can be one, see [tier.Bucket].
func validKey(key string) bool {
	if key == "" || len(key) > maxKey || !utf8.ValidString(key) {
		return false
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return !strings.ContainsFunc(key, unicode.IsControl)
}

// faultOf makes what is told of an error: its kind, and the detail that was written for whoever asked. What the disk says of places of this host is none of the peer's business.
func faultOf(err error) *fault {
	kind := sharefs.KindOf(err)
	text := kind.String()
	if e := (*sharefs.Error)(nil); errors.As(err, &e) && e.Detail != "" {
		text = e.Detail
	}
	return &fault{uint8(kind), text[:min(len(text), maxText)]}
}

// err is the error that a keeper told of. What it says is made fit for a terminal.
func (f *fault) err(op, key string) error {
	kind := sharefs.Kind(f.Kind)
	switch kind {
	case sharefs.KindNotExist, sharefs.KindStale, sharefs.KindRange, sharefs.KindNoSpace, sharefs.KindPermission, sharefs.KindInvalid, sharefs.KindBusy, sharefs.KindReadOnly:
	default:
		kind = sharefs.KindOther
	}
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, f.Text[:min(len(f.Text), maxText)])
	switch {
	case kind == sharefs.KindNoSpace, kind == sharefs.KindPermission: // whichever object it was
		op, key = "keep a backup", ""
	case key == "": // of all
		op += " the backup"
	}
	return &sharefs.Error{Op: op, Path: key, Kind: kind, Detail: "the peer says: " + text}
}

// patient reads and writes, and gives up where nothing moves for a while.
type patient struct {
	c    net.Conn
	rest time.Duration // of reading
}

func (p patient) Read(b []byte) (int, error) {
	_ = p.c.SetReadDeadline(time.Now().Add(p.rest))
	return p.c.Read(b)
}

func (p patient) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		_ = p.c.SetWriteDeadline(time.Now().Add(giveUp))
		var m int
		m, err = p.c.Write(b[:min(len(b), piece)])
		n, b = n+m, b[m:]
	}
	return n, err
}

func (p patient) send(v any) error    { return frame.Write(p, v) }
func (p patient) receive(v any) error { return frame.Read(p, v) }
