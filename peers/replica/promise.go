package replica

import (
	"bytes"
	"slices"
	"sync"

	"sharefs"
	"sharefs/peers/record"
)

// promises are what this host told others: that it keeps the content of a version as long as its live tree shows that version. A row for each, with the id of the version and to whom, says so
// from before the answer on. What is promised is never let go here, and what is being let go is not promised: so whoever lets a content go after n others promised it leaves n copies, for each
// of these keeps its own whatever it is asked for later.
type promises struct {
	mu      sync.Mutex        // held from looking until what was seen is put down; before Replica.mu
	letting map[record.ID]int // being let go
}

// errPromised is why something is not let go.
var errPromised = &sharefs.Error{Op: "free", Kind: sharefs.KindBusy, Detail: "another host relies on the copy that is here"}

// mostPromised is how many peers are noted to whom a version is promised: it is kept whoever they are.
const mostPromised = 16

// Promise promises a peer to keep the content of those versions that keeps reports to be whole here, and to stay, and returns them. They survive power loss then. Keeps is called
// without the lock of the replica; nothing is let go meanwhile.
func (r *Replica) Promise(to sharefs.PeerID, ids []record.ID, keeps func(v *record.Record, ino sharefs.Ino) bool) (yes []record.ID, err error) {
	r.promised.mu.Lock()
	defer r.promised.mu.Unlock()
	var rows []Row
	for _, id := range ids {
		rec, ino, err := r.liveVersion(id)
		if err != nil {
			return nil, err
		}
		if rec == nil || r.promised.letting[id] > 0 || !keeps(rec, ino) {
			continue
		}
		value, ok, err := r.cfg.Store.Get(spacePromise, id[:])
		if err != nil {
			return nil, err
		}
		if !ok {
			value = []byte{1}
		}
		if all := promisedTo(value); len(all) < mostPromised && !slices.Contains(all, to) {
			value = append(bytes.Clone(value), to[:]...)
		}
		rows = append(rows, Row{spacePromise, id[:], value})
		yes = append(yes, id)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	if err := r.cfg.Store.Commit(rows); err != nil {
		return nil, err
	}
	return yes, r.cfg.Store.Sync()
}

// liveVersion returns a version that the live tree here shows, and its inode; nil: it does not.
func (r *Replica) liveVersion(id record.ID) (*record.Record, sharefs.Ino, error) {
	if err := r.enter(); err != nil {
		return nil, 0, err
	}
	defer r.mu.Unlock()
	rec := r.tree.Record(id)
	if rec == nil {
		return nil, 0, nil
	}
	v, ok := rec.Body.(*record.Version)
	if !ok {
		return nil, 0, nil
	}
	e := r.files.Get(v.File)
	if e == nil || e.version != id || e.names.Len() == 0 {
		return nil, 0, nil
	}
	return rec, e.ino, nil
}

// LetGo begins to let the content of a version go, which end has to follow: until then it is promised to nobody. It errors with KindBusy if it is promised already.
func (r *Replica) LetGo(id record.ID) (end func(), err error) {
	p := &r.promised
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok, err := r.cfg.Store.Get(spacePromise, id[:]); err != nil || ok {
		if err == nil {
			err = errPromised
		}
		return nil, err
	}
	if p.letting == nil {
		p.letting = map[record.ID]int{}
	}
	p.letting[id]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.letting[id]--; p.letting[id] == 0 {
			delete(p.letting, id)
		}
	}, nil
}

// Promised reports whether somebody relies on the copy of a version that is here, and who, as far as that is known.
func (r *Replica) Promised(id record.ID) (to []sharefs.PeerID, ok bool, err error) {
	value, ok, err := r.cfg.Store.Get(spacePromise, id[:])
	return promisedTo(value), ok, err
}

// promisedTo takes the peers from a row.
func promisedTo(value []byte) (all []sharefs.PeerID) {
	if len(value) == 0 {
		return nil
	}
	for part := range slices.Chunk(value[1:], len(sharefs.PeerID{})) {
		if len(part) == len(sharefs.PeerID{}) {
			all = append(all, sharefs.PeerID(part))
		}
	}
	return all
}
