package versions

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/kv/journal/simdisk"
	"sharefs/versions/pack/memdisk"
)

// moment is what the disks of a store held at some time.
type moment struct {
	journal int // operations
	packs   *memdisk.Disk
}

// bytesFor returns content for a seed, of 0 to 100,000 bytes, half of which compresses.
func bytesFor(seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 6))
	b := make([]byte, r.IntN(100_000))
	for i := range b {
		b[i] = byte(r.Uint32())
		if seed%2 == 0 {
			b[i] &= 7
		}
	}
	return string(b)
}

// Power fails before each operation on packs and between those on the journal: whatever a row says is kept reads back whole.
func TestPowerLossWhileCapturing(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	dir := t.TempDir()
	journal, packs := simdisk.New(), memdisk.New()
	r := rand.New(rand.NewPCG(7, 7))
	var moments []moment
	packs.Before = func() {
		moments = append(moments, moment{journal.Len(), packs.PowerLoss(r)})
	}
	tree := testTree(t, dir, byHand, func(c *Config) { c.Journal, c.Packs, c.packSize = journal, packs, 200_000 })
	want := map[versionID]string{}
	seed := uint64(0)
	for round := range 6 {
		for i := range 5 {
			seed++
			ino := save(t, tree, fmt.Sprint("file ", i), bytesFor(seed))
			v := must[*version](t)(newestVersion(tree.db, ino, noLimit))
			want[versionID{ino, v.own}] = bytesFor(seed)
		}
		if round == 3 {
			unlink(t, tree, "file 2")
		}
		before := journal.Len()
		capture(t, tree)
		if n := len(moments); n > 0 {
			before = max(before, moments[n-1].journal)
		}
		for n := before; n <= journal.Len(); n++ {
			moments = append(moments, moment{n, packs.PowerLoss(r)})
		}
	}
	if len(moments) < 60 {
		t.Fatalf("only %d moments", len(moments))
	}
	kept := 0
	r.Shuffle(len(moments), func(i, j int) { moments[i], moments[j] = moments[j], moments[i] })
	if os.Getenv("SHAREFS_SOAK") == "" {
		moments = moments[:16]
	}
	for _, m := range moments {
		kept += checkMoment(t, dir, journal, m, r, want)
	}
	if kept == 0 {
		t.Error("nothing was kept at any moment")
	}
}

// checkMoment opens what the disks held and reads every version that a row says is in packs.
func checkMoment(t *testing.T, dir string, disk *simdisk.Disk, m moment, r *rand.Rand, want map[versionID]string) (kept int) {
	t.Helper()
	after := t.TempDir()
	b, err := os.ReadFile(filepath.Join(dir, "meta.db"))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(after, "meta.db"), b, 0o600))
	fate := simdisk.Scatter(r)
	if r.IntN(3) == 0 {
		fate = simdisk.Kept // the process was killed, and then the power failed
	}
	tree, err := Open(Config{
		Dir: after, Settle: 1000 * 3600e9, Journal: disk.PowerLoss(m.journal, fate), Packs: m.packs.PowerLoss(r), byHand: true,
	})
	if err != nil {
		t.Fatalf("after %d journal operations: %v", m.journal, err)
	}
	defer tree.Close()
	var ids []versionID
	check(t, tree.db.Scan(spaceVersion, nil, nil, func(key, value []byte) bool {
		v, err := decodeVersion(key, value)
		check(t, err)
		if v.place == placeKept {
			ids = append(ids, versionID{v.ino, v.own})
		}
		return true
	}))
	for _, id := range ids {
		v := must[*version](t)(loadVersion(tree.db, id.ino, id.own))
		rd := newKeptReader(&tree.past, v)
		b := make([]byte, rd.Size())
		if n, err := rd.ReadAt(b, 0); n < len(b) || string(b) != want[id] {
			t.Fatalf("after %d journal operations: version %d of inode %d is kept and does not read: %v", m.journal, id.own, id.ino, err)
		}
		check(t, rd.Close())
	}
	return len(ids)
}

