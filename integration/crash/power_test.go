package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
)

// A disk is an ext4 of its own in a file, which can lose its power: FS_IOC_SHUTDOWN with NOLOGFLUSH stops it at once, and what is
// neither in its place nor in its journal is gone (include/uapi/linux/fs.h; ext4 calls it EXT4_IOC_SHUTDOWN).
type disk struct {
	t     *testing.T
	image string
	dir   string
}

const (
	iocShutdown    = 0x8004587d // _IOR('X', 125, __u32)
	shutdownNoSync = 2          // FS_SHUTDOWN_FLAGS_NOLOGFLUSH
)

func newDisk(t *testing.T) *disk {
	t.Helper()
	dir := mounttest.TempDir(t)
	d := &disk{t: t, image: filepath.Join(dir, "image"), dir: filepath.Join(dir, "disk")}
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(f.Truncate(1<<30), f.Close())
	if err != nil {
		t.Fatal(err)
	}
	// Without this a kernel would initialise the inode tables while the test runs.
	if out, err := exec.Command("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(d.dir, unix.MNT_DETACH) })
	d.mount()
	return d
}

func (d *disk) mount() {
	d.t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		d.t.Skipf("no loop device to be had: %v\n%s", err, out)
	}
}

// cut takes the power away.
func (d *disk) cut() {
	d.t.Helper()
	// Only ever of the image that this test made.
	var here, root unix.Stat_t
	if err := errors.Join(unix.Stat(d.dir, &here), unix.Stat(filepath.Dir(d.dir), &root)); err != nil {
		d.t.Fatal(err)
	}
	if here.Dev == root.Dev {
		d.t.Fatal("the disk is not mounted")
	}
	fd, err := unix.Open(d.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetPointerInt(fd, iocShutdown, shutdownNoSync); err != nil {
		d.t.Skipf("the disk cannot be shut down: %v", err)
	}
}

// again mounts what the disk held when the power went. Another namespace of mounts, which others make and end meanwhile, may have a copy of the old
// mount: then the same dead filesystem comes back, until that has gone.
func (d *disk) again() {
	d.t.Helper()
	mounttest.WaitFor(d.t, "unmounting the disk", func() bool { return unix.Unmount(d.dir, 0) == nil })
	mounttest.WaitFor(d.t, "the disk to come back", func() bool {
		d.mount()
		if f, err := os.CreateTemp(d.dir, "alive"); err == nil {
			if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
				d.t.Fatal(err)
			}
			return true
		}
		mounttest.WaitFor(d.t, "unmounting the disk", func() bool { return unix.Unmount(d.dir, 0) == nil })
		return false
	})
}

// saver writes files and fsyncs some of them. What was fsynced it remembers as certain.
type saver struct {
	dir     string
	rng     *rand.Rand
	certain map[string]string          // by name, as last fsynced
	after   map[string]map[string]bool // what a file may hold instead, as it was changed after its last fsync
	past    map[string]map[string]bool // by name, what its versions held when all was synced last
	n       atomic.Int64
}

// run works until the power is gone, which gone tells beforehand.
func (s *saver) run(gone *atomic.Bool) error {
	for !gone.Load() {
		if err := s.step(gone); err != nil {
			if !gone.Load() {
				return err
			}
			if died(err) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EUCLEAN) {
				return nil
			}
			return err
		}
		s.n.Add(1)
	}
	return nil
}

// may notes that a file can hold this from now on, if the power goes.
func (s *saver) may(name, content string) {
	if s.after[name] == nil {
		s.after[name] = map[string]bool{}
	}
	s.after[name][content] = true
}

