package writers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// opener opens backing files by number below dir.
func opener(dir string) func(sharefs.Ino) (int, error) {
	return func(id sharefs.Ino) (int, error) {
		return unix.Open(filepath.Join(dir, fmt.Sprint(id)), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
}

func mustLease(t *testing.T, dir string) {
	t.Helper()
	can, err := examine(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !can.Leases {
		t.Skip("no leases here")
	}
}

// TestOpenDuringProbes hammers a file with probes while it is opened for writing: an open waits for a lease if need be and never fails,
// and between Hold and Release not even one that refuses to wait does.
func TestOpenDuringProbes(t *testing.T) {
	dir := t.TempDir()
	mustLease(t, dir)
	path := filepath.Join(dir, "2")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tr, err := New(Config{Dir: dir, Settle: time.Hour, Open: opener(dir), Notify: func(Event) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := tr.Check(2); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	defer func() { close(stop); <-ended }()
	for i := range 3000 {
		flags := unix.O_RDWR | unix.O_CLOEXEC
		hold := i%2 == 0
		if hold {
			tr.Hold(2, Stamp{}, true)
			flags |= unix.O_NONBLOCK
		}
		fd, err := unix.Open(path, flags, 0)
		for err == unix.EINTR {
			fd, err = unix.Open(path, flags, 0)
		}
		if err != nil {
			t.Fatalf("open, held %v: %v", hold, err)
		}
		if s, err := tr.Check(2); err != nil || !s.Held {
			t.Fatalf("Check of an open file: %+v, %v", s, err)
		}
		unix.Close(fd)
		if hold {
			tr.Release(2)
			tr.Forget(2)
		}
	}
}

// TestOverflow fills the kernel's queue while nobody reads hints.
func TestOverflow(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	var limit int
	if _, err2 := fmt.Sscan(string(b), &limit); err != nil || err2 != nil || limit > 1<<18 {
		t.Skip("the queue's limit is not known, or too high to reach")
	}
	dir := t.TempDir()
	w, err := newWatches(opener(dir))
	if err != nil {
		t.Skip("no inotify here: ", err)
	}
	defer w.close()
	var files [2]*os.File
	for i := range files {
		if files[i], err = os.Create(filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		defer files[i].Close()
		if err := w.watch(sharefs.Ino(i), true); err != nil {
			t.Skip("no watch to be had here: ", err)
		}
	}
	// Equal events in a row are merged, so the two take turns. The reader takes some off the queue before its channel is full: one batch
	// of 64 KiB for each entry at most.
	for i := range limit + (cap(w.queue)+2)*(64<<10)/unix.SizeofInotifyEvent {
		if _, err := files[i%2].WriteAt([]byte{1}, 0); err != nil {
			t.Fatal(err)
		}
	}
	timeout := time.After(hang)
	for {
		select {
		case h := <-w.hints():
			if h.lost {
				return
			}
		case <-timeout:
			t.Fatal("no overflow was reported")
		}
	}
}

// TestWatch: hints by kind, replaced watches, and none after the end.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	w, err := newWatches(opener(dir))
	if err != nil {
		t.Skip("no inotify here: ", err)
	}
	defer w.close()
	path := filepath.Join(dir, "2")
	touch := func() {
		t.Helper()
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// next returns all hints up to the close of a file that serves as a marker.
	if err := os.WriteFile(filepath.Join(dir, "3"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	next := func() map[hint]bool {
		t.Helper()
		if err := w.watch(3, false); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "3"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		got := map[hint]bool{}
		timeout := time.After(hang)
		for {
			select {
			case h := <-w.hints():
				if h.id == 3 {
					return got
				}
				got[h] = true
			case <-timeout:
				t.Fatal("a hint is missing")
			}
		}
	}
	touch()
	if err := w.watch(2, true); err != nil {
		t.Fatal(err)
	}
	touch()
	if got := next(); len(got) != 2 || !got[hint{id: 2, write: true}] || !got[hint{id: 2}] {
		t.Errorf("watching writes: %v", got)
	}
	if err := w.watch(2, false); err != nil {
		t.Fatal(err)
	}
	touch()
	if got := next(); len(got) != 1 || !got[hint{id: 2}] {
		t.Errorf("watching closes: %v", got)
	}
	w.unwatch(2)
	touch()
	if got := next(); len(got) != 0 {
		t.Errorf("watching no more: %v", got)
	}
	if err := w.watch(4, false); !errors.Is(err, unix.ENOENT) {
		t.Errorf("watch of a missing file: %v", err)
	}
	// The end of a watched inode is a hint too.
	if err := w.watch(2, false); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := next(); len(got) != 1 || !got[hint{id: 2}] {
		t.Errorf("removed: %v", got)
	}
}

const limitEnv = "SHAREFS_WRITERS_LIMIT"

// TestWatchLimit runs the model over real children in a user namespace where no inotify watch is to be had.
func TestWatchLimit(t *testing.T) {
	if os.Getenv(limitEnv) != "" {
		if err := os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("0"), 0); err != nil {
			t.Skip("the limit cannot be set, as in a container whose /proc is read-only: ", err)
		}
		s := children(t, 99, 60)
		if s.WatchErrors == 0 || s.LastWatchError == "" {
			t.Errorf("no watch failed: %+v", s)
		}
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestWatchLimit$", "-test.v")
	cmd.Env = append(os.Environ(), limitEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Skip("no user namespace to be had: ", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x01\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))                 // wd 1, CLOSE_WRITE
	f.Add([]byte("\xff\xff\xff\xff\x00\x40\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))                 // overflow
	f.Add([]byte("\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00name\x00\x00\x00")) // a name that is cut
	f.Fuzz(func(t *testing.T, b []byte) {
		w := &watches{byID: map[sharefs.Ino]int32{7: 1}, byWD: map[int32]sharefs.Ino{1: 7}}
		for _, h := range w.decode(b) {
			if !h.lost && h.id != 7 {
				t.Errorf("hint about %d", h.id)
			}
		}
	})
}
