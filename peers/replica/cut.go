package replica

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Hosts that revoke one at different moments have taken different things of it. So whoever revokes says up to where it counts for him, in a record that travels as others do (record.Cut). It is
// no rule anywhere: who still trusts the one that is cut does nothing but tell. On a host that has revoked it as well the lowest of the cuts by all who count in the whole tree is the end, and what it
// had taken past that, it takes back itself, in records of its own. What others went on from stays.
//
// Of the cuts that somebody has signed of one author the newest counts. One that allows all takes it back: he trusts the author anew.

// mostCuts is of how many authors the cuts of one signer are heeded, about: as many as a host can have peers, so that nobody fills memory with those of authors that he makes up. Beyond it the older
// half is forgotten.
const mostCuts = 1024

// Cut is what somebody has said of where an author ends.
type Cut struct {
	By   sharefs.PeerID
	At   time.Time
	Ends record.Cut
}

func cutOf(rec *record.Record) Cut { return Cut{rec.Author, rec.HLC.Time(), *rec.Body.(*record.Cut)} }

// cuts are the newest cuts, by who signed them and author.
type cuts map[sharefs.PeerID]map[sharefs.PeerID]*record.Record

// endless ends nothing.
func endless(c *record.Cut) bool { return c.Incarnation == ^uint64(0) && c.Number == ^uint64(0) }

func (cs cuts) note(rec *record.Record) {
	c, ok := rec.Body.(*record.Cut)
	if !ok {
		return
	}
	of := cs[rec.Author]
	if of == nil {
		of = map[sharefs.PeerID]*record.Record{}
		cs[rec.Author] = of
	}
	if was := of[c.Author]; was == nil || was.Compare(rec) < 0 {
		of[c.Author] = rec
	}
	if len(of) > mostCuts {
		all := slices.SortedFunc(maps.Values(of), (*record.Record).Compare)
		for _, old := range all[:len(all)/2] {
			delete(of, old.Body.(*record.Cut).Author)
		}
	}
}

// counting lists the cuts of an author by all who count in the whole tree here, but for those that were taken back.
func (r *Replica) counting(author sharefs.PeerID) (list []*record.Record) {
	for _, of := range r.cuts {
		if rec := of[author]; rec != nil && !endless(rec.Body.(*record.Cut)) && r.judge(rec) == Merged {
			list = append(list, rec)
		}
	}
	return list
}

// ownCut returns what this host says of where an author ends; nil: nothing, or that was taken back.
func (r *Replica) ownCut(author sharefs.PeerID) *record.Record {
	if own := r.cuts[r.cfg.Self][author]; own != nil && !endless(own.Body.(*record.Cut)) {
		return own
	}
	return nil
}

// Cuts lists where others, and this host, say that an author ends, as far as they count in the whole tree here, the oldest first. Those that were taken back are left out.
func (r *Replica) Cuts(author sharefs.PeerID) (list []Cut, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	for _, rec := range r.counting(author) {
		list = append(list, cutOf(rec))
	}
	slices.SortFunc(list, func(a, b Cut) int { return cmp.Or(a.At.Compare(b.At), bytes.Compare(a.By[:], b.By[:])) })
	return list, nil
}

// OwnCuts lists the authors whose end this host has said and not taken back.
func (r *Replica) OwnCuts() (authors []sharefs.PeerID, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	for author := range r.cuts[r.cfg.Self] {
		if r.ownCut(author) != nil {
			authors = append(authors, author)
		}
	}
	return authors, nil
}

// Cut says that an author of whom nothing counts here from now on ends where it was taken to, and the epoch of the share key that begins with it, 0: none. It does nothing where that was
// said and not taken back, and where this host cannot know it: its records were lost, or the author is known by single records alone, which say nothing of where they stand.
func (r *Replica) Cut(author sharefs.PeerID, epoch uint64) error {
	if author == r.cfg.Self {
		return &sharefs.Error{Op: "cut", Kind: sharefs.KindInvalid, Detail: "that is this host"}
	}
	if err := r.enter(); err != nil {
		return err
	}
	defer r.mu.Unlock()
	if r.lost || r.ownCut(author) != nil {
		return nil
	}
	end := &record.Cut{Author: author, Epoch: epoch}
	for id, c := range r.chains {
		if n := c.Head().Number; id.author == author && n > 0 && !end.Allows(id.incarnation, n) {
			end.Incarnation, end.Number = id.incarnation, n
		}
	}
	if end.Number == 0 && r.hasAlone(author) {
		return nil
	}
	return r.sayCut(end)
}

