package replica

import (
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// mostBetween bounds how many versions of a file are looked at that nobody has written down.
const mostBetween = 1000

// catchUp has the account learn which of the versions that the records know a file held before its newest one. Between the moment in which a file is given the content of another host and that
// in which the account is on disk a process may end, or the database fail, and somebody may have seen that content and written to the file: his version replaces what he saw, and not
// what the account had. What the file held before that, and the other host did not know of, is returned: it is replaced as well.
func (r *Replica) catchUp(e *entry, own uint64) (beside []record.ID, err error) {
	if e.typ != record.Regular || own <= e.own+1 {
		return nil, nil
	}
	list, err := r.cfg.Tree.Between(e.ino, e.own, own, mostBetween)
	if err != nil {
		return nil, err
	}
	was := e.version
	for _, v := range list {
		id := r.unlearned(e, v.Content(), false)
		if id.IsZero() {
			continue
		}
		if !r.comesFrom(r.tree.Record(id), e.version) {
			beside = append(beside, e.version)
		}
		e.version = id
	}
	if e.version != was {
		r.saveEntry(e)
		for link := range e.names.Keys() {
			r.due[converge.Key{File: e.id, Link: link}] = true
		}
	}
	return beside, nil
}

// isOfAnother reports whether another host told last of a name of a file. Such a file is made here without a version, and empty, as long as its author has not told of one: that it is
// found empty again, as where somebody had it open for writing, is nothing to tell.
func (r *Replica) isOfAnother(e *entry) bool {
	for link := range e.names.Keys() {
		if rec := r.last.Get(converge.Key{File: e.id, Link: link}); rec != nil && rec.Author != r.cfg.Self {
			return true
		}
	}
	return false
}

// unlearned returns the first version of a file with a content that the one of the account does not come from; zero: there is none. Later: of those alone that come from that of the account.
func (r *Replica) unlearned(e *entry, content string, later bool) (found record.ID) {
	r.unknown(e, func(rec *record.Record) {
		if rec.Body.(*record.Version).Content() == content && (!later || r.comesFrom(rec, e.version)) {
			found = rec.ID()
		}
	})
	return found
}

// unknown calls fn for the versions of a file that are neither that of the account nor before it, those that came last first. Parents are earlier in the order of all records than what
// comes from them: so when it is a version's turn it is known whether that of the account comes from it.
func (r *Replica) unknown(e *entry, fn func(*record.Record)) {
	next := map[record.ID]bool{} // true: the account's comes from it
	for _, id := range r.tree.Heads(e.id) {
		next[id] = false
	}
	if r.isVersion(e.version) {
		next[e.version] = true
	}
	for range mostLooked {
		var last *record.Record
		left := false
		for id, known := range next {
			rec := r.tree.Record(id)
			if last == nil || last.Order().Compare(rec.Order()) < 0 {
				last = rec
			}
			left = left || !known
		}
		if !left {
			return
		}
		known := next[last.ID()]
		delete(next, last.ID())
		if !known {
			fn(last)
		}
		for _, id := range last.Body.(*record.Version).Parents {
			if r.isVersion(id) {
				next[id] = next[id] || known
			}
		}
	}
}

func (r *Replica) isVersion(id record.ID) bool {
	rec := r.tree.Record(id)
	return rec != nil && rec.Body.Kind() == record.KindVersion
}

// comesFrom reports whether a version comes from another one, or is that. All come from none.
func (r *Replica) comesFrom(rec *record.Record, from record.ID) bool {
	if !r.isVersion(from) {
		return true
	}
	first := r.tree.Record(from)
	seen := map[record.ID]bool{}
	for next := []*record.Record{rec}; len(next) > 0 && len(seen) < mostLooked; {
		rec, next = next[0], next[1:]
		if rec.ID() == from {
			return true
		}
		for _, id := range rec.Body.(*record.Version).Parents {
			if !seen[id] && r.isVersion(id) && r.tree.Record(id).Order().Compare(first.Order()) >= 0 {
				seen[id] = true
				next = append(next, r.tree.Record(id))
			}
		}
	}
	return false
}
