package replica

import (
	"maps"
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// nameGone writes down that a name is gone, unless its inode has names of which nobody told yet.
func (r *Replica) nameGone(key converge.Key) error {
	e := r.files.Get(key.File)
	links, err := r.links(e.ino)
	if err != nil {
		return err
	}
	if e.typ == record.Directory && links > 0 || int(links) > e.names.Len() || links > 0 && (r.hidden || len(r.blind.slots) > 0) {
		return nil
	}
	if back, err := r.takeBack(e, key); err != nil || back {
		return err
	}
	if err := r.version(e); err != nil {
		return err
	}
	return r.sayGone(e, key)
}

// sayGone writes down that a name of a file is removed.
func (r *Replica) sayGone(e *entry, key converge.Key) error {
	node, shown := r.tree.Node(key)
	// One that was removed before may be there: when the remover had not seen all of it.
	if last := r.last.Get(key); last != nil && (shown || !last.Body.(*record.Place).Removed() && !(r.unseen && r.gaveWay(last))) {
		keys := []converge.Key{key}
		if shown {
			keys = append(keys, r.along(node.Merged)...)
		}
		for _, key := range keys {
			if err := r.removal(key, e.typ, r.seen(e), r.say); err != nil {
				return err
			}
		}
	}
	r.due[key] = true
	r.lose(e, key.Link)
	return nil
}

// seen lists the versions that somebody has seen of a file who removes a name of it here: the one that it has, and those that wait for a choice.
func (r *Replica) seen(e *entry) []record.ID {
	if e.typ == record.Directory {
		return nil
	}
	saw := map[record.ID]bool{}
	contents := map[string]bool{}
	look := func(id record.ID) {
		if rec := r.tree.Record(id); rec != nil {
			saw[id] = true
			contents[rec.Body.(*record.Version).Content()] = true
		}
	}
	heads := r.tree.Heads(e.id)
	look(e.version)
	if len(heads) > 0 && heads[0] == e.version {
		for _, id := range heads {
			if r.told[id] {
				look(id)
			}
		}
	}
	for _, id := range heads {
		if contents[r.tree.Record(id).Body.(*record.Version).Content()] {
			saw[id] = true
		}
	}
	return slices.Collect(maps.Keys(saw))
}

// removal has it said that a name is gone, with the times after which that is. Whoever takes the last name of a file away speaks for all names that he knows to be removed, or those would come
// back with what was written to the file since: so of anything but a directory it names the versions that were seen, and the last removals of other names. Aside are further ones that do
// not count here. What one record cannot name others of the same name do: what they saw counts together.
func (r *Replica) removal(key converge.Key, typ record.Type, versions []record.ID, say func(record.Body, ...sharefs.HLC) error, aside ...*record.Record) error {
	parts := [][]record.ID{nil}
	if typ != record.Directory {
		saw := slices.SortedFunc(slices.Values(versions), record.ID.Compare)
		for _, rec := range lastRemovals(append(slices.Clip(r.removals[key.File]), aside...), key.Link) {
			saw = append(saw, rec.ID())
		}
		if len(saw) > 0 {
			parts = slices.Collect(slices.Chunk(saw, record.MaxSeen))
		}
	}
	for _, part := range parts {
		p := &record.Place{File: key.File, Link: key.Link, Type: typ, Parent: record.Nowhere}
		if typ != record.Directory {
			p.Seen = r.cover(part, record.MaxSeen)
		}
		if err := say(p, append(r.times(p.Seen), r.lastAt(key))...); err != nil {
			return err
		}
	}
	return nil
}

// lastRemovals lists those removals of a file's names, but one, that none of them has seen, be it by way of a removal of that one.
func lastRemovals(removals []*record.Record, but uint64) (last []*record.Record) {
	byID := make(map[record.ID]*record.Record, len(removals))
	var saw []record.ID
	for _, rec := range removals {
		byID[rec.ID()] = rec
		if p := rec.Body.(*record.Place); p.Link != but {
			last = append(last, rec)
			saw = append(saw, p.Seen...)
		}
	}
	for len(saw) > 0 {
		id := saw[len(saw)-1]
		saw = saw[:len(saw)-1]
		if rec := byID[id]; rec != nil {
			delete(byID, id)
			saw = append(saw, rec.Body.(*record.Place).Seen...)
		}
	}
	return slices.DeleteFunc(last, func(rec *record.Record) bool { return byID[rec.ID()] == nil })
}
