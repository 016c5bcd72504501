package kv

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/kv/journal"
	"sharefs/versions/kv/journal/simdisk"
)

// crash returns the configuration of a copy of the store as the death of its process would leave it now.
func crash(t testing.TB, db *DB) Config {
	t.Helper()
	// With the applier at rest the copy is of one moment; until then it is not, but what it holds twice is equal.
	db.commitMu.Lock()
	for db.frozen != nil && db.failed == nil && db.applyErr == nil {
		db.room.Wait()
	}
	defer db.commitMu.Unlock()
	cfg := db.cfg
	cfg.Dir, cfg.Clock = t.TempDir(), nil
	writeMeta(t, cfg.Dir, readMeta(t, db.cfg.Dir))
	if disk, ok := cfg.FS.(*simdisk.Disk); ok {
		cfg.FS = disk.Killed(disk.Len())
	} else {
		must(t, os.CopyFS(filepath.Join(cfg.Dir, "journal"), os.DirFS(filepath.Join(db.cfg.Dir, "journal"))))
	}
	return cfg
}

// readMeta returns the content of meta.db without the zeros at its end, which are most of it.
func readMeta(t testing.TB, dir string) []byte {
	data, err := os.ReadFile(filepath.Join(dir, "meta.db"))
	if err != nil {
		t.Error(err)
	}
	return bytes.Clone(bytes.TrimRight(data, "\x00"))
}

// writeMeta makes a meta.db, with the zeros as a hole.
func writeMeta(t testing.TB, dir string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, "meta.db")
	must(t, os.WriteFile(path, data, 0o600))
	must(t, os.Truncate(path, int64(len(data)+64<<10)/4096*4096))
}

// model is a database that keeps whole copies of everything.
type model struct {
	live      map[uint8]map[string]string
	ends      []end // of the epochs, oldest first
	open      bool  // an epoch is
	revisions map[uint8]map[string][]modelRevision
	keep      Keep // of what was pruned: the zero value for nothing
}

// end is a boundary with the versioned rows as they were then.
type end struct {
	at   sharefs.HLC
	rows map[uint8]map[string]string
}

type modelRevision struct {
	epoch   int // its place in ends
	value   string
	deleted bool
}

func newModel() *model {
	m := &model{live: map[uint8]map[string]string{}, revisions: map[uint8]map[string][]modelRevision{}}
	for _, s := range testSpaces {
		m.live[s.ID], m.revisions[s.ID] = map[string]string{}, map[string][]modelRevision{}
	}
	return m
}

func (m *model) clone() *model {
	c := &model{live: copyRows(m.live), ends: slices.Clone(m.ends), open: m.open, revisions: map[uint8]map[string][]modelRevision{}, keep: m.keep}
	for id, rows := range m.revisions {
		c.revisions[id] = map[string][]modelRevision{}
		for k, rs := range rows {
			c.revisions[id][k] = slices.Clone(rs)
		}
	}
	return c
}

func copyRows(rows map[uint8]map[string]string) map[uint8]map[string]string {
	c := map[uint8]map[string]string{}
	for id, r := range rows {
		c[id] = maps.Clone(r)
	}
	return c
}

func versionedSpace(id uint8) bool { return id != spaceB }

func (m *model) set(id uint8, key, value string, deleted bool) {
	if deleted {
		delete(m.live[id], key)
	} else {
		m.live[id][key] = value
	}
	if !versionedSpace(id) {
		return
	}
	m.open = true
	rs := m.revisions[id][key]
	if n := len(rs); n > 0 && rs[n-1].epoch == len(m.ends) {
		rs = rs[:n-1]
	}
	m.revisions[id][key] = append(rs, modelRevision{len(m.ends), value, deleted})
}

func (m *model) boundary(at sharefs.HLC) {
	if m.open {
		m.ends = append(m.ends, end{at, copyRows(m.live)})
		m.open = false
	}
}

