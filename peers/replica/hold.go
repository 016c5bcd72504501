package replica

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Bulk bounds what one author may remove and rename before the rest waits for the owner. The zero value bounds nothing.
type Bulk struct {
	Files   int // names, of files and directories, within that time; of a small tree fewer:
	Percent int // of all names
	Least   int // but so many at the least
	Within  time.Duration
}

// mostBulk bounds what is remembered of the removals and renames of one author, beyond what is held and what counted.
const mostBulk = 1024

// bulk is what of the names of this host one author removed or renamed lately, as it came here.
type bulk struct {
	names map[converge.Key]bulkName
	since time.Time // when the first one was held that waits still; zero: none
	// aside are names that got another place while something else got theirs, as a file has that an editor keeps until it has saved. In memory alone.
	aside map[converge.Key]asideName
	// temps are names that he gave lately to what was new, where nothing was, and which has taken the name of nothing else since. In memory alone: after a restart they count.
	temps young[converge.Key]
}

// asideName is the name that something had which somebody saves, until he began.
type asideName struct {
	converge.Slot
	at time.Time
}

type bulkName struct {
	at      time.Time
	was     converge.Slot
	through bool // it counted
	over    bool // it did not count, since something that counted was renamed over it: with that it comes back
}

func bulkKey(author sharefs.PeerID, key converge.Key) []byte {
	return append(append([]byte(nil), author[:]...), keyRow(key)...)
}

func unixRow(t time.Time) []byte { return u64(uint64(t.UnixNano())) }

func (r *Replica) bulkOf(author sharefs.PeerID) *bulk {
	b := r.bulks[author]
	if b == nil {
		b = &bulk{names: map[converge.Key]bulkName{}, aside: map[converge.Key]asideName{}, temps: newYoung[converge.Key]()}
		r.bulks[author] = b
	}
	return b
}

// watch looks at the places in one item of an author whose removals and renames are counted.
type watch struct {
	r      *Replica
	author sharefs.PeerID
	limit  Bulk
	now    time.Time
	gives  map[converge.Slot]bool // names that the item gives to something
	saved  map[string]bool        // contents that the item says files have from now on which were there before
}

// watches returns the watch of an item; nil if its author may remove as much as he likes.
func (r *Replica) watches(i *Item) *watch {
	w := r.watchOf(i.author())
	if w == nil {
		return nil
	}
	for _, rec := range i.Records {
		// Also what comes later in the item: a file that is saved under another name first.
		switch b := rec.Says().Body.(type) {
		case *record.Place:
			if !b.Removed() && r.last.Get(converge.Key{File: b.File, Link: b.Link}) == nil {
				w.gives[slotOf(b)] = true
			}
		case *record.Version:
			if r.placed[b.File] {
				w.saved[b.Content()] = true
			}
		}
	}
	return w
}

// watchOf returns the watch of an author; nil if he may remove as much as he likes.
func (r *Replica) watchOf(author sharefs.PeerID) *watch {
	if r.cfg.Bulk == nil || author == r.cfg.Self {
		return nil
	}
	limit := r.cfg.Bulk(author)
	if limit.Files == 0 {
		return nil
	}
	w := &watch{r: r, author: author, limit: limit, now: r.cfg.Now(), gives: map[converge.Slot]bool{}, saved: map[string]bool{}}
	b := r.bulks[author]
	if b != nil && !b.since.IsZero() && r.holding[author] == 0 {
		b.since = time.Time{}
		r.drop(spaceBulk, append([]byte(nil), author[:]...))
	}
	if b != nil {
		maps.DeleteFunc(b.aside, func(_ converge.Key, n asideName) bool { return w.now.Sub(n.at) >= limit.Within })
		b.temps.prune(w.now.Add(-limit.Within))
	}
	if b != nil && b.since.IsZero() {
		for key, n := range b.names {
			if w.now.Sub(n.at) >= limit.Within {
				delete(b.names, key)
				r.drop(spaceBulk, bulkKey(author, key))
			}
		}
	}
	return w
}

// judge tells what a record counts that would be merged.
func (w *watch) judge(rec *record.Record) Standing {
	r := w.r
	p, ok := rec.Says().Body.(*record.Place)
	if !ok {
		return Merged
	}
	if r.tree.Retypes(rec.Says()) { // with it all goes that is below a directory
		return w.hold()
	}
	key := converge.Key{File: p.File, Link: p.Link}
	last := r.last.Get(key)
	if last == nil && p.Type != record.Directory {
		w.begins(key, p)
	}
	if !w.takesAway(rec, p, last) {
		if last != nil {
			delete(r.bulkOf(w.author).temps.at, key)
		}
		over, replaced := w.other(p)
		w.give(p)
		if b := r.bulkOf(w.author); replaced && b.names[key].over { // it comes back, so that what it goes over can
			w.replaces(b, over.Key, slotOf(p))
		}
		return Merged
	}
	was := slotOf(last.Body.(*record.Place))
	b := r.bulkOf(w.author)
	through := !w.full(b, key) && len(r.heldFrom(w.author, key)) == 0
	if had := b.names[key]; had.through && last.Author == w.author {
		was = had.was // where it was before all
	}
	w.count(b, key, bulkName{at: w.now, was: was, through: through})
	if through {
		over, replaced := w.other(p)
		w.give(p)
		if replaced {
			w.replaces(b, over.Key, slotOf(p))
		}
		return Merged
	}
	return w.hold()
}

