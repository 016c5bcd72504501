package versions

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/kv/journal/simdisk"
)

// wantOneOf holds that a file is whole: it holds what it did, or what it was to hold, and its history has nothing else.
func wantOneOf(t testing.TB, tree *Tree, ino sharefs.Ino, change [2]sparse) (target bool) {
	t.Helper()
	comeToRest(t, tree)
	capture(t, tree)
	got := read(t, tree, ino)
	wantNoAdoption(t, tree)
	switch got {
	case change[1].text:
		wantPast(t, tree, ino, change[0].text, change[1].text)
		all := must[[]sharefs.Version](t)(tree.Versions(ino))
		if all[1].Author != (sharefs.PeerID{2}) {
			t.Errorf("it is by %v", all[1].Author)
		}
		target = true
	case change[0].text:
		wantPast(t, tree, ino, change[0].text)
	default:
		t.Fatal("it holds neither what it did nor what it was to hold")
	}
	return target
}

// The daemon is killed at each place of an adoption, and the power goes: the file is whole after the next start, and what garbage collection does then changes nothing.
func TestAdoptInPlaceCutShort(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	soak := os.Getenv("SHAREFS_SOAK") != ""
	for name, change := range changesInPlace() {
		if !soak && name != "a part" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			disk := simdisk.New()
			p := inPlacePair(t, change, func(c *Config) { c.Journal = disk })
			h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
			defer h.Close()
			r := rand.New(rand.NewPCG(5, 5))
			old := []byte(change[0].text)
			places, targets, writes := 0, 0, 0
			p.here.cfg.adopts = func(place string) error {
				if place == "write" {
					if writes++; writes%7 != 2 && !soak {
						return nil
					}
				}
				if !soak && (place == "sized" || place == "written") {
					return nil
				}
				places++
				fates := []simdisk.Fate{simdisk.Kept, simdisk.Scatter(r)} // what is written below is lost
				if place == "row" {                                       // the mark alone may be there: then the file is compared with its version, which a copy of a store is not as it was
					fates = fates[:1]
				} else if !soak {
					fates = fates[places%2:][:1]
				}
				for _, fate := range fates {
					to := storeAsKilled(t, p.here.cfg.Dir)
					journal := disk.PowerLoss(disk.Len(), fate)
					after := testTree(t, to, byHand, func(c *Config) { c.Journal, c.Peer = journal, sharefs.PeerID{1} })
					collect(t, after, GCOptions{})
					if wantOneOf(t, after, p.ino, change) {
						targets++
					} else if place == "synced" || place == "row synced" {
						t.Errorf("%s: the row is synced, and what it says is not done", place)
					}
					check(t, after.Close())
				}
				// Of what was written since the last sync some blocks reached the disk.
				to := storeAsKilled(t, p.here.cfg.Dir)
				scatterBlocks(t, to+"/live/"+p.here.live.name(p.ino), old, r)
				journal := disk.PowerLoss(disk.Len(), simdisk.Lost)
				after := testTree(t, to, byHand, func(c *Config) { c.Journal, c.Peer = journal, sharefs.PeerID{1} })
				if place != "row" { // else nothing was written
					wantOneOf(t, after, p.ino, change)
				}
				check(t, after.Close())
				return nil
			}
			must[uint64](t)(p.here.Adopt(p.ino, staged(t, p.here, p.target), p.own))
			p.here.cfg.adopts = nil
			wantOneOf(t, p.here, p.ino, change)
			if places < 3 || targets == 0 {
				t.Errorf("%d places, %d of them with the new content", places, targets)
			}
		})
	}
}

// scatterBlocks has some blocks of a file hold what they did, as if they had not reached the disk.
func scatterBlocks(t testing.TB, path string, old []byte, r *rand.Rand) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	for at := 0; at < len(old); at += 4096 {
		if r.IntN(2) == 0 {
			_, err := f.WriteAt(old[at:min(at+4096, len(old))], int64(at))
			check(t, err)
		}
	}
}