// at returns the rows of a space as a view of that instant shows them.
func (m *model) at(id uint8, t sharefs.HLC) map[string]string {
	if t == sharefs.MaxHLC || !versionedSpace(id) {
		return m.live[id]
	}
	rows := map[string]string{}
	for _, e := range m.ends {
		if e.at <= t {
			rows = e.rows[id]
		}
	}
	return rows
}

func (m *model) history(id uint8, key string) (out []string) {
	there := false
	for _, r := range m.revisions[id][key] {
		if r.deleted && !there {
			continue
		}
		there = !r.deleted
		at := sharefs.HLC(0)
		if r.epoch < len(m.ends) {
			at = m.ends[r.epoch].at
		}
		out = append(out, fmt.Sprint(at, r.value, r.deleted))
	}
	return out
}

// instants returns times worth looking at: around each boundary, before and after all, as far as they are kept.
func (m *model) instants() []sharefs.HLC {
	ts := []sharefs.HLC{0, 1, sharefs.MaxHLC - 1, sharefs.MaxHLC}
	for _, e := range m.ends {
		ts = append(ts, e.at-1, e.at, e.at+1)
	}
	ts = append(ts, m.keep.At...)
	return slices.DeleteFunc(ts, func(t sharefs.HLC) bool { return !m.kept(t) })
}

func (m *model) kept(t sharefs.HLC) bool { return t >= m.keep.Since || slices.Contains(m.keep.At, t) }

// thin makes fewer instants kept, at random.
func (m *model) thin(r *rand.Rand) {
	ts := m.instants()
	slices.Sort(ts)
	first := slices.IndexFunc(ts, func(t sharefs.HLC) bool { return t >= m.keep.Since })
	since := ts[first+r.IntN(len(ts)-first-1)] // not the rows of the moment, which nothing is removed from
	var at []sharefs.HLC
	for _, t := range slices.Compact(ts) {
		if t < since && r.IntN(4) == 0 {
			at = append(at, t)
		}
	}
	m.keep = Keep{Since: since, At: at}
}

