package mountpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/mountinfo"
)

func TestMain(m *testing.M) {
	ServeProbe()
	if os.Getenv("MOUNTPOINT_TEST_SLEEPS") != "" {
		fmt.Println("something")
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

func TestWhatIsWrongWithAPlaceIsSaid(t *testing.T) {
	dir := t.TempDir()
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	must(os.Mkdir(filepath.Join(dir, "full"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "full", "x"), nil, 0o644))
	must(os.MkdirAll(filepath.Join(dir, "disk", "lost+found"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	must(os.Symlink("empty", filepath.Join(dir, "link")))
	must(os.Symlink("loop", filepath.Join(dir, "loop")))
	must(os.Mkdir(filepath.Join(dir, "odd\x1b[31m name"), 0o755))
	for path, want := range map[string]string{
		"empty": "", "disk": "", "link": "", "link/": "", "../" + filepath.Base(dir) + "/empty": "",
		"missing":           "does not exist: mkdir -p ",
		"missing/further":   "does not exist: mkdir -p ",
		"file":              "is not a directory",
		"file/x":            "is not a directory",
		"full":              "is not empty, and a mount would hide what is in it: choose an empty directory, or mount with -o nonempty",
		"loop":              "too many",
		"odd\x1b[31m name":  "",
		"odd\x1b[31m namex": `odd\x1b[31m namex': does not exist`,
	} {
		got, replaced, err := Prepare(Request{Path: filepath.Join(dir) + "/" + path, Root: true})
		switch {
		case want == "" && (err != nil || replaced):
			t.Errorf("%s: %v, %v", path, replaced, err)
		case want == "" && path == "link" && got != filepath.Join(real, "empty"):
			t.Errorf("%s: %s", path, got)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", path, err, want)
		case err != nil && (!strings.HasPrefix(err.Error(), "mount point ") || strings.ContainsAny(err.Error(), "\x1b\n")):
			t.Errorf("%s: %q", path, err)
		}
	}
	if _, _, err := Prepare(Request{Path: filepath.Join(dir, "full"), NonEmpty: true, Root: true}); err != nil {
		t.Error(err)
	}
	if _, _, err := Prepare(Request{Path: "/", NonEmpty: true, Root: true}); err == nil {
		t.Error("the root directory is taken")
	}
	if _, _, err := Prepare(Request{Root: true}); !errors.Is(err, sharefs.KindInvalid) {
		t.Error(err)
	}
}

// fuseMount mounts a filesystem of the given type that nobody serves: it hangs while the returned descriptor is open, and is
// dead afterwards.
func fuseMount(t *testing.T, typ string) (dir string, device *os.File) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may call mount(2)")
	}
	dir = t.TempDir()
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("lost", dir, typ, 0, fmt.Sprintf("fd=%d,rootmode=40755,user_id=0,group_id=0", device.Fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		device.Close()
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	return dir, device
}

func mounted(t *testing.T, dir string) bool {
	t.Helper()
	mounts, err := mountinfo.Read()
	if err != nil {
		t.Fatal(err)
	}
	return mountinfo.At(mounts, dir) != nil
}

func TestTheMountOfADeadDaemonIsReplaced(t *testing.T) {
	dir, device := fuseMount(t, mountinfo.Type)
	device.Close()
	if err := Alive(dir, time.Minute); !isDead(err) {
		t.Fatalf("a dead mount answers %v", err)
	}
	if _, replaced, err := Prepare(Request{Path: dir, Root: true}); err != nil || !replaced {
		t.Fatalf("%v, %v", replaced, err)
	}
	if mounted(t, dir) {
		t.Error("it is still mounted")
	}
}

func TestTheDeadMountOfAnotherProgramIsLeftToItsOwner(t *testing.T) {
	dir, device := fuseMount(t, "fuse.other")
	device.Close()
	_, _, err := Prepare(Request{Path: dir, Root: true})
	if err == nil || !strings.Contains(err.Error(), "a mount of type fuse.other is there whose daemon has ended: fusermount3 -uz ") {
		t.Fatal(err)
	}
	if !mounted(t, dir) {
		t.Error("it was taken away")
	}
}

func TestAHungMountIsReplacedOnlyIfItsDaemonHasEnded(t *testing.T) {
	dir, _ := fuseMount(t, mountinfo.Type)
	request := Request{Path: dir, Root: true, Patience: 100 * time.Millisecond} // it never answers, so any patience does
	_, _, err := Prepare(request)
	if err == nil || !strings.Contains(err.Error(), "ShareFS store lost is mounted there and does not answer") {
		t.Fatal(err)
	}
	request.Ended = func(m *mountinfo.Mount) bool { return m.Source == "lost" }
	waits := make(chan error, 1)
	go func() {
		_, err := os.Stat(filepath.Join(dir, "x"))
		waits <- err
	}()
	if _, replaced, err := Prepare(request); err != nil || !replaced {
		t.Fatalf("%v, %v", replaced, err)
	}
	if mounted(t, dir) {
		t.Error("it is still mounted")
	}
	select {
	case err := <-waits:
		if !isDead(err) && !errors.Is(err, unix.ENOENT) { // that it came before the mount was taken away cannot be told
			t.Errorf("what waited in it: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("what waited in it waits still")
	}
}

func TestAliveTellsTheErrno(t *testing.T) {
	dir := t.TempDir()
	if err := Alive(dir, time.Minute); err != nil {
		t.Error(err)
	}
	if err := Alive(filepath.Join(dir, "x"), time.Minute); !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
}

// A child that hangs is given up and ended, whatever it has said before.
func TestAChildThatHangs(t *testing.T) {
	if text, err := Child(100*time.Millisecond, "MOUNTPOINT_TEST_SLEEPS=1"); !errors.Is(err, ErrHung) || text != nil {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := Child(time.Minute, probeVariable+"=/"); err != nil || strings.TrimSpace(string(text)) != "0" {
		t.Errorf("%q, %v", text, err)
	}
}
