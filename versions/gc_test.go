package versions

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/pack"
	"sharefs/versions/pack/memdisk"
)

// smallGC makes collections deal with packs of some 100 KB as with those of 32 MB.
var smallGC = GCOptions{leastRun: 8 << 10, leastDead: 30 << 10}

// collect runs a collection that nothing is to hinder.
func collect(t testing.TB, tree *Tree, opts GCOptions) GCReport {
	t.Helper()
	r, err := tree.GC(t.Context(), opts, nil)
	check(t, err)
	return r
}

// drop takes a version's row away, as retention does.
func drop(t testing.TB, tree *Tree, ino sharefs.Ino, own uint64) {
	t.Helper()
	tree.mu.Lock()
	defer tree.mu.Unlock()
	x := tree.begin()
	x.b.Delete(spaceVersion, versionKey(ino, own))
	x.b.Delete(spacePending, pendingKey(ino, own))
	check(t, x.commit())
}

// gcModel is a tree with what each of its versions holds.
type gcModel struct {
	t       testing.TB
	tree    *Tree
	r       *rand.Rand
	kept    map[versionID]string
	all     map[versionID]string // the dropped ones too
	garbage []string             // contents that were kept once
	mixed   int
}

func newGCModel(t testing.TB, tree *Tree, seed uint64) *gcModel {
	return &gcModel{t: t, tree: tree, r: rand.New(rand.NewPCG(seed, 33)), kept: map[versionID]string{}, all: map[versionID]string{}}
}

// content returns what to save: new, an edit of what is there, or what was there once.
func (m *gcModel) content() string {
	switch n := m.r.IntN(10); {
	case n < 2 && len(m.garbage) > 0:
		return m.garbage[m.r.IntN(len(m.garbage))]
	case n < 4 && len(m.kept) > 0:
		old := []byte(m.any())
		if len(old) > 0 {
			old[m.r.IntN(len(old))]++
		}
		return string(old)
	}
	return bytesFor(m.r.Uint64())
}

// any returns what one of the versions holds.
func (m *gcModel) any() string { return m.kept[m.ids()[m.r.IntN(len(m.kept))]] }

func (m *gcModel) ids() []versionID {
	ids := make([]versionID, 0, len(m.kept))
	for id := range m.kept {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b versionID) int { return bytes.Compare(pendingKey(a.ino, a.own), pendingKey(b.ino, b.own)) })
	return ids
}

func (m *gcModel) save(name, content string) versionID {
	m.t.Helper()
	ino := save(m.t, m.tree, name, content)
	id := versionID{ino, must[*version](m.t)(newestVersion(m.tree.db, ino, noLimit)).own}
	m.kept[id], m.all[id] = content, content
	return id
}

func (m *gcModel) drop(id versionID) {
	m.t.Helper()
	m.garbage = append(m.garbage, m.kept[id])
	delete(m.kept, id)
	drop(m.t, m.tree, id.ino, id.own)
}

// fill saves and captures n versions.
func (m *gcModel) fill(n int) {
	m.t.Helper()
	for i := range n {
		m.save(fmt.Sprint("file ", m.r.IntN(8)), m.content())
		if i%7 == 6 {
			capture(m.t, m.tree)
		}
	}
	capture(m.t, m.tree)
}

// thin drops versions so that about one in n stays, and always the newest of each file, whose number the next one goes by.
func (m *gcModel) thin(n int) {
	m.t.Helper()
	for _, id := range m.ids() {
		if newest := must[*version](m.t)(newestVersion(m.tree.db, id.ino, noLimit)); newest.own != id.own && m.r.IntN(n) > 0 {
			m.drop(id)
		}
	}
}

// mix makes packs of 200 KB of all kinds: all dead, mostly dead, and dead in part.
func (m *gcModel) mix() {
	m.t.Helper()
	var ids []versionID
	for range 30 {
		m.mixed++
		ids = append(ids, m.save(fmt.Sprint("mixed ", m.mixed), noise(m.r.Uint64(), 60_000)))
		capture(m.t, m.tree)
	}
	for i, id := range ids {
		if i < 10 || i < 20 && i%4 > 0 || i >= 20 && i%4 == 0 {
			m.drop(id)
		}
	}
}

