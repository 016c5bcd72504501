package daemon

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"

	"sharefs"
	"sharefs/fs"
	"sharefs/peers/engine"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/peers/report"
	"sharefs/peers/trust"
	"sharefs/versions"
)

// decisions are the last ones of whoever accepts or rejects what peers propose, for who asked.
type decisions struct {
	mu   sync.Mutex // guards last
	last []report.Decided
}

// Bounds of decisions: how many are kept for who asked, and how long contents stay for a tree that takes them.
const (
	decisionsKept = 8
	acceptedFor   = 10 * time.Minute
)

func (d *decisions) add(one report.Decided) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last = append(d.last, one); len(d.last) > decisionsKept {
		d.last = d.last[1:]
	}
}

func (d *decisions) list() []report.Decided {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]report.Decided{}, d.last...)
}

// proposers are the peers with a tree in .share/peers, by name: those who may propose or more somewhere, and those of whom something waits.
func (t *travel) proposers() (all map[string]sharefs.PeerID, err error) {
	r := t.records()
	if r == nil {
		return nil, sharefs.KindNotExist
	}
	aside, err := r.AsideCounts()
	if err != nil {
		return nil, err
	}
	policy := t.d.peers.book.Policy()
	all = map[string]sharefs.PeerID{}
	for _, p := range t.d.peers.book.Peers() {
		if n := aside[p.ID]; n[replica.Proposed]+n[replica.Held] > 0 || policy.Most(p.ID).Rights().In >= trust.InQuarantine {
			all[p.Name] = p.ID
		}
	}
	return all, nil
}

// proposer finds who a path of .share/peers belongs to, and the path in his tree.
func (t *travel) proposer(path string) (id sharefs.PeerID, rest string, err error) {
	name, rest, _ := strings.Cut(path, "/")
	all, err := t.proposers()
	if err != nil {
		return id, "", err
	}
	id, ok := all[name]
	if !ok {
		err = sharefs.KindNotExist
	}
	return id, rest, err
}

// findPeers finds what .share/peers shows.
func (t *travel) findPeers(path string) (fs.Entry, error) {
	if path == "" {
		return closedDir(""), nil
	}
	id, rest, err := t.proposer(path)
	if err != nil {
		return fs.Entry{}, err
	}
	found, ok, err := t.records().Find(id, rest)
	if err != nil || !ok {
		return fs.Entry{}, notThere(err)
	}
	if rest == "" {
		_, found.Name = cutLast(path)
	}
	return t.shown(&found)
}

