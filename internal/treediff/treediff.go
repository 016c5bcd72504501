// Package treediff compares two directory trees: names, types, modes, owners, times, targets of links, devices, extended attributes, which
// names are hard links of each other, and content. What moved is found by the identity of files and directories where the filesystem tells
// one, then by equal content, then by content that is alike, as git does it.
//
// A comparison goes through these stages:
//
//  1. walk (parallel): directories that stand under the same path in both trees are listed and their entries compared by pairs; below what
//     stands in one tree alone everything is listed (walk.go, pair.go)
//  2. content (parallel, beside 1): regular files of equal size, where nothing cheaper tells that they are equal (content.go)
//  3. renames: what stands in the old tree alone is matched with what stands in the new one alone (rename.go, similar.go)
//  4. links: names that are links of one file in one tree and of several in the other (links.go)
//
// Symbolic links are never followed, also not by a tree that changes while it is compared: every directory is opened beneath its root
// without following any. Memory is in proportion to what differs, to the largest directories and to the files with several links.
package treediff

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Entry is what one tree has under a path.
type Entry struct {
	Path   string // relative to the root of the tree, with slashes; "." is the root itself
	Mode   uint32 // type and permissions as in stat(2)
	UID    uint32
	GID    uint32
	Nlink  uint64
	Names  int // of Nlink, those that were seen in this tree; told of changes only, and not of directories
	Rdev   uint64
	Dev    uint64
	Ino    uint64
	Size   int64 // bytes; of regular files
	Atime  sharefs.Time
	Mtime  sharefs.Time
	Ctime  sharefs.Time
	Target string            // of a symbolic link
	Xattrs map[string]string // by name; filled in where they differ from those of the other tree
	ID     string            // identity of the file or directory that outlives a rename; empty: not known
}

// Type returns the bits of the mode that tell the type.
func (e *Entry) Type() uint32 { return e.Mode & unix.S_IFMT }

// IsDir reports whether the entry is a directory.
func (e *Entry) IsDir() bool { return e.Type() == unix.S_IFDIR }

// IsRegular reports whether the entry is a regular file.
func (e *Entry) IsRegular() bool { return e.Type() == unix.S_IFREG }

// What is a set of things that differ between two entries.
type What uint16

// The things that may differ.
const (
	Type    What = 1 << iota // a file where a directory was, for example; then nothing else is told
	Content                  // of regular files
	Target                   // of symbolic links
	Device                   // number of a device
	Mode                     // permissions
	Owner                    // user or group
	Times                    // time of the last change of content, in nanoseconds
	Xattrs                   // extended attributes, access control lists among them
	Links                    // other names are links of the same file
)

var whatNames = [...]string{"type", "content", "target", "device", "mode", "owner", "times", "xattrs", "links"}

