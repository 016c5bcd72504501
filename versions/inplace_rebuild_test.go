package versions

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
)

// basesInPlace are ways in which a file comes to hold what it does before an adoption.
var basesInPlace = map[string]func(testing.TB, *inPlaceTrees, [2]sparse){
	"kept": func(testing.TB, *inPlaceTrees, [2]sparse) {},
	"set aside": func(t testing.TB, p *inPlaceTrees, change [2]sparse) { // it is not captured when the other content comes
		rewrite(t, p.here, p.ino, "something else")
		settle(t, p.here, p.ino)
		saveSparse(t, p.here, "f", change[0])
		p.own = must[Latest](t)(p.here.Latest(p.ino)).Own
	},
}

// Behind a rebuild, wherever an adoption was cut short and whatever of it reached the disk, a file holds what it did or what it was to, and no version is anything else.
func TestAdoptInPlaceCutShortAndRebuild(t *testing.T) {
	race.Leave(t, race.OneHand)
	soak := os.Getenv("SHAREFS_SOAK") != ""
	changes := changesInPlace()
	changes["nothing to all"] = [2]sparse{{}, {text: changes["a part"][0].text}}
	for where, base := range basesInPlace {
		for name, change := range changes {
			if where != "kept" && change[0].text == "" {
				continue // nothing is set aside
			}
			if short := name == "nothing to all" || name == "longer" || name == "shorter" && where != "kept"; !short && !soak {
				continue
			}
			t.Run(where+", "+name, func(t *testing.T) {
				p := inPlacePair(t, change)
				p.here.checkpoint.room = func() int64 { return 1 << 40 }
				base(t, p, change)
				export(t, p.here)
				h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
				defer h.Close()
				r := rand.New(rand.NewPCG(7, 7))
				old, writes := []byte(change[0].text), 0
				p.here.cfg.adopts = func(place string) error {
					if place == "write" {
						if writes++; writes != 2 && writes != 5 && !soak {
							return nil
						}
					}
					for _, scattered := range []bool{false, true} {
						if scattered && (place == "sized" || place == "synced") { // the size is on the disk after what is before it
							continue
						}
						to := storeAsKilled(t, p.here.cfg.Dir)
						if scattered {
							scatterBlocks(t, to+"/live/"+p.here.live.name(p.ino), old, r)
						}
						wantWholeRebuilt(t, to, p.ino, change, fmt.Sprintf("%s %d, scattered: %v", place, writes, scattered))
					}
					return nil
				}
				must[uint64](t)(p.here.Adopt(p.ino, staged(t, p.here, p.target), p.own))
				p.here.cfg.adopts = nil
			})
		}
	}
}

// wantWholeRebuilt rebuilds the meta.db of a store that is lost, and holds that a file of it is whole then.
func wantWholeRebuilt(t *testing.T, dir string, ino sharefs.Ino, change [2]sparse, at string) {
	t.Helper()
	removeMeta(t, dir)
	rebuild(t, dir, RebuildOptions{})
	tree := testTree(t, dir, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} })
	comeToRest(t, tree)
	capture(t, tree)
	got := read(t, tree, ino)
	wantNoAdoption(t, tree)
	if got != change[0].text && got != change[1].text {
		t.Errorf("%s: it holds neither what it did nor what it was to hold", at)
	}
	for _, v := range must[[]sharefs.Version](t)(tree.Versions(ino)) {
		if text := readVersion(t, tree, ino, v.Number); text != change[0].text && text != change[1].text && text != "something else" {
			t.Errorf("%s: version %d is neither", at, v.Number)
		}
	}
	check(t, tree.Close())
	check(t, os.RemoveAll(dir))
}

// A row of an adoption that does not fit the file's versions, or cannot be read, has no mixture taken for what somebody wrote.
func TestAdoptingRowThatDoesNotFit(t *testing.T) {
	race.Leave(t, race.OneHand)
	change := changesInPlace()["a part"]
	mixture, ino := cutShort(t, change)
	bad := func(place string) error {
		if place == "written" || place == "back" {
			return unix.EIO
		}
		return nil
	}
	for name, row := range map[string]func(a adopting) []byte{
		"another version": func(a adopting) []byte { a.base += 3; return a.encode() },
		"none":            func(a adopting) []byte { a.base = 0; return a.encode() },
		"cut off":         func(a adopting) []byte { return a.encode()[:9] },
		"a later format":  func(a adopting) []byte { b := a.encode(); b[0]++; return b },
	} {
		t.Run(name, func(t *testing.T) {
			dir := storeAsKilled(t, mixture)
			tree := testTree(t, dir, byHand, func(c *Config) { c.Peer, c.adopts = sharefs.PeerID{1}, bad })
			a := tree.past.standing(ino)
			tree.mu.Lock()
			x := tree.begin()
			x.b.Put(spaceAdopting, inoKey(ino), row(a.adopting))
			check(t, x.commit())
			tree.mu.Unlock()
			to := killed(t, tree)
			ro := testTree(t, storeAsKilled(t, to), func(c *Config) { c.ReadOnly = true })
			if _, err := ro.Open(ino, unix.O_RDONLY, root); !errors.Is(err, sharefs.KindReadOnly) {
				t.Errorf("of a store that is read only: %v", err)
			}
			after := testTree(t, to, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} })
			if done := wantOneOf(t, after, ino, change); done != (name == "none" || name == "another version") {
				t.Errorf("the target is there: %v", done)
			}
			wantClean(t, after, FsckScrub)
		})
	}
}

// Behind a row that does not fit what somebody wrote since stays what the file holds.
func TestAdoptingRowThatDoesNotFitWhatWasWritten(t *testing.T) {
	change := changesInPlace()["a part"]
	p := inPlacePair(t, change)
	mine := spliced(change[0].text, 700_000, "mine")
	rewrite(t, p.here, p.ino, mine)
	settle(t, p.here, p.ino)
	capture(t, p.here)
	check(t, p.here.unmark())
	tree := p.here
	tree.mu.Lock()
	x := tree.begin()
	top, _ := p.target.manifest()
	x.b.Put(spaceAdopting, inoKey(p.ino), (&adopting{base: p.own, size: int64(p.target.Size), top: top}).encode())
	check(t, x.commit())
	tree.mu.Unlock()
	after := testTree(t, killed(t, tree), byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} })
	comeToRest(t, after)
	capture(t, after)
	wantNoAdoption(t, after)
	wantPast(t, after, p.ino, change[0].text, mine)
	if read(t, after, p.ino) != mine {
		t.Error("what was written here is gone")
	}
}
