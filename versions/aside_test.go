package versions

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// copying makes a tree copy even where its disk could share blocks, and tells it how much room there is.
func copying(tree *Tree, room int64) { tree.past.aside.room = func() int64 { return room } }

// Whoever empties a file that nobody has open waits for nothing: the content goes aside as it is.
func TestEmptyingMovesTheContentAside(t *testing.T) {
	ways := map[string]func(t *testing.T, tree *Tree, ino sharefs.Ino){
		"O_TRUNC": func(t *testing.T, tree *Tree, ino sharefs.Ino) { rewrite(t, tree, ino, "two") },
		"O_TRUNC of what was read before": func(t *testing.T, tree *Tree, ino sharefs.Ino) {
			if got := content(t, tree, ino); got != "one" {
				t.Errorf("read %q", got)
			}
			rewrite(t, tree, ino, "two")
		},
		"truncate": func(t *testing.T, tree *Tree, ino sharefs.Ino) {
			must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Size: ptr(uint64(0))}, root))
			h := must[*Handle](t)(tree.Open(ino, unix.O_WRONLY, root))
			writeAll(t, h, "two")
			check(t, h.Close())
		},
		"O_RDONLY and O_TRUNC": func(t *testing.T, tree *Tree, ino sharefs.Ino) {
			check(t, must[*Handle](t)(tree.Open(ino, unix.O_RDONLY|unix.O_TRUNC, root)).Close())
			h := must[*Handle](t)(tree.Open(ino, unix.O_WRONLY, root))
			writeAll(t, h, "two")
			check(t, h.Close())
		},
	}
	for name, change := range ways {
		t.Run(name, func(t *testing.T) {
			tree := testTree(t, t.TempDir(), byHand)
			copying(tree, 0)
			ino := save(t, tree, "f", "one")
			change(t, tree, ino)
			if n := tree.HistoryStats(); n.Moved != 1 || n.Copied+n.Cloned+n.TooLarge+n.Lost != 0 {
				t.Errorf("%+v", n)
			}
			if a := must[sharefs.Attr](t)(tree.Getattr(ino)); a.Size != 3 || a.Nlink != 1 {
				t.Errorf("%+v", a)
			}
			wantHistory(t, tree, ino, "one")
			settle(t, tree, ino)
			wantHistory(t, tree, ino, "one", "two")
			capture(t, tree)
			wantHistory(t, tree, ino, "one", "two")
			if left := asideFiles(t, tree); len(left) > 0 {
				t.Errorf("%v stay aside", left)
			}
			noProblems(t, tree)
		})
	}
}

// Whoever has the file open or mapped sees it change: then the content is copied, and the backing file stays what it is.
func TestWhatIsInUseIsNotMovedAside(t *testing.T) {
	holds := map[string]func(t *testing.T, tree *Tree, ino sharefs.Ino) func() string{
		"a handle": func(t *testing.T, tree *Tree, ino sharefs.Ino) func() string {
			h := must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root))
			t.Cleanup(func() { h.Close() })
			return func() string {
				b := make([]byte, 10)
				return string(b[:must[int](t)(h.ReadAt(b, 0))])
			}
		},
		"a mapping that outlived its handle": func(t *testing.T, tree *Tree, ino sharefs.Ino) func() string {
			var s unix.Statfs_t
			check(t, unix.Statfs(tree.cfg.Dir, &s))
			if s.Type == unix.OVERLAYFS_SUPER_MAGIC {
				t.Skip("overlayfs maps the file below, whose leases are not its own; nor is anything passed through to it")
			}
			f, err := os.Open(liveFile(tree, ino))
			check(t, err)
			b, err := unix.Mmap(int(f.Fd()), 0, 3, unix.PROT_READ, unix.MAP_SHARED)
			check(t, err)
			check(t, f.Close())
			t.Cleanup(func() { unix.Munmap(b) })
			return func() string { return string(b) }
		},
		"a registration of the kernel": func(t *testing.T, tree *Tree, ino sharefs.Ino) func() string {
			fd, err := unix.Open(liveFile(tree, ino), unix.O_PATH, 0)
			check(t, err)
			t.Cleanup(func() { unix.Close(fd) })
			tree.SetKernel(holding{})
			return func() string {
				b, err := os.ReadFile(fmt.Sprint("/proc/self/fd/", fd))
				check(t, err)
				return string(b)
			}
		},
	}
	for name, hold := range holds {
		t.Run(name, func(t *testing.T) {
			tree := testTree(t, t.TempDir(), byHand)
			ino := save(t, tree, "f", "one")
			read := hold(t, tree, ino)
			rewrite(t, tree, ino, "two")
			if got := read(); got != "two" {
				t.Errorf("whoever had it sees %q", got)
			}
			settle(t, tree, ino)
			wantHistory(t, tree, ino, "one", "two")
			if n := tree.HistoryStats(); n.Moved != 0 || n.Copied+n.Cloned != 1 {
				t.Errorf("%+v", n)
			}
		})
	}
}