// hasAlone reports whether something of the tree is by an author, of whom no batch is here.
func (r *Replica) hasAlone(author sharefs.PeerID) (has bool) {
	if r.written[author] == 0 {
		return false
	}
	r.tree.Inputs(func(i converge.Input) {
		rec := i.Record
		has = has || rec.Author == author && i.Standing == converge.Merged && rec.Body.Kind() != record.KindCut && r.vouched[rec.ID()] == nil
	})
	return has
}

// Uncut takes back what this host has said of where an author ends.
func (r *Replica) Uncut(author sharefs.PeerID) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.mu.Unlock()
	if r.ownCut(author) == nil {
		return nil
	}
	return r.sayCut(&record.Cut{Author: author, Incarnation: ^uint64(0), Number: ^uint64(0)})
}

func (r *Replica) sayCut(c *record.Cut) error {
	var before []sharefs.HLC
	if own := r.cuts[r.cfg.Self][c.Author]; own != nil {
		before = append(before, own.HLC)
	}
	if err := r.say(c, before...); err != nil {
		return err
	}
	return r.sync()
}

// lowest returns the lowest cut of an author by all who count in the whole tree here; nil: there is none.
func (r *Replica) lowest(author sharefs.PeerID) (low *record.Record) {
	for _, rec := range r.counting(author) {
		if low == nil {
			low = rec
			continue
		}
		c, l := rec.Body.(*record.Cut), low.Body.(*record.Cut)
		if !c.Allows(l.Incarnation, l.Number) || l.Allows(c.Incarnation, c.Number) && rec.Compare(low) < 0 {
			low = rec
		}
	}
	return low
}

// Lowest returns the lowest cut of an author by all who count in the whole tree here, zero where there is none.
func (r *Replica) Lowest(author sharefs.PeerID) (Cut, error) {
	if err := r.enter(); err != nil {
		return Cut{}, err
	}
	defer r.mu.Unlock()
	if low := r.lowest(author); low != nil {
		return cutOf(low), nil
	}
	return Cut{}, nil
}

// Rows of the space global: "cut " and an author → up to where what it wrote was taken back, how many records of it were here then, and how many changes were taken back without being asked for: lower
// and lower cuts do not take back more by that than one.
func cutKey(author sharefs.PeerID) []byte { return append([]byte("cut "), author[:]...) }

func (r *Replica) cutRow(author sharefs.PeerID, c *record.Cut) []byte {
	v := binary.BigEndian.AppendUint64(u64(c.Incarnation), c.Number)
	return binary.BigEndian.AppendUint64(v, r.written[author])
}

// heeded reports whether a cut was heeded, and how many changes of its author were taken back unasked.
func (r *Replica) heeded(c *record.Cut) (done bool, unasked int, err error) {
	v, ok, err := r.cfg.Store.Get(spaceGlobal, cutKey(c.Author))
	if err != nil || !ok {
		return false, 0, err
	}
	if len(v) != 32 {
		return false, 0, damaged("cuts")
	}
	return bytes.Equal(v[:24], r.cutRow(c.Author, c)), int(binary.BigEndian.Uint64(v[24:])), nil
}

// Overruns lists the authors that the owner has revoked and whose lowest cut was not heeded yet.
func (r *Replica) Overruns() (authors []sharefs.PeerID, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if r.cfg.Revoked == nil || r.lost {
		return nil, nil
	}
	all := map[sharefs.PeerID]bool{}
	for _, of := range r.cuts {
		for author := range of {
			all[author] = true
		}
	}
	for author := range all {
		if _, revoked := r.cfg.Revoked(author); !revoked {
			continue
		}
		low := r.lowest(author)
		if low == nil {
			continue
		}
		done, _, err := r.heeded(low.Body.(*record.Cut))
		if err != nil {
			return nil, err
		}
		if !done {
			authors = append(authors, author)
		}
	}
	slices.SortFunc(authors, func(a, b sharefs.PeerID) int { return bytes.Compare(a[:], b[:]) })
	return authors, nil
}

