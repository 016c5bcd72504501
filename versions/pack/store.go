package pack

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"

	"sharefs"
)

// openDir holds the packs that still grow.
const openDir = "open"

// DefaultTarget is the length at which a pack is sealed, in bytes.
const DefaultTarget = 32 << 20

// Config says how to open a store.
type Config struct {
	FS FS
	// Key returns the share key of an epoch; an error of kind access where this host was never given it.
	Key func(Epoch) ([32]byte, error)
	// Epoch is that of the packs made from now on, until [Store.Use] says otherwise.
	Epoch Epoch
	// Epochs lists all whose keys are here: a pack whose header is damaged is of one of them. Nil: Epoch is the only one.
	Epochs func() []Epoch
	// First is the epoch of packs that name no key but its number, as those from before keys had names do. Zero: nobody asks.
	First Epoch
	// Target is the length at which a pack is sealed, in bytes; 0 means DefaultTarget, at most 1 GiB.
	Target int64
	// Clock stamps new packs; nil leaves the stamp zero.
	Clock *sharefs.Clock
	// ReadOnly refuses Append and leaves packs that a crash left open as they are.
	ReadOnly bool
}

// Epoch tells which share key seals a pack.
type Epoch struct {
	Number uint32
	Key    sharefs.KeyID // zero: the pack does not tell
}

// Loc is where a record lies.
type Loc struct {
	Pack   ID
	Off    uint32 // of the record header
	Sealed uint32 // length of the sealed body
	Plain  uint32 // length of the plain body
}

// LocLen is the length of an encoded Loc, in bytes.
const LocLen = 28

// Append encodes the location: pack, offset, sealed and plain length, big endian.
func (l *Loc) Append(b []byte) []byte {
	b = append(b, l.Pack[:]...)
	b = binary.BigEndian.AppendUint32(b, l.Off)
	b = binary.BigEndian.AppendUint32(b, l.Sealed)
	return binary.BigEndian.AppendUint32(b, l.Plain)
}

// ParseLoc decodes what [Loc.Append] encoded.
func ParseLoc(b []byte) (l Loc, err error) {
	if len(b) != LocLen {
		return l, damaged("a location has a wrong length")
	}
	copy(l.Pack[:], b)
	l.Off = binary.BigEndian.Uint32(b[16:])
	l.Sealed = binary.BigEndian.Uint32(b[20:])
	l.Plain = binary.BigEndian.Uint32(b[24:])
	if l.Off < packHeaderLen || l.Off > maxSize || l.Sealed < tagLen || l.Plain > MaxPlain || l.Sealed-tagLen > l.Plain {
		return l, damaged("a location is impossible")
	}
	return l, nil
}

// Stats counts what a store did since it was opened.
type Stats struct {
	Records     uint64 `json:"records"`      // appended
	PlainBytes  uint64 `json:"plain_bytes"`  // appended
	SealedBytes uint64 `json:"sealed_bytes"` // what they take in packs
	Packs       uint64 `json:"packs_sealed"`
	Syncs       uint64 `json:"syncs"`
	GivenUp     uint64 `json:"packs_given_up"` // after a failed write, or with a disk that cannot read them
	Open        int    `json:"open_files"`
}

// Store is a directory of packs. It may be used by several goroutines.
type Store struct {
	cfg    Config
	codecs codecs
	bufs   sync.Pool // *[]byte, scratch for compression and for reading

	// append serializes Append, Use, Sync and Close, and guards use, cur, adopted and closed. It comes before mu.
	append  sync.Mutex
	use     Epoch     // of what [Store.Append] appends
	cur     []*active // the packs that grow, one of an epoch at most; without one the next Append takes one
	adopted bool      // packs left open by an earlier process were looked at
	closed  bool
	writing atomic.Pointer[[]*active] // a copy of cur, for readers, who look at nothing but id and written

	mu    sync.Mutex // guards what follows
	files map[ID]*handle
	ring  []*handle // the open files, in the order in which the clock hand passes them
	hand  int
	aeads map[ID]cipher.AEAD // of recently used packs
	gone  map[ID]struct{}    // removed not long ago

	records, plainBytes, sealedBytes, sealed, syncs, givenUp atomic.Uint64
}

// Open opens the store. Packs that an earlier process left open are looked at when the first record is appended.
func Open(cfg Config) (*Store, error) {
	if cfg.Target <= 0 {
		cfg.Target = DefaultTarget
	}
	cfg.Target = min(cfg.Target, 1<<30)
	if _, err := cfg.Key(cfg.Epoch); err != nil {
		return nil, &sharefs.Error{Op: "open packs", Detail: "no share key", Err: err}
	}
	s := &Store{cfg: cfg, use: cfg.Epoch, files: map[ID]*handle{}, aeads: map[ID]cipher.AEAD{}, gone: map[ID]struct{}{}}
	s.bufs.New = func() any { b := make([]byte, 0, 320<<10); return &b }
	return s, nil
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	open := len(s.ring)
	s.mu.Unlock()
	return Stats{
		Records: s.records.Load(), PlainBytes: s.plainBytes.Load(), SealedBytes: s.sealedBytes.Load(),
		Packs: s.sealed.Load(), Syncs: s.syncs.Load(), GivenUp: s.givenUp.Load(), Open: open,
	}
}

// Close syncs and closes. What grows is left open for the next process, so that short lives make no small packs.
func (s *Store) Close() error {
	s.append.Lock()
	defer s.append.Unlock()
	if s.closed {
		return nil
	}
	err := s.syncLocked()
	s.closed = true
	for _, c := range s.cur {
		c.file.unpin(s)
	}
	s.cur = nil
	s.mu.Lock()
	for _, h := range s.ring {
		h.drop()
	}
	s.ring, s.files = nil, nil
	s.mu.Unlock()
	return err
}

// ErrNoKey is in the error about a pack whose share key is not here.
var ErrNoKey = errors.New("no share key for its epoch")

// aead returns the cipher of the pack that begins with h.
func (s *Store) aead(h *Header) (cipher.AEAD, error) {
	s.mu.Lock()
	a := s.aeads[h.ID]
	s.mu.Unlock()
	if a != nil {
		return a, nil
	}
	key, err := s.cfg.Key(h.Epoch)
	if err != nil {
		return nil, &sharefs.Error{Op: "open pack", Path: h.ID.String(), Kind: sharefs.KindAccess, Err: errors.Join(ErrNoKey, err)}
	}
	a = newAEAD(key, h)
	s.mu.Lock()
	if len(s.aeads) >= 4*maxOpen {
		clear(s.aeads)
	}
	s.aeads[h.ID] = a
	s.mu.Unlock()
	return a, nil
}

// name returns where a pack lies once it is sealed, and dir the directory of that.
func (id ID) name() string { return id.dir() + "/" + id.String() }
func (id ID) dir() string  { return id.String()[:2] }

// growing returns where a pack lies while it grows.
func (id ID) growing() string { return openDir + "/" + id.String() }

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
