package versions

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// byHand makes a tree in which nothing happens by itself: files settle and versions are captured when the test says so.
func byHand(c *Config) {
	c.Settle = 1000 * time.Hour
	c.byHand = true
}

// settle has a file come to rest now.
func settle(t testing.TB, tree *Tree, ino sharefs.Ino) {
	t.Helper()
	if rests, err := trySettle(tree, ino); err != nil || !rests {
		t.Fatalf("inode %d does not come to rest: %v", ino, err)
	}
}

func trySettle(tree *Tree, ino sharefs.Ino) (bool, error) {
	f := tree.files.pin(ino)
	defer tree.files.unpin(f)
	f.content.Lock()
	defer f.content.Unlock()
	return tree.settleNow(f)
}

// capture captures all that waits.
func capture(t testing.TB, tree *Tree) {
	t.Helper()
	for {
		n, err := tree.past.capture()
		check(t, err)
		if n == 0 {
			return
		}
	}
}

// rewrite replaces what a file holds, as a program does that opens it with O_TRUNC.
func rewrite(t testing.TB, tree *Tree, ino sharefs.Ino, content string) {
	t.Helper()
	h := must[*Handle](t)(tree.Open(ino, unix.O_WRONLY|unix.O_TRUNC, root))
	writeAll(t, h, content)
	check(t, h.Close())
}

// save is rewrite for a name, which is made if need be, and the file comes to rest.
func save(t testing.TB, tree *Tree, name, content string) sharefs.Ino {
	t.Helper()
	a, h, err := tree.Create(sharefs.RootIno, name, unix.O_RDWR|unix.O_TRUNC, 0o644, root)
	check(t, err)
	defer tree.Forget(a.Ino, 1)
	writeAll(t, h, content)
	check(t, h.Close())
	settle(t, tree, a.Ino)
	return a.Ino
}

// readVersion reads a whole version.
func readVersion(t testing.TB, tree *Tree, ino sharefs.Ino, number uint64) string {
	t.Helper()
	r := must[VersionReader](t)(tree.OpenVersion(ino, number))
	defer r.Close()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	check(t, err)
	return string(b)
}

// wantHistory checks the whole history of an inode: numbers from 1 on, contents, order in time.
func wantHistory(t testing.TB, tree *Tree, ino sharefs.Ino, want ...string) []sharefs.Version {
	t.Helper()
	all := must[[]sharefs.Version](t)(tree.Versions(ino))
	var got []string
	for i, v := range all {
		got = append(got, readVersion(t, tree, ino, v.Number))
		if v.Number != uint64(i+1) || i > 0 && v.At>>16 < all[i-1].At>>16 || v.Size != uint64(len(got[i])) {
			t.Errorf("version %d at %d: %+v", i+1, i, v)
		}
		if one := must[sharefs.Version](t)(tree.Version(ino, v.Number)); one != v {
			t.Errorf("by its number: %+v, in the list: %+v", one, v)
		}
	}
	if len(got) != len(want) || strings.Join(got, "|") != strings.Join(want, "|") {
		t.Fatalf("history %q, want %q", got, want)
	}
	return all
}

func asideFiles(t testing.TB, tree *Tree) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(tree.cfg.Dir, "aside", "*"))
	check(t, err)
	return all
}

func liveFile(tree *Tree, ino sharefs.Ino) string {
	return filepath.Join(tree.cfg.Dir, "live", tree.live.name(ino))
}

func TestEachCloseIsAVersion(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	wantHistory(t, tree, ino, "one")
	rewrite(t, tree, ino, "two")
	wantHistory(t, tree, ino, "one")
	settle(t, tree, ino)
	all := wantHistory(t, tree, ino, "one", "two")
	if all[0].Live || !all[1].Live || all[1].Mode != sharefs.ModeRegular|0o644 {
		t.Errorf("%+v", all)
	}
	capture(t, tree)
	wantHistory(t, tree, ino, "one", "two")
	if left := asideFiles(t, tree); len(left) > 0 {
		t.Errorf("%v stay aside", left)
	}
	save(t, tree, "f", "three")
	wantHistory(t, tree, ino, "one", "two", "three")
	settle(t, tree, ino) // at rest already
	wantHistory(t, tree, ino, "one", "two", "three")
	if n := tree.HistoryStats(); n.Settled != 3 || n.Captured != 2 || n.Queue != 1 {
		t.Errorf("%+v", n)
	}
}

