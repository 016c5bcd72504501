package versions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/pack"
	"sharefs/versions/pack/memdisk"
)

// blob is content that does not compress, of which two seeds have nothing in common.
func blob(seed uint64, size int) string {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 7})
	b := make([]byte, size)
	r.Read(b)
	return string(b)
}

// library is a store with a past, and what each of its versions holds.
type library struct {
	dir   string
	packs *memdisk.Disk
	want  map[VersionRef]string // by inode and number
	live  map[sharefs.Ino]string
}

const smallPack = 400_000

func (l *library) config(c *Config) {
	byHand(c)
	c.Packs, c.packSize = l.packs, smallPack
}

// makeLibrary saves files of all sizes several times, removes some and replaces others, and closes the store.
func makeLibrary(t testing.TB) *library {
	t.Helper()
	l := &library{dir: t.TempDir(), packs: memdisk.New(), want: map[VersionRef]string{}, live: map[sharefs.Ino]string{}}
	tree := testTree(t, l.dir, l.config)
	long := blob(1, 3<<20) // its manifest has nodes
	for round := range uint64(3) {
		for i := range uint64(12) {
			save(t, tree, fmt.Sprint("f", i), blob(100+round*20+i, int(200+i*i*700)))
		}
		copied := []byte(long)
		copy(copied[round<<18:], blob(5+round, 1000))
		save(t, tree, "long", string(copied))
		save(t, tree, fmt.Sprint("once", round), "a small content that compresses, a small content that compresses "+fmt.Sprint(round))
		capture(t, tree)
	}
	check(t, tree.Unlink(sharefs.RootIno, "f3"))
	check(t, tree.Unlink(sharefs.RootIno, "once1"))
	saves["sed -i"](t, tree, "f4", blob(990, 5000))
	settle(t, tree, lookup(t, tree, sharefs.RootIno, "f4").Ino)
	capture(t, tree)
	check(t, tree.reap())
	check(t, tree.db.Scan(spaceVersion, nil, nil, func(key, value []byte) bool {
		v := must[*version](t)(decodeVersion(key, value))
		rd := newKeptReader(&tree.past, v)
		b := must[[]byte](t)(io.ReadAll(io.NewSectionReader(rd, 0, rd.Size())))
		check(t, rd.Close())
		l.want[VersionRef{Ino: v.ino, Number: tree.past.baseOf(v.ino) + v.own}] = string(b)
		return true
	}))
	for _, ino := range names(t, tree, sharefs.RootIno) {
		l.live[ino] = string(must[[]byte](t)(os.ReadFile(liveFile(tree, ino))))
	}
	check(t, tree.Close())
	return l
}

// copy returns another store that holds the same.
func (l *library) copy(t testing.TB) *library {
	t.Helper()
	c := *l
	c.dir = storeAsKilled(t, l.dir)
	c.packs = memdisk.New()
	for _, name := range l.packs.Names() {
		c.packs.Put(name, l.packs.Data(name))
	}
	return &c
}

// unreadable reads every version and returns those that do not read; one that reads otherwise than it was written ends the test.
func (l *library) unreadable(t testing.TB, tree *Tree) (bad []VersionRef) {
	t.Helper()
	for ref, want := range l.want {
		v, _ := loadVersion(tree.db, ref.Ino, ref.Number-tree.past.baseOf(ref.Ino))
		rd := newKeptReader(&tree.past, v)
		b, err := io.ReadAll(io.NewSectionReader(rd, 0, rd.Size()))
		rd.Close()
		switch {
		case err != nil && sharefs.KindOf(err) != sharefs.KindCorrupt:
			t.Fatalf("version %d of inode %d: %v", ref.Number, ref.Ino, err)
		case err != nil:
			bad = append(bad, ref)
			if !strings.Contains(err.Error(), "sharefs fsck") {
				t.Fatalf("the error does not say what to do: %v", err)
			}
		case string(b) != want:
			t.Fatalf("version %d of inode %d reads, and is not what was written", ref.Number, ref.Ino)
		}
	}
	sortRefs(bad)
	return bad
}

