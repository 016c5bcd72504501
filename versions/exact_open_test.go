package versions

import (
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Who opens a file for writing by a name that another host's removal has just taken away is sent to look again; who has the file open already may open it again.
func TestOpenWhatWasTaken(t *testing.T) {
	for name, held := range map[string]bool{"held": true, "not held": false} {
		t.Run(name, func(t *testing.T) {
			tree := testTree(t, t.TempDir(), byHand)
			ino := create(t, tree, sharefs.RootIno, "f", "text").Ino
			own := newestKept(t, tree, ino).Own
			must[sharefs.Attr](t)(tree.Lookup(sharefs.RootIno, "f")) // as the kernel, which remembers it
			defer tree.Forget(ino, 1)
			if held {
				h := must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root))
				defer h.Close()
			}
			check(t, tree.Take(Name{sharefs.RootIno, "f", ino, own}))
			h, err := tree.Open(ino, unix.O_RDWR, root)
			if !held {
				wantKind(t, err, sharefs.KindStale)
				return
			}
			check(t, err)
			check(t, h.Close())
		})
	}
}
