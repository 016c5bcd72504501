package versions

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// What a disk leaves of a file at rest that loses what counted as safe, as a store of a build does that believed btrfs in more than it promises: the row says that all of a file is here, and
// nothing marks it.
var lostAtRest = map[string]struct {
	away  bool // its newest version is elsewhere alone
	hole  bool // the backing file is a hole that stood for it; otherwise it holds the version before
	scrub bool // that is found by looking at each version
}{
	"a hole, and it is elsewhere":         {away: true, hole: true},
	"a hole, and it is in packs":          {hole: true},
	"the one before, and it is elsewhere": {away: true, scrub: true},
	"the one before, and it is in packs":  {scrub: true},
}

// Who empties a file of which a hole is left, and writes, has what he wrote.
func TestLostAtRestIsEmptied(t *testing.T) {
	here, f, inos, texts, _ := absentFiles(t)
	ino := inos[1]
	check(t, here.Bring(nil, ino, false, nil))
	check(t, here.Close())
	file := filepath.Join(here.cfg.Dir, "live", here.live.name(ino))
	check(t, os.Truncate(file, 0))
	check(t, os.Truncate(file, int64(len(texts[1]))))
	check(t, unix.Chmod(file, stickyBacking))
	again := testTree(t, here.cfg.Dir, byHand)
	again.SetElsewhere(f)
	rewrite(t, again, ino, "mine")
	newestKept(t, again, ino)
	wantTexts(t, again, ino, texts[1], "mine")
	wantClean(t, again, FsckScrub)
}

// TestLostAtRest looks at how such a file reads, whether fsck finds it, and what repairing makes of it.
func TestLostAtRest(t *testing.T) {
	for name, c := range lostAtRest {
		t.Run(name, func(t *testing.T) {
			here, there := pair(t)
			f := newFaraway()
			here.SetElsewhere(f)
			texts := [2]string{blob(1, 50_000), blob(2, 50_000)}
			ino := create(t, here, sharefs.RootIno, "f", texts[0]).Ino
			newestKept(t, here, ino)
			file := filepath.Join(here.cfg.Dir, "live", here.live.name(ino))
			check(t, os.Link(file, file+".before"))
			content := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, "f", texts[1]).Ino).Content
			check(t, f.keep(there.Tree, &content))
			must[uint64](t)(here.Adopt(ino, absentStage(t, here, f, content), 1))
			if c.hole {
				check(t, os.Rename(file, file+".before"))
				check(t, os.WriteFile(file, nil, 0o600))
				check(t, here.hollow(ino, int64(len(texts[1])), false))
			}
			check(t, here.Bring(nil, ino, false, nil))
			if !c.away {
				must[bool](t)(here.KeepAgain(nil, ino))
			}
			comeToRest(t, here)
			check(t, here.unmark())
			check(t, here.Close())
			if c.hole {
				check(t, os.Truncate(file, 0))
				check(t, os.Truncate(file, int64(len(texts[1]))))
				check(t, unix.Chmod(file, stickyBacking))
				check(t, os.Remove(file+".before"))
			} else {
				check(t, os.Rename(file+".before", file))
			}

			again := testTree(t, here.cfg.Dir, byHand)
			again.SetElsewhere(f)
			if !c.hole {
				// Its number of links was another one when it was captured, which is part of its stamp.
				var st unix.Stat_t
				check(t, unix.Stat(file, &st))
				again.mu.Lock()
				x := again.begin()
				v := must[*version](t)(newestVersion(again.db, ino, 1))
				v.setStamp(stampOf(&st))
				v.put(&x.b)
				check(t, x.commit())
				again.mu.Unlock()
			}
			if c.hole {
				for _, flags := range []uint32{unix.O_RDONLY, unix.O_RDONLY | unix.O_NOATIME, unix.O_RDWR} {
					h, err := again.Open(ino, flags, root)
					if err == nil {
						fd, through := h.Backing() // as the kernel has it that reads past the daemon
						if through == nil {
							check(t, unix.Close(fd))
						}
						wantKind(t, through, sharefs.KindCorrupt)
						_, err = h.ReadAt(make([]byte, 10), 0)
						check(t, h.Close())
					}
					if sharefs.KindOf(err) != sharefs.KindCorrupt {
						t.Fatalf("a hole reads as %v", err)
					}
				}
				if vs := must[[]sharefs.Version](t)(again.Versions(ino)); len(vs) != 2 {
					t.Fatalf("%d versions", len(vs))
				}
			}
			mode := FsckFast
			if c.scrub {
				wantClean(t, again, FsckFast)
				mode = FsckScrub
			}
			if r := fsckNow(t, again, mode, false); len(r.Findings) != 1 || r.Findings[0].Ino != ino || r.Findings[0].Kind != FoundLive {
				t.Fatalf("%s", r.Text())
			}
			if r := fsckNow(t, again, mode, true); len(r.Findings) != 1 || !r.Findings[0].Repaired {
				t.Fatalf("%s", r.Text())
			}
			if got := isAbsent(again, ino); got != c.away {
				t.Errorf("behind that it is absent: %v", got)
			}
			if got := all(t, again, ino); got != texts[1] {
				t.Errorf("behind that it reads as %d other bytes", len(got))
			}
			comeToRest(t, again)
			capture(t, again)
			wantTexts(t, again, ino, texts[:]...)
			wantClean(t, again, FsckScrub)
		})
	}
}