func sortRefs(list []VersionRef) {
	slices.SortFunc(list, func(a, b VersionRef) int {
		if a.Ino != b.Ino {
			return int(a.Ino) - int(b.Ino)
		}
		return int(a.Number) - int(b.Number)
	})
}

// concerned returns the versions that findings of a severity name.
func concerned(r FsckReport, severity Severity) (list []VersionRef) {
	seen := map[VersionRef]bool{}
	for _, f := range r.Findings {
		if f.Severity != severity {
			continue
		}
		for _, v := range f.Versions {
			if v.Path = ""; !seen[v] {
				seen[v] = true
				list = append(list, v)
			}
		}
	}
	sortRefs(list)
	return list
}

func fsckNow(t testing.TB, tree *Tree, mode FsckMode, repair bool) FsckReport {
	t.Helper()
	r, err := tree.Fsck(context.Background(), FsckOptions{Mode: mode, Repair: repair}, nil)
	check(t, err)
	return r
}

// wantClean fails a test where a check finds more than notes.
func wantClean(t testing.TB, tree *Tree, mode FsckMode) FsckReport {
	t.Helper()
	r := fsckNow(t, tree, mode, false)
	if r.Outcome != OutcomeClean {
		t.Fatalf("%s", r.Text())
	}
	return r
}

func TestFsckOfAWholeStore(t *testing.T) {
	t.Parallel()
	l := makeLibrary(t)
	tree := testTree(t, l.dir, l.config)
	r := wantClean(t, tree, FsckScrub)
	if len(r.Findings) > 0 || r.Packs < 5 || r.Read != r.Bytes || r.Versions != uint64(len(l.want)) || r.Chunks < 60 || r.Inodes < 15 || r.Names < 14 {
		t.Errorf("%+v", r)
	}
	if text := r.Text(); !strings.HasPrefix(text, "all is well: ") {
		t.Error(text)
	}
	repaired := fsckNow(t, tree, FsckScrub, true)
	if repaired.Outcome != OutcomeClean || repaired.Healed+repaired.Lost > 0 {
		t.Errorf("%+v", repaired)
	}
	if _, err := tree.Fsck(context.Background(), FsckOptions{Mode: "deep"}, nil); sharefs.KindOf(err) != sharefs.KindInvalid {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := tree.Fsck(ctx, FsckOptions{}, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	check(t, tree.Close())
	ro := testTree(t, l.dir, l.config, func(c *Config) { c.ReadOnly = true })
	wantClean(t, ro, FsckScrub)
	if _, err := ro.Fsck(context.Background(), FsckOptions{Repair: true}, nil); sharefs.KindOf(err) != sharefs.KindReadOnly {
		t.Error(err)
	}
}

// Random bytes of packs are changed: every version reads rightly or says that it does not; the findings of a scrub are exactly those; a repair brings back
// all that a live file has, and nothing is found afterwards but what is marked as lost.
func TestRandomDamage(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	whole := makeLibrary(t)
	seeds := uint64(3)
	if os.Getenv("SHAREFS_SOAK") != "" {
		seeds = 100
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 4))
		l := whole.copy(t)
		files := l.packs.Names()
		for range 1 + r.IntN(12) {
			data := l.packs.Data(files[r.IntN(len(files))])
			data[r.IntN(len(data))] ^= 1 << r.IntN(8)
		}
		tree := testTree(t, l.dir, l.config)
		bad := l.unreadable(t, tree)
		report := fsckNow(t, tree, FsckScrub, false)
		if got := concerned(report, SeverityDamage); !slices.Equal(got, bad) {
			t.Fatalf("seed %d: %v do not read, %v are found:\n%s", seed, bad, got, report.Text())
		}
		report = fsckNow(t, tree, FsckScrub, true)
		if got := concerned(report, SeverityDamage); !slices.Equal(got, bad) {
			t.Fatalf("seed %d: %v do not read, %v are dealt with:\n%s", seed, bad, got, report.Text())
		}
		left := l.unreadable(t, tree)
		for _, ref := range left {
			if l.live[ref.Ino] == l.want[ref] {
				t.Fatalf("seed %d: version %d of inode %d is live, and not healed:\n%s", seed, ref.Number, ref.Ino, report.Text())
			}
			if !slices.Contains(bad, ref) {
				t.Fatalf("seed %d: the repair spoilt version %d of inode %d", seed, ref.Number, ref.Ino)
			}
		}
		if want := report.Lost > 0; want != (len(left) > 0) || want != (report.Outcome == OutcomeDamage) {
			t.Fatalf("seed %d: %d versions are lost: %s", seed, len(left), report.Text())
		}
		again := wantClean(t, tree, FsckScrub)
		if got := concerned(again, SeverityNote); !slices.Equal(got, left) {
			t.Fatalf("seed %d: %v are lost, %v are told of:\n%s", seed, left, got, again.Text())
		}
		wantClean(t, tree, FsckFast)
		if gc, err := tree.GC(context.Background(), GCOptions{Hurry: true}, nil); err != nil || len(gc.Left) > 0 && gc.ChunksRemoved == 0 && strings.Contains(gc.Text(), "cannot be told") {
			t.Fatalf("seed %d: a collection of garbage after the repair: %v %s", seed, err, gc.Text())
		}
		if after := l.unreadable(t, tree); !slices.Equal(after, left) {
			t.Fatalf("seed %d: %v were lost, and after a collection of garbage %v", seed, left, after)
		}
		check(t, tree.Close())
	}
}

