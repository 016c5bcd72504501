package daemon

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/peers/replica/host"
	"sharefs/peers/report"
	"sharefs/versions"
)

// mostConflicts is how many are told of, and kept readable, at a time.
const mostConflicts = 1000

// Pauses of who enters versions in conflict into the histories of their files: between two looks, and before what could not be had is tried again.
const (
	besidePause   = time.Second
	besideAgain   = 2 * time.Second
	besideLongest = 5 * time.Minute
)

// records returns the replica, nil until it is open.
func (t *travel) records() *replica.Replica {
	t.dbMu.Lock()
	defer t.dbMu.Unlock()
	return t.replica
}

// conflicts lists names of which several versions wait for a choice, by path.
func (t *travel) conflicts() []report.Conflict {
	out := []report.Conflict{}
	r := t.records()
	if r == nil {
		return out
	}
	list, err := r.Conflicts("", mostConflicts)
	if err != nil {
		t.d.log.Error("conflicts cannot be listed", "error", err)
		return out
	}
	for i := range list {
		bases, err := r.Bases(&list[i])
		if err != nil {
			t.d.log.Error("where versions in conflict went apart cannot be told", "error", err)
			bases = make([][]*record.Record, len(list[i].Others))
		}
		out = append(out, t.conflict(&list[i], bases))
	}
	return out
}

func (t *travel) conflict(c *replica.Conflict, bases [][]*record.Record) report.Conflict {
	ino, _ := t.find(c.Path)
	out := report.Conflict{Path: c.Path}
	if c.Live == nil {
		out.Sides = append(out.Sides, report.Side{Type: "directory", Live: true})
	} else {
		out.Sides = append(out.Sides, t.side(ino, c.Live))
		out.Sides[0].Live = true
	}
	for i, o := range c.Others {
		if o.Version != nil {
			s := t.side(ino, o.Version)
			s.Base = t.base(ino, bases[i])
			out.Sides = append(out.Sides, s)
		} else {
			out.Sides = append(out.Sides, report.Side{Type: "file"}) // of which nothing has come yet
		}
	}
	count, at := map[string]int{}, map[string]int{}
	for i := range out.Sides {
		count[out.Sides[i].Author]++
	}
	for i := range out.Sides {
		s := &out.Sides[i]
		if s.Take = s.Author; s.Take != "" && count[s.Author] > 1 {
			at[s.Author]++
			s.Take = fmt.Sprintf("%s@%d", s.Author, at[s.Author])
		}
	}
	return out
}

// side tells of a version; ino is the file that has the name here, 0 if none has.
func (t *travel) side(ino sharefs.Ino, rec *record.Record) report.Side {
	v, id := rec.Body.(*record.Version), rec.ID()
	s := report.Side{Author: t.author(rec.Author), By: rec.Author.String(), Type: "file", Size: v.Size, Changed: time.Unix(0, int64(v.Mtime)).UTC(), Target: v.Target, ID: hex.EncodeToString(id[:])}
	if v.Type() == record.Symlink {
		s.Type = "symlink"
		return s
	}
	if ino != 0 {
		s.Number, _ = t.d.tree.Numbered(ino, foreign(rec)) // 0 says that it cannot be read
	}
	return s
}

// base is the number of the first of some versions that can be read, 0 if none can.
func (t *travel) base(ino sharefs.Ino, list []*record.Record) uint64 {
	for _, rec := range list {
		if ino == 0 || rec.Body.(*record.Version).Type() != record.Regular {
			continue
		}
		if n, err := t.d.tree.Numbered(ino, foreign(rec)); err == nil && n > 0 {
			return n
		}
	}
	return 0
}

func foreign(rec *record.Record) versions.Foreign {
	return versions.Foreign{Content: host.Contents([]*record.Record{rec})[0], Author: rec.Author}
}

// author is what a host is called here.
func (t *travel) author(id sharefs.PeerID) string {
	p, _ := t.d.peers.book.Peer(id)
	return report.AuthorName(id, t.d.store.Keys.Peer(), p.Name)
}

