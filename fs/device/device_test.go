package device

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
)

// flat is a filesystem of one directory: "file" holds "content", "slow" blocks in fsync until told, names that begin
// with "gone" miss.
type flat struct {
	fuse.RawFileSystem
	lookups atomic.Int64
	fsync   chan struct{} // a Fsync waits for it or its cancellation
	block   chan struct{} // a GetAttr of node 3 waits for it
	ended   atomic.Bool
}

func newFlat() *flat {
	return &flat{RawFileSystem: fuse.NewDefaultRawFileSystem(), fsync: make(chan struct{}), block: make(chan struct{})}
}

const content = "content"

var flatNodes = map[string]uint64{"file": 2, "slow": 3}

func fill(a *fuse.Attr, node uint64) {
	a.Ino, a.Nlink, a.Mode, a.Size = node, 1, unix.S_IFREG|0o644, uint64(len(content))
	if node == 1 {
		a.Mode = unix.S_IFDIR | 0o755
	}
}

func (f *flat) OnUnmount() { f.ended.Store(true) }

func (f *flat) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	f.lookups.Add(1)
	switch name {
	case "panic":
		panic("asked for")
	case "odd":
		return 524 // ENOTSUPP, no number for programs
	case "negative":
		return -5
	}
	node, ok := flatNodes[name]
	if !ok {
		return fuse.ENOENT
	}
	out.NodeId, out.EntryValid = node, 3600
	fill(&out.Attr, node)
	return fuse.OK
}

func (f *flat) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if in.NodeId == 3 {
		<-f.block
	}
	fill(&out.Attr, in.NodeId)
	return fuse.OK
}

func (f *flat) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	if in.Offset > uint64(len(content)) {
		return fuse.ReadResultData(nil), fuse.OK
	}
	return fuse.ReadResultData(buf[:copy(buf, content[in.Offset:])]), fuse.OK
}

func (f *flat) Fsync(cancel <-chan struct{}, _ *fuse.FsyncIn) fuse.Status {
	select {
	case <-f.fsync:
		return fuse.OK
	case <-cancel:
		return fuse.EINTR
	}
}

func (f *flat) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (f *flat) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if in.Offset == 0 {
		out.AddDirEntry(fuse.DirEntry{Name: "file", Ino: 2, Mode: unix.S_IFREG, Off: 1})
	}
	return fuse.OK
}

func (f *flat) GetXAttr(_ <-chan struct{}, _ *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	if attr != "user.a" {
		return 0, fuse.ENODATA
	}
	if len(dest) < len(content) {
		return uint32(len(content)), fuse.ERANGE
	}
	return uint32(copy(dest, content)), fuse.OK
}

// mount serves fs until the test ends.
func mount(t testing.TB, fs fuse.RawFileSystem, change func(*Config)) (dir string, c *Conn) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts with mount(2), which needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip(err)
	}
	dir = t.TempDir()
	cfg := Config{
		FS: fs, Mountpoint: dir, Source: "flat", Subtype: "device",
		Options: []string{"nosuid", "nodev", "default_permissions"},
		Capabilities: fuse.CAP_ASYNC_READ | fuse.CAP_BIG_WRITES | fuse.CAP_PARALLEL_DIROPS | fuse.CAP_MAX_PAGES |
			fuse.CAP_PASSTHROUGH | fuse.CAP_SETXATTR_EXT,
	}
	if change != nil {
		change(&cfg)
	}
	c, err := Mount(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Serve()
	t.Cleanup(func() {
		// Somebody who walks over all mounts (df, an indexer) may be in it for a moment.
		for deadline := time.Now().Add(time.Minute); c.Unmount() != nil; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Error("the mount is still busy after a minute")
				unix.Unmount(dir, unix.MNT_DETACH)
				break
			}
		}
		within(t, c.Done(), "the end of the mount")
	})
	settlePoll(t, filepath.Join(dir, "file"))
	return dir, c
}

// settlePoll makes the kernel ask for poll(2) once and learn that there is none. Else Go's runtime, which adds each
// opened file to its epoll set without giving up its processor meanwhile, could fill all of them with requests that
// this very process has to serve.
func settlePoll(t testing.TB, file string) {
	t.Helper()
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	unix.Close(fd)
}

func within(t testing.TB, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s did not come within two minutes", what)
	}
}

