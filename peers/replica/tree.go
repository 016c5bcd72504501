package replica

import (
	"sharefs"
	"sharefs/peers/record"
)

// Mark says that an inode changed (cookie 0), or what has a name in a directory.
type Mark struct {
	Ino    sharefs.Ino // the inode, or the directory of the name
	Cookie uint64
	Count  uint64 // tells two marks of the same thing apart
}

// Name is a name and what the account says that it has.
type Name struct {
	Parent sharefs.Ino
	Name   string
	Ino    sharefs.Ino // 0: nothing
	Own    uint64      // the number of the version that it holds
}

// New is what is to be made.
type New struct {
	ID      sharefs.FileID
	Type    record.Type
	Mode    uint16
	Target  string // of a symlink
	Content Staged // of a regular file, whose version it is then; nil: it is empty and has none
	Over    *Name  // what has the name until then, no directory, and goes in the same instant; nil: the name is vacant
}

// Tree is the live tree, as package versions has it. Errors of KindAgain mean that something is not as the caller says; then nothing was done.
type Tree interface {
	// Follow begins to mark what changes, and reports whether that had begun before. Changes lists marks behind one; Dealt removes those that did not come again; Everything lists the
	// whole tree as if all of it had changed. Mark marks what is to be looked at again.
	Follow() (before bool, err error)
	Changes(after Mark, max int) ([]Mark, error)
	Everything(after Mark, max int) ([]Mark, error)
	Dealt(list []Mark) error
	Mark(list []Mark) error
	// Sync has the names, attributes and versions that the tree has survive power loss.
	Sync() error

	// NameAt tells what is in a slot of a directory, Slot what has a name.
	NameAt(dir sharefs.Ino, cookie uint64) (sharefs.Dentry, bool, error)
	Slot(dir sharefs.Ino, name string) (sharefs.Dentry, bool, error)
	// Bore tells since when what has a name in a directory has it, or nothing has any more, and what had it before that (inode 0: nothing that is known). The time may be a little too early. All is
	// zero where nothing is known to have had it.
	Bore(dir sharefs.Ino, name string) (since sharefs.HLC, before sharefs.Dentry, err error)
	// FileID errors with KindStale where there is no such inode, and none that is gone and left versions.
	FileID(ino sharefs.Ino) (sharefs.FileID, error)
	// Getattr errors with KindStale where there is no such inode.
	Getattr(ino sharefs.Ino) (sharefs.Attr, error)
	Readlink(ino sharefs.Ino) (string, error)
	Xattrs(ino sharefs.Ino) ([]record.Xattr, error) // user.* alone, by name
	// Latest returns the number of the newest version of a file, 0 for none, and its content; nil while that cannot be told.
	Latest(ino sharefs.Ino) (own uint64, v *record.Version, err error)
	// Mtime returns the time of the last change of a regular file, and the number of the newest version, 0 for none, that it belongs to. Ok is false while that cannot be told, for somebody may
	// write to the file. Made: the file is empty, and the time is that of its making, which is another one on each host.
	Mtime(ino sharefs.Ino) (at sharefs.Time, own uint64, made, ok bool, err error)
	// Between lists the contents of versions of a file between two, oldest first, as far as they can be told; of more than most the newest.
	Between(ino sharefs.Ino, after, before uint64, most int) ([]*record.Version, error)

	// By says whose changes those are that follow, until it is called again: of another host, or of this one. Of is the decision that they come from; nil: none, or none that is known.
	By(author sharefs.PeerID, of *Decision)
	// Put makes a file under a name that is vacant, or taken by Over.
	Put(dir sharefs.Ino, name string, n New) (sharefs.Ino, error)
	Link(ino, dir sharefs.Ino, name string) error
	Take(n Name) error
	Pass(from, to Name) error
	// Retarget has a symlink lead elsewhere, as no program can.
	Retarget(ino sharefs.Ino, target string) error
	SetMode(ino sharefs.Ino, mode uint16) error
	SetXattrs(ino sharefs.Ino, all []record.Xattr) error
	// SetMtime sets the time of the last change of a regular file whose newest version is base, 0 for none, and to which nobody may write.
	SetMtime(ino sharefs.Ino, at sharefs.Time, base uint64) error
	// Here reports whether all of the content of a version is here.
	Here(v *record.Version) (bool, error)
	// Stage readies contents of versions for Put and Adopt, so that they survive power loss. Errs tells of each; of one that is not all here KindAgain.
	Stage(list []Ready) (staged []Staged, errs []error, err error)
	// Adopt gives a file a content if its newest version is base, and returns the number of the version that this makes.
	Adopt(ino sharefs.Ino, content Staged, base uint64) (own uint64, err error)
}

// Ready says what is to be readied.
type Ready struct {
	*record.Record              // a version
	Onto           sharefs.Ino  // the file that it is to be that of, for what that holds need not be put together again; 0: one that is to be made
	At             sharefs.Time // of the last change that the file is to have then
}

// Staged is a content that is ready to be that of a file. Drop ends it, whether it was used or not.
type Staged interface {
	Drop()
	// Ino returns the inode that Put makes with it; 0: that is not known before, for it was readied to be put into a file that is there.
	Ino() sharefs.Ino
}

// Row is a row of the database that is to be; Value nil: it is to go.
type Row struct {
	Space      uint8
	Key, Value []byte
}

// Store is the database, as package versions/kv has it.
type Store interface {
	Get(space uint8, key []byte) (value []byte, ok bool, err error)
	Scan(space uint8, from, to []byte, fn func(key, value []byte) bool) error
	// Commit makes changes, all or none.
	Commit(rows []Row) error
	Sync() error
}

// Spaces of the database. The numbers are on disk.
const (
	spaceGlobal uint8 = 1 + iota
	spaceRecord
	spaceLog
	spaceBatch
	spaceName
	spaceInode
	spaceLoose
	spaceCursor
	spaceFork
	spacePassed
	spaceBulk
	spaceScope
	spacePromise // version → who relies on its content being here; see promise.go
	spaceMaking  // file → what is about to be made; see made.go
	spaceUnsigned
	spaceAway // names that peers were told and may not read; see scope_away.go
)

// Spaces names the spaces, in the order of their numbers from 1.
var Spaces = []string{"global", "record", "log", "batch", "name", "inode", "loose", "cursor", "fork", "passed", "bulk", "scope", "promise", "making", "unsigned", "away"}