// TakenBack is what it means to heed the lowest cut of an author.
type TakenBack struct {
	By      sharefs.PeerID // who signed it; zero: there is none
	Changes []Purged
	Much    bool // more than this host does by itself
}

// TakeBack heeds the lowest cut of an author as [Replica.Purge] does, of what is past it alone. Dry: nothing is changed. By itself a host takes back no more of one author, in all, than the owner lets an
// author remove at once: beyond that nothing is done, unless anyway is said. What was done is not done again, so that somebody can undo it.
func (r *Replica) TakeBack(d *Decision, author sharefs.PeerID, dry, anyway bool) (t TakenBack, err error) {
	if err := r.enter(); err != nil {
		return t, err
	}
	defer r.mu.Unlock()
	defer r.decides(d)()
	low := r.lowest(author)
	if low == nil || author == r.cfg.Self {
		return t, nil
	}
	t.By = low.Author
	c := low.Body.(*record.Cut)
	past, err := r.past(c)
	if err != nil {
		return t, err
	}
	_, unasked, err := r.heeded(c)
	if err != nil {
		return t, err
	}
	var p *purge
	if len(past) > 0 {
		p = newPurge(r, author, past)
		if t.Changes, err = p.work(true); err != nil {
			return t, err
		}
		if r.cfg.Revoked != nil {
			limit, _ := r.cfg.Revoked(author)
			t.Much = len(t.Changes) > 0 && limit.exceeded(unasked+len(t.Changes), r.tree.Names())
		}
	}
	if dry || t.Much && !anyway {
		return t, nil
	}
	if p != nil {
		err := r.takesBack(author, c, func() (err error) {
			if t.Changes, err = p.work(false); err == nil {
				err = p.tellRest()
			}
			return err
		})
		if err != nil {
			return t, err
		}
	}
	if !anyway {
		unasked += len(t.Changes)
	}
	r.put(spaceGlobal, cutKey(author), binary.BigEndian.AppendUint64(r.cutRow(author, c), uint64(unasked)))
	return t, r.sync()
}

// past lists the records of an author that are here past a cut: those of batches past it. What came alone is in no batch that is here. It is past the cut where all that
// the cut allows is here: in one incarnation there is nothing else. Incarnations before count whole, and what is as old as those may be of one. What was told of the
// author, by this host that has not got it any more, or by one that took it back, is as that.
func (r *Replica) past(c *record.Cut) (map[record.ID]bool, error) {
	past, within := map[record.ID]bool{}, map[record.ID]bool{}
	known := c.Incarnation == 0 && c.Number == 0
	var begin sharefs.HLC // of the incarnation that is cut, where there was one before
	for id, chain := range r.chains {
		if id.author != c.Author {
			continue
		}
		held := r.held(&record.Batch{Author: id.author, Incarnation: id.incarnation})
		for n := uint64(1); n <= chain.Head().Number; n++ {
			b, err := held(n)
			if err != nil {
				return nil, err
			}
			in := past
			if c.Allows(id.incarnation, n) {
				in = within
				known = known || id.incarnation == c.Incarnation && n == c.Number
			}
			if id.incarnation < c.Incarnation {
				begin = max(begin, b.HLC)
			}
			for _, rec := range b.Records {
				in[rec] = true
			}
		}
	}
	if known {
		r.tree.Inputs(func(i converge.Input) {
			rec := i.Record
			id, outer := rec.ID(), r.vouched[rec.ID()]
			if rec.Author != c.Author || rec.HLC <= begin {
				return
			}
			if outer == nil || outer.Author == r.cfg.Self || !r.backs[outer.ID()].IsZero() {
				past[id] = true
			}
		})
	}
	maps.DeleteFunc(past, func(id record.ID, _ bool) bool { return within[id] })
	return past, nil
}
