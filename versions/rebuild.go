package versions

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/kv"
	"sharefs/versions/pack"
)

// RebuildOptions says what a rebuild may do.
type RebuildOptions struct {
	// Force rebuilds although meta.db reads whole. What it holds and the checkpoint does not is then in no row any more.
	Force bool
	// Bare makes do without a checkpoint: names and history are lost, and the content of the live files is found under numbers in lost+found.
	Bare bool
	// Recovered says that packs and checkpoint come from the store's bucket: there are no live files but those that an interrupted rebuild has brought back,
	// a meta.db is what that has made, with which it goes on, and the identity is another one.
	Recovered bool
}

// RebuildReport tells what a rebuild did.
type RebuildReport struct {
	Generation uint64      `json:"generation"` // the export that was read; 0: none
	Rows       uint64      `json:"rows"`       // that were written
	Commits    uint64      `json:"commits"`    // that were added to the export
	Journal    uint64      `json:"journal"`    // of those, the ones that only the journal had
	Chunks     uint64      `json:"chunks"`     // found in packs
	Packs      int         `json:"packs"`
	Files      uint64      `json:"files"`     // live regular files
	Marked     uint64      `json:"marked"`    // of those, the ones that the next mount looks at, for their content is newer than their row
	UpTo       sharefs.HLC `json:"up_to"`     // the last instant that is there whole
	SetAside   []string    `json:"set_aside"` // files that were renamed
	Notes      []string    `json:"notes"`     // what may be missing and cannot be told
	Lost       []string    `json:"lost"`      // what is missing, by name where that is known
	LostMore   int         `json:"lost_more"` // and so many more
	Elsewhere  NotHere     `json:"elsewhere"` // of a store that was recovered: files that no pack has whole
	Found      uint64      `json:"found"`     // files whose names are lost; they are in lost+found
	Problems   []string    `json:"problems"`  // that a check found afterwards
	Seconds    float64     `json:"seconds"`
}

// maxLost bounds what a report names.
const maxLost = 200

func (r *RebuildReport) lose(format string, args ...any) {
	if len(r.Lost) >= maxLost {
		r.LostMore++
		return
	}
	r.Lost = append(r.Lost, fmt.Sprintf(format, args...))
}

// Text returns the report for a person.
func (r *RebuildReport) Text() string {
	var b strings.Builder
	if r.Generation > 0 {
		fmt.Fprintf(&b, "meta.db was made anew from checkpoint %d and %d changes", r.Generation, r.Commits)
	} else {
		fmt.Fprintf(&b, "meta.db was made anew from %d changes", r.Commits)
	}
	if r.Journal > 0 {
		fmt.Fprintf(&b, " (%d of them from the journal)", r.Journal)
	}
	fmt.Fprintf(&b, ", in %.1f s.\n", r.Seconds)
	if r.UpTo > 0 {
		fmt.Fprintf(&b, "It goes up to %s.\n", r.UpTo.Time().Format("2006-01-02 15:04:05"))
	}
	fmt.Fprintf(&b, "%s, %s, %s in %s.\n", plural(uint64(r.Rows), "row", "rows"), plural(uint64(r.Files), "file", "files"),
		plural(uint64(r.Chunks), "chunk", "chunks"), plural(uint64(r.Packs), "pack", "packs"))
	if r.Marked > 0 {
		fmt.Fprintf(&b, "%d files have changed since; the next mount makes versions of them.\n", r.Marked)
	}
	if r.Found > 0 {
		fmt.Fprintf(&b, "%d files whose names are lost are in lost+found.\n", r.Found)
	}
	for _, s := range r.SetAside {
		fmt.Fprintf(&b, "Set aside: %s\n", s)
	}
	for _, s := range r.Notes {
		fmt.Fprintf(&b, "Note: %s\n", s)
	}
	if len(r.Lost) == 0 && len(r.Notes) == 0 {
		b.WriteString("Nothing is missing.\n")
	}
	b.WriteString(r.Losses())
	return b.String()
}

// Whole reports whether nothing is known to be missing or wrong.
func (r *RebuildReport) Whole() bool { return len(r.Lost) == 0 && len(r.Problems) == 0 }

