package versions

import (
	"sync"
	"sync/atomic"

	"github.com/zeebo/blake3"

	"sharefs"
	"sharefs/internal/keyring"
	"sharefs/versions/chunk"
	"sharefs/versions/pack"
)

// shareKey is a share key and what follows from it. Everybody who holds that key derives the same, so that equal chunks meet among those who use it.
//
// What is new is cut, named and sealed by the key in use. What was sealed under another one stays under that: a record is copied to packs of its own key
// only, so that a chunk's name is checked by the key of its pack, and whoever was given one key reads nothing that was kept under another. Content that
// was kept under an earlier key and comes again is kept again; nothing is cut anew for the sake of a key.
type shareKey struct {
	keyring.Key
	id    sharefs.KeyID
	chunk [32]byte  // names chunks
	names sync.Pool // of hashers by it, *chunk.Hasher: each is 10 KB, and chunks come by the thousand
	gear  func() *chunk.Gear
	place uint64 // in the row "keys"; 0: the first of the store
}

func derive(k keyring.Key) *shareKey {
	d := &shareKey{Key: k, id: k.ID()}
	blake3.DeriveKey("sharefs 2026-11 names of chunks", k.Secret[:], d.chunk[:])
	d.names.New = func() any { return chunk.NewHasher(d.chunk) }
	d.gear = sync.OnceValue(func() *chunk.Gear { // decides where content is cut
		var key [32]byte
		blake3.DeriveKey("sharefs 2026-11 cuts of content", k.Secret[:], key[:])
		return chunk.NewGear(key)
	})
	return d
}

// name returns the name of a chunk. It may be called by several goroutines.
func (k *shareKey) name(data []byte) sharefs.ChunkID {
	h := k.names.Get().(*chunk.Hasher)
	defer k.names.Put(h)
	return h.ID(data)
}

func (k *shareKey) epoch() pack.Epoch { return pack.Epoch{Number: k.Epoch, Key: k.id} }

// keys are those of a ring. They do not change once they are made.
type keys struct {
	ring       keyring.Ring
	first, use *shareKey
	all        []*shareKey // the one in use before the others
	byID       map[sharefs.KeyID]*shareKey
	places     []sharefs.KeyID // in the row "keys", from place 1
}

// deriveKeys derives the keys of a ring; places are those of the keys beside the first in the row "keys".
func deriveKeys(ring keyring.Ring, places []sharefs.KeyID) *keys {
	k := &keys{ring: ring, byID: map[sharefs.KeyID]*shareKey{}, places: places}
	use := ring.Use()
	for i, key := range ring.Keys() {
		d := derive(key)
		k.byID[d.id] = d
		k.all = append(k.all, d)
		if i == 0 {
			k.first = d
		}
		if key == use {
			k.use = d
			k.all[0], k.all[i] = k.all[i], k.all[0]
		}
	}
	for i, id := range places {
		if d := k.byID[id]; d != nil {
			d.place = uint64(i + 1)
		}
	}
	return k
}

// at returns the key that a version row refers to by its place in the row "keys"; ok is false where it is not known.
func (k *keys) at(place uint64) (id sharefs.KeyID, ok bool) {
	switch {
	case place == 0:
		return k.first.id, true
	case place > uint64(len(k.places)) || k.byID[k.places[place-1]] == nil:
		return id, false
	}
	return k.places[place-1], true
}

// sharedKeys are the keys of a store as of now. Its methods may be called from several goroutines.
type sharedKeys struct {
	now     atomic.Pointer[keys]
	changed chan struct{} // holds one
}

func (s *sharedKeys) load() *keys { return s.now.Load() }

// tell tells that there are more.
func (s *sharedKeys) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// newKeys returns those of a ring before anything is known of the places.
func newKeys(cfg *Config) *sharedKeys {
	s := &sharedKeys{changed: make(chan struct{}, 1)}
	s.now.Store(deriveKeys(cfg.ring(), nil))
	return s
}

// ring returns the keys that a store is opened with.
func (c *Config) ring() keyring.Ring {
	if c.Keys.IsZero() {
		return keyring.New([32]byte{})
	}
	return c.Keys
}

// packs fills in what packs have to know of keys.
func (s *sharedKeys) packs(c pack.Config) pack.Config {
	now := s.load()
	c.Key, c.Epochs, c.Epoch, c.First = s.secret, s.epochs, now.use.epoch(), now.first.epoch()
	return c
}

func (s *sharedKeys) secret(e pack.Epoch) ([32]byte, error) {
	if k := s.load().byID[e.Key]; k != nil && k.Epoch == e.Number {
		return k.Secret, nil
	}
	return [32]byte{}, sharefs.KindAccess
}

func (s *sharedKeys) epochs() (list []pack.Epoch) {
	for _, k := range s.load().all {
		list = append(list, k.epoch())
	}
	return list
}

// namers name chunks by any of the keys; for one goroutine at a time.
type namers struct {
	keys *sharedKeys
	made map[sharefs.KeyID]*chunk.Hasher
}

func (s *sharedKeys) namers() *namers {
	return &namers{keys: s, made: map[sharefs.KeyID]*chunk.Hasher{}}
}

func (n *namers) of(k *shareKey) *chunk.Hasher {
	h := n.made[k.id]
	if h == nil {
		h = chunk.NewHasher(k.chunk)
		n.made[k.id] = h
	}
	return h
}

// fits reports whether content that lies in a pack of some epoch has a name.
func (n *namers) fits(e pack.Epoch, id sharefs.ChunkID, plain []byte) bool {
	k := n.keys.load().byID[e.Key]
	return k != nil && n.of(k).ID(plain) == id
}

// key returns the key by which content has a name; nil: it has another one by all of them.
func (n *namers) key(id sharefs.ChunkID, plain []byte) *shareKey {
	for _, k := range n.keys.load().all {
		if n.of(k).ID(plain) == id {
			return k
		}
	}
	return nil
}
