package client

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sharefs"
	"sharefs/internal/term"
)

// Deleted is a name that is vacant now.
type Deleted struct {
	Path    string    // absolute
	Type    string    // "file", "directory", "symlink"
	Removed time.Time // when it went, to the millisecond
	Version uint64    // of a file: its last one
	Size    uint64    // of that, bytes
	Whole   bool      // the directory that it was in is there
}

// Seen is a time at which it was there last.
func (d *Deleted) Seen() time.Time { return d.Removed.Add(-time.Millisecond) }

// Deleted calls fn for what was removed from a directory and from those in it, each directory before what is in it; what was moved and has another name now
// is none of that. fn tells whether what was in a removed directory is wanted too. dir may be removed itself. Paths that cannot be read are told to bad.
func (m *Mount) Deleted(ctx context.Context, dir string, fn func(*Deleted) (inside bool, err error), bad func(path string, err error)) error {
	rel, err := filepath.Rel(m.Point, dir)
	if err != nil {
		return err
	}
	ever := filepath.Join(m.Point, everDir, rel)
	if _, err := os.Lstat(ever); err != nil {
		return pathError(dir, err)
	}
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() || err != nil && isPast(ever) {
		return &sharefs.Error{Path: term.Quote(dir), Kind: sharefs.KindNotDir, Detail: "is a file; sharefs log lists its versions, and sharefs find --deleted what was removed from a directory"}
	}
	return m.deleted(ctx, dir, ever, err == nil, fn, bad)
}

func (m *Mount) deleted(ctx context.Context, dir, ever string, live bool, fn func(*Deleted) (bool, error), bad func(string, error)) error {
	entries, err := os.ReadDir(ever)
	if err != nil {
		bad(dir, err)
		return nil
	}
	there := map[string]os.DirEntry{} // what bears its name still, which most do: nothing is asked of it
	if live {
		now, err := os.ReadDir(dir)
		if err != nil {
			bad(dir, err)
			return nil
		}
		for _, e := range now {
			there[e.Name()] = e
		}
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		path, was := filepath.Join(dir, e.Name()), filepath.Join(ever, e.Name())
		if now := there[e.Name()]; now != nil {
			if now.IsDir() && e.IsDir() && !isPast(was) {
				if err := m.deleted(ctx, path, was, true, fn, bad); err != nil {
					return err
				}
			}
			continue
		}
		d, err := m.look(path, was, live, e.IsDir(), e.IsDir() && isPast(was))
		if err != nil {
			bad(path, err)
			continue
		}
		if d == nil {
			continue
		}
		inside, err := fn(d)
		if err != nil {
			return err
		}
		if inside && d.Type == "directory" {
			if err := m.deleted(ctx, path, was, false, fn, bad); err != nil {
				return err
			}
		}
	}
	return nil
}

// look tells what is known of something that was removed; nil where it was moved.
func (m *Mount) look(path, was string, whole, isDir, isFile bool) (*Deleted, error) {
	d := &Deleted{Path: path, Type: "symlink", Whole: whole}
	if !isDir { // the kernel knows no such attributes of symbolic links
		if !whole {
			return nil, nil // the directory that it was in tells of it
		}
		at, err := m.unlinked(path)
		if err != nil || at.IsZero() {
			return nil, err
		}
		d.Removed = at
		return d, nil
	}
	text, err := ownAttr(was, "removed")
	if err != nil {
		if missing(err) || sharefs.KindOf(err) == sharefs.KindNoAttr {
			return nil, nil // it came back meanwhile
		}
		return nil, err
	}
	if alive, err := ownAttr(was, "alive"); err == nil && alive == "1" {
		return nil, nil
	}
	if d.Removed, err = time.Parse(time.RFC3339, text); err != nil {
		return nil, err
	}
	switch {
	case isFile:
		d.Type = "file"
		f := &File{Given: path, Path: path, Mount: m, past: was + "/"}
		h, err := f.History()
		if err != nil {
			return nil, err
		}
		if len(h.Versions) == 0 {
			return nil, nil
		}
		last := &h.Versions[len(h.Versions)-1]
		d.Version, d.Size = last.Number, last.Size
	case isDir:
		d.Type = "directory"
	}
	return d, nil
}

// unlinked finds the last change of a directory after which a name in it was not there any more, as far as changes are listed; zero: in none.
func (m *Mount) unlinked(path string) (time.Time, error) {
	dir := filepath.Dir(path)
	points, err := (&Dir{Given: dir, Path: dir, Live: true, Mount: m}).Points()
	if err != nil {
		return time.Time{}, err
	}
	for i := range points {
		if _, err := os.Lstat(filepath.Join(points[i].Dir.Reach, filepath.Base(path))); err == nil && i > 0 {
			return points[i-1].Time, nil
		}
	}
	return time.Time{}, nil
}

// RestoreCommand is a command that brings it back. given is its path as it is to be shown.
func (d *Deleted) RestoreCommand(given string) string {
	if d.Type == "file" {
		return "sharefs restore " + term.Quote(given+"@@"+strconv.FormatUint(d.Version, 10))
	}
	return "sharefs restore " + term.Quote(given+"@@"+TimeText(d.Seen()))
}
