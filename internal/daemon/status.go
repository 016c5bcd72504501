package daemon

import (
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/internal/build"
	"sharefs/internal/mountinfo"
	"sharefs/internal/mountopt"
	"sharefs/internal/selftest"
	"sharefs/internal/status"
	"sharefs/internal/term"
)

// status gathers what the parts tell. It touches the store's disk and the table of mounts, never the mount.
func (d *Daemon) status() *status.Status { return d.statusWith(false) }

// wholeStatus is it with all that who may see peers is told of them. Nobody is asked for it whether he is still there.
func (d *Daemon) wholeStatus() *status.Status { return d.statusWith(true) }

func (d *Daemon) statusWith(peers bool) *status.Status {
	edge, tree, past := d.edge.Stats(), d.tree.Stats(), d.tree.HistoryStats()
	checkpoint := d.tree.CheckpointStats()
	thinned := d.tree.RetainStatus()
	peer := d.store.Keys.Peer()
	test := d.test.Load()
	s := &status.Status{
		Version: build.Version, PID: os.Getpid(), Started: d.started,
		Mount: status.Mount{
			Point: d.point, Source: d.source, Store: d.store.Dir, ReadOnly: d.readOnly(), StoreReadOnly: d.store.ReadOnly,
			Peer: hex.EncodeToString(peer[:]), Atime: string(d.atime.Load().(mountopt.Atime)), SettleMS: d.settle.Milliseconds(),
		},
		Content: status.Content{
			Passthrough: edge.Passthrough, Reason: edge.Reason, KillPriv: edge.KillPriv,
			SelfTest: status.Test{State: string(test.State), Detail: test.Detail, Writes: test.Writes, Xattrs: test.Xattrs},
		},
		Now: status.Now{
			CachedInodes: tree.InodesCached, CachedNames: tree.NamesCached, KernelInodes: tree.InodesHeld, OpenFiles: edge.OpenHandles,
			BackingIDs: edge.BackingIDs, OpenWriters: tree.Writers.Held, Settling: tree.Writers.Settling + tree.EventsWaiting,
			Lingering: tree.Writers.Lingering, Marked: tree.Marked, Removing: tree.Orphans, RemovingBytes: tree.OrphanBytes, ResidentBytes: resident(),
		},
		Journal: status.Journal{
			Commits: tree.KV.Commits, Syncs: tree.KV.Syncs, Waits: tree.KV.Waits, UnsyncedNow: tree.KV.Seq - tree.KV.Synced,
			UnsyncedMS: tree.KV.UnsyncedMs, UnappliedNow: tree.KV.LagCommits, JournalBytes: tree.KV.LagBytes,
			MemtableBytes: tree.KV.MemtableBytes, DatabaseBytes: tree.KV.MetaBytes, Error: tree.KV.LastError,
		},
		Capture: status.Capture{
			QueueNow: past.Queue, QueueBytes: past.QueueBytes, QueueAgeMS: past.OldestMS, Begun: past.Settled, Captured: past.Captured,
			PlainBytes: past.CapturedBytes, NewBytes: past.FreshBytes, StoredBytes: past.Packs.SealedBytes, Timed: past.Timed, Unchanged: past.Same,
			Joined: past.Joined, Dropped: past.Dropped, SetAside: past.Moved + past.Copied + past.Cloned, TooLarge: past.TooLarge, Lost: past.Lost,
			ReusedBytes: past.ReusedBytes, ByRanges: past.ByRanges, ByExtents: past.ByExtents, ByNames: past.ByNames,
			References: past.References, RefBytes: past.RefBytes, Error: past.LastError,
		},
		Scrub: status.Scrub{
			PassBegan: past.Scrub.Pass, Next: past.Scrub.Next, Packs: past.Scrub.Packs, Bytes: past.Scrub.Bytes,
			BadRecords: past.Scrub.Bad, LastBad: past.Scrub.LastBad,
		},
		Retention: status.Retention{
			Since: thinned.Since, Moments: thinned.Instants, LastRun: thinned.Ended, RunningNow: thinned.Running, Error: thinned.Error,
		},
		Checkpoint: status.Checkpoint{
			Generation: checkpoint.Generation, Rows: checkpoint.Rows, Bytes: checkpoint.ExportBytes + checkpoint.ArchiveBytes,
			UncopiedNow: checkpoint.LagCommits, ExportingNow: checkpoint.Exporting, Incomplete: checkpoint.Broken, Error: checkpoint.LastError,
		},
		Tier:     d.tierStatus(),
		Keys:     d.keysStatus(),
		Peers:    d.peersStatus(peers),
		Room:     d.space.figures(),
		Requests: edge.Requests,
		Problems: []string{},
	}
	if thinned.Report != nil {
		s.Retention.LastRemoved = thinned.Report.Removed
	}
	var disk unix.Statfs_t
	if unix.Statfs(d.store.Dir, &disk) == nil {
		s.Space.TotalBytes, s.Space.AvailableBytes = disk.Blocks*uint64(disk.Bsize), disk.Bavail*uint64(disk.Bsize)
	}
	s.Space.ReserveBytes, s.Space.ReserveMissing = d.tree.Reserve()
	s.Problems = append(s.Problems, problems(s, tree.Writers.LastWatchError, past.LastLost)...)
	if why := d.telling.why.Load(); why != nil {
		s.Problems = append(s.Problems, *why)
	}
	return s
}

