package converge

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/peers/record"
)

// TestLeave goes from any tree to any other one while somebody moves some of it, so that nobody knows where that is: whatever is done is possible, what is moved is left alone, and nothing is
// left for nothing.
func TestLeave(t *testing.T) {
	for seed := range uint64(rounds(1000, 50000)) {
		rng := rand.New(rand.NewPCG(seed, 6))
		a, b := randomTree(rng), randomTree(rng)
		w, d := NewWorld(), newDisk()
		to, files := map[Key]*Node{}, map[sharefs.FileID]bool{}
		for path, n := range a {
			if path != "" {
				w.Set(n)
				d.nodes[n.Key] = n
				to[n.Key] = nil
			}
		}
		for _, path := range slices.Sorted(maps.Keys(b)) {
			if n := b[path]; path != "" {
				own := n
				own.Live[0] = byte(rng.IntN(2))
				if own.Type == record.Directory {
					own.Live[0] = 0
				}
				to[n.Key] = &own
			}
		}
		for _, key := range slices.SortedFunc(maps.Keys(to), Key.Compare) {
			if rng.IntN(6) == 0 {
				files[key.File] = true
				w.Remove(key)
				if n, there := d.nodes[key]; there { // where it goes
					n.Slot = Slot{record.Root, "moved " + short(key.File)}
					d.nodes[key] = n
				}
			}
		}
		before, all := maps.Clone(d.nodes), maps.Clone(to)
		w.Leave(to, files)
		if why := w.wrong(to); why != "" {
			t.Fatalf("seed %d: %s", seed, why)
		}
		if slow := w.leaveSlowly(all, files); !maps.Equal(slow, to) && !strings.HasSuffix(w.wrong(slow), ringed) {
			t.Fatalf("seed %d: %v are left in, not %v", seed, to, slow)
		}
		if err := d.run(w.Lead(to)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for key, n := range all {
			got, there := d.nodes[key]
			want, pending := to[key]
			switch was, had := before[key]; {
			case pending && want == nil && there, pending && want != nil && !got.Equal(want):
				t.Fatalf("seed %d: %s is %v, which was to be %v", seed, short(key.File), got, want)
			case !pending && (there != had || there && !got.Equal(&was)):
				t.Fatalf("seed %d: %s is %v, which was to stay %v, not to be %v", seed, short(key.File), got, was, n)
			}
		}
	}
}

// leaveSlowly is Leave, name by name until nothing changes, and without a look at rings.
func (w *World) leaveSlowly(all map[Key]*Node, files map[sharefs.FileID]bool) (to map[Key]*Node) {
	to = maps.Clone(all)
	isLeft := func(key Key) bool { _, in := to[key]; return !in }
	hangs := func(dir sharefs.FileID) bool { // below the root, or below one that has to see to it by itself
		for range len(all) {
			if _, pending := to[Key{File: dir}]; pending {
				return true
			}
			n, there := w.Node(Key{File: dir})
			if !there {
				return false
			}
			dir = n.Parent
		}
		return true
	}
	leaves := func(key Key, n *Node) bool {
		here, there := w.Node(key)
		if files[key.File] || n != nil && !hangs(n.Parent) {
			return true
		}
		for other, o := range all {
			if other == key || !isLeft(other) {
				continue
			}
			at, stays := w.Node(other)
			if there && o != nil && o.Slot == here.Slot || stays && (n != nil && n.Slot == at.Slot || n == nil && at.Parent == key.File) {
				return true
			}
		}
		return false
	}
	for again := true; again; {
		again = false
		for key, n := range all {
			if !isLeft(key) && leaves(key, n) {
				delete(to, key)
				again = true
			}
		}
	}
	return to
}

const ringed = " is in itself"

// wrong says why a world with some changes is no tree. What they do not touch may be in a directory that is away.
func (w *World) wrong(to map[Key]*Node) string {
	nodes := map[Key]Node{}
	w.Nodes(func(n Node) { nodes[n.Key] = n })
	for key, n := range to {
		if delete(nodes, key); n != nil {
			nodes[key] = *n
		}
	}
	taken := map[Slot]Key{}
	for key, n := range nodes {
		if key == (Key{}) {
			continue
		}
		if other, twice := taken[n.Slot]; twice {
			return fmt.Sprintf("%s and %s have one name", short(key.File), short(other.File))
		}
		taken[n.Slot] = key
		if _, changes := to[key]; !changes {
			if up := (Key{File: n.Parent}); nodes[up].Type != record.Directory {
				if _, goes := to[up]; goes {
					return short(key.File) + " is in what goes"
				}
			}
			continue
		}
		dir := n.Parent
		for range len(nodes) {
			if dir == record.Root {
				break
			}
			up, ok := nodes[Key{File: dir}]
			if !ok || up.Type != record.Directory {
				return short(key.File) + " is in nothing"
			}
			dir = up.Parent
		}
		if dir != record.Root {
			return short(key.File) + ringed
		}
	}
	return ""
}
