package replica

import (
	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// mostLooked bounds how many versions of a file are looked at for one that has a content.
const mostLooked = 10_000

// Having returns the version of a file, by its inode, that has a content: the one that the tree holds, or one before it; nil where the records know none.
func (r *Replica) Having(ino sharefs.Ino, is func(v *record.Version) bool) (*record.Record, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	e := r.inos.Get(ino)
	if e == nil || e.typ != record.Regular {
		return nil, nil
	}
	next := append([]record.ID{e.version}, r.tree.Heads(e.id)...)
	seen := map[record.ID]bool{}
	for len(next) > 0 && len(seen) < mostLooked {
		id := next[0]
		next = next[1:]
		rec := r.tree.Record(id)
		if rec == nil || seen[id] {
			continue
		}
		seen[id] = true
		v := rec.Body.(*record.Version)
		if v.Type() == record.Regular && is(v) {
			return rec, nil
		}
		next = append(next, v.Parents...)
	}
	return nil, nil
}

// PathOfFile returns a path that a file has in the tree which the records make; ok is false where it has none.
func (r *Replica) PathOfFile(file sharefs.FileID) (path string, ok bool) {
	if r.enter() != nil {
		return "", false
	}
	defer r.mu.Unlock()
	r.tree.Spots(file, func(s converge.Spot) {
		if !ok || s.Path < path {
			path, ok = s.Path, true
		}
	})
	return path, ok
}
