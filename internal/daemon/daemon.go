// Package daemon puts the parts of a mount together. Start reads as the way of the data: a place to mount at, a store, the tree in it,
// the FUSE edge before it; Wait and what follows take them apart in the opposite order, so that everything acknowledged is saved.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/fs"
	"sharefs/internal/build"
	"sharefs/internal/jobs"
	"sharefs/internal/logfile"
	"sharefs/internal/mountinfo"
	"sharefs/internal/mountopt"
	"sharefs/internal/mountpoint"
	"sharefs/internal/selftest"
	"sharefs/internal/store"
	"sharefs/internal/term"
	"sharefs/versions"
	"sharefs/versions/tier"
	"sharefs/versions/tier/near"
)

// Config is what a user asks for.
type Config struct {
	Point   string // where to mount
	Source  string // name or path of the store; empty: the default one
	Options *mountopt.Options
	// Foreground leaves the log on the standard error stream; otherwise it goes into the store.
	Foreground bool
	// Waiting is told why it takes so long; may be nil.
	Waiting func(*store.LockedError)
}

// Patience with others, all of them long, for a loaded machine is slow.
const (
	storePatience    = time.Minute      // until a daemon that ends has saved
	selfTestPatience = 30 * time.Second // until the self-test must have answered
	selfTestHeadway  = 2 * time.Second  // that Start waits for its result
	programsPatience = 5 * time.Second  // until programs have closed their files after a request to end
)

// Daemon is one mount at work.
type Daemon struct {
	Warnings []string // what the user should know although it works

	point   string
	mount   atomic.Pointer[mountinfo.Mount] // as the table has it; nil where it was not found there
	source  string
	options *mountopt.Options
	settle  time.Duration
	atime   atomic.Value // mountopt.Atime
	started time.Time
	log     *slog.Logger
	logFile *logfile.File

	store *store.Store
	tree  *versions.Tree
	edge  *fs.Server
	jobs  jobs.Runner
	peers peers
	// travel has files travel between this host and its peers, once one of them may have any.
	travel travel
	// vaults have peers keep the past, sealed, and keep that of others.
	vaults vaults
	// space keeps what is here within its budget.
	space space

	telling telling
	mounts  mountinfo.Watch

	packs     *near.FS       // where packs lie, in the bucket those that have left the disk
	bucket    tier.Bucket    // nil: the store has none, or none that can be used
	tier      *tier.Uploader // nil: likewise
	tierError string         // why not, although it should have

	test     atomic.Pointer[selftest.Result]
	testing  sync.WaitGroup
	stopOnce sync.Once
	stopNow  chan struct{} // closed by the second Stop
	stops    atomic.Int32
}

// Start mounts, and returns once the mount can be used; the end of the context ends its waiting for others. It is the one place that names
// every part.
func Start(ctx context.Context, c Config) (*Daemon, error) {
	unix.Umask(0)
	runtime.GOMAXPROCS(max(2, runtime.NumCPU())) // one reader of /dev/fuse polls; others must get on meanwhile
	keepHeap()
	d := &Daemon{options: c.Options, started: time.Now(), stopNow: make(chan struct{})}
	d.travel.d, d.vaults.d = d, d
	d.test.Store(&selftest.Result{State: selftest.Running, Detail: "not finished yet"})
	if err := d.start(ctx, c); err != nil {
		d.abandon()
		return nil, err
	}
	return d, nil
}