// holding is a kernel that has every backing file registered.
type holding struct{}

func (holding) ForgetAttr(sharefs.Ino)                  {}
func (holding) ForgetContent(sharefs.Ino, int64, int64) {}
func (holding) ForgetEntry(sharefs.Ino, string)         {}
func (holding) DropBacking(sharefs.Ino) bool            { return false }

// halfway brings a file to the middle of a move: its content has both names.
func halfway(t testing.TB, tree *Tree, ino sharefs.Ino) (*file, *swap) {
	t.Helper()
	f := tree.files.pin(ino)
	t.Cleanup(func() { tree.files.unpin(f) })
	f.content.Lock()
	defer f.content.Unlock()
	m := tree.past.prepareMove(f, must[*version](t)(newestVersion(tree.db, ino, noLimit)))
	if m == nil {
		t.Fatal("the file is not moved")
	}
	return f, m
}

// commit does stage 3 of a move.
func (m *swap) commit(t testing.TB) {
	t.Helper()
	tree := m.h.t
	tree.mu.Lock()
	defer tree.mu.Unlock()
	x := tree.begin()
	check(t, m.edit(x))
	check(t, x.commit())
}

// Somebody opens the file in the middle of a move, and closes it again: the kernel may have its backing file registered.
func TestOpenedInTheMiddleOfAMove(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	f, m := halfway(t, tree, ino)
	check(t, must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root)).Close())
	m.commit(t)
	fd, err := unix.Open(liveFile(tree, ino), unix.O_PATH, 0)
	check(t, err)
	defer unix.Close(fd)
	check(t, m.finish(f))
	var before, after unix.Stat_t
	check(t, unix.Fstat(fd, &before))
	check(t, unix.Stat(liveFile(tree, ino), &after))
	if before.Ino != after.Ino || after.Nlink != 1 {
		t.Errorf("the backing file was %d and is %d, with %d links", before.Ino, after.Ino, after.Nlink)
	}
	rewrite(t, tree, ino, "two")
	settle(t, tree, ino)
	wantHistory(t, tree, ino, "one", "two")
	capture(t, tree)
	wantHistory(t, tree, ino, "one", "two")
	if left := asideFiles(t, tree); len(left) > 0 {
		t.Errorf("%v stay aside", left)
	}
}

// A version that is read when its move is given up: its name then leads to a copy, and what was opened before to the live file.
func TestReadWhenAMoveIsGivenUp(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	f, m := halfway(t, tree, ino)
	check(t, must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root)).Close())
	m.commit(t)
	v := must[*version](t)(newestVersion(tree.db, ino, noLimit))
	fd := must[int](t)(tree.past.aside.read(versionID{v.ino, v.own}))
	capturing := os.NewFile(uintptr(fd), "content")
	defer capturing.Close()
	r := must[VersionReader](t)(tree.OpenVersion(ino, 1))
	defer r.Close()
	check(t, m.finish(f))
	rewrite(t, tree, ino, "two")
	b := make([]byte, 10)
	if n, err := r.ReadAt(b, 0); string(b[:n]) != "one" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	if tree.past.stays(v, capturing) == nil {
		t.Error("the live file is captured as the version before")
	}
	settle(t, tree, ino)
	wantHistory(t, tree, ino, "one", "two")
}

// Hard links that others make in a store (cp -al) are not those of a move that was interrupted.
func TestALinkToWhatIsSetAside(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	ino := save(t, tree, "f", "one")
	rewrite(t, tree, ino, "two")
	files := asideFiles(t, tree)
	if len(files) != 1 {
		t.Fatalf("%v are aside", files)
	}
	killed := storeAsKilled(t, dir)
	check(t, os.Link(filepath.Join(killed, "aside", filepath.Base(files[0])), filepath.Join(t.TempDir(), "backup")))
	tree = testTree(t, killed, byHand)
	if got := readVersion(t, tree, ino, 1); got != "one" { // what the file holds becomes the second version in its time
		t.Errorf("version 1 is %q", got)
	}
}