// What fails leads back to what the file held, and the next try does it.
func TestAdoptInPlaceFails(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	change := changesInPlace()["a part"]
	change[1] = holed(change[1].text, run{16384, 32768})
	p := inPlacePair(t, change)
	h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
	before := must[sharefs.Attr](t)(p.here.Getattr(p.ino))
	for nth := 0; ; nth++ {
		cause, calls := []error{unix.ENOSPC, unix.EIO}[nth%2], 0
		p.here.cfg.adopts = func(string) error {
			if calls++; calls == nth+1 {
				return cause
			}
			return nil
		}
		_, err := p.here.Adopt(p.ino, staged(t, p.here, p.target), p.own)
		if calls <= nth {
			check(t, err)
			if nth < 6 {
				t.Errorf("only %d places", nth)
			}
			break
		}
		if !errors.Is(err, cause) {
			t.Fatalf("place %d: %v", nth, err)
		}
		if wantOneOf(t, p.here, p.ino, change) {
			t.Fatalf("place %d: it failed and was done", nth)
		}
		if got := readHandle(t, h); got != change[0].text {
			t.Errorf("place %d: the reader sees something else", nth)
		}
		if v := must[*version](t)(newestVersion(p.here.db, p.ino, noLimit)); v.stamp() != stampOf(ptr(must[unix.Stat_t](t)(p.here.live.stat(p.ino)))) {
			t.Errorf("place %d: the version has the stamp %v", nth, v.stamp())
		}
		if a := must[sharefs.Attr](t)(p.here.Getattr(p.ino)); a.Mtime != before.Mtime || a.Size != before.Size {
			t.Errorf("place %d: %+v, and it was %+v", nth, a, before)
		}
	}
	if !wantOneOf(t, p.here, p.ino, change) {
		t.Error("it is not done")
	}
	check(t, h.Close())
	wantClean(t, p.here, FsckScrub)
}

// What can be finished neither way stays closed, across starts, and makes no version; another content may take its place, and it opens when the disk is well again.
func TestAdoptInPlaceFailsBothWays(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	change := changesInPlace()["a part"]
	for _, then := range []string{"well", "killed", "replaced", "replaced by a rename", "removed"} {
		t.Run(then, func(t *testing.T) {
			p := inPlacePair(t, change)
			h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
			defer func() { _ = h.Close() }()
			writes := 0
			bad := func(place string) error {
				if place == "write" {
					if writes++; writes > 1 {
						return unix.EIO
					}
				}
				if place == "back" {
					return unix.EIO
				}
				return nil
			}
			p.here.cfg.adopts = bad
			if _, err := p.here.Adopt(p.ino, staged(t, p.here, p.target), p.own); !errors.Is(err, unix.EIO) {
				t.Fatal(err)
			}
			collect(t, p.here, GCOptions{})
			before := newestKept(t, p.here, p.ino)
			if now := must[Latest](t)(p.here.Latest(p.ino)); now.Own != p.own || now.Content.Mtime != before.Content.Mtime || now.Content.Mtime == p.target.Mtime {
				t.Errorf("others are told of %+v", now)
			}
			for range 2 {
				if r := fsckNow(t, p.here, FsckFast, false); r.Outcome != OutcomeDamage || len(r.Findings) != 1 || !slices.Equal(r.Findings[0].Paths, []string{"/f"}) || !strings.Contains(r.Text(), "cannot be opened") {
					t.Errorf("%s", r.Text())
				}
				for _, flags := range []uint32{unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC} {
					if _, err := p.here.Open(p.ino, flags, root); !errors.Is(err, sharefs.KindCorrupt) || !errors.Is(err, unix.EIO) {
						t.Fatal(flags, err)
					}
				}
				if _, err := p.here.Setattr(p.ino, &SetAttr{Size: ptr(uint64(3))}, root); !errors.Is(err, unix.EIO) {
					t.Error(err)
				}
				if _, _, err := p.here.Commit(p.ino, ""); !errors.Is(err, unix.EIO) {
					t.Error(err)
				}
				p.here.past.takeTimed(p.ino, p.here.past.newTools(), "")
				if _, err := p.here.Beside(p.ino, p.target); !errors.Is(err, sharefs.KindAgain) { // the way back is to the newest version
					t.Error(err)
				}
				wantPast(t, p.here, p.ino, change[0].text)
			}
			tree := p.here
			switch then {
			case "well":
				tree.cfg.adopts = nil
			case "killed":
				to := killed(t, tree)
				for range 2 {
					again := testTree(t, to, byHand, func(c *Config) { c.Peer, c.adopts = sharefs.PeerID{1}, bad })
					if _, err := again.Open(p.ino, unix.O_RDONLY, root); !errors.Is(err, unix.EIO) {
						t.Fatal(err)
					}
					collect(t, again, GCOptions{})
					check(t, again.Close())
				}
				ro := testTree(t, to, func(c *Config) { c.ReadOnly = true })
				if _, err := ro.Open(p.ino, unix.O_RDONLY, root); !errors.Is(err, sharefs.KindReadOnly) {
					t.Error(err)
				}
				if r := fsckNow(t, ro, FsckFast, false); r.Outcome != OutcomeClean || len(r.Findings) != 1 || !slices.Equal(r.Findings[0].Paths, []string{"/f"}) {
					t.Errorf("%s", r.Text())
				}
				check(t, ro.Close())
				tree = testTree(t, to, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} })
			case "replaced", "replaced by a rename":
				if then != "replaced" {
					check(t, h.Close())
				}
				was := must[unix.Stat_t](t)(p.here.live.stat(p.ino))
				newer := holed(blob(9, 60_000))
				c := newestKept(t, p.there.Tree, saveSparse(t, p.there.Tree, "f", newer)).Content
				defer gathered(t, tree, p.there, c).End()
				p.here.cfg.adopts = func(place string) error { // the target is lost, and so is the base
					if place == "back" {
						return unix.EIO
					}
					return nil
				}
				tree.past.standing(p.ino).top.spans[0].id[0] ^= 1
				must[uint64](t)(tree.Adopt(p.ino, staged(t, tree, Foreign{Content: c, Author: p.there.cfg.Peer, Onto: p.ino}), p.own))
				if is := must[unix.Stat_t](t)(p.here.live.stat(p.ino)); (is.Ino == was.Ino) != (then == "replaced") {
					t.Errorf("the backing file was %d and is %d", was.Ino, is.Ino)
				}
				change[1] = newer
			case "removed":
				unlink(t, tree, "f")
				check(t, h.Close())
				check(t, tree.Sync())
				check(t, tree.reapAll())
				wantNoAdoption(t, tree)
				return
			}
			if !wantOneOf(t, tree, p.ino, change) {
				t.Error("it is not done")
			}
			collect(t, tree, GCOptions{})
			wantClean(t, tree, FsckScrub)
		})
	}
}

