package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"sharefs"
	"sharefs/fs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/peers/replica/host"
	"sharefs/versions"
)

// Patience of who reads content that is elsewhere: with a peer that sends it slowly, which no signal ends, and while no peer that is connected has it, for one may be about to connect.
const (
	readPatience   = 2 * time.Minute
	nobodyPatience = 5 * time.Second
	nobodyPause    = 100 * time.Millisecond
)

// hierarchies are the directories of .share that show what peers say beside the live tree.
func (t *travel) hierarchies() []fs.Hierarchy {
	return []fs.Hierarchy{
		{Name: "conflicts", Shown: t.readable, Find: t.findConflict, List: t.listConflicts},
		{Name: "peers", Shown: t.readable, Find: t.findPeers, List: t.listPeers},
	}
}

func (t *travel) readable() bool { return t.records() != nil }

// closedDir is a directory for whoever mounted alone.
func closedDir(name string) fs.Entry {
	return fs.Entry{Name: name, Attr: sharefs.Attr{Mode: sharefs.ModeDir | 0o500, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}}
}

// sided is one version of a conflict, by the name that is given to it: PEER@N is the N-th of those that who is called PEER wrote, the live one first.
type sided struct {
	name   string
	author string
	live   bool
	*record.Record
}

// sidesOf names the versions of a conflict that have come.
func (t *travel) sidesOf(c *replica.Conflict) []sided { return sidesOf(c, t.author) }

// sidesOf gives no two versions one name, even where two hosts are called the same, as those are of which a part of the id is told.
func sidesOf(c *replica.Conflict, called func(sharefs.PeerID) string) (all []sided) {
	add := func(rec *record.Record, live bool) {
		if rec == nil {
			return
		}
		s := sided{author: called(rec.Author), live: live, Record: rec}
		n := 1
		for i := range all {
			if strings.EqualFold(all[i].author, s.author) {
				n++
			}
		}
		s.name = fmt.Sprintf("%s@%d", s.author, n)
		all = append(all, s)
	}
	add(c.Live, true)
	for i := range c.Others {
		add(c.Others[i].Version, false)
	}
	return all
}

// called finds a version by its name, from which @N may be left out where its author wrote no other one. This host is also called what it calls itself, unless a peer is.
func (t *travel) called(all []sided, name string) *record.Record {
	if who, _, _ := strings.Cut(name, "@"); strings.EqualFold(who, t.d.peers.hub.Pairing().Name) {
		if rec := called(all, name); rec != nil {
			return rec
		}
		name = t.author(t.d.store.Keys.Peer()) + name[len(who):]
	}
	return called(all, name)
}

func called(all []sided, name string) *record.Record {
	var found *record.Record
	for i := range all {
		switch {
		case strings.EqualFold(all[i].name, name):
			return all[i].Record
		case !strings.EqualFold(all[i].author, name):
		case found != nil:
			return nil
		default:
			found = all[i].Record
		}
	}
	return found
}

// findConflict finds what .share/conflicts shows.
func (t *travel) findConflict(path string) (fs.Entry, error) {
	r := t.records()
	if r == nil {
		return fs.Entry{}, sharefs.KindNotExist
	}
	dir, last := cutLast(path)
	if path == "" {
		return closedDir(""), nil
	}
	if c, ok, err := r.ConflictAt(dir); err != nil {
		return fs.Entry{}, err
	} else if rec := t.called(t.sidesOf(&c), last); ok && rec != nil {
		return t.entry(c.Path, last, rec), nil
	}
	if _, ok, err := r.ConflictAt(path); err != nil || ok {
		return closedDir(last), err
	}
	below, err := r.Conflicts(path+"/", 1)
	if err == nil && (len(below) == 0 || !strings.HasPrefix(below[0].Path, path+"/")) {
		err = sharefs.KindNotExist
	}
	return closedDir(last), err
}

