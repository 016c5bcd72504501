package restore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/treediff"
)

// ParkPrefix begins the name of the directory in which what is in the way waits. It is gone when the restore has ended, unless that was
// interrupted; the next one clears it up.
const ParkPrefix = ".sharefs-restore-"

// move is a name that was changed.
type move struct{ from, to string }

// spot is a path as it was when so many moves had been made.
type spot struct {
	path  string
	moves int
}

// follow tells under which path something stands after moves.
func follow(p string, moves []move) string {
	for _, m := range moves {
		if p == m.from || strings.HasPrefix(p, m.from) && p[len(m.from)] == '/' {
			p = m.to + p[len(m.from):]
		}
	}
	return p
}

// where is the path now of what had this one in the live tree at the start.
func (w *work) where(p string) string { return follow(p, w.moves) }

func parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return "."
}

func base(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

// in calls fn with the directory that holds a path of the live tree, open, and the name in it. Where the user's own directories are not
// writable or searchable for himself they are made so; their mode is set again in the end.
func (w *work) in(p string, fn func(dir int, name string) error) error {
	try := func() error {
		dir, err := treediff.Open(w.liveFd, parent(p), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer unix.Close(dir)
		return fn(dir, base(p))
	}
	err := try()
	if errors.Is(err, unix.EACCES) && w.loosen(parent(p)) {
		err = try()
	}
	return err
}

// change is in for what changes the entries of the directory.
func (w *work) change(p string, fn func(dir int, name string) error) error {
	w.mu.Lock()
	w.touched[spot{parent(p), len(w.moves)}] = true
	w.mu.Unlock()
	return w.in(p, fn)
}

// loosen gives the user all rights to his own directories on the way to one and to it, and tells whether it changed any.
func (w *work) loosen(dir string) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := 0; i <= len(dir); i++ {
		p := dir[:i]
		switch {
		case i == 0:
			p = "."
		case i < len(dir) && dir[i] != '/', p == ".":
			continue
		}
		fd, err := treediff.Open(w.liveFd, p, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return changed
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Mode&0o700 != 0o700 && int(st.Uid) == os.Geteuid() && unix.Chmod(self(fd), st.Mode&0o7777|0o700) == nil {
			w.loosened[spot{p, len(w.moves)}] = st.Mode & 0o7777
			changed = true
		}
		unix.Close(fd)
	}
	return changed
}

// self is a path to what a descriptor, which may be open by O_PATH, leads to.
func self(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// prepare is the first stage of a step.
func (w *work) prepare(s *step) error {
	if s.op == Moved {
		from := w.where(s.old.Path)
		if from == s.path {
			return nil
		}
		if err := w.free(s.path); err != nil {
			return err
		}
		return w.rename(from, s.path)
	}
	if s.exists() { // what replaces it takes its place at once
		return nil
	}
	if err := w.free(s.path); err != nil {
		return err
	}
	if !s.new.IsDir() {
		return nil
	}
	return w.change(s.path, func(dir int, name string) error { return unix.Mkdirat(dir, name, 0o700) })
}

// rename moves something in the live tree.
func (w *work) rename(from, to string) error {
	err := w.change(from, func(dir int, name string) error {
		return w.change(to, func(dir2 int, name2 string) error {
			return unix.Renameat2(dir, name, dir2, name2, unix.RENAME_NOREPLACE)
		})
	})
	if errors.Is(err, unix.EACCES) && w.loosen(from) { // a directory's own ".." is written
		err = w.in(from, func(dir int, name string) error {
			return w.in(to, func(dir2 int, name2 string) error {
				return unix.Renameat2(dir, name, dir2, name2, unix.RENAME_NOREPLACE)
			})
		})
	}
	if err == nil {
		w.moves = append(w.moves, move{from, to})
	}
	return err
}

// free parks what stands under a path.
func (w *work) free(p string) error {
	err := w.in(p, func(dir int, name string) error {
		var st unix.Stat_t
		return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	place, err := w.parking()
	if err != nil {
		return err
	}
	return w.rename(p, place)
}

// parking returns a free path in the directory of what is parked, which is made when it is first asked for.
func (w *work) parking() (string, error) {
	w.parkMu.Lock()
	defer w.parkMu.Unlock()
	if w.park == "" {
		random := make([]byte, 4)
		_, _ = rand.Read(random) // never fails
		name := ParkPrefix + hex.EncodeToString(random)
		if err := w.change(name, func(dir int, name string) error { return unix.Mkdirat(dir, name, 0o700) }); err != nil {
			return "", err
		}
		w.park = name
	}
	w.parked++
	return w.park + "/" + strconv.Itoa(w.parked), nil
}

// unpark removes the directory of what was parked. What is left in it was in the way and came after the trees were compared, or could not be
// removed: it stays there, and that is told.
func (w *work) unpark(ended bool) {
	if w.park == "" {
		return
	}
	err := w.in(w.park, func(dir int, name string) error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
	if err != nil && !ended {
		w.report.Problems = append(w.report.Problems, treediff.Problem{Path: w.park, Old: true,
			Err: &sharefs.Error{Kind: sharefs.KindNotEmpty, Detail: "something was in the way and could not be removed; it is kept there"}})
	}
}

// link makes a name a hard link of another one, which is there already.
func (w *work) link(s *step) error {
	make := func(to string) error {
		return w.in(s.from, func(dir int, name string) error {
			return w.change(to, func(dir2 int, name2 string) error { return unix.Linkat(dir, name, dir2, name2, 0) })
		})
	}
	if !s.exists() {
		return make(s.path)
	}
	if err := w.keepAt(s.path); err != nil {
		return err
	}
	place, err := w.parking()
	if err != nil {
		return err
	}
	if err := make(place); err != nil {
		return err
	}
	return w.replace(place, s.path)
}

// replace puts something new, which is parked, in the place of a name at once.
func (w *work) replace(place, p string) error {
	err := w.change(place, func(dir int, name string) error {
		return w.change(p, func(dir2 int, name2 string) error { return unix.Renameat(dir, name, dir2, name2) })
	})
	if err != nil {
		_ = w.in(place, func(dir int, name string) error { return unix.Unlinkat(dir, name, 0) })
	}
	return err
}

// remove removes what is only in the live tree.
func (w *work) remove(s *step) error {
	p := w.where(s.gone.Path)
	if s.gone.IsDir() {
		return w.change(p, func(dir int, name string) error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
	}
	if s.gone.IsRegular() {
		if err := w.keepAt(p); err != nil {
			return err
		}
	}
	return w.change(p, func(dir int, name string) error {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Ino != s.gone.Ino || st.Dev != s.gone.Dev {
			return &sharefs.Error{Kind: sharefs.KindAgain, Detail: "another file has the name meanwhile"}
		}
		return unix.Unlinkat(dir, name, 0)
	})
}

// spots returns the directories whose attributes are to be set in the end, deepest first, with the mode that each had before it was loosened, 0
// where it was not.
func (w *work) spots(steps []*step) ([]string, map[string]uint32) {
	all := map[string]uint32{}
	for s := range w.touched {
		all[follow(s.path, w.moves[s.moves:])] = 0
	}
	for s, mode := range w.loosened {
		all[follow(s.path, w.moves[s.moves:])] = mode | unix.S_IFDIR
	}
	for _, s := range steps {
		if s.new != nil && s.new.IsDir() && s.err == nil && (s.done || s.op == Attributes) {
			all[s.path] |= 0
		}
	}
	paths := slices.Collect(maps.Keys(all))
	slices.SortFunc(paths, func(a, b string) int { return -treediff.ComparePaths(a, b) })
	if i := slices.Index(paths, "."); i >= 0 {
		paths = append(slices.Delete(paths, i, i+1), ".")
	}
	return paths, all
}