// Every operation on packs fails once: no version is lost, and what waits is captured when the disk is well again.
func TestFaultsWhileCapturing(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	run := func(fault int, cause error) (ops int) {
		packs := memdisk.New()
		packs.Fail(fault, cause)
		tree := testTree(t, t.TempDir(), byHand, func(c *Config) { c.Packs, c.packSize = packs, 100_000 })
		want := map[sharefs.Ino][]string{}
		failed := 0
		for round := range uint64(3) {
			for i := range uint64(3) {
				content := bytesFor(round*10 + i)
				ino := save(t, tree, fmt.Sprint(i), content)
				want[ino] = append(want[ino], content)
			}
			for range 10 {
				n, err := tree.past.capture()
				if err != nil {
					failed++
				}
				if err == nil && n == 0 {
					break
				}
			}
		}
		if failed > 1 {
			t.Errorf("a fault in operation %d gave %d errors", fault, failed)
		}
		for ino, list := range want {
			wantHistory(t, tree, ino, list...)
		}
		if n := tree.HistoryStats(); n.Queue != 0 || n.Lost != 0 {
			t.Errorf("a fault in operation %d: %+v", fault, n)
		}
		if err := tree.Close(); err != nil {
			failed++
		}
		// How many operations there are differs a little from run to run, and the last is that of closing.
		if fault > 0 && fault < packs.Ops() && failed != 1 {
			t.Errorf("a fault in operation %d gave %d errors in all", fault, failed)
		}
		return packs.Ops()
	}
	ops := run(0, nil)
	for n := 1; n < ops; n += 2 + n/5 {
		run(n, []error{syscall.EIO, syscall.ENOSPC}[n%2])
	}
}

// storeAsKilled copies a store as it is, as if the daemon had been killed at this moment.
func storeAsKilled(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "store")
	copyStore(t, dir, to)
	return to
}

// killed is storeAsKilled of a tree that is open. Nothing is removed for good meanwhile: it would be gone when its turn to be copied comes, or be found
// without its row.
func killed(t testing.TB, tree *Tree) string {
	t.Helper()
	tree.orphans.reaping.Lock()
	defer tree.orphans.reaping.Unlock()
	return storeAsKilled(t, tree.cfg.Dir)
}

// comeToRest has every file come to rest that a start found marked.
func comeToRest(t testing.TB, tree *Tree) {
	t.Helper()
	var marked []sharefs.Ino
	tree.files.each(func(f *file) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.hot {
			marked = append(marked, f.ino)
		}
	})
	for _, ino := range marked {
		rests, err := trySettle(tree, ino)
		if errors.Is(err, sharefs.KindStale) {
			continue // it has no name, and was removed meanwhile
		}
		if err != nil || !rests {
			t.Fatalf("inode %d does not come to rest: %v", ino, err)
		}
	}
}

func TestKilledAtAnyTime(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	a := save(t, tree, "a", "a1")
	b := save(t, tree, "b", "b1")
	capture(t, tree)
	c := save(t, tree, "c", "c1, not captured")
	rewrite(t, tree, b, "b2, not settled")
	save(t, tree, "a", "a2")
	h := must[*Handle](t)(tree.Open(a, unix.O_WRONLY, root)) // sets a2 aside
	writeAll(t, h, "a3, being written")
	d := save(t, tree, "d", "d1, removed before it was captured")
	unlink(t, tree, "d")
	saves["vim"](t, tree, "c", "c2, replaced and not settled")
	c2 := lookup(t, tree, sharefs.RootIno, "c").Ino

	after := testTree(t, killed(t, tree), byHand)
	comeToRest(t, after)
	capture(t, after)
	wantHistory(t, after, a, "a1", "a2", "a3, being written")
	wantHistory(t, after, b, "b1", "b2, not settled")
	wantHistory(t, after, c, "c1, not captured")
	wantHistory(t, after, c2, "c1, not captured", "c2, replaced and not settled")
	wantHistory(t, after, d, "d1, removed before it was captured")
	if n := after.HistoryStats(); n.Lost != 0 || n.Queue != 0 {
		t.Errorf("%+v", n)
	}
	if left := asideFiles(t, after); len(left) > 0 {
		t.Errorf("%v stay aside", left)
	}
	for name, ino := range map[string]sharefs.Ino{"a": a, "b": b, "c": c2} {
		if lookup(t, after, sharefs.RootIno, name).Ino != ino {
			t.Errorf("%s is another file", name)
		}
	}
	check(t, h.Close())
}