// modelKeys are some that share prefixes, hold zeros and lie around the sizes of groups.
var modelKeys = func() []string {
	keys := []string{"a", "a\x00", "a\x00\x00", "a\x01", "ab", "b", "\x00", "\xff", "\xff\xff", "abcdefg", "abcdefgh", "abcdefgh\x00",
		"abcdefghi", "abcdefghijklmnop", "abcdefghijklmnopq", "abcdefghijklmnop\x00", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"}
	for i := range 40 {
		keys = append(keys, string(key8(uint64(i*i))), "dir"+string(key8(uint64(i%3)))+string(key8(uint64(i))))
	}
	return keys
}()

// randomBatch fills a batch and returns what it does, for the model.
func randomBatch(r *rand.Rand, b *Batch, n int) func(m *model) {
	b.Reset()
	var todo []func(m *model)
	for range 1 + r.IntN(6) {
		id := testSpaces[r.IntN(len(testSpaces))].ID
		key := modelKeys[r.IntN(len(modelKeys))]
		if r.IntN(3) == 0 {
			b.Delete(id, []byte(key))
			todo = append(todo, func(m *model) { m.set(id, key, "", true) })
			continue
		}
		value := fmt.Sprint(n, "-", string(bytes.Repeat([]byte{'v'}, r.IntN(30))))
		if r.IntN(10) == 0 {
			value = ""
		}
		b.Put(id, []byte(key), []byte(value))
		todo = append(todo, func(m *model) { m.set(id, key, value, false) })
	}
	return func(m *model) {
		for _, f := range todo {
			f(m)
		}
	}
}

// compareAll holds a database against the model: every view, space, row and history.
func (m *model) compareAll(t testing.TB, db *DB, what string) {
	t.Helper()
	for _, s := range testSpaces {
		for _, at := range m.instants() {
			m.compareView(t, db, s.ID, at, nil, nil, what)
		}
		if !s.Versioned {
			continue
		}
		for _, k := range modelKeys {
			m.compareHistory(t, db, s.ID, k, what)
		}
	}
	m.compareBoundaries(t, db, what)
}

// compareQuick holds the rows of the moment, the boundaries and a few things of the past against the model.
func (m *model) compareQuick(t testing.TB, db *DB, r *rand.Rand, what string) {
	t.Helper()
	for _, s := range testSpaces {
		m.compareView(t, db, s.ID, sharefs.MaxHLC, nil, nil, what)
	}
	m.compareBoundaries(t, db, what)
	for range 8 {
		m.compareSome(t, db, r, what)
	}
}

func (m *model) compareBoundaries(t testing.TB, db *DB, what string) {
	t.Helper()
	var got, want []string
	must(t, db.Boundaries(0, sharefs.MaxHLC, func(e Epoch) bool { got = append(got, fmt.Sprint(e.Boundary)); return true }))
	var back []string
	must(t, db.BoundariesBack(func(e Epoch) bool { back = append(back, fmt.Sprint(e.Boundary)); return true }))
	if slices.Reverse(back); !slices.Equal(got, back) {
		t.Fatalf("%s: boundaries %v, and backwards %v", what, got, back)
	}
	for _, e := range m.ends {
		want = append(want, fmt.Sprint(e.at))
	}
	if m.keep.Since > 0 && within(got, want) {
		return
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s: boundaries\n%v, want\n%v", what, got, want)
	}
}

// within reports whether all of some things are among others, in their order.
func within(some, others []string) bool {
	for _, s := range some {
		i := slices.Index(others, s)
		if i < 0 {
			return false
		}
		others = others[i+1:]
	}
	return true
}

func (m *model) compareView(t testing.TB, db *DB, id uint8, at sharefs.HLC, from, to []byte, what string) {
	t.Helper()
	rows := m.at(id, at)
	var got, want []string
	must(t, db.At(at).Scan(id, from, to, func(k, v []byte) bool { got = append(got, string(k)+"="+string(v)); return true }))
	for _, k := range slices.Sorted(maps.Keys(rows)) {
		if k >= string(from) && (len(to) == 0 || k < string(to)) {
			want = append(want, k+"="+rows[k])
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s: space %d at %d from %q to %q:\n%q, want\n%q", what, id, at, from, to, got, want)
	}
}

func (m *model) compareHistory(t testing.TB, db *DB, id uint8, key, what string) {
	t.Helper()
	h, err := db.History(id, []byte(key))
	must(t, err)
	var got []string
	for _, r := range h {
		got = append(got, fmt.Sprint(r.At, string(r.Value), r.Deleted))
	}
	if want := m.history(id, key); m.keep.Since > 0 && within(got, want) {
		return // the views tell if too much is gone
	} else if !slices.Equal(got, want) {
		t.Fatalf("%s: history of %q in space %d:\n%v, want\n%v", what, key, id, got, want)
	}
}

// compareSome holds one random thing against the model.
func (m *model) compareSome(t testing.TB, db *DB, r *rand.Rand, what string) {
	t.Helper()
	id := testSpaces[r.IntN(len(testSpaces))].ID
	ts := m.instants()
	at := ts[r.IntN(len(ts))]
	key := modelKeys[r.IntN(len(modelKeys))]
	switch r.IntN(3) {
	case 0:
		v, ok, err := db.At(at).Get(id, []byte(key))
		must(t, err)
		if want, there := m.at(id, at)[key]; ok != there || string(v) != want {
			t.Fatalf("%s: %q in space %d at %d is %q %v, want %q %v", what, key, id, at, v, ok, want, there)
		}
	case 1:
		to := modelKeys[r.IntN(len(modelKeys))]
		m.compareView(t, db, id, at, []byte(min(key, to)), []byte(max(key, to)), what)
	case 2:
		if versionedSpace(id) {
			m.compareHistory(t, db, id, key, what)
		}
	}
}

func journalFiles(cfg Config) ([]string, error) {
	if cfg.FS != nil {
		return cfg.FS.List()
	}
	return journal.Dir(filepath.Join(cfg.Dir, "journal")).List()
}

// Random changes, boundaries, checkpoints, closings and crashes, with tables so small that rows are everywhere at once.
func TestModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			if seed > 1 {
				race.Leave(t, race.Enough)
			}
			r := rand.New(rand.NewPCG(seed, 2))
			cfg := Config{Dir: t.TempDir(), MemtableSize: 1 << (10 + r.IntN(6)), Spaces: testSpaces, noSync: true, txRows: 1 + r.IntN(30)}
			if seed > 0 { // one seed on a real disk
				cfg.FS = simdisk.New()
			}
			db := open(t, cfg)
			m := newModel()
			var b Batch
			for n := range 500 {
				what := fmt.Sprint("step ", n)
				switch x := r.IntN(100); {
				case x < 60:
					do := randomBatch(r, &b, n)
					_, err := db.Commit(&b)
					must(t, err)
					do(m)
				case x < 80:
					at := db.clock.Next()
					must(t, db.Boundary(at))
					m.boundary(at)
				case x < 85:
					must(t, db.Sync())
				case x < 88:
					must(t, db.Checkpoint())
				case x < 90:
					must(t, db.Close())
					if s, err := journalFiles(cfg); len(s) > 0 || err != nil {
						t.Fatalf("Close left %q %v", s, err)
					}
					cfg.Clock = nil
					db = open(t, cfg)
				case x < 92:
					cfg = crash(t, db)
					must(t, db.Close())
					db = open(t, cfg)
				case x < 94 && seed%2 == 1:
					m.thin(r)
					prune(t, db, m.keep)
				}
				m.compareSome(t, db, r, what)
				if n%100 == 99 {
					m.compareAll(t, db, what)
				}
			}
		})
	}
}

