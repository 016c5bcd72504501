package versions

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/keyring"
	"sharefs/versions/pack"
	"sharefs/versions/tier"
	"sharefs/versions/tier/membucket"
)

// keyFile stands for share.key.
type keyFile struct{ ring keyring.Ring }

func newKeyFile(n byte) *keyFile { return &keyFile{keyring.New([32]byte{n, 1})} }

func (k *keyFile) config(c *Config) {
	byHand(c)
	c.Keys = k.ring
	c.KeepKeys = func(r keyring.Ring) error {
		k.ring = r
		return nil
	}
}

// eachByItsKey checks that every record lies in a pack of the key that names it, and that a version's manifest is of one key, the one that its row tells.
func eachByItsKey(t testing.TB, tree *Tree) (used map[pack.Epoch]int) {
	t.Helper()
	used = map[pack.Epoch]int{}
	names := tree.keys.namers()
	places := map[uint64]pack.Epoch{}
	for _, k := range tree.keys.load().all {
		places[k.place] = k.epoch()
	}
	in := map[sharefs.ChunkID]pack.Epoch{}
	check(t, tree.db.Scan(spaceChunk, nil, nil, func(key, value []byte) bool {
		id := sharefs.ChunkID(key)
		loc := must[pack.Loc](t)(pack.ParseLoc(value))
		in[id] = must[pack.Epoch](t)(tree.past.packs.EpochOf(loc.Pack))
		used[in[id]]++
		if plain := must[[]byte](t)(tree.past.packs.Read(loc, id, nil)); !names.fits(in[id], id, plain) || names.key(id, plain).epoch() != in[id] {
			t.Errorf("chunk %v lies in a pack of another key", id)
		}
		return true
	}))
	var walk func(v *version, m manifest)
	walk = func(v *version, m manifest) {
		for _, s := range m.spans {
			if s.hole {
				continue
			}
			if in[s.id] != places[v.key] {
				t.Errorf("version %d of inode %d says key %d, and has a chunk of %v", v.own, v.ino, v.key, in[s.id])
			}
			if m.level > 0 {
				spans, _ := decodeSpans(must[[]byte](t)(tree.past.readChunk(s.id, nil)), s.len)
				walk(v, manifest{m.level - 1, spans})
			}
		}
	}
	check(t, tree.db.Scan(spaceVersion, nil, nil, func(key, value []byte) bool {
		v := must[*version](t)(decodeVersion(key, value))
		walk(v, v.top)
		return true
	}))
	return used
}

// A tree lives through random changes of its keys: others are met, epochs begin, it is closed in between. Every version reads, each record is named by the
// key of its pack, a scrub finds nothing, collections leave no garbage, and meta.db comes back.
func TestKeysChangeInBetween(t *testing.T) {
	t.Parallel()
	seeds := uint64(2)
	if os.Getenv("SHAREFS_SOAK") != "" {
		seeds = 60
	}
	most := 0 // keys that are used in one store: a key of another share is mostly not the one in use
	for seed := range seeds {
		dir := t.TempDir()
		r := rand.New(rand.NewPCG(seed, 77))
		keys := newKeyFile(byte(seed))
		config := func(c *Config) {
			keys.config(c)
			c.packSize, c.partSize = 200_000, 50_000
		}
		m := newGCModel(t, testTree(t, dir, config), seed)
		m.tree.checkpoint.room = func() int64 { return 1 << 40 }
		large := []byte(noise(seed, 150_000))
		for step := range 24 {
			switch step % 4 {
			case 0:
				m.fill(10)
			case 1: // captured in part where the key is the same
				large[r.IntN(len(large))]++
				m.save("large", string(large))
				capture(t, m.tree)
			case 2:
				before := m.tree.Keys()
				var err error
				if r.IntN(2) == 0 {
					_, err = m.tree.BeginEpoch()
				} else {
					other := keyring.New([32]byte{byte(r.Uint32()), 2})
					if r.IntN(2) == 0 {
						other = must[keyring.Ring](t)(other.Next())
					}
					_, err = m.tree.AdoptKeys(other)
				}
				check(t, err)
				now := m.tree.Keys()
				if !now.Has(before) || now.First() != before.First() || !keys.ring.Has(now) || m.tree.keys.load().use.Key != now.Use() {
					t.Fatal("keys are lost")
				}
			case 3:
				switch r.IntN(4) {
				case 0:
					check(t, m.tree.Close())
					m.tree = testTree(t, dir, config)
					m.tree.checkpoint.room = func() int64 { return 1 << 40 }
				case 1:
					m.mix()
					m.thin(3)
					collect(t, m.tree, smallGC)
				case 2:
					check(t, m.tree.db.Checkpoint())
					export(t, m.tree)
				case 3:
					m.verify()
				}
			}
		}
		capture(t, m.tree)
		m.verify()
		most = max(most, len(eachByItsKey(t, m.tree)))
		wantClean(t, m.tree, FsckScrub)
		m.thin(2)
		collect(t, m.tree, smallGC)
		noGarbage(t, m.tree)
		eachByItsKey(t, m.tree)
		comeToRest(t, m.tree)
		capture(t, m.tree)
		export(t, m.tree)
		m.verify()
		read := everyVersion(t, m.tree)
		row, _, err := m.tree.db.Get(spaceGlobal, globalKeys)
		check(t, err)
		check(t, m.tree.Close())
		removeMeta(t, dir)
		removeJournal(t, dir)
		wantNothingLost(t, rebuild(t, dir, RebuildOptions{}, config))
		m.tree = testTree(t, dir, config)
		if again := everyVersion(t, m.tree); len(again) != len(read) {
			t.Errorf("%d versions, before there were %d", len(again), len(read))
		}
		m.verify()
		eachByItsKey(t, m.tree)
		if again, _, err := m.tree.db.Get(spaceGlobal, globalKeys); err != nil || string(again) != string(row) {
			t.Errorf("the row of the keys is another one: %x, %x, %v", again, row, err)
		}
		wantClean(t, m.tree, FsckScrub)
		check(t, m.tree.Close())
	}
	if most < 3 {
		t.Errorf("%d keys are used", most)
	}
}

