package versions

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
)

// other is a tree as a source of chunks.
type other struct {
	*Tree
	t      testing.TB
	wanted map[sharefs.ChunkID]bool
	got    int
	change func(of int, data []byte) ([]byte, error) // nil: sent as they are
}

func (o *other) Want(_ int, ids ...sharefs.ChunkID) {
	for _, id := range ids {
		if o.wanted[id] {
			o.t.Errorf("chunk %s is wanted twice", id)
		}
		o.wanted[id] = true
	}
}

func (o *other) Get(of int, id sharefs.ChunkID, good func([]byte) bool) ([]byte, error) {
	o.got++
	if !o.wanted[id] {
		o.t.Errorf("nobody was told that chunk %s is wanted", id)
	}
	data, err := o.Chunk(id, nil)
	check(o.t, err)
	if !good(data) {
		o.t.Errorf("what chunk %s is does not count as good", id)
	}
	if o.change == nil {
		return data, nil
	}
	return o.change(of, data)
}

// pair returns two trees that name chunks alike, the second as a source.
func pair(t testing.TB) (here *Tree, there *other) {
	t.Helper()
	one, two := sharefs.PeerID{1}, sharefs.PeerID{2}
	here = testTree(t, t.TempDir(), byHand, func(c *Config) { c.Peer = one })
	return here, &other{testTree(t, t.TempDir(), byHand, func(c *Config) { c.Peer = two }), t, map[sharefs.ChunkID]bool{}, 0, nil}
}

// staged returns a content as a file that waits to be a live one.
func staged(t testing.TB, tree *Tree, f Foreign) *Staged {
	t.Helper()
	list, errs, err := tree.Stage([]Foreign{f})
	check(t, err)
	check(t, errs[0])
	t.Cleanup(list[0].Drop)
	return list[0]
}

// newestKept returns the newest version of a file as another host learns of it, when it has been captured.
func newestKept(t testing.TB, tree *Tree, ino sharefs.Ino) Latest {
	t.Helper()
	settle(t, tree, ino)
	capture(t, tree)
	l := must[Latest](t)(tree.Latest(ino))
	if !l.Kept {
		t.Fatalf("%+v is not kept", l)
	}
	return l
}

func gathered(t testing.TB, tree *Tree, src Source, list ...Content) *Lease {
	t.Helper()
	l, errs, err := tree.Gather(list, src)
	check(t, err)
	for _, err := range errs {
		check(t, err)
	}
	return l
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	here, there := pair(t)
	sizes := []int{0, 1, 5, 70_000, 1 << 20, 8 << 20}
	var list []Content
	var texts []string
	for i, size := range sizes {
		texts = append(texts, blob(uint64(i), size))
		a := create(t, there.Tree, sharefs.RootIno, fmt.Sprint(i), texts[i])
		list = append(list, newestKept(t, there.Tree, a.Ino).Content)
	}
	if list[5].Level == 0 {
		t.Fatal("the largest has no nodes")
	}
	l := gathered(t, here, there, list...)
	defer l.End()
	got := there.got
	gathered(t, here, there, list...).End()
	if there.got != got {
		t.Errorf("%d chunks came again", there.got-got)
	}
	collect(t, here, GCOptions{})
	inos := make([]sharefs.Ino, len(list))
	for i := range list {
		a := create(t, here, sharefs.RootIno, fmt.Sprint(i), "")
		inos[i] = a.Ino
		base := uint64(0)
		if i%2 == 1 { // it held something before
			rewrite(t, here, a.Ino, "before")
			base = newestKept(t, here, a.Ino).Own
		} else {
			settle(t, here, a.Ino)
			base = must[Latest](t)(here.Latest(a.Ino)).Own
		}
		own, err := here.Adopt(a.Ino, staged(t, here, Foreign{Content: list[i], Author: there.cfg.Peer}), base)
		check(t, err)
		if own == base {
			t.Errorf("%d: no version was made", i)
		}
	}
	l.End()
	collect(t, here, GCOptions{})
	capture(t, here)
	for i, ino := range inos {
		h := must[*Handle](t)(here.Open(ino, unix.O_RDONLY, root))
		b, err := io.ReadAll(io.NewSectionReader(readerAt{h}, 0, int64(sizes[i])+1))
		check(t, err)
		check(t, h.Close())
		if string(b) != texts[i] {
			t.Fatalf("file %d holds other bytes", i)
		}
		now := must[Latest](t)(here.Latest(ino))
		if now.Content.Level != list[i].Level || len(now.Content.Spans) != len(list[i].Spans) || now.Content.Mtime != list[i].Mtime {
			t.Errorf("file %d: the version is %+v, not %+v", i, now.Content, list[i])
		}
		all := must[[]sharefs.Version](t)(here.Versions(ino))
		if last := all[len(all)-1]; last.Author != there.cfg.Peer {
			t.Errorf("file %d: the author is %v", i, last.Author)
		}
		if a := must[sharefs.Attr](t)(here.Getattr(ino)); a.Mtime != list[i].Mtime || int(a.Size) != sizes[i] {
			t.Errorf("file %d: %+v", i, a)
		}
		if i%2 == 1 && len(all) != 2 {
			t.Errorf("file %d has %d versions", i, len(all))
		}
	}
	wantClean(t, here, FsckScrub)
}