// What is set aside and has no row that says so is removed, and a row whose aside file never reached the disk leads to the live file.
func TestStartLooksThroughWhatIsSetAside(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	ino := save(t, tree, "f", "one")
	gone := save(t, tree, "g", "gone")
	for _, name := range []string{asideName(ino, 1), asideName(77, 3), "1-2.held", "nonsense"} {
		check(t, os.WriteFile(filepath.Join(dir, "aside", name), []byte("left over"), 0o600))
	}
	// A row that says aside, with the file missing: as a power loss leaves it.
	for _, id := range []versionID{{ino, 1}, {gone, 1}} {
		if moved, err := tree.past.replace(id, placeLive, placeAside); err != nil || !moved {
			t.Fatal(err)
		}
	}
	check(t, os.Remove(filepath.Join(dir, "aside", asideName(ino, 1))))
	check(t, tree.Close())
	check(t, os.WriteFile(liveFile(tree, gone), []byte("what came after"), 0o600))
	tree = testTree(t, dir, byHand)
	if left := asideFiles(t, tree); len(left) > 0 {
		t.Errorf("%v stay aside", left)
	}
	capture(t, tree)
	wantHistory(t, tree, ino, "one")
	all := must[[]sharefs.Version](t)(tree.Versions(gone))
	if n := tree.HistoryStats(); len(all) != 0 || n.Lost != 1 || n.Queue != 0 {
		t.Errorf("%v, %+v", all, n)
	}
	// The number is not used again.
	save(t, tree, "g", "next")
	if all = must[[]sharefs.Version](t)(tree.Versions(gone)); len(all) != 1 || all[0].Number != 2 {
		t.Errorf("%v", all)
	}
}

func TestTheQueueSurvivesAClose(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	var inos []sharefs.Ino
	for i := range 30 {
		inos = append(inos, save(t, tree, fmt.Sprint(i), fmt.Sprint("content ", i)))
	}
	open := create(t, tree, sharefs.RootIno, "open", "closed by the end").Ino
	check(t, tree.Close())
	tree = testTree(t, dir, byHand)
	if n := tree.HistoryStats(); n.Queue != 31 {
		t.Errorf("%d wait", n.Queue)
	}
	capture(t, tree)
	for i, ino := range inos {
		wantHistory(t, tree, ino, fmt.Sprint("content ", i))
	}
	wantHistory(t, tree, open, "closed by the end")
	check(t, tree.Close())
	ro := testTree(t, dir, func(c *Config) { c.ReadOnly = true })
	wantHistory(t, ro, inos[7], "content 7")
	_, _, err := ro.Commit(inos[7], "")
	wantKind(t, err, sharefs.KindReadOnly)
	wantKind(t, ro.Restore(Op{}, inos[7], 1, root), sharefs.KindReadOnly)
}

// A file that a start finds marked, and that nobody changed, is one as any other afterwards: each close counts.
func TestAFoundFileIsOneAsAnyOther(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	capture(t, tree)
	tree.past.marked(ino) // as a start does
	h := must[*Handle](t)(tree.Open(ino, unix.O_WRONLY, root))
	check(t, h.Close())
	settle(t, tree, ino)
	save(t, tree, "f", "one")
	capture(t, tree)
	wantHistory(t, tree, ino, "one", "one")
}

// What a capture could not tidy up, for the journal could not be synced, the next one does.
func TestTheNextCaptureTidiesUp(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	capture(t, tree)
	h := &tree.past
	h.unsafe[ino] = true
	h.untidy = []versionID{{ino, 1}}
	check(t, os.WriteFile(filepath.Join(tree.cfg.Dir, "aside", asideName(ino, 1)), []byte("one"), 0o600))
	capture(t, tree)
	if left := asideFiles(t, tree); len(left) > 0 || len(h.unsafe) > 0 || len(h.untidy) > 0 {
		t.Errorf("%v stay aside, %v unsafe", left, h.unsafe)
	}
}