func TestClosesWithinTheSettleTimeAreOne(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "first")
	rewrite(t, tree, ino, "second")
	rewrite(t, tree, ino, "third")
	settle(t, tree, ino)
	wantHistory(t, tree, ino, "first", "third")
	if n := tree.HistoryStats(); n.Joined != 1 {
		t.Errorf("%d closes are joined", n.Joined)
	}
}

func TestWithoutASettleTimeEachCloseCounts(t *testing.T) {
	tree := testTree(t, t.TempDir(), func(c *Config) { c.Settle, c.byHand = 0, true })
	a := create(t, tree, sharefs.RootIno, "f", "0")
	want := []string{"0"}
	for i := range 20 {
		want = append(want, fmt.Sprint(i+1))
		rewrite(t, tree, a.Ino, want[i+1])
	}
	settle(t, tree, a.Ino)
	wantHistory(t, tree, a.Ino, want...)
}

func TestLiveSaysWhetherTheContentIsAVersion(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	live := func(want bool) {
		t.Helper()
		if v := must[sharefs.Version](t)(tree.Version(ino, 1)); v.Live != want {
			t.Fatalf("live is %v", v.Live)
		}
	}
	live(true)
	h := must[*Handle](t)(tree.Open(ino, unix.O_RDWR, root))
	live(true)
	writeAll(t, h, "1")
	live(false)
	check(t, h.Close())
	settle(t, tree, ino)
	live(false)
	if v := must[sharefs.Version](t)(tree.Version(ino, 2)); !v.Live {
		t.Error("the newest is not live")
	}
	// Times are no content.
	when := sharefs.Time(12345)
	must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Mtime: &when}, root))
	if v := must[sharefs.Version](t)(tree.Version(ino, 2)); !v.Live {
		t.Error("a change of times made it another one")
	}
}

// readWrite is the flag by which a file is opened for reading and writing; for writing alone on a disk such as tmpfs, where a store through a mapping moves no timestamp: whoever may
// map a file there counts as having changed it.
func readWrite(tree *Tree) uint32 {
	if tree.track.Stats().MappedStamps {
		return unix.O_RDWR
	}
	return unix.O_WRONLY
}

func TestOpeningForWritingWithoutWritingMakesNoVersion(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	h := must[*Handle](t)(tree.Open(ino, readWrite(tree), root))
	check(t, h.Close())
	settle(t, tree, ino)
	wantHistory(t, tree, ino, "one")
	capture(t, tree)
	wantHistory(t, tree, ino, "one")
}

// What has settled and is not captured survives every way of changing the file.
func TestWhatIsNotCapturedIsSetAside(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("a line that is not captured\n", 20_000)
	for name, change := range map[string]func(t *testing.T, tree *Tree, ino sharefs.Ino){
		"write": func(t *testing.T, tree *Tree, ino sharefs.Ino) {
			h := must[*Handle](t)(tree.Open(ino, unix.O_WRONLY, root))
			writeAll(t, h, "changed")
			check(t, h.Close())
		},
		"truncate at open": func(t *testing.T, tree *Tree, ino sharefs.Ino) { rewrite(t, tree, ino, "x") },
		"cut": func(t *testing.T, tree *Tree, ino sharefs.Ino) {
			size := uint64(3)
			must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Size: &size}, root))
		},
		"empty": func(t *testing.T, tree *Tree, ino sharefs.Ino) {
			size := uint64(0)
			must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Size: &size}, root))
		},
		"punch a hole": func(t *testing.T, tree *Tree, ino sharefs.Ino) {
			h := must[*Handle](t)(tree.Open(ino, unix.O_RDWR, root))
			check(t, h.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 100_000, root))
			check(t, h.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			tree := testTree(t, t.TempDir(), byHand)
			ino := save(t, tree, "f", big)
			r := must[VersionReader](t)(tree.OpenVersion(ino, 1))
			defer r.Close()
			head := make([]byte, 100)
			must[int](t)(r.ReadAt(head, 0))
			change(t, tree, ino)
			now := content(t, tree, ino)
			if now == big {
				t.Fatal("nothing changed")
			}
			wantHistory(t, tree, ino, big)
			if b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); err != nil || string(b) != big {
				t.Errorf("the reader that was open before sees the change: %v", err)
			}
			capture(t, tree)
			wantHistory(t, tree, ino, big)
			if b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); err != nil || string(b) != big {
				t.Errorf("the reader that was open before the capture: %v", err)
			}
			settle(t, tree, ino)
			wantHistory(t, tree, ino, big, now)
			if left := asideFiles(t, tree); len(left) > 0 {
				t.Errorf("%v stay aside", left)
			}
		})
	}
}