// readerAt reads a handle.
type readerAt struct{ h *Handle }

func (r readerAt) ReadAt(b []byte, off int64) (int, error) {
	n, err := r.h.ReadAt(b, off)
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

// What changed meanwhile, is being written to or is not all here is left as it is.
func TestAdoptOnlyWhatIsAsExpected(t *testing.T) {
	here, there := pair(t)
	c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, "f", "theirs").Ino).Content
	a := create(t, here, sharefs.RootIno, "f", "ours")
	own := newestKept(t, here, a.Ino).Own
	theirs := Foreign{Content: c, Author: there.cfg.Peer}
	for _, bad := range []struct {
		change func(f *Foreign)
		kind   sharefs.Kind
	}{{func(*Foreign) {}, sharefs.KindAgain}, {func(f *Foreign) { f.Size++ }, sharefs.KindInvalid}, {func(f *Foreign) { f.Key[0]++ }, sharefs.KindAccess}} {
		f := theirs
		bad.change(&f)
		if list, errs, err := here.Stage([]Foreign{f}); err != nil || list[0] != nil || !errors.Is(errs[0], bad.kind) {
			t.Errorf("%+v, not %v: %v %v", f, bad.kind, errs, err)
		}
	}
	defer gathered(t, here, there, c).End()
	again := func(base uint64, why string) {
		t.Helper()
		if _, err := here.Adopt(a.Ino, staged(t, here, theirs), base); !errors.Is(err, sharefs.KindAgain) {
			t.Errorf("%s: %v", why, err)
		}
		if got := content(t, here, a.Ino); got != "ours" {
			t.Fatalf("%s: the file holds %q", why, got)
		}
	}
	again(own-1, "another version")
	h := must[*Handle](t)(here.Open(a.Ino, unix.O_RDWR, root))
	again(own, "somebody may write")
	check(t, h.Close())
	own = newestKept(t, here, a.Ino).Own // where the disk's clock is coarse, opening it for writing may have made another one
	s := staged(t, here, theirs)
	if _, err := here.Adopt(sharefs.RootIno, s, 0); !errors.Is(err, sharefs.KindInvalid) {
		t.Error(err)
	}
	must[uint64](t)(here.Adopt(a.Ino, s, own))
	if _, err := here.Adopt(a.Ino, s, own+1); !errors.Is(err, sharefs.KindInvalid) {
		t.Error(err)
	}
	if got := content(t, here, a.Ino); got != "theirs" {
		t.Errorf("the file holds %q", got)
	}
}

