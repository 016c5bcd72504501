package cmdtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/internal/mountinfo"
	"sharefs/internal/store"
)

// ended waits until nobody has the store.
func ended(t *testing.T, dir string) {
	t.Helper()
	mounttest.WaitFor(t, "end of the daemon", func() bool {
		_, held, err := store.HolderOf(dir)
		return err == nil && !held
	})
}

// A mount that lives on at a second place is out of its daemon's reach by umount, yet SIGTERM ends it.
func TestSIGTERMEndsAMountThatIsBoundElsewhere(t *testing.T) {
	root(t)
	point, dir := place(t)
	second := filepath.Join(filepath.Dir(point), "second")
	if err := os.Mkdir(second, 0o755); err != nil {
		t.Fatal(err)
	}
	mustMount(t, "--store", dir, point)
	if err := unix.Mount(point, second, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(second, "a"), "kept")
	pid := holder(t, dir)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended(t, dir)
	if mounttest.Mounted(t, point) {
		t.Error("it is still mounted")
	}
	if err := unix.Unmount(second, unix.MNT_DETACH); err != nil {
		t.Error(err)
	}
	mustMount(t, "--store", dir, point)
	holds(t, filepath.Join(point, "a"), "kept")
}

// What somebody mounted over it is not the daemon's to take away.
func TestSIGTERMLeavesWhatIsMountedOverIt(t *testing.T) {
	root(t)
	point, dir := place(t)
	mustMount(t, "--store", dir, "-o", "allow_other", point)
	writeFile(t, filepath.Join(point, "a"), "kept")
	if err := unix.Mount("over", point, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(point, "theirs"), "theirs")
	if err := syscall.Kill(holder(t, dir), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended(t, dir)
	table, err := mountinfo.Read()
	if err != nil {
		t.Fatal(err)
	}
	if m := mountinfo.At(table, point); m == nil || m.Type != "tmpfs" {
		t.Fatalf("%+v is mounted there", m)
	}
	holds(t, filepath.Join(point, "theirs"), "theirs")
	if err := unix.Unmount(point, 0); err != nil {
		t.Error(err)
	}
	// The dead mount below is named, though one can go there, and replaced as after a crash.
	if a := tool(t, "/", "-C", point, "status"); a.exit != 1 ||
		!strings.HasSuffix(a.err, point+": the ShareFS mounted there has ended: sharefs-mount mounts it again\n") {
		t.Errorf("exit %d: %s", a.exit, a.err)
	}
	if a := mount(t, "--store", dir, point); a.exit != 0 || !strings.Contains(a.err, "had ended") {
		t.Fatalf("exit %d: %s", a.exit, a.err)
	}
	holds(t, filepath.Join(point, "a"), "kept")
}

func TestARemountThatIsHeldUpSaysByWhom(t *testing.T) {
	root(t)
	point, dir := place(t)
	mustMount(t, "--store", dir, point)
	f, err := os.Create(filepath.Join(point, "held"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	who := fmt.Sprintf("process %d (%s) has %s open", os.Getpid(), strings.TrimSpace(string(comm)), f.Name())
	notMounted(t, 32, "remount "+point+": files in it are open for writing: "+who, "-o", "remount,ro", point)
	f.Close()
	mustMount(t, "-o", "remount,ro", point)
}
