package versions

import (
	"errors"
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

// OperationPaths tells where the changes of an operation are. Names that it changed to and fro are not among them. It takes a few microseconds for each
// name and, where files were written to that bear the same name before and after, some time for each name in the tree.
func (t *Tree) OperationPaths(o *Operation, changes []OpChange) ([]OpPath, error) {
	before, after := t.pathsAt(o.ID), t.pathsAt(o.After)
	var out []OpPath
	from := map[sharefs.Ino]string{} // what left its name
	files := map[sharefs.Ino]OpVerb{}
	for _, c := range changes {
		if !c.Verb.ofName() {
			files[c.Ino] = max(files[c.Ino], c.Verb)
			continue
		}
		was, pathBefore, err := before.name(c.Parent, c.Name)
		if err != nil {
			return nil, err
		}
		is, pathAfter, err := after.name(c.Parent, c.Name)
		switch {
		case err != nil:
			return nil, err
		case was == is:
			continue // whatever happened to it meanwhile
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
	more, err := t.pathsOf(before, after, files)
	if err != nil {
		return nil, err
	}
	out = append(out, more...)
	slices.SortFunc(out, func(a, b OpPath) int {
		return strings.Compare(max(a.Before, a.After), max(b.Before, b.After))
	})
	return slices.Compact(out), nil
}

// pathsOf finds the names of inodes before and after, by looking at every name.
func (t *Tree) pathsOf(before, after *pathFinder, files map[sharefs.Ino]OpVerb) ([]OpPath, error) {
	if len(files) == 0 {
		return nil, nil
	}
	found := map[sharefs.Ino]*OpPath{}
	each := func(f *pathFinder, set func(*OpPath, string)) error {
		var bad error
		err := f.rows.Scan(spaceDentry, nil, nil, func(key, value []byte) bool {
			d, err := decodeDent(key, value)
			if err != nil {
				bad = err
				return false
			}
			verb, ok := files[d.ino]
			if !ok || d.ino == 0 {
				return true
			}
			dir, err := f.dir(keyIno(key))
			if err != nil {
				bad = err
				return !errors.Is(err, sharefs.KindStale)
			}
			p := found[d.ino]
			if p == nil {
				p = &OpPath{Verb: verb}
				found[d.ino] = p
			}
			set(p, join(dir, d.name))
			return true
		})
		if err == nil {
			err = bad
		}
		return failed("find the names of files", err)
	}
	keepFirst := func(p *string, path string) {
		if *p == "" {
			*p = path
		}
	}
	if err := each(before, func(p *OpPath, path string) { keepFirst(&p.Before, path) }); err != nil {
		return nil, err
	}
	if err := each(after, func(p *OpPath, path string) { keepFirst(&p.After, path) }); err != nil {
		return nil, err
	}
	if verb, ok := files[sharefs.RootIno]; ok {
		found[sharefs.RootIno] = &OpPath{Verb: verb, Before: ".", After: "."}
	}
	out := make([]OpPath, 0, len(found))
	for _, p := range found {
		out = append(out, *p)
	}
	return out, nil
}

// pathFinder tells the paths of directories at a moment. It remembers what it found.
type pathFinder struct {
	t     *Tree
	rows  kv.View
	known map[sharefs.Ino]string
}

func (t *Tree) pathsAt(at sharefs.HLC) *pathFinder {
	if kept, ok := t.KeptInstant(at); ok {
		at = kept // near enough to tell a path by
	}
	return &pathFinder{t: t, rows: t.db.At(at), known: map[sharefs.Ino]string{sharefs.RootIno: ""}}
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

// dir returns the path of a directory. KindStale: it was not there; KindNotExist: it had no name.
func (f *pathFinder) dir(ino sharefs.Ino) (string, error) {
	if path, ok := f.known[ino]; ok {
		return path, nil
	}
	var names []string
	for at := ino; ; {
		r, err := loadRow(f.rows, at)
		if err != nil {
			return "", err
		}
		if r.nlink == 0 || len(names) > 4096 {
			return "", sharefs.KindNotExist
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