// step replaces a file as a careful program does (write, fsync, rename, fsync of the directory) or as a careless one (rename alone), or changes
// it in place.
func (s *saver) step(gone *atomic.Bool) error {
	name := fmt.Sprintf("f%d", s.rng.IntN(12))
	content := fmt.Sprintf("%s %d %s", name, s.rng.Uint64(), strings.Repeat("z", s.rng.IntN(30000)))
	path := filepath.Join(s.dir, name)
	if s.rng.IntN(3) == 0 {
		return s.inPlace(name, content)
	}
	careful := s.rng.IntN(2) == 0
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err == nil && careful {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if careful {
		s.may(name, content)
	} else {
		// Its name may be on the disk before its content: any part of it then.
		s.may(name, anything)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	if !careful {
		return nil
	}
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	if err = errors.Join(d.Sync(), d.Close()); err != nil {
		return err
	}
	if gone.Load() {
		return nil // the disk stops in the middle of what it is at: an answer that comes while it does says nothing
	}
	s.certain[name] = content
	delete(s.after, name)
	return nil
}

const anything = "\x00anything"

// inPlace overwrites a part of a file and syncs it now and then.
func (s *saver) inPlace(name, content string) error {
	s.may(name, anything)
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil {
		_, err = f.WriteString(content[:min(int64(len(content)), st.Size())])
	}
	if err == nil && s.rng.IntN(4) == 0 {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// versions reads what all versions of a file hold.
func (s *saver) versions(name string) (map[string]bool, error) {
	dir := filepath.Join(s.dir, name+"@@")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		all[string(b)] = true
	}
	return all, nil
}

// remember notes what the versions of all files hold. All is synced afterwards. What the last loss of power left of a replacement goes: with a past
// of its own it would not go on with that of the file.
func (s *saver) remember() error {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	s.past = map[string]map[string]bool{}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".new") {
			if err := os.Remove(filepath.Join(s.dir, f.Name())); err != nil {
				return err
			}
			continue
		}
		if s.past[f.Name()], err = s.versions(f.Name()); err != nil {
			return err
		}
	}
	return nil
}

// checkPast reports a version that was there when all was synced last, and is not now. What was not synced may be lost, but no version that was.
func (s *saver) checkPast() error {
	for name, want := range s.past {
		got, err := s.versions(name)
		if err != nil {
			return err
		}
		for content := range want {
			if !got[content] {
				return fmt.Errorf("%s lost a version that was synced: %s", name, short(content))
			}
		}
	}
	return nil
}

func (s *saver) check() error {
	for name, want := range s.certain {
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			return err
		}
		if got := string(b); got != want && !s.after[name][got] && !s.after[name][anything] {
			return fmt.Errorf("%s is %s, was fsynced as %s", name, short(got), short(want))
		}
	}
	// From here on the files are what they are.
	clear(s.after)
	clear(s.certain)
	return nil
}

// TestPowerLoss takes the power from the disk below the store, kills the daemon, and mounts both again.
func TestPowerLoss(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a disk of its own")
	}
	for _, mode := range mounttest.Modes(t) {
		if mode == mounttest.User {
			continue
		}
		t.Run(string(mode), func(t *testing.T) {
			d := newDisk(t)
			m := mounttest.Start(t, mode, mounttest.On(filepath.Join(d.dir, "store")))
			var savers []*saver
			for i := range 3 {
				dir := m.Path(fmt.Sprintf("s%d", i))
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				savers = append(savers, &saver{dir: dir, rng: rand.New(rand.NewPCG(uint64(i), 9)), certain: map[string]string{}, after: map[string]map[string]bool{}})
			}
			rng := rand.New(rand.NewPCG(11, 11))
			for round := range rounds(t, 3) {
				for _, s := range savers {
					if err := s.remember(); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.WriteFile(m.Path(".share/ctl/ctl"), []byte("sync\n"), 0); err != nil {
					t.Fatal(err)
				}
				var gone atomic.Bool
				errs := make(chan error, len(savers))
				var wg sync.WaitGroup
				total := func() (n int64) {
					for _, s := range savers {
						n += s.n.Load()
					}
					return n
				}
				for _, s := range savers {
					wg.Go(func() {
						if err := s.run(&gone); err != nil {
							errs <- fmt.Errorf("%s: %w", s.dir, err)
						}
					})
				}
				// The instant is one of the work done, not of the clock.
				until := total() + 10 + int64(rng.IntN(100))
				mounttest.WaitFor(t, "work", func() bool { return len(errs) > 0 || total() >= until })
				gone.Store(true)
				d.cut()
				m.Kill()
				wg.Wait()
				close(errs)
				if err := <-errs; err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				m.Detach()
				d.again()
				m.Mount()
				for _, s := range savers {
					if err := s.check(); err != nil {
						t.Fatalf("round %d, %s: %v", round, s.dir, err)
					}
				}
				m.Settled()
				for _, s := range savers {
					if err := s.checkPast(); err != nil {
						t.Errorf("round %d, %s: %v", round, s.dir, err)
					}
				}
				// Versions of what nobody had synced may be lost with it, and the status then says so: that is no fault of the tree.
				doctor(t, m)
			}
			for _, s := range savers {
				t.Logf("%s: %d steps", filepath.Base(s.dir), s.n.Load())
			}
			m.Unmount()
			if err := unix.Unmount(d.dir, 0); err != nil {
				t.Errorf("unmount the disk: %v", err)
			}
		})
	}
}
