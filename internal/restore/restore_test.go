package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/integration/treetest"
	"sharefs/internal/treediff"
)

const idAttr = treediff.OwnPrefix + "file"

// identity reads what stands for the identity of a file here: an attribute that is no part of the tree.
func identity(path string, _ *treediff.Entry) string {
	buf := make([]byte, 64)
	n, err := unix.Lgetxattr(path, idAttr, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

func side(dir string) treediff.Side { return treediff.Side{Dir: dir, ID: identity} }

// bench is a past tree and a live one.
type bench struct {
	t          *testing.T
	past, live string
	mu         sync.Mutex
	kept       map[string]bool // contents
	serial     int
}

func newBench(t *testing.T) *bench {
	dir := t.TempDir()
	b := &bench{t: t, past: filepath.Join(dir, "past"), live: filepath.Join(dir, "live"), kept: map[string]bool{}}
	b.ok(os.Mkdir(b.past, 0o755))
	return b
}

func (b *bench) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// fork makes the live tree as a copy of the past.
func (b *bench) fork() {
	b.t.Helper()
	b.ok(filepath.WalkDir(b.past, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&(fs.ModeSymlink|fs.ModeNamedPipe) != 0 {
			return err
		}
		b.serial++
		return unix.Lsetxattr(p, idAttr, fmt.Append(nil, b.serial), 0)
	}))
	if out, err := exec.Command("cp", "-a", b.past, b.live).CombinedOutput(); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
}

// options keep contents, and hold that nothing is done to a file before.
func (b *bench) options() Options {
	return Options{Keep: func(path string) error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.kept[string(text)] = true
		return nil
	}}
}

func (b *bench) equal(when string) {
	b.t.Helper()
	b.t.Log(when)
	treetest.Same(b.t, b.live, treetest.Describe(b.t, b.past))
}

// restore makes live like past, and holds that it succeeds.
func (b *bench) restore() *Report {
	b.t.Helper()
	r, err := Tree(b.t.Context(), side(b.past), side(b.live), b.options())
	b.ok(err)
	b.none(r)
	return r
}

func (b *bench) none(r *Report) {
	b.t.Helper()
	for _, a := range r.Actions {
		if a.Err != nil {
			b.t.Errorf("%s %s: %v", a.Op, a.Path, a.Err)
		}
	}
	for _, p := range r.Problems {
		b.t.Errorf("%s: %v", p.Path, p.Err)
	}
}

func tell(r *Report) (out []string) {
	for _, a := range r.Actions {
		if a.Type == "directory" && a.Op == Attributes && slices.Equal(a.What, []string{"times"}) {
			continue
		}
		line := string(a.Op) + " " + a.Path
		if a.From != "" {
			line += " from " + a.From
		}
		out = append(out, line)
	}
	return out
}

func (b *bench) write(p, text string) {
	b.t.Helper()
	b.ok(os.MkdirAll(filepath.Dir(p), 0o755))
	b.ok(os.WriteFile(p, []byte(text), 0o644))
}

