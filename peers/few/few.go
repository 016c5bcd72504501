// Package few holds a map that is small while it has few entries, for values of which there are millions: the names of a file, its versions. A map of Go takes some hundred bytes
// from its first entry on.
package few

import "iter"

// most is how many entries stand in a list, in which the one looked for is found sooner than in a map.
const most = 8

// Map is a map; the zero value is an empty one. A copy has the entries in common with what it was copied from, so that one of the two alone may be used on.
type Map[K comparable, V any] struct {
	list []pair[K, V]
	more map[K]V // all, once there were more than most; the list is none then
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

// Len returns how many entries there are.
func (m *Map[K, V]) Len() int { return len(m.list) + len(m.more) }

func (m *Map[K, V]) index(key K) int {
	for i := range m.list {
		if m.list[i].key == key {
			return i
		}
	}
	return -1
}

// Get returns the value of a key; ok is false, and the value zero, if it has none.
func (m *Map[K, V]) Get(key K) (value V, ok bool) {
	if m.more != nil {
		value, ok = m.more[key]
		return value, ok
	}
	if i := m.index(key); i >= 0 {
		return m.list[i].value, true
	}
	return value, false
}

// Has reports whether a key has a value.
func (m *Map[K, V]) Has(key K) bool {
	_, ok := m.Get(key)
	return ok
}

// Set gives a key a value.
func (m *Map[K, V]) Set(key K, value V) {
	if m.more == nil {
		i := m.index(key)
		switch {
		case i >= 0:
			m.list[i].value = value
			return
		case len(m.list) < most:
			m.list = append(m.list, pair[K, V]{key, value})
			return
		}
		m.more = make(map[K]V, most+1)
		for _, p := range m.list {
			m.more[p.key] = p.value
		}
		m.list = nil
	}
	m.more[key] = value
}

// Delete takes an entry out, if it is there.
func (m *Map[K, V]) Delete(key K) {
	if m.more != nil {
		if delete(m.more, key); len(m.more) == 0 {
			m.more = nil
		}
		return
	}
	i, last := m.index(key), len(m.list)-1
	switch {
	case i < 0:
	case last == 0:
		m.list = nil
	default:
		m.list[i] = m.list[last]
		m.list[last] = pair[K, V]{}
		m.list = m.list[:last]
	}
}

// All goes through the entries, in no order. The one at which it is may be deleted, and values may be set; nothing may be added meanwhile.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.more != nil {
			for key, value := range m.more {
				if !yield(key, value) {
					return
				}
			}
			return
		}
		// From the end, so that what takes the place of an entry that is deleted was told before.
		for i := len(m.list) - 1; i >= 0; i-- {
			if i < len(m.list) && !yield(m.list[i].key, m.list[i].value) {
				return
			}
		}
	}
}

// Keys goes through the keys as [Map.All] does.
func (m *Map[K, V]) Keys() iter.Seq[K] {
	return func(yield func(K) bool) {
		for key := range m.All() {
			if !yield(key) {
				return
			}
		}
	}
}
