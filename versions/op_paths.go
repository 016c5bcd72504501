package versions

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"sharefs"
	"sharefs/versions/kv"
)

// OpPath is a change of an operation in terms of paths from the root, without a leading slash; "" where there was none.
type OpPath struct {
	Verb   OpVerb
	Before string // the path before the operation
	After  string // the path after it
	// Moved says that what was at Before is at After now, for it was renamed.
	Moved bool
}

// Entrance says whether somebody may search a directory, and read it where that is asked for too. It is asked of a directory as it was at a moment,
// with its access control list of then; nil lets everybody in.
type Entrance func(dir *sharefs.Attr, acl []byte, read bool) bool

// OperationPaths tells where the changes of an operation are, as far as may lets in; all is false if something lies where it does not. Names that it
// changed to and fro are not among them. It takes a few microseconds for each name and, of files that were written to, for each name in the directory in which the
// kernel had found them; where they are not there any more, and for those of other directories that may be told, for each name in the tree.
func (t *Tree) OperationPaths(o *Operation, changes []OpChange, may Entrance) (out []OpPath, all bool, err error) {
	before, after := t.pathsAt(o.ID, may), t.pathsAt(o.After, may)
	all = true
	from := map[sharefs.Ino]string{} // what left its name
	files := map[sharefs.Ino]OpVerb{}
	dirs := map[sharefs.Ino]bool{} // that the operation had to do with
	for _, c := range changes {
		if len(dirs) < opDirs && c.Parent != 0 {
			dirs[c.Parent] = true
		}
		if !c.Verb.ofName() {
			files[c.Ino] = max(files[c.Ino], c.Verb)
			continue
		}
		was, pathBefore, err := before.name(c.Parent, c.Name)
		if errors.Is(err, sharefs.KindAccess) {
			all = false
			continue
		}
		if err != nil {
			return nil, false, err
		}
		is, pathAfter, err := after.name(c.Parent, c.Name)
		switch {
		case errors.Is(err, sharefs.KindAccess):
			all = false
			continue
		case err != nil:
			return nil, false, err
		case was == is:
			continue // whatever happened to it meanwhile
		case c.Verb == OpOthers && c.Ino != 0 && is != c.Ino:
			continue // it is another one by then
		}
		p := OpPath{Verb: c.Verb, Before: pathBefore, After: pathAfter}
		if c.Verb == OpRenamedFrom && was != 0 {
			from[was] = pathBefore
		}
		out = append(out, p)
	}
	for i := range out {
		if p := &out[i]; p.Verb == OpRenamedTo && p.After != "" {
			if ino, err := after.find(p.After); err == nil && from[ino] != "" {
				p.Before, p.Moved = from[ino], true
			}
		}
	}
	more, told, err := t.pathsOf(before, after, files, dirs)
	if err != nil {
		return nil, false, err
	}
	out = append(out, more...)
	slices.SortFunc(out, func(a, b OpPath) int {
		return strings.Compare(max(a.Before, a.After), max(b.Before, b.After))
	})
	return slices.Compact(out), all && told, nil
}

// opDirs is how many directories are looked through for files before the whole tree is.
const opDirs = 1000

// pathsOf finds the names of inodes before and after, first in the directories named. Told is false if one has names that may not be told alone.
func (t *Tree) pathsOf(before, after *pathFinder, files map[sharefs.Ino]OpVerb, dirs map[sharefs.Ino]bool) (out []OpPath, told bool, err error) {
	was, hidden, err := before.paths(files, dirs)
	if err != nil {
		return nil, false, err
	}
	is, hidden2, err := after.paths(files, dirs)
	for ino, verb := range files {
		if was[ino] != "" || is[ino] != "" {
			out = append(out, OpPath{Verb: verb, Before: was[ino], After: is[ino]})
		}
	}
	return out, !hidden && !hidden2, err
}

// pathFinder tells the paths of directories at a moment, as far as may lets in. It remembers what it found.
type pathFinder struct {
	t     *Tree
	rows  kv.View
	may   Entrance
	known map[sharefs.Ino]string
}

func (t *Tree) pathsAt(at sharefs.HLC, may Entrance) *pathFinder {
	if kept, ok := t.KeptInstant(at); ok {
		at = kept // near enough to tell a path by
	}
	return &pathFinder{t: t, rows: t.db.At(at), may: may, known: map[sharefs.Ino]string{}}
}

