package cmdtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// TestMount8FindsItsHelper lets the real mount(8) work, in a mount namespace in which the program stands in /usr/sbin under the
// names that mount(8) looks for.
func TestMount8FindsItsHelper(t *testing.T) {
	root(t)
	dir := mounttest.TempDir(t)
	for _, d := range []string{"sbin", "mnt"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"mount.sharefs", "mount.fuse.sharefs"} {
		if err := os.Symlink(mounttest.Bin(t, "sharefs-mount"), filepath.Join(dir, "sbin", name)); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "fstab"), dir+"/store "+dir+"/mnt sharefs ro,nofail,_netdev,noexec,x-systemd.automount,comment=x 0 0\n")
	const script = `
set -e
cd "$1"
mount -t overlay none -o "lowerdir=$1/sbin:/usr/sbin" /usr/sbin
trap 'umount -l "$1/mnt" 2>/dev/null || true' EXIT
options() { findmnt -no FSTYPE,VFS-OPTIONS "$1/mnt" | tr -s ' '; }

mount -t sharefs "$1/store" "$1/mnt" -o noexec,noauto
options "$1"
echo one > mnt/a
mount -o remount,ro "$1/mnt"
options "$1"
if echo two 2>/dev/null > mnt/a; then exit 1; fi
mount -o remount,rw,noatime "$1/mnt"
options "$1"
head -1 mnt/.share/ctl/ctl
mount -o remount,exec "$1/mnt"
options "$1"
umount "$1/mnt"
mount -T fstab "$1/mnt"
options "$1"
cat mnt/a
umount "$1/mnt"
mount -t fuse.sharefs "$1/store" "$1/mnt"
options "$1"
umount "$1/mnt"
if mount -t sharefs -o setle=1 "$1/store" "$1/mnt"; then exit 1; fi
`
	a := command(t, exec.Command("unshare", "-m", "sh", "-c", script, "sh", dir))
	const want = "fuse.sharefs rw,noexec,relatime\n" +
		"fuse.sharefs ro,noexec,relatime\n" +
		"fuse.sharefs rw,noexec,noatime\n" +
		"set atime=noatime\n" +
		"fuse.sharefs rw,noatime\n" +
		"fuse.sharefs ro,noexec,relatime\none\n" +
		"fuse.sharefs rw,relatime\n"
	if a.exit != 0 || a.out != want || !strings.HasPrefix(a.err, "sharefs-mount: option setle: is not known; did you mean settle?\n") {
		t.Errorf("exit %d: %s\n%swant\n%s", a.exit, a.err, a.out, want)
	}
}