// Two stores that give each other their keys use one for what is new, and the same content has the same chunks in both.
func TestTwoStoresMeet(t *testing.T) {
	t.Parallel()
	var trees []*Tree
	for n := range byte(2) {
		tree := testTree(t, t.TempDir(), newKeyFile(n).config)
		save(t, tree, "before", "of both")
		capture(t, tree)
		trees = append(trees, tree)
	}
	rings := []keyring.Ring{trees[0].Keys(), trees[1].Keys()}
	for i, tree := range trees {
		was := tree.Keys().Use()
		if changed := must[bool](t)(tree.AdoptKeys(rings[1-i])); changed != (tree.Keys().Use() != was) || len(tree.KeysChanged()) != 1 {
			t.Errorf("changed: %v", changed)
		}
		<-tree.KeysChanged()
		if changed := must[bool](t)(tree.AdoptKeys(rings[1-i])); changed || len(tree.KeysChanged()) != 0 { // once more is nothing
			t.Error("the same keys change something")
		}
	}
	if trees[0].Keys().Use() != trees[1].Keys().Use() {
		t.Fatal("they use two keys")
	}
	var tops []manifest
	for _, tree := range trees {
		ino := save(t, tree, "new", "of both, and new")
		old := lookup(t, tree, sharefs.RootIno, "before").Ino
		capture(t, tree)
		tops = append(tops, must[*version](t)(newestVersion(tree.db, ino, noLimit)).top, must[*version](t)(newestVersion(tree.db, old, noLimit)).top)
		wantHistory(t, tree, old, "of both")
	}
	if tops[0].spans[0].id != tops[2].spans[0].id || tops[1].spans[0].id == tops[3].spans[0].id {
		t.Errorf("%v", tops)
	}
	// The one ends the trust in somebody, and tells the other.
	next := must[keyring.Ring](t)(trees[1].BeginEpoch())
	if !must[bool](t)(trees[0].AdoptKeys(next)) {
		t.Error("another epoch changes nothing")
	}
	if a, b := trees[0].Keys().Use(), trees[1].Keys().Use(); a != b || a.Epoch != 2 || rings[0].Has(next) || rings[1].Has(next) {
		t.Errorf("%+v, %+v", a, b)
	}
}

