package daemon

import (
	"fmt"
	"slices"
	"strings"

	"sharefs"
	"sharefs/internal/term"
	"sharefs/peers/exchange"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/peers/report"
	"sharefs/peers/trust"
)

// sync tells how far the tree and what peers say are. Named: with the names of files, which are not for everybody.
func (t *travel) sync(named bool) report.Sync {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := report.Sync{On: t.begun, LeftOut: []report.LeftOut{}, Troubles: []string{}, Waits: []string{}}
	if t.err != nil {
		s.Troubles = append(s.Troubles, t.err.Error())
	}
	if !t.begun {
		return s
	}
	e := t.engine.Status()
	s.Changes, s.Fetching, s.Contents, s.Bytes, s.Names = t.log.Known(), e.Fetching, e.Missing, e.Bytes, e.Names
	s.Troubles, s.Waits = e.Troubles, e.Waits
	s.Coming = t.coming()
	s.Receiving = len(s.Coming)
	for i := range s.Coming {
		s.Rate += s.Coming[i].Rate
	}
	if !named {
		s.Coming = nil
	}
	s.Conflicts = int(t.conflicted.Load())
	if r := t.records(); r != nil {
		s.Walking, _ = r.Walking()
		full, _ := r.Full() // without a database the engine says so
		for _, f := range full {
			name := t.author(f.Author)
			s.Troubles = append(s.Troubles, fmt.Sprintf("%s has written %d changes that are kept here, and may not have more: what is beyond waits (sharefs peers limit %s records=%d)", name, f.Most, name, 2*f.Most))
		}
	}
	s.Troubles = append(s.Troubles, t.unread(named)...)
	for _, n := range t.holding() {
		s.Held += n
	}
	s.LeftOut, s.Overruns = t.leftOut(), t.overruns()
	for _, n := range t.proposing() {
		s.Proposed += n
	}
	return s
}

// mostUnread is how many files are named that cannot be read.
const mostUnread = 8

// unread tells of what no peer is told, for it cannot be read.
func (t *travel) unread(named bool) []string {
	r := t.records()
	if r == nil {
		return nil
	}
	list, _ := r.Unread() // without a database the engine says so
	return unreadable(list, named)
}

func unreadable(list []replica.Unread, named bool) (troubles []string) {
	if !named && len(list) > 0 {
		return []string{term.Of(uint64(len(list)), "file") + " cannot be read, and no peer is told what changes with that (sharefs fsck tells what is damaged)"}
	}
	for i, u := range list {
		if i == mostUnread {
			return append(troubles, fmt.Sprintf("%d more files cannot be read, and no peer is told what changes with them", len(list)-i))
		}
		if u.Path == "" {
			u.Path = fmt.Sprintf("inode %d", uint64(u.Ino))
		}
		troubles = append(troubles, fmt.Sprintf("%s cannot be read, and no peer is told what changes with it (sharefs fsck tells what is damaged): %v", u.Path, u.Err))
	}
	return troubles
}

