package treediff

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// grove is a directory for trees, made by short commands.
type grove struct {
	t   *testing.T
	dir string
	ids map[uint64]string // inode to identity
}

func newGrove(t *testing.T) *grove { return &grove{t, t.TempDir(), map[uint64]string{}} }

func (g *grove) ok(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *grove) path(p string) string { return filepath.Join(g.dir, p) }

func (g *grove) file(p, text string) {
	g.t.Helper()
	g.ok(os.MkdirAll(filepath.Dir(g.path(p)), 0o755))
	g.ok(os.WriteFile(g.path(p), []byte(text), 0o644))
}

func (g *grove) mkdir(p string) {
	g.t.Helper()
	g.ok(os.MkdirAll(g.path(p), 0o755))
}

// is gives what a path names an identity.
func (g *grove) is(p, id string) {
	g.t.Helper()
	var st unix.Stat_t
	g.ok(unix.Lstat(g.path(p), &st))
	g.ids[st.Ino] = id
}

func (g *grove) side(p string) Side {
	return Side{Dir: g.path(p), ID: func(_ string, e *Entry) string { return g.ids[e.Ino] }}
}

// compare writes the changes one a line: "M a content, mode", "R95 old -> new content".
func (g *grove) compare(renames Renames) string {
	g.t.Helper()
	r, err := Compare(g.t.Context(), g.side("old"), g.side("new"), Options{Renames: renames})
	g.ok(err)
	return tell(r)
}

func tell(r *Result) string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "! %s %v\n", p.Path, p.Err)
	}
	for _, c := range r.Changes {
		what := c.What
		if c.New != nil && c.New.IsDir() || c.Old != nil && c.Old.IsDir() {
			what &^= Times
		}
		what &^= Times
		if c.Op == Changed && what == 0 {
			continue
		}
		line := string(c.Op) + " " + c.Path
		if c.Op == Renamed {
			line = fmt.Sprintf("R%d %s -> %s", c.Score, c.From, c.Path)
		}
		b.WriteString(strings.TrimRight(line+" "+what.String(), " ") + "\n")
	}
	return b.String()
}