// What was written behind the end of a mixture goes again where the file had a hole.
func TestAdoptInPlaceGoesBackToAHole(t *testing.T) {
	wide := blob(1, 2_000_000)
	change := [2]sparse{holed(wide, run{131072, 1_000_000}), {text: wide[:20_000]}}
	p := inPlacePair(t, change)
	h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
	defer h.Close()
	rows, failed := 0, false
	p.here.cfg.adopts = func(place string) error {
		if place == "row" {
			rows++
		}
		if rows < 2 && (place == "sized" || place == "back") || rows == 2 && place == "written" && !failed {
			failed = rows == 2
			return unix.EIO
		}
		return nil
	}
	if _, err := p.here.Adopt(p.ino, staged(t, p.here, p.target), p.own); !errors.Is(err, unix.EIO) {
		t.Fatal(err)
	}
	if st := must[unix.Stat_t](t)(p.here.live.stat(p.ino)); st.Size != 20_000 {
		t.Fatalf("the mixture has %d bytes", st.Size)
	}
	c := newestKept(t, p.there.Tree, saveSparse(t, p.there.Tree, "f", sparse{text: wide})).Content
	defer gathered(t, p.here, p.there, c).End()
	if _, err := p.here.Adopt(p.ino, staged(t, p.here, Foreign{Content: c, Author: p.there.cfg.Peer, Onto: p.ino}), p.own); !errors.Is(err, unix.EIO) || !failed {
		t.Fatal(err)
	}
	if wantOneOf(t, p.here, p.ino, change) {
		t.Error("it holds the first of the two")
	}
	wantClean(t, p.here, FsckScrub)
}

