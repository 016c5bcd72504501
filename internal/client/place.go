package client

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/term"
	"sharefs/internal/treediff"
)

// TimeForms are times as people may write them, for messages.
const TimeForms = "-2h, yesterday or 2026-11-20T10:00"

// TimeText writes a time to the millisecond with its zone, as it stands in paths: the mount takes it for that millisecond, and not for a longer span.
func TimeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// Dir is a directory, as it is or as it was.
type Dir struct {
	Given  string    // as the user named it, without @@…
	Path   string    // absolute, without symbolic links: where it is in the live tree, or was
	Select string    // what stood behind @@: a time, a tag, a branch; empty: as it is
	Live   bool      // there is a directory under Path now
	Time   time.Time // what it shows; zero where it shows the present
	Mount  *Mount    // nil where it lies in no mount; then it shows the present
	Reach  string    // a path by which what it shows is reached, always the same state where Time is not zero
}

// Name is how messages call what was named.
func (d *Dir) Name() string {
	if d.Select == "" {
		return term.Quote(d.Given)
	}
	return term.Quote(d.Given + "@@" + d.Select)
}

// Rel is the path within the mount, "." for its root.
func (d *Dir) Rel() string {
	rel, err := filepath.Rel(d.Mount.Point, d.Path)
	if err != nil {
		return "."
	}
	return rel
}

// IsDir reports whether arg names a directory: DIR, DIR@@TIME or a directory below .share/at.
func IsDir(arg string) bool {
	if arg == "" {
		return false
	}
	if info, err := os.Stat(arg); err == nil {
		return info.IsDir() && !isPast(arg)
	}
	base, sel := cut(arg)
	if info, err := os.Stat(base); err == nil {
		return info.IsDir() // if there is no such time, that is to be said of a directory
	}
	d, err := openDir(arg, base, sel)
	return err == nil && d != nil
}

// cut splits PATH@@SELECT or PATH@@/SELECT; sel is empty where there is none.
func cut(arg string) (base, sel string) {
	trimmed := strings.TrimRight(arg, "/")
	at := strings.LastIndex(trimmed, "@@")
	if at <= 0 {
		return arg, ""
	}
	sel = strings.TrimPrefix(trimmed[at+2:], "/")
	if strings.ContainsRune(sel, '/') {
		return arg, ""
	}
	return trimmed[:at], sel
}

// OpenDir finds what arg names: a directory, DIR@@TIME, or a directory of a view such as .share/at/TIME/DIR.
func OpenDir(arg string) (*Dir, error) {
	info, err := os.Stat(arg)
	if err == nil && !isVirtual(info) {
		if !info.IsDir() {
			return nil, &sharefs.Error{Path: term.Quote(arg), Kind: sharefs.KindNotDir, Detail: "is not a directory"}
		}
		real, err := realPath(arg)
		if err != nil {
			return nil, renamed(err, arg)
		}
		m, err := holding(real)
		if err == nil && m != nil {
			err = m.WantLive()
		}
		if err != nil {
			return nil, err
		}
		return &Dir{Given: arg, Path: real, Live: true, Mount: m, Reach: real}, nil
	}
	base, sel := cut(arg)
	if sel == "" && err == nil {
		return openView(arg)
	}
	return openDir(arg, base, sel)
}

// openDir finds DIR@@TIME. DIR may be gone, and so may be the directory that it was in.
func openDir(arg, base, sel string) (*Dir, error) {
	real, live, err := wherever(base)
	if err != nil {
		return nil, renamed(err, arg)
	}
	m, err := holding(real)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, &sharefs.Error{Path: term.Quote(base), Kind: sharefs.KindInvalid, Detail: "not in a ShareFS mount"}
	}
	if err := m.WantLive(); err != nil {
		return nil, err
	}
	d := &Dir{Given: base, Path: real, Select: sel, Live: live, Mount: m}
	if sel == "" { // it is removed: what was it?
		info, err := os.Stat(real + "@@")
		if err != nil || !info.IsDir() || isPast(real+"@@") {
			return nil, pathError(arg, unix.ENOENT)
		}
		return d, nil
	}
	rel := d.Rel()
	ways := []string{real + "@@" + sel, filepath.Join(m.Point, atDir, sel, rel)}
	if rel == "." {
		ways = ways[1:]
	}
	for _, way := range ways {
		if info, err := os.Stat(way); err == nil && info.IsDir() {
			return d, d.fix(way)
		} else if err != nil && !missing(err) {
			return nil, pathError(arg, err)
		}
	}
	return nil, d.noSuch(ways)
}

