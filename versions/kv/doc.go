// Package kv keeps the rows of the tree: a journal in front, one or two sorted tables in memory, and bbolt behind. Rows
// live in numbered spaces; those that are versioned remember what they held.
//
// # The way of a commit
//
//  1. [DB.Commit] appends the batch to the journal with one write(2) (it now survives the death of the process), puts its
//     rows into the active table and returns: a few microseconds, no sync. From here on every reader sees the whole batch.
//  2. [DB.Sync] and [DB.SyncTo] make it survive the loss of power; many callers share one fdatasync(2). Without being
//     asked the journal is synced [Config.MaxDelay] after a commit.
//  3. When the active table is full, or an eighth full and nobody is at work ([DB.Idle]), it is frozen, a new one takes its
//     place, and the journal goes on in a new segment. The applier syncs the journal as far as the frozen table goes, puts
//     the rows into bbolt in sorted batches, each of which bbolt syncs, notes in the last one how far it got, and removes
//     the segments. Should it fall behind, commits wait in step with its progress.
//  4. [Open] replays into a frozen table what the journal holds beyond that note. A table that was half applied is applied
//     again, which changes nothing.
//
// A reader looks into the active table, the frozen one and bbolt, in this order. It never waits for the applier. Its
// transactions of bbolt are kept for the next reader as long as nothing is applied.
//
// # Epochs
//
// Time is cut into epochs. One begins with the first commit that touches a versioned space, and its beginning is the
// stamp of every row written in it; [DB.Boundary] ends it. Of several changes of a row within an epoch the last one
// remains. A row that is superseded in a later epoch leaves a history row. [DB.At] shows the state at the last boundary
// up to an instant: all of an epoch or nothing of it.
//
// # A second copy
//
// Whoever wants to make meta.db anew when it is lost keeps an export ([DB.Export]: all rows with their past, read beside those who commit) and the
// commits since it began ([DB.Changes], read from the files of the journal). A [Builder] makes a meta.db of both. With [Config.Archive] the
// journal keeps what was not copied yet.
//
// # Formats
//
// Integers are big-endian, so that they sort; uvarint is that of package encoding/binary.
//
// A journal record (package journal) holds one batch:
//
//	8        stamp of the epoch; 0 where no versioned row is in it
//	then rows, each
//	1        0 put, 1 delete
//	1        space
//	uvarint  length of the key, 1 to MaxKey
//	uvarint  length of the value, 0 to MaxValue; only of a put
//	         key, value
//
// A boundary is a batch that puts one row into the space 255: the stamp of the epoch (8) as key, the boundary (8) as
// value.
//
// meta.db has these buckets:
//
//	"meta"        "format" → 1 (8); "applied" → number of the last record applied (8);
//	              "epoch" → stamp of the open epoch, 0 without one (8); "boundary" → the last boundary (8);
//	              "space/" and the space's number (1) → 1 where it is versioned, else 0 (1), then its name
//	"boundaries"  stamp of the epoch (8) → boundary that ended it (8)
//	"s/NAME"      rows of the space NAME: key → value; of a versioned space key → stamp (8), value
//	"h/NAME"      past of a versioned space: ordered key, inverted stamp (8) → 1, value; or 0 where the row was deleted
//
// The ordered key keeps the order of keys of any length when something follows them (the memcomparable form of MyRocks):
// groups of 8 bytes, each followed by one: 9 where more bytes follow, else how many of the 8 count, the rest being zero.
// The stamp is inverted (all bits flipped), so that a seek for an instant finds the newest row up to it.
package kv