func cutLast(path string) (dir, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// listConflicts lists a directory of .share/conflicts: the other versions of the file that has its path, and the way to files that are below it.
func (t *travel) listConflicts(path string) ([]fs.Entry, error) {
	r := t.records()
	if r == nil {
		return nil, sharefs.KindNotExist
	}
	names := map[string]bool{}
	var all []fs.Entry
	if c, ok, err := r.ConflictAt(path); err != nil {
		return nil, err
	} else if ok {
		for _, s := range t.sidesOf(&c) {
			if !s.live {
				names[s.name] = true
				all = append(all, t.entry(c.Path, s.name, s.Record))
			}
		}
	}
	if path != "" {
		path += "/"
	}
	below, err := r.Conflicts(path, mostConflicts)
	for i := range below {
		rest, ok := strings.CutPrefix(below[i].Path, path)
		if name, _, _ := strings.Cut(rest, "/"); ok && !names[name] {
			names[name] = true
			all = append(all, closedDir(name))
		}
	}
	return all, err
}

// sideOf finds FILE@@PEER.
func (t *travel) sideOf(dir sharefs.Ino, file, suffix string) (fs.Entry, error) {
	r := t.records()
	if r == nil {
		return fs.Entry{}, sharefs.KindNotExist
	}
	path, ok, err := r.PathOf(dir, file)
	if err != nil || !ok {
		return fs.Entry{}, notThere(err)
	}
	c, ok, err := r.ConflictAt(path)
	if err != nil {
		return fs.Entry{}, err
	}
	if ok {
		if rec := t.called(t.sidesOf(&c), suffix); rec != nil {
			return t.entry(path, suffix, rec), nil
		}
	}
	return t.proposedAt(r, path, suffix)
}

// notThere is the error of what is not found.
func notThere(err error) error {
	if err == nil {
		err = sharefs.KindNotExist
	}
	return err
}

// entry is a version that is not live, beside the file of a path: one of its history where it was entered there. Who may read the file may read it.
func (t *travel) entry(path, name string, rec *record.Record) fs.Entry {
	v, id := rec.Body.(*record.Version), rec.ID()
	o := fs.Entry{Name: name, ID: binary.BigEndian.Uint64(id[:]), Target: v.Target}
	ino, regular := t.find(path)
	if regular {
		if o.Number, _ = t.d.tree.Numbered(ino, foreign(rec)); o.Number > 0 {
			o.Past, o.Attr.Mode = ino, sharefs.ModeRegular
			return o
		}
	}
	o.Attr = closedDir("").Attr
	if live, err := t.d.tree.Getattr(ino); regular && err == nil {
		o.Attr.Mode, o.Attr.UID, o.Attr.GID = live.Mode, live.UID, live.GID
	}
	o.Attr.Mode &= 0o444
	t.fill(&o, rec)
	return o
}

// fill completes an entry of a version by what the version says. The permissions stay.
func (t *travel) fill(o *fs.Entry, rec *record.Record) {
	v := rec.Body.(*record.Version)
	at := v.Mtime
	if v.Type() == record.Symlink { // its own times do not travel
		at = sharefs.Time(rec.HLC.Time().UnixNano())
	}
	o.Attr.Mtime, o.Attr.Atime, o.Attr.Ctime, o.Attr.Btime = at, at, at, at
	if v.Type() == record.Symlink {
		o.Attr.Mode = sharefs.ModeSymlink | 0o777
		return
	}
	o.Attr.Mode, o.Attr.Size = sharefs.ModeRegular|o.Attr.Mode&sharefs.ModePerm, v.Size
	o.Open = func() (versions.VersionReader, error) {
		return t.d.tree.OpenForeign(host.Contents([]*record.Record{rec})[0], fromPeers{t, rec})
	}
}

// fromPeers are peers as whoever reads a version sees them of which not all is here.
type fromPeers struct {
	t   *travel
	rec *record.Record
}

// Want implements [versions.Source].
func (fromPeers) Want(int, ...sharefs.ChunkID) {}

// Get implements [versions.Source]. What it returns the exchange has checked.
func (p fromPeers) Get(_ int, id sharefs.ChunkID, _ func([]byte) bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readPatience)
	defer cancel()
	for began := time.Now(); ; {
		data, err := p.t.ex.Get(ctx, p.rec, id)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return nil, &sharefs.Error{Op: "read", Kind: sharefs.KindUnreachable, Detail: "no peer has sent it within " + readPatience.String()}
		case !errors.Is(err, sharefs.KindUnreachable) || time.Since(began) > nobodyPatience:
			return data, err
		}
		select {
		case <-p.t.stop:
			return nil, err
		case <-time.After(nobodyPause):
		}
	}
}
