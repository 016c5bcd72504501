package fs

import (
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

// command carries out what is written to one of the attributes that command. The kernel has checked that the writer
// may write to the file.
func (e *edge) command(cancel <-chan struct{}, in *fuse.SetXAttrIn, attr, value string) fuse.Status {
	ino, who := ino(in.NodeId), caller(&in.InHeader)
	switch attr {
	case attrCommit:
		if len(value) > sharefs.NoteMax {
			return fuse.Status(unix.E2BIG)
		}
		_, _, err := e.tree.Commit(ino, value)
		return status(err)
	case attrRestore:
		n, ok := versionNumber(value)
		if !ok {
			return fuse.EINVAL
		}
		if err := e.mayRestore(ino, n, who); err != nil {
			return status(err)
		}
		op := e.tree.Operate(who)
		op.Rest(ino)
		err := e.tree.Restore(op, ino, n, who)
		op.End(err)
		return status(err)
	case attrBring:
		if e.bring == nil {
			return fuse.Status(unix.EOPNOTSUPP)
		}
		return status(e.bring(cancel, ino))
	case attrFree:
		if e.free == nil {
			return fuse.Status(unix.EOPNOTSUPP)
		}
		err := e.free(ino)
		if err != nil {
			e.log.Debug("a file is not freed", "inode", ino, "error", err)
		}
		return status(err)
	case attrDescribe:
		number, note, _ := strings.Cut(value, "\n")
		n, ok := versionNumber(number)
		if !ok {
			return fuse.EINVAL
		}
		return status(e.tree.Describe(ino, n, note))
	}
	return status(e.momentCommand(ino, who, attr, value))
}

// momentCommand carries out the commands about moments with names.
func (e *edge) momentCommand(ino sharefs.Ino, who versions.Caller, attr, value string) error {
	switch attr {
	case attrSnapshot:
		if ino != sharefs.RootIno {
			return sharefs.KindInvalid
		}
		if value == "" {
			_, err := e.tree.Snapshot()
			return err
		}
		return e.setTag(ino, who, value)
	case attrTag:
		return e.setTag(ino, who, value)
	case attrUntag:
		return e.tree.RemoveTag(ino, value)
	case attrBranch:
		m, err := e.parseMoment(ino, value, true)
		if err == nil {
			if _, err = e.tree.Moment(ino, m.name); missing(err) { // else it is moved
				err = e.freeName(m.name, true)
			}
		}
		if err == nil {
			_, err = e.tree.SetBranch(ino, m.name, m.at, m.number, m.note, who)
		}
		return err
	case attrUnbranch:
		return e.tree.RemoveBranch(ino, value)
	case attrSwitch:
		return e.tree.Switch(ino, value, who)
	}
	return sharefs.KindNotSupported // what cp -a and rsync pass over in silence
}

func (e *edge) setTag(ino sharefs.Ino, who versions.Caller, value string) error {
	m, err := e.parseMoment(ino, value, false)
	if err == nil {
		err = e.freeName(m.name, false)
	}
	if err == nil {
		_, err = e.tree.SetTag(ino, m.name, m.at, m.note, who)
	}
	return err
}

// freeName refuses a name for a moment that means something else already: FILE@@NAME would not be what a peer wrote any more, or this host.
func (e *edge) freeName(name string, branch bool) error {
	if e.meant != nil && e.meant(name, branch) {
		return sharefs.KindInvalid
	}
	if e.peerName != nil && e.peerName(name) {
		return sharefs.KindExist
	}
	return nil
}

// namedMoment is what a command says of a moment.
type namedMoment struct {
	name, note string
	at         sharefs.HLC // MaxHLC: now
	number     uint64      // of a version; 0: none
}

// parseMoment reads NAME or NAME=TIME, and a note from the second line on. TIME may be the name of another moment and, where numbers are taken, the number of
// a version of the file.
func (e *edge) parseMoment(ino sharefs.Ino, value string, numbers bool) (m namedMoment, err error) {
	first, note, _ := strings.Cut(value, "\n")
	m = namedMoment{name: first, note: note, at: sharefs.MaxHLC}
	i := strings.LastIndexByte(first, '=')
	if i < 0 {
		return m, nil
	}
	var when string
	m.name, when = first[:i], first[i+1:]
	if n, ok := versionNumber(when); ok && numbers {
		v, err := e.tree.Version(ino, n)
		m.at, m.number = v.At, n
		return m, err
	}
	relative := false
	if m.at, _, relative, err = e.momentOf(ino, when); err != nil && missing(err) {
		err = sharefs.KindInvalid
	}
	if err == nil && relative {
		m.at, err = e.upToNow(m.at)
	}
	return m, err
}

// momentXattr fixes a moment at which all that was closed is to be seen, and returns it as .share/at takes it: no later change falls into its millisecond.
func (e *edge) momentXattr() ([]byte, error) {
	at, err := e.tree.Snapshot()
	if sharefs.KindOf(err) == sharefs.KindReadOnly { // nothing changes
		v, err := e.tree.ViewAt(sharefs.MaxHLC)
		if err != nil {
			return nil, err
		}
		return []byte(versionTime(v.At())), nil
	}
	if err != nil {
		return nil, err
	}
	v, err := e.tree.ViewAt(at | 0xffff)
	if err != nil {
		return nil, err
	}
	return []byte(versionTime(v.At())), nil
}
