package versions

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// wantPrepared checks how many files are filled with contents and not taken, and how many backing files that hold something belong to no inode.
func wantPrepared(t testing.TB, tree *Tree, ready, out int) {
	t.Helper()
	if got := len(tree.past.filled.of); got != ready {
		t.Errorf("%d files are filled and not taken, not %d", got, ready)
	}
	tree.stock.mu.Lock()
	defer tree.stock.mu.Unlock()
	for ino := range tree.stock.out {
		if st, err := tree.live.stat(ino); err == nil && st.Size > 0 {
			out--
		}
	}
	if out != 0 {
		t.Errorf("%d backing files too few belong to nobody", out)
	}
}

// The file of a large content is filled while that comes, whatever it holds, and Stage takes it.
func TestFilledAhead(t *testing.T) {
	t.Parallel()
	here, there := pair(t)
	part := blob(1, 2<<20)
	for i, c := range []struct {
		text  string
		ahead int // files that are filled; -1: it may be
	}{
		{blob(2, 5<<20), 1},
		{blob(3, 9<<20), 1},
		{part + strings.Repeat("\x00", 3<<20) + blob(4, 1<<20), 1},
		{part + blob(5, 2<<20) + part, -1}, // the same chunks and nodes twice
		{blob(2, 5<<20) + "!", 0},          // nearly all of it is here
		{blob(6, 3<<20), 0},                // small
	} {
		name := fmt.Sprint(i)
		list := []Content{newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, name, c.text).Ino).Content}
		clear(there.wanted)
		l, errs, err := here.GatherToStage(list, there)
		check(t, err)
		check(t, errs[0])
		if c.ahead < 0 {
			c.ahead = len(here.past.filled.of)
		}
		wantPrepared(t, here, c.ahead, c.ahead)
		s := staged(t, here, Foreign{Content: list[0], Author: there.cfg.Peer})
		wantPrepared(t, here, 0, 1)
		a := must[sharefs.Attr](t)(here.Put(sharefs.RootIno, name, New{ID: sharefs.FileID{byte(i + 1)}, Mode: sharefs.ModeRegular | 0o640, Staged: s}, root))
		l.End()
		wantPrepared(t, here, 0, 0)
		h := must[*Handle](t)(here.Open(a.Ino, unix.O_RDONLY, root))
		got, err := io.ReadAll(io.NewSectionReader(readerAt{h}, 0, int64(len(c.text))+1))
		check(t, err)
		check(t, h.Close())
		if string(got) != c.text {
			t.Errorf("file %d holds other bytes", i)
		}
		if a.Size != uint64(len(c.text)) || a.Mtime != list[0].Mtime {
			t.Errorf("%+v", a)
		}
	}
	capture(t, here)
	wantClean(t, here, FsckScrub)
}

// What was filled and is not needed goes.
func TestFilledInVain(t *testing.T) {
	t.Parallel()
	here, there := pair(t)
	var list []Content
	for i := range 2 {
		list = append(list, newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, fmt.Sprint(i), blob(uint64(i), 5<<20)).Ino).Content)
	}
	gone := errors.New("gone")
	left := 40
	there.change = func(of int, data []byte) ([]byte, error) {
		if of == 1 {
			if left--; left < 0 {
				return nil, gone
			}
		}
		return data, nil
	}
	l, errs, err := here.GatherToStage(list, there)
	check(t, err)
	if errs[0] != nil || !errors.Is(errs[1], gone) {
		t.Error(errs)
	}
	wantPrepared(t, here, 1, 1)
	again, _, err := here.GatherToStage(list[:1], there) // of what is here
	check(t, err)
	again.End()
	wantPrepared(t, here, 1, 1)
	l.End()
	l.End()
	wantPrepared(t, here, 0, 0)
	wantClean(t, here, FsckScrub)
}
