package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/restore"
	"sharefs/internal/term"
	"sharefs/internal/treediff"
)

func (a *app) undo() *cobra.Command {
	return a.undoCommand(&cobra.Command{
		Use:   "undo [OPERATION]",
		Short: "Undo what a command changed, the last one unless another is named",
		Long: `Undo what a command changed: files that it made go, those that it removed come
back, names, contents and attributes become what they were. Without OPERATION it
is your last one that is not undone yet, or with --by the last one that came from
another host; sharefs op log lists them. What was changed again since is not touched
unless --force is given. Nothing is lost: whatever is overwritten or removed is kept
as a version first, and redo does again what was undone. Where files travel, what
undo does travels as any change.`,
	}, false)
}

func (a *app) redo() *cobra.Command {
	return a.undoCommand(&cobra.Command{
		Use:   "redo [OPERATION]",
		Short: "Do again what undo undid, the last one unless another is named",
		Long: `Do again what undo undid: what the command had changed becomes as it was after
it. Without OPERATION it is the one that was undone last.`,
	}, true)
}

// undoStyle is how something is undone.
type undoStyle struct {
	redo, dry, force, verbose bool
	by                        string
}

func (a *app) undoCommand(cmd *cobra.Command, redo bool) *cobra.Command {
	style := undoStyle{redo: redo}
	cmd.Args = between(1)
	cmd.ValidArgsFunction = a.completeOperations
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		m, err := a.live()
		if err != nil {
			return err
		}
		id := ""
		if len(args) == 1 {
			id = args[0]
		}
		if id != "" && style.by != "" {
			return usage("OPERATION and --by exclude each other")
		}
		return a.runUndo(m, id, style)
	}
	cmd.Flags().BoolVarP(&style.dry, "dry-run", "n", false, dryRunUsage)
	cmd.Flags().BoolVar(&style.force, "force", false, "Also what was changed again since")
	cmd.Flags().BoolVarP(&style.verbose, "verbose", "v", false, "List all that is done")
	cmd.Flags().StringVar(&style.by, "by", "", "The last one that came from the host `NAME`")
	return cmd
}

// undone tells of each operation that is undone at present; list has the newest first.
func undone(list []client.Operation) map[string]bool {
	state, known := map[string]bool{}, map[string]bool{}
	for i := range list {
		id, undo := strings.CutPrefix(list[i].Label, sharefs.UndoLabel)
		if !undo {
			var redo bool
			if id, redo = strings.CutPrefix(list[i].Label, sharefs.RedoLabel); !redo {
				continue
			}
		}
		if !known[id] {
			known[id], state[id] = true, undo
		}
	}
	return state
}

// choose finds the operation that is meant: the last one that is not undone or, to be done again, the one that was undone last and after which nothing
// else was changed.
func choose(list []client.Operation, redo bool) *client.Operation {
	state := undone(list)
	var last string
	for i := range list {
		o := &list[i]
		id, isUndo := strings.CutPrefix(o.Label, sharefs.UndoLabel)
		switch {
		case isUndo:
			if last == "" && state[id] {
				last = id
			}
		case strings.HasPrefix(o.Label, sharefs.RedoLabel):
		case !redo && !state[o.ID], redo && o.ID == last:
			return o
		case redo && last == "":
			return nil
		}
	}
	return nil
}

// mine leaves out what others did, which root sees as well, and what other hosts did; with the name of one it is what that one did, and what was undone of that.
func mine(list []client.Operation, by string) []client.Operation {
	uid := uint32(os.Getuid())
	theirs := map[string]bool{}
	for i := range list {
		theirs[list[i].ID] = by != "" && list[i].Author != "" && (strings.EqualFold(list[i].By, by) || list[i].Author == by)
	}
	out := list[:0:0]
	for _, o := range list {
		_, undid, _ := strings.Cut(o.Label, " ")
		if o.UID == uid && (by == "" && o.Author == "" || theirs[o.ID] || theirs[undid]) {
			out = append(out, o)
		}
	}
	return out
}

