package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// metadata measures single operations, one process with one thread, on directories of 1,000 names. The thread makes raw
// system calls without telling Go's scheduler, so that what is timed is the call and nothing of the runtime.
func metadata(ctx context.Context, o options, subjects []*subject, t *tables) error {
	files := 10_000
	if o.quick {
		files = 1_000
	}
	table := t.table("Metadata", fmt.Sprintf("One thread, %d files of 4 KiB in directories of 1,000; versions on. Microseconds for each operation.", files))
	faster := gate{against: "loopback", atLeast: 1.5}
	type step struct {
		name  string
		gates []gate
		run   func(*work)
		cold  bool        // the kernel's caches of names and inodes are empty
		ready func(*work) // called right before; nil: the caches are as the steps before left them

		removing bool
	}
	steps := []step{
		{name: "create 4 KiB", gates: []gate{faster}, run: (*work).create},
		{name: "stat, cold", gates: []gate{faster, {atMost: 1e6 / 60_000.}}, run: (*work).stat, cold: true},
		{name: "stat, warm", gates: []gate{faster}, run: (*work).stat, ready: (*work).stat},
		{name: "stat, warm, 2 s later", gates: []gate{faster}, run: (*work).stat, ready: (*work).statBefore},
		{name: "missing name", run: (*work).missing},
		{name: "readdir + stat, cold", gates: []gate{faster}, run: (*work).list, cold: true},
		{name: "open, read, close", gates: []gate{faster}, run: (*work).read},
		{name: "chmod", run: (*work).chmod},
		{name: "rename", gates: []gate{faster}, run: (*work).rename},
		{name: "unlink", gates: []gate{faster}, run: (*work).unlink, removing: true},
		{name: "mkdir", run: (*work).mkdir, removing: true},
		{name: "rmdir", run: (*work).rmdir, removing: true},
	}
	wanted := false
	for _, s := range steps {
		wanted = wanted || o.match.MatchString(s.name)
	}
	if !wanted {
		return nil
	}
	settled := table.row("captures behind create", "µs", false)
	measure := func(round int, st *step, works []*work) error {
		r := table.row(st.name, "µs", false, st.gates...)
		if st.cold {
			// Once for all: between two turns it would take from one what another step was to find.
			if err := dropCaches("2"); err != nil {
				return err
			}
			if err := settleAll(ctx, subjects); err != nil { // daemons are told of all that was forgotten
				return err
			}
		}
		for i := range subjects {
			i = (i + round) % len(subjects) // who goes first changes
			s := subjects[i]
			if st.ready != nil {
				st.ready(works[i])
			}
			took, err := works[i].time(st.run)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", st.name, s.name, err)
			}
			r.add(s.name, float64(took.Nanoseconds())/1e3/float64(files))
			// What the step leaves to be done behind must not fall on the next subject.
			behind, err := s.settle(ctx)
			if err != nil {
				return err
			}
			if st.name == "create 4 KiB" {
				settled.add(s.name, float64(behind.Nanoseconds())/1e3/float64(files))
			}
		}
		return nil
	}
	// Files are removed after all have been made in all rounds. An ext4 without a journal gives no inode out again that was freed
	// within a minute, and looks at each of these first: 8 µs for a new file become 450, whoever asks for it.
	works := make([][]*work, o.rounds)
	for _, removing := range []bool{false, true} {
		for round := range o.rounds {
			if !removing {
				for _, s := range subjects {
					dir, err := s.newDir(fmt.Sprintf("meta%d", round))
					if err != nil {
						return err
					}
					works[round] = append(works[round], newWork(dir, files))
				}
				if err := settleAll(ctx, subjects); err != nil {
					return err
				}
			}
			for _, st := range steps {
				if st.removing != removing {
					continue
				}
				if err := measure(round, &st, works[round]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func settleAll(ctx context.Context, subjects []*subject) error {
	for _, s := range subjects {
		if _, err := s.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// work is the names that the steps work on, as the kernel takes them, so that no step allocates.
type work struct {
	dirs           [][]byte
	names, renamed [][]byte
	missed         []byte
	buf            []byte
	stbuf          unix.Stat_t
	err            error
}

func newWork(root string, files int) *work {
	w := &work{missed: cstring(filepath.Join(root, "d0", "not-there")), buf: make([]byte, 64<<10)}
	for i := range files {
		dir := filepath.Join(root, fmt.Sprintf("d%d", i/1000))
		if i%1000 == 0 {
			if err := unix.Mkdir(dir, 0o755); err != nil {
				w.err = err
			}
		}
		w.dirs = append(w.dirs, cstring(filepath.Join(dir, fmt.Sprintf("sub%05d", i))))
		w.names = append(w.names, cstring(filepath.Join(dir, fmt.Sprintf("file%05d", i))))
		w.renamed = append(w.renamed, cstring(filepath.Join(dir, fmt.Sprintf("gile%05d", i))))
	}
	return w
}

func cstring(s string) []byte { return append([]byte(s), 0) }

// time runs a step with the garbage collector off and on a thread of its own.
func (w *work) time(step func(*work)) (time.Duration, error) {
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := time.Now()
	if w.err == nil {
		step(w)
	}
	return time.Since(start), w.err
}

// statBefore asks for every name so long before the step that answers which are good for a second, as the loopback's are, have to be
// asked for again.
func (w *work) statBefore() {
	w.stat()
	time.Sleep(2 * time.Second)
}

func (w *work) call(trap, a, b, c uintptr) uintptr {
	r, _, e := unix.RawSyscall(trap, a, b, c)
	if e != 0 && w.err == nil {
		w.err = e
	}
	return r
}

func (w *work) create() {
	for _, n := range w.names {
		fd := w.call(unix.SYS_OPEN, ptr(n), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
		w.call(unix.SYS_WRITE, fd, ptr(w.buf), 4096)
		w.call(unix.SYS_CLOSE, fd, 0, 0)
	}
}

func (w *work) stat() {
	for _, n := range w.names {
		w.call(unix.SYS_STAT, ptr(n), uintptr(unsafe.Pointer(&w.stbuf)), 0)
	}
}

func (w *work) missing() {
	for range w.names {
		if _, _, e := unix.RawSyscall(unix.SYS_STAT, ptr(w.missed), uintptr(unsafe.Pointer(&w.stbuf)), 0); e != unix.ENOENT {
			w.err = fmt.Errorf("stat of a missing name: %w", e)
		}
	}
}

// list reads each directory and stats every name that it finds there, as ls -l does.
func (w *work) list() {
	for i := 0; i < len(w.names); i += 1000 {
		dir := cstring(filepath.Dir(string(w.names[i][:len(w.names[i])-1])))
		fd := w.call(unix.SYS_OPEN, ptr(dir), unix.O_RDONLY|unix.O_DIRECTORY, 0)
		for w.err == nil {
			n := w.call(unix.SYS_GETDENTS64, fd, ptr(w.buf), uintptr(len(w.buf)))
			if n == 0 || w.err != nil {
				break
			}
			for at := uintptr(0); at < n; {
				entry := w.buf[at:]
				w.call(unix.SYS_NEWFSTATAT, fd, ptr(entry[19:]), uintptr(unsafe.Pointer(&w.stbuf)))
				at += uintptr(entry[16]) | uintptr(entry[17])<<8
			}
		}
		w.call(unix.SYS_CLOSE, fd, 0, 0)
	}
}

func (w *work) read() {
	for _, n := range w.names {
		fd := w.call(unix.SYS_OPEN, ptr(n), unix.O_RDONLY, 0)
		w.call(unix.SYS_READ, fd, ptr(w.buf), 4096)
		w.call(unix.SYS_CLOSE, fd, 0, 0)
	}
}

func (w *work) chmod() {
	for _, n := range w.names {
		w.call(unix.SYS_CHMOD, ptr(n), 0o600, 0)
	}
}

func (w *work) rename() {
	for i, n := range w.names {
		w.call(unix.SYS_RENAME, ptr(n), ptr(w.renamed[i]), 0)
	}
}

func (w *work) unlink() {
	for _, n := range w.renamed {
		w.call(unix.SYS_UNLINK, ptr(n), 0, 0)
	}
}

func (w *work) mkdir() {
	for _, n := range w.dirs {
		w.call(unix.SYS_MKDIR, ptr(n), 0o755, 0)
	}
}

func (w *work) rmdir() {
	for _, n := range w.dirs {
		w.call(unix.SYS_RMDIR, ptr(n), 0, 0)
	}
}

func ptr(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
