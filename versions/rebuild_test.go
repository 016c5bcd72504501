package versions

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/kv"
)

// dump writes down every row of a tree with all of its past, but for what follows from packs and what a rebuild changes.
func dump(t testing.TB, tree *Tree) map[string]string {
	t.Helper()
	if !tree.cfg.ReadOnly {
		check(t, tree.db.Checkpoint())
	}
	keys := map[string]bool{}
	e := must[*kv.Export](t)(tree.db.Export(spaceChunk, spaceExtent, spaceMark))
	for {
		p, ok, err := e.Next(nil, 1)
		check(t, err)
		if !ok {
			break
		}
		keys[string(append([]byte{p.Space}, p.First()...))] = true
	}
	rows := map[string]string{}
	for k := range keys {
		space, key := k[0], []byte(k[1:])
		name := rowName(space, false, key) + " " + hex.EncodeToString(key)
		if space == spaceGlobal && slices.ContainsFunc([][]byte{globalInos, globalRebuilt}, func(g []byte) bool { return bytes.Equal(g, key) }) || space == spaceMoment && keyIno(key) == 0 || space == 255 {
			continue
		}
		if space > spaceXattr {
			v, ok, err := tree.db.Get(space, key)
			check(t, err)
			rows[name] = fmt.Sprint(ok, " ", hex.EncodeToString(v))
			continue
		}
		var text strings.Builder
		for _, r := range must[[]kv.Revision](t)(tree.db.History(space, key)) {
			fmt.Fprintf(&text, "\n  %d–%d %v %x", r.Stamp, r.At, r.Deleted, r.Value)
		}
		rows[name] = text.String()
	}
	return rows
}

func sameRows(t testing.TB, got, want map[string]string) {
	t.Helper()
	n := 0
	differs := func(format string, args ...any) {
		if n++; n < 4 {
			t.Errorf(format, args...)
		}
	}
	for name, text := range want {
		if other, ok := got[name]; !ok {
			differs("%s is missing: %s", name, text)
		} else if other != text {
			differs("%s: %s\nwant %s", name, other, text)
		}
	}
	for name, text := range got {
		if _, ok := want[name]; !ok {
			differs("%s is too much: %s", name, text)
		}
	}
	if n >= 4 {
		t.Errorf("and %d more", n-3)
	}
}

// everyVersion reads every version of every file.
func everyVersion(t testing.TB, tree *Tree) map[versionID]string {
	t.Helper()
	var ids []versionID
	check(t, tree.db.Scan(spaceVersion, nil, nil, func(key, value []byte) bool {
		v, err := decodeVersion(key, value)
		check(t, err)
		if v.place != placeLost {
			ids = append(ids, versionID{v.ino, v.own})
		}
		return true
	}))
	all := map[versionID]string{}
	for _, id := range ids {
		r, err := tree.past.openVersion(must[*version](t)(loadVersion(tree.db, id.ino, id.own)))
		check(t, err)
		b := make([]byte, r.Size())
		if n, err := r.ReadAt(b, 0); n < len(b) {
			t.Errorf("version %d of inode %d: %v", id.own, id.ino, err)
		}
		check(t, r.Close())
		all[id] = string(b)
	}
	return all
}

// export makes a checkpoint of a tree that is worked by hand.
func export(t testing.TB, tree *Tree) {
	t.Helper()
	c := &tree.checkpoint
	c.work.Lock()
	c.after, c.gap = c.after.Add(-exportAgain), true
	c.work.Unlock()
	for more := true; more; {
		var err error
		more, err = c.export()
		check(t, err)
	}
	if c.whole.number == 0 || c.gap {
		t.Fatal("no checkpoint was made")
	}
}

// rebuild makes meta.db anew.
func rebuild(t testing.TB, dir string, opts RebuildOptions, change ...func(*Config)) RebuildReport {
	t.Helper()
	r, err := tryRebuild(dir, opts, change...)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.Text())
	}
	if len(r.Problems) > 0 {
		t.Errorf("problems: %q", r.Problems)
	}
	return r
}

func tryRebuild(dir string, opts RebuildOptions, change ...func(*Config)) (RebuildReport, error) {
	cfg := Config{Dir: dir, Settle: 1000 * 3600e9}
	for _, fn := range change {
		fn(&cfg)
	}
	return Rebuild(context.Background(), cfg, opts, nil)
}