// openView finds a directory below .share/at.
func openView(arg string) (*Dir, error) {
	abs, err := filepath.Abs(arg)
	if err != nil {
		return nil, pathError(arg, err)
	}
	m, err := MountOf(abs)
	if err != nil {
		return nil, renamed(err, arg)
	}
	rel, err := filepath.Rel(filepath.Join(m.Point, atDir), abs)
	if err != nil || rel == "." || strings.HasPrefix(rel, "..") {
		if err := m.WantLive(); err != nil {
			return nil, err
		}
		return nil, &sharefs.Error{Path: term.Quote(arg), Kind: sharefs.KindInvalid, Detail: "is made by the mount itself and has no past"}
	}
	sel, inner, _ := strings.Cut(rel, "/")
	d := &Dir{Path: filepath.Join(m.Point, inner), Select: sel, Mount: m}
	d.Given = d.Path
	if info, err := os.Lstat(d.Path); err == nil {
		d.Live = info.IsDir()
	}
	return d, d.fix(abs)
}

// fix finds out which moment a way shows, and makes the way one that shows it for ever.
func (d *Dir) fix(way string) error {
	text, err := ownAttr(way, "time")
	if err == nil {
		d.Time, err = time.Parse(time.RFC3339, text)
	}
	if err != nil {
		return pathError(d.Given+"@@"+d.Select, err)
	}
	d.Reach = way
	if d.named() {
		return nil // for good, and to the counter of the clock: its millisecond may hold later changes
	}
	for _, fixed := range []string{d.Path + "@@" + TimeText(d.Time), filepath.Join(d.Mount.Point, atDir, TimeText(d.Time), d.Rel())} {
		if d.Rel() != "." && sameInode(fixed, way) || d.Rel() == "." && strings.HasPrefix(fixed, filepath.Join(d.Mount.Point, atDir)) {
			d.Reach = fixed
			break
		}
	}
	return nil
}

// named reports whether what was selected is a moment with a name, which stays where it is.
func (d *Dir) named() bool {
	for _, t := range []*Target{{Given: d.Given, Path: d.Path, Mount: d.Mount}, d.Mount.Root()} {
		all, err := t.Moments()
		if err != nil {
			continue // it is removed
		}
		for _, m := range append(all.Tags, all.Branches...) {
			if m.Name == d.Select {
				return m.Time != ""
			}
		}
	}
	return false
}

// sameInode reports whether two ways lead to the same directory of the past.
func sameInode(a, b string) bool {
	x, err1 := ownAttr(a, "inode")
	y, err2 := ownAttr(b, "inode")
	return err1 == nil && err2 == nil && x == y
}

// noSuch says why a directory of the past is not to be had.
func (d *Dir) noSuch(ways []string) error {
	e := &sharefs.Error{Path: d.Name(), Kind: sharefs.KindNotExist}
	if _, err := os.Stat(filepath.Join(d.Mount.Point, atDir, d.Select)); err != nil {
		e.Kind, e.Detail = sharefs.KindInvalid, term.Quote(d.Select)+" is no tag and no time since the tree began; times are written "+TimeForms
		return e
	}
	e.Detail = "there was no such directory then"
	if info, err := os.Stat(ways[len(ways)-1]); err == nil && !info.IsDir() {
		e.Detail = "it was a file then"
	}
	return e
}

const atDir = ".share/at"

// missing reports whether an error says that there is nothing under a name.
func missing(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENAMETOOLONG)
}

