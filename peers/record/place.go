package record

import (
	"encoding/binary"
	"fmt"
	"strings"

	"sharefs"
)

// Type is what a file is, for ever. Device nodes, sockets and named pipes do not travel: there is no way to write them down.
type Type uint8

// The types of files.
const (
	Directory Type = 1
	Regular   Type = 2
	Symlink   Type = 3
)

func (t Type) String() string {
	switch t {
	case Directory:
		return "directory"
	case Regular:
		return "file"
	case Symlink:
		return "symlink"
	}
	return "unknown"
}

// Root is the root directory of a share, which is nobody's to place.
var Root = sharefs.FileID{}

// Nowhere is the parent of what is removed.
var Nowhere = sharefs.FileID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ControlDir is the name at the root of a mount below which its other hierarchies stand. Nobody places anything there.
const ControlDir = ".share"

// LimboName is [sharefs.LimboName]. Nobody places anything there either.
const LimboName = sharefs.LimboName

// MaxSeen bounds what a removal can name. An author that has seen more removes the name several times: what those removals name counts together.
const MaxSeen = 16

// Place says where one name of a file is: a register for each (File, Link), whose last writer wins.
type Place struct {
	File   sharefs.FileID
	Link   uint64 // 0: the first name; further hard links have random numbers
	Type   Type
	Parent sharefs.FileID // Nowhere: the name is removed
	Name   string         // empty if removed
	// Seen tells, of a removal, what its author knew of the file: its heads, and the latest removals of its other names. A version beyond them
	// keeps the file.
	Seen []ID
}

// Kind returns KindPlace.
func (p *Place) Kind() uint8 { return KindPlace }

// Removed reports whether the name is gone.
func (p *Place) Removed() bool { return p.Parent == Nowhere }

func (p *Place) check() error {
	switch {
	case p.File == Root || p.File == Nowhere:
		return fmt.Errorf("a place for the root, or for nowhere")
	case p.Type < Directory || p.Type > Symlink:
		return fmt.Errorf("a file of type %d, which does not travel", p.Type)
	case p.Type == Directory && p.Link != 0:
		return fmt.Errorf("a second name for a directory")
	case p.Parent == p.File:
		return fmt.Errorf("a directory placed in itself")
	case p.Removed() && p.Name != "":
		return fmt.Errorf("a removal with a name")
	case p.Removed():
		return checkIDs(p.Seen, MaxSeen, "ids that a removal has seen")
	case len(p.Seen) > 0:
		return fmt.Errorf("ids seen without a removal")
	}
	return CheckName(p.Parent, p.Name)
}

// CheckName says what is wrong with a name in a directory.
func CheckName(parent sharefs.FileID, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("an empty name")
	case len(name) > sharefs.NameMax:
		return fmt.Errorf("a name of %d bytes, allowed are %d", len(name), sharefs.NameMax)
	case name == "." || name == "..":
		return fmt.Errorf("the name %s", quote(name))
	case strings.Contains(name, "/"):
		return fmt.Errorf("the name %s, which has a slash", quote(name))
	case strings.Contains(name, "\x00"):
		return fmt.Errorf("the name %s, which has a NUL byte", quote(name))
	case parent == Root && name == ControlDir:
		return fmt.Errorf("the name %s at the root, where every mount has its own", quote(name))
	case parent == Root && strings.HasPrefix(name, LimboName):
		return fmt.Errorf("the name %s at the root, where hosts put aside what they move", quote(name))
	}
	return nil
}

func (p *Place) append(b []byte) []byte {
	b = append(b, p.File[:]...)
	b = binary.BigEndian.AppendUint64(b, p.Link)
	b = append(b, byte(p.Type))
	b = append(b, p.Parent[:]...)
	b = append(b, byte(len(p.Name)))
	b = append(b, p.Name...)
	if p.Removed() {
		b = appendIDs(b, p.Seen)
	}
	return b
}

func decodePlace(d *reader) *Place {
	p := &Place{}
	d.array(p.File[:], "file")
	p.Link = d.u64("link")
	p.Type = Type(d.u8("type"))
	d.array(p.Parent[:], "parent")
	p.Name = string(d.take(int(d.u8("name")), "name"))
	if p.Removed() {
		p.Seen = d.ids(MaxSeen, "ids that a removal has seen")
	}
	return p
}
