package replica

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Hold is what waits for the owner's yes or no of the removals and renames of one author.
type Hold struct {
	Author            sharefs.PeerID
	Since             time.Time // the first one came
	Removals, Renames int       // names that would go, or be others
	Before            int       // names that went before it was too much
	Names             []HeldName
	Counted           []HeldName // those of them that come back as well when it is rejected, by the paths that they have then
}

// HeldName is one of the names.
type HeldName struct {
	Path string
	Dir  bool
	To   string // its path by the rename; empty: it is removed
}

// Holds lists what waits for the owner, by author, with up to some names each. Errors are those of the database.
func (r *Replica) Holds(most int) (list []Hold, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	of := map[sharefs.PeerID]*Hold{}
	for key, ids := range r.heldAt {
		last := map[sharefs.PeerID]*record.Record{}
		for _, rec := range ids {
			if was := last[rec.Author]; was == nil || was.Says().Order().Compare(rec.Says().Order()) < 0 {
				last[rec.Author] = rec
			}
		}
		for author, rec := range last {
			h := of[author]
			if h == nil {
				b := r.bulkOf(author)
				h = &Hold{Author: author, Since: b.since}
				for _, n := range b.names {
					if n.through {
						h.Before++
					}
				}
				of[author] = h
			}
			n := HeldName{Dir: rec.Says().Body.(*record.Place).Type == record.Directory}
			if p := rec.Says().Body.(*record.Place); p.Removed() {
				h.Removals++
			} else {
				h.Renames++
				n.To, _ = r.path(&converge.Node{Slot: slotOf(p)})
			}
			if node, ok := r.tree.Node(key); ok {
				if n.Path, ok = r.path(&node); ok {
					h.Names = append(h.Names, n)
				}
			}
		}
	}
	first := func(all []HeldName) []HeldName {
		slices.SortFunc(all, func(a, b HeldName) int { return strings.Compare(a.Path, b.Path) })
		return all[:min(most, len(all))]
	}
	for author, h := range of {
		h.Names, h.Counted = first(h.Names), first(r.countedNames(author))
		list = append(list, *h)
	}
	slices.SortFunc(list, func(a, b Hold) int { return bytes.Compare(a.Author[:], b.Author[:]) })
	return list, nil
}

// Holding returns how many placements of each author are held.
func (r *Replica) Holding() (map[sharefs.PeerID]int, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	all := map[sharefs.PeerID]int{}
	for author, n := range r.holding {
		if n > 0 {
			all[author] = n
		}
	}
	return all, nil
}

// heldBy lists what is held of an author, in the order of all records.
func (r *Replica) heldBy(author sharefs.PeerID) (list []*record.Record) {
	for id, s := range r.aside[author] {
		if s == Held {
			list = append(list, r.tree.Record(id))
		}
	}
	slices.SortFunc(list, func(a, b *record.Record) int { return a.Order().Compare(b.Order()) })
	return list
}

// settleBulk ends a question: what the author removes and renames from now on is counted anew.
func (r *Replica) settleBulk(author sharefs.PeerID) {
	b := r.bulks[author]
	if b == nil {
		return
	}
	for key := range b.names {
		r.drop(spaceBulk, bulkKey(author, key))
	}
	r.drop(spaceBulk, append([]byte(nil), author[:]...))
	delete(r.bulks, author)
}

// AcceptHeld lets what is held of an author count, and returns how many records that were. It survives power loss; [Replica.Apply] does it.
func (r *Replica) AcceptHeld(d *Decision, author sharefs.PeerID) (n int, err error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.mu.Unlock()
	defer r.decides(d)()
	list := r.heldBy(author)
	ids := make([]record.ID, len(list))
	for i, rec := range list {
		ids[i] = rec.ID()
	}
	r.isDecided(ids...)
	r.decide(Merged, ids...)
	r.settleBulk(author)
	return len(list), r.sync()
}