// listPeers lists a directory of .share/peers.
func (t *travel) listPeers(path string) (list []fs.Entry, err error) {
	if path == "" {
		all, err := t.proposers()
		for name := range all {
			list = append(list, closedDir(name))
		}
		slices.SortFunc(list, func(a, b fs.Entry) int { return strings.Compare(a.Name, b.Name) })
		return list, err
	}
	id, rest, err := t.proposer(path)
	if err != nil {
		return nil, err
	}
	all, err := t.records().List(id, rest)
	for i := range all {
		o, err := t.shown(&all[i])
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, err
}

// shown is something in the tree of a peer, as it would be made here.
func (t *travel) shown(s *replica.Shown) (fs.Entry, error) {
	root, err := t.d.tree.Getattr(sharefs.RootIno)
	if err != nil {
		return fs.Entry{}, err
	}
	o := fs.Entry{Name: s.Name}
	o.Attr.UID, o.Attr.GID, o.Attr.Mode = root.UID, root.GID, 0o644
	if s.Type == record.Directory {
		o.Attr.Mode = 0o755
	}
	if s.Attr != nil {
		o.Attr.Mode = uint32(s.Attr.Body.(*record.Attr).Mode)
	}
	switch {
	case s.Type == record.Directory:
		o.Attr.Mode |= sharefs.ModeDir
	case s.Version != nil:
		id := s.Version.ID()
		o.ID = binary.BigEndian.Uint64(id[:])
		o.Target = s.Version.Body.(*record.Version).Target
		t.fill(&o, s.Version)
	default:
		o.Attr.Mode |= sharefs.ModeRegular
		o.Open = func() (versions.VersionReader, error) {
			return nil, &sharefs.Error{Op: "read", Path: s.Name, Kind: sharefs.KindUnreachable, Detail: "nothing of its content has come yet"}
		}
	}
	return o, nil
}

// proposedAt finds FILE@@PEER where a peer proposes a version of the file.
func (t *travel) proposedAt(r *replica.Replica, path, name string) (fs.Entry, error) {
	for _, p := range t.d.peers.book.Peers() {
		if !strings.EqualFold(p.Name, name) {
			continue
		}
		rec, err := r.ProposedAt(p.ID, path)
		if err != nil || rec == nil {
			return fs.Entry{}, notThere(err)
		}
		return t.entry(path, name, rec), nil
	}
	return fs.Entry{}, sharefs.KindNotExist
}

// proposed tells what a peer proposes.
func (t *travel) proposed(peer string) (*report.Proposed, error) {
	p, err := t.d.peers.book.Find(peer)
	if err != nil {
		return nil, err
	}
	out := &report.Proposed{Peer: p.Name, ID: p.ID.String(), Changes: []report.Proposal{}}
	r := t.records()
	if r == nil {
		return out, nil
	}
	list, err := r.Changes(p.ID)
	for i := range list {
		out.Changes = append(out.Changes, proposal(&list[i]))
	}
	return out, err
}

func proposal(c *replica.Change) report.Proposal {
	p := report.Proposal{What: report.Changed, Path: c.Path, From: c.From, Type: "file", Content: c.Content(), Attributes: c.Attr, Times: c.Timed, Beside: c.Beside}
	switch {
	case c.Added:
		p.What, p.Content = report.Added, c.Type != record.Directory
	case c.Removed:
		p.What = report.Removed
	case c.Moved:
		p.What = report.Renamed
	}
	switch c.Type {
	case record.Directory:
		p.Type = "directory"
	case record.Symlink:
		p.Type = "symlink"
	}
	size := func(rec *record.Record) (n uint64) {
		if rec != nil {
			n = rec.Body.(*record.Version).Size
		}
		return n
	}
	if c.Timed {
		p.Time = time.Unix(0, int64(c.Mtime)).UTC()
	}
	p.Before = size(c.Live)
	if p.Size = p.Before; c.Proposed != nil {
		v := c.Proposed.Body.(*record.Version)
		p.Size, p.Target = v.Size, v.Target
		if c.Type != record.Symlink { // of which no times travel
			p.Time = time.Unix(0, int64(v.Mtime)).UTC()
		}
	}
	return p
}

// picked says which changes are meant: all, or those of some paths and below.
type picked struct {
	all   bool
	paths []string
}

func (p picked) has(c *replica.Change) bool {
	return p.all || slices.ContainsFunc(p.paths, func(path string) bool { return c.Covers(path) })
}

// decidable finds what is to be decided. Its errors name a path at which nothing is proposed.
func (t *travel) decidable(op, peer string, p picked) (r *replica.Replica, id sharefs.PeerID, name string, list []replica.Change, err error) {
	fail := func(path, detail string) error {
		return &sharefs.Error{Op: op, Path: path, Kind: sharefs.KindNotExist, Detail: detail}
	}
	who, err := t.d.peers.book.Find(peer)
	if err != nil {
		return nil, id, "", nil, err
	}
	if r = t.records(); r == nil {
		return nil, id, "", nil, fail("", "no files travel between this host and others, so nothing is proposed")
	}
	if err := t.takesNothing(); err != nil {
		return nil, id, "", nil, err
	}
	all, err := r.Changes(who.ID)
	if err != nil {
		return nil, id, "", nil, err
	}
	for i := range all {
		if p.has(&all[i]) {
			list = append(list, all[i])
		}
	}
	for _, path := range p.paths {
		if !slices.ContainsFunc(all, func(c replica.Change) bool { return c.Covers(path) }) {
			detail := "proposes nothing here"
			if _, there, err := r.Find(who.ID, path); err == nil && !there {
				if ino, _ := t.find(path); ino == 0 {
					detail = "proposes nothing of that name, and there is nothing of it here"
				}
			}
			return nil, id, "", nil, fail(path, who.Name+" "+detail+"; sharefs proposed "+who.Name+" lists what it does")
		}
	}
	if len(list) == 0 {
		return nil, id, "", nil, fail("", who.Name+" proposes nothing")
	}
	return r, who.ID, who.Name, list, nil
}

// accept takes what a peer proposes into the live tree, with its content.
func (t *travel) accept(asked, peer string, p picked) error {
	r, id, name, list, err := t.decidable("accept", peer, p)
	if err != nil {
		return err
	}
	var contents []*record.Record
	for i := range list {
		if c := &list[i]; c.Proposed != nil && c.Type == record.Regular {
			contents = append(contents, c.Proposed)
		}
	}
	why := map[record.ID]error{}
	lease, errs, err := t.engine.Fetch(contents)
	if err != nil {
		return err
	}
	time.AfterFunc(acceptedFor, func() { endLease(lease) }) // by then it is in the tree, or is fetched again
	for i, err := range errs {
		if err != nil {
			why[contents[i].ID()] = err
		}
	}
	var taken []replica.Change
	var left []replica.Left
	if err := t.carried(r, "accept "+name, func(d *replica.Decision) (err error) {
		taken, left, err = r.Accept(d, id, p.has)
		return err
	}); err != nil {
		return err
	}
	out := report.Decided{Asked: asked, Peer: name, Done: []report.Proposal{}, Left: []report.NotTaken{}}
	for i := range taken {
		out.Done = append(out.Done, proposal(&taken[i]))
	}
	for i := range left {
		l := &left[i]
		if l.Proposed != nil && why[l.Proposed.ID()] != nil {
			l.Err = why[l.Proposed.ID()]
		}
		out.Left = append(out.Left, report.NotTaken{Path: l.Path, Why: reason(l.Err)})
	}
	t.decisions.add(out)
	return nil
}

func endLease(l engine.Lease) { l.End() }

// reason says why something is not taken, without what was to be done, which who asked knows.
func reason(err error) string {
	if e, ok := err.(*sharefs.Error); ok {
		return cmp.Or(e.Detail, err.Error())
	}
	return err.Error()
}

// reject decides against what a peer proposes.
func (t *travel) reject(asked, peer string, p picked) error {
	r, id, name, list, err := t.decidable("reject", peer, p)
	if err != nil {
		return err
	}
	refused, err := r.Refuse(id, p.has)
	if err != nil {
		return err
	}
	out := report.Decided{Asked: asked, Peer: name, Done: []report.Proposal{}, Left: []report.NotTaken{}}
	done := map[string]bool{}
	for i := range refused {
		done[refused[i].Path] = true
		out.Done = append(out.Done, proposal(&refused[i]))
	}
	for i := range list {
		if !done[list[i].Path] {
			out.Left = append(out.Left, report.NotTaken{Path: list[i].Path, Why: "it is held, which sharefs held reject " + name + " decides"})
		}
	}
	t.decisions.add(out)
	return nil
}

// proposing tells of how many files each author proposes something.
func (t *travel) proposing() map[sharefs.PeerID]int {
	if r := t.records(); r != nil {
		if all, err := r.Proposing(); err == nil {
			return all
		}
	}
	return nil
}

// tellAll has peers told, and done here, what was written down.
func (t *travel) tellAll() {
	t.log.Look()
	t.ex.Grown()
	t.engine.Wake()
}