// One content that cannot be had, or is not what it is said to be, keeps no other back, and is there when it is sent as it is.
func TestGatherPassesOverWhatCannotBeHad(t *testing.T) {
	here, there := pair(t)
	var list []Content
	for i := range 6 {
		list = append(list, newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, fmt.Sprint(i), blob(uint64(i), 1<<20)).Ino).Content)
	}
	list = append(list, Content{Size: 3, Spans: []Span{{Len: 4, Hole: true}}})
	gone := errors.New("gone")
	there.change = func(of int, data []byte) ([]byte, error) {
		switch of {
		case 1:
			return nil, gone
		case 3:
			data = bytes.Clone(data)
			data[len(data)/2] ^= 1
		case 4:
			data = data[:len(data)-1]
		}
		return data, nil
	}
	l, errs, err := here.Gather(list, there)
	check(t, err)
	defer l.End()
	for i, want := range []error{nil, gone, nil, sharefs.KindCorrupt, sharefs.KindCorrupt, nil, sharefs.KindInvalid} {
		if !errors.Is(errs[i], want) {
			t.Errorf("content %d: %v", i, errs[i])
		}
		if ok := must[bool](t)(here.Here(&list[i])); ok != (want == nil) {
			t.Errorf("content %d is here: %v", i, ok)
		}
	}
	there.change = nil
	clear(there.wanted)
	gathered(t, here, there, list[:6]...).End()
}

// TestGatherTellsOfAllThatIsMissing: where little of a large file changed, here and there, the source knows of all of it before the first of it has come, however much lies between.
func TestGatherTellsOfAllThatIsMissing(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	here, there := pair(t)
	const size, piece = gatherBytes + 4<<20, 64 << 10
	text := []byte(blob(1, size))
	ino := save(t, there.Tree, "f", string(text))
	gathered(t, here, there, newestKept(t, there.Tree, ino).Content)
	for _, at := range []int{0, size / 2, size - piece} {
		copy(text[at:], blob(uint64(2+at), piece))
	}
	save(t, there.Tree, "f", string(text))
	clear(there.wanted)
	first := 0 // chunks that the source was told of when the first one was asked for
	there.change = func(_ int, data []byte) ([]byte, error) {
		if _, node := decodeSpans(data, size); first == 0 && len(data) >= 16<<10 && !node {
			first = len(there.wanted)
		}
		return data, nil
	}
	l, errs, err := here.GatherSome([]Content{newestKept(t, there.Tree, ino).Content}, nil, func(int) bool { return true }, there)
	check(t, err)
	check(t, errs[0])
	l.End()
	if n := len(there.wanted); first == 0 || first < n {
		t.Errorf("of %d chunks and nodes the source knew of %d when the first chunk was asked for", n, first)
	}
}

// What had come of a large content when the daemon was killed need not come again: neither of a fast line, nor of one that takes long to bring a little.
func TestGatherGoesOnBehindAKill(t *testing.T) {
	for name, bound := range map[string]func(h *history){
		"bytes": func(h *history) { h.gatherFlush, h.gatherTime = 1<<20, time.Hour },
		"time":  func(h *history) { h.gatherTime = time.Nanosecond },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here, there := pair(t)
			bound(&here.past)
			c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, "f", blob(1, 6<<20)).Ino).Content
			var image string
			came := 0
			there.change = func(_ int, data []byte) ([]byte, error) {
				if came += len(data); image == "" && came > 4<<20 {
					image = killed(t, here)
				}
				return data, nil
			}
			gathered(t, here, there, c).End()
			all := there.got
			clear(there.wanted)
			there.got, there.change = 0, nil
			again := testTree(t, image, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} })
			gathered(t, again, there, c).End()
			if there.got == 0 || there.got > all*2/3 {
				t.Errorf("%d of %d chunks came again, of which two thirds had come", there.got, all)
			}
		})
	}
}