// hold notes since when something of the author is held.
func (w *watch) hold() Standing {
	if b := w.r.bulkOf(w.author); b.since.IsZero() {
		b.since = w.now
		w.r.put(spaceBulk, append([]byte(nil), w.author[:]...), unixRow(w.now))
	}
	return Held
}

func slotOf(p *record.Place) converge.Slot { return converge.Slot{Parent: p.Parent, Name: p.Name} }

// takesAway reports whether a placement takes away a name that this host has, so that nothing has it any more.
func (w *watch) takesAway(rec *record.Record, p *record.Place, last *record.Record) bool {
	r := w.r
	if last == nil {
		return false
	}
	old := last.Body.(*record.Place)
	came, young := r.young.at[p.File]
	switch {
	case young && rec.Says().HLC < sharefs.HLCAt(came.Add(time.Millisecond)): // it had gone before it came, as in a log that is read from its beginning; what tells the time tells no finer one
		return false
	case old.Removed() || rec.Says().Order().Compare(last.Order()) < 0 && p.Type == old.Type:
		return false
	case !p.Removed() && slotOf(p) == slotOf(old) && p.Type == old.Type:
		return false
	}
	b := r.bulkOf(w.author)
	key := converge.Key{File: p.File, Link: p.Link}
	if w.saves(b, key, p) || !p.Removed() && w.putsBack(key, slotOf(p)) {
		return false
	}
	if n, aside := b.aside[key]; aside && (p.Removed() || slotOf(p) == n.Slot) {
		return false
	}
	if young && p.Removed() && last.Author == rec.Says().Author && w.holds(p.File, last.Author) {
		w.uncount(b, key)
		return false
	}
	stays := w.stays(slotOf(old), p.File)
	if stays && len(b.aside) < mostBulk {
		b.aside[key] = asideName{slotOf(old), w.now}
	}
	return !stays
}

// putsBack reports whether a place is the one that a name had until this host itself gave it others: whoever rejects what was done here puts it back, and that is not held again.
func (w *watch) putsBack(key converge.Key, s converge.Slot) (back bool) {
	w.r.tree.Places(key, func(rec *record.Record) bool {
		back = slotOf(rec.Says().Body.(*record.Place)) == s
		return !back && rec.Author == w.r.cfg.Self
	})
	return back
}

// holds reports whether the item says of a file that was there before that it holds from now on what another one does, all of which somebody wrote: he made that one to save it. What others wrote to
// was not made for that.
func (w *watch) holds(id sharefs.FileID, author sharefs.PeerID) bool {
	heads := w.r.tree.Heads(id)
	return len(heads) > 0 && !slices.ContainsFunc(heads, func(id record.ID) bool {
		rec := w.r.tree.Record(id)
		return rec.Author != author || !w.saved[rec.Body.(*record.Version).Content()]
	})
}

// begins notes a name that is given to what is new, where nothing is. Those that were noted longest ago go where it would be too many.
func (w *watch) begins(key converge.Key, p *record.Place) {
	t := &w.r.bulkOf(w.author).temps
	if _, taken := w.r.tree.Lookup(p.Parent, p.Name); taken || p.Removed() {
		delete(t.at, key)
		return
	}
	t.add(key, w.now)
	t.trim(mostBulk)
}

// other returns what else has the name that a placement gives.
func (w *watch) other(p *record.Place) (n converge.Node, ok bool) {
	n, ok = w.r.tree.Lookup(p.Parent, p.Name)
	return n, ok && !p.Removed() && n.Key.File != p.File
}

// saves reports whether a placement renames what its author made lately over something else, as most programs do that save: no name goes that was here for long. With that it is what has the
// name, and neither it nor a rename of it before is to be taken back.
func (w *watch) saves(b *bulk, key converge.Key, p *record.Place) bool {
	at, made := b.temps.at[key]
	if n, over := w.other(p); !made || !over || n.Type == record.Directory || w.now.Sub(at) >= w.limit.Within {
		return false
	}
	delete(b.temps.at, key)
	w.uncount(b, key)
	return true
}

// replaces notes what a rename that counts took a name of, so that both come back together.
func (w *watch) replaces(b *bulk, over converge.Key, at converge.Slot) {
	if !b.names[over].through {
		w.set(b, over, bulkName{at: w.now, was: at, over: true})
	}
}

// stays reports whether something else has a name, so that it is no removal if a file loses it: somebody saved.
func (w *watch) stays(s converge.Slot, but sharefs.FileID) bool {
	if w.gives[s] {
		return true
	}
	n, ok := w.r.tree.Lookup(s.Parent, s.Name)
	return ok && (n.Key.File != but || slices.ContainsFunc(n.Conflicts, func(c converge.Conflict) bool { return c.Key.File != but }))
}