// spoilVersion damages every record that the newest version of a file leads to.
func spoilVersion(t testing.TB, l *library, tree *Tree, name string) (ino sharefs.Ino) {
	t.Helper()
	ino = lookup(t, tree, sharefs.RootIno, name).Ino
	v := must[*version](t)(newestVersion(tree.db, ino, noLimit))
	for _, s := range v.top.spans {
		row, ok, err := tree.db.Get(spaceChunk, s.id[:])
		if !ok {
			t.Fatal(err)
		}
		loc := must[pack.Loc](t)(pack.ParseLoc(row))
		file := tree.past.packs.Where(loc.Pack)
		l.packs.Data(file)[loc.Off+70] ^= 1
	}
	return ino
}

// What is lost reads again as soon as the same content is captured once more, and a source that has it heals it as well.
func TestWhatIsLostComesBack(t *testing.T) {
	t.Parallel()
	l := makeLibrary(t)
	tree := testTree(t, l.dir, l.config)
	ino := spoilVersion(t, l, tree, "f7")
	old := readVersion(t, tree, ino, 2)
	lost := l.live[ino]
	rewrite(t, tree, ino, "something else")
	settle(t, tree, ino)
	capture(t, tree)
	report := fsckNow(t, tree, FsckScrub, true)
	if report.Lost == 0 || report.Outcome != OutcomeDamage || len(report.Findings) == 0 || !slices.Contains(report.Findings[0].Paths, "/f7") {
		t.Fatalf("%s", report.Text())
	}
	if all := must[[]sharefs.Version](t)(tree.Versions(ino)); !all[2].Damaged || all[1].Damaged {
		t.Errorf("%+v", all)
	}
	if got := readVersion(t, tree, ino, 2); got != old {
		t.Error("a version beside the lost one reads otherwise")
	}
	// The same bytes in another file.
	save(t, tree, "same", lost)
	capture(t, tree)
	if got := readVersion(t, tree, ino, 3); got != lost {
		t.Error("it does not read")
	}
	fsckNow(t, tree, FsckScrub, true)
	if all := must[[]sharefs.Version](t)(tree.Versions(ino)); all[2].Damaged {
		t.Error("the mark stays")
	}
	wantClean(t, tree, FsckScrub)

	spoilVersion(t, l, tree, "same")
	rewrite(t, tree, lookup(t, tree, sharefs.RootIno, "same").Ino, "x")
	tree.chunkSources = append(tree.chunkSources, func(id sharefs.ChunkID) ([]byte, error) { return []byte("nonsense"), nil },
		func(id sharefs.ChunkID) ([]byte, error) {
			var found []byte
			err := (&fsck{t: tree, ctx: context.Background()}).recut(sourceFile(t, tree, lost), tree.past.newTools(), func(got sharefs.ChunkID, data []byte) error {
				if got == id {
					found = []byte(string(data))
				}
				return nil
			}, func() bool { return false })
			return found, err
		})
	report = fsckNow(t, tree, FsckScrub, true)
	if report.Outcome != OutcomeRepaired || report.Healed == 0 || !strings.Contains(report.Text(), "another source") {
		t.Fatalf("%s", report.Text())
	}
	if got := readVersion(t, tree, ino, 3); got != lost {
		t.Error("it does not read")
	}
}