func TestMountServesAndEnds(t *testing.T) {
	f := newFlat()
	dir, c := mount(t, f, nil)
	if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != content {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat of a missing name: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != "file" {
		t.Errorf("listed %v, %v", entries, err)
	}
	buf := make([]byte, 64)
	if n, err := unix.Getxattr(filepath.Join(dir, "file"), "user.a", buf); err != nil || string(buf[:n]) != content {
		t.Errorf("getxattr %q, %v", buf[:max(n, 0)], err)
	}
	if n, err := unix.Getxattr(filepath.Join(dir, "file"), "user.a", nil); err != nil || n != len(content) {
		t.Errorf("size of an attribute: %d, %v", n, err)
	}
	if n := c.Counts()["LOOKUP"]; n != uint64(f.lookups.Load()) || n == 0 {
		t.Errorf("%d lookups counted, %d served", n, f.lookups.Load())
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if want := "flat " + dir + " fuse.device rw,nosuid,nodev,"; !strings.Contains(string(mounts), want) {
		t.Errorf("no line %q in /proc/self/mounts", want)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if err := c.Unmount(); err == nil {
			break
		} else if !errors.Is(err, sharefs.KindBusy) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	within(t, c.Done(), "the end of the mount")
	if !f.ended.Load() {
		t.Error("OnUnmount was not called")
	}
	if err := c.Unmount(); err != nil {
		t.Errorf("second unmount: %v", err)
	}
	if st := c.InvalidateInode(2, 0, 0); st == fuse.OK {
		t.Error("a notification after the end was accepted")
	}
}

// A request that is stuck must not keep the others waiting: neither a slow opcode, which hands the reading over
// before, nor a fast one, for which the watchdog does.
func TestStuckRequestHoldsUpNobody(t *testing.T) {
	f := newFlat()
	dir, _ := mount(t, f, nil)
	stuck := make(chan error, 8)
	for range 4 {
		go func() {
			fd, err := unix.Open(filepath.Join(dir, "file"), unix.O_RDONLY, 0)
			if err == nil {
				err = unix.Fsync(fd)
				unix.Close(fd)
			}
			stuck <- err
		}()
		go func() {
			var st unix.Stat_t
			stuck <- unix.Stat(filepath.Join(dir, "slow"), &st)
		}()
	}
	for range 200 {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, "file"), &st); err != nil {
			t.Fatal(err)
		}
	}
	close(f.fsync)
	close(f.block)
	for range cap(stuck) {
		select {
		case err := <-stuck:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("a stuck request never ended")
		}
	}
}

// Many programs at once get their own answers, whoever serves them.
func TestManyAtOnce(t *testing.T) {
	dir, c := mount(t, newFlat(), nil)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range 300 {
				b, err := os.ReadFile(filepath.Join(dir, "file"))
				if err != nil || string(b) != content {
					t.Errorf("read %q, %v", b, err)
					return
				}
				if i%3 == 0 {
					if _, err := os.Stat(filepath.Join(dir, "gone")); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("stat of a missing name: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if n := c.Counts()["OPEN"]; n != 16*300+1 { // one by settlePoll
		t.Errorf("%d opens served, want %d", n, 16*300+1)
	}
}

func TestPanicFailsOneRequest(t *testing.T) {
	dir, _ := mount(t, newFlat(), nil)
	if _, err := os.Stat(filepath.Join(dir, "panic")); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v, want EIO", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
		t.Error(err)
	}
}

// A signal ends a slow request that minds it, and one that comes too late does no harm.
// The kernel refuses a reply with such a number and the program would wait for ever.
func TestOddStatus(t *testing.T) {
	dir, _ := mount(t, newFlat(), nil)
	for _, name := range []string{"odd", "negative"} {
		if err := unix.Access(filepath.Join(dir, name), unix.F_OK); err != unix.EIO {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInterrupt(t *testing.T) {
	_, c := mount(t, newFlat(), nil)
	w := newWorker(c)
	ch := c.interruptible(42)
	raw := make([]uint64, (sizeOf[fuse.InterruptIn]()+7)/8)
	raw[len(raw)-1] = 42
	in := unsafe.Slice((*byte)(unsafe.Pointer(&raw[0])), 8*len(raw))
	for range 2 {
		if _, st := doInterrupt(w, in, nil); st != fuse.OK {
			t.Error(st)
		}
	}
	within(t, ch, "the interruption")
	c.finished(42)
}

func TestNotifications(t *testing.T) {
	f := newFlat()
	dir, c := mount(t, f, nil)
	p := filepath.Join(dir, "file")
	os.Stat(p)
	n := f.lookups.Load()
	os.Stat(p)
	if f.lookups.Load() != n {
		t.Fatal("the name was not cached")
	}
	if st := c.InvalidateEntry(1, "file"); st != fuse.OK {
		t.Errorf("InvalidateEntry: %v", st)
	}
	os.Stat(p)
	if f.lookups.Load() != n+1 {
		t.Errorf("%d lookups after the name was dropped, want 1", f.lookups.Load()-n)
	}
	for _, off := range []int64{-1, 0} {
		if st := c.InvalidateInode(2, off, 0); st != fuse.OK {
			t.Errorf("InvalidateInode at %d: %v", off, st)
		}
	}
	if st := c.InvalidateEntry(1, "never"); st != fuse.OK && st != fuse.ENOENT {
		t.Errorf("InvalidateEntry of an unknown name: %v", st)
	}
	if st := c.InvalidateInode(77, 0, 0); st != fuse.ENOENT {
		t.Errorf("InvalidateInode of an unknown inode: %v", st)
	}
}

func TestBacking(t *testing.T) {
	_, c := mount(t, newFlat(), nil)
	if c.Capabilities()&fuse.CAP_PASSTHROUGH == 0 {
		t.Skip("the kernel has no passthrough")
	}
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(f.Name(), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := c.OpenBacking(fd)
	if err != nil || id <= 0 {
		t.Fatalf("OpenBacking: %d, %v", id, err)
	}
	unix.Close(fd)
	if err := c.CloseBacking(id); err != nil {
		t.Error(err)
	}
	if err := c.CloseBacking(id); err == nil {
		t.Error("an id was given up twice")
	}
}

func TestMountErrors(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		cfg  Config
		want sharefs.Kind
	}{
		{"a missing mount point", Config{Mountpoint: file + "-gone"}, sharefs.KindNotExist},
		{"a file as mount point", Config{Mountpoint: file}, sharefs.KindNotDir},
		{"an unknown option", Config{Mountpoint: filepath.Dir(file), Options: []string{"no_such_option"}}, sharefs.KindInvalid},
	} {
		c.cfg.FS, c.cfg.Source, c.cfg.Subtype = newFlat(), "flat", "device"
		if _, err := Mount(c.cfg); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
}

func TestUnmountBusy(t *testing.T) {
	dir, c := mount(t, newFlat(), nil)
	f, err := os.Open(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Unmount(); !errors.Is(err, sharefs.KindBusy) {
		t.Errorf("unmount with an open file: %v", err)
	}
	f.Close()
}

func TestAbortEndsAMountInUse(t *testing.T) {
	f := newFlat()
	dir, c := mount(t, f, nil)
	file, err := os.Open(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := c.Abort(); err != nil {
		t.Fatal(err)
	}
	within(t, c.Done(), "the end of the mount")
	if !f.ended.Load() {
		t.Error("OnUnmount was not called")
	}
	var st unix.Statx_t
	if err := unix.Statx(int(file.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st); err != unix.ENOTCONN {
		t.Errorf("statx afterwards: %v", err)
	}
	if err := c.Abort(); err == nil {
		t.Error("a second abort found a connection")
	}
}

func TestSplitOptions(t *testing.T) {
	flags, rest := SplitOptions([]string{"ro", "nosuid", "default_permissions", "rw", "noatime", "blksize=512"})
	if flags != unix.MS_NOSUID|unix.MS_NOATIME {
		t.Errorf("flags %#x", flags)
	}
	if strings.Join(rest, ",") != "default_permissions,blksize=512" {
		t.Errorf("rest %v", rest)
	}
	if flags, _ := SplitOptions([]string{"noatime", "relatime"}); flags != unix.MS_RELATIME {
		t.Errorf("the last of noatime and relatime did not win: %#x", flags)
	}
}

func TestRemount(t *testing.T) {
	dir, _ := mount(t, newFlat(), nil)
	if err := Remount(dir, []string{"remount", "ro", "nosuid", "nodev"}); err != nil {
		t.Fatal(err)
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	if !strings.Contains(string(mounts), dir+" fuse.device ro,nosuid,nodev") {
		t.Errorf("not read-only after the remount")
	}
}

func BenchmarkStat(b *testing.B) {
	dir, _ := mount(b, newFlat(), nil)
	p := filepath.Join(dir, "file")
	var st unix.Stat_t
	for b.Loop() {
		if err := unix.Stat(p, &st); err != nil {
			b.Fatal(err)
		}
	}
}
