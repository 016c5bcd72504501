package versions

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

func keptAdopting() adopting {
	return adopting{
		base: 7, was: 1000, author: sharefs.PeerID{31: 3}, size: 300, mtime: -5, key: 2,
		top: manifest{1, []span{{len: 200, id: sharefs.ChunkID{31: 5}}, {len: 100, hole: true}}},
	}
}

func TestAdoptingRow(t *testing.T) {
	a := keptAdopting()
	want := "\x01\x07\xd0\x0f" + string(make([]byte, 31)) + "\x03\xac\x02\x09\x02\x01\x90\x03" + string(make([]byte, 31)) + "\x05\xc9\x01"
	if got := string(a.encode()); got != want {
		t.Fatalf("written as\n%x, want\n%x", got, want)
	}
	if back, err := decodeAdopting(1, []byte(want)); err != nil || !reflect.DeepEqual(back, a) {
		t.Errorf("reads back as %+v, %v", back, err)
	}
	for i := range len(want) {
		if _, err := decodeAdopting(1, []byte(want[:i])); !errors.Is(err, sharefs.KindCorrupt) {
			t.Errorf("a row cut to %d bytes: %v", i, err)
		}
	}
}

func FuzzAdopting(f *testing.F) {
	a := keptAdopting()
	f.Add(a.encode())
	a.size, a.top = 0, manifest{}
	f.Add(a.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAdopting(1, b)
		if err != nil {
			return
		}
		if again, err := decodeAdopting(1, a.encode()); err != nil || !reflect.DeepEqual(again, a) {
			t.Errorf("%+v reads back as %+v, %v", a, again, err)
		}
	})
}

// sparse is what a file holds: bytes, and where there is nothing but a hole.
type sparse struct {
	text  string
	holes []run // zero in text
}

// holed returns bytes with holes.
func holed(text string, holes ...run) sparse {
	b := []byte(text)
	for _, r := range holes {
		clear(b[r.from:r.to])
	}
	return sparse{string(b), holes}
}

// saveSparse has a file of the root hold something, and come to rest.
func saveSparse(t testing.TB, tree *Tree, name string, s sparse) sharefs.Ino {
	t.Helper()
	a, h, err := tree.Create(sharefs.RootIno, name, unix.O_RDWR|unix.O_TRUNC, 0o644, root)
	check(t, err)
	defer tree.Forget(a.Ino, 1)
	writeAll(t, h, s.text)
	for _, r := range s.holes {
		check(t, h.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.from, r.to-r.from, root))
	}
	check(t, h.Close())
	settle(t, tree, a.Ino)
	return a.Ino
}

// read returns what a file holds.
func read(t testing.TB, tree *Tree, ino sharefs.Ino) string {
	t.Helper()
	h := must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root))
	defer h.Close()
	return readHandle(t, h)
}

func readHandle(t testing.TB, h *Handle) string {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(readerAt{h}, 0, 1<<40))
	check(t, err)
	return string(b)
}

// spliced returns a text with other bytes at some place.
func spliced(text string, at int, other string) string {
	return text[:at] + other + text[at+len(other):]
}

// changesInPlace are contents and others that take their place.
func changesInPlace() map[string][2]sparse {
	big, wide := blob(1, 120_000), blob(1, 2_000_000)
	return map[string][2]sparse{
		"a part":            {{text: wide}, {text: spliced(spliced(wide, 400_000, blob(2, 9_000)), 1_400_000, blob(6, 9_000))}},
		"all of it":         {{text: big}, {text: blob(3, 80_000)}},
		"longer":            {{text: big}, {text: big + blob(4, 40_000)}},
		"shorter":           {{text: big}, {text: big[:20_000]}},
		"nothing":           {{text: big}, {}},
		"from nothing":      {{}, {text: big}},
		"small":             {{text: "what was here before"}, {text: "theirs"}},
		"a hole comes":      {{text: wide}, holed(wide, run{131072, 1_000_000})},
		"a hole goes":       {holed(wide, run{131072, 1_000_000}), {text: wide}},
		"a hole at the end": {{text: big}, holed(big+wide, run{98304, 2_000_000})},
	}
}

// inPlaceTrees are two trees that have a file each, what both hold, and the lease on what is to come here.
type inPlaceTrees struct {
	here   *Tree
	there  *other
	ino    sharefs.Ino
	own    uint64
	target Foreign
}