// noise returns n bytes that do not compress.
func noise(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 8))
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.BigEndian.AppendUint64(b, r.Uint64())
	}
	return string(b[:n])
}

// verify reads every version back.
func (m *gcModel) verify() {
	m.t.Helper()
	verifyKept(m.t, m.tree, m.kept)
}

func verifyKept(t testing.TB, tree *Tree, want map[versionID]string) {
	t.Helper()
	for id, content := range want {
		v, err := loadVersion(tree.db, id.ino, id.own)
		if err != nil {
			t.Fatalf("version %d of inode %d: %v", id.own, id.ino, err)
		}
		if v.place != placeKept {
			continue
		}
		rd := newKeptReader(&tree.past, v)
		b := make([]byte, rd.Size())
		if n, err := rd.ReadAt(b, 0); n < len(b) || string(b) != content {
			t.Fatalf("version %d of inode %d does not read: %v", id.own, id.ino, err)
		}
		check(t, rd.Close())
	}
}

// neededChunks finds out the slow and obvious way what versions need.
func neededChunks(t testing.TB, tree *Tree) map[sharefs.ChunkID]bool {
	t.Helper()
	need := map[sharefs.ChunkID]bool{}
	var walk func(m manifest)
	walk = func(m manifest) {
		for _, s := range m.spans {
			if s.hole {
				continue
			}
			need[s.id] = true
			if m.level > 0 {
				spans, ok := decodeSpans(must[[]byte](t)(tree.past.readChunk(s.id, nil)), s.len)
				if !ok {
					t.Fatal("a node is damaged")
				}
				walk(manifest{m.level - 1, spans})
			}
		}
	}
	check(t, tree.db.Scan(spaceVersion, nil, nil, func(key, value []byte) bool {
		walk(must[*version](t)(decodeVersion(key, value)).top)
		return true
	}))
	return need
}

// noGarbage checks that rows lead to what is needed and to nothing else, and that no sealed pack is there for nothing.
func noGarbage(t testing.TB, tree *Tree) {
	t.Helper()
	need := neededChunks(t, tree)
	packs := map[pack.ID]bool{}
	check(t, tree.db.Scan(spaceChunk, nil, nil, func(key, value []byte) bool {
		id := sharefs.ChunkID(key)
		if !need[id] {
			t.Errorf("chunk %v is kept for nobody", id)
		}
		delete(need, id)
		packs[must[pack.Loc](t)(pack.ParseLoc(value)).Pack] = true
		return true
	}))
	if len(need) > 0 {
		t.Errorf("%d chunks are needed and missing", len(need))
	}
	check(t, tree.past.packs.Each(func(i pack.Info) bool {
		if i.Sealed && !packs[i.ID] {
			t.Errorf("pack %v is kept for nothing", i.ID)
		}
		return true
	}))
}

// memTree is a tree with its packs in memory, small ones.
func memTree(t testing.TB, packs pack.FS, change ...func(*Config)) *Tree {
	t.Helper()
	return testTree(t, t.TempDir(), append([]func(*Config){byHand, func(c *Config) { c.Packs, c.packSize = packs, 200_000 }}, change...)...)
}

func TestGCAgainstAModel(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	for seed := range uint64(4) {
		opts := smallGC
		if seed%2 == 1 {
			opts.slots = 256 // the names are gone through in ranges
		}
		tree := memTree(t, memdisk.New())
		m := newGCModel(t, tree, seed)
		var freed uint64
		for round := range 4 {
			m.fill(25)
			m.thin(1 + (round+int(seed))%4)
			r := collect(t, tree, opts)
			freed += r.Freed
			m.verify()
			noGarbage(t, tree)
			if len(r.Left) > 0 || r.Versions != uint64(len(m.kept)) || r.Passes > 1 && opts.slots == 0 {
				t.Fatalf("seed %d: %+v", seed, r)
			}
			if opts.slots > 0 && r.Chunks-r.ChunksRemoved > 600 && r.Passes < 2 {
				t.Errorf("seed %d: %d passes for %d chunks", seed, r.Passes, r.Chunks)
			}
			collect(t, tree, opts) // the pack that grew may have been sealed by the copies
			if again := collect(t, tree, opts); again.ChunksRemoved != 0 || again.Freed != 0 {
				t.Errorf("seed %d: the third run found %+v", seed, again)
			}
		}
		if freed < 500_000 {
			t.Errorf("seed %d: only %d bytes were freed", seed, freed)
		}
		wantClean(t, tree, FsckScrub)
	}
}

