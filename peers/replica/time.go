package replica

import (
	"errors"
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// The time of a file's last change goes with its version. Who sets it behind that (touch -d, rsync, tar) makes no version, and it is told as an attribute ([record.Mtime]). So there is a time
// that the account says, by the version and the attributes that it says, and another one in a file at rest was set by somebody here.

// likeness is what an inode is like, as it is to be told.
type likeness struct {
	*record.Attr
	mtime sharefs.Time
	timed bool // mtime is that of the version of the account, or was set behind it; otherwise it is not known whether it is
}

// like looks what an inode is like. A file that may be written to, or holds what is no version yet, goes on having the time that was set, until its next version ends that.
func (r *Replica) like(e *entry, mode uint32) (now likeness, err error) {
	now.Attr = &record.Attr{File: e.id, Mode: uint16(mode & record.ModeBits)}
	if now.Xattrs, err = r.cfg.Tree.Xattrs(e.ino); err != nil || e.typ != record.Regular {
		return now, err
	}
	at, own, made, ok, err := r.cfg.Tree.Mtime(e.ino)
	if err != nil && !errors.Is(err, sharefs.KindStale) {
		return now, err
	}
	told, set := r.mtime(e.version, e.attr)
	// That of its making is one that somebody has set where another one was told, which the file had.
	if now.timed = err == nil && ok && own == e.own && (set || !made); now.timed {
		now.mtime = at
	} else {
		at, ok = told, set
	}
	setTime(now.Attr, at, ok, r.tree.Record(e.version))
	return now, nil
}

// setTime has attributes tell the time of a file's last change, if it is known and the version does not tell it.
func setTime(a *record.Attr, at sharefs.Time, known bool, version *record.Record) {
	of, told := record.Mtime(version, nil)
	if a.HasMtime, a.Mtime = known && (!told || of != at), 0; a.HasMtime {
		a.Mtime = at
	}
}

// mtime returns the time that a version of a file and a record of its attributes tell.
func (r *Replica) mtime(version, attr record.ID) (at sharefs.Time, ok bool) {
	return record.Mtime(r.tree.Record(version), r.tree.Record(attr))
}

// timeIn returns the time that a tree says of a regular file with a version as the live one, 0 where it says none.
func timeIn(t *converge.Tree, version *record.Record) sharefs.Time {
	at, _ := record.Mtime(version, t.Record(t.Attr(version.File())))
	return at
}

// sameTime reports whether two versions with attributes tell the same time, or both none.
func sameTime(version, attr, version2, attr2 *record.Record) bool {
	at, ok := record.Mtime(version, attr)
	at2, ok2 := record.Mtime(version2, attr2)
	return ok == ok2 && at == at2
}

// hasAttr reports whether a record says that a file is as it is; where its time cannot be told, that is the one of the account.
func (r *Replica) hasAttr(e *entry, id record.ID, now likeness) bool {
	rec := r.tree.Record(id)
	if rec == nil {
		return false
	}
	a := rec.Body.(*record.Attr)
	if a.Mode != now.Mode || !slices.Equal(a.Xattrs, now.Xattrs) {
		return false
	}
	if version := r.tree.Record(e.version); !now.timed {
		return sameTime(version, r.tree.Record(e.attr), version, rec)
	}
	at, ok := r.mtime(e.version, id)
	return ok && at == now.mtime
}

// isHalf reports whether a file is in part as the account says and in part as the records do of one of its names: then nobody here made it so, but this host, which was about to bring it from
// the one to the other and ended, or somebody opened the file meanwhile.
func (r *Replica) isHalf(e *entry, n *converge.Node, now likeness) bool {
	live := e.version
	if rec := r.tree.Record(n.Live); e.typ == record.Regular && rec != nil && r.holds(e, rec) {
		live = n.Live
	}
	if n.Attr == e.attr && live == e.version {
		return false
	}
	is := &record.Attr{Mode: plainMode(e.typ)}
	if rec := r.tree.Record(e.attr); rec != nil {
		is = rec.Body.(*record.Attr)
	}
	will := is
	if rec := r.tree.Record(n.Attr); rec != nil {
		will = rec.Body.(*record.Attr)
	}
	if now.Mode != is.Mode && now.Mode != will.Mode || !slices.Equal(now.Xattrs, is.Xattrs) && !slices.Equal(now.Xattrs, will.Xattrs) {
		return false
	}
	for _, version := range []record.ID{e.version, live} {
		for _, attr := range []record.ID{e.attr, n.Attr} {
			if at, ok := r.mtime(version, attr); ok && at == now.mtime {
				return true
			}
		}
	}
	return !now.timed
}

// retime gives a file the time that a version and attributes tell, if it is another one than the account says: what somebody has set here meanwhile stays otherwise, and is told. It errors with
// KindAgain where the content waits that is to have the time.
func (r *Replica) retime(e *entry, version, attr record.ID, waits bool) error {
	if e.typ != record.Regular {
		return nil
	}
	is, told := r.mtime(e.version, e.attr)
	will, ok := r.mtime(version, attr)
	switch {
	case ok == told && is == will:
		return nil
	case waits:
		return errAgain
	case ok:
		return r.cfg.Tree.SetMtime(e.ino, will, e.own)
	}
	return r.cfg.Tree.Mark([]Mark{{Ino: e.ino}}) // it has the time that somebody set, and nobody says it any more but this host
}