// Whatever interrupts the taking up of keys, no key is in use that is not kept, and the store opens; without a key that it has used it does not.
func TestAdoptKeysIsInterrupted(t *testing.T) {
	t.Parallel()
	stop := errors.New("stopped here")
	for _, at := range []string{"keep", "kept", "learned", ""} {
		dir := t.TempDir()
		keys := newKeyFile(1)
		first := keys.ring
		tree := testTree(t, dir, keys.config, func(c *Config) {
			keep := c.KeepKeys
			c.KeepKeys = func(r keyring.Ring) error {
				if at == "keep" {
					return stop
				}
				return keep(r)
			}
			c.keyPlace = func(name string) error {
				if name == at {
					return stop
				}
				return nil
			}
		})
		ino := save(t, tree, "f", "one")
		capture(t, tree)
		_, err := tree.BeginEpoch()
		if (err == nil) != (at == "") {
			t.Fatalf("%q: %v", at, err)
		}
		rewriteAndSettle(t, tree, ino, "two")
		capture(t, tree)
		wantHistory(t, tree, ino, "one", "two")
		check(t, tree.Close())
		tree = testTree(t, dir, keys.config)
		wantHistory(t, tree, ino, "one", "two")
		if got, want := tree.Keys().Len(), keys.ring.Len(); got != want || (at == "keep") != (want == 1) {
			t.Errorf("%q: %d keys, %d are kept", at, got, want)
		}
		rewriteAndSettle(t, tree, ino, "three")
		capture(t, tree)
		eachByItsKey(t, tree)
		wantClean(t, tree, FsckScrub)
		check(t, tree.Close())
		if at == "keep" {
			continue
		}
		for _, readOnly := range []bool{false, true} {
			_, err = Open(Config{Dir: dir, Keys: first, ReadOnly: readOnly})
			wantKind(t, err, sharefs.KindCorrupt)
			if !strings.Contains(err.Error(), filepath.Join(dir, "share.key")) || !strings.Contains(err.Error(), "lacks 1 share key") {
				t.Error(err)
			}
		}
		tree = testTree(t, dir, keys.config) // no harm is done
		wantHistory(t, tree, ino, "one", "two", "three")
		wantClean(t, tree, FsckScrub)
		check(t, tree.Close())
	}
	tree := testTree(t, t.TempDir(), byHand)
	if _, err := tree.BeginEpoch(); !errors.Is(err, sharefs.KindNotSupported) {
		t.Errorf("where nobody keeps keys: %v", err)
	}
}

func rewriteAndSettle(t testing.TB, tree *Tree, ino sharefs.Ino, content string) {
	t.Helper()
	rewrite(t, tree, ino, content)
	settle(t, tree, ino)
}

