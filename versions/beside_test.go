package versions

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"sharefs"
)

// A version of another host is read as any other one, and the file holds what it held, also for who goes on from there.
func TestBeside(t *testing.T) {
	t.Parallel()
	here, there := pair(t)
	texts := []string{"theirs", "", blob(7, 3<<20)}
	for i, theirs := range texts {
		name := string(rune('a' + i))
		c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, name, theirs).Ino).Content
		a := create(t, here, sharefs.RootIno, name, "ours"+theirs)
		f := Foreign{Content: c, Author: there.cfg.Peer}
		settle(t, here, a.Ino)
		if _, err := here.Beside(a.Ino, f); !errors.Is(err, sharefs.KindAgain) {
			t.Errorf("%s: not captured, not here: %v", name, err)
		}
		capture(t, here)
		l := gathered(t, here, there, c)
		number, err := here.Beside(a.Ino, f)
		check(t, err)
		if again := must[uint64](t)(here.Beside(a.Ino, f)); again != number || number != 2 {
			t.Errorf("%s: version %d, and then %d", name, number, again)
		}
		if n := must[uint64](t)(here.Numbered(a.Ino, f)); n != number {
			t.Errorf("%s: it is found as version %d", name, n)
		}
		if n := must[uint64](t)(here.Numbered(a.Ino, Foreign{Content: newestKept(t, here, a.Ino).Content, Author: here.cfg.Peer})); n != 3 {
			t.Errorf("%s: what the file holds is found as version %d", name, n)
		}
		if n := must[uint64](t)(here.Numbered(a.Ino, Foreign{Content: c, Author: sharefs.PeerID{77}})); n != 0 {
			t.Errorf("%s: of nobody it is found as version %d", name, n)
		}
		l.End()
		collect(t, here, GCOptions{})
		rewrite(t, here, a.Ino, "ours again"+theirs)
		newestKept(t, here, a.Ino)
		if again := must[uint64](t)(here.Beside(a.Ino, f)); again != number {
			t.Errorf("%s: version %d once more", name, again)
		}
		all := must[[]sharefs.Version](t)(here.Versions(a.Ino))
		if len(all) != 4 {
			t.Fatalf("%s: %+v", name, all)
		}
		for j, want := range []string{"ours" + theirs, theirs, "ours" + theirs, "ours again" + theirs} {
			v := all[j]
			if v.Number != uint64(j+1) || (v.Author == there.cfg.Peer) != (j == 1) || v.Live != (j == 3) || j > 0 && v.At <= all[j-1].At {
				t.Errorf("%s: %+v", name, v)
			}
			if got := versionOf(t, here, a.Ino, v.Number); got != want {
				t.Errorf("%s: version %d holds %d bytes, not %d", name, j+1, len(got), len(want))
			}
		}
		var held []uint64 // what it held before the newest version: others need not be told of what it never held
		for _, c := range must[[]Content](t)(here.Between(a.Ino, 0, 4, 10)) {
			held = append(held, c.Size)
		}
		if n := uint64(len("ours" + theirs)); !slices.Equal(held, []uint64{n, n}) {
			t.Errorf("%s: it held %v", name, held)
		}
		if few := must[[]Content](t)(here.Between(a.Ino, 0, 4, 1)); len(few) != 1 {
			t.Errorf("%s: %+v", name, few)
		}
		if none := must[[]Content](t)(here.Between(a.Ino, 3, 4, 10)); len(none) != 0 {
			t.Errorf("%s: %+v", name, none)
		}
		if got := content(t, here, a.Ino); !strings.HasPrefix("ours again"+theirs, got) || len(got) < 10 {
			t.Errorf("%s: the file holds other bytes", name)
		}
	}
	wantClean(t, here, FsckScrub)
}