// Names lists what a set holds.
func (w What) Names() []string {
	out := []string{}
	for i, name := range whatNames {
		if w&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

func (w What) String() string { return strings.Join(w.Names(), ", ") }

// Op is what happened to a path.
type Op byte

// The letters are git's.
const (
	Added   Op = 'A'
	Removed Op = 'D'
	Changed Op = 'M'
	Renamed Op = 'R' // and perhaps changed
)

// Change is one difference.
type Change struct {
	Op    Op
	Path  string // in the new tree; of what was removed, in the old one
	From  string // of what was renamed: its path in the old tree
	Old   *Entry // nil of what was added
	New   *Entry // nil of what was removed
	What  What   // of what was changed or renamed
	Score int    // of what was renamed: how much of the content is the same, in percent
	// Implied: it kept its name in a directory that was renamed. Otherwise equal ones are told of only if Options.Implied is set.
	Implied bool
}

// Problem is a path that could not be compared.
type Problem struct {
	Path string
	Old  bool // in the old tree, else in the new one
	Err  error
}

// Result is all that differs. A path below a directory that moved as a whole is told only where it differs in itself.
type Result struct {
	Changes  []Change   // sorted by path
	Problems []Problem  // sorted by path
	Foreign  []string   // directories on which another filesystem is mounted in either tree: they are not looked into
	Links    [][]string // paths of the new tree that are links of one file, each group sorted; groups of one are left out
	Seen     uint64     // entries that were looked at, in both trees
	Read     uint64     // bytes of content that were read to be compared
}

// Renames says how what moved is found.
type Renames int

// Each takes in those before it.
const (
	NoRenames Renames = iota
	ByIdentity
	ByContent // and content that is alike, from 50 %
)

// Side is one of the trees.
type Side struct {
	Dir string // its root, a directory
	// ID tells the identity of an entry, and State of a regular file a text that is equal for two files only if their content is; both are
	// empty where they are not known. path is one by which the entry can be reached now; nil functions know nothing.
	ID    func(path string, e *Entry) string
	State func(path string, e *Entry) string
	// Fix corrects what stat(2) told of an entry, where the filesystem shows something else than it means.
	Fix func(path string, e *Entry)
	// Skip leaves an entry and all below it out.
	Skip func(e *Entry) bool
}

// Options are those of a comparison.
type Options struct {
	Renames Renames
	Flat    bool // compare what is in the directories themselves, not what is below
	// Apart pairs directories of one name by what they are, too, where the identity of one of them is found under another name: directories that changed names have moved.
	Apart    bool
	Implied  bool                 // tell of all that a renamed directory took along, as renamed
	Workers  int                  // 0: twice as many as there are CPUs, at least 4: most of the time is spent waiting for answers
	Progress func(entries uint64) // called by several goroutines at once
	// Only says of a path of either tree whether it is compared, and whether what lies below it is looked at; nil: all is. What stands in one
	// tree alone is compared if either is true.
	Only func(path string) (compared, below bool)
}

// Compare tells by which changes the old tree becomes the new one. What cannot be read is a problem of the result; an error is returned only
// where a root cannot be opened or the context ends.
func Compare(ctx context.Context, old, new Side, opts Options) (*Result, error) {
	c := &comparison{ctx: ctx, opts: opts, old: &tree{side: old, old: true}, new: &tree{side: new}, pairs: map[string]*Change{},
		newLinks: map[inode][]string{}, oldLinks: map[inode]int{}}
	for _, t := range []*tree{c.old, c.new} {
		if err := t.open(); err != nil {
			return nil, err
		}
		defer t.close()
	}
	if c.opts.Workers <= 0 {
		c.opts.Workers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	c.parallel(func() {
		if compared, _ := c.compared("."); compared {
			c.compareEntries(pair{c.old.root, c.new.root}, c.old.side.Dir, c.new.side.Dir)
		}
		c.pool.add(func() { c.compareDirs(pair{c.old.root, c.new.root}) })
	})
	c.separate()
	c.matchRenames()
	c.compareLinks()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.finish(), nil
}

// comparison is one at work.
type comparison struct {
	ctx  context.Context
	opts Options
	old  *tree
	new  *tree
	pool pool
	seen atomic.Uint64
	read atomic.Uint64

	mu       sync.Mutex // guards all below
	result   Result
	pairs    map[string]*Change // changed and renamed, by their path in the new tree
	apart    []pair             // directories of one name and two identities, which are not compared yet
	onlyOld  []*Entry
	onlyNew  []*Entry
	linked   []pair             // of which one at least has several links
	newLinks map[inode][]string // paths in the new tree of what has several links
	oldLinks map[inode]int      // the same of the old tree, how many there are
}

type inode struct{ dev, ino uint64 }

// problem notes what could not be read; what is gone meanwhile is none.
func (c *comparison) problem(t *tree, p string, err error) {
	if c.ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Problems = append(c.result.Problems, Problem{Path: p, Old: t.old, Err: err})
}

// differs notes that a pair differs in something more.
func (c *comparison) differs(p pair, what What) {
	if what == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change(p).What |= what
}

// renamed notes that a pair stands under another path in the new tree.
func (c *comparison) renamed(p pair, score int, implied bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.change(p)
	ch.Op, ch.From, ch.Score, ch.Implied = Renamed, p.old.Path, score, implied
}

// change returns the change of a pair; c.mu is held.
func (c *comparison) change(p pair) *Change {
	ch := c.pairs[p.new.Path]
	if ch == nil {
		ch = &Change{Op: Changed, Path: p.new.Path, Old: p.old, New: p.new}
		c.pairs[p.new.Path] = ch
	}
	return ch
}

// finish gathers the result.
func (c *comparison) finish() *Result {
	r := &c.result
	for _, e := range c.onlyOld {
		r.Changes = append(r.Changes, Change{Op: Removed, Path: e.Path, Old: e})
	}
	for _, e := range c.onlyNew {
		r.Changes = append(r.Changes, Change{Op: Added, Path: e.Path, New: e})
	}
	for _, ch := range c.pairs {
		r.Changes = append(r.Changes, *ch)
	}
	for i := range r.Changes {
		if e := r.Changes[i].Old; e != nil {
			e.Names = max(1, c.oldLinks[inode{e.Dev, e.Ino}])
		}
		if e := r.Changes[i].New; e != nil {
			e.Names = max(1, len(c.newLinks[inode{e.Dev, e.Ino}]))
		}
	}
	// A path that is removed and added (a move to it, and away from it) is told removed first.
	slices.SortFunc(r.Changes, func(a, b Change) int {
		if d := ComparePaths(a.Path, b.Path); d != 0 {
			return d
		}
		return order(a.Op) - order(b.Op)
	})
	slices.SortFunc(r.Problems, func(a, b Problem) int { return ComparePaths(a.Path, b.Path) })
	slices.Sort(r.Foreign)
	r.Foreign = slices.Compact(r.Foreign)
	r.Seen, r.Read = c.seen.Load(), c.read.Load()
	return r
}

func order(op Op) int {
	if op == Removed {
		return 0
	}
	return 1
}

// ComparePaths orders paths so that a directory comes right before all that is in it.
func ComparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x == '/' {
			return -1
		}
		if y == '/' {
			return 1
		}
		return int(x) - int(y)
	}
	return len(a) - len(b)
}

// join puts a name below a directory of the tree.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