func (a *app) runUndo(m *client.Mount, id string, style undoStyle) error {
	verb := "undo"
	if style.redo {
		verb = "redo"
	}
	list, err := m.Operations()
	if err != nil {
		return err
	}
	own := mine(list, style.by)
	if id == "" {
		o := choose(own, style.redo)
		if o == nil {
			if style.by != "" && len(own) == 0 {
				return &sharefs.Error{Op: verb, Kind: sharefs.KindNotExist, Detail: "no change of " + term.Quote(style.by) + " is known; sharefs op log lists what was done, and by whom"}
			}
			why := "there is nothing to " + verb + "; sharefs op log lists what was done"
			if style.redo && len(own) > 0 {
				why = "nothing was undone since something was changed last; sharefs redo OPERATION does an earlier one again, and sharefs op log lists them"
			}
			return &sharefs.Error{Op: verb, Kind: sharefs.KindNotExist, Detail: why}
		}
		id = o.ID
	} else if undone(list)[id] != style.redo && !style.force {
		why := "it is undone already; sharefs redo " + id + " does it again"
		if style.redo {
			why = "it is not undone"
		}
		if slices.ContainsFunc(list, func(o client.Operation) bool { return o.ID == id }) {
			return &sharefs.Error{Op: verb, Path: id, Kind: sharefs.KindExist, Detail: why}
		}
	}
	now, err := m.Now() // what was closed a moment ago counts
	if err != nil {
		return err
	}
	o, err := m.Operation(id)
	if err != nil {
		return err
	}
	from, to := o.After, o.ID
	if !o.Ended { // it is at work, or the daemon was killed meanwhile: what came next tells how far it got
		from = max(from, next(list, id, client.TimeText(now)))
	}
	if style.redo {
		from, to = to, from
	}
	u := undoing{a: a, m: m, o: o, verb: verb, style: style}
	if err := u.run(from, to); err != nil || a.json || a.exit != 0 || style.dry || style.redo || style.by == "" {
		return err
	}
	if n := left(own, id); n > 0 {
		return a.printf("Still there: %s that came from %s before. The same command takes back the last one; sharefs op log lists all.\n", term.Of(uint64(n), "operation"), term.Quote(style.by))
	}
	return nil
}

// left counts what is not undone of a list of operations but for one.
func left(list []client.Operation, but string) (n int) {
	state := undone(list)
	for i := range list {
		o := &list[i]
		if o.ID != but && !state[o.ID] && !strings.HasPrefix(o.Label, sharefs.UndoLabel) && !strings.HasPrefix(o.Label, sharefs.RedoLabel) {
			n++
		}
	}
	return n
}

// next returns the moment before the operation that came after one, or now where none did.
func next(list []client.Operation, id, now string) string {
	for i := range list {
		if list[i].ID > id {
			now = list[i].ID
		}
	}
	return now
}

// undoing takes the tree from one of the moments of an operation to the other, as far as the operation reaches.
type undoing struct {
	a     *app
	m     *client.Mount
	o     *client.Operation
	verb  string
	style undoStyle
}

