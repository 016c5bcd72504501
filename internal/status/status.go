// Package status is what a mount tells of itself: as data in .share/ctl/status.json, as text in .share/ctl/status. The fields' names
// carry their units; counts are since the mount began, unless the name says "now".
package status

import (
	"time"

	"sharefs/peers/report"
)

// Status is status.json.
type Status struct {
	Version string    `json:"version"` // of ShareFS
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Mount   Mount     `json:"mount"`
	Content Content   `json:"content"`
	Now     Now       `json:"now"`
	Journal Journal   `json:"journal"`
	Capture Capture   `json:"capture"`

	Checkpoint Checkpoint `json:"checkpoint"`
	Retention  Retention  `json:"retention"`
	Scrub      Scrub      `json:"scrub"`
	Tier       *Tier      `json:"tier,omitempty"` // none: the store has no bucket
	Keys       Keys       `json:"keys"`
	Peers      *Peers     `json:"peers,omitempty"` // none: nobody was ever paired
	Space      Space      `json:"space"`
	Room       *Room      `json:"room,omitempty"` // none: the store cannot be written

	// Requests that the kernel sent to the daemon since the mount began, by opcode.
	Requests map[string]uint64 `json:"requests_since_mount"`

	// Problems are what somebody should see to; empty when all is well.
	Problems []string `json:"problems"`
}

// Mount says what is mounted where.
type Mount struct {
	Point         string `json:"point"`
	Source        string `json:"source"`
	Store         string `json:"store"` // directory
	ReadOnly      bool   `json:"read_only"`
	StoreReadOnly bool   `json:"store_read_only"` // the disk below the store cannot be written
	Peer          string `json:"peer"`            // public key of this store's identity, hexadecimal
	Atime         string `json:"atime"`
	SettleMS      int64  `json:"settle_ms"`
}

// Peers sums up the other hosts that the store is paired with.
type Peers struct {
	Known     int    `json:"known"`
	Connected int    `json:"connected_now"`
	Listening string `json:"listening,omitempty"` // where this host is reached; empty: nowhere
	Error     string `json:"error,omitempty"`     // why it cannot be
	// Sync tells how far this host and its peers are with what they write; none: there is no such thing.
	Sync *report.Sync `json:"sync,omitempty"`
	// All is each of them, for who may see peers.
	All []report.Peer `json:"all,omitempty"`
	// Backups are what is wrong with those that peers keep; empty when all is well, or a peer is away for less than a day.
	Backups []string `json:"backup_troubles,omitempty"`
}

// Keys sums up the share keys of the store.
type Keys struct {
	Known  int    `json:"known"`                // of all shares and epochs
	Shares int    `json:"shares"`               // that they are of
	Share  string `json:"share"`                // id of the one in use, hexadecimal
	Epoch  uint32 `json:"epoch"`                // in use
	Due    uint64 `json:"epochs_due,omitempty"` // peers that may know the key in use and are not to know the next one
}

// Content says how the content of live files reaches programs.
type Content struct {
	Passthrough bool   `json:"passthrough"`
	Reason      string `json:"reason"` // why not; empty with passthrough
	KillPriv    bool   `json:"kill_priv"`
	SelfTest    Test   `json:"self_test"`
}

// Test is what the self-test found (package selftest).
type Test struct {
	State  string `json:"state"` // running, passed, failed, "not run"
	Detail string `json:"detail"`
	Writes uint64 `json:"daemon_writes"`
	Xattrs uint64 `json:"daemon_getxattrs"`
}

// Now is what is held at this moment.
type Now struct {
	CachedInodes  int    `json:"cached_inodes"`
	CachedNames   int    `json:"cached_names"`
	KernelInodes  int    `json:"kernel_inodes"` // that the kernel knows
	OpenFiles     int    `json:"open_files"`
	BackingIDs    int    `json:"backing_ids"`    // files registered with the kernel for passthrough
	OpenWriters   int    `json:"open_writers"`   // files that somebody has open for writing
	Settling      int    `json:"settling"`       // closed files that wait for their quiet time
	Lingering     int    `json:"lingering"`      // files that a mapping or a program of an earlier mount still holds
	Marked        int64  `json:"marked"`         // files that a start after a crash would look at
	Removing      int    `json:"removing"`       // removed files that are open or not yet cleared away
	RemovingBytes uint64 `json:"removing_bytes"` // that those hold which nobody has open
	ResidentBytes uint64 `json:"resident_bytes"` // memory of the daemon
}

// Journal is the write-ahead log and the database behind it.
type Journal struct {
	Commits       uint64 `json:"commits_since_mount"`
	Syncs         uint64 `json:"syncs_since_mount"`
	Waits         uint64 `json:"waits_since_mount"`     // changes that had to wait because the database was behind
	UnsyncedNow   uint64 `json:"unsynced_commits_now"`  // a power loss would take them
	UnsyncedMS    int64  `json:"unsynced_ms_now"`       // age of the oldest of those
	UnappliedNow  uint64 `json:"unapplied_commits_now"` // in the journal, not yet in the database
	JournalBytes  int64  `json:"journal_bytes_now"`     // that hold those
	MemtableBytes int64  `json:"memtable_bytes_now"`
	DatabaseBytes int64  `json:"database_bytes_now"`
	Error         string `json:"error,omitempty"`
}

