package versions

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/kv"
	"sharefs/versions/pack"
	"sharefs/versions/pack/memdisk"
)

// The formats of records, byte for byte.
func TestCheckpointFormat(t *testing.T) {
	changes := appendChange(nil, 7, 7, 0x0102, []byte("rows"))
	changes = appendChange(changes, 7, 8, 0, nil)
	id := recordID{recordChanges, 7, 8, 0x0a}.id()
	for _, c := range []struct {
		what string
		got  []byte
		want string
	}{
		{"id", id[:], "04 00000000000000 0000000000000007 0000000000000008 000000000000000a"},
		{"begin", encodeBegin(kv.Mark{Applied: 1, Epoch: 2, Boundary: 3}), "01 0000000000000001 0000000000000002 0000000000000003"},
		{"part", appendPart(nil, kv.Part{Space: 3, Past: true, Rows: []byte("rows")}), "01 03 01 726f7773"},
		{"end", exportEnd{parts: 1, rows: 2, through: 3}.encode(), "01 0000000000000001 0000000000000002 0000000000000003"},
		{"changes", changes, "01  00 0000000000000102 04 726f7773  01 0000000000000000 00"},
	} {
		if got, want := hex.EncodeToString(c.got), strings.ReplaceAll(c.want, " ", ""); got != want {
			t.Errorf("%s: %s, want %s", c.what, got, want)
		}
	}
	if r, ok := parseRecordID(id); !ok || r.kind != recordChanges || r.a != 7 || r.b != 8 || r.at != 0x0a {
		t.Errorf("%+v %t", r, ok)
	}
	n := 0
	check(t, decodeChanges(changes, recordID{recordChanges, 7, 8, 0}, func(seq uint64, stamp sharefs.HLC, rows []byte) error {
		n++
		return nil
	}))
	if n != 2 {
		t.Errorf("%d changes", n)
	}
	for _, b := range [][]byte{nil, {1}, changes[:len(changes)-1], append(changes[:len(changes):len(changes)], 0), {9}} {
		if err := decodeChanges(b, recordID{recordChanges, 7, 8, 0}, func(uint64, sharefs.HLC, []byte) error { return nil }); err == nil {
			t.Errorf("%x is taken for changes", b)
		}
	}
}

func FuzzCheckpointRecords(f *testing.F) {
	f.Add(encodeBegin(kv.Mark{Applied: 1, Epoch: 2, Boundary: 3}))
	f.Add(exportEnd{parts: 1, rows: 2, through: 3}.encode())
	f.Add(appendPart(nil, kv.Part{Space: 3, Past: true, Rows: []byte("rows")}))
	f.Add(appendChange(appendChange(nil, 7, 7, 1, []byte("rows")), 7, 8, 0, nil))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeBegin(b); err == nil && string(encodeBegin(m)) != string(b) {
			t.Error("begin")
		}
		if e, err := decodeEnd(b); err == nil && string(e.encode()) != string(b) {
			t.Error("end")
		}
		if p, err := decodePart(b); err == nil && string(appendPart(nil, p)) != string(b) {
			t.Error("part")
		}
		seq := uint64(7)
		err := decodeChanges(b, recordID{recordChanges, 7, 9, 0}, func(s uint64, _ sharefs.HLC, rows []byte) error {
			if s != seq || len(rows) > len(b) {
				t.Error("changes")
			}
			seq++
			return nil
		})
		if err == nil && seq != 10 {
			t.Error("changes are missing")
		}
		var id sharefs.ChunkID
		copy(id[:], b)
		parseRecordID(id)
	})
}