// rowsOf returns all rows of some spaces.
func rowsOf(t testing.TB, tree *Tree, spaces ...uint8) map[string]string {
	t.Helper()
	rows := map[string]string{}
	for _, space := range spaces {
		check(t, tree.db.Scan(space, nil, nil, func(key, value []byte) bool {
			rows[string(space)+string(key)] = string(value)
			return true
		}))
	}
	return rows
}

// The dry run says what the real one does, and changes nothing.
func TestGCDryRun(t *testing.T) {
	t.Parallel()
	for _, slots := range []int{0, 64} {
		packs := memdisk.New()
		tree := memTree(t, packs)
		m := newGCModel(t, tree, 3)
		m.fill(60)
		m.thin(4)
		opts := smallGC
		opts.slots = slots
		dry := opts
		dry.DryRun = true
		names, ops := packs.Names(), packs.Ops()
		rows := rowsOf(t, tree, spaceVersion, spaceChunk, spaceExtent, spacePending, spaceTier)
		foretold := collect(t, tree, dry)
		if !slices.Equal(names, packs.Names()) || packs.Ops() != ops || !maps.Equal(rows, rowsOf(t, tree, spaceVersion, spaceChunk, spaceExtent, spacePending, spaceTier)) {
			t.Error("the dry run changed something")
		}
		did := collect(t, tree, opts)
		same := foretold.ChunksRemoved == did.ChunksRemoved && foretold.Versions == did.Versions && foretold.BytesBefore == did.BytesBefore
		if slots == 0 { // otherwise what is to be punched is left out
			same = same && foretold.PacksRemoved <= did.PacksRemoved && foretold.PacksRewritten <= did.PacksRewritten
		}
		if !same || foretold.Freed == 0 || float64(foretold.Freed) > 1.2*float64(did.Freed) || slots == 0 && float64(foretold.Freed) < 0.6*float64(did.Freed) {
			t.Errorf("foretold %+v\ndid %+v", foretold, did)
		}
		if text := foretold.Text(); !strings.Contains(text, "nothing was changed") || !strings.HasSuffix(text, "\n") {
			t.Error(text)
		}
		m.verify()
		noGarbage(t, tree)
	}
}

// Nodes of manifests are marked as chunks are, on every level.
func TestGCWalksManifests(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	tree := memTree(t, memdisk.New())
	h := &tree.past
	// A version of many short chunks, so that its manifest has levels: the cut makes long ones.
	deep := func(name string, seed uint64) (versionID, string) {
		ino := save(t, tree, name, name)
		capture(t, tree)
		b := h.newBatch(h.newTools())
		defer b.lease.end()
		b.tools.maps.keep = func(node []byte) (sharefs.ChunkID, error) {
			id := b.tools.namer.ID(node)
			return id, b.keep(pack.TypeMap, id, node)
		}
		b.tools.maps.reset()
		r := rand.New(rand.NewPCG(seed, 1))
		var all strings.Builder
		for range 6000 {
			data := fmt.Sprintf("%08x", r.Uint32())
			all.WriteString(data)
			id := b.tools.namer.ID([]byte(data))
			check(t, b.keep(pack.TypeChunk, id, []byte(data)))
			check(t, b.tools.maps.add(span{len: int64(len(data)), id: id}))
		}
		top := must[manifest](t)(b.tools.maps.finish())
		if top.level < 2 {
			t.Fatalf("level %d only", top.level)
		}
		check(t, b.flush())
		v := must[*version](t)(newestVersion(tree.db, ino, noLimit))
		v.own++
		v.size, v.top = uint64(all.Len()), top
		tree.mu.Lock()
		defer tree.mu.Unlock()
		x := tree.begin()
		v.put(&x.b)
		check(t, x.commit())
		return versionID{v.ino, v.own}, all.String()
	}
	a, textA := deep("a", 1)
	b, _ := deep("b", 2)
	c, textC := deep("c", 1) // the same chunks as a, the same nodes
	drop(t, tree, b.ino, b.own)
	r := collect(t, tree, smallGC)
	if r.Nodes < 20 || r.Nodes > 100 || r.ChunksRemoved < 5000 {
		t.Errorf("%+v", r)
	}
	verifyKept(t, tree, map[versionID]string{a: textA, c: textC})
	noGarbage(t, tree)
	drop(t, tree, a.ino, a.own)
	collect(t, tree, smallGC)
	verifyKept(t, tree, map[versionID]string{c: textC})
	drop(t, tree, c.ino, c.own)
	if r := collect(t, tree, smallGC); r.Nodes != 0 || r.ChunksRemoved < 5000 {
		t.Errorf("%+v", r)
	}
	noGarbage(t, tree)
}

