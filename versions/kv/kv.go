package kv

import (
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"sharefs"
	"sharefs/versions/kv/journal"
)

// SpaceDef defines a space. Numbers and names never change once a store has been opened with them; spaces may be added.
type SpaceDef struct {
	ID        uint8 // 255 is taken
	Name      string
	Versioned bool
}

// Config says how to open a [DB]. Only Dir and Spaces must be set.
type Config struct {
	Dir    string // the store: holds meta.db and journal/; it must exist
	Spaces []SpaceDef
	Clock  *sharefs.Clock // stamps the epochs; Open makes it follow all stamps in the store
	// MaxDelay is how long a commit may wait for its sync when nobody asks for one; 0 means [DefaultMaxDelay].
	MaxDelay time.Duration
	// FS is what the journal lives on; nil means the directory "journal" in Dir.
	FS journal.FS
	// ReadOnly opens for reading alone and changes nothing on disk. It fails while somebody has the store open for
	// writing.
	ReadOnly bool
	// MemtableSize is how much memory a table may take before it is frozen and applied, in bytes; there are at most two.
	// 0 means [DefaultMemtableSize].
	MemtableSize int
	// Archive keeps each segment of the journal until [DB.Archived] says that what is in it has been copied elsewhere ([DB.Changes]).
	// Copied is the number of the last commit that was copied in an earlier life. Applied, where not nil, is called when a table was applied,
	// so that segments could go; it must return at once. So must Synced, which, where not nil, is called when commits survive the loss of power.
	Archive bool
	Copied  uint64
	Applied func()
	Synced  func()

	// Room, where not nil, is called when the disk has no room for what is to be written; true says that there is more by now. It takes no lock of
	// whoever calls the database.
	Room func() bool

	// For the package's tests.
	failpoint func(name string) error // called at the places where it is named; an error happens there
	noSync    bool                    // meta.db is not synced: the disk is simulated
	retry     time.Duration           // between attempts to apply on a full disk; 0 means a second
	txRows    int                     // bound of a transaction when applying; 0 means rowsPerTx
}

// Defaults of [Config].
const (
	DefaultMaxDelay     = 5 * time.Second
	DefaultMemtableSize = 16 << 20
)

// View reads rows: those of the moment ([DB] itself) or those of an instant in the past ([DB.At]). Rows of spaces that
// are not versioned are those of the moment in every view.
type View interface {
	// Get returns a row. The value must not be changed; it stays as it is.
	Get(space uint8, key []byte) (value []byte, ok bool, err error)
	// Scan calls fn for the rows with from ≤ key < to in the order of their keys, until it returns false; an empty to
	// has no end. Rows are read some at a time, each time as they are then, and nothing is held while fn runs. Key and
	// value must not be changed; they stay as they are.
	Scan(space uint8, from, to []byte, fn func(key, value []byte) bool) error
}

// DB is an open database. Its methods may be called by several goroutines.
type DB struct {
	cfg       Config
	clock     *sharefs.Clock
	spaces    [256]*space
	known     [4]uint64 // the spaces there are, one bit each
	keepStamp [4]uint64 // those that are versioned
	versioned [256]bool // the same

	bolt    *bbolt.DB
	journal *journal.Journal // nil when ReadOnly

	// writing is held by whoever writes to bolt, from before the kept readers are gone until they may be kept again. It comes before all other
	// locks.
	writing sync.Mutex
	ended   bool // nobody may write any more; guarded by writing

	// commitMu makes commits one after the other. It comes before mu and guards what follows.
	commitMu sync.Mutex
	room     *sync.Cond // on commitMu: the applier got on, or failed
	closed   bool
	attempts uint64                // of the applier to get on
	applyErr error                 // why the applier does not get on at present; it tries again
	failed   error                 // final
	trouble  atomic.Pointer[error] // failed or applyErr, for those who do not wait

	// mu guards the tables: readers hold it shared while they look into the active one, a commit alone while it adds its
	// rows. Changed with commitMu held as well, so whoever holds that may read without mu.
	mu       sync.RWMutex
	active   *table
	frozen   *table      // being applied; never changed; nil where there is none
	epoch    sharefs.HLC // stamp of the open epoch; 0 without one
	boundary sharefs.HLC // the last one

	last     atomic.Uint64 // number of the last record that is visible
	applied  atomic.Uint64 // of the last one in bbolt
	progress atomic.Int64  // rows of the frozen table that are applied
	copied   atomic.Uint64 // of the last one that need not stay in the journal for the archive's sake
	since    atomic.Int64  // when the oldest commit that is not synced was made, in ns since the Unix epoch, or before

	work  chan struct{} // wakes the applier
	again chan struct{} // wakes it from its wait for room on a full disk
	dirty chan struct{} // wakes the flusher
	armed atomic.Bool   // the flusher knows that there is something to sync
	quit  chan struct{}
	tasks sync.WaitGroup

	readers  readers
	reads    resident
	counters counters
}

// space is a defined space with the names of its buckets.
type space struct {
	SpaceDef
	live, past []byte
}

// boundaries is the space of the epochs' ends.
const boundaries = 255

func (db *DB) defineSpaces() error {
	defs := append([]SpaceDef{{ID: boundaries}}, db.cfg.Spaces...)
	names := map[string]bool{}
	for _, d := range defs {
		if db.spaces[d.ID] != nil || names[d.Name] {
			return db.unfit(sharefs.KindInvalid, "two spaces have one number or name: "+d.Name)
		}
		names[d.Name] = true
		s := &space{SpaceDef: d, live: []byte("s/" + d.Name), past: []byte("h/" + d.Name)}
		if d.ID == boundaries {
			s.live = []byte("boundaries")
		}
		db.spaces[d.ID] = s
		db.known[d.ID>>6] |= 1 << (d.ID & 63)
		if d.Versioned {
			db.keepStamp[d.ID>>6] |= 1 << (d.ID & 63)
			db.versioned[d.ID] = true
		}
	}
	return nil
}

// space returns a space that callers may name.
func (db *DB) space(id uint8) (*space, error) {
	if s := db.spaces[id]; s != nil && id != boundaries {
		return s, nil
	}
	return nil, &sharefs.Error{Op: "read", Kind: sharefs.KindInvalid, Detail: "no such space"}
}

func (db *DB) failpoint(name string) error {
	if db.cfg.failpoint == nil {
		return nil
	}
	return db.cfg.failpoint(name)
}
