package converge

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sharefs/integration/race"
	"sharefs/peers/record"
)

// rounds is how many times a random test runs; make soak takes the long form.
func rounds(short, long int) int {
	if os.Getenv("SHAREFS_SOAK") != "" {
		return long
	}
	return short
}

// source is where the choices of a random history come from: numbers below n.
type source struct {
	n func(n int, what string) int
}

// work does one thing that a user of the host could do, if there is anything to do it with.
func (s source) work(h *host) {
	tree := h.tree.Result()
	paths := slices.Sorted(maps.Keys(tree))
	var dirs, files, some []string // some: all but the root
	for _, p := range paths {
		if tree[p].Type == record.Directory {
			dirs = append(dirs, p)
		} else {
			files = append(files, p)
		}
		if p != "" {
			some = append(some, p)
		}
	}
	pick := func(list []string, what string) string { return list[s.n(len(list), what)] }
	free := func() (string, bool) { // somewhere, where nothing is
		dir := pick(dirs, "directory")
		p := strings.TrimPrefix(dir+"/"+string(rune('a'+s.n(4, "name"))), "/")
		_, taken := tree[p]
		return p, !taken && strings.Count(p, "/") < 5
	}
	switch verb := s.n(16, "verb"); {
	case verb < 2:
		if p, ok := free(); ok {
			h.mkdir(p)
		}
	case verb < 5:
		if p, ok := free(); ok {
			h.create(p, s.content())
		}
	case verb == 5:
		if p, ok := free(); ok {
			h.symlink(p, s.content())
		}
	case verb == 6 && len(files) > 0:
		if p, ok := free(); ok {
			h.link(pick(files, "file"), p)
		}
	case verb < 9 && len(files) > 0:
		h.version(tree[pick(files, "file")].Key.File, s.content())
	case verb == 9 && len(files) > 0:
		h.version(tree[pick(files, "file")].Key.File, s.content(), true)
	case verb == 10 && len(files) > 0:
		h.remove(pick(files, "file"))
	case verb == 11 && len(dirs) > 1:
		h.removeAll(pick(dirs[1:], "directory"))
	case verb < 14 && len(some) > 0:
		from := pick(some, "from")
		to, ok := free()
		if ok && to != from && !strings.HasPrefix(to, from+"/") {
			h.rename(from, to)
		}
	case verb == 14 && len(files) > 1:
		if from, to := pick(files, "from"), pick(files, "to"); tree[from].Key.File != tree[to].Key.File {
			h.rename(from, to)
		}
	case verb == 15:
		h.chmod(pick(paths, "path"), uint16(s.n(4, "mode"))<<6|0o400)
	}
}

func (s source) content() string { return string(rune('0' + s.n(5, "content"))) }

// give hands a part of what one host has to another one, in any order.
func (s source) give(from, to *host) {
	all := from.all()
	rng := rand.New(rand.NewPCG(uint64(s.n(1<<16, "seed")), 0))
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	to.take(all[:s.n(len(all)+1, "how many")]...)
}

// TestRandom begins with one random tree, changes it on 2 to 4 sides that tell each other a part of what they do, and holds the properties: the tree is the
// specification's at each step on each side, what is told are possible operations; in the end all are equal, whatever the order, the portions and the
// repetitions, and nothing is lost. Rapid makes what fails smaller. The long form takes other histories each time.
func TestRandom(t *testing.T) {
	race.Leave(t, race.OneHand)
	if os.Getenv("SHAREFS_SOAK") == "" {
		if err := flag.Set("rapid.seed", "1"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range rounds(1, 40) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				random(t, source{func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(t, what) }}, 25)
			})
		})
	}
}

// TestRandomLong does the same with longer histories, which rapid rarely makes.
func TestRandomLong(t *testing.T) {
	race.Leave(t, race.OneHand)
	for seed := range uint64(rounds(25, 3000)) {
		rng := rand.New(rand.NewPCG(seed, 5))
		random(&testCase{t, fmt.Sprintf("seed %d", seed)}, source{func(n int, _ string) int { return rng.IntN(n) }}, 100)
	}
}

