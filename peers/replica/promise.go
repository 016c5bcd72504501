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
//
// A promise ends when whoever relies on it says, asked by the one who gave it, that it does not any more ([Ask]), or when it is no peer any more. It says so where its tree shows another version,
// where it holds the content itself, or where enough others have promised the same after it was asked ([Replica.Needs]). An answer counts for nothing if the same was promised to it again after the
// question. So of any that were released and relied on each other, one whose question came last is held to by others who promised behind that, and were not released since: what is relied on has
// enough copies at each moment, in whatever order messages come and whoever is killed between any two steps. Nothing has to be written down by who relies: its tree says what it needs, and is
// synced before it says that it does not. A question that a kill takes away is asked again.
type promises struct {
	mu      sync.Mutex        // held from looking until what was seen is put down; before Replica.mu
	letting map[record.ID]int // being let go
	asks    map[*Ask]struct{} // questions under way
}

// errPromised is why something is not let go.
var errPromised = &sharefs.Error{Op: "free", Kind: sharefs.KindBusy, Detail: "another host relies on the copy that is here"}

// Rows of promises begin with what they tell: some of those who rely on it, as older builds did, or all.
const (
	promisedSome = 1
	promisedAll  = 2
)

// Promise promises a peer to keep the content of those versions that keeps reports to be whole here, and to stay, and returns them. They survive power loss then. Keeps is called
// without the lock of the replica; nothing is let go meanwhile.
func (r *Replica) Promise(to sharefs.PeerID, ids []record.ID, keeps func(v *record.Record, ino sharefs.Ino) bool) (yes []record.ID, err error) {
	p := &r.promised
	p.mu.Lock()
	defer p.mu.Unlock()
	var rows []Row
	for _, id := range ids {
		rec, ino, err := r.Live(id)
		if err != nil {
			return nil, err
		}
		if rec == nil || p.letting[id] > 0 || !keeps(rec, ino) {
			continue
		}
		value, ok, err := r.cfg.Store.Get(spacePromise, id[:])
		if err != nil {
			return nil, err
		}
		if !ok {
			value = []byte{promisedAll}
		}
		if !slices.Contains(promisedTo(value), to) {
			rows = append(rows, Row{spacePromise, id[:], append(bytes.Clone(value), to[:]...)})
		}
		yes = append(yes, id)
	}
	if len(yes) == 0 {
		return nil, nil
	}
	for a := range p.asks {
		if a.of == to {
			for _, id := range yes {
				delete(a.ids, id)
			}
		}
	}
	if err := r.cfg.Store.Commit(rows); err != nil {
		return nil, err
	}
	return yes, r.cfg.Store.Sync()
}

// Live returns a version that the live tree here shows, and its inode; nil: it does not.
func (r *Replica) Live(id record.ID) (*record.Record, sharefs.Ino, error) {
	if err := r.enter(); err != nil {
		return nil, 0, err
	}
	defer r.mu.Unlock()
	rec, ino := r.live(id)
	return rec, ino, nil
}

// live is Live for who holds the lock.
func (r *Replica) live(id record.ID) (*record.Record, sharefs.Ino) {
	rec := r.tree.Record(id)
	if rec == nil {
		return nil, 0
	}
	v, ok := rec.Body.(*record.Version)
	if !ok {
		return nil, 0
	}
	e := r.files.Get(v.File)
	if e == nil || e.version != id || e.names.Len() == 0 {
		return nil, 0
	}
	return rec, e.ino
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