// A scan of more rows than a piece has, with rows in all three places and many deleted ones between.
func TestScanPieces(t *testing.T) {
	db := open(t, Config{Dir: t.TempDir(), MemtableSize: 256 << 10, noSync: true})
	r := rand.New(rand.NewPCG(3, 3))
	m := newModel()
	var b Batch
	for n := range 400 {
		b.Reset()
		for range 20 {
			key, value := string(key8(uint64(r.IntN(5000)))), fmt.Sprint(n)
			if deleted := r.IntN(3) == 0; deleted {
				b.Delete(spaceA, []byte(key))
				m.set(spaceA, key, "", true)
			} else {
				b.Put(spaceA, []byte(key), []byte(value))
				m.set(spaceA, key, value, false)
			}
		}
		_, err := db.Commit(&b)
		must(t, err)
		if n%50 == 0 {
			at := db.clock.Next()
			must(t, db.Boundary(at))
			m.boundary(at)
		}
	}
	if db.Stats().Applies == 0 {
		t.Error("no table was applied: the test is smaller than it thinks")
	}
	for _, at := range m.instants() {
		m.compareView(t, db, spaceA, at, nil, nil, "all")
		m.compareView(t, db, spaceA, at, key8(1000), key8(4000), "a part")
	}
	// An early end.
	n := 0
	must(t, db.Scan(spaceA, nil, nil, func(_, _ []byte) bool { n++; return n < 100 }))
	if n != 100 {
		t.Errorf("%d rows, asked for 100", n)
	}
	// The function of a scan may use the database, and what it is given stays.
	var keys, values []string
	var kept [][]byte
	must(t, db.Scan(spaceA, nil, nil, func(k, v []byte) bool {
		put(t, db, spaceB, string(k), string(v))
		keys, values, kept = append(keys, string(k)), append(values, string(v)), append(kept, k, v)
		return true
	}))
	must(t, db.Checkpoint())
	for i, k := range keys {
		if string(kept[2*i]) != k || string(kept[2*i+1]) != values[i] {
			t.Fatalf("row %d changed after it was given out", i)
		}
		if got := get(t, db, spaceB, k); got != values[i] {
			t.Fatalf("%q: %q, want %q", k, got, values[i])
		}
	}
}
