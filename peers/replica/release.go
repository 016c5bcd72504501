package replica

import (
	"bytes"
	"slices"

	"sharefs"
	"sharefs/peers/record"
)

// Promised is what others rely on here.
type Promised struct {
	ID record.ID
	To []sharefs.PeerID
}

// Promises lists versions that somebody relies on behind one, by their ids.
func (r *Replica) Promises(after record.ID, most int) (list []record.ID, err error) {
	err = r.cfg.Store.Scan(spacePromise, append(after[:], 0), nil, func(key, _ []byte) bool {
		if len(key) == len(record.ID{}) {
			list = append(list, record.ID(key))
		}
		return len(list) < most
	})
	return list, err
}

// Settle ends what was promised to others than the peers that there are, and returns who relies on which of some versions still. Of a row by an older build, which does not name all of them, that
// may be each of the peers. Who they are is asked while nothing is promised: to one that has come since something may be.
func (r *Replica) Settle(ids []record.ID, all func() []sharefs.PeerID) (left []Promised, err error) {
	p := &r.promised
	p.mu.Lock()
	defer p.mu.Unlock()
	peers := all()
	var rows []Row
	for _, id := range ids {
		value, ok, err := r.cfg.Store.Get(spacePromise, id[:])
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		to := slices.DeleteFunc(promisedTo(value), func(of sharefs.PeerID) bool { return !slices.Contains(peers, of) })
		if len(value) == 0 || value[0] != promisedAll {
			to = slices.Clone(peers)
		}
		if row := promiseRow(id, to); !bytes.Equal(row.Value, value) {
			rows = append(rows, row)
		}
		if len(to) > 0 {
			left = append(left, Promised{id, to})
		}
	}
	return left, r.commitPromises(rows)
}

// promiseRow is the row that says who all rely on a version.
func promiseRow(id record.ID, to []sharefs.PeerID) Row {
	if len(to) == 0 {
		return Row{spacePromise, id[:], nil}
	}
	value := []byte{promisedAll}
	for i := range to {
		value = append(value, to[i][:]...)
	}
	return Row{spacePromise, id[:], value}
}

// commitPromises puts down that less is promised. If a loss of power takes that back, more is promised than has to be.
func (r *Replica) commitPromises(rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	return r.cfg.Store.Commit(rows)
}

// Ask is a question to a peer which promises it does not rely on any more. End has to follow.
type Ask struct {
	r   *Replica
	of  sharefs.PeerID
	ids map[record.ID]struct{} // that were not promised to it again since. Guarded by the lock of the promises.
}

// Ask begins a question, before the peer is asked.
func (r *Replica) Ask(of sharefs.PeerID, ids []record.ID) *Ask {
	a := &Ask{r, of, map[record.ID]struct{}{}}
	for _, id := range ids {
		a.ids[id] = struct{}{}
	}
	p := &r.promised
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asks == nil {
		p.asks = map[*Ask]struct{}{}
	}
	p.asks[a] = struct{}{}
	return a
}

// Released takes the answer: those versions of which the peer says that it does not rely on them. What it was not asked for, or was promised again since, is passed over.
func (a *Ask) Released(ids []record.ID) error {
	p := &a.r.promised
	p.mu.Lock()
	defer p.mu.Unlock()
	var rows []Row
	for _, id := range ids {
		if _, ok := a.ids[id]; !ok {
			continue
		}
		delete(a.ids, id)
		value, ok, err := a.r.cfg.Store.Get(spacePromise, id[:])
		if err != nil {
			return err
		}
		if !ok || value[0] != promisedAll {
			continue
		}
		rows = append(rows, promiseRow(id, slices.DeleteFunc(promisedTo(value), func(to sharefs.PeerID) bool { return to == a.of })))
	}
	return a.r.commitPromises(rows)
}

// End forgets the question: an answer that comes later counts for nothing.
func (a *Ask) End() {
	p := &a.r.promised
	p.mu.Lock()
	defer p.mu.Unlock()
	a.ids = nil
	delete(p.asks, a)
}

// Needs divides versions that another host promised this one to keep. Spare are those that it needs no more, and will not after a loss of power: the tree shows another version, or none, or holds
// reports that all of the content is here and stays until others are asked anew. Needed are those that the tree shows and that are elsewhere. What is neither cannot be told at present, for it is
// being let go, or the records do not say yet what the tree holds, or where its file went; it is needed then, whatever others promise.
func (r *Replica) Needs(ids []record.ID, holds func(v *record.Record, ino sharefs.Ino) bool) (spare, needed []record.ID, err error) {
	walking, err := r.Walking()
	if err != nil || walking || r.Lost() {
		return nil, nil, err
	}
	for _, id := range ids {
		if r.lettingGo(id) {
			continue
		}
		rec, ino, known, err := r.shown(id)
		switch {
		case err != nil:
			return nil, nil, err
		case !known:
		case rec == nil, holds(rec, ino):
			spare = append(spare, id)
		default:
			needed = append(needed, id)
		}
	}
	if len(spare) > 0 {
		err = r.cfg.Tree.Sync()
	}
	if err != nil {
		return nil, nil, err
	}
	return spare, needed, nil
}

// lettingGo reports whether a version is being let go.
func (r *Replica) lettingGo(id record.ID) bool {
	r.promised.mu.Lock()
	defer r.promised.mu.Unlock()
	return r.promised.letting[id] > 0
}

// shown is what is known of a version that the tree may show: its record and inode if it does. Known is false where that cannot be told: the record is not here, or a name of its file is gone, and nobody
// knows yet where it went.
func (r *Replica) shown(id record.ID) (rec *record.Record, ino sharefs.Ino, known bool, err error) {
	if err := r.enter(); err != nil {
		return nil, 0, false, err
	}
	defer r.mu.Unlock()
	if rec, ino = r.live(id); rec != nil {
		return rec, ino, true, nil
	}
	if rec = r.tree.Record(id); rec == nil {
		return nil, 0, false, nil
	}
	v, ok := rec.Body.(*record.Version)
	if !ok {
		return nil, 0, true, nil
	}
	e := r.files.Get(v.File)
	return nil, 0, e == nil || len(e.loose) == 0, nil
}