// give notes that a name is given to something. If what has it until then is held back from going away, it goes: the name stays.
func (w *watch) give(p *record.Place) {
	if p.Removed() {
		return
	}
	w.gives[slotOf(p)] = true
	n, ok := w.r.tree.Lookup(p.Parent, p.Name)
	if !ok || n.Key.File == p.File {
		return
	}
	held := slices.DeleteFunc(w.r.heldFrom(w.author, n.Key), w.r.retypes)
	if len(held) == 0 {
		return
	}
	w.r.moot = append(w.r.moot, held...) // when the item is in the tree, of which they may be
	w.uncount(w.r.bulkOf(w.author), n.Key)
}

// full reports whether one name more is too much.
func (w *watch) full(b *bulk, key converge.Key) bool {
	n, gone := 1, 0
	for k, v := range b.names {
		if v.over || w.now.Sub(v.at) >= w.limit.Within {
			continue
		}
		if v.through {
			gone++
		}
		if k != key {
			n++
		}
	}
	return w.limit.exceeded(n, w.r.tree.Names()+gone)
}

// exceeded reports whether so many names of a tree are more than the bound.
func (b Bulk) exceeded(n, names int) bool {
	return b.Files > 0 && n > min(b.Files, max(b.Least, names*b.Percent/100))
}

func (w *watch) count(b *bulk, key converge.Key, n bulkName) {
	if had, ok := b.names[key]; ok && had.through && !n.through {
		n.was, n.through = had.was, true // where it was before all
	} else if !ok && !n.through && len(b.names) >= mostBulk {
		w.forget(b)
	}
	w.set(b, key, n)
}

// forget forgets of names that are held the one that was counted longest ago, where there are too many. Those that counted stay, of which there are no more than may go within the time: they
// are to come back with the others.
func (w *watch) forget(b *bulk) {
	var oldest converge.Key
	held := 0
	for k, v := range b.names {
		if v.through || v.over {
			continue
		}
		if o := b.names[oldest]; held == 0 || v.at.Before(o.at) || v.at.Equal(o.at) && k.Compare(oldest) < 0 {
			oldest = k
		}
		held++
	}
	if held >= mostBulk {
		w.uncount(b, oldest)
	}
}

// set notes what became of a name.
func (w *watch) set(b *bulk, key converge.Key, n bulkName) {
	b.names[key] = n
	row, how := unixRow(n.at), byte(1)
	if n.over {
		how = 2
	}
	if n.through || n.over {
		row = append(append(append(row, how), n.was.Parent[:]...), n.was.Name...)
	}
	w.r.put(spaceBulk, bulkKey(w.author, key), row)
}

func (w *watch) uncount(b *bulk, key converge.Key) {
	if _, ok := b.names[key]; ok {
		delete(b.names, key)
		w.r.drop(spaceBulk, bulkKey(w.author, key))
	}
}

// heldFrom lists the placements of a name that are held, by an author.
func (r *Replica) heldFrom(author sharefs.PeerID, key converge.Key) (ids []record.ID) {
	for id, rec := range r.heldAt[key] {
		if rec.Author == author {
			ids = append(ids, id)
		}
	}
	return ids
}

// retypes reports whether a record says that a file is something else than is known, by an earlier placement. No honest author is the cause. It takes no name from a file, but all that is
// below a directory, and is never moot.
func (r *Replica) retypes(id record.ID) bool {
	rec := r.tree.Record(id)
	return rec != nil && r.tree.Retypes(rec.Says())
}

// overtakes notes held placements of a name where one counts that comes later: they change nothing any more, and so may count, as they do on hosts that hold nothing.
func (r *Replica) overtakes(key converge.Key, rec *record.Record) {
	for id, held := range r.heldAt[key] {
		if !r.retypes(id) && held.Says().Order().Compare(rec.Order()) < 0 {
			r.moot = append(r.moot, id)
		}
	}
}

// loadBulks reads what was removed and renamed lately.
func (r *Replica) loadBulks() error {
	bad := false
	err := r.cfg.Store.Scan(spaceBulk, nil, nil, func(k, v []byte) bool {
		if len(v) < 8 || len(k) != 32 && len(k) != 56 || len(v) > 8 && (len(v) < 8+1+16 || v[8] != 1 && v[8] != 2) {
			bad = true
			return false
		}
		at := time.Unix(0, int64(binary.BigEndian.Uint64(v)))
		b := r.bulkOf(sharefs.PeerID(k[:32]))
		if len(k) == 32 {
			b.since = at
			return true
		}
		n := bulkName{at: at}
		if len(v) > 8 {
			n.through, n.over, n.was = v[8] == 1, v[8] == 2, converge.Slot{Parent: sharefs.FileID(v[9:25]), Name: string(v[25:])}
		}
		b.names[converge.Key{File: sharefs.FileID(k[32:48]), Link: binary.BigEndian.Uint64(k[48:])}] = n
		return true
	})
	if err == nil && bad {
		err = damaged("count of removals")
	}
	return err
}