func inPlacePair(t testing.TB, change [2]sparse, more ...func(*Config)) *inPlaceTrees {
	t.Helper()
	p := &inPlaceTrees{}
	p.there = &other{testTree(t, t.TempDir(), byHand, func(c *Config) { c.Peer = sharefs.PeerID{2} }), t, map[sharefs.ChunkID]bool{}, 0, nil}
	p.here = testTree(t, t.TempDir(), append([]func(*Config){byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} }}, more...)...)
	p.file(t, "f", change)
	return p
}

// file goes on with another file.
func (p *inPlaceTrees) file(t testing.TB, name string, change [2]sparse) {
	t.Helper()
	c := newestKept(t, p.there.Tree, saveSparse(t, p.there.Tree, name, change[1])).Content
	p.ino = saveSparse(t, p.here, name, change[0])
	p.own = newestKept(t, p.here, p.ino).Own
	clear(p.there.wanted)
	l := gathered(t, p.here, p.there, c)
	t.Cleanup(l.End)
	check(t, p.here.unmark())
	check(t, p.here.Sync())
	p.target = Foreign{Content: c, Author: p.there.cfg.Peer, Onto: p.ino}
}

// Whatever takes the place of what a file held, who has it open sees that, holes stay holes, and the history has both.
func TestAdoptInPlace(t *testing.T) {
	t.Parallel()
	for _, patch := range []bool{false, true} {
		p := inPlacePair(t, [2]sparse{}, func(c *Config) {
			if patch {
				c.patchSize = 1
			}
		})
		p.here.past.aside.clones = false
		for name, change := range changesInPlace() {
			t.Run(fmt.Sprint(name, ", patched ", patch), func(t *testing.T) {
				p.file(t, name, change)
				var h *Handle
				if !patch {
					h = must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
					defer h.Close()
				}
				before := must[unix.Stat_t](t)(p.here.live.stat(p.ino))
				s := staged(t, p.here, p.target)
				patched := s.patch != nil
				if few := name == "a part" || name == "a hole comes"; few && patched != patch {
					t.Errorf("staged as a patch: %v", patched)
				}
				written := 0
				p.here.cfg.adopts = func(place string) error {
					if place == "write" {
						written++
					}
					return nil
				}
				own := must[uint64](t)(p.here.Adopt(p.ino, s, p.own))
				after := must[unix.Stat_t](t)(p.here.live.stat(p.ino))
				if (before.Ino == after.Ino) != (!patch || patched) {
					t.Errorf("the backing file was %d and is %d", before.Ino, after.Ino)
				}
				if name == "a part" && (written == 0 || written > 10) {
					t.Errorf("%d chunks were written", written)
				}
				if h != nil && readHandle(t, h) != change[1].text {
					t.Error("the reader sees something else")
				}
				if read(t, p.here, p.ino) != change[1].text {
					t.Error("it holds something else")
				}
				wantPast(t, p.here, p.ino, change[0].text, change[1].text)
				now := must[Latest](t)(p.here.Latest(p.ino))
				if now.Own != own || !now.Kept || now.Content.Mtime != p.target.Mtime || !reflect.DeepEqual(now.Content.Spans, p.target.Spans) {
					t.Errorf("%+v", now)
				}
				if a := must[sharefs.Attr](t)(p.here.Getattr(p.ino)); a.Mtime != p.target.Mtime || a.Size != p.target.Size {
					t.Errorf("%+v", a)
				}
				for _, r := range change[1].holes {
					fd := must[int](t)(p.here.live.openProbe(p.ino))
					if at, err := unix.Seek(fd, r.from+300_000, unix.SEEK_DATA); err == nil && at < r.to-300_000 {
						t.Errorf("there is data at %d, in a hole", at)
					}
					check(t, unix.Close(fd))
				}
				rewrite(t, p.here, p.ino, "and after")
				settle(t, p.here, p.ino)
				wantPast(t, p.here, p.ino, change[0].text, change[1].text, "and after")
				capture(t, p.here)
				wantNoAdoption(t, p.here)
				p.here.cfg.adopts = nil
			})
		}
		wantClean(t, p.here, FsckScrub)
	}
}

// wantPast is wantHistory that does not write down what it finds.
func wantPast(t testing.TB, tree *Tree, ino sharefs.Ino, want ...string) {
	t.Helper()
	var got []string
	for _, v := range must[[]sharefs.Version](t)(tree.Versions(ino)) {
		got = append(got, readVersion(t, tree, ino, v.Number))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("a history of %d versions is not that of %d which is wanted", len(got), len(want))
	}
}