// wantNothingLost fails a test over a report that names a loss.
func wantNothingLost(t testing.TB, r RebuildReport) {
	t.Helper()
	if len(r.Lost) > 0 || r.LostMore > 0 || r.Found > 0 {
		t.Errorf("lost: %q, %d found", r.Lost, r.Found)
	}
}

// lived makes a tree with much of a past: what a model does to it, files saved over each other, captured versions, removed directories. The first
// checkpoint is made in the middle of it.
func lived(t testing.TB, dir string, seed uint64, change ...func(*Config)) *model {
	t.Helper()
	m := newModel(seed)
	m.tree = testTree(t, dir, append([]func(*Config){byHand}, change...)...)
	m.find(t)
	m.run(t, 0, 250)
	rest := func() {
		for _, h := range m.handles {
			h.h.Close()
		}
		m.forgetHandles()
		comeToRest(t, m.tree)
		check(t, m.tree.closeEpoch())
		capture(t, m.tree)
	}
	rest()
	check(t, m.tree.db.Checkpoint())
	m.tree.checkpoint.room = func() int64 { return 1 << 40 }
	export(t, m.tree)
	for i := range 5 {
		m.run(t, 250+50*i, 300+50*i)
		check(t, m.tree.closeEpoch())
		if i%2 == 0 {
			check(t, m.tree.db.Checkpoint())
			rest()
		}
	}
	return m
}

func removeMeta(t testing.TB, dir string)    { check(t, os.Remove(filepath.Join(dir, "meta.db"))) }
func removeJournal(t testing.TB, dir string) { check(t, os.RemoveAll(filepath.Join(dir, "journal"))) }

// After an orderly end meta.db, the journal or both are lost: every row with all of its past is there again, every version reads.
func TestRebuildAfterAnOrderlyEnd(t *testing.T) {
	t.Parallel()
	for seed, lose := range []func(testing.TB, string){removeMeta, func(t testing.TB, dir string) { removeMeta(t, dir); removeJournal(t, dir) }} {
		dir := t.TempDir()
		m := lived(t, dir, 500+uint64(seed))
		check(t, m.tree.Close())
		tree := testTree(t, dir, byHand, func(c *Config) { c.ReadOnly = true })
		rows, read, names := dump(t, tree), everyVersion(t, tree), outline(t, tree)
		check(t, tree.Close())
		if len(read) < 20 || len(rows) < 100 {
			t.Fatalf("%d versions, %d rows: the test is smaller than it thinks", len(read), len(rows))
		}
		lose(t, dir)
		if _, err := Open(Config{Dir: dir}); sharefs.KindOf(err) != sharefs.KindCorrupt || !strings.Contains(err.Error(), "rebuild") {
			t.Fatalf("a store without meta.db opens: %v", err)
		}
		r := rebuild(t, dir, RebuildOptions{})
		wantNothingLost(t, r)
		if r.Generation != 1 || r.Commits < 100 || r.Journal != 0 || len(r.SetAside) != 0 || r.Marked != 0 {
			t.Errorf("%+v", r)
		}
		tree = testTree(t, dir, byHand, func(c *Config) { c.ReadOnly = true })
		sameRows(t, dump(t, tree), rows)
		if got := outline(t, tree); got != names {
			t.Errorf("another tree:\n%s\nwant\n%s", got, names)
		}
		if got := everyVersion(t, tree); fmt.Sprint(got) != fmt.Sprint(read) {
			t.Errorf("%d versions read otherwise than %d", len(got), len(read))
		}
		check(t, tree.Close())
		// And it is a store as any: it makes its next checkpoint, from which it can be made again.
		tree = testTree(t, dir, byHand)
		noProblems(t, tree)
		tree.checkpoint.room = func() int64 { return 1 << 40 }
		save(t, tree, "later", "later")
		check(t, tree.db.Sync())
		last := tree.db.Synced()
		check(t, tree.checkpoint.turn())
		if s := tree.CheckpointStats(); s.Generation != 2 || s.Broken || s.Archived < last {
			t.Errorf("%+v, want %d", s, last)
		}
		save(t, tree, "later still", "later still")
		check(t, tree.Close())
		lose(t, dir)
		wantNothingLost(t, rebuild(t, dir, RebuildOptions{}))
		tree = testTree(t, dir, byHand)
		for _, name := range []string{"later", "later still"} {
			if got := readVersion(t, tree, names2(t, tree)[name], 1); got != name {
				t.Errorf("%s holds %q", name, got)
			}
		}
		check(t, tree.Close())
	}
}

