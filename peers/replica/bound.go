package replica

import (
	"bytes"
	"slices"

	"sharefs"
)

// All records are in memory, so what one author may have here is bounded ([Config.Most]). What goes beyond is passed over, and so is all behind it, for a chain has no gaps. It stays in the
// log of whoever wrote it: with a higher bound that is asked for again from its beginning.

// beyond is what of an author was passed over for there would be too much of him.
type beyond struct {
	most    uint64 // that there could be then
	records uint64
}

// Full tells of an author of whom no more records are taken.
type Full struct {
	Author  sharefs.PeerID
	Most    uint64
	Records uint64 // that were passed over since the replica was opened, those that came again counted again
}

// Full lists them, by their ids.
func (r *Replica) Full() (list []Full, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	for author, b := range r.beyond {
		if b.most == r.cfg.Most(author) {
			list = append(list, Full{author, b.most, b.records})
		}
	}
	slices.SortFunc(list, func(a, b Full) int { return bytes.Compare(a.Author[:], b.Author[:]) })
	return list, nil
}

// tooMany reports whether an item, which is not here yet, goes beyond what its author may have here. The error is of KindCorrupt: a wrong signature.
func (r *Replica) tooMany(i *Item) (bool, error) {
	author := i.Records[0].Author
	if r.cfg.Most == nil || author == r.cfg.Self {
		return false, nil
	}
	most := r.cfg.Most(author)
	b, was := r.beyond[author]
	if was && b.most != most {
		delete(r.beyond, author)
		b, was = beyond{}, false
	}
	if !was && (most == 0 || r.written[author]+uint64(len(i.Records)) <= most) {
		return false, nil
	}
	err := i.Records[0].Verify
	if i.Batch != nil {
		err = i.Batch.Verify
	}
	if err := err(); err != nil {
		return false, err
	}
	if !was {
		r.cfg.Log.Warn("no more records of a host are taken: there are as many as it may have here", "author", author.String(), "most", most)
	}
	r.beyond[author] = beyond{most, b.records + uint64(len(i.Records))}
	return true, nil
}
