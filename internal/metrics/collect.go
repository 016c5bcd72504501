package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sharefs/internal/status"
	"sharefs/peers/report"
)

// number is a metric of the mount.
type number struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*status.Status) float64
}

// ofPeer is a metric of each peer.
type ofPeer struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*report.Peer) float64
}

// Labels.
const (
	labelPeer    = "peer"
	labelLevel   = "level"
	labelOp      = "op"
	labelVersion = "version"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sharefs_"+name, help, labels, nil)
}

func gauge(name, help string, of func(*status.Status) float64) number {
	return number{desc(name, help), prometheus.GaugeValue, of}
}

func counter(name, help string, of func(*status.Status) float64) number {
	return number{desc(name, help), prometheus.CounterValue, of}
}

func peerGauge(name, help string, of func(*report.Peer) float64) ofPeer {
	return ofPeer{desc("peer_"+name, help, labelPeer), prometheus.GaugeValue, of}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// seconds is a time as Prometheus has it; 0: there is none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}

func millis(n int64) float64 { return float64(n) / 1000 }

var (
	build    = desc("build_info", "1, with the version of ShareFS.", labelVersion)
	requests = desc("fuse_requests_total", "Requests that the kernel sent to the daemon.", labelOp)
	level    = desc("peer_info", "1, with the highest level that the peer has anywhere.", labelPeer, labelLevel)
)

// numbers are those of every mount.
var numbers = []number{
	gauge("start_time_seconds", "When the mount began, since 1970.", func(s *status.Status) float64 { return seconds(s.Started) }),
	gauge("read_only", "Whether the mount is read-only.", func(s *status.Status) float64 { return one(s.Mount.ReadOnly) }),
	gauge("passthrough", "Whether reads and writes go to the disk without the daemon.", func(s *status.Status) float64 { return one(s.Content.Passthrough) }),
	gauge("problems", "Problems that somebody should see to; status names them.", func(s *status.Status) float64 { return float64(len(s.Problems)) }),

	gauge("disk_size_bytes", "Size of the disk below the store.", func(s *status.Status) float64 { return float64(s.Space.TotalBytes) }),
	gauge("disk_available_bytes", "What is available on the disk below the store.", func(s *status.Status) float64 { return float64(s.Space.AvailableBytes) }),
	gauge("disk_reserve_missing_bytes", "Of what is kept back for making room, what was given up because the disk is full.", func(s *status.Status) float64 { return float64(s.Space.ReserveMissing) }),

	gauge("open_files", "Files that programs have open.", func(s *status.Status) float64 { return float64(s.Now.OpenFiles) }),
	gauge("open_writers", "Files that programs have open for writing.", func(s *status.Status) float64 { return float64(s.Now.OpenWriters) }),
	gauge("settling_files", "Closed files that wait for their quiet time.", func(s *status.Status) float64 { return float64(s.Now.Settling) }),
	gauge("cached_inodes", "Inodes in the cache of the daemon.", func(s *status.Status) float64 { return float64(s.Now.CachedInodes) }),
	gauge("kernel_inodes", "Inodes that the kernel knows.", func(s *status.Status) float64 { return float64(s.Now.KernelInodes) }),

	counter("journal_commits_total", "Changes that were committed.", func(s *status.Status) float64 { return float64(s.Journal.Commits) }),
	counter("journal_syncs_total", "Syncs of the journal.", func(s *status.Status) float64 { return float64(s.Journal.Syncs) }),
	counter("journal_waits_total", "Changes that had to wait because the database was behind.", func(s *status.Status) float64 { return float64(s.Journal.Waits) }),
	gauge("journal_unsynced_commits", "Changes that a loss of power would take.", func(s *status.Status) float64 { return float64(s.Journal.UnsyncedNow) }),
	gauge("journal_unsynced_seconds", "Age of the oldest change that a loss of power would take.", func(s *status.Status) float64 { return millis(s.Journal.UnsyncedMS) }),
	gauge("journal_unapplied_commits", "Changes in the journal that are not in the database yet.", func(s *status.Status) float64 { return float64(s.Journal.UnappliedNow) }),
	gauge("journal_bytes", "Size of the journal that holds those.", func(s *status.Status) float64 { return float64(s.Journal.JournalBytes) }),
	gauge("database_bytes", "Size of the database.", func(s *status.Status) float64 { return float64(s.Journal.DatabaseBytes) }),

	gauge("capture_queue_versions", "Versions that wait to be captured; at most 1000 are counted.", func(s *status.Status) float64 { return float64(s.Capture.QueueNow) }),
	gauge("capture_queue_bytes", "Size of the versions that wait to be captured.", func(s *status.Status) float64 { return float64(s.Capture.QueueBytes) }),
	gauge("capture_queue_seconds", "For how long versions have been waiting to be captured.", func(s *status.Status) float64 { return millis(s.Capture.QueueAgeMS) }),
	counter("capture_versions_total", "Versions that were captured.", func(s *status.Status) float64 { return float64(s.Capture.Captured) }),
	counter("capture_read_bytes_total", "Content that was read to be captured.", func(s *status.Status) float64 { return float64(s.Capture.PlainBytes) }),
	counter("capture_new_bytes_total", "Of that, what no pack held yet.", func(s *status.Status) float64 { return float64(s.Capture.NewBytes) }),
	counter("capture_stored_bytes_total", "What that takes in packs, compressed and sealed.", func(s *status.Status) float64 { return float64(s.Capture.StoredBytes) }),
	counter("capture_lost_versions_total", "Versions that were lost: the content could not be read, or changed at once with no room for a copy.",
		func(s *status.Status) float64 { return float64(s.Capture.Lost + s.Capture.TooLarge) }),

	gauge("checkpoint_uncopied_commits", "Changes that are not in the checkpoint yet.", func(s *status.Status) float64 { return float64(s.Checkpoint.UncopiedNow) }),
	gauge("checkpoint_bytes", "Size of the checkpoint with the changes since.", func(s *status.Status) float64 { return float64(s.Checkpoint.Bytes) }),
	gauge("retention_last_run_time_seconds", "When history was thinned last, since 1970; 0: not since the mount.", func(s *status.Status) float64 { return seconds(s.Retention.LastRun) }),
	gauge("retention_last_removed_versions", "Versions that went when history was thinned last.", func(s *status.Status) float64 { return float64(s.Retention.LastRemoved) }),
	counter("scrub_packs_total", "Packs that were read back in the background.", func(s *status.Status) float64 { return float64(s.Scrub.Packs) }),
	counter("scrub_read_bytes_total", "Size of these packs.", func(s *status.Status) float64 { return float64(s.Scrub.Bytes) }),
	counter("scrub_bad_records_total", "Records that versions need and that did not read back.", func(s *status.Status) float64 { return float64(s.Scrub.BadRecords) }),

	gauge("share_keys", "Share keys of the store.", func(s *status.Status) float64 { return float64(s.Keys.Known) }),
	gauge("share_key_epoch", "Epoch of the share key in use.", func(s *status.Status) float64 { return float64(s.Keys.Epoch) }),
	gauge("share_key_epochs_due", "Peers that may know the share key in use and are not to know the next one.", func(s *status.Status) float64 { return float64(s.Keys.Due) }),
}

// ofRoom are those of a store with a budget, or with something pinned.
var ofRoom = []number{
	gauge("room_budget_bytes", "What content may take on this host; 0: there is no budget.", func(s *status.Status) float64 { return float64(s.Room.Budget) }),
	gauge("room_used_bytes", "What content takes of the budget: files and packs.", func(s *status.Status) float64 { return float64(s.Room.Used) }),
	gauge("room_freeable_bytes", "Of that, files that are neither pinned nor in use.", func(s *status.Status) float64 { return float64(s.Room.Freeable) }),
	gauge("room_pinned_bytes", "Size of the files that are pinned.", func(s *status.Status) float64 { return float64(s.Room.Pinned) }),
	gauge("room_pinned_files", "Files that are pinned.", func(s *status.Status) float64 { return float64(s.Room.PinnedFiles) }),
	gauge("room_pinned_missing_bytes", "What is pinned and not here.", func(s *status.Status) float64 { return float64(s.Room.Lacking) }),
	gauge("room_pinned_missing_files", "Pinned files that are not all here.", func(s *status.Status) float64 { return float64(s.Room.LackingFiles) }),
	gauge("room_absent_bytes", "What is not here by choice, and comes when it is read.", func(s *status.Status) float64 { return float64(s.Room.Absent) }),
	gauge("room_absent_files", "Files that are not all here by choice.", func(s *status.Status) float64 { return float64(s.Room.AbsentFiles) }),
}

// ofBucket are those of a store that has a bucket.
var ofBucket = []number{
	gauge("bucket_files", "Files that the bucket holds whole.", func(s *status.Status) float64 { return float64(s.Tier.Files) }),
	gauge("bucket_bytes", "Size of the files that the bucket holds.", func(s *status.Status) float64 { return float64(s.Tier.Bytes) }),
	gauge("bucket_backlog_files", "Files that the bucket lacks.", func(s *status.Status) float64 { return float64(s.Tier.BacklogFiles) }),
	gauge("bucket_backlog_bytes", "Size of the files that the bucket lacks.", func(s *status.Status) float64 { return float64(s.Tier.BacklogBytes) }),
	gauge("bucket_behind_since_time_seconds", "Since when the bucket lacks something, since 1970; 0: it lacks nothing.", func(s *status.Status) float64 { return seconds(s.Tier.BehindSince) }),
	gauge("bucket_complete_time_seconds", "As of when the store is in the bucket, since 1970; 0: not known yet.", func(s *status.Status) float64 { return seconds(s.Tier.Complete) }),
	gauge("bucket_refused", "Whether the bucket refuses what is sent, so that somebody has to see to it.", func(s *status.Status) float64 { return one(s.Tier.Refused) }),
	counter("bucket_sent_bytes_total", "What was sent to the bucket.", func(s *status.Status) float64 { return float64(s.Tier.SentBytes) }),
	gauge("bucket_local_packs", "Packs that are on this disk.", func(s *status.Status) float64 { return float64(s.Tier.Cache.LocalPacks) }),
	gauge("bucket_remote_packs", "Packs that the bucket alone has.", func(s *status.Status) float64 { return float64(s.Tier.Cache.RemotePacks) }),
	gauge("bucket_cache_bytes", "What is kept on this disk of packs that the bucket alone has.", func(s *status.Status) float64 { return float64(s.Tier.Cache.CacheBytes) }),
	counter("bucket_fetches_total", "Reads from the bucket.", func(s *status.Status) float64 { return float64(s.Tier.Cache.Fetches) }),
	counter("bucket_fetched_bytes_total", "What was read from the bucket.", func(s *status.Status) float64 { return float64(s.Tier.Cache.FetchedBytes) }),
	counter("bucket_cache_hit_bytes_total", "What was read from this disk of packs that the bucket alone has.", func(s *status.Status) float64 { return float64(s.Tier.Cache.HitBytes) }),
}

// ofPeers are those of a store that was paired.
var ofPeers = []number{
	gauge("peers", "Hosts that the store is paired with.", func(s *status.Status) float64 { return float64(s.Peers.Known) }),
	gauge("peers_connected", "Hosts that are connected.", func(s *status.Status) float64 { return float64(s.Peers.Connected) }),
}

// ofSync are those of a store of which files travel.
var ofSync = []number{
	gauge("sync_changes", "Changes of here and of peers that are known.", func(s *status.Status) float64 { return float64(s.Peers.Sync.Changes) }),
	gauge("sync_missing_contents", "Files whose newest content is still elsewhere.", func(s *status.Status) float64 { return float64(s.Peers.Sync.Contents) }),
	gauge("sync_missing_bytes", "Size of the contents that are still elsewhere.", func(s *status.Status) float64 { return float64(s.Peers.Sync.Bytes) }),
	gauge("sync_fetching_contents", "Contents that are being fetched.", func(s *status.Status) float64 { return float64(s.Peers.Sync.Fetching) }),
	gauge("sync_coming_files", "Files of which content comes, for whatever reason.", func(s *status.Status) float64 { return float64(s.Peers.Sync.Receiving) }),
	gauge("sync_coming_bytes_per_second", "Rate at which it comes.", func(s *status.Status) float64 { return s.Peers.Sync.Rate }),
	gauge("sync_waiting_names", "Names at which the tree is not yet as peers say.", func(s *status.Status) float64 { return float64(s.Peers.Sync.Names) }),
	gauge("sync_conflicts", "Names of which several versions wait for a choice.", func(s *status.Status) float64 { return float64(s.Peers.Sync.Conflicts) }),
	gauge("sync_held_removals", "Removals in bulk by peers that wait for the owner.", func(s *status.Status) float64 { return float64(s.Peers.Sync.Held) }),
	gauge("sync_troubles", "Reasons for which files do not travel as they should; sync.json names them.", func(s *status.Status) float64 { return float64(len(s.Peers.Sync.Troubles)) }),
}

// everyPeer are those of each peer.
var everyPeer = []ofPeer{
	peerGauge("connected", "Whether the peer is connected.", func(p *report.Peer) float64 { return one(p.Connected) }),
	peerGauge("last_seen_time_seconds", "When the peer was connected last, since 1970; 0: never.", func(p *report.Peer) float64 { return seconds(p.Seen) }),
	peerGauge("rtt_seconds", "Round trip to the peer; 0: it is not connected.", func(p *report.Peer) float64 { return p.RTTMS / 1000 }),
}

// everySharing are those of each peer that files travel to and from.
var everySharing = []ofPeer{
	peerGauge("sends", "Whether the peer is sent what changes here.", func(p *report.Peer) float64 { return one(p.Files.Sends) }),
	peerGauge("receives", "Whether what the peer has is taken here.", func(p *report.Peer) float64 { return one(p.Files.Receives) }),
	peerGauge("lacks_changes", "Changes of here that the peer does not have yet; while it is not connected none are known.", func(p *report.Peer) float64 { return float64(p.Files.Lacks) }),
	peerGauge("waiting", "Whether the peer has changes that have not come yet.", func(p *report.Peer) float64 { return one(p.Files.Waiting) }),
	peerGauge("held_removals", "Removals in bulk by the peer that wait for the owner.", func(p *report.Peer) float64 { return float64(p.Files.Held) }),
	peerGauge("left_out_until_time_seconds", "Until when nothing is taken of the peer, for it sent what cannot be, since 1970; 0: it is not left out.",
		func(p *report.Peer) float64 { return seconds(p.Files.LeftOut) }),
	peerGauge("receive_rate_bytes_per_second", "Rate at which content comes from the peer; 0: none lately.", func(p *report.Peer) float64 { return p.Files.Rate }),
	{desc("peer_sent_bytes_total", "Content that the peer was sent.", labelPeer), prometheus.CounterValue, func(p *report.Peer) float64 { return float64(p.Files.Sent) }},
	{desc("peer_received_bytes_total", "Content that came from the peer.", labelPeer), prometheus.CounterValue, func(p *report.Peer) float64 { return float64(p.Files.Received) }},
}

// everyBackup are those of each peer that is to keep the past of this host.
var everyBackup = []ofPeer{
	peerGauge("backup_bytes", "Size of what the peer has of which the store could be made anew.", func(p *report.Peer) float64 { return float64(p.Backup.Bytes) }),
	peerGauge("backup_backlog_bytes", "What the peer lacks of the past of this host.", func(p *report.Peer) float64 { return float64(p.Backup.BacklogBytes) }),
	peerGauge("backup_behind_since_time_seconds", "Since when the peer lacks something of it, since 1970; 0: it lacks nothing.", func(p *report.Peer) float64 { return seconds(p.Backup.Behind) }),
	peerGauge("backup_complete_time_seconds", "As of when the peer has all of it, since 1970; 0: not known yet.", func(p *report.Peer) float64 { return seconds(p.Backup.Complete) }),
	peerGauge("backup_used_bytes", "What it takes there of the quota.", func(p *report.Peer) float64 { return float64(p.Backup.Used) }),
	peerGauge("backup_quota_bytes", "How much the peer keeps for this host.", func(p *report.Peer) float64 { return float64(p.Backup.Quota) }),
	peerGauge("backup_full", "Whether the peer has no room for what it lacks.", func(p *report.Peer) float64 { return one(p.Backup.Full != nil) }),
	peerGauge("backup_without_quota", "Whether the peer takes nothing, for no quota is set there for this host.", func(p *report.Peer) float64 { return one(p.Backup.Allow != "") }),
}

// everyKept are those of each peer whose past is kept here.
var everyKept = []ofPeer{
	peerGauge("keeps_bytes", "What is kept here of the past of the peer.", func(p *report.Peer) float64 { return float64(p.Keeps.Bytes) }),
	peerGauge("keeps_quota_bytes", "How much is kept here for the peer at most; 0: nothing more is taken.", func(p *report.Peer) float64 { return float64(p.Keeps.Quota) }),
	peerGauge("keeps_damaged_files", "Files of it that do not read back.", func(p *report.Peer) float64 { return float64(p.Keeps.Damaged) }),
	peerGauge("keeps_full", "Whether there is no room here for what the peer has to give.", func(p *report.Peer) float64 { return one(p.Keeps.Full != nil) }),
}

// collector takes a look whenever somebody asks.
type collector struct{ from Source }

// Describe implements [prometheus.Collector].
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	to <- build
	to <- requests
	to <- level
	for _, list := range [][]number{numbers, ofRoom, ofBucket, ofPeers, ofSync} {
		for i := range list {
			to <- list[i].desc
		}
	}
	for _, list := range [][]ofPeer{everyPeer, everySharing, everyBackup, everyKept} {
		for i := range list {
			to <- list[i].desc
		}
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := c.from.Status()
	say := func(list []number) {
		for i := range list {
			to <- prometheus.MustNewConstMetric(list[i].desc, list[i].kind, list[i].of(s))
		}
	}
	to <- prometheus.MustNewConstMetric(build, prometheus.GaugeValue, 1, s.Version)
	for op, n := range s.Requests {
		to <- prometheus.MustNewConstMetric(requests, prometheus.CounterValue, float64(n), op)
	}
	say(numbers)
	if s.Room != nil {
		say(ofRoom)
	}
	if s.Tier != nil {
		say(ofBucket)
	}
	if s.Peers == nil {
		return
	}
	say(ofPeers)
	if s.Peers.Sync != nil {
		say(ofSync)
	}
	for i := range s.Peers.All {
		p := &s.Peers.All[i]
		tell := func(list []ofPeer) {
			for i := range list {
				to <- prometheus.MustNewConstMetric(list[i].desc, list[i].kind, list[i].of(p), p.Name)
			}
		}
		to <- prometheus.MustNewConstMetric(level, prometheus.GaugeValue, 1, p.Name, p.Level)
		tell(everyPeer)
		if p.Files != nil {
			tell(everySharing)
		}
		if p.Backup != nil {
			tell(everyBackup)
		}
		if p.Keeps != nil {
			tell(everyKept)
		}
	}
}
