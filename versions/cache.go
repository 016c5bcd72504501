package versions

import "sync"

// cacheShards splits a cache so that those who read seldom meet those who change it.
const cacheShards = 16

// cache keeps what was used last, about size values, in two generations: what is used moves to the young one, and when that is
// full it becomes the old one and the old one goes. Values are copies of what is in the store, so that losing one costs time only.
//
// It may be used by several goroutines. Changes come from one at a time (under Tree.mu) with put and drop; a reader that finds nothing
// brings what it read from the store with fill, which keeps it only if nothing was changed meanwhile.
type cache[K comparable, V any] struct {
	hash   func(K) uint64
	limit  int // of one generation of one shard
	shards [cacheShards]cacheShard[K, V]
}

type cacheShard[K comparable, V any] struct {
	mu         sync.RWMutex
	gen        uint64 // counts changes
	young, old map[K]V
	_          [64]byte // shards of different cores do not share a cache line
}

func newCache[K comparable, V any](size int, hash func(K) uint64) *cache[K, V] {
	c := &cache[K, V]{hash: hash, limit: max(1, size/(2*cacheShards))}
	for i := range c.shards {
		c.shards[i].young = map[K]V{}
	}
	return c
}

func (c *cache[K, V]) shard(k K) *cacheShard[K, V] {
	return &c.shards[c.hash(k)*0x9e3779b97f4a7c15>>60]
}

// get returns the value of a key and, for fill, the count of changes at that moment.
func (c *cache[K, V]) get(k K) (v V, ok bool, gen uint64) {
	s := c.shard(k)
	s.mu.RLock()
	v, ok = s.young[k]
	if ok {
		gen = s.gen
		s.mu.RUnlock()
		return v, true, gen
	}
	_, ok = s.old[k]
	gen = s.gen
	s.mu.RUnlock()
	if !ok {
		return v, false, gen
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok = s.young[k]; ok {
		return v, true, s.gen
	}
	if v, ok = s.old[k]; ok {
		delete(s.old, k)
		c.add(s, k, v)
	}
	return v, ok, s.gen
}

// fill brings a value read from the store after get had found nothing and returned gen.
func (c *cache[K, V]) fill(k K, v V, gen uint64) {
	s := c.shard(k)
	s.mu.Lock()
	if s.gen == gen {
		c.add(s, k, v)
	}
	s.mu.Unlock()
}

// put brings a value that has just been changed in the store.
func (c *cache[K, V]) put(k K, v V) {
	s := c.shard(k)
	s.mu.Lock()
	s.gen++
	delete(s.old, k)
	c.add(s, k, v)
	s.mu.Unlock()
}

// drop forgets a value that has just been changed in the store.
func (c *cache[K, V]) drop(k K) {
	s := c.shard(k)
	s.mu.Lock()
	s.gen++
	delete(s.old, k)
	delete(s.young, k)
	s.mu.Unlock()
}

// add puts a value into the young generation; s.mu is held.
func (c *cache[K, V]) add(s *cacheShard[K, V], k K, v V) {
	if len(s.young) >= c.limit {
		s.old = s.young
		s.young = make(map[K]V, c.limit)
		delete(s.old, k)
	}
	s.young[k] = v
}

// count returns how many values are held.
func (c *cache[K, V]) count() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.young) + len(s.old)
		s.mu.RUnlock()
	}
	return n
}
