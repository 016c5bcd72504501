package replica

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Rows of the space away: a peer (32), a file (16) and a link (8) → where the name was when it went, or when it was removed.

func awayKey(peer sharefs.PeerID, key converge.Key) []byte {
	return binary.BigEndian.AppendUint64(append(append([]byte(nil), peer[:]...), key.File[:]...), key.Link)
}

// goAway notes where a name is that was told, and that the peer may not read there.
func (r *Replica) goAway(s *scope, key converge.Key, path string) {
	if s.away[key.File] == nil {
		s.away[key.File] = map[uint64]string{}
	}
	s.away[key.File][key.Link] = path
	r.put(spaceAway, awayKey(s.peer, key), []byte(path))
}

// back forgets that a name is away.
func (r *Replica) back(s *scope, key converge.Key) {
	if delete(s.away[key.File], key.Link); len(s.away[key.File]) == 0 {
		delete(s.away, key.File)
	}
	r.drop(spaceAway, awayKey(s.peer, key))
}

// toldNames returns the names that were told of a file before a look, by what is left of it.
func (r *Replica) toldNames(p *part, old was) (links []uint64) {
	for _, n := range old.names {
		if n.reads && old.all {
			links = append(links, n.link)
		}
	}
	if p == nil || !p.read {
		return links
	}
	for _, w := range p.rows {
		if b, ok := r.tree.Record(w.id).Says().Body.(*record.Place); ok && !b.Removed() && !slices.Contains(links, b.Link) {
			links = append(links, b.Link)
		}
	}
	return links
}

// stray notes of the names of a file which that were told are where the peer may not read now, and where those went that were there before.
func (r *Replica) stray(s *scope, id sharefs.FileID, old was) {
	p := s.files[id]
	reads := func(link uint64) bool { return p != nil && p.reads(link) }
	left := slices.DeleteFunc(r.toldNames(p, old), reads)
	if p != nil {
		if p.read && len(p.names) > 0 && !slices.ContainsFunc(p.names, func(n partName) bool { return n.reads }) {
			left = nil // it leads to what the peer may read, as it did
		}
		p.read = false
	}
	if len(left) == 0 && len(s.away[id]) == 0 {
		return
	}
	at := map[uint64]string{}
	r.tree.Spots(id, func(spot converge.Spot) { at[spot.Link] = spot.Path })
	for _, link := range left {
		if path, ok := at[link]; ok {
			r.goAway(s, converge.Key{File: id, Link: link}, path)
		}
	}
	for link, was := range s.away[id] {
		key := converge.Key{File: id, Link: link}
		path, placed := at[link]
		switch {
		case reads(link):
			r.back(s, key)
		case placed:
			s.away[id][link] = path
		case !r.tree.Placed(key):
			r.goAway(s, key, was)
		}
	}
}

// withdraw has removals not be told any more that were where the peer may not read now.
func (r *Replica) withdraw(s *scope) {
	for id, w := range s.gone {
		if s.Reads(w.path) {
			continue
		}
		if b, ok := r.tree.Record(id).Says().Body.(*record.Place); ok { // nobody knows whether the peer has heard of it
			if key := (converge.Key{File: b.File, Link: b.Link}); !r.tree.Placed(key) {
				r.goAway(s, key, w.path)
			}
		}
		r.erase(s, w)
		delete(s.gone, id)
	}
}

// tellEnded has the removals of names that were away be told where the peer may read the place in which they were, with the versions that these have seen.
func (r *Replica) tellEnded(s *scope, fresh []*row) []*row {
	ids := slices.SortedFunc(maps.Keys(s.away), func(a, b sharefs.FileID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		for _, link := range slices.Sorted(maps.Keys(s.away[id])) {
			key, path := converge.Key{File: id, Link: link}, s.away[id][link]
			if !s.Reads(path) || r.tree.Placed(key) {
				continue
			}
			before := len(fresh)
			if fresh = r.endOf(s, key, path, fresh); len(fresh) > before {
				r.back(s, key)
			}
		}
	}
	return fresh
}

// endOf has the removals that ended a name be told, and adds what has no number yet to fresh.
func (r *Replica) endOf(s *scope, key converge.Key, path string, fresh []*row) []*row {
	p := s.files[key.File]
	tell := func(id record.ID) {
		if s.gone[id] != nil {
			return
		}
		w := &row{id: id, path: path}
		if p != nil {
			if has := p.row(id); has != nil {
				p.rows = slices.DeleteFunc(p.rows, func(o *row) bool { return o == has })
				r.erase(s, has)
			}
		}
		s.gone[id], fresh = w, append(fresh, w)
	}
	seen := map[record.ID]bool{}
	for _, rec := range r.endings(key) {
		tell(rec.ID())
		for todo := slices.Clone(rec.Says().Body.(*record.Place).Seen); len(todo) > 0 && (p == nil || !p.all); {
			id := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			v := r.tree.Record(id)
			if v == nil || seen[id] || v.Body.Kind() != record.KindVersion {
				continue
			}
			seen[id] = true
			tell(id)
			todo = append(todo, v.Body.(*record.Version).Parents...)
		}
	}
	return fresh
}

// endings returns the removals of a name that count, and those that have seen one of them, in order.
func (r *Replica) endings(key converge.Key) (list []*record.Record) {
	ended := map[record.ID]bool{}
	for _, rec := range slices.SortedFunc(slices.Values(r.removalsOf(key.File)), byOrder) {
		b := rec.Says().Body.(*record.Place)
		if r.aside[rec.Author][rec.ID()] == PassedOver || b.Link != key.Link && !slices.ContainsFunc(b.Seen, func(id record.ID) bool { return ended[id] }) {
			continue
		}
		ended[rec.ID()], ended[rec.Says().ID()] = true, true
		list = append(list, rec)
	}
	return list
}

// loadAway reads which names are away.
func (r *Replica) loadAway() error {
	bad := false
	var off [][]byte
	err := r.cfg.Store.Scan(spaceAway, nil, nil, func(k, v []byte) bool {
		if bad = len(k) != 56 || len(v) == 0; bad {
			return false
		}
		s := r.scopes[sharefs.PeerID(k[:32])]
		if s == nil {
			off = append(off, slices.Clone(k))
			return true
		}
		id := sharefs.FileID(k[32:48])
		if s.away[id] == nil {
			s.away[id] = map[uint64]string{}
		}
		s.away[id][binary.BigEndian.Uint64(k[48:])] = string(v)
		return true
	})
	if err == nil && bad {
		err = damaged("scopes")
	}
	for _, k := range off {
		r.drop(spaceAway, k)
	}
	return err
}
