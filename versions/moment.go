package versions

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"sharefs"
	"sharefs/versions/kv"
)

// A moment with a name belongs to an inode, of a file to the first one of its history (see lineage.go). A tag says when a file or directory was as somebody wants to find it again, and stays where it is; a tag on
// the root is a snapshot of the tree. A branch is a tag that moves: where it stands is where its work was left off, and the one that is switched to stands
// at the present. All of them are kept by retention, with the whole tree as it was then.
//
// On disk (space moment, key: inode (8, big endian), kind (1), name; of the branch that is switched to without a name):
//
//	1 byte    format, 1
//	8 bytes   the moment, then 8 when the row was written, both clock readings, big endian
//	uvarints  uid of whoever wrote it, number of the version that a file's branch stands at (0: none)
//	rest      the note; of the branch that is switched to its name
const momentFormat = 1

// MomentKind says what a moment with a name is.
type MomentKind uint8

// The kinds of moments. The numbers are on disk.
const (
	Tag            MomentKind = 1
	Branch         MomentKind = 2
	momentSwitched MomentKind = 3 // not a moment: which branch is switched to
)

func (k MomentKind) String() string {
	if k == Branch {
		return "branch"
	}
	return "tag"
}

// Moment is a moment with a name.
type Moment struct {
	Ino     sharefs.Ino
	Kind    MomentKind
	Name    string
	At      sharefs.HLC
	Created sharefs.HLC // when it was set
	UID     uint32      // of whoever set it
	Number  uint64      // of a file's branch: the version that it stands at; 0: none
	Note    string      // UTF-8, at most NoteMax bytes
}

func momentKey(ino sharefs.Ino, kind MomentKind, name string) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 9+len(name)), uint64(ino))
	return append(append(b, byte(kind)), name...)
}

func (m *Moment) encode() []byte {
	b := append(make([]byte, 0, 32+len(m.Note)), momentFormat)
	b = binary.BigEndian.AppendUint64(b, uint64(m.At))
	b = binary.BigEndian.AppendUint64(b, uint64(m.Created))
	b = binary.AppendUvarint(b, uint64(m.UID))
	b = binary.AppendUvarint(b, m.Number)
	return append(b, m.Note...)
}

// decodeMoment reads what encode wrote; anything else is an [sharefs.Error] of KindCorrupt.
func decodeMoment(key, value []byte) (Moment, error) {
	m := Moment{Ino: keyIno(key)}
	d := decoder{b: value}
	if len(key) < 9 || d.byte() != momentFormat {
		return m, corrupt("moment row", m.Ino)
	}
	m.Kind, m.Name = MomentKind(key[8]), string(key[9:])
	m.At, m.Created = sharefs.HLC(d.uint64()), sharefs.HLC(d.uint64())
	m.UID, m.Number = d.uint32(), d.uvarint()
	m.Note = string(d.b)
	if d.bad || m.Kind < Tag || m.Kind > momentSwitched || len(m.Note) > sharefs.NoteMax {
		return m, corrupt("moment row", m.Ino)
	}
	return m, nil
}

// loadMoment reads one row; KindNotExist: there is none.
func loadMoment(view kv.View, ino sharefs.Ino, kind MomentKind, name string) (Moment, error) {
	key := momentKey(ino, kind, name)
	b, ok, err := view.Get(spaceMoment, key)
	switch {
	case err != nil:
		return Moment{}, failed("read a moment", err)
	case !ok:
		return Moment{}, sharefs.KindNotExist
	}
	return decodeMoment(key, b)
}

// Moment finds the tag or branch of an inode with a name. KindNotExist: there is none. A branch that is switched to stands at [sharefs.MaxHLC].
func (t *Tree) Moment(ino sharefs.Ino, name string) (Moment, error) {
	m, err := t.findMoment(ino, Tag, name)
	if !errors.Is(err, sharefs.KindNotExist) {
		return m, err
	}
	m, err = t.findMoment(ino, Branch, name)
	if err != nil {
		return m, err
	}
	current, err := t.Switched(ino)
	if current == name {
		m.At = sharefs.MaxHLC
	}
	return m, err
}

// holder returns the inode by which the moments of a file are kept: the first one of its history, which stays the same when an editor replaces the
// file. It takes O(log n) reads.
func (t *Tree) holder(ino sharefs.Ino) (sharefs.Ino, error) {
	s, err := t.past.head(ino)
	if err != nil {
		return 0, err
	}
	s, err = t.past.back(s, func(segment) bool { return false })
	return s.ino, err
}

// findMoment reads a moment of a file or directory. One that was named before the file came to continue another one's history stands under its own inode.
func (t *Tree) findMoment(ino sharefs.Ino, kind MomentKind, name string) (Moment, error) {
	holder, err := t.holder(ino)
	if err != nil {
		return Moment{}, err
	}
	m, err := loadMoment(t.db, holder, kind, name)
	if errors.Is(err, sharefs.KindNotExist) && holder != ino {
		m, err = loadMoment(t.db, ino, kind, name)
	}
	return m, err
}

// Tags lists the tags of an inode in the order of their names.
func (t *Tree) Tags(ino sharefs.Ino) ([]Moment, error) { return t.momentsOf(ino, Tag) }

// Branches lists the branches of an inode in the order of their names. The one that is switched to stands at [sharefs.MaxHLC].
func (t *Tree) Branches(ino sharefs.Ino) ([]Moment, error) {
	list, err := t.momentsOf(ino, Branch)
	if err != nil {
		return nil, err
	}
	current, err := t.Switched(ino)
	for i := range list {
		if list[i].Name == current {
			list[i].At = sharefs.MaxHLC
		}
	}
	return list, err
}

func (t *Tree) momentsOf(ino sharefs.Ino, kind MomentKind) (list []Moment, err error) {
	holder, err := t.holder(ino)
	if err != nil {
		return nil, err
	}
	inos := []sharefs.Ino{holder}
	if holder != ino {
		inos = append(inos, ino)
	}
	for _, ino := range inos {
		err := t.scanMoments(momentKey(ino, kind, ""), momentKey(ino, kind+1, ""), func(m Moment) bool {
			if !slices.ContainsFunc(list, func(o Moment) bool { return o.Name == m.Name }) {
				list = append(list, m)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b Moment) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// NamedMoments calls fn for every tag and branch of every inode, in the order of the inodes, until it returns false. The branch that a file or
// directory is switched to is among them at the moment where it was left last.
func (t *Tree) NamedMoments(fn func(Moment) bool) error {
	return t.scanMoments(inoKey(1), nil, func(m Moment) bool { return m.Kind == momentSwitched || fn(m) })
}

func (t *Tree) scanMoments(from, to []byte, fn func(Moment) bool) error {
	var bad error
	err := t.db.Scan(spaceMoment, from, to, func(key, value []byte) bool {
		m, err := decodeMoment(key, value)
		if err != nil {
			bad = err
			return false
		}
		return fn(m)
	})
	if err == nil {
		err = bad
	}
	return failed("read moments", err)
}