// lowSpace is when a large disk counts as nearly full: what a pack, the journal and the database may need at once, in bytes.
const lowSpace = 256 << 20

// problems says what somebody should see to; watch is why files cannot be watched, lost the file of which a version was lost last.
func problems(s *status.Status, watch, lost string) []string {
	var list []string
	add := func(bad bool, text string) {
		if bad {
			list = append(list, text)
		}
	}
	add(s.Journal.Error != "", "changes cannot be saved: "+s.Journal.Error)
	add(s.Capture.Error != "", "versions cannot be captured: "+s.Capture.Error)
	add(s.Checkpoint.Error != "", "the checkpoint, from which the database could be made anew, does not get on: "+s.Checkpoint.Error)
	if s.Tier != nil {
		add(s.Tier.Error != "", "the bucket does not get on: "+s.Tier.Error)
		c := &s.Tier.Cache
		add(!c.OutOfReachSince.IsZero(), term.Of(uint64(c.RemotePacks), "pack")+" of old versions cannot be read, for the bucket "+s.Tier.URL+" has not answered since "+
			term.Time(c.OutOfReachSince)+": "+c.Error)
	}
	if s.Peers != nil {
		add(s.Peers.Error != "", "peers cannot be reached: "+s.Peers.Error)
		for _, why := range s.Peers.Backups {
			add(true, why)
		}
		if s.Peers.Sync != nil {
			for _, why := range s.Peers.Sync.Troubles {
				add(true, "files do not travel as they should: "+why)
			}
			for i := range s.Peers.Sync.LeftOut {
				l := &s.Peers.Sync.LeftOut[i]
				add(l.Stranger(), l.Text())
			}
			for i := range s.Peers.Sync.Overruns {
				add(true, s.Peers.Sync.Overruns[i].Text())
			}
			add(s.Peers.Sync.Held > 0, "peers have removed or renamed much at once, and "+term.Count(uint64(s.Peers.Sync.Held))+" of that wait for your yes or no: sharefs held")
		}
	}
	if s.Room != nil {
		why := s.Room.Problem(time.Now())
		add(why != "", why)
		why = s.Room.Forlorn()
		add(why != "", why)
		why = s.Room.InVain()
		add(why != "", why)
	}
	if r := s.Room; r != nil && r.Why[whyNoRoom] > 0 {
		add(true, term.Of(uint64(r.Why[whyNoRoom]), "pinned file")+" cannot come: "+r.In(r.Pinned)+" are pinned, history takes "+r.In(r.Packs)+", and the budget is "+r.In(r.Budget)+
			": raise [space] budget in share.toml, unpin something, or keep less history (sharefs retain --quota SIZE)")
	}
	add(s.Keys.Due > 0, "the share key in use may be known to "+term.Of(s.Keys.Due, "peer")+" whose trust has ended, and another could not be made: the log tells why, and the next mount tries again")
	add(s.Retention.Error != "", "history could not be thinned: "+s.Retention.Error)
	add(s.Scrub.LastBad != "", "pack "+s.Scrub.LastBad+" does not read back ("+term.Of(s.Scrub.BadRecords, "record")+" that versions need since the mount): sharefs fsck tells what is concerned")
	last := "; the last was of " + term.Quote(lost)
	add(s.Capture.Lost > 0, strconv.FormatUint(s.Capture.Lost, 10)+
		" versions were lost since the mount: their content could not be read when they were captured"+last)
	add(s.Capture.TooLarge > 0, strconv.FormatUint(s.Capture.TooLarge, 10)+
		" versions were lost since the mount: their files were changed again at once, and the disk had no room for a copy"+last)
	add(s.Content.SelfTest.State == string(selftest.Failed), "self-test: "+s.Content.SelfTest.Detail)
	switch {
	case s.Space.ReserveMissing > 0:
		add(true, "the disk below the store is full, and new files are refused: "+status.MakeRoom)
	case s.Space.AvailableBytes < status.LowSpace(s.Space.TotalBytes, lowSpace):
		add(true, "the disk below the store is nearly full: "+term.Size(s.Space.AvailableBytes)+" left; "+status.MakeRoom)
	}
	add(watch != "", "files that stay mapped cannot all be watched: "+watch)
	return list
}

// readOnly asks the table of mounts, for a remount goes past the daemon.
func (d *Daemon) readOnly() bool {
	if table, err := d.mounts.Table(); err == nil {
		if m := mountinfo.At(table, d.point); m != nil {
			return m.ReadOnly()
		}
	}
	return d.store.ReadOnly || mountopt.Is(d.options.ReadOnly, false)
}

// resident is the memory that the daemon has in use, in bytes (proc_pid_statm(5), second field).
func resident() uint64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(fields[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}