// wantNoAdoption holds that nothing is in the middle of being adopted.
func wantNoAdoption(t testing.TB, tree *Tree) {
	t.Helper()
	rows := 0
	check(t, tree.db.Scan(spaceAdopting, nil, nil, func(_, _ []byte) bool { rows++; return true }))
	if rows > 0 || len(tree.past.adopts) > 0 || tree.past.adoptions.Load() != 0 {
		t.Errorf("%d rows, %v", rows, tree.past.adopts)
	}
}

// Whoever opens a file while it is being adopted waits, and finds the new content; one who writes changes that.
func TestOpenedWhileAdopted(t *testing.T) {
	t.Parallel()
	change := changesInPlace()["a part"]
	for _, writer := range []bool{false, true} {
		p := inPlacePair(t, change)
		h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
		var wg sync.WaitGroup
		var once sync.Once
		p.here.cfg.adopts = func(place string) error {
			if place != "write" {
				return nil
			}
			once.Do(func() {
				for range 4 {
					wg.Go(func() {
						if got := read(t, p.here, p.ino); got != change[1].text && !bytes.HasPrefix([]byte(got), []byte("mine")) {
							t.Error("it was opened and holds something else")
						}
					})
				}
				if writer {
					wg.Go(func() {
						w, err := p.here.Open(p.ino, unix.O_RDWR, root)
						if err != nil {
							t.Error(err)
							return
						}
						if _, err := w.WriteAt([]byte("mine"), 0); err != nil {
							t.Error(err)
						}
						if err := w.Close(); err != nil {
							t.Error(err)
						}
					})
				}
			})
			return nil
		}
		must[uint64](t)(p.here.Adopt(p.ino, staged(t, p.here, p.target), p.own))
		wg.Wait()
		check(t, h.Close())
		want := []string{change[0].text, change[1].text}
		if writer {
			settle(t, p.here, p.ino)
			want = append(want, "mine"+change[1].text[4:])
		}
		capture(t, p.here)
		check(t, p.here.unmark())
		// What was written here is not undone by a start.
		after := testTree(t, killed(t, p.here), byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} })
		wantPast(t, p.here, p.ino, want...)
		comeToRest(t, after)
		capture(t, after)
		wantPast(t, after, p.ino, want...)
		wantNoAdoption(t, after)
	}
}

// A file that loses its name while it is being adopted, or has another one, is nothing special.
func TestRenamedAndRemovedWhileAdopted(t *testing.T) {
	t.Parallel()
	change := changesInPlace()["a part"]
	p := inPlacePair(t, [2]sparse{})
	for _, what := range []string{"renamed", "linked", "removed"} {
		t.Run(what, func(t *testing.T) {
			p.file(t, what, change)
			h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
			did := false
			p.here.cfg.adopts = func(place string) error {
				if place != "write" || did {
					return nil
				}
				did = true
				switch what {
				case "renamed":
					check(t, p.here.Rename(sharefs.RootIno, what, sharefs.RootIno, "g", 0))
				case "linked":
					must[sharefs.Attr](t)(p.here.Link(p.ino, sharefs.RootIno, "h"))
				case "removed":
					check(t, p.here.Unlink(sharefs.RootIno, what))
				}
				return nil
			}
			_, err := p.here.Adopt(p.ino, staged(t, p.here, p.target), p.own)
			if what == "removed" {
				wantKind(t, err, sharefs.KindAgain)
				wantNoAdoption(t, p.here)
				wantPast(t, p.here, p.ino, change[0].text)
			} else {
				check(t, err)
				wantOneOf(t, p.here, p.ino, change)
			}
			check(t, h.Close())
			p.here.cfg.adopts = nil
		})
	}
	wantClean(t, p.here, FsckScrub)
}

