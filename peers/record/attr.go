package record

import (
	"encoding/binary"
	"fmt"
	"strings"

	"sharefs"
)

// Bounds of extended attributes.
const (
	MaxXattrs     = 256
	MaxXattrName  = 255
	MaxXattrBytes = sharefs.XattrMax // of all names and values of a file together
)

// ModeBits are the bits of a mode that travel: permissions, and sticky, which means something on directories. Setuid and setgid do not, and neither do owner
// and group: what comes from a peer belongs to the owner of the mount.
const ModeBits = 0o777 | sharefs.ModeSticky

// Attr says what a file is like apart from name and content: a register for each file, whose last writer wins.
type Attr struct {
	File     sharefs.FileID
	Mode     uint16
	HasMtime bool         // somebody set the time of a regular file, which its live version does not tell therefore; see Mtime
	Mtime    sharefs.Time // zero without HasMtime
	Xattrs   []Xattr      // user.* alone; by name, rising
}

// Mtime returns the time of the last change of a regular file, of which one version is live and one record of attributes counts: what these say if they say one and are later, for then it was
// set behind the version; else that of the version. Either may be nil. Ok is false where none tells.
func Mtime(version, attr *Record) (at sharefs.Time, ok bool) {
	if attr != nil {
		if a := attr.Body.(*Attr); a.HasMtime && (version == nil || attr.Compare(version) > 0) {
			return a.Mtime, true
		}
	}
	if version == nil {
		return 0, false
	}
	return version.Body.(*Version).Mtime, true
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  string // with its prefix, "user."
	Value string
}

// Kind returns KindAttr.
func (a *Attr) Kind() uint8 { return KindAttr }

func (a *Attr) check() error {
	switch {
	case a.File == Nowhere:
		return fmt.Errorf("attributes of nowhere")
	case uint32(a.Mode)&^ModeBits != 0:
		return fmt.Errorf("mode %#o; permissions and sticky (%#o) travel, nothing else", a.Mode, ModeBits)
	case !a.HasMtime && a.Mtime != 0:
		return fmt.Errorf("a time of change that is not said to be there")
	case len(a.Xattrs) > MaxXattrs:
		return fmt.Errorf("%d extended attributes, allowed are %d", len(a.Xattrs), MaxXattrs)
	}
	size := 0
	for i, x := range a.Xattrs {
		if err := checkXattrName(x.Name); err != nil {
			return err
		}
		if i > 0 && a.Xattrs[i-1].Name >= x.Name {
			return fmt.Errorf("extended attributes whose names do not rise")
		}
		size += len(x.Name) + len(x.Value)
	}
	if size > MaxXattrBytes {
		return fmt.Errorf("%d bytes of extended attributes, allowed are %d", size, MaxXattrBytes)
	}
	return nil
}

func checkXattrName(name string) error {
	switch {
	case !strings.HasPrefix(name, "user."):
		return fmt.Errorf("the extended attribute %s; user.* travels, nothing else", quote(name))
	case name == "user." || len(name) > MaxXattrName || strings.Contains(name, "\x00"):
		return fmt.Errorf("the extended attribute %s, which cannot be", quote(name))
	}
	return nil
}

func (a *Attr) append(b []byte) []byte {
	b = append(b, a.File[:]...)
	b = binary.BigEndian.AppendUint16(b, a.Mode)
	if a.HasMtime {
		b = append(b, 1)
		b = binary.BigEndian.AppendUint64(b, uint64(a.Mtime))
	} else {
		b = append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(a.Xattrs)))
	for i := range a.Xattrs {
		x := &a.Xattrs[i]
		b = append(b, byte(len(x.Name)))
		b = append(b, x.Name...)
		b = binary.AppendUvarint(b, uint64(len(x.Value)))
		b = append(b, x.Value...)
	}
	return b
}

func decodeAttr(d *reader) *Attr {
	a := &Attr{}
	d.array(a.File[:], "file")
	a.Mode = d.u16("mode")
	switch flag := d.u8("flag of the time of change"); flag {
	case 0:
	case 1:
		a.HasMtime = true
		a.Mtime = sharefs.Time(d.u64("time of change"))
	default:
		d.refuse("a flag of %d", flag)
	}
	for range d.count(MaxXattrs, 2, "extended attributes") {
		var x Xattr
		x.Name = string(d.take(int(d.u8("extended attribute")), "extended attribute"))
		x.Value = string(d.take(d.count(MaxXattrBytes, 1, "bytes of an extended attribute"), "extended attribute"))
		if d.err != nil {
			return a
		}
		a.Xattrs = append(a.Xattrs, x)
	}
	return a
}