// A chunk of an earlier key that its pack has lost is found in a live file, and kept under its key again.
func TestRepairUnderAnEarlierKey(t *testing.T) {
	dir := t.TempDir()
	keys := newKeyFile(1)
	tree := testTree(t, dir, keys.config)
	ino := save(t, tree, "f", noise(5, 30_000))
	capture(t, tree)
	must[keyring.Ring](t)(tree.BeginEpoch())
	v := must[*version](t)(newestVersion(tree.db, ino, noLimit))
	row, _, err := tree.db.Get(spaceChunk, v.top.spans[0].id[:])
	check(t, err)
	loc := must[pack.Loc](t)(pack.ParseLoc(row))
	path := filepath.Join(dir, "packs", tree.past.packs.Where(loc.Pack))
	f := must[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
	_, err = f.WriteAt([]byte{1, 2, 3, 4}, int64(loc.Off)+80)
	check(t, errors.Join(err, f.Close()))
	if r := fsckNow(t, tree, FsckScrub, true); r.Outcome != OutcomeRepaired || r.Healed == 0 || !strings.Contains(r.Text(), "a live file") {
		t.Fatalf("%s", r.Text())
	}
	wantClean(t, tree, FsckScrub)
	wantHistory(t, tree, ino, noise(5, 30_000))
	eachByItsKey(t, tree)
}

// The bucket of a store with several keys has all of them, sealed by the first, with which alone the store comes back.
func TestKeysComeBackFromTheBucket(t *testing.T) {
	t.Parallel()
	keys := newKeyFile(4)
	dir := t.TempDir()
	tree := testTree(t, dir, keys.config)
	tree.checkpoint.room = func() int64 { return 1 << 40 }
	first := tree.Keys().First().Secret
	ino := save(t, tree, "f", "one")
	capture(t, tree)
	must[bool](t)(tree.AdoptKeys(keyring.New([32]byte{9, 9})))
	must[keyring.Ring](t)(tree.BeginEpoch())
	rewriteAndSettle(t, tree, ino, "two")
	capture(t, tree)
	comeToRest(t, tree)
	check(t, tree.closeEpoch())
	export(t, tree)
	b := &membucket.Bucket{}
	inBucket(t, tree, b, filepath.Join(t.TempDir(), "tier"))
	want := everyVersion(t, tree)
	root, _, err := tier.ReadRoot(t.Context(), b, TierKey(first))
	check(t, err)
	ring := must[keyring.Ring](t)(KeysFromTier(first, root.Keys))
	if !ring.Has(tree.Keys()) || ring.Use() != tree.Keys().Use() {
		t.Fatalf("%d keys come back", ring.Len())
	}
	for name, bad := range map[string]func() (keyring.Ring, error){
		"another first key": func() (keyring.Ring, error) { return KeysFromTier([32]byte{1}, root.Keys) },
		"a flipped bit":     func() (keyring.Ring, error) { root.Keys[20] ^= 1; return KeysFromTier(first, root.Keys) },
	} {
		if _, err := bad(); sharefs.KindOf(err) != sharefs.KindCorrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := KeysFromTier(first, SealKeysForTier(keyring.New(first))); err != nil || got.Len() != 1 {
		t.Errorf("of a store with one key: %v", err)
	}
	copied, _ := fromBucket(t, b, first)
	check(t, os.Mkdir(filepath.Join(copied, "live"), 0o700))
	config := func(c *Config) {
		byHand(c)
		c.Keys = ring
	}
	wantNothingLost(t, rebuild(t, copied, RebuildOptions{Recovered: true}, config))
	back := testTree(t, copied, config)
	if got := everyVersion(t, back); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	eachByItsKey(t, back)
}

// Other hosts cannot bring a store to so many keys that it has no room for the next epoch.
func TestRoomForEpochs(t *testing.T) {
	t.Parallel()
	tree := testTree(t, t.TempDir(), newKeyFile(1).config)
	var many []keyring.Key
	for n := range keyring.MaxTaken {
		many = append(many, keyring.New([32]byte{byte(n), byte(n >> 8), 7}).Keys()...)
	}
	full := func(from int) keyring.Ring {
		return must[keyring.Ring](t)(keyring.New(many[from].Secret).Add(many[from:]...))
	}
	if _, err := tree.AdoptKeys(full(0)); sharefs.KindOf(err) != sharefs.KindTooBig || tree.Keys().Len() != 1 {
		t.Errorf("%d keys, %v", tree.Keys().Len(), err)
	}
	must[bool](t)(tree.AdoptKeys(full(1)))
	if next := must[keyring.Ring](t)(tree.BeginEpoch()); next.Len() != keyring.MaxTaken+1 || next.Use().Epoch != 2 {
		t.Errorf("%d keys", next.Len())
	}
}

// With a share.key from before an epoch nothing is made anew that would be without what was kept since, and with the right one all of it is.
func TestRebuildWithAnOldRing(t *testing.T) {
	dir := t.TempDir()
	keys := newKeyFile(1)
	first := keys.ring
	tree := testTree(t, dir, keys.config)
	tree.checkpoint.room = func() int64 { return 1 << 40 }
	ino := save(t, tree, "f", "one")
	capture(t, tree)
	export(t, tree)
	must[keyring.Ring](t)(tree.BeginEpoch())
	rewriteAndSettle(t, tree, ino, "two")
	capture(t, tree)
	check(t, tree.Close())
	removeMeta(t, dir)
	_, err := Rebuild(t.Context(), Config{Dir: dir, Keys: first}, RebuildOptions{}, nil)
	wantKind(t, err, sharefs.KindAccess)
	if !strings.Contains(err.Error(), filepath.Join(dir, "share.key")+": it lacks the share key of pack") {
		t.Error(err)
	}
	wantNothingLost(t, rebuild(t, dir, RebuildOptions{}, keys.config))
	tree = testTree(t, dir, keys.config)
	wantHistory(t, tree, ino, "one", "two")
	wantClean(t, tree, FsckScrub)
}

// Where the row of the keys is lost, no version is taken for one of a key that it is not of.
func TestTheRowOfKeysIsLost(t *testing.T) {
	t.Parallel()
	for more := range 4 {
		dir := t.TempDir()
		keys := newKeyFile(1)
		tree := testTree(t, dir, keys.config)
		var of []sharefs.KeyID
		ino := save(t, tree, "f", "0")
		for n := range more + 1 {
			if n > 0 {
				must[keyring.Ring](t)(tree.BeginEpoch())
				rewriteAndSettle(t, tree, ino, fmt.Sprint(n))
			}
			capture(t, tree)
			of = append(of, tree.keys.load().use.id)
		}
		loseKeysRow(t, tree)
		check(t, tree.Close())
		tree = testTree(t, dir, keys.config)
		rewriteAndSettle(t, tree, ino, "last")
		capture(t, tree)
		of = append(of, tree.keys.load().use.id)
		check(t, tree.Close())
		tree = testTree(t, dir, keys.config)
		for n, want := range of {
			v := must[*version](t)(loadVersion(tree.db, ino, uint64(n+1)))
			got, ok := tree.keys.load().at(v.key)
			if ok && got != want || !ok && (more < 2 || n == 0 || n == more+1) {
				t.Errorf("of %d further keys, version %d: %v %v, not %v", more, n+1, got, ok, want)
			}
		}
		wantClean(t, tree, FsckScrub)
		check(t, tree.Close())
	}
}

func loseKeysRow(t testing.TB, tree *Tree) {
	t.Helper()
	tree.mu.Lock()
	defer tree.mu.Unlock()
	x := tree.begin()
	x.b.Delete(spaceGlobal, globalKeys)
	check(t, x.commit())
}

// Captures beside the background go on while keys change.
func TestKeysChangeWhileVersionsAreTaken(t *testing.T) {
	t.Parallel()
	keys := newKeyFile(1)
	tree := testTree(t, t.TempDir(), func(c *Config) {
		keys.config(c)
		c.byHand, c.Settle = false, 2*time.Millisecond
	})
	done := make(chan error)
	for n := range 2 {
		go func() {
			done <- func() error {
				for i := range 15 {
					a, h, err := tree.Create(sharefs.RootIno, fmt.Sprint("f", n), unix.O_RDWR|unix.O_TRUNC, 0o644, root)
					if err != nil {
						return err
					}
					if _, err = h.WriteAt([]byte(noise(uint64(100*n+i), 3000)), 0); err == nil {
						_, _, err = tree.Commit(a.Ino, "")
					}
					if err = errors.Join(err, h.Close()); err != nil {
						return err
					}
					tree.Forget(a.Ino, 1)
				}
				return nil
			}()
		}()
	}
	for range 6 {
		must[keyring.Ring](t)(tree.BeginEpoch())
	}
	for range 2 {
		check(t, <-done)
	}
	capture(t, tree)
	eachByItsKey(t, tree)
	wantClean(t, tree, FsckScrub)
}

func TestKeysRow(t *testing.T) {
	r := keysRow{check: [32]byte{1, 31: 2}, peer: sharefs.PeerID{3, 31: 4}, more: []sharefs.KeyID{{5, 15: 6}, {7, 15: 8}}}
	const z14 = "0000000000000000000000000000"
	want := "01" + z14 + z14 + "0000" + "02" + "03" + z14 + z14 + "0000" + "04" + "05" + z14 + "06" + "07" + z14 + "08"
	if got := fmt.Sprintf("%x", r.encode()); got != want {
		t.Errorf("%s", got)
	}
	if back, ok := decodeKeysRow(r.encode()); !ok || fmt.Sprint(back) != fmt.Sprint(r) {
		t.Errorf("%v", back)
	}
	for n := range len(r.encode()) {
		if _, ok := decodeKeysRow(r.encode()[:n]); ok != (n == 64 || n == 80) {
			t.Errorf("%d bytes: %v", n, ok)
		}
	}
}

func TestVersionRowOfFormat3(t *testing.T) {
	v := keptVersion()
	plain := v.encode()
	v.key = 300
	b := v.encode()
	const at = 2 + 8 + 16 + 2 + 3 + 2 + 1 + 1 + 3 + 1 + 2
	if b[0] != versionFormat3 || len(b) != len(plain)+2 || b[at] != 0xac || b[at+1] != 2 {
		t.Fatalf("%x", b)
	}
	if back := must[*version](t)(decodeVersion(versionKey(v.ino, v.own), b)); fmt.Sprint(*back) != fmt.Sprint(*v) {
		t.Errorf("%+v", back)
	}
	b[at], b[at+1] = 0x80, 0
	if _, err := decodeVersion(versionKey(v.ino, v.own), b); sharefs.KindOf(err) != sharefs.KindCorrupt {
		t.Errorf("without a key: %v", err)
	}
}
