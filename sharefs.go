// Package sharefs holds the nouns of ShareFS: a filesystem that is mounted, remembers every version of every file and
// replicates versions between hosts as far as each is trusted. It does no I/O and imports only the standard library, so
// that every other package can speak of the same things.
//
// Read this package first:
//
//   - [Ino] is the number of an inode on this host, [FileID] the identity of a file on every host.
//   - [Attr] is what stat(2) tells of an inode, [Dentry] one name in a directory.
//   - [HLC] is the time of a change; [Clock] hands it out.
//   - [Version] is one state of a file that was closed; [ChunkID] names a piece of its content.
//   - [Error] says what failed, on which path, and of which [Kind] the failure is; one table maps kinds to errno.
package sharefs

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Ino numbers an inode on this host. A number is never used twice, so no generation is needed beside it.
type Ino uint64

// RootIno is the root directory of a tree (FUSE demands 1).
const RootIno Ino = 1

// FileID is the identity of a file on every host: 128 random bits, given once and kept for ever. The root's is all zero.
type FileID [16]byte

// String returns the id in 32 hexadecimal digits.
func (id FileID) String() string { return hex.EncodeToString(id[:]) }

// ChunkID is the BLAKE3 hash of a chunk's plain content, keyed by the share, so that equal chunks meet within a share and
// nobody outside it can test for a known file.
type ChunkID [32]byte

// String returns the id in 64 hexadecimal digits.
func (id ChunkID) String() string { return hex.EncodeToString(id[:]) }

// KeyID names a share key. It follows from the key, and the key does not follow from it.
type KeyID [16]byte

// String returns the id in 32 hexadecimal digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// PeerID is the Ed25519 public key of a host.
type PeerID [32]byte

// IsZero reports whether no peer is named.
func (id PeerID) IsZero() bool { return id == PeerID{} }

// Time is a point in time in nanoseconds since the Unix epoch, as stat(2) tells it, signed so that times before 1970 hold.
type Time int64

// Sec returns whole seconds since the epoch, rounded towards the past, and Nsec the nanoseconds beyond them (0 to 999,999,999).
func (t Time) Sec() int64 {
	s := int64(t) / 1e9
	if int64(t)%1e9 < 0 {
		s--
	}
	return s
}

// Nsec returns the nanoseconds beyond [Time.Sec], 0 to 999,999,999.
func (t Time) Nsec() uint32 { return uint32(int64(t) - t.Sec()*1e9) }

// MakeTime joins seconds and nanoseconds since the epoch; what passes the range of an int64 (years 1677 to 2262) is clamped.
func MakeTime(sec int64, nsec uint32) Time {
	const limit = 9223372035
	switch {
	case sec > limit:
		sec, nsec = limit, 999999999
	case sec < -limit:
		sec, nsec = -limit, 0
	}
	return Time(sec*1e9 + int64(nsec))
}

// File types in the mode word, as in stat(2) (POSIX.1-2024, <sys/stat.h>).
const (
	ModeType    uint32 = 0o170000
	ModeSocket  uint32 = 0o140000
	ModeSymlink uint32 = 0o120000
	ModeRegular uint32 = 0o100000
	ModeBlock   uint32 = 0o060000
	ModeDir     uint32 = 0o040000
	ModeChar    uint32 = 0o020000
	ModeFifo    uint32 = 0o010000
	ModeSetuid  uint32 = 0o4000
	ModeSetgid  uint32 = 0o2000
	ModeSticky  uint32 = 0o1000
	ModePerm    uint32 = 0o7777
)

// Attr is what stat(2) tells of an inode.
type Attr struct {
	Ino    Ino
	Mode   uint32 // type and permission bits
	Nlink  uint32
	UID    uint32
	GID    uint32
	Rdev   uint32 // of device nodes, in the kernel's 32-bit encoding
	Size   uint64 // bytes
	Blocks uint64 // 512-byte units really held
	Atime  Time
	Mtime  Time
	Ctime  Time
	Btime  Time // birth

	// Changing says that content, size and times may move without a request (somebody can write): a cache of them ages at once.
	Changing bool
	// Mapped says that somebody may be storing through a mapping, of which nobody is told: no cache of them holds at all.
	Mapped bool
}

// IsDir, IsRegular and IsSymlink read the type out of the mode.
func (a *Attr) IsDir() bool { return a.Mode&ModeType == ModeDir }

// IsRegular reports whether the inode is a regular file, the only type that has versions.
func (a *Attr) IsRegular() bool { return a.Mode&ModeType == ModeRegular }

// IsSymlink reports whether the inode is a symbolic link.
func (a *Attr) IsSymlink() bool { return a.Mode&ModeType == ModeSymlink }

// Dentry is one name in a directory.
type Dentry struct {
	Name   string
	Ino    Ino
	Type   uint32 // the ModeType bits of the inode
	Cookie uint64 // where a listing goes on after this name; stable while the name exists
}

// Limits of names and links; the same as ext4's, which is what programs are used to.
const (
	NameMax    = 255   // bytes of one name
	SymlinkMax = 4095  // bytes of a symlink's target
	LinkMax    = 65000 // hard links of a file; a directory that would have as many reports one
	XattrMax   = 65536 // bytes of an extended attribute's value
)

// LimboName begins the names of what a host puts aside at the root of its tree for a moment, as where two files change names. Nobody has given them, and nobody looks for them.
const LimboName = ".sharefs-moving-"

// IsLimbo tells such names.
func IsLimbo(parent Ino, name string) bool {
	return parent == RootIno && strings.HasPrefix(name, LimboName)
}

// Version is one settled state of a regular file.
type Version struct {
	Number uint64 // 1, 2, 3 … within the history of the name that leads to the file, on this host
	At     HLC    // when it was settled
	Size   uint64 // bytes
	Data   uint64 // bytes of it at the most that are not in holes
	Mode   uint32
	UID    uint32
	GID    uint32
	Mtime  Time
	Author PeerID
	Timed  bool // taken while a writer or a mapping was still open: a state between closes
	Torn   bool // a timed one that may be a mixture of what the file held at several moments, for it was written to meanwhile
	Live   bool // the live content of the file is this version
	// Foreign: it was made of another file, whose history this one continues (FILE was replaced). Mode, UID and GID are that one's.
	Foreign bool
	// Damaged: a part of the content is lost, as a check of the store found; reading that part fails, the rest can be read.
	Damaged bool
	Note    string // from commit; UTF-8, at most NoteMax bytes
}

// NoteMax bounds the note on a version, in bytes.
const NoteMax = 4096

func (v Version) String() string { return fmt.Sprintf("version %d of %s", v.Number, v.At) }
