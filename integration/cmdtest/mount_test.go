package cmdtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/internal/mountinfo"
	"sharefs/internal/store"
)

// mountedAs returns the line of the table of mounts.
func mountedAs(t *testing.T, point string) *mountinfo.Mount {
	t.Helper()
	table, err := mountinfo.Read()
	if err != nil {
		t.Fatal(err)
	}
	m := mountinfo.At(table, point)
	if m == nil {
		t.Fatalf("nothing is mounted at %s", point)
	}
	return m
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v, want %q", path, got, err, want)
	}
}

// unmount ends a mount as a user does.
func unmount(t *testing.T, point string) {
	t.Helper()
	if out, err := mounttest.Umount(point); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestItMountsInTheBackgroundAndEveryWayOutSaves(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, mode mounttest.Mode) {
		point, dir := place(t)
		args := []string{"--store", dir, point}
		if mode == mounttest.Served {
			args = append(args, "-o", "passthrough=off")
		}
		ways := map[string]func(pid int){
			"unmount": func(int) { unmount(t, point) },
			"fusermount3": func(int) {
				if out, err := mounttest.Umount(point, "fusermount3", "-u"); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			},
			"SIGTERM": func(pid int) {
				if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			},
		}
		for way, leave := range ways {
			mustMount(t, args...)
			writeFile(t, filepath.Join(point, way), way)
			leave(holder(t, dir))
			mounttest.WaitFor(t, "end of the daemon", func() bool {
				_, held, err := store.HolderOf(dir)
				return err == nil && !held
			})
			if mounttest.Mounted(t, point) {
				t.Fatalf("%s: it is still mounted", way)
			}
		}
		mustMount(t, args...)
		for way := range ways {
			holds(t, filepath.Join(point, way), way)
		}
	})
}

func TestItCanBeMountedAgainAtOnce(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, _ mounttest.Mode) {
		point, dir := place(t)
		for i := range 3 {
			mustMount(t, "--store", dir, point)
			writeFile(t, filepath.Join(point, fmt.Sprint(i)), "x")
			unmount(t, point) // the next mount waits until this one has saved
		}
		mustMount(t, "--store", dir, point)
		for i := range 3 {
			holds(t, filepath.Join(point, fmt.Sprint(i)), "x")
		}
	})
}

func TestTheTableOfMountsNamesTheStore(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, _ mounttest.Mode) {
		point, dir := place(t)
		t.Setenv("XDG_DATA_HOME", filepath.Dir(dir))
		named := filepath.Join(filepath.Dir(dir), "sharefs", "my photos")
		for _, c := range []struct {
			args           []string
			source, inDir  string
			options, avoid string
		}{
			{[]string{"my photos", point}, "my photos", named, "rw", "noatime"},
			{[]string{"-o", "noatime,noexec,nosuid,nodev", "my photos", point}, "my photos", named, "noatime,noexec,nosuid,nodev", ""},
			{[]string{"--store", dir, point}, dir, dir, "nosuid", ""},
			{[]string{"--store", dir, "label", point}, "label", dir, "", ""},
			{[]string{dir, point, "-o", "ro"}, dir, dir, "ro", ""},
			{[]string{"-o", "fsname=a b,store=" + dir, point}, "a b", dir, "", ""},
		} {
			if os.Geteuid() == 0 && c.options == "nosuid" {
				c.options = ""
			}
			mustMount(t, c.args...)
			m := mountedAs(t, point)
			if m.Type != mountinfo.Type || m.Source != c.source {
				t.Errorf("%q: type %s, source %q, want %q", c.args, m.Type, m.Source, c.source)
			}
			for o := range strings.SplitSeq(c.options, ",") {
				if o != "" && !m.Has(o) {
					t.Errorf("%q: %s is missing in %s", c.args, o, m.Options)
				}
			}
			if c.avoid != "" && m.Has(c.avoid) {
				t.Errorf("%q: %s is in %s", c.args, c.avoid, m.Options)
			}
			mounttest.End(t, point)
		}
	})
}