// Losses returns the lines of the text about what is missing or wrong.
func (r *RebuildReport) Losses() string {
	var b strings.Builder
	for _, s := range r.Lost {
		fmt.Fprintf(&b, "Lost: %s\n", s)
	}
	if r.LostMore > 0 {
		fmt.Fprintf(&b, "Lost: and %d more\n", r.LostMore)
	}
	for _, s := range r.Problems {
		fmt.Fprintf(&b, "Problem: %s\n", s)
	}
	return b.String()
}

// rebuildDir is where a new meta.db is made, in the store.
const rebuildDir = "rebuild"

// Rebuild makes the meta.db of a store anew that is gone or damaged, from checkpoints/, what there is of journal/, packs/ and live/. Nobody may have
// the store; whoever calls holds its lock. It goes through these stages, and may be interrupted in each and called again:
//
//  1. read the newest complete export into a new meta.db, rebuild/meta.db
//  2. add the changes since it began, from the archive and then from the journal
//  3. find the chunks in the packs
//  4. compare the live files with their rows, and mark those that have changed since
//  5. sync it, set the old meta.db aside under another name, and put the new one in its place
//  6. open the tree: it takes in live files whose rows are lost, and is checked (rebuild_finish.go)
//
// What cannot be had back is named in the report. Errors: KindExist: meta.db reads whole and nothing says that changes are missing in it;
// KindNotExist: there is no checkpoint; KindBusy: somebody has the store open.
func Rebuild(ctx context.Context, cfg Config, opts RebuildOptions, progress func(Progress)) (RebuildReport, error) {
	began := time.Now()
	b := &rebuilder{ctx: ctx, cfg: cfg, opts: opts, tell: progress}
	if b.tell == nil {
		b.tell = func(Progress) {}
	}
	if b.cfg.Clock == nil {
		b.cfg.Clock = new(sharefs.Clock)
	}
	err := b.run()
	b.report.Seconds = time.Since(began).Seconds()
	return b.report, err
}

// rebuilder is a rebuild at work.
type rebuilder struct {
	ctx    context.Context
	cfg    Config
	opts   RebuildOptions
	tell   func(Progress)
	report RebuildReport

	rows, changes *pack.Store
	out           *kv.Builder
	live          *liveDir
	highest       uint64 // number of a commit that anything tells of
	told          time.Time
	failpoint     func(name string) error // in tests
}

func (b *rebuilder) run() (err error) {
	ro := b.cfg
	ro.ReadOnly = true
	disk := b.cfg.Checkpoints
	if disk == nil {
		disk = checkpointDirs(b.cfg.Dir, true)
	}
	if b.rows, b.changes, err = openCheckpoints(disk, ro, newKeys(&ro)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.rows.Close(), b.changes.Close()) }()
	for _, s := range []*pack.Store{b.rows, b.changes} {
		if err := b.hasKeys(s); err != nil {
			return err
		}
	}
	if b.live, err = openLive(b.cfg.Dir, false); err != nil {
		return err
	}
	defer b.live.close()
	if b.opts.Recovered {
		if _, err := kv.Verify(b.cfg.Dir); err == nil {
			return b.open()
		}
	} else if err := b.mayBegin(); err != nil {
		return err
	}
	dir := filepath.Join(b.cfg.Dir, rebuildDir)
	if err := os.RemoveAll(dir); err != nil { // of a rebuild that was interrupted
		return failed("rebuild", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return failed("rebuild", err)
	}
	if b.out, err = kv.NewBuilder(kv.Config{Dir: dir, Spaces: spaceDefs(), Clock: b.cfg.Clock}); err != nil {
		return err
	}
	defer b.out.Close()
	for _, stage := range []func() error{b.readExport, b.readChanges, b.readJournal, b.checkBase, b.findChunks, b.findAside, b.findLive, b.swap, b.open} {
		if err := b.ctx.Err(); err != nil {
			return failed("rebuild", err)
		}
		if err := stage(); err != nil {
			return err
		}
	}
	return nil
}