// RejectHeld decides against what is held of an author, and returns how many names it puts back: what is held stays where it is, on all hosts, and what had gone before it was too much comes
// back where its name is free. This host says so itself, in records of its own, so that others follow who have let it count; what was held then counts here too, before what takes it
// back, so that all count the same. It survives power loss; [Replica.Apply] does it.
func (r *Replica) RejectHeld(d *Decision, author sharefs.PeerID) (n int, err error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.mu.Unlock()
	defer r.decides(d)()
	list := r.heldBy(author)
	if len(list) == 0 {
		return 0, nil
	}
	var ids []record.ID
	after := map[converge.Key]sharefs.HLC{}
	for _, rec := range list {
		p := rec.Says().Body.(*record.Place)
		key := converge.Key{File: p.File, Link: p.Link}
		after[key] = max(after[key], rec.HLC)
		ids = append(ids, rec.ID())
	}
	back := r.heldSlots(list)
	r.backCounted(author, back)
	keys := slices.SortedFunc(maps.Keys(back), converge.Key.Compare)
	// Directories first, so that what is in them is put into something.
	slices.SortStableFunc(keys, func(a, b converge.Key) int { return int(r.typeOf(a)) - int(r.typeOf(b)) })
	for _, key := range keys {
		s := back[key]
		before := append(r.aboveID(s.Parent), r.lastAt(key), after[key])
		if err := r.say(&record.Place{File: key.File, Link: key.Link, Type: r.typeOf(key), Parent: s.Parent, Name: s.Name}, before...); err != nil {
			return 0, err
		}
	}
	others := slices.DeleteFunc(slices.Clone(ids), func(id record.ID) bool { return !r.retypes(id) })
	r.decide(Known, others...)                             // what nothing takes back
	r.decide(Merged, slices.DeleteFunc(ids, r.retypes)...) // the others, each before what takes it back
	r.settleBulk(author)
	return len(keys), r.sync()
}

// heldSlots returns where names are that are held, and stay if that is rejected.
func (r *Replica) heldSlots(list []*record.Record) map[converge.Key]converge.Slot {
	back := map[converge.Key]converge.Slot{}
	for _, rec := range list {
		p := rec.Says().Body.(*record.Place)
		key := converge.Key{File: p.File, Link: p.Link}
		if last := r.last.Get(key); last != nil && !last.Body.(*record.Place).Removed() {
			back[key] = slotOf(last.Body.(*record.Place))
		}
	}
	return back
}

// countedNames lists what had counted of an author's removals and renames and comes back if what is held of him is rejected.
func (r *Replica) countedNames(author sharefs.PeerID) (list []HeldName) {
	back := r.heldSlots(r.heldBy(author))
	held := maps.Clone(back)
	r.backCounted(author, back)
	for key, s := range back {
		if _, stays := held[key]; stays {
			continue
		}
		n := HeldName{Path: s.Name, Dir: r.typeOf(key) == record.Directory}
		for range back { // below what comes back as well
			dir, ok := back[converge.Key{File: s.Parent}]
			if !ok {
				break
			}
			s, n.Path = dir, converge.Join(dir.Name, n.Path)
		}
		if dir, ok := r.tree.Path(s.Parent); ok {
			n.Path = converge.Join(dir, n.Path)
		}
		if node, ok := r.tree.Node(key); ok {
			n.To, _ = r.path(&node)
		}
		list = append(list, n)
	}
	return list
}

// backCounted adds to what is put back, by name, what an author had removed and renamed before it was too much.
func (r *Replica) backCounted(author sharefs.PeerID, back map[converge.Key]converge.Slot) {
	names := r.bulkOf(author).names
	keys := slices.SortedFunc(maps.Keys(names), func(a, b converge.Key) int { // of two that had one name, the one that had it last
		return cmp.Or(names[b].at.Compare(names[a].at), a.Compare(b))
	})
	goes, given := map[converge.Key]bool{}, map[converge.Slot]bool{}
	for _, key := range keys {
		n, last := names[key], r.last.Get(key)
		if !n.through && !n.over || given[n.was] || last == nil || last.Author != author || slotOf(last.Body.(*record.Place)) == n.was {
			continue // somebody else has decided on it since
		}
		goes[key], given[n.was] = true, true
	}
	held := map[converge.Slot]converge.Key{}
	for key, s := range back {
		held[s] = key
	}
	// All go whose names are free, or become free since what has them goes as well: files may have gone round.
	stays := func(key converge.Key, s converge.Slot) bool {
		if goes[key] {
			return false
		}
		to, moves := back[key]
		return !moves || to == s
	}
	for again := true; again; {
		again = false
		for _, key := range keys {
			s := names[key].was
			node, taken := r.tree.Lookup(s.Parent, s.Name)
			other, kept := held[s]
			if goes[key] && (taken && node.Key != key && stays(node.Key, s) || kept && other != key && stays(other, s)) {
				delete(goes, key)
				again = true
			}
		}
	}
	for key := range goes {
		back[key] = names[key].was
	}
}

func (r *Replica) typeOf(key converge.Key) record.Type {
	return r.last.Get(key).Body.(*record.Place).Type
}

// aboveID returns the times of the placements of a directory and of those above it.
func (r *Replica) aboveID(dir sharefs.FileID) (times []sharefs.HLC) {
	for range r.files.Len() {
		last := r.last.Get(converge.Key{File: dir})
		if last == nil {
			break
		}
		times = append(times, last.HLC)
		if p := last.Body.(*record.Place); !p.Removed() {
			dir = p.Parent
		} else {
			break
		}
	}
	return times
}
