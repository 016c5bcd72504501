package trust

import (
	"strings"

	"sharefs"
)

// Level is how far a peer is trusted. Levels are ordered: each receives at least what those below it do, and its versions do at least as much. The zero
// value is Blocked.
type Level uint8

// The levels, in order.
const (
	Blocked Level = iota // the connection ends after the key check
	Paired               // what a peer has after pairing, until more is granted
	Store                // holds sealed data that it cannot read
	Read                 // receives versions and content
	Propose              // its versions are shown aside
	Write                // its versions go into the live tree
	Manage               // and so do the meta files that it writes
	levels
)

// Out is what goes to a peer.
type Out uint8

// The kinds of content that go out, in order.
const (
	OutNone   Out = iota // nothing of any file
	OutCipher            // sealed objects alone, and no key that opens them
	OutPlain             // versions, names and content, and the share key
)

// In is what becomes of a version in the live tree of this host, by the level of its author.
type In uint8

// What becomes of versions, in order. The live tree, tags, types and all that daemons serve use InMerge and above only.
const (
	InNone       In = iota // dropped
	InQuarantine           // shown as the peer's proposal, until somebody accepts it
	InMerge                // live, or a conflict
	InPolicy               // and honoured as a meta file where it is one
)

// Rights is a row of the table.
type Rights struct {
	Connect bool // the connection goes on after the key check
	Name    bool // receives this host's name
	Out     Out
	In      In
	Returns bool // content that it holds is taken from it, checked by hash and signature
	Relay   bool // may bring records that others signed
	Count   bool // records of its own that are dropped are counted and reported
	Hold    bool // removals and renames in bulk wait for the owner (HoldFiles, HoldPercent, HoldMinutes)
	Suggest bool // may suggest trust; nobody but the owner sets it
	// Receives and Does are the row for people.
	Receives, Does string
}

// A peer that removes or renames more than HoldFiles files or HoldPercent of the tree within HoldMinutes waits for the owner; HoldLeast it may in any tree, or in a small one every removal
// would wait.
const (
	HoldFiles   = 100
	HoldPercent = 10
	HoldLeast   = 20
	HoldMinutes = 10
)

var levelNames = [levels]string{"blocked", "paired", "store", "read", "propose", "write", "manage"}

var rights = [levels]Rights{
	Blocked: {Receives: "nothing, the connection ends", Does: "is dropped"},
	Paired:  {Connect: true, Name: true, Receives: "this host's name", Does: "does nothing"},
	Store: {Connect: true, Name: true, Out: OutCipher, Returns: true,
		Receives: "sealed data, never a key", Does: "does nothing; what it keeps for us comes back, checked"},
	Read: {Connect: true, Name: true, Out: OutPlain, Returns: true, Relay: true, Count: true,
		Receives: "versions and content", Does: "is dropped and counted; it may relay what others signed"},
	Propose: {Connect: true, Name: true, Out: OutPlain, In: InQuarantine, Returns: true, Relay: true,
		Receives: "versions and content", Does: "is shown aside until you accept it"},
	Write: {Connect: true, Name: true, Out: OutPlain, In: InMerge, Returns: true, Relay: true, Hold: true,
		Receives: "versions and content", Does: "is live if it descends from what is live, else a conflict"},
	Manage: {Connect: true, Name: true, Out: OutPlain, In: InPolicy, Returns: true, Relay: true, Suggest: true,
		Receives: "versions and content", Does: "is live as with write, and removals in bulk are not held"},
}

// Rights returns the level's row of the table. A number that is no level has those of Blocked.
func (l Level) Rights() Rights {
	if l >= levels {
		l = Blocked
	}
	return rights[l]
}

func (l Level) String() string {
	if l >= levels {
		return "unknown"
	}
	return levelNames[l]
}

// Levels returns all levels in order.
func Levels() []Level {
	all := make([]Level, levels)
	for i := range all {
		all[i] = Level(i)
	}
	return all
}

// Inherit stands for a level where a rule is to go: what else speaks of the place counts there again. It is the name of none.
const Inherit = "inherit"

// ParseLevel reads the name of a level. The error is of [sharefs.KindInvalid] and names all of them.
func ParseLevel(s string) (Level, error) {
	for i, name := range levelNames {
		if s == name {
			return Level(i), nil
		}
	}
	return Blocked, &sharefs.Error{Op: "trust", Path: quote(s), Kind: sharefs.KindInvalid, Detail: "no level of this name; there are " + strings.Join(levelNames[:], ", ")}
}
