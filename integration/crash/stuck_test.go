package crash

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs/fs/device"
	"sharefs/integration/mounttest"
	"sharefs/internal/store"
)

// Environment of this program as a daemon that can be killed and does not end.
const (
	stuckStore = "SHAREFS_TEST_STUCK_STORE"
	stuckPoint = "SHAREFS_TEST_STUCK_POINT"
)

// deaf is an empty directory in which mkdir(2) is never answered.
type deaf struct {
	fuse.RawFileSystem
	asked chan struct{}
}

func (*deaf) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Ino, out.Nlink, out.Mode = in.NodeId, 2, unix.S_IFDIR|0o755
	return fuse.OK
}

func (*deaf) Lookup(<-chan struct{}, *fuse.InHeader, string, *fuse.EntryOut) fuse.Status {
	return fuse.ENOENT
}

func (d *deaf) Mkdir(<-chan struct{}, *fuse.MkdirIn, string, *fuse.EntryOut) fuse.Status {
	close(d.asked)
	select {}
}

// serveStuck is a daemon as the kernel and the store see it, that tells the kernel of a name while a program, which waits for its answer, has the directory locked.
func serveStuck() {
	s, err := store.Open(os.Getenv(stuckStore))
	if err != nil {
		panic(err)
	}
	d := &deaf{fuse.NewDefaultRawFileSystem(), make(chan struct{})}
	c, err := device.Mount(device.Config{FS: d, Mountpoint: os.Getenv(stuckPoint), Source: os.Getenv(stuckStore), Subtype: "sharefs"})
	if err != nil {
		panic(err)
	}
	c.Serve()
	s.Say(store.Mounted, os.Getenv(stuckPoint))
	fmt.Println("mounted")
	<-d.asked
	fmt.Println("asked")
	c.InvalidateEntry(fuse.FUSE_ROOT_ID, "name")
}

// whereIs returns where in the kernel the threads of a process are, as far as that is told.
func whereIs(pid int) (all string) {
	for _, where := range []string{"stack", "wchan"} {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/%s", pid, where))
		for _, task := range tasks {
			if text, err := os.ReadFile(task); err == nil && strings.Trim(string(text), "0\n") != "" {
				all += string(text) + "\n"
			}
		}
	}
	return all
}

// asleep reports whether a process with one thread sleeps.
func asleep(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := strings.Cut(string(text), ") ")
	return err == nil && ok && (rest[0] == 'S' || rest[0] == 'D')
}

// stuck has such a daemon mount a store, and kills it; gone is closed when it has ended.
func stuck(t *testing.T, dir, point string) (gone <-chan struct{}) {
	t.Helper()
	daemon := exec.Command("/proc/self/exe")
	daemon.Env = append(os.Environ(), stuckStore+"="+dir, stuckPoint+"="+point)
	daemon.Stderr = os.Stderr
	out, err := daemon.StdoutPipe()
	if err == nil {
		err = daemon.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = unix.Unmount(point, unix.MNT_FORCE|unix.MNT_DETACH) // what waits in it fails, so that all end
		<-ended
	})
	r := bufio.NewReader(out)
	says := func(want string) {
		t.Helper()
		if line, err := r.ReadString('\n'); line != want+"\n" {
			t.Errorf("%q, %v", line, err)
		}
	}
	says("mounted")
	mkdir := exec.Command("mkdir", filepath.Join(point, "new"))
	if err := mkdir.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = mkdir.Wait()
		_ = daemon.Wait()
		close(ended)
	}()
	says("asked")
	hidden := false
	mounttest.WaitFor(t, "it waits for the directory", func() bool {
		// mkdir sleeps in the kernel until the end: where not even that is told of, nothing is.
		hidden = asleep(mkdir.Process.Pid) && whereIs(mkdir.Process.Pid) == ""
		return hidden || strings.Contains(whereIs(daemon.Process.Pid), "fuse_reverse_inval_entry")
	})
	if hidden {
		t.Skip("this kernel does not tell where in it a process is (/proc/PID/stack, wchan)")
	}
	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	mounttest.WaitFor(t, "it is known to be killed", func() bool {
		h, held, err := store.HolderOf(dir)
		return err == nil && held && store.Killed(h)
	})
	return ended
}

// A daemon that was killed while it told the kernel of a name, and a program that waits for its answer and has the directory locked, do not end by themselves: the next mount of the store
// ends them, be it at the same place or at another one.
func TestAKilledDaemonThatCannotEnd(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts by itself, and looks at where in the kernel a process is")
	}
	for _, elsewhere := range []bool{false, true} {
		t.Run(fmt.Sprintf("elsewhere=%v", elsewhere), func(t *testing.T) {
			m := mounttest.Start(t, mounttest.Passthrough)
			if err := os.WriteFile(m.Path("file"), []byte("kept"), 0o644); err != nil {
				t.Fatal(err)
			}
			m.Unmount()
			gone := stuck(t, m.Store, m.Dir)
			again := m
			if elsewhere {
				again = mounttest.Start(t, mounttest.Passthrough, mounttest.On(m.Store))
			} else {
				m.Mount()
			}
			if text, err := os.ReadFile(again.Path("file")); err != nil || string(text) != "kept" {
				t.Errorf("%q, %v", text, err)
			}
			select {
			case <-gone:
			case <-time.After(mounttest.Patience):
				t.Error("it does not end")
			}
		})
	}
}