func (g *grove) expect(renames Renames, want ...string) {
	g.t.Helper()
	if got := g.compare(renames); got != strings.Join(append(want, ""), "\n") {
		g.t.Errorf("it tells\n%swant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestWhatDiffersIsTold(t *testing.T) {
	g := newGrove(t)
	for _, tree := range []string{"old/", "new/"} {
		g.file(tree+"same", "same")
		g.file(tree+"content", "x"+tree)
		g.file(tree+"size", tree[:1])
		g.file(tree+"mode", "")
		g.file(tree+"times", "")
		g.file(tree+"type", "")
		g.file(tree+"d/deep/file", "")
		g.file(tree+"attr", "")
		g.ok(unix.Mkfifo(g.path(tree+"fifo"), 0o600))
		g.ok(os.Symlink("target", g.path(tree+"link")))
		g.ok(os.Symlink(tree, g.path(tree+"other link")))
	}
	g.file("new/size", "longer")
	g.ok(os.Chmod(g.path("new/mode"), 0o600))
	g.ok(os.Chmod(g.path("new/d"), 0o700))
	g.ok(os.Remove(g.path("new/type")))
	g.file("new/type/in it", "x")
	g.file("old/gone/a", "")
	g.mkdir("new/come")
	g.ok(unix.Setxattr(g.path("new/attr"), "user.a", []byte("1"), 0))
	g.ok(unix.Setxattr(g.path("new/same"), OwnPrefix+"note", []byte("1"), 0)) // the mount's own do not count
	g.expect(NoRenames, "M attr xattrs", "A come", "M content content", "M d mode", "D gone", "D gone/a", "M mode mode", "M other link target",
		"M size content", "M type type", "A type/in it")
	at := time.Unix(1_700_000_000, 1)
	for _, tree := range []string{"old", "new"} { // a nanosecond counts
		g.ok(filepath.Walk(g.path(tree), func(p string, info os.FileInfo, err error) error {
			if err != nil || info.Mode()&os.ModeSymlink != 0 {
				return err
			}
			return os.Chtimes(p, at, at)
		}))
	}
	g.ok(os.Chtimes(g.path("new/times"), at, at.Add(1)))
	r, err := Compare(t.Context(), g.side("old"), g.side("new"), Options{})
	g.ok(err)
	times := 0
	for _, c := range r.Changes {
		if c.What&Times != 0 && c.New.Type() != unix.S_IFLNK {
			if times++; c.Path != "times" {
				t.Errorf("the times of %s differ", c.Path)
			}
		}
		if c.Path == "attr" && (c.New.Xattrs["user.a"] != "1" || len(c.Old.Xattrs) != 0) {
			t.Errorf("attributes: %+v", c)
		}
	}
	if times != 1 {
		t.Errorf("times differ of %d", times)
	}
	if r, err := Compare(t.Context(), g.side("new"), g.side("new"), Options{Renames: ByContent}); err != nil || len(r.Changes)+len(r.Problems) != 0 || r.Read != 0 {
		t.Errorf("a tree differs from itself: %+v, %v", r, err)
	}
}

func TestWhatMovedIsFound(t *testing.T) {
	text := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "line %d\n", i)
		}
		return b.String()
	}
	t.Run("by content", func(t *testing.T) {
		g := newGrove(t)
		g.file("old/a", "content of a")
		g.file("old/d/b", "content of b")
		g.file("old/empty", "")
		g.file("new/z", "content of a")
		g.file("new/e/b", "content of b")
		g.file("new/nothing", "")
		g.file("old/long", text(100))
		g.file("new/longer", text(110))
		g.file("old/unlike", text(10))
		g.file("new/other", strings.ToUpper(text(10)))
		g.expect(ByContent, "D d", "A e", "R100 d/b -> e/b", "D empty", "R89 long -> longer content", "A nothing", "A other", "D unlike", "R100 a -> z")
		g.expect(ByIdentity, "D a", "D d", "D d/b", "A e", "A e/b", "D empty", "D long", "A longer", "A nothing", "A other", "D unlike", "A z")
	})
	t.Run("by identity", func(t *testing.T) {
		g := newGrove(t)
		for tree, all := range map[string]map[string]string{
			"old/": {"d": "1", "d/a": "2", "d/b": "3", "d/sub": "4", "d/sub/x": "5", "d/left": "6", "f": "7"},
			"new/": {"new": "1", "new/a": "2", "new/b": "x", "new/sub": "4", "new/sub/x": "5", "g": "7", "out": "6"},
		} {
			for _, p := range slices.Sorted(maps.Keys(all)) {
				if id := all[p]; id == "1" || id == "4" {
					g.mkdir(tree + p)
				} else {
					g.file(tree+p, "file "+id)
				}
				g.is(tree+p, all[p])
			}
		}
		g.ok(os.Chmod(g.path("new/new/a"), 0o600))
		// What went with its directory is told only where it changed; b was replaced within it.
		g.expect(ByIdentity, "R100 f -> g", "R100 d -> new", "M new/a mode", "M new/b content", "R100 d/left -> out")
	})
	t.Run("into each other", func(t *testing.T) {
		g := newGrove(t)
		g.mkdir("old/a/b/c")
		g.mkdir("new/c/a/b")
		for _, name := range []string{"a", "b", "c"} {
			for tree, at := range map[string]string{"old/": "a/b/c", "new/": "c/a/b"} {
				i := strings.Index(at, name)
				g.is(tree+at[:i+1], name)
			}
		}
		g.expect(ByIdentity, "R100 a/b/c -> c", "R100 a -> c/a")
	})
}

func TestLinksAreTold(t *testing.T) {
	g := newGrove(t)
	link := func(a, b string) { t.Helper(); g.ok(os.Link(g.path(a), g.path(b))) }
	g.file("old/a", "x")
	link("old/a", "old/b")
	g.file("old/c", "x")
	g.file("old/d", "x")
	g.file("old/apart1", "y")
	g.file("old/apart2", "y")
	g.file("new/a", "x")
	link("new/a", "new/b")
	link("new/a", "new/c")
	g.file("new/d", "x")
	link("new/d", "new/e") // comes new; d itself is no link of what it was not before
	g.file("new/apart1", "y")
	link("new/apart1", "new/apart2")
	g.expect(ByIdentity, "M a links", "M apart1 links", "M apart2 links", "M b links", "M c links", "A e")
	r, err := Compare(t.Context(), g.side("old"), g.side("new"), Options{})
	g.ok(err)
	if got := fmt.Sprint(r.Links); got != "[[a b c] [apart1 apart2] [d e]]" {
		t.Errorf("links: %s", got)
	}
}