func (u *undoing) run(from, to string) error {
	was, err := u.m.ViewDir(from)
	if err != nil {
		return u.tooOld(err)
	}
	past, err := u.m.ViewDir(to)
	if err != nil {
		return u.tooOld(err)
	}
	live, err := client.OpenDir(u.m.Point)
	if err != nil {
		return err
	}
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, live.Path); err == nil && strings.Trim(rel, "./") == "" {
			live.Given = rel // as the user sees it from within the mount
		}
	}
	ctx, stop := interruptible()
	defer stop()
	progress := term.NewProgress(os.Stderr)
	defer progress.End()
	reach, err := u.reach(ctx, was, past, progress)
	if err != nil {
		return err
	}
	if err := reach.addLinks(ctx, past.Reach); err != nil {
		return treeError(err, term.Quote(u.m.Point))
	}
	if !u.style.force {
		if err := u.conflicts(ctx, was, live, reach); err != nil {
			return err
		}
	}
	pastSide, liveSide := client.Sides(past, live)
	if err := u.strangers(ctx, pastSide, liveSide, reach); err != nil {
		return err
	}
	branch, err := u.switching()
	if err != nil {
		return err
	}
	if !u.style.dry {
		if err := branch.leave(u.a); err != nil {
			return err
		}
		if err := u.m.Begin(u.verb + " " + u.o.ID); err != nil {
			return err
		}
	}
	report, err := restore.Tree(ctx, pastSide, liveSide, restore.Options{
		DryRun: u.style.dry, Keep: client.Keep, Progress: progress.Show, Only: reach.only,
	})
	progress.End()
	interrupted := errors.Is(err, context.Canceled)
	if err != nil && (report == nil || !interrupted) {
		return treeError(err, term.Quote(u.m.Point))
	}
	if err := u.tell(report, live, reach, interrupted); err != nil || u.style.dry || interrupted || report.Failed() > 0 {
		return err
	}
	return branch.arrive(u.a)
}

// tooOld explains why a moment cannot be looked at any more.
func (u *undoing) tooOld(err error) error {
	if sharefs.KindOf(err) != sharefs.KindNotExist {
		return err
	}
	return &sharefs.Error{Op: u.verb, Path: u.o.ID, Kind: sharefs.KindNotExist,
		Detail: "the state of the files at that time is not kept any more; sharefs log FILE shows what is", Err: err}
}

// reach is how far an operation reaches: paths, and whether all below them is meant.
type reach struct {
	paths map[string]bool // true: with all that lies below
	above map[string]bool // directories on the way to them
	left  map[string]bool // what stays as it is: others were writing to it, so that nobody can tell what it held
	other map[string]bool // what others put into directories that it made, with all that is below
	all   bool            // all that changed meanwhile, for the changes of the operation are not all listed
}

func (r *reach) add(p string, below bool) {
	if p == "" {
		return
	}
	r.paths[p] = r.paths[p] || below
	for p != "." {
		p = path.Dir(p)
		r.above[p] = true
	}
}

// parts reports whether it takes in directories without all that they hold.
func (r *reach) parts() bool {
	for _, below := range r.paths {
		if !below {
			return true
		}
	}
	return len(r.left)+len(r.other) > 0
}

// only is [treediff.Options.Only].
func (r *reach) only(p string) (compared, below bool) {
	if r.left[p] || r.other[p] {
		return false, false
	}
	whole, named := r.paths[p]
	if named || r.above[p] {
		return named, whole || r.above[p]
	}
	for up := path.Dir(p); ; up = path.Dir(up) {
		if r.other[up] {
			return false, false
		}
		if r.paths[up] {
			return true, true
		}
		if up == "." {
			return false, false
		}
	}
}

// reach finds what the operation changed: as it is listed or, where not all is, by comparing the two moments.
func (u *undoing) reach(ctx context.Context, was, past *client.Dir, progress *term.Progress) (*reach, error) {
	r := &reach{paths: map[string]bool{}, above: map[string]bool{}, left: map[string]bool{}, other: map[string]bool{}}
	for i := range u.o.Changes {
		if c := &u.o.Changes[i]; c.Verb == unsureVerb && !u.style.force {
			before, after := c.Paths()
			for _, p := range [...]string{before, after} {
				if p != "" {
					r.left[p] = true
				}
			}
		}
	}
	listed := !u.o.Partly && (u.o.Ended || len(u.o.Changes) > 0)
	if !listed {
		r.all = true
		a, b := client.Sides(was, past)
		diff, err := treediff.Compare(ctx, a, b, treediff.Options{Renames: treediff.ByIdentity, Progress: func(n uint64) { progress.Show("comparing", n, 0, "entries") }})
		if err != nil {
			return nil, treeError(err, term.Quote(u.m.Point))
		}
		for _, c := range diff.Changes {
			r.add(c.Path, false)
			r.add(c.From, false)
		}
		return r, nil
	}
	moved := map[string]bool{}
	for i := range u.o.Changes {
		if c := &u.o.Changes[i]; c.Moved {
			before, _ := c.Paths()
			moved[before] = true
		}
	}
	for i := range u.o.Changes {
		c := &u.o.Changes[i]
		before, after := c.Paths()
		if c.Verb == othersVerb {
			r.other[after] = true
			continue
		}
		// What was made, removed or replaced is meant with all that it holds; what moved takes along what it holds.
		whole := c.Verb != "written" && c.Verb != "attributes" && c.Verb != unsureVerb && !c.Moved && !moved[before]
		r.add(before, whole)
		r.add(after, whole)
	}
	return r, nil
}