// Capture is the making of versions.
type Capture struct {
	QueueNow   int    `json:"queue_now"` // versions that are still to be captured; counted up to 1000
	QueueBytes uint64 `json:"queue_bytes_now"`
	QueueAgeMS int64  `json:"queue_age_ms_now"` // how long the queue has not been empty

	Begun       uint64 `json:"begun_since_mount"`
	Captured    uint64 `json:"captured_since_mount"`
	PlainBytes  uint64 `json:"plain_bytes_since_mount"`  // of the captured versions, as far as they were read
	NewBytes    uint64 `json:"new_bytes_since_mount"`    // of those, what no pack held yet
	StoredBytes uint64 `json:"stored_bytes_since_mount"` // what those take in packs, compressed and sealed
	ReusedBytes uint64 `json:"reused_bytes_since_mount"` // of large files, taken over from the version before
	ByRanges    uint64 `json:"by_ranges_since_mount"`    // versions of large files, by what told where they changed
	ByExtents   uint64 `json:"by_extents_since_mount"`
	ByNames     uint64 `json:"by_names_since_mount"`
	References  int    `json:"references_now"`        // clones that tell where large files change
	RefBytes    int64  `json:"reference_bytes_now"`   // what they could take on the disk at most
	Timed       uint64 `json:"timed_since_mount"`     // taken while a program still had the file open
	Unchanged   uint64 `json:"unchanged_since_mount"` // closed with the content of the version before: none was made
	Joined      uint64 `json:"joined_since_mount"`    // closed and opened for writing again within the settle time: one version
	Dropped     uint64 `json:"dropped_since_mount"`   // removed or replaced within the settle time: none
	SetAside    uint64 `json:"set_aside_since_mount"` // changed again before they were captured, and kept
	TooLarge    uint64 `json:"too_large_since_mount"` // changed again before they were captured, and no room for a copy
	Lost        uint64 `json:"lost_since_mount"`
	Error       string `json:"error,omitempty"`
}

// Checkpoint is what the database can be made anew from.
type Checkpoint struct {
	Generation   uint64 `json:"generation"`           // of the newest complete export; 0: there is none yet
	Rows         uint64 `json:"rows"`                 // in it
	Bytes        int64  `json:"bytes"`                // that it takes with the changes since
	UncopiedNow  uint64 `json:"uncopied_commits_now"` // synced in the journal and not yet in it
	ExportingNow uint64 `json:"exporting_rows_now"`   // written of the next one
	Incomplete   bool   `json:"incomplete,omitempty"` // changes are missing in it; the next one will have them
	Error        string `json:"error,omitempty"`
}

// Tier is the bucket that keeps a second copy of the store.
type Tier struct {
	URL          string    `json:"url"`
	Files        int       `json:"files"` // that the bucket holds whole
	Bytes        int64     `json:"bytes"`
	Complete     time.Time `json:"complete,omitzero"` // as of when the store is in it; zero: not known yet since the mount
	BacklogFiles int       `json:"backlog_files_now"` // that it lacks
	BacklogBytes int64     `json:"backlog_bytes_now"`
	BehindSince  time.Time `json:"behind_since,omitzero"` // zero: it lacks nothing
	SentBytes    uint64    `json:"sent_bytes_since_mount"`
	Refused      bool      `json:"refused,omitempty"` // somebody has to see to it
	Error        string    `json:"error,omitempty"`
	Cache        Cache     `json:"cache"`
}

// Cache is what of the packs is on this disk.
type Cache struct {
	BudgetBytes     int64     `json:"budget_bytes"` // 0: not bounded
	HeldBytes       int64     `json:"held_bytes"`   // that count in it
	LocalPacks      int       `json:"local_packs"`  // sealed ones that are here, as far as they were looked at since the mount
	RemotePacks     int       `json:"remote_packs"` // that the bucket alone has
	RemoteBytes     int64     `json:"remote_bytes"` // in those
	CacheBytes      int64     `json:"cache_bytes"`  // on this disk, of those
	HitBytes        uint64    `json:"hit_bytes_since_mount"`
	FetchedBytes    uint64    `json:"fetched_bytes_since_mount"`
	Fetches         uint64    `json:"fetches_since_mount"`
	LeftPacks       uint64    `json:"packs_that_left_since_mount"`
	OutOfReachSince time.Time `json:"out_of_reach_since,omitzero"` // what is there alone cannot be read
	Error           string    `json:"error,omitempty"`
}

// Retention is what history is kept, and what came of the last time that it was thinned.
type Retention struct {
	Since       time.Time `json:"since,omitzero"` // every moment from here on is kept; zero: all of them
	Moments     int       `json:"moments"`        // that are kept before it
	LastRun     time.Time `json:"last_run,omitzero"`
	LastRemoved uint64    `json:"last_removed_versions"`
	RunningNow  bool      `json:"running_now"`
	Error       string    `json:"error,omitempty"` // of the last run
}

// Scrub is the reading back of all packs in the background.
type Scrub struct {
	PassBegan  time.Time `json:"pass_began,omitzero"` // the present pass over all packs
	Next       time.Time `json:"next,omitzero"`       // when the next pack is due
	Packs      uint64    `json:"packs"`               // read since the mount
	Bytes      uint64    `json:"bytes"`               // in them
	BadRecords uint64    `json:"bad_records"`         // that versions need and that did not read
	LastBad    string    `json:"last_bad_pack,omitempty"`
}

// MakeRoom says how to leave a full disk.
const MakeRoom = "remove what is not needed; what was removed is kept as history, of which sharefs retain --quota SIZE keeps no more than that, " +
	"and sharefs gc gives the space back"

// LowSpace is with how many bytes left a disk of so many counts as nearly full: at most as told, of a small disk an eighth.
func LowSpace(total, most uint64) uint64 { return min(total/8, most) }

// Space is the disk below the store.
type Space struct {
	TotalBytes     uint64 `json:"total_bytes"`
	AvailableBytes uint64 `json:"available_bytes"`
	ReserveBytes   uint64 `json:"reserve_bytes"`         // kept back for making room when the disk is full
	ReserveMissing uint64 `json:"reserve_missing_bytes"` // of them: given up because it is
}