// coming tells of the files of which content comes. t.mu is held.
func (t *travel) coming() []report.Coming {
	list := []report.Coming{}
	r := t.records()
	for _, c := range t.ex.Coming() {
		v, ok := c.Version.Body.(*record.Version)
		if !ok {
			continue
		}
		one := report.Coming{Size: v.Size, Received: c.Bytes, Rate: c.Rate, From: []string{}}
		for _, id := range c.From {
			one.From = append(one.From, t.author(id))
		}
		upTo, fetched := t.engine.Reached(c.Version.ID())
		one.Here = min(max(upTo, c.Bytes), v.Size)
		if r != nil {
			one.Path, _ = r.PathOfFile(v.File)
			if ino := r.Held(v); ino != 0 && !fetched {
				if p, err := t.d.tree.Presence(ino); err == nil && p.Size == v.Size {
					one.Here = min(p.Here, v.Size)
				}
			}
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b report.Coming) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// receives reports whether content comes at present.
func (t *travel) receives() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.begun && len(t.ex.Coming()) > 0
}

// mostLeftOut is of how many hosts it is told that what they write does not count here.
const mostLeftOut = 32

// leftOut tells whose changes were passed over.
func (t *travel) leftOut() []report.LeftOut {
	out := []report.LeftOut{}
	r := t.records()
	if r == nil {
		return out
	}
	list, err := r.PassedOver()
	if err != nil {
		return out
	}
	policy := t.d.peers.book.Policy()
	for _, p := range list[:min(mostLeftOut, len(list))] {
		l := report.LeftOut{ID: p.Author.String(), Changes: p.Records, Via: t.author(p.Via)}
		if known, ok := t.d.peers.book.Peer(p.Author); ok {
			l.Name, l.Level = known.Name, policy.Most(p.Author).String()
		} else if i, ok := t.d.peers.hub.Introduced(p.Author); ok {
			l.Via, l.Calls, l.Addresses = t.author(i.Via), i.Name, i.Addrs
			if i.Name != "" {
				l.MayBe = t.d.peers.book.FreeName(i.Name)
			}
		}
		out = append(out, l)
	}
	return out
}

// askWho asks peers who wrote what was passed over, of whom nothing is known here.
func (t *travel) askWho() {
	var ids []sharefs.PeerID
	for _, l := range t.leftOut() {
		if id, err := sharefs.ParsePeerID(l.ID); err == nil && l.Stranger() {
			ids = append(ids, id)
		}
	}
	t.d.peers.hub.Strangers(ids)
}

// present is what is told of several peers, looked up once.
type present struct {
	exchanged       []exchange.Status
	held, proposing map[sharefs.PeerID]int
	others          map[sharefs.PeerID]uint64 // changes by hosts of which nothing counts, by who brought them
	coming          map[sharefs.PeerID]int    // files of which content comes
	missing         int                       // files whose newest content is elsewhere
}

func (t *travel) present() present {
	p := present{exchanged: t.exchanged(), held: t.holding(), proposing: t.proposing(), others: map[sharefs.PeerID]uint64{}, coming: map[sharefs.PeerID]int{}}
	if r := t.records(); r != nil {
		passed, _ := r.PassedOver() // what cannot be read is told of elsewhere
		for _, o := range passed {
			p.others[o.Via] += o.Records
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun {
		p.missing = t.engine.Status().Missing
		for _, c := range t.ex.Coming() {
			for _, id := range c.From {
				p.coming[id]++
			}
		}
	}
	return p
}

// files tells how files travel between this host and a peer; nil where they cannot.
func (t *travel) files(now *present, policy trust.Policy, id sharefs.PeerID) *report.Files {
	rights := policy.Most(id).Rights()
	if rights.Out < trust.OutPlain {
		return nil
	}
	f := &report.Files{Held: now.held[id], Proposed: now.proposing[id], Trusted: policy.MergesAll(id), Missing: now.missing, Others: now.others[id]}
	for i := range now.exchanged {
		s := &now.exchanged[i]
		if s.Peer != id {
			continue
		}
		f.Sends, f.Takes, f.Receives, f.Refused = s.Sends, s.Takes, s.Receives, s.Refused
		f.Waiting = s.Taken < s.Known
		if f.Sends {
			f.Lacks = t.log.Behind(id, s.Acked, report.MostLacks)
		}
		f.Coming = now.coming[id]
		f.Sent, f.Received, f.Rate, f.Error = s.Out.Bytes, s.In.Bytes, s.Rate, s.Error
		f.LeftOut = s.LeftOut
	}
	return f
}

// exchanged tells of all exchanges.
func (t *travel) exchanged() []exchange.Status {
	t.mu.Lock()
	ex := t.ex
	t.mu.Unlock()
	if ex == nil {
		return nil
	}
	return ex.Peers()
}