// It is captured in the middle of a move: then there is nothing to be moved.
func TestCapturedInTheMiddleOfAMove(t *testing.T) {
	for _, early := range []bool{true, false} {
		tree := testTree(t, t.TempDir(), byHand)
		ino := save(t, tree, "f", "one")
		f, m := halfway(t, tree, ino)
		if early {
			capture(t, tree)
		}
		m.commit(t)
		if !early {
			capture(t, tree)
		}
		check(t, m.finish(f))
		if early && content(t, tree, ino) != "one" {
			t.Error("the content is gone")
		}
		wantHistory(t, tree, ino, "one")
		rewrite(t, tree, ino, "two")
		settle(t, tree, ino)
		wantHistory(t, tree, ino, "one", "two")
		if left := asideFiles(t, tree); early && len(left) > 0 {
			t.Errorf("%v stay aside", left)
		}
	}
}

// A capture that has the file open when it is moved goes on with it, and does not begin again.
func TestTheCaptureGoesOnWithWhatWasMoved(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	f, err := os.Open(liveFile(tree, ino))
	check(t, err)
	defer f.Close()
	h := &tree.past
	h.setInHand(beingRead{ino, f})
	v := must[*version](t)(newestVersion(tree.db, ino, noLimit))
	check(t, h.stays(v, f))
	rewrite(t, tree, ino, "two")
	h.setInHand(beingRead{})
	if n := tree.HistoryStats(); n.Moved != 1 {
		t.Fatalf("%+v", n)
	}
	check(t, h.stays(v, f))
	// Another content under the number is not what was read.
	v.ctime++
	if h.stays(v, f) == nil {
		t.Error("another content passes")
	}
}

// markAgain writes the mark of a file and nothing else.
func markAgain(t testing.TB, tree *Tree, ino sharefs.Ino) {
	t.Helper()
	tree.mu.Lock()
	defer tree.mu.Unlock()
	x := tree.begin()
	x.b.Put(spaceMark, inoKey(ino), markValue(false))
	check(t, x.commit())
}

// The daemon is killed at each stage of a move.
func TestKilledInAMove(t *testing.T) {
	t.Parallel()
	for stage := range 4 {
		dir := t.TempDir()
		tree := testTree(t, dir, byHand)
		ino := save(t, tree, "f", "one")
		eventually(t, "the mark of what was saved is gone", func() bool {
			check(t, tree.unmark())
			_, marked, err := tree.db.Get(spaceMark, inoKey(ino))
			check(t, err)
			return !marked
		})
		f, m := halfway(t, tree, ino)
		if stage > 0 {
			m.commit(t)
			markAgain(t, tree, ino) // as whoever is about to change the file does with it
		}
		if stage > 1 {
			check(t, m.finish(f))
		}
		want := "one"
		switch stage {
		case 2:
			want = "" // the empty file is in place
		case 3:
			rewrite(t, tree, ino, "two")
			want = "two"
		}
		after := testTree(t, storeAsKilled(t, dir), byHand)
		if stage < 2 {
			if got := content(t, after, ino); got != "one" {
				t.Errorf("stage %d: the file holds %q", stage, got)
			}
			rewrite(t, after, ino, "next")
			want = "next"
		}
		comeToRest(t, after)
		if stage < 2 {
			settle(t, after, ino)
		}
		for range 2 {
			wantHistory(t, after, ino, "one", want)
			capture(t, after)
		}
		if n := after.HistoryStats(); n.Lost != 0 || n.Queue != 0 {
			t.Errorf("stage %d: %+v", stage, n)
		}
		if left := asideFiles(t, after); len(left) > 0 {
			t.Errorf("stage %d: %v stay aside", stage, left)
		}
	}
}