// The pack that grows is left, unless most of it is dead.
func TestGCAndThePackThatGrows(t *testing.T) {
	t.Parallel()
	packs := memdisk.New()
	tree := memTree(t, packs, func(c *Config) { c.packSize = 10 << 20 })
	m := newGCModel(t, tree, 13)
	m.fill(60)
	ids := m.ids()
	id, size, ok := tree.past.packs.Growing()
	if !ok {
		t.Fatal("no pack grows")
	}
	before := packs.Names()
	if newest := must[*version](t)(newestVersion(tree.db, ids[0].ino, noLimit)); newest.own == ids[0].own {
		t.Fatal("the first version is the newest")
	}
	m.drop(ids[0])
	r := collect(t, tree, smallGC)
	if again, _, _ := tree.past.packs.Growing(); again != id || !slices.Equal(before, packs.Names()) || r.Growing <= 0 || r.Freed != 0 {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(r.Text(), "growing") {
		t.Error(r.Text())
	}
	m.verify()
	m.thin(100)
	r = collect(t, tree, smallGC)
	if r.PacksRewritten != 1 || r.Freed < uint64(size)/2 {
		t.Errorf("%+v", r)
	}
	m.verify()
	noGarbage(t, tree)
	m.fill(5)
	m.verify()
}

// What an earlier process left open is sealed and dealt with.
func TestGCOfPacksLeftOpen(t *testing.T) {
	t.Parallel()
	packs := memdisk.New()
	dir := t.TempDir()
	tree := testTree(t, dir, byHand, func(c *Config) { c.Packs, c.packSize = packs, 200_000 })
	m := newGCModel(t, tree, 14)
	m.fill(20)
	check(t, tree.Close())
	tree = testTree(t, dir, byHand, func(c *Config) { c.Packs, c.packSize = packs, 200_000 })
	m.tree = tree
	m.thin(1 << 30)
	collect(t, tree, smallGC)
	m.verify()
	noGarbage(t, tree)
}

func TestGCTellsWhatItDoes(t *testing.T) {
	tree := memTree(t, memdisk.New())
	m := newGCModel(t, tree, 21)
	m.fill(20)
	m.thin(3)
	var order []string
	tree.beforeSweep = func() error { order = append(order, "durable"); return nil }
	stages := map[string]bool{}
	opts := smallGC
	opts.at = func(place string) { order = append(order, place) }
	r, err := tree.GC(t.Context(), opts, func(p Progress) { stages[p.Stage] = true })
	check(t, err)
	if !stages["mark what versions need"] || !stages["sweep chunks"] || !stages["look through packs"] {
		t.Errorf("%v", stages)
	}
	at := slices.Index(order, "durable")
	if at < slices.Index(order, "swept") || at > slices.Index(order, "settled") || slices.Index(order, "remove") >= 0 && at > slices.Index(order, "remove") {
		t.Errorf("%v", order)
	}
	if r.Began.IsZero() || r.Passes != 1 || r.MarkBytes <= 0 {
		t.Errorf("%+v", r)
	}
	m.fill(10)
	m.thin(3)
	tree.beforeSweep = func() error { return unix.EIO }
	before, err := tree.past.packs.Packs()
	check(t, err)
	if _, err := tree.GC(t.Context(), smallGC, nil); sharefs.KindOf(err) != sharefs.KindOther {
		t.Errorf("%v", err)
	}
	if after := must[[]pack.ID](t)(tree.past.packs.Packs()); !slices.Equal(before, after) {
		t.Error("bytes went before it was durable that they may")
	}
	tree.beforeSweep = nil
	m.verify()

	busy := smallGC
	busy.at = func(string) {
		_, err := tree.GC(t.Context(), smallGC, nil)
		wantKind(t, err, sharefs.KindBusy)
	}
	collect(t, tree, busy)
	check(t, tree.Close())
	_, err = tree.GC(t.Context(), smallGC, nil)
	if err == nil {
		t.Error("a closed tree was collected")
	}
}

func TestGCOfAReadOnlyTree(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	save(t, tree, "f", "one")
	capture(t, tree)
	check(t, tree.Close())
	ro := testTree(t, dir, func(c *Config) { c.ReadOnly = true })
	_, err := ro.GC(t.Context(), GCOptions{}, nil)
	wantKind(t, err, sharefs.KindReadOnly)
	if r := collect(t, ro, GCOptions{DryRun: true}); r.Versions != 1 || r.ChunksRemoved != 0 {
		t.Errorf("%+v", r)
	}
}

// On a disk, with packs as large as they are.
func TestGCOnADisk(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	tree := testTree(t, t.TempDir(), byHand, func(c *Config) { c.packSize = 4 << 20 })
	r := rand.New(rand.NewPCG(4, 4))
	want := map[versionID]string{}
	for i := range 24 {
		b := make([]byte, 1<<20)
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		ino := save(t, tree, fmt.Sprint(i), string(b))
		want[versionID{ino, 1}] = string(b)
		capture(t, tree)
	}
	gone := map[int]bool{0: true, 1: true, 2: true, 3: true, 4: true, 8: true, 9: true, 10: true, 12: true, 17: true, 21: true}
	for i := range 24 {
		if gone[i] {
			ino := lookup(t, tree, sharefs.RootIno, fmt.Sprint(i)).Ino
			drop(t, tree, ino, 1)
			delete(want, versionID{ino, 1})
		}
	}
	rep := collect(t, tree, GCOptions{})
	verifyKept(t, tree, want)
	noGarbage(t, tree)
	punched := rep.PacksPunched > 0
	for _, l := range rep.Left {
		if !strings.Contains(l.Why, "cannot give back") {
			t.Errorf("%+v", l)
		} else {
			punched = true
		}
	}
	if rep.PacksRemoved == 0 || rep.PacksRewritten == 0 || !punched || rep.Freed < 8<<20 {
		t.Errorf("%+v", rep)
	}
	t.Log("\n" + rep.Text())
}

// What retention takes away is given back, and what it keeps is there.
func TestGCAfterRetention(t *testing.T) {
	t.Parallel()
	tree := memTree(t, memdisk.New())
	m := newGCModel(t, tree, 50)
	m.fill(60)
	check(t, tree.closeEpoch())
	later := sharefs.HLCAt(time.Now().Add(5 * 365 * 24 * time.Hour))
	must[RetainReport](t)(tree.Retain(t.Context(), RetainOptions{now: later}, nil))
	kept := map[versionID]string{}
	check(t, tree.db.Scan(spaceVersion, nil, nil, func(key, value []byte) bool {
		v := must[*version](t)(decodeVersion(key, value))
		kept[versionID{v.ino, v.own}] = m.all[versionID{v.ino, v.own}]
		return true
	}))
	r := collect(t, tree, smallGC)
	if len(kept) == len(m.all) || len(kept) < 8 || r.Versions != uint64(len(kept)) || r.ChunksRemoved == 0 || r.Freed == 0 {
		t.Errorf("%d of %d versions are kept, %+v", len(kept), len(m.all), r)
	}
	verifyKept(t, tree, kept)
	noGarbage(t, tree)
	wantClean(t, tree, FsckScrub)
}