func TestTheHelperOfMountSpeaksItsLanguage(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, _ mounttest.Mode) {
		point, dir := place(t)
		bin := mounttest.TempDir(t)
		for _, name := range []string{"mount.sharefs", "mount.fuse.sharefs"} {
			helper := filepath.Join(bin, name)
			if err := os.Symlink(mounttest.Bin(t, "sharefs-mount"), helper); err != nil {
				t.Fatal(err)
			}
			if a := command(t, exec.Command(helper, dir, point, "-n", "-s", "-f", "-o", "rw,noauto")); a.exit != 0 || mounttest.Mounted(t, point) {
				t.Errorf("%s -f is to pretend only: %+v", name, a)
			}
			if a := command(t, exec.Command(helper, dir, point, "-o", "rw,noauto,nofail,_netdev,x-systemd.automount,noexec")); a.exit != 0 || a.err != "" {
				t.Fatalf("%s: %+v", name, a)
			}
			if m := mountedAs(t, point); m.Source != dir || !m.Has("noexec") {
				t.Errorf("%s: %+v", name, m)
			}
			mounttest.End(t, point)
		}
	})
}

func TestRemountChangesWhatIsSaidAndNothingElse(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, _ mounttest.Mode) {
		point, dir := place(t)
		notMounted(t, 32, "remount "+point+": no ShareFS is mounted there", "-o", "remount,ro", point)
		mustMount(t, "--store", dir, "-o", "noexec", point)
		if os.Geteuid() != 0 {
			notMounted(t, 1, "remount "+point+": only root may change a mount; you may unmount it and mount it anew", "-o", "remount,ro", point)
			return
		}
		writeFile(t, filepath.Join(point, "a"), "before")
		mustMount(t, "-o", "remount,ro", point)
		if m := mountedAs(t, point); !m.ReadOnly() || !m.Has("noexec") {
			t.Errorf("after ro: %s %s", m.Options, m.Super)
		}
		if err := os.WriteFile(filepath.Join(point, "a"), nil, 0o644); err == nil {
			t.Error("a read-only mount is written")
		}
		// What mount(8) hands over: all that holds, then what is new.
		mustMount(t, "-o", "ro,noexec,relatime,user_id=0,group_id=0,default_permissions,remount,rw,noatime", dir, point)
		if m := mountedAs(t, point); m.ReadOnly() || !m.Has("noexec") || !m.Has("noatime") {
			t.Errorf("after rw: %s %s", m.Options, m.Super)
		}
		writeFile(t, filepath.Join(point, "a"), "after")
		if text, err := os.ReadFile(filepath.Join(point, ".share/ctl/ctl")); err != nil || !strings.Contains(string(text), "set atime=noatime") {
			t.Errorf("the daemon knows %q, %v", text, err)
		}
	})
}

func TestWhatIsWrongWithAMountPointIsSaid(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, _ mounttest.Mode) {
		point, dir := place(t)
		missing, file, full := filepath.Join(point, "missing"), dir+"-file", dir+"-full"
		writeFile(t, file, "x")
		if err := os.Mkdir(full, 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(full, "x"), "x")
		notMounted(t, 32, "mount point "+missing+": does not exist: mkdir -p "+missing, "--store", dir, missing)
		notMounted(t, 32, "mount point "+file+": is not a directory", "--store", dir, file)
		notMounted(t, 32, "mount point "+full+": is not empty, and a mount would hide what is in it: choose an empty directory, or mount with -o nonempty",
			"--store", dir, full)
		if _, err := os.Stat(dir); err == nil {
			t.Error("a store was made although there is nothing to mount it at")
		}
		if os.Geteuid() != 0 {
			notMounted(t, 32, "mount point /usr: is not yours to write, so that only root may mount there: choose a directory of your own", "--store", dir, "/usr")
		}
		mustMount(t, "--store", dir, "-o", "nonempty", full)
		notMounted(t, 32, "mount point "+full+": ShareFS store "+dir+" is mounted there already: umount it first, or choose another place", dir+"2", full)
		a := mount(t, "--store", dir, point)
		want := fmt.Sprintf("sharefs-mount: store %s is in use by process %d, mounted at \"%s\": unmount that first, or name another store\n", dir, holder(t, dir), full)
		if a.exit != 32 || a.err != want {
			t.Errorf("a second daemon on one store: %+v, want %s", a, want)
		}
	})
}