// A patch that does not fit any more, or is to be another file, is staged as a whole after all.
func TestPatchThatDoesNotFit(t *testing.T) {
	t.Parallel()
	change := changesInPlace()["a part"]
	p := inPlacePair(t, change, func(c *Config) { c.patchSize = 1 })
	p.here.past.aside.clones = false
	s := staged(t, p.here, p.target)
	if s.patch == nil || s.ino != 0 {
		t.Fatal("no patch")
	}
	check(t, p.here.live.setTimes(p.ino, 5, 5)) // the stamp is another one
	must[uint64](t)(p.here.Adopt(p.ino, s, p.own))
	if !wantOneOf(t, p.here, p.ino, change) {
		t.Error("it is not done")
	}
	p = inPlacePair(t, change, func(c *Config) { c.patchSize = 1 })
	p.here.past.aside.clones = false
	a := must[sharefs.Attr](t)(p.here.Put(sharefs.RootIno, "g", New{ID: sharefs.FileID{7}, Mode: sharefs.ModeRegular | 0o640, Staged: staged(t, p.here, p.target)}, root))
	if read(t, p.here, a.Ino) != change[1].text {
		t.Error("it holds something else")
	}
}

// A content that differs in few places from what a file holds leads to just those.
func TestApart(t *testing.T) {
	t.Parallel()
	tree := testTree(t, t.TempDir(), byHand)
	r := rand.New(rand.NewPCG(3, 3))
	text := []byte(blob(1, 700_000))
	var versions []*version
	var texts [][]byte
	for range 8 {
		ino := save(t, tree, "f", string(text))
		capture(t, tree)
		versions, texts = append(versions, must[*version](t)(newestVersion(tree.db, ino, noLimit))), append(texts, slices.Clone(text))
		for range r.IntN(4) {
			copy(text[r.IntN(len(text)):], blob(r.Uint64(), r.IntN(30_000)))
		}
		switch r.IntN(4) {
		case 0:
			text = text[:r.IntN(len(text)/2)+len(text)/2]
		case 1:
			text = append(text, blob(r.Uint64(), r.IntN(100_000))...)
		}
	}
	for i, from := range versions {
		for j, to := range versions {
			got := make([]byte, len(texts[j]))
			copy(got, texts[i])
			bytes, last := int64(0), int64(0)
			check(t, tree.past.apart(from.top, int64(from.size), to.top, int64(to.size), func(l located) error {
				if l.off < last {
					t.Errorf("%d to %d: %d after %d", i, j, l.off, last)
				}
				last, bytes = l.off+l.len, bytes+l.len
				copy(got[l.off:], texts[j][l.off:l.off+l.len])
				return nil
			}))
			if string(got) != string(texts[j]) {
				t.Errorf("%d to %d: something is missing", i, j)
			}
			if i == j && bytes > 0 {
				t.Errorf("%d bytes of a content differ from itself", bytes)
			}
		}
	}
	if err := tree.past.apart(versions[0].top, int64(versions[0].size), versions[1].top, int64(versions[1].size), func(located) error { return errTooMuch }); err != nil && err != errTooMuch {
		t.Error(err)
	}
}

// Where the disk shares blocks, what differs goes into a clone, and takes the room that it needs and no more.
func TestPatchByClone(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			if kind != "xfs" && os.Getenv("SHAREFS_SOAK") == "" {
				t.Skip("SHAREFS_SOAK has it run on this disk too")
			}
			disk := reflinkDisk(t, kind)
			text := blob(1, 24<<20)
			change := [2]sparse{{text: text}, holed(spliced(text, 9<<20, blob(2, 100_000))+blob(3, 500_000), run{1 << 20, 3 << 20})}
			p := &inPlaceTrees{}
			p.there = &other{testTree(t, t.TempDir(), byHand, func(c *Config) { c.Peer = sharefs.PeerID{2} }), t, map[sharefs.ChunkID]bool{}, 0, nil}
			store := disk + "/store"
			check(t, os.Mkdir(store, 0o700))
			p.here = testTree(t, store, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} })
			p.file(t, "f", change)
			h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
			if got := readHandle(t, h); got != text {
				t.Error("it holds something else")
			}
			check(t, h.Close())
			used := usedOn(t, disk)
			s := staged(t, p.here, p.target)
			if s.patch != nil || s.ino == 0 {
				t.Error("it was not staged as a file")
			}
			if grown := usedOn(t, disk) - used; grown > 8<<20 {
				t.Errorf("it took %d bytes", grown)
			}
			p.here.cfg.adopts = func(place string) error {
				t.Errorf("in place: %s", place)
				return nil
			}
			must[uint64](t)(p.here.Adopt(p.ino, s, p.own))
			wantOneOf(t, p.here, p.ino, change)
			p.here.cfg.adopts = nil
			wantClean(t, p.here, FsckScrub)
		})
	}
}
