package converge

import (
	"slices"

	"sharefs"
	"sharefs/peers/record"
)

// Leave takes names of some files out of what nodes are to be, because nobody knows at the moment where these are, and with them what cannot be done or is better not done without them: what
// they are to take the place of, what is to go below them, what is to have a name that stays taken, and what hangs on that in the same way. What is left in is possible by itself, for Lead.
func (w *World) Leave(to map[Key]*Node, files map[sharefs.FileID]bool) {
	l := leaving{world: &w.world, to: to, takes: map[Slot]Key{}, below: map[sharefs.FileID][]Key{}}
	for key, n := range to {
		if n != nil && key != (Key{}) {
			l.takes[n.Slot] = key
			l.below[n.Parent] = append(l.below[n.Parent], key)
		}
	}
	for key := range to {
		if files[key.File] {
			l.leave(key)
		}
	}
	for l.follow(); l.cut(); l.follow() {
	}
}

// leaving finds out what is to be left as it is.
type leaving struct {
	*world
	to    map[Key]*Node // what is left in
	takes map[Slot]Key  // who is to have a name
	below map[sharefs.FileID][]Key
	todo  []left
}

// left is a name that is left as it is, and what it was to be.
type left struct {
	key Key
	to  *Node
}

func (l *leaving) leave(key Key) {
	if n, pending := l.to[key]; pending {
		delete(l.to, key)
		l.todo = append(l.todo, left{key, n})
	}
}

// follow leaves what hangs on names that are left.
func (l *leaving) follow() {
	for len(l.todo) > 0 {
		it := l.todo[len(l.todo)-1]
		l.todo = l.todo[:len(l.todo)-1]
		if it.to != nil {
			if at := l.at.Get(it.to.Slot); at != nil && at.Key != it.key { // what is there stays until the other one comes
				l.leave(at.Key)
			}
		}
		here := l.nodes.Get(it.key)
		if here == nil || here.Type != record.Directory {
			for _, key := range l.below[it.key.File] {
				l.leave(key)
			}
		}
		if here == nil {
			continue
		}
		if other, taken := l.takes[here.Slot]; taken && other != it.key {
			l.leave(other)
		}
		up := Key{File: here.Parent}
		if dir, pending := l.to[up]; pending && (dir == nil || dir.Type != record.Directory) {
			l.leave(up)
		}
	}
}

// Where a directory would be.
const (
	hangs  = 1 + iota // below the root
	falls             // below one that is away
	inRing            // below itself
	waits             // below one that is to go where it cannot be, and is left first
)

// cut leaves what would not be below the root: since a directory above it is away, or since one that stays elsewhere would make a ring, of which one is left, which may not be the only one that could be. It reports whether there was any.
func (l *leaving) cut() bool {
	where := map[sharefs.FileID]int{record.Root: hangs, Limbo: hangs}
	var cut []Key
	for key, n := range l.to {
		if n == nil || key == (Key{}) {
			continue
		}
		if ring := l.look(n.Parent, where); len(ring) > 0 {
			cut = append(cut, l.first(ring))
		}
		if where[n.Parent] == falls {
			cut = append(cut, key)
		}
	}
	for _, key := range cut {
		l.leave(key)
	}
	return len(l.todo) > 0
}

// look finds out where a directory would be, with all above it, and returns the ring that they make, if it is a new one.
func (l *leaving) look(dir sharefs.FileID, where map[sharefs.FileID]int) (ring []sharefs.FileID) {
	var path []sharefs.FileID
	at := map[sharefs.FileID]int{}
	end := falls
	for {
		if known, ok := where[dir]; ok {
			if end = known; known == inRing {
				end = waits
			}
			break
		}
		if i, twice := at[dir]; twice {
			ring, path, end = path[i:], path[:i], waits
			break
		}
		at[dir], path = len(path), append(path, dir)
		n, pending := l.to[Key{File: dir}]
		if !pending {
			n = l.nodes.Get(Key{File: dir})
		}
		if n == nil {
			break
		}
		dir = n.Parent
	}
	for _, id := range slices.Backward(path) {
		if _, pending := l.to[Key{File: id}]; pending && end == falls {
			end = waits
		}
		where[id] = end
	}
	for _, id := range ring {
		where[id] = inRing
	}
	return ring
}

// first returns the first of those directories of a ring that are still to go there.
func (l *leaving) first(ring []sharefs.FileID) (first Key) {
	for _, id := range ring {
		if key := (Key{File: id}); l.to[key] != nil && (first == (Key{}) || key.Compare(first) < 0) {
			first = key
		}
	}
	return first
}
