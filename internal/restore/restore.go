// Package restore makes a live directory equal to one as it was, by as few changes as possible and by plain system calls, so that the kernel
// checks what the user may do. It knows nothing of versions: what a mount offers beyond other filesystems it is told by the options.
//
// It goes through these stages:
//
//  1. plan (parallel): package treediff tells by which changes the live tree becomes the other; what moved is found by identity (plan.go)
//  2. directories and moves, from the root down, one after the other: a name that is in the way is parked in a directory of the restore's
//     own first, so that moves in a circle need no order (places.go)
//  3. content (parallel): files, symbolic links and devices are made, files that differ are overwritten where they stand, so that they stay
//     the same file for their other names and for whoever has them open (content.go)
//  4. hard links, one after the other
//  5. removals, from the leaves up
//  6. attributes of directories, from the leaves up (attrs.go)
//
// Nothing is lost: before the content of a file is overwritten or its name is removed, Options.Keep has kept it. Each step that fails is
// told with its path, and the others go on. What is interrupted can be run again: it does what is left to be done, and takes what lies
// parked for what came later.
package restore

import (
	"context"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/treediff"
)

// Options are those of a restore.
type Options struct {
	DryRun bool // tell what would be done, and do nothing
	// Stay leaves what the past does not have where it is, unless it is in the way.
	Stay bool
	// Keep is called with a path to a regular file whose content is about to be overwritten or whose name is about to be removed; nothing
	// is done to the file unless it returns nil. Several goroutines call it at once. nil: nothing is kept.
	Keep     func(path string) error
	Workers  int // 0: 4
	Progress func(stage string, done, total uint64, unit string)
	// Only says of which paths of either tree the restore is, as [treediff.Options] has it; nil: of all.
	Only func(path string) (compared, below bool)
}

// Op is what is done to a path.
type Op string

// The operations.
const (
	Created     Op = "created"
	Overwritten Op = "overwritten" // the same file, with another content
	Replaced    Op = "replaced"    // something of another type, or another link, is in its place
	Moved       Op = "moved"       // and perhaps changed
	Linked      Op = "linked"      // made a hard link of another name
	Removed     Op = "removed"
	Attributes  Op = "attributes" // mode, owner, times or extended attributes alone
	Stayed      Op = "stayed"     // came later and is left there
)

// Action is one thing that was done, or would be.
type Action struct {
	Op   Op       `json:"op"`
	Path string   `json:"path"`           // relative to the directory; "." is itself
	From string   `json:"from,omitempty"` // of what was moved: where it was. Of what was linked: another name of it
	Type string   `json:"type"`           // "file", "directory", "symlink", "fifo", "socket", "device"
	What []string `json:"what,omitempty"` // of what stood there already: what differed
	Err  error    `json:"-"`              // why it was not done
}

// Report tells what was done.
type Report struct {
	Actions []Action // sorted by path
	// Problems are paths that could not be read in either tree; nothing was done to them.
	Problems []treediff.Problem
	// Foreign are directories on which another filesystem is mounted; they were left as they are.
	Foreign []string
	// Owners counts what has another owner than it had, because only root may give files away.
	Owners int
	Bytes  uint64 // of content written
}

// Failed counts what could not be done.
func (r *Report) Failed() int {
	n := len(r.Problems)
	for i := range r.Actions {
		if r.Actions[i].Err != nil {
			n++
		}
	}
	return n
}

// Tree makes the live directory equal to past. An error is returned only where nothing could be done at all, or with the report where the
// context ended before all was done.
func Tree(ctx context.Context, past, live treediff.Side, opts Options) (*Report, error) {
	progress := opts.Progress
	if progress == nil {
		progress = func(string, uint64, uint64, string) {}
	}
	diff, err := treediff.Compare(ctx, live, past, treediff.Options{
		Renames: treediff.ByIdentity, Apart: true, Workers: opts.Workers, Only: opts.Only,
		Progress: func(n uint64) { progress("comparing", n, 0, "entries") },
	})
	if err != nil {
		return nil, err
	}
	steps := plan(diff, opts.Stay)
	if opts.Only != nil {
		if err := beside(live.Dir, steps); err != nil {
			return nil, err
		}
	}
	report := &Report{Problems: diff.Problems, Foreign: diff.Foreign}
	if !opts.DryRun {
		w := &work{past: past, live: live, opts: opts, report: report, touched: map[spot]bool{}, loosened: map[spot]uint32{}}
		w.progress = func(done int) { progress("restoring", uint64(done), uint64(len(steps)), "entries") }
		if err := w.open(); err != nil {
			return nil, err
		}
		defer w.close()
		w.run(ctx, steps)
		err = ctx.Err()
	}
	for _, s := range steps {
		if s.op == "" || s.quiet && s.err == nil || err != nil && !s.done && s.err == nil {
			continue // nothing is to be told, or it was not come to
		}
		report.Actions = append(report.Actions, s.action())
	}
	return report, err
}