// What a file held before it was saved by another one that was renamed over it is found in its history, up to where the file continues that of the other one.
func TestNumberedBeforeASave(t *testing.T) {
	here, there := pair(t)
	c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, "f", "theirs").Ino).Content
	a := create(t, here, sharefs.RootIno, "f", "first")
	held := []Foreign{{Content: newestKept(t, here, a.Ino).Content, Author: here.cfg.Peer}}
	l := gathered(t, here, there, c)
	defer l.End()
	theirs := Foreign{Content: c, Author: there.cfg.Peer}
	if n := must[uint64](t)(here.Beside(a.Ino, theirs)); n != 2 {
		t.Fatalf("version %d", n)
	}
	for _, text := range []string{"saved", "saved again"} {
		a = create(t, here, sharefs.RootIno, "temp", text)
		check(t, here.Rename(sharefs.RootIno, "temp", sharefs.RootIno, "f", 0))
		held = append(held, Foreign{Content: newestKept(t, here, a.Ino).Content, Author: here.cfg.Peer})
	}
	for i, f := range append(held, theirs) {
		want := []uint64{3, 4, 5, 2}[i] // the first was entered once more behind theirs
		if n := must[uint64](t)(here.Numbered(a.Ino, f)); n != want {
			t.Errorf("content %d is found as version %d, not %d", i, n, want)
		}
		if got, want := versionOf(t, here, a.Ino, want), []string{"first", "saved", "saved again", "theirs"}[i]; got != want {
			t.Errorf("it holds %q, not %q", got, want)
		}
	}
	if n := must[uint64](t)(here.Numbered(a.Ino, Foreign{Content: held[0].Content, Author: there.cfg.Peer})); n != 0 {
		t.Errorf("of who did not write it, it is found as version %d", n)
	}
	// What the other one got after that is no part of the history.
	must[sharefs.Attr](t)(here.Link(a.Ino, sharefs.RootIno, "other"))
	old := a.Ino
	a = create(t, here, sharefs.RootIno, "temp", "over it")
	check(t, here.Rename(sharefs.RootIno, "temp", sharefs.RootIno, "f", 0))
	newestKept(t, here, a.Ino)
	rewrite(t, here, old, "under the other name")
	later := Foreign{Content: newestKept(t, here, old).Content, Author: here.cfg.Peer}
	if n := must[uint64](t)(here.Numbered(old, later)); n != 6 {
		t.Errorf("under its other name it is found as version %d", n)
	}
	if n := must[uint64](t)(here.Numbered(a.Ino, later)); n != 0 {
		t.Errorf("what another file held later is found as version %d", n)
	}
	if n := must[uint64](t)(here.Numbered(a.Ino, held[0])); n != 3 {
		t.Errorf("the first is found as version %d", n)
	}
}

func versionOf(t *testing.T, tree *Tree, ino sharefs.Ino, number uint64) string {
	t.Helper()
	r := must[VersionReader](t)(tree.OpenVersion(ino, number))
	defer r.Close()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<30))
	check(t, err)
	return string(b)
}

// What has no version, is written to, or is no file has none beside it.
func TestBesideNothing(t *testing.T) {
	here, there := pair(t)
	c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, "f", "theirs").Ino).Content
	defer gathered(t, here, there, c).End()
	f := Foreign{Content: c, Author: there.cfg.Peer}
	if _, err := here.Beside(sharefs.RootIno, f); !errors.Is(err, sharefs.KindInvalid) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := here.Beside(99, f); !errors.Is(err, sharefs.KindStale) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := here.Beside(create(t, here, sharefs.RootIno, "new", "").Ino, f); !errors.Is(err, sharefs.KindNotSupported) {
		t.Errorf("a file without versions: %v", err)
	}
	f.Size++
	if _, err := here.Beside(sharefs.RootIno, f); !errors.Is(err, sharefs.KindInvalid) {
		t.Errorf("no manifest: %v", err)
	}
	f.Size--
	f.Key = sharefs.KeyID{9}
	if _, err := here.Beside(sharefs.RootIno, f); !errors.Is(err, sharefs.KindAccess) {
		t.Errorf("a key that is not here: %v", err)
	}
}
