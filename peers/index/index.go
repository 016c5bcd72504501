// Package index holds an index of things that carry their own keys, for millions of them: it takes some 15 bytes for each, where a map of Go takes its key and more beside.
package index

import (
	"hash/maphash"
	"iter"
)

// Index finds things by their keys, which must not change while they are in it. It is a table with open addressing and linear probing (Knuth, The Art of Computer Programming, vol. 3, section
// 6.4, algorithms L and R); a byte of each hash beside it spares looking at most of the others. One goroutine may change it at a time, while nobody reads.
type Index[K comparable, V any] struct {
	key  func(*V) K
	tags []uint8 // as long as list; 0: there is nothing
	list []*V
	n    int
}

// New returns an empty index of things whose keys are told by a function.
func New[K comparable, V any](key func(*V) K) Index[K, V] { return Index[K, V]{key: key} }

const smallest = 8

// seed differs from process to process, so that nobody makes keys that stand in each other's way.
var seed = maphash.MakeSeed()

// hash returns where a key would stand, and its tag.
func (x *Index[K, V]) hash(key K) (at int, tag uint8) {
	h := maphash.Comparable(seed, key)
	return int(h & uint64(len(x.list)-1)), uint8(h>>56) | 0x80
}

// find returns where a key is, or else where it is to be, and its tag. There is room.
func (x *Index[K, V]) find(key K) (at int, tag uint8, ok bool) {
	at, tag = x.hash(key)
	for x.tags[at] != 0 {
		if x.tags[at] == tag && x.key(x.list[at]) == key {
			return at, tag, true
		}
		at = (at + 1) & (len(x.list) - 1)
	}
	return at, tag, false
}

// Len returns how many things there are.
func (x *Index[K, V]) Len() int { return x.n }

// Get returns what has a key, nil if nothing has it.
func (x *Index[K, V]) Get(key K) *V {
	if x.n == 0 {
		return nil
	}
	if at, _, ok := x.find(key); ok {
		return x.list[at]
	}
	return nil
}

// Put adds a thing, which takes the place of one that has the same key.
func (x *Index[K, V]) Put(v *V) {
	if (x.n+1)*5 > len(x.list)*4 {
		x.grow()
	}
	at, tag, ok := x.find(x.key(v))
	if !ok {
		x.tags[at] = tag
		x.n++
	}
	x.list[at] = v
}

func (x *Index[K, V]) grow() {
	old := x.list
	size := max(smallest, 2*len(old))
	x.tags, x.list = make([]uint8, size), make([]*V, size)
	for _, v := range old {
		if v != nil {
			at, tag, _ := x.find(x.key(v))
			x.tags[at], x.list[at] = tag, v
		}
	}
}

// Delete takes out what has a key, if something has it.
func (x *Index[K, V]) Delete(key K) {
	if x.n == 0 {
		return
	}
	at, _, ok := x.find(key)
	if !ok {
		return
	}
	if x.n--; x.n == 0 {
		x.tags, x.list = nil, nil
		return
	}
	// What follows comes closer, unless it would come before its own place (algorithm R).
	mask := len(x.list) - 1
	for next := (at + 1) & mask; x.tags[next] != 0; next = (next + 1) & mask {
		if home, _ := x.hash(x.key(x.list[next])); (next-home)&mask >= (next-at)&mask {
			x.tags[at], x.list[at] = x.tags[next], x.list[next]
			at = next
		}
	}
	x.tags[at], x.list[at] = 0, nil
}

// All goes through all things, in no order. The index must not be changed meanwhile.
func (x *Index[K, V]) All() iter.Seq[*V] {
	return func(yield func(*V) bool) {
		for _, v := range x.list {
			if v != nil && !yield(v) {
				return
			}
		}
	}
}
