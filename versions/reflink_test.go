package versions

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// reflinkDisk mounts a new filesystem that can share blocks between files, until the test ends.
func reflinkDisk(t testing.TB, kind string) string {
	t.Helper()
	return reflinkDiskOf(t, kind, 1<<30)
}

// reflinkDiskOf is reflinkDisk for a disk of some bytes, which takes no space but what is written.
func reflinkDiskOf(t testing.TB, kind string, size int64) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a disk")
	}
	mkfs, err := exec.LookPath("mkfs." + kind)
	if err != nil {
		t.Skipf("there is no mkfs.%s here: %v (make test installs xfsprogs and btrfs-progs where it can)", kind, err)
	}
	dir := t.TempDir()
	image, disk := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	check(t, os.WriteFile(image, nil, 0o600))
	check(t, os.Truncate(image, size))
	check(t, os.Mkdir(disk, 0o755))
	if out, err := exec.Command(mkfs, "-q", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.%s: %v\n%s", kind, err, out)
	}
	if out, err := exec.Command("mount", "-t", kind, "-o", "loop", image, disk).CombinedOutput(); err != nil {
		t.Skipf("%s cannot be mounted from a loop device here: %v: %s", kind, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", disk).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return disk
}

// usedOn returns how many bytes a disk has in use.
func usedOn(t *testing.T, disk string) int64 {
	t.Helper()
	d, err := os.Open(disk)
	check(t, err)
	defer d.Close()
	check(t, unix.Syncfs(int(d.Fd())))
	var st unix.Statfs_t
	check(t, unix.Statfs(disk, &st))
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// TestReflinks: where the disk can share blocks, neither setting a version aside nor a copy moves any content.
func TestReflinks(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			disk := reflinkDisk(t, kind)
			store := filepath.Join(disk, "store")
			check(t, os.Mkdir(store, 0o700))
			const size = 16 << 20
			random := make([]byte, size)
			rng := rand.NewChaCha8([32]byte{1})
			rng.Read(random)
			first, second := string(random), "changed"+string(random[7:])

			tree := testTree(t, store, byHand)
			ino := save(t, tree, "f", first)
			before := usedOn(t, disk)
			shared := func(what string) {
				t.Helper()
				if grown := usedOn(t, disk) - before; grown > size/2 {
					t.Errorf("%s took %d bytes of a disk that can share blocks", what, grown)
				}
			}
			// Somebody opens it to change a part, before its version is captured.
			h := must[*Handle](t)(tree.Open(ino, unix.O_RDWR, root))
			writeAll(t, h, "changed")
			if c := &tree.past.counts; c.cloned.Load() != 1 || c.copied.Load() != 0 {
				t.Errorf("%d versions cloned, %d copied", c.cloned.Load(), c.copied.Load())
			}
			shared("setting a version aside")

			_, to, err := tree.Create(sharefs.RootIno, "copy", unix.O_RDWR, 0o644, root)
			check(t, err)
			for done := int64(0); done < size; {
				n, err := h.CopyTo(to, done, done, size-done, root)
				check(t, err)
				if n == 0 {
					t.Fatalf("the copy ends at %d", done)
				}
				done += n
			}
			shared("a copy")
			copied := make([]byte, size+1)
			if n := must[int](t)(to.ReadAt(copied, 0)); string(copied[:n]) != second {
				t.Error("the copy differs")
			}
			check(t, to.Close())
			check(t, h.Close())
			settle(t, tree, ino)

			versions := func() {
				t.Helper()
				if readVersion(t, tree, ino, 1) != first || readVersion(t, tree, ino, 2) != second {
					t.Error("a version differs")
				}
			}
			versions()
			check(t, tree.Close())
			tree = testTree(t, store, byHand)
			versions()
			capture(t, tree)
			versions()
		})
	}
}