// find returns the inode of a regular file of the live tree; ok is false where there is none at a path.
func (t *travel) find(path string) (ino sharefs.Ino, ok bool) {
	at := sharefs.Dentry{Ino: sharefs.RootIno}
	for name := range strings.SplitSeq(path, "/") {
		d, ok, err := t.d.tree.Slot(at.Ino, name)
		if err != nil || !ok {
			return 0, false
		}
		at = d
	}
	return at.Ino, at.Type&sharefs.ModeType == sharefs.ModeRegular
}

// resolve ends a conflict: the version with an id, in hexadecimal, is to be live, and those with some ids count as seen, all if there are none.
func (t *travel) resolve(path, take, of string) error {
	var ids []record.ID
	for _, text := range append([]string{take}, strings.Fields(of)...) {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(record.ID{}) {
			return ctlError("resolve", "take is the id of a version, and of are ids of versions")
		}
		ids = append(ids, record.ID(b))
	}
	r := t.records()
	if r == nil {
		return &sharefs.Error{Op: "resolve", Path: path, Kind: sharefs.KindNotExist, Detail: "no files travel between this host and others, so there are no conflicts"}
	}
	if err := t.takesNothing(); err != nil {
		return err
	}
	d := r.Decision("resolve")
	if err := t.take(r, d, path, ids[0], ids[1:]...); err != nil {
		return err
	}
	return t.await(r, d, true)
}

// take resolves a conflict, and has peers told.
func (t *travel) take(r *replica.Replica, d *replica.Decision, path string, id record.ID, of ...record.ID) error {
	if err := r.Resolve(d, path, id, of...); err != nil {
		return err
	}
	t.tellAll()
	return nil
}

// keepConflictsReadable enters versions that are in conflict into the histories of the files that have their names, as far as their content is to be had.
func (t *travel) keepConflictsReadable() {
	pause := time.Duration(0)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-t.beside:
			pause = 0
		case <-timer.C:
		}
		timer.Stop()
		switch done, soon := t.enterConflicts(); {
		case done:
			pause = 0
		case soon:
			pause = besideAgain
			timer.Reset(pause)
		default:
			pause = min(max(2*pause, besideAgain), besideLongest)
			timer.Reset(pause)
		}
		select { // one look serves all that comes in a burst
		case <-t.stop:
			return
		case <-time.After(besidePause):
		}
	}
}

// enterConflicts does so once, and reports whether nothing is left to be done, and whether some of what is left waits for this host alone: for a file to be captured, or to come to rest.
func (t *travel) enterConflicts() (done, soon bool) {
	r := t.records()
	if r == nil || t.takesNothing() != nil {
		return true, false
	}
	list, err := r.Conflicts("", mostConflicts)
	if err != nil {
		return false, false
	}
	t.conflicted.Store(int64(len(list)))
	done = true
	for i := range list {
		c := &list[i]
		if same, err := t.same(c); same || err != nil {
			if err == nil {
				err = t.take(r, nil, c.Path, c.Live.ID())
			}
			done = done && err == nil
			continue
		}
		ino, ok := t.find(c.Path)
		for _, o := range c.Others {
			if !ok || o.Version == nil || o.Version.Body.(*record.Version).Type() != record.Regular {
				continue
			}
			select {
			case <-t.stop:
				return true, false
			default:
			}
			if err := t.enterConflict(ino, o.Version); err != nil && sharefs.KindOf(err) != sharefs.KindNotSupported {
				t.d.log.Debug("a version in conflict cannot be read yet", "path", c.Path, "error", err)
				done, soon = false, soon || errors.Is(err, sharefs.KindAgain)
			}
		}
	}
	return done, soon
}

func (t *travel) enterConflict(ino sharefs.Ino, rec *record.Record) error {
	f := foreign(rec)
	if n, err := t.d.tree.Numbered(ino, f); err != nil || n > 0 {
		return err
	}
	lease, errs, err := t.engine.Fetch([]*record.Record{rec})
	if err != nil {
		return err
	}
	defer lease.End()
	if errs[0] != nil {
		return errs[0]
	}
	_, err = t.d.tree.Beside(ino, f)
	return err
}