// sourceFile makes a file of which no version is ever taken.
func sourceFile(t testing.TB, tree *Tree, content string) sharefs.Ino {
	t.Helper()
	a, h, err := tree.Tmpfile(sharefs.RootIno, unix.O_RDWR, 0o600, root)
	check(t, err)
	writeAll(t, h, content)
	t.Cleanup(func() { h.Close() })
	return a.Ino
}

func TestMissingAndCutPacks(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	whole := makeLibrary(t)
	var sealed []string
	for _, name := range whole.packs.Names() {
		if !strings.HasPrefix(name, "open/") {
			sealed = append(sealed, name)
		}
	}
	if os.Getenv("SHAREFS_SOAK") == "" {
		sealed = sealed[:min(6, len(sealed))] // removed, halved and cut by two thirds, each looked for in both ways
	}
	for n, name := range sealed {
		mode := []FsckMode{FsckFast, FsckScrub}[n%2]
		l := whole.copy(t)
		if n%3 == 0 {
			check(t, l.packs.Remove(name))
		} else {
			data := slices.Clone(l.packs.Data(name))
			l.packs.Put(name, data[:len(data)/(1+n%3)])
		}
		tree := testTree(t, l.dir, l.config)
		bad := l.unreadable(t, tree)
		report := fsckNow(t, tree, mode, false)
		if got := concerned(report, SeverityDamage); !slices.Equal(got, bad) || len(bad) == 0 {
			t.Fatalf("%s: %v do not read, %v are found:\n%s", mode, bad, got, report.Text())
		}
		if f := report.Findings[0]; f.Where != "packs/"+name || len(f.Paths) == 0 {
			t.Errorf("%+v", f)
		}
		repaired := fsckNow(t, tree, mode, true)
		wantClean(t, tree, FsckScrub)
		left := l.unreadable(t, tree)
		for _, ref := range left {
			if l.live[ref.Ino] == l.want[ref] {
				t.Errorf("version %d of inode %d is live, and not healed: %s", ref.Number, ref.Ino, repaired.Text())
			}
		}
		check(t, tree.Close())
	}
}

func TestATornTailIsANote(t *testing.T) {
	t.Parallel()
	l := makeLibrary(t)
	for _, name := range l.packs.Names() {
		if strings.HasPrefix(name, "open/") {
			l.packs.Put(name, append(slices.Clone(l.packs.Data(name)), "Rc and what a crash left"...))
		}
	}
	tree := testTree(t, l.dir, l.config)
	for _, mode := range []FsckMode{FsckFast, FsckScrub} {
		wantClean(t, tree, mode)
	}
	if r := fsckNow(t, tree, FsckScrub, false); len(r.Findings) != 1 || r.Findings[0].Kind != FoundTail {
		t.Errorf("%s", r.Text())
	}
	save(t, tree, "more", blob(77, 1000))
	capture(t, tree)
	if r := fsckNow(t, tree, FsckScrub, false); len(r.Findings) != 0 || len(l.unreadable(t, tree)) > 0 {
		t.Errorf("%s", r.Text())
	}
}