// addLinks adds the other names of files that are brought back and had several, so that they become links of each other again. It walks the
// whole tree only where there are such files.
func (r *reach) addLinks(ctx context.Context, root string) error {
	linked := map[uint64]bool{}
	walk := func(from string, see func(p string, st *unix.Stat_t)) error {
		return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
			var st unix.Stat_t
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil && d == nil, err == nil && d.IsDir(): // not there, or without hard links
				return nil
			case err != nil:
				return fs.SkipDir
			}
			if unix.Lstat(p, &st) == nil && st.Nlink > 1 {
				see(p, &st)
			}
			return nil
		})
	}
	for p, whole := range r.paths {
		from := filepath.Join(root, p)
		if info, err := os.Lstat(from); err != nil || info.IsDir() && !whole { // what it holds was there all the time
			continue
		}
		if err := walk(from, func(_ string, st *unix.Stat_t) { linked[st.Ino] = true }); err != nil {
			return err
		}
	}
	if len(linked) == 0 {
		return nil
	}
	var names []string
	err := walk(root, func(p string, st *unix.Stat_t) {
		if linked[st.Ino] {
			names = append(names, strings.TrimPrefix(p[len(root):], "/"))
		}
	})
	for _, p := range names {
		r.add(p, false)
	}
	return err
}

// maxConflicts is how many conflicts are named.
const maxConflicts = 10

// conflicts refuses where something was changed since that the operation had changed.
func (u *undoing) conflicts(ctx context.Context, was, live *client.Dir, r *reach) error {
	a, b := client.Sides(was, live)
	diff, err := treediff.Compare(ctx, a, b, treediff.Options{Renames: treediff.NoRenames, Only: r.only})
	if err != nil {
		return treeError(err, term.Quote(u.m.Point))
	}
	var names []string
	for i := range diff.Changes {
		c := &diff.Changes[i]
		if c.Op == treediff.Changed && c.What == treediff.Times && c.New.IsDir() {
			continue
		}
		names = append(names, c.Path)
	}
	if len(names) == 0 {
		return nil
	}
	done := "since " + u.what()
	if u.style.redo {
		done = "since that was undone"
	}
	return &sharefs.Error{Op: u.verb, Kind: sharefs.KindBusy,
		Detail: fmt.Sprintf("changed again %s: %s; nothing was done (--force does it all the same, and keeps what is there as versions)", done, some(names))}
}

// some names the first of some paths.
func some(paths []string) string {
	var names []string
	for _, p := range paths[:min(len(paths), maxConflicts)] {
		names = append(names, term.Quote(p))
	}
	text := strings.Join(names, ", ")
	if more := len(paths) - len(names); more > 0 {
		text += fmt.Sprintf(" and %s more", term.Count(uint64(more)))
	}
	return text
}

