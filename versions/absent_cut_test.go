package versions

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// farOnBtrfs has a tree on a disk that can lose its power, with a file that arrived absent, and the content of another one that is here whole.
func farOnBtrfs(t *testing.T) (here *Tree, lose func(), ino sharefs.Ino, next Foreign, texts [2]string, open func(dir string) *Tree) {
	t.Helper()
	disk, lose := lossy(t)
	store := filepath.Join(disk, "store")
	check(t, os.Mkdir(store, 0o700))
	f := newFaraway()
	open = func(dir string) *Tree {
		tree := testTree(t, dir, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} })
		tree.SetElsewhere(f)
		return tree
	}
	here = open(store)
	there := &other{testTree(t, t.TempDir(), byHand, func(c *Config) { c.Peer = sharefs.PeerID{2} }), t, map[sharefs.ChunkID]bool{}, 0, nil}
	texts = [2]string{blob(1, 100_000), blob(2, 90_000)}
	was := create(t, there.Tree, sharefs.RootIno, "f", texts[0]).Ino
	c := newestKept(t, there.Tree, was).Content
	check(t, f.keep(there.Tree, &c))
	ino = arrive(t, here, f, "f", c).Ino
	c = newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, "g", texts[1]).Ino).Content
	check(t, f.keep(there.Tree, &c))
	lease := gathered(t, here, there, c)
	t.Cleanup(lease.End)
	check(t, here.Sync())
	check(t, here.live.sync())
	return here, lose, ino, Foreign{Content: c, Author: sharefs.PeerID{2}, Onto: ino}, texts, open
}

// cutPower has the journal be on the disk, ends a tree with what is open, and has the disk lose what it did not know yet, also of what was written at that end.
func cutPower(t *testing.T, here *Tree, lose func(), open ...*Handle) {
	t.Helper()
	check(t, here.db.Sync())
	lose()
	for _, h := range open {
		check(t, h.Close())
	}
	check(t, here.Close())
	lose()
}

// An absent file is given a whole content, and the daemon is killed, or the power goes, between the two steps of that: the file is not taken for one that somebody here emptied.
func TestAdoptOntoAbsentCutShort(t *testing.T) {
	for _, power := range []bool{false, true} {
		t.Run(map[bool]string{false: "killed", true: "power"}[power], func(t *testing.T) {
			here, lose, ino, next, texts, open := farOnBtrfs(t)
			image := ""
			here.cfg.adopts = func(place string) error {
				if place == "emptied" && power {
					check(t, here.db.Sync())
					lose()
				} else if place == "emptied" {
					image = storeAsKilled(t, here.cfg.Dir)
				}
				return nil
			}
			own := must[uint64](t)(here.Adopt(ino, staged(t, here, next), 1))
			wantNoAdoption(t, here)
			if got := all(t, here, ino); got != texts[1] || own != 2 {
				t.Fatalf("version %d of %d bytes", own, len(got))
			}
			if power {
				image = here.cfg.Dir
				check(t, here.Close())
				lose()
			}
			again := open(image)
			comeToRest(t, again)
			capture(t, again)
			wantNoAdoption(t, again)
			vs := must[[]sharefs.Version](t)(again.Versions(ino))
			for _, v := range vs {
				if v.Author != (sharefs.PeerID{2}) {
					t.Errorf("%+v is a version of this host", v)
				}
			}
			if got, want := all(t, again, ino), texts[len(vs)-1]; got != want {
				t.Errorf("it holds %d bytes, of %d versions", len(got), len(vs))
			}
			wantClean(t, again, FsckScrub)
		})
	}
}

// Somebody empties an absent file, and may write to it, and the power goes before the disk knows of it: the hole that was there is not what he wrote.
func TestEmptiedAbsentBeforeTheDiskKnows(t *testing.T) {
	for _, text := range []string{"", "what somebody wrote"} {
		t.Run(text, func(t *testing.T) {
			here, lose, ino, _, texts, open := farOnBtrfs(t)
			h := must[*Handle](t)(here.Open(ino, unix.O_WRONLY|unix.O_TRUNC, root))
			if text != "" {
				writeAll(t, h, text)
				check(t, h.Close())
				newestKept(t, here, ino)
			}
			check(t, here.db.Sync())
			lose()
			if text == "" {
				check(t, h.Close())
			}
			check(t, here.Close())
			lose()
			if st, err := os.Stat(filepath.Join(here.cfg.Dir, "live", here.live.name(ino))); err != nil || st.Size() != int64(len(texts[0])) {
				t.Skipf("this kernel's btrfs loses nothing of it: %v, %v", st, err)
			}
			again := open(here.cfg.Dir)
			comeToRest(t, again)
			capture(t, again)
			wantNoAdoption(t, again)
			if got := all(t, again, ino); got != text {
				t.Errorf("it holds %d bytes that nobody wrote", len(got))
			}
			wantTexts(t, again, ino, texts[0], text)
			wantClean(t, again, FsckScrub)
		})
	}
}

// All of an absent file is brought here, and it is opened for writing, and the power goes before the disk knows more than what was synced: it is full all the same, and its content is not taken for a hole that stood for it.
func TestBroughtHereBeforeTheDiskKnows(t *testing.T) {
	for _, opened := range []bool{false, true} {
		t.Run(map[bool]string{false: "at rest", true: "opened for writing"}[opened], func(t *testing.T) {
			here, lose, ino, _, texts, open := farOnBtrfs(t)
			check(t, here.Bring(nil, ino, false, nil))
			if opened {
				check(t, must[*Handle](t)(here.Open(ino, unix.O_WRONLY, root)).Close())
			}
			cutPower(t, here, lose)
			again := open(here.cfg.Dir)
			comeToRest(t, again)
			capture(t, again)
			wantTexts(t, again, ino, texts[0])
			if got := all(t, again, ino); got != texts[0] || isAbsent(again, ino) {
				t.Errorf("it holds %d bytes", len(got))
			}
			wantClean(t, again, FsckScrub)
		})
	}
}

// A file becomes absent, the power goes before the disk knows of the hole that stands for it, and the rows are made anew: what the file held before is not taken for what somebody wrote since.
func TestAbsentBeforeTheDiskKnowsAndRebuild(t *testing.T) {
	here, lose, ino, next, texts, open := farOnBtrfs(t)
	check(t, here.Bring(nil, ino, false, nil))
	check(t, here.unmark())
	check(t, here.live.sync())
	must[uint64](t)(here.Adopt(ino, absentStage(t, here, (*here.elsewhere.Load()).(*faraway), next.Content), 1))
	cutPower(t, here, lose)
	wantNothingLost(t, rebuild(t, here.cfg.Dir, RebuildOptions{}))
	again := open(here.cfg.Dir)
	comeToRest(t, again)
	capture(t, again)
	wantTexts(t, again, ino, texts[0], texts[1])
	if got := all(t, again, ino); got != texts[1] {
		t.Errorf("it holds %d bytes", len(got))
	}
	wantClean(t, again, FsckScrub)
}
