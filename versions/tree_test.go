package versions

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// testTree opens a tree in a directory and closes it at the end of the test, unless the test did.
//
// Tests that take long run beside each other: each has stores of its own. Those that start processes never do, for a child holds until its exec
// all that the other tests have open, so that files of theirs that were closed would not come to rest.
func testTree(t testing.TB, dir string, change ...func(*Config)) *Tree {
	t.Helper()
	cfg := Config{Dir: dir, Settle: 10 * time.Millisecond, Pause: time.Minute, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	for _, fn := range change {
		fn(&cfg)
	}
	tree, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return tree
}

// testWriter logs to a test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) { w.t.Logf("%s", p); return len(p), nil }

var _ io.Writer = testWriter{}

var root = Caller{}

// user is a caller without privileges.
func user(uid uint32) Caller { return Caller{UID: uid, GID: uid, Umask: 0o022} }

// must ends a test on an error.
func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// check ends a test on an error.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantKind ends a test unless err is of a kind.
func wantKind(t testing.TB, err error, kind sharefs.Kind) {
	t.Helper()
	if err == nil || sharefs.KindOf(err) != kind {
		t.Fatalf("got %v, want %v", err, kind)
	}
}

// create makes a file with content and closes it.
func create(t testing.TB, tree *Tree, parent sharefs.Ino, name, content string) sharefs.Attr {
	t.Helper()
	a, h, err := tree.Create(parent, name, unix.O_RDWR, 0o644, root)
	check(t, err)
	writeAll(t, h, content)
	check(t, h.Close())
	return a
}

func writeAll(t testing.TB, h *Handle, content string) {
	t.Helper()
	if n, err := h.WriteAt([]byte(content), 0); err != nil || n != len(content) {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(content), err)
	}
}

// content reads a whole file.
func content(t testing.TB, tree *Tree, ino sharefs.Ino) string {
	t.Helper()
	h := must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root))
	defer h.Close()
	b := make([]byte, 1<<20)
	n := must[int](t)(h.ReadAt(b, 0))
	return string(b[:n])
}

// lookup finds a name without keeping a reference.
func lookup(t testing.TB, tree *Tree, parent sharefs.Ino, name string) sharefs.Attr {
	t.Helper()
	a := must[sharefs.Attr](t)(tree.Lookup(parent, name))
	tree.Forget(a.Ino, 1)
	return a
}

// names lists a directory.
func names(t testing.TB, tree *Tree, dir sharefs.Ino) map[string]sharefs.Ino {
	t.Helper()
	m := map[string]sharefs.Ino{}
	check(t, tree.ReadDir(dir, 0, false, func(d sharefs.Dentry, _ *sharefs.Attr) bool {
		if m[d.Name] != 0 {
			t.Errorf("%q is listed twice", d.Name)
		}
		m[d.Name] = d.Ino
		return true
	}))
	return m
}

func TestTreeIsThereAfterReopening(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir)
	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root))
	a := create(t, tree, d.Ino, "f", "hello")
	if a.Nlink != 1 || a.Mode != sharefs.ModeRegular|0o644 {
		t.Errorf("a new file has %+v", a)
	}
	if got := must[sharefs.Attr](t)(tree.Getattr(a.Ino)); got.Size != 5 {
		t.Errorf("size %d after writing 5 bytes", got.Size)
	}
	check(t, tree.Close())
	tree = testTree(t, dir)
	d = lookup(t, tree, sharefs.RootIno, "d")
	b := lookup(t, tree, d.Ino, "f")
	if b.Ino != a.Ino || b.Size != 5 || b.Changing {
		t.Errorf("after reopening: %+v", b)
	}
	if got := content(t, tree, b.Ino); got != "hello" {
		t.Errorf("content %q", got)
	}
	if got := names(t, tree, sharefs.RootIno); len(got) != 1 || got["d"] != d.Ino {
		t.Errorf("root lists %v", got)
	}
	if d.Nlink != 2 || lookup(t, tree, sharefs.RootIno, ".").Nlink != 3 {
		t.Errorf("links of directories: %d and %d", d.Nlink, lookup(t, tree, sharefs.RootIno, ".").Nlink)
	}
}

// A store that has lost its rows is not taken for an empty one.
func TestLostRowsAreNotAnEmptyTree(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir)
	write(t, tree, "f", "content")
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
	for _, lost := range []string{"meta.db", "journal"} {
		if err := os.RemoveAll(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
	}
	if tree, err := Open(Config{Dir: dir}); !errors.Is(err, sharefs.KindCorrupt) {
		if err == nil {
			tree.Close()
		}
		t.Fatalf("a store without its rows: %v", err)
	}
	if got, err := os.ReadDir(filepath.Join(dir, "live")); err != nil || len(got) == 0 {
		t.Fatalf("content is gone: %v", err)
	}
}