func TestRemovedBeforeItWasCaptured(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "kept")
	young := create(t, tree, sharefs.RootIno, "g", "gone within the settle time").Ino
	tree.Forget(young, 1)
	check(t, tree.Unlink(sharefs.RootIno, "f"))
	check(t, tree.Unlink(sharefs.RootIno, "g"))
	eventually(t, "the young one's backing file is removed", func() bool {
		check(t, tree.reap())
		_, err := os.Stat(liveFile(tree, young))
		return os.IsNotExist(err)
	})
	if _, err := os.Stat(liveFile(tree, ino)); err != nil {
		t.Fatalf("content that is not captured was removed: %v", err)
	}
	wantHistory(t, tree, ino, "kept")
	capture(t, tree)
	eventually(t, "the backing file is removed", func() bool {
		check(t, tree.reap())
		_, err := os.Stat(liveFile(tree, ino))
		return os.IsNotExist(err)
	})
	wantHistory(t, tree, ino, "kept")
	if past := must[sharefs.Ino](t)(tree.Past(sharefs.RootIno, "f")); past != ino {
		t.Errorf("the name leads to %d", past)
	}
	if id := must[sharefs.FileID](t)(tree.FileID(ino)); id == (sharefs.FileID{}) {
		t.Error("no file id")
	}
	if n := tree.HistoryStats(); n.Dropped != 1 {
		t.Errorf("%d dropped", n.Dropped)
	}
	wantHistory(t, tree, young)
}