// Who has the file open sees it change, and who opens it after that sees the new content alone; no file is left behind.
func TestAdoptUnderAReader(t *testing.T) {
	for name, hold := range map[string]bool{"open": true, "not open": false} {
		t.Run(name, func(t *testing.T) {
			here, there := pair(t)
			c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, "f", "theirs").Ino).Content
			ino := save(t, here, "f", "what was here before")
			base := newestKept(t, here, ino).Own
			defer gathered(t, here, there, c).End()
			var h *Handle
			if hold {
				h = must[*Handle](t)(here.Open(ino, unix.O_RDONLY, root))
				defer h.Close()
			}
			before := must[unix.Stat_t](t)(here.live.stat(ino))
			must[uint64](t)(here.Adopt(ino, staged(t, here, Foreign{Content: c, Author: there.cfg.Peer}), base))
			after := must[unix.Stat_t](t)(here.live.stat(ino))
			if (before.Ino == after.Ino) != hold {
				t.Errorf("the backing file was %d and is %d", before.Ino, after.Ino)
			}
			if hold {
				b := make([]byte, 100)
				if n, err := h.ReadAt(b, 0); err != nil || string(b[:n]) != "theirs" {
					t.Errorf("the reader sees %q: %v", b[:n], err)
				}
			}
			if got := content(t, here, ino); got != "theirs" {
				t.Errorf("it holds %q", got)
			}
			wantHistory(t, here, ino, "what was here before", "theirs")
			rewrite(t, here, ino, "and after")
			settle(t, here, ino)
			wantHistory(t, here, ino, "what was here before", "theirs", "and after")
			capture(t, here)
			wantClean(t, here, FsckScrub)
		})
	}
}

// A file is there with its content from the first, and where its name is taken nothing is left.
func TestPutWithContent(t *testing.T) {
	here, there := pair(t)
	c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, "f", blob(1, 300_000)).Ino).Content
	l := gathered(t, here, there, c)
	s := staged(t, here, Foreign{Content: c, Author: there.cfg.Peer})
	l.End()
	collect(t, here, GCOptions{}) // what is staged keeps its chunks
	create(t, here, sharefs.RootIno, "taken", "")
	n := New{ID: sharefs.FileID{1}, Mode: sharefs.ModeRegular | 0o640, Staged: s}
	if _, err := here.Put(sharefs.RootIno, "taken", n, root); !errors.Is(err, sharefs.KindExist) {
		t.Fatal(err)
	}
	a := must[sharefs.Attr](t)(here.Put(sharefs.RootIno, "new", n, root))
	if _, err := here.Put(sharefs.RootIno, "again", n, root); !errors.Is(err, sharefs.KindInvalid) {
		t.Error(err)
	}
	if a.Size != c.Size || a.Mtime != c.Mtime || a.Blocks == 0 {
		t.Errorf("%+v", a)
	}
	if got := content(t, here, a.Ino); got != blob(1, 300_000) {
		t.Error("it holds something else")
	}
	now := must[Latest](t)(here.Latest(a.Ino))
	if now.Own != 1 || !now.Kept || now.Content.Level != c.Level || now.Content.Key != c.Key {
		t.Errorf("%+v", now)
	}
	if all := must[[]sharefs.Version](t)(here.Versions(a.Ino)); len(all) != 1 || all[0].Author != there.cfg.Peer {
		t.Errorf("%+v", all)
	}
	s.Drop()
	collect(t, here, GCOptions{})
	capture(t, here)
	wantClean(t, here, FsckScrub)
}

// vouched is a source that has hashed what it returns.
type vouched struct{ *other }

func (vouched) Checked() {}

// What a source has hashed is not hashed again, but it has to fit.
func TestGatherFromASourceThatHasChecked(t *testing.T) {
	t.Parallel()
	here, there := pair(t)
	c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, "f", blob(1, 40<<10)).Ino).Content
	if c.Level != 0 {
		t.Fatalf("the content has nodes, of which no length is known: %+v", c)
	}
	there.change = func(_ int, data []byte) ([]byte, error) { return data[:len(data)-1], nil }
	l, errs, err := here.Gather([]Content{c}, vouched{there})
	check(t, err)
	l.End()
	if !errors.Is(errs[0], sharefs.KindCorrupt) {
		t.Errorf("chunks that are too short: %v", errs[0])
	}
	there.change = nil
	clear(there.wanted)
	l, errs, err = here.Gather([]Content{c}, vouched{there})
	check(t, err)
	defer l.End()
	if ok := must[bool](t)(here.Here(&c)); !ok || errs[0] != nil {
		t.Errorf("it is here: %v, %v", ok, errs[0])
	}
}