// A mount makes its first checkpoint by itself, whether its store is new or was made before there were any, and keeps up with what changes.
func TestCheckpointsByThemselves(t *testing.T) {
	dir := t.TempDir()
	quick := func(c *Config) { c.ArchiveDelay, c.MaxDelay = 20*time.Millisecond, 10*time.Millisecond }
	for _, older := range []bool{false, true} {
		if older {
			check(t, os.RemoveAll(filepath.Join(dir, "checkpoints")))
		}
		tree := testTree(t, dir, quick)
		for i := range 20 {
			create(t, tree, sharefs.RootIno, fmt.Sprint(older, i), "content")
		}
		eventually(t, "a checkpoint that has all", func() bool {
			s := tree.CheckpointStats()
			return s.Generation == 1 && !s.Broken && s.LagCommits == 0 && s.Archived >= tree.lastSeq.Load() && s.LastError == ""
		})
		check(t, tree.Close())
	}
	tree := testTree(t, dir)
	want := outline(t, tree)
	check(t, tree.Close())
	removeMeta(t, dir)
	wantNothingLost(t, rebuild(t, dir, RebuildOptions{}))
	if got := outline(t, testTree(t, dir)); got != want {
		t.Errorf("another tree:\n%s\nwant\n%s", got, want)
	}
}

// A tree in which nothing changes does not look for work, and finds it again when there is some.
func TestRest(t *testing.T) {
	tree := testTree(t, t.TempDir(), func(c *Config) {
		c.ArchiveDelay, c.MaxDelay, c.unmarkDelay = time.Millisecond, time.Millisecond, time.Millisecond
	})
	looks := func() [2]uint64 { return [2]uint64{tree.checkpoint.turns.Load(), tree.unmarked.Load()} }
	for i := range 3 {
		create(t, tree, sharefs.RootIno, fmt.Sprint(i), "content")
		eventually(t, "all is copied and no file is marked", func() bool {
			s := tree.CheckpointStats()
			return s.LagCommits == 0 && s.Archived >= tree.lastSeq.Load() && tree.marked.Load() == 0
		})
		eventually(t, "nobody looks for more", func() bool {
			before := looks()
			time.Sleep(300 * time.Millisecond)
			return looks() == before
		})
	}
}

// checkpointDisks are disks that fail.
type checkpointDisks struct{ rows, changes *memdisk.Disk }

func newCheckpointDisks() *checkpointDisks { return &checkpointDisks{memdisk.New(), memdisk.New()} }

func (d *checkpointDisks) use(c *Config) {
	c.Checkpoints = func(part string) (pack.FS, error) {
		if part == "rows" {
			return d.rows, nil
		}
		return d.changes, nil
	}
}

func (d *checkpointDisks) powerLoss(r *rand.Rand) *checkpointDisks {
	return &checkpointDisks{d.rows.PowerLoss(r), d.changes.PowerLoss(r)}
}

// workCheckpoint runs a model of names alone, with archives and exports between, and tells of each step that was archived. Fail is told of what goes
// wrong with the checkpoint.
func workCheckpoint(t testing.TB, m *model, steps int, archived func(), fail func(error)) {
	t.Helper()
	c := &m.tree.checkpoint
	c.room = func() int64 { return 1 << 40 }
	r := rand.New(rand.NewPCG(m.seed, 8))
	for i := range steps {
		m.run(t, 10*i, 10*i+10)
		if i%3 == 0 {
			check(t, m.tree.closeEpoch())
		}
		if i%5 == 1 {
			check(t, m.tree.db.Checkpoint())
		}
		c.work.Lock()
		c.after = time.Time{}
		if i%4 == 3 && c.going == nil {
			c.gap = true // have an export made
		}
		c.work.Unlock()
		for range 1 + r.IntN(8) {
			if _, err := c.export(); err != nil {
				fail(err)
			}
		}
		if i%2 == 0 {
			if err := c.flush(); err != nil {
				fail(err)
			} else if c.arc != nil {
				archived()
			}
		}
	}
}

