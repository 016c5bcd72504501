package versions

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
)

// A loss of power may leave anything of the backing file of an absent file: nothing of it counts that is not what its chunks are named by.

// lostHoles is what a loss of power leaves of a backing file that held parts of a content: where there is a hole, and where there is none, tells nothing any more.
var lostHoles = map[string]func(t *testing.T, name string, size int64){
	"zeros that are no hole": func(t *testing.T, name string, size int64) {
		check(t, os.WriteFile(name, make([]byte, size), 0o600))
	},
	"zeros where holes were": func(t *testing.T, name string, size int64) {
		b := must[[]byte](t)(os.ReadFile(name))
		check(t, os.WriteFile(name, b, 0o600)) // every byte is written
	},
	"zeros in the middle of what came": func(t *testing.T, name string, _ int64) {
		b := must[[]byte](t)(os.ReadFile(name))
		for at := 4096; at < len(b); at += 5 * 4096 {
			clear(b[at:min(at+4096, len(b))])
		}
		check(t, os.WriteFile(name, b, 0o600))
	},
	"a hole, and no size": func(t *testing.T, name string, _ int64) { check(t, os.Truncate(name, 0)) },
	"cut":                 func(t *testing.T, name string, size int64) { check(t, os.Truncate(name, size/3)) },
	"nothing":             func(t *testing.T, name string, _ int64) { check(t, os.Remove(name)) },
}

// TestPartlyHereBehindLostHoles takes the map of holes away from files parts of which are here, and looks at what is read: with nobody to ask, and with somebody.
func TestPartlyHereBehindLostHoles(t *testing.T) {
	race.Leave(t, race.OneHand)
	for name, lose := range lostHoles {
		for _, sticky := range []bool{true, false} {
			t.Run(name+map[bool]string{true: "", false: ", of a mode that is content's"}[sticky], func(t *testing.T) {
				here, f, inos, texts, _ := absentFiles(t)
				for i, ino := range inos {
					if i%2 == 1 { // a part of the others
						h := must[*Handle](t)(here.Open(ino, unix.O_RDONLY, root))
						b := make([]byte, 10)
						must[int](t)(h.ReadAt(b, int64(len(texts[i])/2)))
						check(t, h.Close())
					}
				}
				check(t, here.Close())
				for i, ino := range inos {
					file := filepath.Join(here.cfg.Dir, "live", here.live.name(ino))
					lose(t, file, int64(len(texts[i])))
					if _, err := os.Stat(file); err == nil && sticky {
						check(t, unix.Chmod(file, stickyBacking))
					} else if err == nil {
						check(t, unix.Chmod(file, modeBacking))
					}
				}
				again := testTree(t, here.cfg.Dir, byHand)
				again.SetElsewhere(f)
				f.set(func() { f.down = true })
				comeToRest(t, again)
				for i, ino := range inos {
					h := must[*Handle](t)(again.Open(ino, unix.O_RDONLY, root))
					for off := 0; off < len(texts[i]); off += 1000 {
						b := make([]byte, 700)
						n, err := h.ReadAt(b, int64(off))
						if got, want := string(b[:n]), texts[i][off:min(off+700, len(texts[i]))]; err == nil && got != want || !strings.HasPrefix(want, got) {
							t.Fatalf("%d bytes at %d that nobody wrote are shown of file %d", n, off, i)
						} else if err != nil && sharefs.KindOf(err) != sharefs.KindUnreachable {
							t.Fatal(err)
						}
					}
					check(t, h.Close())
					if !isAbsent(again, ino) {
						t.Errorf("file %d counts as being here", i)
					}
				}
				f.set(func() { f.down = false })
				for i, ino := range inos {
					if got := all(t, again, ino); got != texts[i] {
						t.Errorf("file %d reads as another one", i)
					}
					check(t, again.Bring(nil, ino, false, nil))
					if got := all(t, again, ino); got != texts[i] || isAbsent(again, ino) {
						t.Errorf("file %d was not brought here", i)
					}
				}
				comeToRest(t, again)
				capture(t, again)
				for i, ino := range inos {
					wantTexts(t, again, ino, texts[i])
				}
				wantClean(t, again, FsckScrub)
			})
		}
	}
}

// TestPartlyHereBeforeTheDiskKnows has the power go while parts of an absent file are here that the disk knows of by halves, and has the rows made anew behind that as well.
func TestPartlyHereBeforeTheDiskKnows(t *testing.T) {
	race.Leave(t, race.OneHand)
	for _, rebuilt := range []bool{false, true} {
		t.Run(map[bool]string{false: "", true: "rebuilt"}[rebuilt], func(t *testing.T) {
			here, lose, ino, _, texts, open := farOnBtrfs(t)
			f := (*here.elsewhere.Load()).(*faraway)
			h := must[*Handle](t)(here.Open(ino, unix.O_RDONLY, root))
			b := make([]byte, 10)
			for _, off := range []int64{0, 50_000} {
				must[int](t)(h.ReadAt(b, off))
				check(t, here.live.syncFile(ino))
			}
			must[int](t)(h.ReadAt(b, 99_000))
			cutPower(t, here, lose, h)
			if rebuilt {
				wantNothingLost(t, rebuild(t, here.cfg.Dir, RebuildOptions{}))
			}
			f.set(func() { f.down = true })
			again := open(here.cfg.Dir)
			again.SetElsewhere(f)
			comeToRest(t, again)
			h = must[*Handle](t)(again.Open(ino, unix.O_RDONLY, root))
			for off := 0; off < len(texts[0]); off += 1000 {
				n, err := h.ReadAt(b, int64(off))
				if !strings.HasPrefix(texts[0][off:], string(b[:n])) || err != nil && sharefs.KindOf(err) != sharefs.KindUnreachable {
					t.Fatalf("%q at %d, %v", b[:n], off, err)
				}
			}
			check(t, h.Close())
			f.set(func() { f.down = false })
			check(t, again.Bring(nil, ino, false, nil))
			wantTexts(t, again, ino, texts[0])
			if got := all(t, again, ino); got != texts[0] || isAbsent(again, ino) {
				t.Errorf("it holds %d bytes", len(got))
			}
			wantClean(t, again, FsckScrub)
		})
	}
}