// say tells of progress, at most four times a second unless a stage begins.
func (b *rebuilder) say(p Progress) error {
	if p.Done == 0 || time.Since(b.told) > time.Second/4 {
		b.told = time.Now()
		b.tell(p)
		if err := b.ctx.Err(); err != nil {
			return failed("rebuild", err)
		}
	}
	return b.fail(p.Stage)
}

func (b *rebuilder) fail(name string) error {
	if b.failpoint == nil {
		return nil
	}
	return b.failpoint(name)
}

// hasKeys refuses a share.key that lacks the key of a pack which is whole: what the pack holds would be taken for lost, and go with the next collection.
// Whoever gives up history, or forces a rebuild, has no such key.
func (b *rebuilder) hasKeys(packs *pack.Store) error {
	if b.opts.Bare || b.opts.Force {
		return nil
	}
	ids, err := packs.Packs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := packs.EpochOf(id); errors.Is(err, pack.ErrNoKey) {
			return &sharefs.Error{Op: "rebuild", Path: filepath.Join(b.cfg.Dir, "share.key"), Kind: sharefs.KindAccess, Detail: fmt.Sprintf(
				"it lacks the share key of pack %v: put a newer one back from share.key.copy or a backup; --force goes on without what such packs hold, which is lost then", id)}
		}
	}
	return nil
}

// mayBegin refuses where meta.db is whole: then it holds more than anything that could be put in its place.
func (b *rebuilder) mayBegin() error {
	const op = "rebuild"
	b.tell(Progress{Stage: "look at meta.db"})
	applied, err := kv.Verify(b.cfg.Dir)
	if sharefs.KindOf(err) == sharefs.KindBusy {
		return err
	}
	b.highest = applied
	if err != nil || b.opts.Force {
		return nil
	}
	last := applied
	damage, err := kv.ScanJournal(b.cfg.Dir, b.cfg.Journal, nil, func(seq uint64, _ sharefs.HLC, _ []byte) error {
		if seq == last+1 {
			last = seq
		}
		return nil
	})
	if err != nil {
		return err
	}
	list, err := readChangeList(b.changes)
	if err != nil {
		return err
	}
	archived := uint64(0)
	for _, r := range list {
		archived = max(archived, r.b)
	}
	if archived > last || len(damage) > 0 || applied == 0 {
		return nil
	}
	return &sharefs.Error{Op: op, Path: filepath.Join(b.cfg.Dir, "meta.db"), Kind: sharefs.KindExist,
		Detail: "it reads whole, and nothing is missing in it: there is nothing to rebuild (--force does it nevertheless)"}
}

// checkBase sees that there is a tree in what was read. What changes alone tell, without those before them, is none.
func (b *rebuilder) checkBase() error {
	r := &b.report
	_, r.UpTo = b.out.Open()
	if r.Generation == 0 && (r.Commits == 0 || len(r.Lost) > 0) {
		if !b.opts.Bare {
			return &sharefs.Error{Op: "rebuild", Path: b.cfg.Dir, Kind: sharefs.KindNotExist, Detail: "checkpoints/ holds no checkpoint of this store, and packs and live files " +
				"do not tell names: put checkpoints/ back from a copy, or give up names and history (--bare) and find the live files under numbers in lost+found"}
		}
		r.lose("names, attributes and history, but for what the last changes tell: there was no checkpoint")
	}
	return b.makeBase()
}