// paths finds a name of each inode that has one, first in some directories, then in all. Hidden says that one has none that may be told.
func (f *pathFinder) paths(files map[sharefs.Ino]OpVerb, dirs map[sharefs.Ino]bool) (found map[sharefs.Ino]string, hidden bool, err error) {
	found = map[sharefs.Ino]string{}
	wanted := map[sharefs.Ino]uint32{} // names that were not met with
	for ino := range files {
		r, err := loadRow(f.rows, ino)
		switch {
		case errors.Is(err, sharefs.KindStale):
		case err != nil:
			return nil, false, err
		case ino == sharefs.RootIno:
			found[ino] = "."
		case r.isDir():
			path, err := f.dir(ino)
			if found[ino] = path; errors.Is(err, sharefs.KindAccess) {
				hidden = true
			} else if err != nil && !errors.Is(err, sharefs.KindStale) && !errors.Is(err, sharefs.KindNotExist) {
				return nil, false, err
			}
		case r.nlink > 0:
			wanted[ino] = r.nlink
		}
	}
	look := func(from, to []byte, skip map[sharefs.Ino]bool) error {
		var bad, closed error
		at := ^sharefs.Ino(0) // the directory that dir and closed are of: its names follow each other
		var dir string
		err := f.rows.Scan(spaceDentry, from, to, func(key, value []byte) bool {
			d, err := decodeDent(key, value)
			if err != nil {
				bad = err
				return false
			}
			parent := keyIno(key)
			if d.ino == 0 || wanted[d.ino] == 0 || skip[parent] {
				return true
			}
			if parent != at {
				at = parent
				if dir, closed = f.dir(parent); closed == nil && !f.reads(parent) {
					closed = sharefs.KindAccess
				}
			}
			switch {
			case closed == nil:
				found[d.ino] = join(dir, d.name)
				delete(wanted, d.ino)
			case errors.Is(closed, sharefs.KindAccess):
				if wanted[d.ino]--; wanted[d.ino] == 0 {
					delete(wanted, d.ino)
					hidden = true
				}
			case !errors.Is(closed, sharefs.KindStale) && !errors.Is(closed, sharefs.KindNotExist):
				bad = closed
				return false
			}
			return len(wanted) > 0
		})
		if err == nil {
			err = bad
		}
		return failed("find the names of files", err)
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) { // before and after the operation in the same order
		if len(wanted) == 0 {
			break
		}
		from, to := inoRange(dir)
		if err := look(from, to, nil); err != nil {
			return nil, false, err
		}
	}
	if len(wanted) > 0 {
		err = look(nil, nil, dirs)
	}
	return found, hidden, err
}

// lets asks whether a directory may be entered.
func (f *pathFinder) lets(r *row, read bool) bool {
	if f.may == nil {
		return true
	}
	acl, _, err := f.rows.Get(spaceXattr, xattrKey(r.ino, xattrAccess))
	if err != nil {
		return false
	}
	a := r.attr()
	return f.may(&a, acl, read)
}

// reads asks whether a directory may be read.
func (f *pathFinder) reads(ino sharefs.Ino) bool {
	if f.may == nil {
		return true
	}
	r, err := loadRow(f.rows, ino)
	return err == nil && f.lets(r, true)
}

// name returns what bore a name then, 0 for nothing, and its path.
func (f *pathFinder) name(parent sharefs.Ino, name string) (sharefs.Ino, string, error) {
	p, err := f.t.findDent(f.rows, parent, name)
	if err != nil || !p.found() {
		return 0, "", err
	}
	dir, err := f.dir(parent)
	if errors.Is(err, sharefs.KindStale) || errors.Is(err, sharefs.KindNotExist) {
		return 0, "", nil // it hangs on a directory that was not there
	}
	return p.ino, join(dir, name), err
}

// find goes a path down from the root.
func (f *pathFinder) find(path string) (sharefs.Ino, error) {
	at := sharefs.RootIno
	for name := range strings.SplitSeq(path, "/") {
		p, err := f.t.findDent(f.rows, at, name)
		if err != nil {
			return 0, err
		}
		if !p.found() {
			return 0, sharefs.KindNotExist
		}
		at = p.ino
	}
	return at, nil
}

// dir returns the path of a directory. KindStale: it was not there; KindNotExist: it had no name; KindAccess: it may not be told.
func (f *pathFinder) dir(ino sharefs.Ino) (string, error) {
	if path, ok := f.known[ino]; ok {
		return path, nil
	}
	if len(f.known) == 0 {
		r, err := loadRow(f.rows, sharefs.RootIno)
		switch {
		case err != nil:
			return "", err
		case !f.lets(r, false):
			return "", sharefs.KindAccess
		}
		f.known[sharefs.RootIno] = ""
		if ino == sharefs.RootIno {
			return "", nil
		}
	}
	var names []string
	for at := ino; ; {
		r, err := loadRow(f.rows, at)
		if err != nil {
			return "", err
		}
		switch {
		case r.nlink == 0 || len(names) > 4096:
			return "", sharefs.KindNotExist
		case !f.lets(r, false):
			return "", sharefs.KindAccess
		}
		name := ""
		from, to := inoRange(r.parent)
		err = f.rows.Scan(spaceDentry, from, to, func(key, value []byte) bool {
			if d, err := decodeDent(key, value); err == nil && d.ino == at {
				name = d.name
			}
			return name == ""
		})
		if err != nil {
			return "", failed("find the name of a directory", err)
		}
		if name == "" {
			return "", sharefs.KindNotExist
		}
		names = append(names, name)
		at = r.parent
		if up, ok := f.known[at]; ok {
			path := up
			for i := len(names) - 1; i >= 0; i-- {
				path = join(path, names[i])
			}
			f.known[ino] = path
			return path, nil
		}
	}
}

// join puts a name behind a path from the root.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
