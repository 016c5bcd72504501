package versions

import (
	"encoding/binary"

	"sharefs"
	"sharefs/versions/kv"
)

// The spaces of the store. Rows of the first four keep their past (a row that is replaced in a later epoch leaves a history
// row), those of the others do not. The numbers are on disk.
const (
	spaceGlobal   uint8 = 1 + iota // what there is once for each store, by name
	spaceDentry                    // parent, cookie → one name; see dentry.go
	spaceInode                     // inode → its attributes; see inode.go
	spaceXattr                     // inode, name → the value of an extended attribute
	spaceMark                      // inode → its row does not tell the attributes, the backing file does; see mark.go
	spaceOrphan                    // inode → it has no name left; see orphan.go
	spaceVersion                   // inode, number → one settled state of a regular file
	spaceChunk                     // chunk → where it is kept
	spaceExtent                    // pack, offset → what is kept there
	spaceLineage                   // inode → whose past it continues
	spacePending                   // inode, number → a version whose content is still to be captured
	spaceMoment                    // inode, kind, name → a moment that has a name
	spaceOp                        // clock reading, part → what one program changed
	spaceTrash                     // clock reading, inode → what was removed
	spaceTier                      // pack → where else it is
	spaceFeed                      // inode or name → it changed since somebody who follows dealt with it; see feed.go
	spaceAdopting                  // inode → its backing file may hold parts of two versions; see inplace_row.go
	spacePin                       // what is pinned, and what lacks of it; see pin.go
)

func spaceDefs() []kv.SpaceDef {
	return []kv.SpaceDef{
		{ID: spaceGlobal, Name: "global", Versioned: true},
		{ID: spaceDentry, Name: "dentry", Versioned: true},
		{ID: spaceInode, Name: "inode", Versioned: true},
		{ID: spaceXattr, Name: "xattr", Versioned: true},
		{ID: spaceMark, Name: "mark"},
		{ID: spaceOrphan, Name: "orphan"},
		{ID: spaceVersion, Name: "version"},
		{ID: spaceChunk, Name: "chunk"},
		{ID: spaceExtent, Name: "extent"},
		{ID: spaceLineage, Name: "lineage"},
		{ID: spacePending, Name: "pending"},
		{ID: spaceMoment, Name: "moment"},
		{ID: spaceOp, Name: "op"},
		{ID: spaceTrash, Name: "trash"},
		{ID: spaceTier, Name: "tier"},
		{ID: spaceFeed, Name: "feed"},
		{ID: spaceAdopting, Name: "adopting"},
		{ID: spacePin, Name: "pin"},
	}
}

// Rows of the global space.
var (
	globalHashKey = []byte("hashkey") // 16 bytes: the key of the hash that orders names
	globalAuthors = []byte("authors") // 32 bytes for each peer that versions are by; see version_row.go
	globalInos    = []byte("inos")    // two 8-byte big-endian numbers: the lowest inode number that may have a prepared file, and the first never given out
)

// inoKey returns the key of an inode's row in the spaces that have one row for each inode: 8 bytes, big endian.
func inoKey(ino sharefs.Ino) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, 8), uint64(ino))
}

// keyIno is the inverse of inoKey; it also reads the leading inode of a longer key, and gives 0 for a key that is too short.
func keyIno(key []byte) sharefs.Ino {
	if len(key) < 8 {
		return 0
	}
	return sharefs.Ino(binary.BigEndian.Uint64(key))
}

// dentryKey returns the key of a name: its directory and its cookie, 8 bytes each, big endian, so that a directory is listed in
// the order of the cookies.
func dentryKey(parent sharefs.Ino, cookie uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(parent))
	return binary.BigEndian.AppendUint64(b, cookie)
}

// xattrKey returns the key of an extended attribute: the inode, 8 bytes big endian, then the name.
func xattrKey(ino sharefs.Ino, name string) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(name)), uint64(ino))
	return append(b, name...)
}

// inoRange returns the bounds that hold all keys which begin with the inode.
func inoRange(ino sharefs.Ino) (from, to []byte) { return inoKey(ino), inoKey(ino + 1) }