func TestADeadDaemonsMountIsReplaced(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, _ mounttest.Mode) {
		point, dir := place(t)
		mustMount(t, "--store", dir, point)
		writeFile(t, filepath.Join(point, "a"), "kept")
		pid := holder(t, dir)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		mounttest.WaitFor(t, "death of the daemon", func() bool {
			_, held, err := store.HolderOf(dir)
			return err == nil && !held
		})
		if _, err := os.Stat(point); err == nil {
			t.Fatal("the mount of a dead daemon answers")
		}
		refused(t, "/", 1, "-C "+point+": the ShareFS mounted there has ended: sharefs-mount mounts it again", "-C", point, "status")
		a := mount(t, "--store", dir, point)
		if want := "sharefs-mount: warning: the mount of a daemon that had ended was taken away from " + point + "\n"; a.exit != 0 || a.err != want {
			t.Fatalf("%+v, want %s", a, want)
		}
		holds(t, filepath.Join(point, "a"), "kept")
	})
}

func TestStoresThatCannotBeUsedAreNamed(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, _ mounttest.Mode) {
		point, dir := place(t)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "thesis.txt"), "x")
		notMounted(t, 32, "open store "+dir+`: it holds "thesis.txt", which is not part of a store: name an empty or a new directory`, "--store", dir, point)

		inside := filepath.Join(point, "store")
		notMounted(t, 32, "mount point "+point+": the store "+inside+" lies in it, and the mount would hide it: choose another place for one of them", "--store", inside, point)

		other := dir + "2"
		mustMount(t, "--store", other, point)
		mounttest.End(t, point)
		conf := filepath.Join(other, "share.toml")
		writeFile(t, conf, "[versions]\nsetle = \"2s\"\n")
		notMounted(t, 32, "configuration "+conf+": key versions.setle is not known; did you mean versions.settle?", "--store", other, point)
		if err := os.Remove(conf); err != nil {
			t.Fatal(err)
		}
		key := filepath.Join(other, "identity.key")
		if err := os.Chmod(key, 0o640); err != nil {
			t.Fatal(err)
		}
		notMounted(t, 32, "read key "+key+": others may read it (mode 0640): chmod 600 "+key, "--store", other, point)
		if err := os.Chmod(key, 0o600); err != nil {
			t.Fatal(err)
		}
		mustMount(t, "--store", other, point)
	})
}

// disk mounts a small tmpfs, which stands for a disk.
func disk(t *testing.T, options string) string {
	t.Helper()
	dir := filepath.Join(mounttest.TempDir(t), "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("disk", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount disks for the test")
	}
}

func TestAFullDiskIsNamed(t *testing.T) {
	root(t)
	point, _ := place(t)
	full := disk(t, "size=1m")
	if err := os.WriteFile(filepath.Join(full, "ballast"), make([]byte, 2<<20), 0o644); err == nil {
		t.Fatal("the disk is not full")
	}
	a := mount(t, "--store", filepath.Join(full, "store"), point)
	if a.exit != 32 || !strings.Contains(a.err, "store "+filepath.Join(full, "store")) || !strings.Contains(a.err, "the disk below it is full") || strings.Count(a.err, "\n") != 1 {
		t.Errorf("%+v", a)
	}
	if mounttest.Mounted(t, point) {
		t.Error("it is mounted")
	}
}