// The power goes after the content was set aside and before the row that says so is on disk; what came after it in the live file is. The
// version is what it was, and the live file is looked at.
func TestPowerLossAfterSettingAside(t *testing.T) {
	for _, moved := range []bool{true, false} {
		dir := t.TempDir()
		tree := testTree(t, dir, byHand)
		ino := save(t, tree, "f", "one")
		check(t, tree.unmark())
		rows := storeAsKilled(t, dir)
		flags := unix.O_WRONLY
		if moved {
			flags |= unix.O_TRUNC
		}
		h := must[*Handle](t)(tree.Open(ino, uint32(flags), root))
		writeAll(t, h, "two")
		check(t, h.Close())
		files := storeAsKilled(t, dir)
		for _, name := range []string{"live", "aside"} {
			check(t, os.Rename(filepath.Join(rows, name), filepath.Join(t.TempDir(), name)))
			check(t, os.Rename(filepath.Join(files, name), filepath.Join(rows, name)))
		}
		after := testTree(t, rows, byHand)
		comeToRest(t, after)
		for range 2 {
			wantHistory(t, after, ino, "one", "two")
			capture(t, after)
		}
		if n := after.HistoryStats(); n.Lost != 0 || n.Queue != 0 {
			t.Errorf("moved %t: %+v", moved, n)
		}
		noProblems(t, after)
	}
}

// A copy that did not get its name is none, unless a row says that it is whole.
func TestCopiesWithoutTheirName(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	torn, whole := save(t, tree, "torn", "torn 1"), save(t, tree, "whole", "whole 1")
	h := must[*Handle](t)(tree.Open(whole, unix.O_WRONLY, root))
	writeAll(t, h, "whole 2")
	check(t, h.Close())
	aside := func(dir, name string) string { return filepath.Join(dir, "aside", name) }
	to := storeAsKilled(t, dir)
	check(t, os.Rename(aside(to, asideName(whole, 1)), aside(to, asideName(whole, 1)+asidePart)))
	check(t, os.WriteFile(aside(to, asideName(torn, 1)+asidePart), []byte("to"), 0o600))
	after := testTree(t, to, byHand)
	comeToRest(t, after)
	wantHistory(t, after, torn, "torn 1")
	wantHistory(t, after, whole, "whole 1", "whole 2")
	if left := asideFiles(t, after); len(left) != 1 {
		t.Errorf("%v are aside", left)
	}
}

// Without room for a copy the version is lost, which status and log tell with the name of the file; the program gets on.
func TestALostVersionIsNamed(t *testing.T) {
	var log bytes.Buffer
	tree := testTree(t, t.TempDir(), byHand, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	if tree.past.aside.clones {
		t.Skip("this disk shares blocks: nothing is copied")
	}
	copying(tree, 100)
	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "papers", 0o755, root)).Ino
	save(t, tree, "small", "one")
	a := create(t, tree, d, "big image", strings.Repeat("1", 100_000))
	settle(t, tree, a.Ino)
	h := must[*Handle](t)(tree.Open(a.Ino, unix.O_WRONLY, root))
	writeAll(t, h, "2")
	check(t, h.Close())
	settle(t, tree, a.Ino)
	check(t, tree.Close()) // the log is complete then
	if n := tree.past.counts.tooLarge.Load(); n != 1 {
		t.Errorf("%d are counted", n)
	}
	if tree.past.lastLost != "/papers/big image" || !strings.Contains(log.String(), "/papers/big image") {
		t.Errorf("status names %q, log:\n%s", tree.past.lastLost, log.String())
	}
}

// How much may be copied depends on the disk alone.
func TestRoomIsThatOfTheDisk(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	var s unix.Statfs_t
	check(t, unix.Statfs(tree.cfg.Dir, &s))
	got, available := tree.past.aside.room(), int64(s.Bavail)*s.Bsize
	if got >= available || got < available-leftFree-1<<30 {
		t.Errorf("%d bytes of %d may be copied", got, available)
	}
}

// Large content is captured before all else where a writer would have to wait for a copy of it.
func TestLargeContentIsCapturedFirst(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	tree.past.aside.clones = false
	for i := range 20 {
		save(t, tree, fmt.Sprint("small ", i), "small")
	}
	a, h, err := tree.Create(sharefs.RootIno, "large", unix.O_RDWR, 0o644, root)
	check(t, err)
	if _, err := h.WriteAt([]byte("end"), urgentSize); err != nil { // a hole, which costs nothing
		t.Fatal(err)
	}
	check(t, h.Close())
	settle(t, tree, a.Ino)
	id, ok := tree.past.nextUrgent()
	if !ok || id.ino != a.Ino || tree.past.hurries() {
		t.Errorf("%v %t", id, ok)
	}
	tree.past.urgent = []versionID{id}
	capture(t, tree)
	if n := tree.HistoryStats(); n.Captured != 21 || n.Queue != 0 {
		t.Errorf("%+v", n)
	}
}