func random(t fataler, s source, steps int) {
	t.Helper()
	hosts := newHosts(t, 2+s.n(3, "hosts"), 0, int64(s.n(200, "skew"))-100, int64(s.n(200, "skew"))-100, 0)
	for range s.n(steps/2, "first steps") {
		s.work(hosts[0])
	}
	meet(hosts...)
	for range s.n(steps, "steps") {
		h := hosts[s.n(len(hosts), "host")]
		if o := hosts[s.n(len(hosts), "other")]; o != h && s.n(3, "exchange") == 0 {
			s.give(o, h)
		} else {
			s.work(h)
		}
		h.check()
	}
	meet(hosts...)
	for _, h := range hosts {
		h.check()
	}
	all := hosts[0].all()
	want := hosts[0].tree.Result()
	for _, h := range hosts[1:] {
		if d := differ(h.tree.Result(), want); d != "" {
			t.Fatalf("two hosts with the same records differ:\n%s", d)
		}
	}
	// Any order, any portions, and repetitions.
	rng := rand.New(rand.NewPCG(uint64(s.n(1<<16, "seed")), 1))
	for range 3 {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		h := newHosts(t, 1)[0]
		for rest := all; len(rest) > 0; {
			n := 1 + rng.IntN(min(len(rest), 1+rng.IntN(20)))
			h.take(rest[:n]...)
			if rng.IntN(4) == 0 {
				h.take(all[:rng.IntN(len(all)-len(rest)+1)]...)
			}
			rest = rest[n:]
		}
		h.check()
		if d := differ(h.tree.Result(), want); d != "" {
			t.Fatalf("another order of the same records makes another tree:\n%s", d)
		}
		if ops := h.tree.Add(all...); len(ops) > 0 {
			t.Fatalf("the same records again change something: %v", ops)
		}
	}
	// Straight from one tree to another.
	for _, pair := range [][2]Result{{Result{}, want}, {want, Result{}}, {hosts[len(hosts)-1].tree.Result(), want}} {
		d := newDisk()
		if err := d.run(Diff(Result{}, pair[0])); err != nil {
			t.Fatalf("%v", err)
		}
		if err := d.run(Diff(pair[0], pair[1])); err != nil {
			t.Fatalf("%v", err)
		}
	}
	nothingIsLost(t, hosts[0])
}

// nothingIsLost holds that each version is live, or superseded by one that descends from it, or a conflict, or of the same content as one of these in its place, or
// removed by somebody who had seen it, or of an orphan.
func nothingIsLost(t fataler, h *host) {
	shown, contents := map[record.ID]bool{}, map[string]bool{}
	for _, n := range h.tree.Result() {
		shown[n.Live] = true
		for _, c := range n.Conflicts {
			shown[c.Version] = true
		}
	}
	for id := range shown {
		if r := h.tree.Record(id); r != nil {
			contents[r.Body.(*record.Version).Content()] = true
		}
	}
	get := func(id record.ID) *record.Record { return h.records[id].Record }
	descended, removers := map[record.ID]bool{}, map[record.ID]bool{}
	for id, i := range h.records {
		p, removal := i.Record.Body.(*record.Place)
		for before := range seen([]*record.Record{i.Record}, get) {
			if before != id {
				descended[before] = descended[before] || !removal
				removers[before] = removers[before] || removal && p.Removed()
			}
		}
	}
	orphans := h.tree.Orphans()
	for id, i := range h.records {
		v, ok := i.Record.Body.(*record.Version)
		if !ok || shown[id] || descended[id] || removers[id] || contents[v.Content()] {
			continue
		}
		if !slices.ContainsFunc(orphans, func(k Key) bool { return k.File == v.File }) {
			t.Fatalf("version %s of %s is lost:\n%s", id, v.File, text(h.tree.Result()))
		}
	}
}

// TestRandomTrees goes from any tree to any other one that shares names and directories with it, so that everything is in the way of everything.
func TestRandomTrees(t *testing.T) {
	for seed := range uint64(rounds(300, 20000)) {
		rng := rand.New(rand.NewPCG(seed, 2))
		a, b := randomTree(rng), randomTree(rng)
		d := newDisk()
		if err := d.run(Diff(Result{}, a)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := d.run(Diff(a, b)); err != nil {
			t.Fatalf("seed %d: %v\n%sto\n%s", seed, err, text(a), text(b))
		}
		if diff := differ(d.result(), b); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}

// randomTree makes a tree of some of a dozen nodes, with few names.
func randomTree(rng *rand.Rand) Result {
	d := newDisk()
	dirs := []Node{{}}
	for _, n := range rng.Perm(12) {
		node := Node{Type: record.Regular, Slot: Slot{dirs[rng.IntN(len(dirs))].Key.File, string(rune('a' + rng.IntN(3)))}}
		node.Key.File[0] = byte(n + 1)
		if n < 8 {
			node.Type = record.Directory
		}
		if _, taken := d.at(node.Slot); taken {
			continue
		}
		d.nodes[node.Key] = node
		if n < 8 {
			dirs = append(dirs, node)
		}
	}
	return d.result()
}

// TestWorldsThatLackDirectories goes from a tree of which some directories, and what else, are not there at the moment, though what is in them is: as where somebody took them away just now.
func TestWorldsThatLackDirectories(t *testing.T) {
	for seed := range uint64(rounds(500, 20000)) {
		rng := rand.New(rand.NewPCG(seed, 3))
		a, b := randomTree(rng), randomTree(rng)
		w, twin := NewWorld(), newWorld()
		for _, n := range b {
			twin.put(&n)
		}
		if seed%2 == 0 {
			w.twin = &twin
		}
		changes := map[Key]*Node{}
		for path, n := range a {
			w.Set(n)
			if path != "" {
				changes[n.Key] = nil
			}
		}
		for key := range changes {
			if rng.IntN(3) == 0 {
				w.Remove(key)
			}
		}
		for path, n := range b {
			if path != "" {
				own := n
				changes[n.Key] = &own
			}
		}
		w.Lead(changes)
		if diff := differ(w.result(), b); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		for n := range twin.nodes.All() {
			if w.twin != nil && n.Key != (Key{}) && n != w.nodes.Get(n.Key) {
				t.Fatalf("seed %d: %v is held twice", seed, n)
			}
		}
	}
}