func TestAStoreOnAReadOnlyDisk(t *testing.T) {
	root(t)
	point, _ := place(t)
	lower := disk(t, "size=256m")
	dir := filepath.Join(lower, "store")
	mustMount(t, "--store", dir, point)
	writeFile(t, filepath.Join(point, "a"), "kept")
	mounttest.End(t, point)
	mounttest.WaitFor(t, "the disk without writers", func() bool { // the kernel lets go of passed-through files a moment after the mount
		return unix.Mount("", lower, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") == nil
	})
	none := filepath.Join(lower, "none")
	notMounted(t, 32, "make store "+none+": there is no store yet and the disk below is read-only: read-only file system", "--store", none, point)
	mustMount(t, "--store", dir, point)
	holds(t, filepath.Join(point, "a"), "kept")
	if err := os.WriteFile(filepath.Join(point, "a"), nil, 0o644); err == nil {
		t.Error("a store on a read-only disk is written")
	}
	if m := mountedAs(t, point); !m.ReadOnly() {
		t.Error("the mount does not say that it is read-only")
	}
	notMounted(t, 32, "remount "+point+": the disk below its store was read-only when it was mounted: make it writable, unmount, and mount anew", "-o", "remount,rw", point)
	mounttest.End(t, point)
}

func TestAMachineWithoutFUSE(t *testing.T) {
	root(t)
	point, dir := place(t)
	// A mount namespace of its own, with a /dev that has no fuse in it.
	script := `mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec "$0" --store "$1" "$2"`
	a := command(t, exec.Command("unshare", "-m", "sh", "-c", script, mounttest.Bin(t, "sharefs-mount"), dir, point))
	want := "sharefs-mount: mount: there is no /dev/fuse: run modprobe fuse as root, or give the container --device /dev/fuse\n"
	if a.exit != 2 || a.err != want {
		t.Errorf("%+v, want exit 2: %s", a, want)
	}
}

func TestAStoreInAnotherShareIsWarnedOf(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, outer *mounttest.Mount) {
		point, _ := place(t)
		dir := outer.Path("store")
		a := mount(t, "--store", dir, point)
		want := "sharefs-mount: warning: the store " + dir + " lies in another ShareFS (" + outer.Dir + "): everything is kept twice, and content goes through both daemons\n"
		if a.exit != 0 || a.err != want {
			t.Fatalf("%+v, want %s", a, want)
		}
		writeFile(t, filepath.Join(point, "a"), "nested")
		holds(t, filepath.Join(point, "a"), "nested")
		mounttest.End(t, point)
	})
}

func TestWrongCallsAreExplained(t *testing.T) {
	point, dir := place(t)
	for message, args := range map[string][]string{
		"MOUNTPOINT is missing":                            {},
		"MOUNTPOINT is empty":                              {""},
		`too many arguments: "c"`:                          {"a", "b", "c"},
		"unknown flag: --stor":                             {"--stor", dir, point},
		"--store needs a directory":                        {"--store", "", point},
		"option setle: is not known; did you mean settle?": {"-o", "setle=1s", point},
		"option settle: is a time with its unit, such as 1s, 500ms or 0, not 5": {"-o", "settle=5", point},
		"option view: is live, all, or at:TIME, not past":                       {"-o", "view=past", point},
	} {
		notMounted(t, 1, message, args...)
	}
	notMounted(t, 32, "store -x: a store's name does not begin with - and has no control characters; a path has a slash", "--", "-x", point)
	if a := mount(t, "--help"); a.exit != 0 || !strings.Contains(a.out, "sharefs-mount [flags] [SOURCE] MOUNTPOINT") || !strings.Contains(a.out, "view=live|all|at:TIME") || a.err != "" {
		t.Errorf("%+v", a)
	}
	if a := mount(t, "--version"); a.exit != 0 || !strings.HasPrefix(a.out, "sharefs-mount 0.") {
		t.Errorf("%+v", a)
	}
}

func TestAProgramWithOpenFilesDoesNotKeepTheDaemon(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, mode mounttest.Mode) {
		point, dir := place(t)
		mustMount(t, "--store", dir, point)
		f, err := os.Create(filepath.Join(point, "open"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString("kept"); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(holder(t, dir), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		mounttest.WaitFor(t, "end of the daemon", func() bool {
			_, held, err := store.HolderOf(dir)
			return err == nil && !held
		})
		f.Close()
		mustMount(t, "--store", dir, point)
		holds(t, filepath.Join(point, "open"), "kept")
	})
}
