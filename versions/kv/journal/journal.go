// Package journal is a write-ahead log: records that follow each other without a gap, in segment files that are removed
// from the front once what they hold is safe elsewhere.
//
// # Promises
//
//   - [Journal.Append] has handed the record to the operating system, in one write(2), when it returns: it survives the
//     death of the process. Its sequence number is that of the record before it plus one.
//   - [Journal.SyncTo] returns when the record and all before it survive the loss of power. Many callers share one
//     fdatasync(2).
//   - [Open] replays exactly a prefix of what was appended, which holds at least all that was synced. What follows the
//     first record that cannot be read is dropped (a torn tail), unless a later record proves that the lost ones had
//     been synced: that is damage, and an error.
//   - A failed write leaves no trace: the next Append writes to the same place. A failed sync is final, for the
//     kernel may have thrown the pages away (see "Can Applications Recover from fsync Failures?", Rebello et al.,
//     USENIX ATC 2020): every later call fails until the journal is opened anew.
//
// # Segment format
//
// A segment is named by its number in 16 hexadecimal digits and ".wal". All integers are big-endian. It begins with 32
// bytes of [SegmentHeaderSize]:
//
//	 0  8  magic "SFSJRNL1"
//	 8  8  number, the same as in the name
//	16  8  salt, random
//	24  4  zero
//	28  4  CRC32C of the 28 bytes before
//
// and goes on with records, each a header of [HeaderSize] bytes and a payload:
//
//	 0  4  length of the payload in bytes, 1 to MaxPayload
//	 4  4  CRC32C of the salt, bytes 0–3 and 8–23 of the header, and the payload
//	 8  8  sequence number
//	16  8  durable: the last number known to be synced when this record was written
//	24     payload
//
// The salt keeps bytes of another life of the file, or bytes that a user chose, from being taken for a record. CRC32C is
// the Castagnoli polynomial (RFC 3720, section 12.1).
package journal

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Journal is an open journal. Its methods may be called by several goroutines.
type Journal struct {
	fs FS

	// mu guards what follows; it comes after syncMu and is never held across a sync.
	mu     sync.Mutex
	old    []*segment // take no more appends; oldest first
	cur    *segment   // takes the appends; nil until the first one
	spare  *segment   // made ahead by Prepare, so that Rotate costs nothing
	number uint64     // of the latest segment made
	last   uint64     // sequence number of the latest record
	failed error      // of a sync; final
	closed bool
	making bool // a Prepare is at work

	synced atomic.Uint64

	// Counts for Stats, which must answer while a write hangs.
	segments, bytes          atomic.Int64
	appended, appends, syncs atomic.Uint64

	syncMu sync.Mutex // the caller that holds it syncs for all who wait for it
}

// segment is one file of the journal.
type segment struct {
	name string
	file File
	salt [8]byte
	size int64  // bytes of valid content
	last uint64 // sequence number of its latest record, 0 without one
}

// records returns how many bytes of records are in the segment.
func (g *segment) records() int64 { return g.size - SegmentHeaderSize }

// Stats tells how the journal stands.
type Stats struct {
	Segments int    // files that hold records
	Bytes    int64  // in them
	Last     uint64 // sequence number of the latest record
	Synced   uint64 // and of the latest that survives the loss of power
	Appends  uint64 // since Open
	Syncs    uint64 // calls of fdatasync since Open
}

// Stats returns the present counts. It never waits.
func (j *Journal) Stats() Stats {
	return Stats{Segments: int(j.segments.Load()), Bytes: j.bytes.Load(), Synced: j.synced.Load(), Last: j.appended.Load(),
		Appends: j.appends.Load(), Syncs: j.syncs.Load()}
}

// files returns old and cur. Called with mu held.
func (j *Journal) files() []*segment {
	if j.cur == nil {
		return j.old
	}
	return append(j.old[:len(j.old):len(j.old)], j.cur)
}

// Synced returns the sequence number up to which all records survive the loss of power.
func (j *Journal) Synced() uint64 { return j.synced.Load() }

// Close closes the files. It neither syncs nor removes anything.
func (j *Journal) Close() error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	var first error
	for _, g := range j.files() {
		if err := g.file.Close(); err != nil && first == nil {
			first = fail("close", g.name, err)
		}
	}
	if j.spare != nil {
		j.drop(j.spare)
		j.spare = nil
	}
	return first
}

// drop gives up a segment that holds nothing. A file that cannot be removed now is removed by the next Open.
func (j *Journal) drop(g *segment) {
	g.file.Close()
	j.fs.Remove(g.name)
}

// fail gives a failure its place.
func fail(op, name string, err error) error {
	return &sharefs.Error{Op: "journal " + op, Path: name, Kind: kindOf(err), Err: err}
}

// kindOf is [sharefs.KindOf], with a used-up quota as what it is to the user: a full disk.
func kindOf(err error) sharefs.Kind {
	if errors.Is(err, unix.EDQUOT) {
		return sharefs.KindNoSpace
	}
	return sharefs.KindOf(err)
}

func errClosed() error {
	return &sharefs.Error{Op: "journal", Kind: sharefs.KindStale, Detail: "the journal is closed"}
}

func segmentName(number uint64) string { return fmt.Sprintf("%016x.wal", number) }