// The version that an adoption may go back to is not made one with that before it, though both have the same content.
func TestAdoptInPlaceGoesBackToASecondClose(t *testing.T) {
	change := changesInPlace()["a part"]
	p := inPlacePair(t, change)
	saveSparse(t, p.here, "f", change[0])
	id := versionID{p.ino, p.own + 1}
	p.here.past.mu.Lock()
	p.here.past.alike[id] = mayBeAlike // as behind a timed version
	p.here.past.mu.Unlock()
	h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
	defer h.Close()
	p.here.cfg.adopts = func(place string) error {
		if place != "written" || must[*version](t)(loadVersion(p.here.db, p.ino, id.own)).place != placeAside {
			return nil
		}
		capture(t, p.here)
		return unix.EIO
	}
	if _, err := p.here.Adopt(p.ino, staged(t, p.here, p.target), id.own); !errors.Is(err, unix.EIO) {
		t.Fatal(err)
	}
	comeToRest(t, p.here)
	if read(t, p.here, p.ino) != change[0].text {
		t.Error("it is not what it was")
	}
	wantPast(t, p.here, p.ino, change[0].text, change[0].text)
	wantNoAdoption(t, p.here)
	wantClean(t, p.here, FsckScrub)
}

// A start that cannot do what a row says goes back to what the file held.
func TestAdoptInPlaceGoesBackAtAStart(t *testing.T) {
	t.Parallel()
	change := changesInPlace()["a part"]
	p := inPlacePair(t, change)
	h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
	defer h.Close()
	var to string
	writes := 0
	p.here.cfg.adopts = func(place string) error {
		if place == "write" {
			if writes++; writes == 2 {
				to = storeAsKilled(t, p.here.cfg.Dir)
			}
		}
		return nil
	}
	must[uint64](t)(p.here.Adopt(p.ino, staged(t, p.here, p.target), p.own))
	db := testTree(t, storeAsKilled(t, to), byHand, func(c *Config) { // what is lost of the target, as if a pack were damaged
		c.Peer = sharefs.PeerID{1}
		c.adopts = func(place string) error {
			if place == "written" {
				return errors.New("lost")
			}
			return nil
		}
	})
	// Both ways go by that place: it stays closed. With one failure alone it is what it was.
	if _, err := db.Open(p.ino, unix.O_RDONLY, root); !errors.Is(err, sharefs.KindCorrupt) {
		t.Error(err)
	}
	once := false
	tree := testTree(t, to, byHand, func(c *Config) {
		c.Peer = sharefs.PeerID{1}
		c.adopts = func(place string) error {
			if place == "written" && !once {
				once = true
				return errors.New("lost")
			}
			return nil
		}
	})
	if wantOneOf(t, tree, p.ino, change) {
		t.Error("it holds what could not be had")
	}
	wantClean(t, tree, FsckScrub)
}

// Behind a rebuild an adoption that was cut short is finished, and one that was over is not done again over what was written since.
func TestAdoptInPlaceAndRebuild(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	change := changesInPlace()["a part"]
	p := inPlacePair(t, change)
	p.here.checkpoint.room = func() int64 { return 1 << 40 }
	export(t, p.here)
	h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
	defer h.Close()
	var mixture, before string
	writes := 0
	p.here.cfg.adopts = func(place string) error {
		if place == "write" {
			switch writes++; writes {
			case 1:
				before = storeAsKilled(t, p.here.cfg.Dir)
			case 2:
				mixture = storeAsKilled(t, p.here.cfg.Dir)
			}
		}
		return nil
	}
	must[uint64](t)(p.here.Adopt(p.ino, staged(t, p.here, p.target), p.own))
	for _, dir := range []string{before, mixture} {
		removeMeta(t, dir)
		if r := rebuild(t, dir, RebuildOptions{}); len(r.Lost) > 0 { // what was staged is found, in lost+found
			t.Errorf("lost: %q", r.Lost)
		}
		tree := testTree(t, dir, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} })
		comeToRest(t, tree)
		wantNoAdoption(t, tree)
		if got := read(t, tree, p.ino); (got == change[1].text) != (dir == mixture) || got != change[0].text && got != change[1].text {
			t.Error("it holds something else")
		}
		check(t, tree.Close())
	}
	// As the second one, but somebody has written to the file since.
	check(t, os.WriteFile(mixture+"/live/"+p.here.live.name(p.ino), []byte("mine"), 0o600))
	tree := testTree(t, mixture, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} })
	tree.mu.Lock()
	x := tree.begin()
	x.b.Put(spaceAdopting, inoKey(p.ino), (&adopting{base: must[*version](t)(newestVersion(tree.db, p.ino, noLimit)).own, size: int64(p.target.Size)}).encode())
	check(t, x.commit())
	tree.mu.Unlock()
	if gone, changed, err := tree.past.doubted(); err != nil || len(gone) != 1 || len(changed) > 0 {
		t.Errorf("%v are over, %v changed, %v", gone, changed, err)
	}
}