func TestEachKindOfChangeIsUndone(t *testing.T) {
	b := newBench(t)
	p := func(name string) string { return filepath.Join(b.past, name) }
	l := func(name string) string { return filepath.Join(b.live, name) }
	for _, name := range []string{"content", "mode", "gone", "d/gone with its directory", "becomes dir", "moved", "apart", "attr", "times"} {
		b.write(p(name), "past "+name)
	}
	b.write(p("becomes file/in it"), "x")
	b.write(p("becomes link"), "x")
	b.ok(os.Symlink("before", p("symlink")))
	b.ok(os.Symlink("before", p("link becomes file")))
	b.ok(unix.Mkfifo(p("fifo"), 0o640))
	b.ok(os.Link(p("apart"), p("apart too")))
	b.write(p("one"), "one")
	b.write(p("two"), "two")
	b.ok(unix.Setxattr(p("attr"), "user.a", []byte("1"), 0))
	b.ok(os.Mkdir(p("empty"), 0o700))
	b.fork()

	b.write(l("content"), "live content")
	b.ok(os.Chmod(l("mode"), 0o600))
	b.ok(os.Remove(l("gone")))
	b.ok(os.RemoveAll(l("d")))
	b.ok(os.Remove(l("becomes dir")))
	b.write(l("becomes dir/x"), "in the way")
	b.ok(os.MkdirAll(l("somewhere/deep"), 0o755))
	b.ok(os.Rename(l("moved"), l("somewhere/deep/else")))
	b.ok(os.Remove(l("apart too")))
	b.write(l("apart too"), "past apart")
	b.ok(os.Remove(l("two")))
	b.ok(os.Link(l("one"), l("two")))
	b.ok(unix.Setxattr(l("attr"), "user.a", []byte("2"), 0))
	b.ok(unix.Setxattr(l("attr"), "user.b", []byte("2"), 0))
	b.ok(os.RemoveAll(l("becomes file")))
	b.write(l("becomes file"), "a file now")
	b.ok(os.Remove(l("becomes link")))
	b.ok(os.Symlink("x", l("becomes link")))
	b.ok(os.Remove(l("symlink")))
	b.ok(os.Symlink("after", l("symlink")))
	b.ok(os.Remove(l("link becomes file")))
	b.write(l("link becomes file"), "was a link")
	b.ok(os.Remove(l("fifo")))
	b.ok(os.Remove(l("empty")))
	b.ok(os.Chtimes(l("times"), time.Unix(1, 1), time.Unix(2, 2)))
	b.write(l("new/file"), "came later")

	dry := b.options()
	dry.DryRun = true
	before := treetest.Describe(t, b.live)
	planned, err := Tree(t.Context(), side(b.past), side(b.live), dry)
	b.ok(err)
	if after := treetest.Describe(t, b.live); !maps.Equal(before, after) {
		t.Error("a dry run changes the tree")
	}
	if len(b.kept) != 0 {
		t.Error("a dry run keeps versions")
	}
	r := b.restore()
	b.equal("restored")
	if got, want := tell(r), tell(planned); !slices.Equal(got, want) {
		t.Errorf("done was\n%s\nbut planned\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	want := []string{
		"linked apart too from apart", "attributes attr", "replaced becomes dir", "removed becomes dir/x", "replaced becomes file", "created becomes file/in it", "replaced becomes link",
		"overwritten content", "created d", "created d/gone with its directory", "created empty", "created fifo", "created gone", "replaced link becomes file",
		"attributes mode", "moved moved from somewhere/deep/else", "removed new", "removed new/file", "removed somewhere", "removed somewhere/deep", "replaced symlink",
		"attributes times", "replaced two",
	}
	if got := tell(r); !slices.Equal(got, want) {
		t.Errorf("it says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, text := range []string{"live content", "in the way", "came later", "a file now", "was a link", "past apart"} {
		if !b.kept[text] {
			t.Errorf("%q is lost", text)
		}
	}
	if again := b.restore(); len(again.Actions) != 0 {
		t.Errorf("a second time there is something to do: %v", tell(again))
	}
}

func TestMovesInACircle(t *testing.T) {
	b := newBench(t)
	for _, p := range []string{"a/b/c/file", "x/1", "y/2", "f", "g"} {
		b.write(filepath.Join(b.past, p), p)
	}
	b.fork()
	l := func(name string) string { return filepath.Join(b.live, name) }
	// a/b/c becomes c/b/a, x and y change places, f goes into what g makes room for.
	b.ok(os.Rename(l("a/b/c"), l("c")))
	b.ok(os.Rename(l("a/b"), l("c/b")))
	b.ok(os.Rename(l("a"), l("c/b/a")))
	b.ok(unix.Renameat2(unix.AT_FDCWD, l("x"), unix.AT_FDCWD, l("y"), unix.RENAME_EXCHANGE))
	b.ok(os.Rename(l("g"), l("h")))
	b.ok(os.Mkdir(l("g"), 0o755))
	b.ok(os.Rename(l("f"), l("g/f")))
	r := b.restore()
	b.equal("restored")
	moved := 0
	for _, a := range r.Actions {
		if a.Op == Moved {
			moved++
		}
	}
	if moved < 5 {
		t.Errorf("%d are moved: %v", moved, tell(r))
	}
}

// Directories changed names: with them moves what somebody put into them since.
func TestDirectoriesThatChangedNamesMoveBack(t *testing.T) {
	b := newBench(t)
	for _, p := range []string{"d/a", "d/sub/x", "o/o", "p/q/1", "p/r/2"} {
		b.write(filepath.Join(b.past, p), p)
	}
	b.fork()
	l := func(name string) string { return filepath.Join(b.live, name) }
	b.ok(os.Rename(l("d"), l("was")))
	b.ok(os.Rename(l("o"), l("d")))
	b.ok(unix.Renameat2(unix.AT_FDCWD, l("p/q"), unix.AT_FDCWD, l("p/r"), unix.RENAME_EXCHANGE))
	b.write(l("was/new"), "by somebody")
	b.write(l("p/r/new"), "by somebody")
	opts := b.options()
	named := map[string]bool{"d": true, "was": true, "o": true, "p/q": true, "p/r": true}
	opts.Only = func(p string) (bool, bool) { return named[p], p == "." || p == "p" }
	r, err := Tree(t.Context(), side(b.past), side(b.live), opts)
	if err != nil || r.Failed() > 0 || len(r.Actions) < 4 {
		t.Fatal(err, tell(r))
	}
	for p, text := range map[string]string{"d/a": "d/a", "d/sub/x": "d/sub/x", "o/o": "o/o", "p/q/1": "p/q/1", "p/r/2": "p/r/2", "d/new": "by somebody", "p/q/new": "by somebody"} {
		if got, err := os.ReadFile(l(p)); err != nil || string(got) != text {
			t.Errorf("%s: %q, %v", p, got, err)
		}
	}
	if _, err := os.Lstat(l("was")); err == nil {
		t.Error("was is there")
	}
}

// A directory that would go holds what the restore is not about: that is told before anything is done.
func TestWhatIsNotMeantHoldsADirectory(t *testing.T) {
	b := newBench(t)
	b.write(filepath.Join(b.past, "d/a"), "a")
	b.fork()
	l := func(name string) string { return filepath.Join(b.live, name) }
	b.ok(os.Rename(l("d"), l("was")))
	b.ok(os.Mkdir(l("d"), 0o755))
	b.ok(unix.Lsetxattr(l("d"), idAttr, []byte("another"), 0))
	b.write(l("d/new"), "by somebody")
	opts := b.options()
	opts.Only = func(p string) (bool, bool) { return p == "d" || p == "was", p == "." }
	var full *Full
	if r, err := Tree(t.Context(), side(b.past), side(b.live), opts); !errors.As(err, &full) || !slices.Equal(full.Holds, []string{"d/new"}) {
		t.Fatalf("%v, %+v", r, full)
	}
	if _, err := os.Lstat(l("was/a")); err != nil {
		t.Error("something was done")
	}
}

// A link to a file of the tree from outside was made later: what is outside must not change.
func TestWhatLiesBesideStaysAsItIs(t *testing.T) {
	b := newBench(t)
	b.write(filepath.Join(b.past, "a"), "past")
	b.fork()
	outside := filepath.Join(filepath.Dir(b.live), "outside")
	b.ok(os.Link(filepath.Join(b.live, "a"), outside))
	b.write(outside, "live")
	b.restore()
	b.equal("restored")
	if text, err := os.ReadFile(outside); err != nil || string(text) != "live" {
		t.Errorf("outside holds %q (%v)", text, err)
	}
}

func TestWhatCameLaterMayStay(t *testing.T) {
	b := newBench(t)
	b.write(filepath.Join(b.past, "a"), "past")
	b.write(filepath.Join(b.past, "d"), "file")
	b.fork()
	b.write(filepath.Join(b.live, "a"), "live")
	b.write(filepath.Join(b.live, "new"), "new")
	b.ok(os.Remove(filepath.Join(b.live, "d")))
	b.write(filepath.Join(b.live, "d/x"), "in the way")
	opts := b.options()
	opts.Stay = true
	r, err := Tree(t.Context(), side(b.past), side(b.live), opts)
	b.ok(err)
	b.none(r)
	if got := fmt.Sprint(tell(r)); got != "[overwritten a replaced d removed d/x stayed new]" {
		t.Error(got)
	}
	if text, err := os.ReadFile(filepath.Join(b.live, "new")); err != nil || string(text) != "new" {
		t.Errorf("new holds %q (%v)", text, err)
	}
	if !b.kept["in the way"] {
		t.Error("what was in the way is lost")
	}
}

func TestWhatCannotBeKeptIsNotTouched(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"a", "b"} {
		b.write(filepath.Join(b.past, name), "past")
	}
	b.fork()
	for _, name := range []string{"a", "b", "new"} {
		b.write(filepath.Join(b.live, name), "live "+name)
	}
	full := errors.New("no version can be made")
	r, err := Tree(t.Context(), side(b.past), side(b.live), Options{Keep: func(path string) error {
		if text, err := os.ReadFile(path); err != nil || string(text) != "live b" {
			return errors.Join(full, err)
		}
		return nil
	}})
	b.ok(err)
	for name, want := range map[string]string{"a": "live a", "b": "past", "new": "live new"} {
		if text, err := os.ReadFile(filepath.Join(b.live, name)); err != nil || string(text) != want {
			t.Errorf("%s holds %q (%v)", name, text, err)
		}
	}
	over := 0
	for _, a := range r.Actions {
		if a.Op == Overwritten && a.Err == nil {
			over++
		}
	}
	if r.Failed() != 2 || over != 1 {
		t.Errorf("%+v", r)
	}
}

func TestSparseFiles(t *testing.T) {
	b := newBench(t)
	big := filepath.Join(b.past, "big")
	b.write(big, "x")
	b.ok(os.Truncate(big, 1<<36))
	b.write(filepath.Join(b.past, "punched"), "")
	b.ok(os.Truncate(filepath.Join(b.past, "punched"), 4<<20))
	b.fork()
	b.ok(os.Remove(filepath.Join(b.live, "big")))
	b.write(filepath.Join(b.live, "punched"), strings.Repeat("y", 5<<20))
	r := b.restore()
	var st unix.Stat_t
	b.ok(unix.Stat(filepath.Join(b.live, "big"), &st))
	if st.Size != 1<<36 || st.Blocks > 2048 || r.Bytes > 1<<20 {
		t.Errorf("%d bytes in %d blocks, %d written", st.Size, st.Blocks, r.Bytes)
	}
	b.ok(unix.Stat(filepath.Join(b.live, "punched"), &st))
	if st.Size != 4<<20 || st.Blocks > 64 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
}

func TestHostileNamesAndDepth(t *testing.T) {
	b := newBench(t)
	for _, n := range []string{"-rf", "new\nline", "\xff\xfe", strings.Repeat("x", 255), " ", "a\tb", "$(x)", `q"'\`, "..."} {
		b.write(filepath.Join(b.past, n), n)
		b.write(filepath.Join(b.past, "dir "+n[:min(len(n), 200)], n), n)
	}
	b.fork()
	b.ok(os.RemoveAll(b.live))
	b.ok(os.Mkdir(b.live, 0o700))
	b.restore()
	b.equal("restored")
}

func TestFilesOfAnothersMode(t *testing.T) {
	b := newBench(t)
	b.write(filepath.Join(b.past, "ro/file"), "past")
	b.write(filepath.Join(b.past, "ro/gone"), "gone")
	b.write(filepath.Join(b.past, "ro/sub/x"), "x")
	b.fork()
	b.ok(os.Chmod(filepath.Join(b.past, "ro/file"), 0o444))
	l := filepath.Join(b.live, "ro")
	b.ok(os.Remove(filepath.Join(l, "gone")))
	b.ok(os.Chmod(filepath.Join(l, "file"), 0o600))
	b.write(filepath.Join(l, "file"), "live")
	b.write(filepath.Join(l, "new"), "new")
	b.ok(os.Chmod(filepath.Join(l, "file"), 0o400))
	b.ok(os.Chmod(filepath.Join(l, "new"), 0o400))
	b.ok(os.Rename(filepath.Join(l, "sub"), filepath.Join(b.live, "sub")))
	b.ok(os.Chmod(filepath.Join(b.live, "sub"), 0o500))
	b.ok(os.Chmod(filepath.Join(b.past, "ro/sub"), 0o500))
	for _, dir := range []string{l, filepath.Join(b.past, "ro")} {
		b.ok(os.Chmod(dir, 0o555))
		defer os.Chmod(dir, 0o755)
	}
	b.restore()
	b.equal("restored")
	b.ok(os.Chmod(filepath.Join(b.live, "ro/sub"), 0o755))
	b.ok(os.Chmod(filepath.Join(b.past, "ro/sub"), 0o755))
}

var nobody = &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{65534}}

// The same as a user who may not do all.
func TestAsAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the tests run as an ordinary user: those beside this one show it")
	}
	home, err := os.MkdirTemp("", "sharefs-restore-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run", "^(TestEachKindOfChangeIsUndone|TestFilesOfAnothersMode|TestMovesInACircle)$", "-test.v")
	cmd.Dir, cmd.Env = home, append(os.Environ(), "TMPDIR="+home, "HOME="+home)
	cmd.SysProcAttr = &unix.SysProcAttr{Credential: nobody}
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "no tests to run") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// mutate changes the live tree at random.
func (b *bench) mutate(r *rand.Rand, n int) {
	for range n {
		var all []string
		b.ok(filepath.WalkDir(b.live, func(p string, _ fs.DirEntry, err error) error { all = append(all, p); return err }))
		p := all[r.IntN(len(all))]
		q := filepath.Join(all[r.IntN(len(all))], fmt.Sprintf("n%d", r.IntN(6)))
		_ = b.step(r, p, q) // some make no sense where they fall
	}
}

func (b *bench) step(r *rand.Rand, p, q string) error {
	switch r.IntN(11) {
	case 0:
		return os.WriteFile(q, fmt.Append(nil, "new ", r.IntN(1000)), 0o644)
	case 1:
		if info, err := os.Lstat(p); err == nil && info.Mode().IsRegular() {
			return os.WriteFile(p, fmt.Append(nil, "changed ", r.IntN(1000)), 0o644)
		}
	case 2, 3:
		return os.Rename(p, q)
	case 4:
		if p != b.live {
			return os.RemoveAll(p)
		}
	case 5:
		return os.Mkdir(q, 0o755)
	case 6:
		return os.Link(p, q)
	case 7:
		return unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, q, unix.RENAME_EXCHANGE)
	case 8:
		return os.Symlink(fmt.Sprint(r.IntN(5)), q)
	case 9:
		if info, err := os.Lstat(p); err == nil && info.Mode()&os.ModeSymlink == 0 {
			if r.IntN(2) == 0 {
				return unix.Setxattr(p, "user.x", fmt.Append(nil, r.IntN(3)), 0)
			}
			return os.Chmod(p, []os.FileMode{0o700, 0o755}[r.IntN(2)])
		}
	case 10:
		if info, err := os.Lstat(p); err == nil && info.Mode().IsRegular() { // as an editor saves
			if err := os.WriteFile(p+"~", fmt.Append(nil, "saved ", r.IntN(1000)), 0o644); err != nil {
				return err
			}
			return os.Rename(p+"~", p)
		}
	}
	return nil
}

// contents are those of all regular files.
func contents(t *testing.T, root string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(p)
		out[string(text)] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRandomTreesComeBack(t *testing.T) {
	for seed := range uint64(30) {
		b := newBench(t)
		r := rand.New(rand.NewPCG(seed, 7))
		b.live = b.past
		b.mutate(r, 40)
		b.live = filepath.Join(filepath.Dir(b.past), "live")
		b.fork()
		b.mutate(r, 1+r.IntN(60))
		before := contents(t, b.live)
		// It is interrupted somewhere, and run again.
		ctx, cancel := context.WithCancel(t.Context())
		stop := uint64(r.IntN(40))
		opts := b.options()
		opts.Progress = func(stage string, done, _ uint64, _ string) {
			if stage == "restoring" && done >= stop {
				cancel()
			}
		}
		if report, err := Tree(ctx, side(b.past), side(b.live), opts); err == nil {
			b.none(report)
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
		b.restore()
		b.equal(fmt.Sprint("seed ", seed))
		after := contents(t, b.live)
		for text := range before {
			if !after[text] && !b.kept[text] {
				t.Errorf("seed %d: %q is lost", seed, text)
			}
		}
		if t.Failed() {
			return
		}
	}
}
