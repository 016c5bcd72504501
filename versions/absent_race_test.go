package versions

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// An absent file loses all of its content, or is given another one, while others open and read it: what is elsewhere of the content before comes back into it by no way.
func TestAbsentIsEmptiedWhileItIsRead(t *testing.T) {
	here, there := pair(t)
	f := newFaraway()
	here.SetElsewhere(f)
	kept := func(seed uint64, size int) (string, Content) {
		text := blob(seed, size)
		c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, fmt.Sprint("f", seed), text).Ino).Content
		check(t, f.keep(there.Tree, &c))
		return text, c
	}
	before, was := kept(1, 100_000)
	adopted, next := kept(2, 40_000)
	defer gathered(t, here, there, next).End()
	for name, c := range map[string]struct {
		do   func(ino sharefs.Ino)
		want string
	}{
		"opened with O_TRUNC": {func(ino sharefs.Ino) {
			h := must[*Handle](t)(here.Open(ino, unix.O_WRONLY|unix.O_TRUNC, root))
			writeAll(t, h, "mine")
			check(t, h.Close())
		}, "mine"},
		"truncated": {func(ino sharefs.Ino) {
			must[sharefs.Attr](t)(here.Setattr(ino, &SetAttr{Size: new(uint64)}, root))
		}, ""},
		"adopted": {func(ino sharefs.Ino) {
			must[uint64](t)(here.Adopt(ino, staged(t, here, Foreign{Content: next, Author: sharefs.PeerID{2}, Onto: ino}), 1))
		}, adopted},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 100 {
				ino := arrive(t, here, f, fmt.Sprint(name, i), was).Ino
				var hands sync.WaitGroup
				for range 2 {
					hands.Go(func() {
						for range 5 {
							h := must[*Handle](t)(here.Open(ino, unix.O_RDONLY, root))
							b := make([]byte, len(before))
							for off := 0; off < len(b); off += 30_000 {
								if n, err := h.ReadAt(b[off:min(len(b), off+30_000)], int64(off)); err != nil && n == 0 {
									t.Error(err)
								}
							}
							check(t, h.Close())
						}
					})
				}
				hands.Go(func() { c.do(ino) })
				hands.Wait()
				b := must[[]byte](t)(os.ReadFile(filepath.Join(here.cfg.Dir, "live", here.live.name(ino))))
				st := must[unix.Stat_t](t)(here.live.stat(ino))
				if got := all(t, here, ino); got != c.want || string(b) != c.want || st.Mode&unix.S_ISVTX != 0 || isAbsent(here, ino) {
					t.Fatalf("try %d: %d bytes are read of %d in the file and %d that it is to hold; its mode is %o, it is absent: %v", i, len(got), len(b), len(c.want), st.Mode, isAbsent(here, ino))
				}
			}
		})
	}
	comeToRest(t, here)
	capture(t, here)
	wantClean(t, here, FsckScrub)
}