// makeBase makes what no tree can be without, where it is missing.
func (b *rebuilder) makeBase() error {
	view, err := b.out.View()
	if err != nil {
		return err
	}
	var batch kv.Batch
	if _, ok, err := view.Get(spaceGlobal, globalHashKey); err != nil {
		return err
	} else if !ok {
		key := make([]byte, 16)
		randomBytes(key)
		batch.Put(spaceGlobal, globalHashKey, key)
	}
	if _, ok, err := view.Get(spaceInode, inoKey(sharefs.RootIno)); err != nil {
		return err
	} else if !ok {
		now := sharefs.Time(time.Now().UnixNano())
		root := &row{
			ino: sharefs.RootIno, mode: sharefs.ModeDir | 0o755, nlink: 2, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()),
			atime: now, mtime: now, ctime: now, btime: now, parent: sharefs.RootIno,
		}
		batch.Put(spaceInode, inoKey(root.ino), root.encode())
	}
	lost := batch.Len() > 0
	if b.opts.Recovered { // the next identity is taken for granted
		old, ok, err := view.Get(spaceGlobal, globalKeys)
		if err != nil {
			return err
		}
		if row, whole := decodeKeysRow(old); ok && whole { // whose order version rows go by
			row.check, row.peer = keyCheck(b.cfg.ring().First().Secret), sharefs.PeerID{}
			batch.Put(spaceGlobal, globalKeys, row.encode())
		}
	}
	if batch.Len() == 0 {
		return nil
	}
	if lost && len(b.report.Lost) == 0 {
		b.report.lose("the root directory's own row")
	}
	return b.out.Commit(&batch)
}

// skipped is how many numbers of commits are left out behind the highest one that anything tells of: what the old meta.db had beyond it
// may have been given out.
const skipped = 1 << 20

// swap finishes the new meta.db and puts it in the place of the old one, which keeps another name.
func (b *rebuilder) swap() error {
	const op = "rebuild"
	b.report.Rows = b.out.Rows()
	if err := b.say(Progress{Stage: "sync meta.db"}); err != nil {
		return err
	}
	if err := b.out.Finish(max(b.highest, b.out.Last()) + skipped); err != nil {
		return err
	}
	if err := b.fail("finished"); err != nil {
		return err
	}
	if b.cfg.Journal == nil {
		// meta.db without it would be taken for one that never came to be.
		if err := os.Mkdir(filepath.Join(b.cfg.Dir, "journal"), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return failed(op, err)
		}
	}
	old := filepath.Join(b.cfg.Dir, "meta.db")
	if err := b.setAside("meta.db"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return failed(op, err)
	}
	if err := b.fail("set aside"); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(b.cfg.Dir, rebuildDir, "meta.db"), old); err != nil {
		return failed(op, err)
	}
	if err := b.fail("renamed"); err != nil {
		return err
	}
	if err := pack.Dir(b.cfg.Dir).SyncDir("."); err != nil {
		return failed(op, err)
	}
	return failed(op, os.RemoveAll(filepath.Join(b.cfg.Dir, rebuildDir)))
}

// lostDir takes what a rebuild has in its way, in the store.
const lostDir = "lost"

// setAside moves a file of the store to lost/, under a name that tells when.
func (b *rebuilder) setAside(name string) error {
	from := filepath.Join(b.cfg.Dir, name)
	if _, err := os.Lstat(from); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(b.cfg.Dir, lostDir), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	to := filepath.Join(b.cfg.Dir, lostDir, filepath.Base(name)+"-"+time.Now().UTC().Format("20060102T150405.000Z"))
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // a filesystem that cannot say NOREPLACE
		err = os.Rename(from, to)
	}
	if err == nil {
		b.report.SetAside = append(b.report.SetAside, to)
	}
	return err
}

// open opens the tree, which does the rest, and checks it.
func (b *rebuilder) open() error {
	if err := b.say(Progress{Stage: "open and check the tree"}); err != nil {
		return err
	}
	cfg := b.cfg
	cfg.ReadOnly, cfg.byHand, cfg.tell = false, true, b.say
	t, err := Open(cfg)
	if err != nil {
		return err
	}
	f := t.checkpoint.rebuilt
	b.report.Found = f.found
	for _, s := range f.lost {
		b.report.lose("%s", s)
	}
	b.report.LostMore += f.lostMore
	if b.opts.Recovered {
		if b.report.Elsewhere, err = t.elsewhereOnly(); err != nil {
			return errors.Join(err, t.Close())
		}
	}
	problems, err := t.Check()
	for i, p := range problems {
		if i == maxLost {
			b.report.Problems = append(b.report.Problems, fmt.Sprintf("and %d more", len(problems)-i))
			break
		}
		b.report.Problems = append(b.report.Problems, p.String())
	}
	return errors.Join(err, t.Close())
}
