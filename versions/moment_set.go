package versions

import (
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sharefs"
	"sharefs/versions/when"
)

// MomentNameMax bounds the name of a tag or branch, in bytes.
const MomentNameMax = 128

// CheckMomentName refuses what cannot be the name of a tag or branch, with an error of KindInvalid that says why: names stand where numbers of versions and times
// may stand too.
func CheckMomentName(name string) error {
	why := ""
	switch {
	case name == "":
		why = "a name is wanted"
	case len(name) > MomentNameMax:
		why = "the name is longer than " + strconv.Itoa(MomentNameMax) + " bytes"
	case !utf8.ValidString(name):
		why = "the name is not UTF-8 text"
	case strings.Contains(name, "/") || strings.Contains(name, "@@"):
		why = "the name has / or @@ in it"
	case strings.ContainsFunc(name, unicode.IsControl):
		why = "the name has a control character in it"
	case name == "." || name == ".." || name == "log" || name == "meta":
		why = "the name stands for something else"
	case strings.Trim(name, "0123456789") == "":
		why = "the name is a number, which stands for a version"
	default:
		if _, err := when.Parse(name, time.Now()); err == nil {
			why = "the name can be read as a time"
		}
	}
	if why == "" {
		return nil
	}
	return &sharefs.Error{Op: "name a moment", Path: name, Kind: sharefs.KindInvalid, Detail: why}
}

// SetTag gives a moment of a file or directory a name, and returns what was written; [sharefs.MaxHLC] stands for now, with everything that was closed. Errors:
// KindExist where the inode has a tag or branch of that name, KindInvalid for a moment in the future and as [CheckMomentName] and for a note that is no
// text, KindTooBig for one of more than NoteMax bytes, KindStale.
func (t *Tree) SetTag(ino sharefs.Ino, name string, at sharefs.HLC, note string, who Caller) (Moment, error) {
	return t.setMoment("tag", Moment{Ino: ino, Kind: Tag, Name: name, At: at, UID: who.UID, Note: note}, false)
}

// SetBranch makes a branch of a file or directory, or moves it, to a moment, and of a file to the version with a number (0: none). Errors as [Tree.SetTag]; only a tag of
// that name is KindExist.
func (t *Tree) SetBranch(ino sharefs.Ino, name string, at sharefs.HLC, number uint64, note string, who Caller) (Moment, error) {
	return t.setMoment("branch", Moment{Ino: ino, Kind: Branch, Name: name, At: at, Number: number, UID: who.UID, Note: note}, true)
}

// RemoveTag takes a tag away. KindNotExist: there is none.
func (t *Tree) RemoveTag(ino sharefs.Ino, name string) error {
	return t.removeMoment("untag", ino, Tag, name)
}

// RemoveBranch takes a branch away; if it is the one that is switched to, none is afterwards. KindNotExist: there is none.
func (t *Tree) RemoveBranch(ino sharefs.Ino, name string) error {
	return t.removeMoment("remove a branch", ino, Branch, name)
}

// Switch notes which branch of a file or directory is worked on; "" is none. It changes nothing else. KindNotExist: there is no such branch.
func (t *Tree) Switch(ino sharefs.Ino, name string, who Caller) error {
	const op = "switch"
	if err := t.writable(op); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	holder, err := t.holder(ino)
	if err != nil {
		return err
	}
	x := t.begin()
	if name == "" {
		x.b.Delete(spaceMoment, momentKey(holder, momentSwitched, ""))
		x.b.Delete(spaceMoment, momentKey(ino, momentSwitched, ""))
		return x.commit()
	}
	if _, err := t.findMoment(ino, Branch, name); err != nil {
		return failed(op, err)
	}
	ino = holder
	now := t.clock.Next()
	m := Moment{Ino: ino, Kind: momentSwitched, At: now, Created: now, UID: who.UID, Note: name}
	x.b.Put(spaceMoment, momentKey(ino, momentSwitched, ""), m.encode())
	return x.commit()
}

// Switched returns the branch of a file or directory that is worked on; "": none.
func (t *Tree) Switched(ino sharefs.Ino) (string, error) {
	m, err := t.findMoment(ino, momentSwitched, "")
	if errors.Is(err, sharefs.KindNotExist) {
		return "", nil
	}
	return m.Note, err
}

func (t *Tree) setMoment(op string, m Moment, move bool) (Moment, error) {
	if err := t.writable(op); err != nil {
		return m, err
	}
	if err := CheckMomentName(m.Name); err != nil {
		return m, err
	}
	if err := checkNote(op, m.Note); err != nil {
		return m, err
	}
	if r, err := t.row(m.Ino); err != nil {
		return m, err
	} else if r.nlink == 0 {
		return m, stale(m.Ino)
	}
	v, err := t.ViewAt(m.At)
	if err != nil {
		return m, err
	}
	m.At = v.At()
	if err := t.wasThere(v, &m); err != nil {
		return m, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.stillKept(m.At); err != nil { // from here on retention sees the name before it gives a moment up
		return m, err
	}
	given := m.Ino
	if m.Ino, err = t.holder(given); err != nil {
		return m, err
	}
	for kind := Tag; kind <= Branch; kind++ {
		there, err := t.findMoment(given, kind, m.Name)
		if err == nil && move && kind == m.Kind {
			m.Ino = there.Ino
		}
		switch {
		case err == nil && !(move && kind == m.Kind):
			return m, &sharefs.Error{Op: op, Path: m.Name, Kind: sharefs.KindExist, Detail: "there is a " + kind.String() + " of that name"}
		case err != nil && !errors.Is(err, sharefs.KindNotExist):
			return m, err
		}
	}
	x := t.begin()
	m.Created = t.clock.Next()
	x.b.Put(spaceMoment, momentKey(m.Ino, m.Kind, m.Name), m.encode())
	return m, x.commit()
}

// wasThere refuses a moment at which neither the inode was there nor anything whose history it continues.
func (t *Tree) wasThere(v *View, m *Moment) error {
	if m.Number > 0 {
		return nil
	}
	if _, err := v.row(m.Ino); !errors.Is(err, sharefs.KindStale) {
		return err
	}
	all, err := t.Versions(m.Ino)
	if err == nil && (len(all) == 0 || all[0].At > m.At) {
		err = &sharefs.Error{Op: "name a moment", Path: m.Name, Kind: sharefs.KindNoAttr, Detail: "it was not there at " + m.At.String()}
	}
	return err
}

func (t *Tree) removeMoment(op string, ino sharefs.Ino, kind MomentKind, name string) error {
	if err := t.writable(op); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m, err := t.findMoment(ino, kind, name)
	if err != nil {
		return failed(op, err)
	}
	x := t.begin()
	x.b.Delete(spaceMoment, momentKey(m.Ino, kind, name))
	if current, err := t.Switched(ino); err == nil && kind == Branch && current == name {
		x.b.Delete(spaceMoment, momentKey(ino, momentSwitched, ""))
		x.b.Delete(spaceMoment, momentKey(m.Ino, momentSwitched, ""))
	}
	return x.commit()
}

// checkNote refuses what cannot be a note.
func checkNote(op, note string) error {
	switch {
	case len(note) > sharefs.NoteMax:
		return fail(op, sharefs.KindTooBig)
	case !utf8.ValidString(note) || strings.ContainsRune(note, 0):
		return &sharefs.Error{Op: op, Kind: sharefs.KindInvalid, Detail: "the note is not UTF-8 text"}
	}
	return nil
}
