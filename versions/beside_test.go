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
	here, there := pair(t)
	texts := []string{"theirs", "", blob(7, 3<<20)}
	for i, theirs := range texts {
		name := string(rune('a' + i))
		c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, name, theirs).Ino).Content
		a := create(t, here, sharefs.RootIno, name, "ours"+theirs)
		f := Foreign{c, there.cfg.Peer}
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
		if n := must[uint64](t)(here.Numbered(a.Ino, Foreign{newestKept(t, here, a.Ino).Content, here.cfg.Peer})); n != 3 {
			t.Errorf("%s: what the file holds is found as version %d", name, n)
		}
		if n := must[uint64](t)(here.Numbered(a.Ino, Foreign{c, sharefs.PeerID{77}})); n != 0 {
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
	f := Foreign{c, there.cfg.Peer}
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