// The power goes at any write or sync of archive and exports, and takes meta.db and the journal with it: there is a tree that was, no older than
// the last that was archived, once there is a checkpoint at all.
func TestPowerLossWhileArchiving(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	const steps = 24
	type moment struct {
		disks *checkpointDisks
		least int // states that were archived before
		whole bool
	}
	var moments []moment
	disks := newCheckpointDisks()
	r := rand.New(rand.NewPCG(11, 11))
	m := newModel(600)
	m.atomic = true
	states := []string{m.outline()}
	m.done = func(int) { states = append(states, m.outline()) }
	least := 0
	var tree *Tree
	before := func() {
		if tree != nil {
			moments = append(moments, moment{disks.powerLoss(r), least, tree.checkpoint.whole.number > 0})
		}
	}
	disks.rows.Before, disks.changes.Before = before, before
	m.tree = testTree(t, t.TempDir(), byHand, disks.use)
	tree = m.tree
	m.find(t)
	workCheckpoint(t, m, steps, func() { least = len(states) - 1 }, func(err error) { t.Fatal(err) })
	if len(moments) < 100 {
		t.Fatalf("only %d moments", len(moments))
	}
	r.Shuffle(len(moments), func(i, j int) { moments[i], moments[j] = moments[j], moments[i] })
	if os.Getenv("SHAREFS_SOAK") == "" {
		moments = moments[:40]
	}
	rebuilt := 0
	for _, at := range moments {
		dir := t.TempDir()
		report, err := tryRebuild(dir, RebuildOptions{}, at.disks.use)
		if sharefs.KindOf(err) == sharefs.KindNotExist && !at.whole {
			continue
		}
		check(t, err)
		wantNothingLost(t, report)
		after := testTree(t, dir, byHand, at.disks.use, func(c *Config) { c.ReadOnly = true })
		got := outline(t, after)
		check(t, after.Close())
		if was := slices.Index(states[at.least:], got); was < 0 {
			t.Fatalf("the tree is none that was since state %d:\n%s", at.least, got)
		}
		rebuilt++
	}
	if rebuilt < 20 {
		t.Errorf("rebuilt %d times only", rebuilt)
	}
}

