package versions

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// fullOfAway has, on a disk that can lose its power, a file that held a version which is in packs, then one of another host that was elsewhere, and was brought here.
func fullOfAway(t *testing.T, held string) (here *Tree, lose func(), ino sharefs.Ino, texts [2]string, open func(dir string) *Tree) {
	t.Helper()
	here, lose, _, next, both, open := farOnBtrfs(t)
	ino = create(t, here, sharefs.RootIno, "mine", held).Ino
	newestKept(t, here, ino)
	check(t, here.unmark())
	check(t, here.Sync())
	f := (*here.elsewhere.Load()).(*faraway)
	// A content of which nothing is in packs here.
	there := &other{testTree(t, t.TempDir(), byHand, func(c *Config) { c.Peer = sharefs.PeerID{2} }), t, map[sharefs.ChunkID]bool{}, 0, nil}
	text := blob(7, len(both[1]))
	next.Content = newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, "away", text).Ino).Content
	check(t, f.keep(there.Tree, &next.Content))
	must[uint64](t)(here.Adopt(ino, absentStage(t, here, f, next.Content), 1))
	check(t, here.Bring(nil, ino, false, nil))
	return here, lose, ino, [2]string{held, text}, open
}

// wantAgain checks, once a tree that was opened again is at rest, that a file has two versions and holds the second one, and that nothing is left of how it came to that.
func wantAgain(t *testing.T, again *Tree, ino sharefs.Ino, first, second string) {
	t.Helper()
	comeToRest(t, again)
	capture(t, again)
	wantNoAdoption(t, again)
	wantTexts(t, again, ino, first, second)
	if got := all(t, again, ino); got != second {
		t.Errorf("it holds %d bytes, of version 1: %v", len(got), got == first)
	}
	wantClean(t, again, FsckScrub)
}

// A file's newest version is away, it was brought here and opened for writing, and the power goes: what it held before is not taken for what somebody wrote since.
func TestUndoneOfWhatIsAway(t *testing.T) {
	for _, opened := range []bool{false, true} {
		t.Run(fmt.Sprint("opened ", opened), func(t *testing.T) {
			here, lose, ino, texts, open := fullOfAway(t, blob(3, 50_000))
			if opened {
				check(t, must[*Handle](t)(here.Open(ino, unix.O_WRONLY, root)).Close())
			}
			cutPower(t, here, lose)
			again := open(here.cfg.Dir)
			wantAgain(t, again, ino, texts[0], texts[1])
		})
	}
}

// A disk that took the name of a file back on which the journal counts that its content was synced with it: the file holds an earlier version, marked, and its newest one is elsewhere alone.
func TestTakenBackFromWhatIsAway(t *testing.T) {
	here, _, ino, texts, open := fullOfAway(t, blob(3, 50_000))
	check(t, must[*Handle](t)(here.Open(ino, unix.O_WRONLY, root)).Close())
	comeToRest(t, here)
	check(t, here.Close())
	name := filepath.Join(here.cfg.Dir, "live", here.live.name(ino))
	check(t, os.WriteFile(name, []byte(texts[0]), 0o600))
	var st unix.Stat_t
	check(t, unix.Stat(name, &st))
	tree := open(here.cfg.Dir)
	tree.mu.Lock()
	x := tree.begin()
	before := must[*version](t)(newestVersion(tree.db, ino, 1))
	before.setStamp(stampOf(&st))
	before.put(&x.b)
	x.b.Put(spaceMark, inoKey(ino), markValue(false))
	check(t, x.commit())
	tree.mu.Unlock()
	check(t, tree.Close())

	again := open(here.cfg.Dir)
	wantAgain(t, again, ino, texts[0], texts[1])
}

// A version of another host takes the place of a file's content while it is elsewhere, somebody empties the file, and the power goes before the disk knows of either: what the file held before the two
// is not taken for what he wrote.
func TestEmptiedOfWhatIsAwayBeforeTheDiskKnows(t *testing.T) {
	for _, text := range []string{"", "what somebody wrote"} {
		t.Run(text, func(t *testing.T) {
			here, lose, _, next, _, open := farOnBtrfs(t)
			before := blob(3, 50_000)
			ino := create(t, here, sharefs.RootIno, "mine", before).Ino
			newestKept(t, here, ino)
			check(t, here.unmark())
			check(t, here.Sync())
			f := (*here.elsewhere.Load()).(*faraway)
			must[uint64](t)(here.Adopt(ino, absentStage(t, here, f, next.Content), 1))
			h := must[*Handle](t)(here.Open(ino, unix.O_WRONLY|unix.O_TRUNC, root))
			writeAll(t, h, text)
			cutPower(t, here, lose, h)
			if b, err := os.ReadFile(filepath.Join(here.cfg.Dir, "live", here.live.name(ino))); err != nil || string(b) != before {
				t.Skipf("this kernel's btrfs loses nothing of it: %d bytes, %v", len(b), err)
			}
			again := open(here.cfg.Dir)
			wantAgain(t, again, ino, before, blob(2, 90_000))
		})
	}
}