// wherever makes a path absolute and free of symbolic links as far as it exists; live tells whether it does, as a directory.
func wherever(path string) (real string, live bool, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", false, pathError(path, err)
	}
	rest := ""
	for at := abs; ; at = filepath.Dir(at) {
		real, err := filepath.EvalSymlinks(at)
		if err == nil {
			info, err := os.Stat(real)
			return filepath.Join(real, rest), err == nil && rest == "" && info.IsDir(), nil
		}
		if !missing(err) || at == "/" {
			return "", false, pathError(path, err)
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

// DirPoint is a moment at which a directory changed, or that has a name.
type DirPoint struct {
	Time  time.Time
	Names []string // tags and branches that stand there
	Dir   *Dir     // the directory as it was after the change
}

// EntryAt finds what is no directory and bore a name at a time: PATH@@TIME.
func EntryAt(arg string) (path string, at time.Time, m *Mount, err error) {
	base, sel := cut(arg)
	if path, m, err = Wherever(base); err != nil || sel == "" {
		return path, at, m, err
	}
	text, err := ownAttr(filepath.Join(m.Point, atDir, sel), "time")
	if err == nil {
		at, err = time.Parse(time.RFC3339, text)
	}
	if err == nil {
		_, err = os.Lstat(m.At(at, path))
	}
	return path, at, m, err
}

// Points lists the moments of a live directory that the mount lists, newest first: the last hundred changes, and all with names.
func (d *Dir) Points() ([]DirPoint, error) {
	list := filepath.Join(d.Path, ".@@")
	if !d.Live {
		list = d.Path + "@@"
	}
	names, err := readNames(list)
	if err != nil {
		return nil, pathError(d.Given, err)
	}
	byTime := map[time.Time]*DirPoint{}
	for _, name := range names {
		at, err := time.Parse("2006-01-02T15:04:05.000Z07:00", name)
		isTime := err == nil
		if !isTime {
			text, err := ownAttr(filepath.Join(list, name), "time")
			if err == nil {
				at, err = time.Parse(time.RFC3339, text)
			}
			if err != nil {
				continue // it was not there then
			}
		}
		if !d.Time.IsZero() && at.After(d.Time) {
			continue
		}
		at = at.UTC()
		p := byTime[at]
		if p == nil {
			way := filepath.Join(list, TimeText(at))
			if info, err := os.Stat(way); err != nil || !info.IsDir() {
				continue
			}
			p = &DirPoint{Time: at, Dir: &Dir{Given: d.Given, Path: d.Path, Select: TimeText(at), Time: at, Mount: d.Mount, Reach: way}}
			byTime[at] = p
		}
		if !isTime {
			p.Names = append(p.Names, name)
		}
	}
	out := make([]DirPoint, 0, len(byTime))
	for _, p := range byTime {
		if p.Names == nil {
			p.Names = []string{}
		}
		slices.Sort(p.Names)
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b DirPoint) int { return b.Time.Compare(a.Time) })
	return out, nil
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Wherever makes a path absolute and free of symbolic links as far as it exists, and tells in which mount it lies.
func Wherever(path string) (real string, m *Mount, err error) {
	if real, _, err = wherever(path); err != nil {
		return "", nil, renamed(err, path)
	}
	if m, err = holding(real); err == nil && m == nil {
		err = &sharefs.Error{Path: term.Quote(path), Kind: sharefs.KindInvalid, Detail: "not in a ShareFS mount"}
	}
	return real, m, err
}

// Side is the directory for a comparison with another one of the same mount.
func (d *Dir) Side() treediff.Side {
	s := treediff.Side{Dir: d.Reach}
	if d.Mount == nil {
		return s
	}
	s.State = func(path string, e *treediff.Entry) string { text, _ := ownAttr(path, "state"); return text }
	if d.Time.IsZero() {
		s.ID = func(_ string, e *treediff.Entry) string { return strconv.FormatUint(e.Ino, 10) }
		s.Skip = func(e *treediff.Entry) bool { return e.Ino&virtualBit != 0 } // of a mount that shows all hierarchies in its root
		return s
	}
	s.ID = func(path string, _ *treediff.Entry) string { text, _ := ownAttr(path, "inode"); return text }
	return s
}

// Sides are two directories to be compared. Identities mean nothing between two mounts.
func Sides(old, new *Dir) (treediff.Side, treediff.Side) {
	a, b := old.Side(), new.Side()
	if old.Mount == nil || new.Mount == nil || old.Mount.Point != new.Mount.Point {
		a.ID, a.State, b.ID, b.State = nil, nil, nil, nil
	}
	return a, b
}

// Now fixes the present of the mount and returns the moment: everything that was closed before is seen in a view of it.
func (m *Mount) Now() (time.Time, error) {
	text, err := ownAttr(m.Point, "moment")
	if err != nil {
		return time.Time{}, pathError(m.Point, err)
	}
	return time.Parse(time.RFC3339, text)
}

// At is a path to what stood under an absolute path of the live tree at a time.
func (m *Mount) At(t time.Time, path string) string {
	rel, err := filepath.Rel(m.Point, path)
	if err != nil {
		rel = "."
	}
	return filepath.Join(m.Point, atDir, TimeText(t), rel)
}

// Keep makes what a file holds a version, unless it is one already. The path may be one of a descriptor. An error of KindBusy says that the file is a database,
// or belongs to one, that somebody has open for writing: it is to be left alone.
func Keep(path string) error {
	if err := unused(path); err != nil {
		return err
	}
	buf := make([]byte, 32)
	if _, err := unix.Getxattr(path, "user.sharefs.version", buf); err == nil {
		return nil
	}
	err := unix.Setxattr(path, "user.sharefs.commit", nil, 0)
	if err != nil {
		return &sharefs.Error{Op: "keep as a version", Kind: sharefs.KindOf(err), Err: err}
	}
	return nil
}