// Each operation on the checkpoint's disks fails once: the tree goes on, and the checkpoint catches up.
func TestFaultsWhileArchiving(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	run := func(fault int, rows bool, cause error) (ops int) {
		disks := newCheckpointDisks()
		disk := disks.changes
		if rows {
			disk = disks.rows
		}
		dir := t.TempDir()
		m := newModel(610)
		m.atomic = true
		m.tree = testTree(t, dir, byHand, disks.use)
		m.find(t)
		start := disk.Ops()
		disk.Fail(fault, cause)
		failed := 0
		workCheckpoint(t, m, 12, func() {}, func(err error) {
			failed++
			if sharefs.KindOf(err) == sharefs.KindNoSpace != (cause == error(syscall.ENOSPC)) {
				t.Errorf("operation %d: %v", fault, err)
			}
		})
		ops = disk.Ops() - start
		// How many operations there are differs a little from run to run: instants end when they do.
		if fault > 0 && fault <= ops && failed != 1 {
			t.Errorf("a fault in operation %d of %d gave %d errors", fault, ops, failed)
		}
		disk.Fail(0, nil)
		c := &m.tree.checkpoint
		c.work.Lock()
		c.after = time.Time{}
		c.work.Unlock()
		last := m.tree.db.Stats().Seq
		check(t, c.flush())
		check(t, c.turn())
		want := m.outline()
		if s := m.tree.CheckpointStats(); s.Broken || s.Archived < last || s.LastError != "" {
			t.Errorf("operation %d: %+v, want %d", fault, s, last)
		}
		check(t, m.tree.Close())
		removeMeta(t, dir)
		wantNothingLost(t, rebuild(t, dir, RebuildOptions{}, disks.use))
		after := testTree(t, dir, byHand, disks.use, func(c *Config) { c.ReadOnly = true })
		if got := outline(t, after); got != want {
			t.Errorf("operation %d: another tree:\n%s\nwant\n%s", fault, got, want)
		}
		check(t, after.Close())
		return ops
	}
	for _, rows := range []bool{false, true} {
		ops := run(0, rows, nil)
		for n := 1; n < ops-2; n += 2 + n/4 {
			run(n, rows, []error{syscall.EIO, syscall.ENOSPC}[n%2])
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// flipped returns a copy of the disks with one bit of a file changed.
func flipped(d *checkpointDisks, rows bool, name string, at int) *checkpointDisks {
	c := &checkpointDisks{memdisk.New(), memdisk.New()}
	for _, p := range []struct {
		from, to *memdisk.Disk
		hit      bool
	}{{d.rows, c.rows, rows}, {d.changes, c.changes, !rows}} {
		for _, n := range p.from.Names() {
			data := slices.Clone(p.from.Data(n))
			if p.hit && n == name {
				data[at] ^= 0x10
			}
			p.to.Put(n, data)
		}
	}
	return c
}

// A bit is flipped anywhere in a checkpoint: it is noticed where it matters, what is lost is named, and the rest is a tree that fits together.
func TestRebuildOverFlippedBits(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	disks := newCheckpointDisks()
	dir := t.TempDir()
	m := lived(t, dir, 620, disks.use)
	want := m.outline()
	check(t, m.tree.Close())
	removeMeta(t, dir)
	r := rand.New(rand.NewPCG(12, 12))
	named, whole := 0, 0
	rounds := 30
	if os.Getenv("SHAREFS_SOAK") != "" {
		rounds = 1000
	}
	for i := range rounds {
		rows := i%2 == 0
		disk := disks.changes
		if rows {
			disk = disks.rows
		}
		files := slices.DeleteFunc(disk.Names(), func(n string) bool { return len(disk.Data(n)) == 0 })
		name := files[r.IntN(len(files))]
		at := r.IntN(len(disk.Data(name)))
		hurt := flipped(disks, rows, name, at)
		to := storeAsKilled(t, dir)
		report, err := tryRebuild(to, RebuildOptions{}, hurt.use)
		if err != nil { // the export's last record is gone, and with it the export
			if sharefs.KindOf(err) != sharefs.KindNotExist {
				t.Fatalf("%s at %d: %v", name, at, err)
			}
			report, err = tryRebuild(to, RebuildOptions{Bare: true}, hurt.use)
			check(t, err)
		}
		if len(report.Problems) > 0 {
			t.Fatalf("%s at %d: %q\n%s", name, at, report.Problems, report.Text())
		}
		tree := testTree(t, to, byHand, hurt.use)
		comeToRest(t, tree)
		noProblems(t, tree)
		same := outline(t, tree) == want
		if !same && len(report.Lost) == 0 && len(report.Notes) == 0 {
			t.Fatalf("%s at %d: the tree is another one, and nothing is said to be lost:\n%s", name, at, outline(t, tree))
		}
		if same {
			whole++
		}
		if len(report.Lost)+len(report.Notes) > 0 {
			named++
		}
		// It can go on, and its next checkpoint is whole.
		tree.checkpoint.room = func() int64 { return 1 << 40 }
		save(t, tree, "new", "new")
		check(t, tree.checkpoint.turn())
		if s := tree.CheckpointStats(); s.Broken || s.LastError != "" {
			t.Fatalf("%s at %d: %+v", name, at, s)
		}
		check(t, tree.Close())
	}
	if named < rounds/4 {
		t.Errorf("of %d flipped bits %d were named", rounds, named)
	}
	t.Logf("%d flipped bits, %d named, %d trees whole nevertheless", rounds, named, whole)
}

// A part of a checkpoint is lost that says what names lead to now, and not that which says what they led to before: the past ends with what is lost.
func TestRebuildWithoutRowsThatHaveAPast(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	disks := newCheckpointDisks()
	dir := t.TempDir()
	tree := testTree(t, dir, byHand, disks.use)
	for i := range 3 {
		name := fmt.Sprint("name", i)
		save(t, tree, name, "one")
		check(t, tree.closeEpoch())
		save(t, tree, name+".new", "two")
		check(t, tree.closeEpoch())
		check(t, tree.Rename(sharefs.RootIno, name+".new", sharefs.RootIno, name, 0))
		check(t, tree.closeEpoch())
	}
	comeToRest(t, tree)
	capture(t, tree)
	check(t, tree.reapAll())
	check(t, tree.closeEpoch())
	check(t, tree.db.Checkpoint())
	tree.checkpoint.room = func() int64 { return 1 << 40 }
	export(t, tree)
	check(t, tree.Close())
	removeMeta(t, dir)
	lost := 0
	for _, name := range disks.rows.Names() {
		for at := 32; at < len(disks.rows.Data(name)); at += 96 {
			hurt := flipped(disks, true, name, at)
			to := storeAsKilled(t, dir)
			report, err := tryRebuild(to, RebuildOptions{}, hurt.use)
			if sharefs.KindOf(err) == sharefs.KindNotExist {
				continue // the export's last record
			}
			check(t, err)
			if len(report.Problems) > 0 {
				t.Fatalf("%s at %d:\n%s", name, at, report.Text())
			}
			if slices.ContainsFunc(report.Lost, func(s string) bool { return strings.Contains(s, "to the past of dentry") }) {
				lost++
			}
		}
	}
	if lost == 0 {
		t.Error("what names lead to was never lost alone")
	}
}

// Without room the checkpoint gives way and says so; the journal waits, though not without end; with room it catches up.
func TestCheckpointGivesWay(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	c := &tree.checkpoint
	c.room = func() int64 { return 1 << 40 }
	save(t, tree, "one", "1")
	export(t, tree)
	c.room = func() int64 { return 0 }
	save(t, tree, "two", "2")
	wantKind(t, c.flush(), sharefs.KindNoSpace)
	check(t, c.sweep())
	if s := tree.CheckpointStats(); s.LagCommits == 0 || s.LastError == "" || s.Broken {
		t.Errorf("%+v", s)
	}
	check(t, tree.db.Checkpoint())
	if tree.db.Stats().Segments == 0 {
		t.Error("the journal did not wait")
	}
	c.room = func() int64 { return 1 << 40 }
	last := tree.db.Synced()
	check(t, c.turn())
	if s := tree.CheckpointStats(); s.Archived < last || s.Broken || s.Generation != 1 {
		t.Errorf("%+v, want %d", s, last)
	}
	// For too long.
	c.room = func() int64 { return 0 }
	save(t, tree, "three", "3")
	c.work.Lock()
	c.breakChain()
	c.work.Unlock()
	eventually(t, "the journal is let go", func() bool {
		check(t, tree.db.Checkpoint())
		return tree.db.Stats().Segments <= 1 // which others write to
	})
	wantKind(t, c.turn(), sharefs.KindNoSpace)
	if s := tree.CheckpointStats(); !s.Broken {
		t.Errorf("%+v", s)
	}
	c.room = func() int64 { return 1 << 40 }
	c.after = time.Time{}
	check(t, c.turn())
	if s := tree.CheckpointStats(); s.Broken || s.Generation != 2 || s.LastError != "" {
		t.Errorf("%+v", s)
	}
	want := outline(t, tree)
	check(t, tree.Close())
	removeMeta(t, dir)
	wantNothingLost(t, rebuild(t, dir, RebuildOptions{}))
	if got := outline(t, testTree(t, dir, byHand)); got != want {
		t.Errorf("another tree:\n%s\nwant\n%s", got, want)
	}
}

// What Checkpoints lists is all that a store elsewhere needs beside packs, live files and keys. Generations that were replaced are not in it, nor on the disk.
func TestCheckpointsListsWhatARestoreNeeds(t *testing.T) {
	dir := t.TempDir()
	m := lived(t, dir, 630)
	for range 3 {
		export(t, m.tree)
		m.run(t, 600, 620)
	}
	last := m.tree.db.Stats().Seq
	list := must[CheckpointList](t)(m.tree.Checkpoints(true))
	want := m.outline()
	if list.Generation != 4 || list.Archived < last {
		t.Errorf("%+v", list)
	}
	to := t.TempDir()
	for _, f := range list.Files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name))
		check(t, err)
		if int64(len(b)) != f.Size || !f.Sealed {
			t.Errorf("%+v has %d bytes", f, len(b))
		}
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(to, f.Name)), 0o700))
		check(t, os.WriteFile(filepath.Join(to, f.Name), b, 0o600))
	}
	m.tree.orphans.reaping.Lock()
	for _, sub := range []string{"live", "packs", "aside"} {
		copyStore(t, filepath.Join(dir, sub), filepath.Join(to, sub))
	}
	m.tree.orphans.reaping.Unlock()
	wantNothingLost(t, rebuild(t, to, RebuildOptions{}))
	if got := outline(t, testTree(t, to, byHand)); got != want {
		t.Errorf("another tree:\n%s\nwant\n%s", got, want)
	}
	var left int
	check(t, m.tree.checkpoint.rows.Each(func(pack.Info) bool { left++; return true }))
	if left != 1 {
		t.Errorf("%d packs of exports", left)
	}
}