// work is a restore at work.
type work struct {
	past     treediff.Side
	live     treediff.Side
	opts     Options
	report   *Report
	progress func(done int)
	pastFd   int
	liveFd   int

	moves []move // in their order; changed in the first stage alone

	parkMu sync.Mutex // guards the next two; taken before mu
	park   string     // path of the directory of what is parked; empty: there is none yet
	parked int        // names given in it

	mu       sync.Mutex      // guards all below, and the report
	touched  map[spot]bool   // directories whose entries were changed
	loosened map[spot]uint32 // directories that were made writable, with the mode they had
	finished int
}

func (w *work) open() error {
	for _, d := range []struct {
		fd  *int
		dir string
	}{{&w.pastFd, w.past.Dir}, {&w.liveFd, w.live.Dir}} {
		fd, err := unix.Open(d.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &sharefs.Error{Op: "restore", Path: d.dir, Kind: sharefs.KindOf(err), Err: err}
		}
		*d.fd = fd
	}
	return nil
}

func (w *work) close() {
	unix.Close(w.pastFd)
	unix.Close(w.liveFd)
}

// run does the steps in their stages.
func (w *work) run(ctx context.Context, steps []*step) {
	one := func(want func(*step) bool, do func(*step) error) {
		for _, s := range steps {
			if ctx.Err() == nil && s.err == nil && !s.done && want(s) {
				w.did(s, do(s))
			}
		}
	}
	for _, s := range steps { // directories and moves
		if ctx.Err() != nil {
			break
		}
		if s.err == nil && s.clears() {
			if err := w.prepare(s); err != nil || s.ready() {
				w.did(s, err)
			}
		}
	}
	w.parallel(ctx, steps)
	for _, s := range steps {
		s.done = s.done || s.twin
	}
	one(func(s *step) bool { return s.op == Linked }, w.link)
	slices.Reverse(steps)
	one(func(s *step) bool { return s.gone != nil }, w.remove)
	slices.Reverse(steps)
	w.unpark(ctx.Err() != nil)
	w.directories(steps)
}

// parallel does what needs no order.
func (w *work) parallel(ctx context.Context, steps []*step) {
	n := w.opts.Workers
	if n <= 0 {
		n = 4
	}
	todo := make(chan *step)
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for s := range todo {
				w.did(s, w.content(s))
			}
		})
	}
	for _, s := range steps {
		if ctx.Err() == nil && s.err == nil && !s.done && s.files() {
			todo <- s
		}
	}
	close(todo)
	all.Wait()
}

// did notes how a step ended.
func (w *work) did(s *step, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.done, s.err = err == nil, err
	w.finished++
	w.progress(w.finished)
}

// One brings a single file, symbolic link, fifo or device back under a name that is vacant, with all its attributes. own tells whether it has the owner of
// then. Past and live have the same base name.
func One(past, live string) (own bool, err error) {
	name := filepath.Base(live)
	w := &work{past: treediff.Side{Dir: filepath.Dir(past)}, live: treediff.Side{Dir: filepath.Dir(live)}, report: &Report{},
		touched: map[spot]bool{}, loosened: map[spot]uint32{}}
	if err := w.open(); err != nil {
		return false, err
	}
	defer w.close()
	e, err := w.past.Stat(w.pastFd, name, name)
	if err != nil {
		return false, err
	}
	err = w.content(&step{op: Created, path: name, new: e})
	return w.report.Owners == 0, err
}