func TestSparseFilesAreComparedQuickly(t *testing.T) {
	g := newGrove(t)
	for _, tree := range []string{"old/", "new/"} {
		g.file(tree+"hole", "x")
		g.ok(os.Truncate(g.path(tree+"hole"), 1<<40))
	}
	g.expect(NoRenames)
	f, err := os.OpenFile(g.path("new/hole"), os.O_WRONLY, 0)
	g.ok(err)
	defer f.Close()
	_, err = f.WriteAt([]byte("x"), 1<<39)
	g.ok(err)
	g.expect(NoRenames, "M hole content")
	r, err := Compare(t.Context(), g.side("old"), g.side("new"), Options{})
	g.ok(err)
	if r.Read > 4<<20 {
		t.Errorf("%d bytes are read", r.Read)
	}
}

func TestStatesSpareReading(t *testing.T) {
	g := newGrove(t)
	g.file("old/a", "1")
	g.file("new/a", "2")
	g.file("old/b", "1")
	g.file("new/b", "2")
	old, new := g.side("old"), g.side("new")
	old.State = func(_ string, e *Entry) string { return map[string]string{"a": "same", "b": ""}[e.Path] }
	new.State = func(_ string, e *Entry) string { return map[string]string{"a": "same", "b": ""}[e.Path] }
	r, err := Compare(t.Context(), old, new, Options{})
	g.ok(err)
	if got := tell(r); got != "M b content\n" || r.Read != 2 {
		t.Errorf("%s%d bytes are read", got, r.Read)
	}
}

func TestHostileNames(t *testing.T) {
	g := newGrove(t)
	names := []string{"-rf", "new\nline", "\xff\xfe", strings.Repeat("x", 255), "日本", " ", "a\tb", "$(x)", `q"'\`, "...", "a@@1"}
	for _, n := range names {
		g.file("old/"+n, "1")
		g.file("new/"+n, "2")
		g.file("new/dir "+n[:min(len(n), 200)]+"/"+n, "3")
	}
	r, err := Compare(t.Context(), g.side("old"), g.side("new"), Options{})
	g.ok(err)
	if len(r.Problems) != 0 || len(r.Changes) != 3*len(names)+1 { // and the root's times
		t.Errorf("%d changes, %v", len(r.Changes), r.Problems)
	}
	// Deeper than a path can be long.
	for _, tree := range []string{"old", "new"} {
		at, err := unix.Open(g.path(tree), unix.O_PATH|unix.O_DIRECTORY, 0)
		g.ok(err)
		for range 30 {
			g.ok(unix.Mkdirat(at, strings.Repeat("d", 200), 0o755))
			next, err := unix.Openat(at, strings.Repeat("d", 200), unix.O_PATH|unix.O_DIRECTORY, 0)
			g.ok(err)
			unix.Close(at)
			at = next
		}
		fd, err := unix.Openat(at, "file", unix.O_CREAT|unix.O_WRONLY, 0o644)
		g.ok(err)
		_, err = unix.Write(fd, []byte(tree))
		g.ok(err)
		unix.Close(fd)
		unix.Close(at)
	}
	r, err = Compare(t.Context(), g.side("old"), g.side("new"), Options{})
	g.ok(err)
	deep := strings.Repeat(strings.Repeat("d", 200)+"/", 30) + "file"
	if len(r.Problems) != 0 || !slices.ContainsFunc(r.Changes, func(c Change) bool { return c.Path == deep && c.What&Content != 0 }) {
		t.Errorf("the deep file is not told of: %v", r.Problems)
	}
}

// What cannot be read is named, and what is in it counts neither as gone nor as new.
func TestWhatCannotBeReadIsNamed(t *testing.T) {
	g := newGrove(t)
	g.file("old/shut/a", "1")
	g.file("new/shut/b", "2")
	g.file("old/file", "1")
	g.file("new/file", "2")
	g.file("old/x", "1")
	old := g.side("old")
	if os.Geteuid() == 0 {
		t.Skip("root may read all; integration/cmdtest tests this as nobody")
	}
	g.ok(os.Chmod(g.path("old/shut"), 0))
	g.ok(os.Chmod(g.path("old/file"), 0))
	defer os.Chmod(g.path("old/shut"), 0o755)
	r, err := Compare(t.Context(), old, g.side("new"), Options{})
	g.ok(err)
	if got := tell(r); got != "! file permission denied\n! shut permission denied\nM file mode\nM shut mode\nD x\n" {
		t.Error(got)
	}
}

func TestItEndsWithItsContext(t *testing.T) {
	g := newGrove(t)
	g.mkdir("old")
	g.file("new/a", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Compare(ctx, g.side("old"), g.side("new"), Options{}); err != context.Canceled {
		t.Errorf("%v", err)
	}
	if _, err := Compare(t.Context(), g.side("nowhere"), g.side("new"), Options{}); err == nil {
		t.Error("a root that is not there is compared")
	}
}