// start does it step by step; the mount itself is the last that can fail.
func (d *Daemon) start(ctx context.Context, c Config) error {
	if err := checkDevice(); err != nil {
		return err
	}
	dir, err := d.chooseStore(c)
	if err != nil {
		return err
	}
	if err := d.choosePoint(c.Point, dir); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	if d.store, err = store.OpenWait(wait, dir, func(h store.Holder) bool { return d.unmounted(dir, h) }, c.Waiting); err != nil {
		return besides(err, c.Options.View)
	}
	sealed, err := d.store.Unlock(c.Options.Passphrase)
	if err != nil {
		return err
	}
	if sealed {
		d.warn("the identity of the store is sealed from now on: each mount of it needs the passphrase")
	}
	if err := d.openLog(c.Foreground); err != nil {
		return err
	}
	if err := d.openPacks(); err != nil {
		return d.explain(err)
	}
	tree := d.treeConfig()
	tree.Packs = d.packs
	if d.tree, err = versions.Open(tree); err != nil {
		return d.explain(err)
	}
	edge, err := d.edgeConfig()
	if err != nil {
		return err
	}
	d.startSpace()
	d.startPeers() // before anybody can ask for them
	if d.edge, err = fs.Mount(edge); err != nil {
		return err
	}
	if table, err := mountinfo.Read(); err == nil {
		if m := mountinfo.At(table, d.point); m != nil && m.Type == mountinfo.Type {
			d.mount.Store(m)
		}
	}
	d.tree.SetKernel(d.edge)
	d.edge.Serve()
	d.startTier()
	d.travel.rulesChanged()
	d.startMetrics()
	d.vaults.rulesChanged()
	d.store.Say(store.Mounted, d.point)
	d.log.Info("mounted", "point", d.point, "store", d.store.Dir, "version", build.Version, "pid", os.Getpid(), "passthrough", d.edge.Stats().Passthrough)
	d.startSelfTest()
	return nil
}

// checkDevice sees that this machine has FUSE at all, before a store is made.
func checkDevice() error {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return &sharefs.Error{Op: "mount", Kind: sharefs.KindNoDevice,
			Detail: "there is no /dev/fuse: run modprobe fuse as root, or give the container --device /dev/fuse"}
	}
	if os.Geteuid() == 0 {
		return nil
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return &sharefs.Error{Op: "mount", Kind: sharefs.KindNoDevice, Detail: "ordinary users need the program fusermount3: apt install fuse3"}
	}
	return nil
}

// besides tells whoever wants the past of a store that is mounted where it is to be seen.
func besides(err error, view string) error {
	var held *store.LockedError
	when, past := strings.CutPrefix(view, mountopt.ViewAt)
	if !past || !errors.As(err, &held) || held.Holder.State != store.Mounted {
		return err
	}
	return fmt.Errorf("%w; or look at %s, where the same is to be seen", err, term.Quote(filepath.Join(held.Holder.Mount, ".share/at", when)))
}

// chooseStore says which directory is the store.
func (d *Daemon) chooseStore(c Config) (dir string, err error) {
	name := c.Source
	if c.Options.Store != "" {
		name = c.Options.Store
	}
	d.source = c.Options.Source
	if d.source == "" {
		d.source = c.Source
	}
	if c.Options.Store != "" {
		if dir, err = absolute(name); err != nil {
			return "", err
		}
	} else if dir, err = store.Resolve(name); err != nil {
		return "", err
	}
	if d.source == "" && c.Options.Store != "" {
		d.source = dir
	} else if d.source == "" {
		d.source = store.DefaultName
	}
	return dir, nil
}

// choosePoint sees that the mount can go where it shall, and not where it would bite its own tail.
func (d *Daemon) choosePoint(point, dir string) error {
	path, replaced, err := mountpoint.Prepare(mountpoint.Request{
		Path: point, NonEmpty: d.options.NonEmpty, Root: os.Geteuid() == 0,
		Ended: func(m *mountinfo.Mount) bool { return ended(m, dir) },
	})
	if err != nil {
		return err
	}
	d.point = path
	if replaced {
		d.warn("the mount of a daemon that had ended was taken away from " + term.Quote(path))
	}
	real := realStore(dir)
	switch {
	case mountinfo.Inside(real, path):
		return &sharefs.Error{Op: "mount point", Path: term.Quote(path), Kind: sharefs.KindInvalid,
			Detail: "the store " + term.Quote(dir) + " lies in it, and the mount would hide it: choose another place for one of them"}
	case mountinfo.Inside(path, real):
		return &sharefs.Error{Op: "mount point", Path: term.Quote(path), Kind: sharefs.KindInvalid,
			Detail: "it lies in the store " + term.Quote(dir) + ": choose another place"}
	}
	if table, err := mountinfo.Read(); err == nil {
		if m := mountinfo.Holding(table, real); m != nil && m.Type == mountinfo.Type {
			d.warn("the store " + term.Quote(dir) + " lies in another ShareFS (" + term.Quote(m.Point) +
				"): everything is kept twice, and content goes through both daemons")
		}
	}
	return nil
}