// eventually waits for what another goroutine may be about to do.
func eventually(t testing.TB, what string, fn func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !fn(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

func TestFilesWithoutANameHaveNoVersions(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	a, h, err := tree.Tmpfile(sharefs.RootIno, unix.O_RDWR, 0o600, root)
	check(t, err)
	writeAll(t, h, "nothing")
	check(t, h.Close())
	settle(t, tree, a.Ino)
	wantHistory(t, tree, a.Ino)
	// With a name it has one, though it came to rest before.
	must[sharefs.Attr](t)(tree.Link(a.Ino, sharefs.RootIno, "named"))
	wantHistory(t, tree, a.Ino, "nothing")
	capture(t, tree)
	wantHistory(t, tree, a.Ino, "nothing")

	b, h, err := tree.Tmpfile(sharefs.RootIno, unix.O_RDWR, 0o600, root)
	check(t, err)
	writeAll(t, h, "never named")
	check(t, h.Close())
	settle(t, tree, b.Ino)
	tree.Forget(b.Ino, 1)
	eventually(t, "it is gone", func() bool {
		check(t, tree.reap())
		_, err := os.Stat(liveFile(tree, b.Ino))
		return os.IsNotExist(err)
	})
	capture(t, tree)
	if n := tree.HistoryStats(); n.Lost != 0 || n.Queue != 0 || n.Settled != 1 {
		t.Errorf("%+v", n)
	}
}

func TestEqualContentIsKeptOnce(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 900_000)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	save(t, tree, "a", string(b))
	capture(t, tree)
	first := tree.HistoryStats().Packs
	save(t, tree, "b", string(b))
	changed := bytes.Clone(b)
	copy(changed[450_000:], "a few bytes in the middle")
	ino := save(t, tree, "a", string(changed))
	capture(t, tree)
	now := tree.HistoryStats().Packs
	if extra := now.SealedBytes - first.SealedBytes; extra > 200_000 {
		t.Errorf("a copy and a small change took %d bytes", extra)
	}
	wantHistory(t, tree, ino, string(b), string(changed))
}

func TestLargeAndSparseVersions(t *testing.T) {
	t.Parallel()
	tree := testTree(t, t.TempDir(), byHand)
	a, h, err := tree.Create(sharefs.RootIno, "sparse", unix.O_RDWR, 0o644, root)
	check(t, err)
	const size = 1 << 40
	want := uint64(size)
	must[sharefs.Attr](t)(tree.Setattr(a.Ino, &SetAttr{Size: &want, Handle: h}, root))
	r := rand.New(rand.NewPCG(3, 3))
	islands := map[int64][]byte{}
	for range 30 {
		b := make([]byte, 1+r.IntN(300_000))
		for i := range b {
			b[i] = byte(r.Uint32()) | 1
		}
		off := r.Int64N(size - int64(len(b)))
		islands[off] = b
		must[int](t)(h.WriteAt(b, off))
	}
	check(t, h.Close())
	settle(t, tree, a.Ino)
	compare := func() {
		t.Helper()
		v := must[VersionReader](t)(tree.OpenVersion(a.Ino, 1))
		defer v.Close()
		if v.Size() != size {
			t.Fatalf("size %d", v.Size())
		}
		for off, b := range islands {
			got := make([]byte, len(b)+20)
			n, err := v.ReadAt(got[:min(int64(len(got)), size-off)], off)
			check(t, err)
			if n < len(b) || !bytes.Equal(got[:len(b)], b) {
				t.Fatalf("the island at %d is not the one that was written", off)
			}
		}
	}
	compare()
	capture(t, tree)
	compare()
	if n := tree.HistoryStats(); n.Packs.PlainBytes > 30*400_000+30*1<<20 {
		t.Errorf("%d bytes were kept of a file with 30 islands", n.Packs.PlainBytes)
	}
	// Restored, it is as sparse as before.
	rewrite(t, tree, a.Ino, "other")
	settle(t, tree, a.Ino)
	check(t, tree.Restore(Op{}, a.Ino, 1, root))
	if at := must[sharefs.Attr](t)(tree.Getattr(a.Ino)); at.Size != size || at.Blocks*512 > 30*500_000+30*1<<20 {
		t.Errorf("restored: %d bytes in %d blocks", at.Size, at.Blocks)
	}
	back := must[*Handle](t)(tree.Open(a.Ino, unix.O_RDONLY, root))
	defer back.Close()
	for off, b := range islands {
		got := make([]byte, len(b))
		must[int](t)(back.ReadAt(got, off))
		if !bytes.Equal(got, b) {
			t.Fatalf("the island at %d is not restored", off)
		}
	}
}

func TestVersionsByTime(t *testing.T) {
	var now atomic.Int64 // milliseconds; the tree's goroutines read the clock too
	now.Store(1_800_000_000_000)
	clock := &sharefs.Clock{Now: func() time.Time { return time.UnixMilli(now.Load()) }}
	tree := testTree(t, t.TempDir(), byHand, func(c *Config) { c.Clock = clock })
	step := func() sharefs.HLC {
		check(t, tree.closeEpoch())
		now.Add(time.Hour.Milliseconds())
		at := clock.Next()
		now.Add(time.Hour.Milliseconds())
		return at
	}
	want := func(name string, at sharefs.HLC, content string) {
		t.Helper()
		ino, v, err := tree.VersionAt(sharefs.RootIno, name, at)
		if content == "" {
			wantKind(t, err, sharefs.KindNotExist)
			return
		}
		check(t, err)
		if got := readVersion(t, tree, ino, v.Number); got != content {
			t.Fatalf("%s at %s holds %q instead of %q", name, at, got, content)
		}
	}
	t0 := step()
	first := save(t, tree, "f", "one")
	t1 := step()
	save(t, tree, "f", "two")
	t2 := step()
	check(t, tree.Unlink(sharefs.RootIno, "f"))
	t3 := step()
	save(t, tree, "f", "three")
	t4 := step()
	check(t, tree.Rename(sharefs.RootIno, "f", sharefs.RootIno, "g", 0))
	t5 := step()
	want("f", t0, "")
	want("f", t1, "one")
	want("f", t2, "two")
	want("f", t3, "two") // removed: what the file that has the name since held then, which continues it
	want("f", t4, "three")
	want("f", t5, "three")
	want("g", t5, "three")
	want("g", t1, "one")
	want("never", t5, "")
	capture(t, tree)
	want("f", t1, "one")
	want("f", sharefs.MaxHLC, "three")
	_ = first

	// A file that replaces another continues its past, and was what it was under its old name before.
	save(t, tree, "a", "old 1")
	save(t, tree, "b", "new 1")
	t6 := step()
	save(t, tree, "b", "new 2")
	step()
	save(t, tree, "a", "old 2")
	t7 := step()
	rename(t, tree, "b", "a")
	t8 := step()
	want("a", t6, "old 1")
	want("b", t6, "new 1")
	want("a", t7, "old 2")
	want("b", t7, "new 2")
	want("a", t8, "new 2")
	want("b", t8, "new 2") // gone: what the file that had it last holds
}
