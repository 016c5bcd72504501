package versions

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/writers"
)

func TestVerdictThatWasOvertakenIsDropped(t *testing.T) {
	tree := testTree(t, t.TempDir(), func(c *Config) { c.Settle = time.Hour })
	f := create(t, tree, sharefs.RootIno, "f", "x")
	if a := must[sharefs.Attr](t)(tree.Getattr(f.Ino)); !a.Changing {
		t.Fatal("a file is at rest before its time")
	}
	check(t, tree.settle([]writers.Event{{ID: f.Ino, Kind: writers.Quiet, Changed: true}}))
	if a := must[sharefs.Attr](t)(tree.Getattr(f.Ino)); !a.Changing {
		t.Error("a verdict is taken although another is to come")
	}
	ev := must[writers.Event](t)(tree.track.Take(f.Ino))
	check(t, tree.settle([]writers.Event{ev}))
	if a := must[sharefs.Attr](t)(tree.Getattr(f.Ino)); a.Changing || a.Size != 1 {
		t.Errorf("after the verdict: %+v", a)
	}
	noProblems(t, tree)
}

// surviveEnv makes this binary a daemon that makes a file, tells its inode and is killed.
const surviveEnv = "SHAREFS_SURVIVE_TEST"

func TestSurviveChild(t *testing.T) {
	dir := os.Getenv(surviveEnv)
	if dir == "" {
		t.Skip("only as a child of TestWritersThatSurviveTheDaemon")
	}
	tree, err := Open(Config{Dir: dir, Settle: time.Hour})
	check(t, err)
	a, h, err := tree.Create(sharefs.RootIno, "f", unix.O_RDWR, 0o644, root)
	check(t, err)
	writeAll(t, h, "before")
	fmt.Printf("inode %d\n", a.Ino)
	select {}
}

// TestWritersThatSurviveTheDaemon kills a daemon while somebody has a file open through passthrough, which here is the backing file itself.
func TestWritersThatSurviveTheDaemon(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSurviveChild$")
	cmd.Env = append(os.Environ(), surviveEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	var ino sharefs.Ino
	for lines := bufio.NewScanner(out); ino == 0 && lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "inode "); ok {
			ino = sharefs.Ino(must[uint64](t)(strconv.ParseUint(n, 10, 64)))
		}
	}
	if ino == 0 {
		t.Fatal("the child told no inode")
	}
	survivor, err := os.OpenFile(filepath.Join(dir, "live", (&liveDir{}).name(ino)), os.O_RDWR, 0)
	check(t, err)
	defer survivor.Close()
	check(t, cmd.Process.Kill())
	_ = cmd.Wait() // tells that it was killed
	if _, err := survivor.WriteAt([]byte("no daemon "), 0); err != nil {
		t.Fatal(err)
	}

	tree := testTree(t, dir)
	if a := lookup(t, tree, sharefs.RootIno, "f"); a.Size != 10 || !a.Changing {
		t.Errorf("after the start: %+v", a)
	}
	ev := must[writers.Event](t)(tree.track.Take(ino))
	if ev.Kind != writers.StillHeld && tree.track.Stats().Leases {
		t.Errorf("with a writer at work: %v", ev.Kind)
	}
	if _, err := survivor.WriteAt([]byte("still there"), 0); err != nil {
		t.Fatal(err)
	}
	if a := lookup(t, tree, sharefs.RootIno, "f"); a.Size != 11 {
		t.Errorf("while the survivor writes: %+v", a)
	}
	check(t, survivor.Close())
	if a := rest(t, tree, ino); a.Size != 11 {
		t.Errorf("at rest: %+v", a)
	}
	noProblems(t, tree)
}

func TestManyHandlesFewDescriptors(t *testing.T) {
	tree := testTree(t, t.TempDir(), func(c *Config) { c.descriptors = 50 })
	const n = 600
	var handles []*Handle
	for i := range n {
		_, h, err := tree.Create(sharefs.RootIno, fmt.Sprint(i), unix.O_RDWR, 0o644, root)
		check(t, err)
		writeAll(t, h, fmt.Sprint(i))
		handles = append(handles, h, must[*Handle](t)(tree.Open(h.Ino(), unix.O_RDONLY, root)))
		if open := tree.files.open.Load(); open > 60 {
			t.Fatalf("%d descriptors for %d files", open, i)
		}
	}
	for i, h := range handles {
		b := make([]byte, 10)
		if k := must[int](t)(h.ReadAt(b, 0)); string(b[:k]) != fmt.Sprint(i/2) {
			t.Fatalf("file %d holds %q", i/2, b[:k])
		}
		if i%7 == 0 {
			check(t, unix.Close(must[int](t)(h.Backing())))
		}
	}
	if open := tree.files.open.Load(); open > 60 {
		t.Errorf("%d descriptors at the end", open)
	}
	for _, h := range handles {
		check(t, h.Close())
	}
	if open := tree.files.open.Load(); open != 0 {
		t.Errorf("%d descriptors without a handle", open)
	}
	noProblems(t, tree)
}