func (d *Daemon) warn(text string) { d.Warnings = append(d.Warnings, text) }

// openLog sends the log to its place.
func (d *Daemon) openLog(foreground bool) (err error) {
	level := slog.LevelInfo
	if d.options.Debug {
		level = slog.LevelDebug
	}
	switch {
	case foreground:
		d.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	case d.store.ReadOnly:
		d.log = slog.New(slog.DiscardHandler) // there is no place for it
	default:
		if d.logFile, err = logfile.Open(LogPath(d.store.Dir), logfile.DefaultLimit, true); err != nil {
			return err
		}
		d.log = d.logFile.Logger(level)
	}
	for _, w := range d.Warnings {
		d.log.Warn(w)
	}
	if d.store.New {
		d.log.Info("a new store was made", "dir", d.store.Dir)
	}
	return nil
}

func (d *Daemon) treeConfig() versions.Config {
	c := d.store.Config
	d.settle = time.Duration(c.Versions.Settle)
	if d.options.Settle != nil {
		d.settle = *d.options.Settle
	}
	atime := c.Mount.Atime
	if d.options.Atime != "" {
		atime = d.options.Atime
	}
	d.atime.Store(atime)
	policy := c.Retention.Policy()
	return versions.Config{
		Dir: d.store.Dir, Keys: d.store.Keys.Ring, KeepKeys: d.store.KeepKeys, Peer: d.store.Keys.Peer(), Settle: d.settle, Pause: time.Duration(c.Versions.Pause), Timed: timedEvery, Scrub: scrubEvery, Atime: treeAtime(atime),
		ReadOnly: d.store.ReadOnly, Log: d.log.With("part", "versions"), MaxDelay: time.Duration(c.Journal.MaxDelay), ArchiveDelay: time.Duration(c.Journal.CopyDelay),
		Retention: &policy, RetainEvery: retainEvery, Reserve: reserveMost, Hold: d.hold,
	}
}

// reserveMost is how much of the disk is kept back at most, in bytes, so that a full one can be left from inside: a transaction of the database that
// touches as many pages as it may takes some 16 MiB, and a pack that is made shorter is copied.
const reserveMost = 64 << 20

// retainEvery is how often history is thinned in the background.
const retainEvery = 24 * time.Hour

// timedEvery is how often a file that stays open, or mapped, gets a version all the same.
const timedEvery = 10 * time.Minute

// scrubEvery is in which time all packs are read back in the background.
const scrubEvery = 30 * 24 * time.Hour

func treeAtime(a mountopt.Atime) versions.Atime {
	switch a {
	case mountopt.NoAtime:
		return versions.Noatime
	case mountopt.StrictAtime:
		return versions.Strictatime
	}
	return versions.Relatime
}

func (d *Daemon) edgeConfig() (fs.Config, error) {
	options, err := d.options.Kernel(os.Geteuid() == 0)
	if err != nil {
		return fs.Config{}, err
	}
	way := d.store.Config.Mount.Passthrough
	if d.options.Passthrough != "" {
		way = d.options.Passthrough
	}
	return fs.Config{
		Tree: d.tree, Mountpoint: d.point, Source: d.source, ReadOnly: d.store.ReadOnly || mountopt.Is(d.options.ReadOnly, false),
		AllowOther: d.options.AllowOther, Options: options, Passthrough: way != mountopt.PassthroughOff,
		BackingDir: d.store.Dir + "/live", View: d.options.View, Ctl: d.ctlFiles(), CtlDirs: []fs.CtlDir{d.peersDir()},
		Hierarchies: d.travel.hierarchies(), Side: d.travel.sideOf, PeerName: d.peerNamed, Reserved: reservedMoment, Free: d.space.freeOne, Promised: d.space.promised, Unpromised: d.space.refusedBy, Bring: d.space.bringOne, Log: d.log.With("part", "fs"),
	}, nil
}