// strangers looks for what others put into directories that are to go. It is refused, or goes with them where that is forced.
func (u *undoing) strangers(ctx context.Context, past, live treediff.Side, r *reach) error {
	if !r.parts() {
		return nil
	}
	for {
		_, err := restore.Tree(ctx, past, live, restore.Options{DryRun: true, Only: r.only})
		var full *restore.Full
		switch {
		case err != nil && ctx.Err() != nil:
			return nil // whoever goes on is told as well
		case !errors.As(err, &full):
			return treeError(err, term.Quote(u.m.Point))
		case !u.style.force:
			return &sharefs.Error{Op: u.verb, Kind: sharefs.KindBusy, Detail: fmt.Sprintf("directories are to go in which there is what does not belong to %s: %s; nothing was done "+
				"(move it elsewhere before, or --force removes it with them, and keeps what is there as versions)", u.what(), some(full.Holds))}
		}
		for _, p := range full.Holds {
			if r.paths[p] {
				return &sharefs.Error{Op: u.verb, Path: term.Quote(p), Kind: sharefs.KindNotEmpty, Detail: "cannot be removed, nor the directory that it is in; nothing was done"}
			}
			delete(r.other, p)
			r.add(p, true)
		}
	}
}

// what is the operation in words.
func (u *undoing) what() string {
	if u.o.Author != "" {
		return "what came from " + term.Clean(u.o.By)
	}
	return term.Quote(term.Clean(u.o.Command))
}

// unsureVerb is that of a file that others had open for writing when the operation came to it.
const unsureVerb = "unsure"

// othersVerb is that of a name that another operation gave in a directory that this one had made a moment before.
const othersVerb = "others"

// tellLeft writes where what is done is not quite what the operation did.
func (u *undoing) tellLeft(r *reach) error {
	for _, p := range slices.Sorted(maps.Keys(r.left)) {
		if err := u.a.printf("left as it is: %s, which another program was writing to, so that no version has what it held; sharefs log shows those that are kept\n", term.Quote(p)); err != nil {
			return err
		}
	}
	if r.all {
		return u.a.printf("What it changed is not all listed, so that this is about all that changed meanwhile, also what others did.\n")
	}
	return nil
}

// tell writes what was done.
func (u *undoing) tell(report *restore.Report, live *client.Dir, reach *reach, interrupted bool) error {
	if report.Failed() > 0 || interrupted {
		u.a.exit = exitFailed
	}
	again := "redo"
	if u.style.redo {
		again = "undo"
	}
	again = "sharefs " + again + " " + u.o.ID
	r := &restored{dir: live, style: restoreStyle{dry: u.style.dry, verbose: u.style.verbose}, report: report, undo: again, interrupted: interrupted}
	if u.a.json {
		at := *live
		at.Time = u.o.Time()
		r.dir = &at
		return u.a.writeRestoreJSON(r)
	}
	if err := u.a.writeActions(r); err != nil {
		return err
	}
	if err := u.tellLeft(reach); err != nil {
		return err
	}
	what, n := u.what(), 0
	for i := range report.Actions {
		if report.Actions[i].Err == nil && told(&report.Actions[i]) {
			n++
		}
	}
	past := map[string]string{"undo": "Undone", "redo": "Done again"}[u.verb]
	switch {
	case report.Failed() > 0 && !interrupted:
		return u.a.printf("Not all could be done: %s, %s not. Run it again with --force to go on, or take it back: %s\n",
			term.Of(uint64(n), "change"), term.Count(uint64(report.Failed())), again)
	case n == 0 && report.Failed() == 0 && !interrupted:
		return u.a.printf("Nothing is to be done: all is as it was.\n")
	case u.style.dry:
		return u.a.printf("Would %s %s of %s: %s.\n", u.verb, what, term.Time(u.o.Time()), term.Of(uint64(n), "change"))
	case interrupted:
		return u.a.printf("Interrupted after %s; run it again with --force to go on.\n", term.Of(uint64(n), "change"))
	}
	return u.a.printf("%s: %s of %s, %s. To take that back: %s\n", past, what, term.Time(u.o.Time()), term.Of(uint64(n), "change"), again)
}