func names2(t testing.TB, tree *Tree) map[string]sharefs.Ino { return names(t, tree, sharefs.RootIno) }

// The daemon is killed, and meta.db is lost: nothing that was acknowledged is, for the journal is there.
func TestRebuildAfterAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := lived(t, dir, 510)
	check(t, m.tree.db.Checkpoint()) // of what the archive has not yet
	m.run(t, 500, 550)
	check(t, m.tree.db.Sync())
	lost := killed(t, m.tree)
	whole := storeAsKilled(t, lost)
	removeMeta(t, lost)
	r := rebuild(t, lost, RebuildOptions{})
	if len(r.Lost) > 0 || r.Journal == 0 {
		t.Errorf("%+v", r)
	}
	m.forgetHandles()
	m.tree = testTree(t, lost, byHand)
	m.find(t)
	m.compare(t)
	comeToRest(t, m.tree)
	noProblems(t, m.tree)
	check(t, m.tree.Close())

	// A store that is whole is left alone, and with force comes out the same.
	if _, err := tryRebuild(whole, RebuildOptions{}); sharefs.KindOf(err) != sharefs.KindExist {
		t.Errorf("a whole store: %v", err)
	}
	r = rebuild(t, whole, RebuildOptions{Force: true})
	if len(r.SetAside) != 1 || len(r.Lost) > 0 {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(r.SetAside[0]); err != nil {
		t.Error(err)
	}
	m.tree = testTree(t, whole, byHand)
	m.find(t)
	m.compare(t)
	check(t, m.tree.Close())
}

// Both are lost after a kill: the tree is as it was when the archive was last written, and what live files hold is not older than it was.
func TestRebuildFromTheArchiveAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := lived(t, dir, 520)
	check(t, m.tree.checkpoint.flush())
	want := m.outline()
	old := save(t, m.tree, "written before", "one")
	check(t, m.tree.checkpoint.flush())
	rewrite(t, m.tree, old, "and rewritten after the archive")
	settle(t, m.tree, old)
	gone := save(t, m.tree, "made after", "the archive")
	lost := killed(t, m.tree)
	removeMeta(t, lost)
	removeJournal(t, lost)
	r := rebuild(t, lost, RebuildOptions{})
	if len(r.Lost) > 0 || r.Found != 1 || r.Marked == 0 {
		t.Errorf("%+v", r)
	}
	tree := testTree(t, lost, byHand)
	comeToRest(t, tree)
	capture(t, tree)
	noProblems(t, tree)
	var lines []string
	for _, line := range strings.Split(outline(t, tree), "\n") {
		if !strings.Contains(line, "lost+found") && !strings.Contains(line, "written before") {
			lines = append(lines, line)
		}
	}
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("another tree:\n%s\nwant\n%s", got, want)
	}
	list := must[[]sharefs.Version](t)(tree.Versions(old))
	if got := readVersion(t, tree, old, list[len(list)-1].Number); got != "and rewritten after the archive" && readVersion(t, tree, old, list[0].Number) != "and rewritten after the archive" {
		t.Errorf("%q, %+v", got, list)
	}
	found := names(t, tree, names2(t, tree)[lostAndFound])
	if len(found) != 1 || found[fmt.Sprintf("#%d", uint64(gone))] != gone {
		t.Errorf("found: %v", found)
	}
	if got := readVersion(t, tree, gone, 1); got != "the archive" {
		t.Errorf("what was found holds %q", got)
	}
}

// The journal alone is lost: a start sees what it lacks, and a rebuild brings it back.
func TestLostJournalIsNoticed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := lived(t, dir, 530)
	m.run(t, 500, 520) // of which meta.db knows nothing
	check(t, m.tree.checkpoint.flush())
	want := m.outline()
	lost := killed(t, m.tree)
	check(t, os.RemoveAll(filepath.Join(lost, "journal")))
	check(t, os.Mkdir(filepath.Join(lost, "journal"), 0o700))
	if _, err := Open(Config{Dir: lost}); sharefs.KindOf(err) != sharefs.KindCorrupt || !strings.Contains(err.Error(), "rebuild") {
		t.Fatalf("it opens: %v", err)
	}
	wantNothingLost(t, rebuild(t, lost, RebuildOptions{}))
	tree := testTree(t, lost, byHand)
	if got := outline(t, tree); got != want {
		t.Errorf("another tree:\n%s\nwant\n%s", got, want)
	}
}

