package versions

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// A file that is removed while it is restored goes, whoever asks for that holding no reference of the kernel's.
func TestRemovedWhileItIsRestored(t *testing.T) {
	t.Parallel()
	tree := testTree(t, t.TempDir()) // which captures what the file held, and lets go of it then
	for i := range 8 {
		name := fmt.Sprint("f", i)
		save(t, tree, name, "one")
		ino := save(t, tree, name, "two, and more")
		var both sync.WaitGroup
		both.Go(func() {
			err := tree.Restore(Op{}, ino, 1, root)
			if err != nil && !errors.Is(err, sharefs.KindStale) && !errors.Is(err, sharefs.KindNotExist) {
				t.Errorf("restore: %v", err)
			}
		})
		both.Go(func() {
			if err := tree.Unlink(sharefs.RootIno, name); err != nil {
				t.Errorf("unlink: %v", err)
			}
		})
		both.Wait()
		eventually(t, fmt.Sprintf("the backing file of %s is gone", name), func() bool {
			_, err := tree.live.stat(ino)
			return errors.Is(err, unix.ENOENT)
		})
	}
	noProblems(t, tree)
}

// Whoever asks for a removed file right between the removal of its backing file and that of its row is told that there is none.
func TestAskedForWhileItIsReaped(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := create(t, tree, sharefs.RootIno, "f", "text").Ino
	check(t, tree.Unlink(sharefs.RootIno, "f"))
	if a := must[sharefs.Attr](t)(tree.Getattr(ino)); a.Nlink != 0 || !a.Changing {
		t.Errorf("%+v", a)
	}
	check(t, tree.live.remove(ino))
	_, err := tree.Getattr(ino)
	wantKind(t, err, sharefs.KindStale)
	tree.Forget(ino, 1)
}