// Backing files that are missing or cut are made anew from the newest version, if that is kept; others are told of.
func TestBackingFilesAreMadeAnew(t *testing.T) {
	t.Parallel()
	l := makeLibrary(t)
	tree := testTree(t, l.dir, l.config)
	gone, cut := lookup(t, tree, sharefs.RootIno, "f5"), lookup(t, tree, sharefs.RootIno, "f6")
	fresh := save(t, tree, "fresh", "not captured")
	check(t, os.Remove(liveFile(tree, gone.Ino)))
	check(t, os.Truncate(liveFile(tree, cut.Ino), 10))
	check(t, os.Remove(liveFile(tree, fresh)))
	check(t, os.Remove(liveFile(tree, lookup(t, tree, sharefs.RootIno, "once2").Ino)))
	check(t, os.WriteFile(filepath.Join(l.dir, "live", "00", "notes"), []byte("?"), 0o600))
	report := fsckNow(t, tree, FsckFast, true)
	if report.Outcome != OutcomeDamage {
		t.Errorf("%s", report.Text())
	}
	for _, a := range []sharefs.Attr{gone, cut} {
		if got := content(t, tree, a.Ino); got != l.live[a.Ino] {
			t.Errorf("inode %d holds %d bytes", a.Ino, len(got))
		}
		if now := must[sharefs.Attr](t)(tree.Getattr(a.Ino)); now.Size != a.Size || now.Mtime != a.Mtime {
			t.Errorf("%+v, before %+v", now, a)
		}
	}
	kept := must[[]string](t)(filepath.Glob(filepath.Join(l.dir, quarantineDir, "live-*")))
	if len(kept) != 1 {
		t.Errorf("%v are kept", kept)
	}
	var left []string
	for _, f := range report.Findings {
		if f.Severity != SeverityNote && !f.Repaired {
			left = append(left, f.Paths...)
		}
	}
	slices.Sort(left)
	if left = slices.Compact(left); !slices.Equal(left, []string{"/fresh"}) {
		t.Errorf("%v are left: %s", left, report.Text())
	}
	if _, err := os.Stat(filepath.Join(l.dir, "live", "00", "notes")); err != nil {
		t.Error("fsck removed a file that is none of its business")
	}
}

func TestFilesThatAreNotTheStores(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	ino := save(t, tree, "f", "one")
	capture(t, tree)
	for _, name := range []string{"aside/nonsense", "journal/x", "packs/y", "z", "share.toml", "aside/" + asideName(77, 3), "aside/" + asideName(ino, 1)} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte("left"), 0o600))
	}
	r, err := tree.Fsck(context.Background(), FsckOptions{Files: []string{"share.toml"}, Repair: true}, nil)
	check(t, err)
	var got []string
	for _, f := range r.Findings {
		got = append(got, f.Where)
		if f.Severity != SeverityNote {
			t.Errorf("%+v", f)
		}
		if _, err := os.Stat(filepath.Join(dir, f.Where)); err != nil {
			t.Error(err)
		}
	}
	slices.Sort(got)
	want := []string{"aside/" + asideName(77, 3), "aside/" + asideName(ino, 1), "aside/nonsense", "journal/x", "packs/y", "z"}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What is set aside and gone, and what it leads to.
func TestMissingAsideFile(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	ino := save(t, tree, "f", "one")
	h := must[*Handle](t)(tree.Open(ino, unix.O_WRONLY|unix.O_TRUNC, root))
	defer h.Close()
	wantClean(t, tree, FsckFast)
	check(t, os.Truncate(filepath.Join(dir, "aside", asideName(ino, 1)), 1))
	r := fsckNow(t, tree, FsckFast, false)
	if r.Outcome != OutcomeDamage || len(r.Findings) != 1 || !strings.Contains(r.Text(), "has 1 bytes, and the version 3") || !slices.Equal(r.Findings[0].Paths, []string{"/f"}) {
		t.Errorf("%s", r.Text())
	}
	check(t, os.Remove(filepath.Join(dir, "aside", asideName(ino, 1))))
	if r = fsckNow(t, tree, FsckFast, false); r.Outcome != OutcomeDamage || !strings.Contains(r.Text(), "set aside in is missing") {
		t.Errorf("%s", r.Text())
	}
}
