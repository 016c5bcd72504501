package restore

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs/internal/treediff"
)

// step is one change of the live tree. Paths are those of the past, but for what is only in the live tree.
type step struct {
	op    Op
	path  string
	from  string          // of Moved: its path in the live tree; of Linked: that of a name which leads to the file
	old   *treediff.Entry // in the live tree; nil where there is nothing
	new   *treediff.Entry // in the past; nil of what is removed
	what  treediff.What
	fresh bool            // another file takes the place of the old one, whose other names stay as they are
	gone  *treediff.Entry // what is to be removed in the end: the same as old, which stands under where(old.Path) then
	twin  bool            // another step does the same to the same file by another of its names
	quiet bool            // a part of another step, told of only if it fails
	done  bool
	err   error
}

// clears reports whether the step belongs to the first stage: it makes or moves directories, or frees a name.
func (s *step) clears() bool {
	switch s.op {
	case Moved, Created, Linked:
		return true
	case Replaced:
		return s.what&treediff.Type != 0
	}
	return false
}

// ready reports whether all was done in the first stage: attributes of directories come last.
func (s *step) ready() bool {
	return s.new.IsDir() || s.op == Moved && s.what&^treediff.Links == 0
}

// files reports whether the step belongs to the stage of content.
func (s *step) files() bool {
	switch s.op {
	case Created, Overwritten, Replaced, Moved, Attributes:
		return !s.new.IsDir() && !s.twin
	}
	return false
}

func (s *step) action() Action {
	e := s.new
	if e == nil {
		e = s.old
	}
	a := Action{Op: s.op, Path: s.path, From: s.from, Type: typeName(e.Type()), Err: s.err}
	if s.op != Created && s.op != Removed && s.op != Stayed {
		a.What = s.what.Names()
	}
	return a
}

func typeName(t uint32) string {
	switch t {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}

// attributes are what differs without content.
const attributes = treediff.Mode | treediff.Owner | treediff.Times | treediff.Xattrs

type inode struct{ dev, ino uint64 }

func inodeOf(e *treediff.Entry) inode { return inode{e.Dev, e.Ino} }

// plan makes steps of the differences between the live tree (old) and the past (new), sorted by path.
func plan(diff *treediff.Result, stay bool) []*step {
	steps := make([]*step, 0, len(diff.Changes))
	byPath := map[string]*step{}
	var blocks string // a directory in whose place something else is to stand, with all that is in it
	for i := range diff.Changes {
		c := &diff.Changes[i]
		s := &step{path: c.Path, old: c.Old, new: c.New, what: c.What}
		switch {
		case c.Op == treediff.Removed && stay && !(blocks != "" && strings.HasPrefix(c.Path, blocks)):
			s.op = Stayed
			s.done = true
		case c.Op == treediff.Removed:
			s.op, s.gone = Removed, c.Old
		case c.Op == treediff.Added:
			s.op = Created
		case c.Op == treediff.Renamed:
			s.op, s.from = Moved, c.From
		case c.What&treediff.Type != 0:
			s.op = Replaced
			blocks = c.Path + "/"
		case c.What&treediff.Content != 0:
			s.op = Overwritten
		case c.What&(treediff.Target|treediff.Device) != 0:
			s.op, s.fresh = Replaced, true
		case c.What&attributes != 0:
			s.op = Attributes
		}
		steps = append(steps, s)
		if s.new != nil {
			byPath[s.path] = s
		}
	}
	steps = planLinks(diff, steps, byPath)
	planTwins(steps)
	// What stood in the place of something of another type is removed with the rest.
	for _, s := range slices.Clone(steps) {
		if s.op == Replaced && s.what&treediff.Type != 0 || s.op == Linked && s.old != nil && s.what&treediff.Type != 0 {
			steps = append(steps, &step{op: Removed, path: s.path, old: s.old, gone: s.old, quiet: true})
		}
	}
	slices.SortStableFunc(steps, func(a, b *step) int { return treediff.ComparePaths(a.path, b.path) })
	return steps
}

// exists reports whether the live tree has the file that the step is about, so that it may stay the same file.
func (s *step) exists() bool { return s.old != nil && s.new != nil && s.what&treediff.Type == 0 }

// reaches reports whether a change of the file would reach a name outside of the tree that the past did not know: to make the tree as it
// was must not change what lies beside it.
func (s *step) reaches() bool {
	const inside = treediff.Content | treediff.Mode | treediff.Owner | treediff.Xattrs
	return !s.old.IsDir() && s.what&inside != 0 && s.old.Nlink > uint64(s.old.Names) && s.new.Nlink <= uint64(s.new.Names)
}

// planLinks makes links of what is a link in the past, and files of their own of what is none. Of the names of one file of the past one is
// the holder: a live file that is there already, if possible; the others become links of it.
func planLinks(diff *treediff.Result, steps []*step, byPath map[string]*step) []*step {
	group := map[string]int{}
	holder := map[int]string{}
	for g, paths := range diff.Links {
		for _, p := range paths {
			group[p] = g
			s := byPath[p]
			if _, held := holder[g]; !held && (s == nil || s.exists() && s.what&treediff.Links == 0 && !s.reaches()) {
				holder[g] = p
			}
		}
	}
	claimed := map[inode]bool{}
	place := func(s *step, op Op) {
		g, grouped := group[s.path]
		if h, held := holder[g]; grouped && held {
			s.op, s.from = Linked, h
			return
		}
		if grouped {
			holder[g] = s.path
		}
		s.op = op
	}
	owner := map[inode]int{} // of a live file: the group that has claimed it
	for _, s := range slices.Clone(steps) {
		if s.new == nil || s.new.IsDir() || !s.exists() || s.what&treediff.Links == 0 && !s.reaches() {
			continue
		}
		g, grouped := group[s.path]
		_, held := holder[g]
		live := inodeOf(s.old)
		switch {
		case !s.reaches() && !claimed[live] && !(grouped && held):
			claimed[live] = true
			if grouped {
				holder[g], owner[live] = s.path, g+1
			}
		case !s.reaches() && grouped && owner[live] == g+1:
			// It is a link of the holder already.
		case s.op == Moved: // it does not move, but is made anew
			steps = append(steps, &step{op: Removed, path: s.old.Path, old: s.old, gone: s.old, quiet: true})
			s.op, s.from, s.old, s.what = Created, "", nil, 0
		default:
			s.fresh = true
			place(s, Replaced)
		}
	}
	for _, s := range steps {
		if s.new != nil && !s.new.IsDir() && !s.exists() {
			place(s, s.op)
		}
	}
	return steps
}

// planTwins lets one step alone work on a file that several names lead to.
func planTwins(steps []*step) {
	seen := map[[2]inode]bool{}
	for _, s := range steps {
		if !s.files() || !s.exists() || s.fresh || s.old.Nlink < 2 {
			continue
		}
		k := [2]inode{inodeOf(s.old), inodeOf(s.new)}
		s.twin = seen[k]
		seen[k] = true
	}
}