// explain gives the user of a store that does not open the way out.
func (d *Daemon) explain(err error) error {
	switch sharefs.KindOf(err) {
	case sharefs.KindNoSpace:
		return &sharefs.Error{Op: "open store", Path: d.store.Dir, Kind: sharefs.KindNoSpace,
			Detail: "the disk below it is full: free some space and mount again", Err: err}
	case sharefs.KindReadOnly:
		return &sharefs.Error{Op: "open store", Path: d.store.Dir, Kind: sharefs.KindReadOnly, Detail: "the disk below it is read-only", Err: err}
	}
	return err
}

// startSelfTest runs the self-test beside the mount, and waits a little so that whoever mounted finds its result.
func (d *Daemon) startSelfTest() {
	finished := make(chan struct{})
	d.testing.Go(func() {
		defer close(finished)
		r := selftest.Run(d.point, d.edge.Stats().Passthrough, func() selftest.Counters { return d.edge.Stats().Requests }, selfTestPatience)
		d.test.Store(&r)
		level := slog.LevelInfo
		if r.State == selftest.Failed {
			level = slog.LevelWarn
		}
		d.log.Log(context.Background(), level, "self-test", "state", r.State, "detail", r.Detail)
	})
	select {
	case <-finished:
	case <-time.After(selfTestHeadway):
	case <-d.edge.Done():
	}
}

// abandon takes apart what Start had put together when it failed.
func (d *Daemon) abandon() {
	defer d.mounts.Close()
	d.telling.server.Close()
	d.vaults.end()
	d.space.end()
	d.travel.end()
	d.stopPeers()
	if d.tree != nil {
		_ = d.tree.Close()
	}
	d.closePacks()
	if d.store != nil {
		_ = d.store.Close()
	}
}

// Wait returns when the mount is gone, by whomever, and everything is saved.
func (d *Daemon) Wait() error {
	d.edge.Wait()
	d.store.Say(store.Ending, d.point)
	d.log.Info("unmounted, saving")
	d.telling.server.Close()
	d.testing.Wait()
	d.jobs.Close()
	d.stopTier()
	d.vaults.end()
	d.space.end()
	d.travel.end()
	d.stopPeers()
	err := d.tree.Close()
	d.closePacks()
	d.mounts.Close()
	if err != nil {
		d.log.Error("not all could be saved", "error", err)
	} else {
		d.log.Info("saved")
	}
	if err2 := d.store.Close(); err == nil {
		err = err2
	}
	return err
}

// unmounted reports whether the mount of a store's holder is gone, so that the holder is about to end. That of one who was killed is taken away.
func (d *Daemon) unmounted(dir string, h store.Holder) bool {
	table, err := mountinfo.Read()
	if err != nil {
		return false
	}
	m := mountinfo.At(table, h.Mount)
	switch {
	case m == nil || m.Type != mountinfo.Type:
		return true
	case !shows(m, dir) || !store.Killed(h) || mountpoint.TakeAway(h.Mount, m, os.Geteuid() == 0) != nil:
		return false
	}
	d.warn("the mount of a daemon that was killed was taken away from " + term.Quote(h.Mount))
	return true
}

// shows reports whether a mount is that of the store in dir.
func shows(m *mountinfo.Mount, dir string) bool {
	other, err := store.Resolve(m.Source)
	return err == nil && (other == dir || m.Source == dir)
}

// ended reports whether the daemon behind a mount, which does not answer, is known to have ended: it is the mount of the store in dir,
// and nobody has that store, or who has it was killed and ends as soon as the mount is taken away.
func ended(m *mountinfo.Mount, dir string) bool {
	if !shows(m, dir) {
		return false
	}
	h, held, err := store.HolderOf(dir)
	return err == nil && (!held || store.Killed(h))
}

// Point is where the mount is, absolute and free of symbolic links.
func (d *Daemon) Point() string { return d.point }