// Without a checkpoint there is nothing to go by but the live files, and that only on demand.
func TestRebuildBare(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	for i := range 10 {
		save(t, tree, fmt.Sprint(i), fmt.Sprint("content ", i))
	}
	check(t, tree.Close())
	removeMeta(t, dir)
	check(t, os.RemoveAll(filepath.Join(dir, "checkpoints")))
	if _, err := tryRebuild(dir, RebuildOptions{}); sharefs.KindOf(err) != sharefs.KindNotExist {
		t.Fatalf("without a checkpoint: %v", err)
	}
	r := rebuild(t, dir, RebuildOptions{Bare: true})
	if r.Found != 10 || len(r.Lost) != 1 {
		t.Errorf("%+v", r)
	}
	tree = testTree(t, dir, byHand)
	comeToRest(t, tree)
	capture(t, tree)
	noProblems(t, tree)
	var got []string
	for _, ino := range names(t, tree, names2(t, tree)[lostAndFound]) {
		got = append(got, readVersion(t, tree, ino, 1))
	}
	slices.Sort(got)
	if len(got) != 10 || got[3] != "content 3" {
		t.Errorf("%q", got)
	}
}

// A rebuild that is interrupted anywhere can be made again, and a mount that comes between loses nothing.
func TestRebuildInterrupted(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	dir := t.TempDir()
	m := lived(t, dir, 540)
	check(t, m.tree.Close())
	tree := testTree(t, dir, byHand, func(c *Config) { c.ReadOnly = true })
	rows := dump(t, tree)
	check(t, tree.Close())
	removeMeta(t, dir)
	stop := errors.New("stop")
	var seen []string
	count := func(dir string, at int) error {
		n := 0
		b := &rebuilder{ctx: context.Background(), cfg: Config{Dir: dir, Settle: 1000 * 3600e9, Clock: new(sharefs.Clock)}, tell: func(Progress) {}}
		b.failpoint = func(name string) error {
			if at < 0 && !slices.Contains(seen, name) {
				seen = append(seen, name)
			}
			if n++; n == at {
				return stop
			}
			return nil
		}
		err := b.run()
		if at < 0 {
			check(t, err)
			return nil
		}
		return err
	}
	check(t, count(storeAsKilled(t, dir), -1))
	if len(seen) < 7 {
		t.Fatalf("stages: %q", seen)
	}
	for at := 1; ; at += 1 + at/6 {
		to := storeAsKilled(t, dir)
		err := count(to, at)
		if err == nil {
			break
		}
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		tree, err := Open(Config{Dir: to, byHand: true, Settle: 1000 * 3600e9})
		if err != nil { // meta.db is not in its place yet
			if !strings.Contains(err.Error(), "rebuild") {
				t.Fatal(err)
			}
			wantNothingLost(t, rebuild(t, to, RebuildOptions{}))
			tree = testTree(t, to, byHand)
		}
		noProblems(t, tree)
		sameRows(t, dump(t, tree), rows)
		check(t, tree.Close())
		if t.Failed() {
			t.Fatalf("interrupted at %d", at)
		}
	}
}

// Garbage collections remove, rewrite and punch packs before and after the checkpoint: a rebuilt tree has every version that was kept, takes nothing for a
// chunk whose bytes are gone, and its next collection finds all the garbage that there is.
func TestRebuildAfterGarbageCollections(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	dir := t.TempDir()
	small := func(c *Config) { c.packSize = 200_000 }
	m := newGCModel(t, testTree(t, dir, byHand, small), 640)
	m.tree.checkpoint.room = func() int64 { return 1 << 40 }
	for i := range 4 {
		m.mix()
		m.fill(20)
		m.thin(3)
		if i == 1 {
			check(t, m.tree.db.Checkpoint())
			export(t, m.tree)
		}
		collect(t, m.tree, smallGC)
	}
	m.fill(10)
	check(t, m.tree.checkpoint.flush())
	lost := killed(t, m.tree)
	removeMeta(t, lost)
	removeJournal(t, lost)
	r := rebuild(t, lost, RebuildOptions{}, small)
	wantNothingLost(t, r)
	m.tree = testTree(t, lost, byHand, small)
	m.verify()
	m.fill(40) // of which some held what was collected
	m.verify()
	collect(t, m.tree, smallGC)
	m.verify()
	noGarbage(t, m.tree)
}
