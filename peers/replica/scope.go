package replica

import (
	"encoding/binary"

	"sharefs"
	"sharefs/peers/record"
)

// A peer that may read a part of the tree only has a log of its own, of single records, whose numbers and id tell nothing of the rest:
//
//   - all records of each file that has a name which the peer may read, but placements that would put it where the peer may not;
//   - of each directory in which such a name lies, and that the peer may not read itself, the placement that is in effect, and nothing else.
//
// A file that comes into the scope, and a directory with all below it, is told with its whole past, directories first. One that leaves it is not told of any more, not even what
// had not been sent: the peer keeps what it has. But a name that is removed while the peer may read it is told to be removed, with the versions that its removal
// has seen: whoever lacks one of them does not know that the removal speaks of what he has.
// A name that was told and is where the peer may not read now, because it moved there or the rules changed, is remembered, and where it is. If it is removed there, and the peer may read that place
// later, it is told of the removal then: it would wait for the content for ever otherwise.
// That holds for a directory that it may read also where something in it that it may not read keeps the directory here: to keep the removal back would tell of that.
//
// The rows are kept beside the records, in the same commits, so that a peer goes on from where it was.

// Scope is what a peer may read.
type Scope struct {
	Print [32]byte               // names the rules: where they say something else it is another one
	Reads func(path string) bool // by the path from the root, without a slash before it
}

// scope is the log of a peer that may read a part of the tree, and what is in it.
type scope struct {
	Scope
	peer  sharefs.PeerID
	log   LogID
	last  uint64 // the last number that was given
	had   uint64 // and that when this host was started
	saved uint64 // as it is in the database
	files map[sharefs.FileID]*part
	kids  map[sharefs.FileID]int               // how many names that are told each directory has
	gone  map[record.ID]*row                   // removals of what was in it, and the versions that they have seen of files that are not in it any more
	away  map[sharefs.FileID]map[uint64]string // names that were told, by link, and where they are, or were when they were removed: where the peer may not read
}

func newScope(now Scope, peer sharefs.PeerID) *scope {
	return &scope{Scope: now, peer: peer, files: map[sharefs.FileID]*part{}, kids: map[sharefs.FileID]int{}, gone: map[record.ID]*row{},
		away: map[sharefs.FileID]map[uint64]string{}}
}

// part is a file of a scope.
type part struct {
	all   bool // all of it is told; otherwise it is a directory on the way to what is
	read  bool // from the database, and not looked at since: its names are those of which rows tell, and whether all of a directory was told nobody knows
	names []partName
	rows  []*row
}

// partName is a name that is told.
type partName struct {
	link   uint64
	parent sharefs.FileID
	place  record.ID
	reads  bool   // the peer may read what has it; otherwise the name leads there
	path   string // of one that the peer may read
}

// row is a record in the log of a scope.
type row struct {
	id     record.ID
	number uint64 // 0: it has none yet
	path   string // of a removal that took a name away: where that was
	off    bool   // it is not to be told any more
}

func (p *part) row(id record.ID) *row {
	for _, w := range p.rows {
		if w.id == id {
			return w
		}
	}
	return nil
}

// scope returns the scope of a peer by the rules of the moment.
func (r *Replica) scope(peer sharefs.PeerID) (*scope, error) {
	now, ok := Scope{}, false
	if r.cfg.Scope != nil {
		now, ok = r.cfg.Scope(peer)
	}
	if !ok {
		return nil, &sharefs.Error{Op: "list records for a peer", Kind: sharefs.KindPermission, Detail: "it may read no part of the tree, or all of it"}
	}
	s := r.scopes[peer]
	switch {
	case s == nil:
		s = newScope(now, peer)
		if err := r.random(s.log[:]); err != nil {
			return nil, err
		}
		r.scopes[peer] = s
		r.index()
	case s.Print == now.Print:
		return s, nil
	}
	s.Scope = now
	r.survey(s)
	return s, r.sync()
}

// ScopeLog returns the id of the log of a peer that may read a part of the tree only, and its last number. Here and in what follows the error is of KindPermission where the
// peer is none of these.
func (r *Replica) ScopeLog(peer sharefs.PeerID) (LogID, uint64, error) {
	if err := r.enter(); err != nil {
		return LogID{}, 0, err
	}
	defer r.mu.Unlock()
	s, err := r.scope(peer)
	if err != nil {
		return LogID{}, 0, err
	}
	return s.log, s.last, nil
}

// ScopeSince lists what stands in a log of a peer after a number, in order, up to so many records. The last item has no record if the log goes on to its last number with what is not
// told any more. Of another log than the one of the moment there is nothing. Nobody has looked at the signature of those that came in a batch.
func (r *Replica) ScopeSince(peer sharefs.PeerID, log LogID, after uint64, most int) (items []Item, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	s, err := r.scope(peer)
	if err != nil || s.log != log {
		return nil, err
	}
	bad := false
	err = r.scopeRows(peer, after, func(n uint64, id record.ID, _ string) bool {
		rec := r.tree.Record(id)
		if bad = rec == nil; bad {
			return false
		}
		items = append(items, Item{Records: []*record.Record{r.signed(rec)}, Number: n})
		return len(items) < most
	})
	if bad {
		err = damaged("scopes")
	}
	if n := len(items); err == nil && n < most && after < s.last && (n == 0 || items[n-1].Number < s.last) {
		items = append(items, Item{Number: s.last})
	}
	return items, err
}

// ScopeGave is Gave of the log of a peer. Of a number that was given before this host was started, and is neither the last one of then nor that of a row, it is not known.
func (r *Replica) ScopeGave(peer sharefs.PeerID, log LogID, number uint64) (bool, error) {
	if err := r.enter(); err != nil {
		return false, err
	}
	defer r.mu.Unlock()
	s, err := r.scope(peer)
	if err != nil || s.log != log || number > s.last {
		return false, err
	}
	if number == 0 || number == s.had || number > r.floor {
		return true, nil
	}
	_, ok, err := r.cfg.Store.Get(spaceScope, scopeKey(peer, number))
	return ok, err
}

// ScopeBehind returns how many records a peer lacks that has its log up to a number, at most so many.
func (r *Replica) ScopeBehind(peer sharefs.PeerID, after uint64, most int) (n int, err error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.mu.Unlock()
	err = r.scopeRows(peer, after, func(uint64, record.ID, string) bool { n++; return n < most })
	return n, err
}

// ScopeVersion returns a version that a peer may read at present, or is told because a removal has seen it, for the peer may have the file under a name of its own; nil: there is none, or it
// is none of those.
func (r *Replica) ScopeVersion(peer sharefs.PeerID, id record.ID) (*record.Record, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	s, err := r.scope(peer)
	if err != nil {
		return nil, err
	}
	rec := r.tree.Record(id)
	p := s.files[fileOf(rec)] // whether there is such a record or not
	if (p == nil || !p.all) && s.gone[id] == nil {
		return nil, nil
	}
	if _, ok := rec.Body.(*record.Version); !ok {
		return nil, nil
	}
	return rec, nil
}

// fileOf returns the file that a record is about; Nowhere, if it is about none.
func fileOf(rec *record.Record) sharefs.FileID {
	if rec == nil {
		return record.Nowhere
	}
	return rec.Says().File()
}

// Rows of the space scope: the peer (32) → id of its log (16), the last number that was given (8); the peer and a number (8) → id of a record, and of a removal that took a name away where that
// was.

func scopeKey(peer sharefs.PeerID, number uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), peer[:]...), number)
}

// scopeRows calls fn for what stands in the log of a peer after a number, until it returns false.
func (r *Replica) scopeRows(peer sharefs.PeerID, after uint64, fn func(number uint64, id record.ID, path string) bool) error {
	bad := false
	err := r.cfg.Store.Scan(spaceScope, scopeKey(peer, after+1), append(scopeKey(peer, ^uint64(0)), 0), func(k, v []byte) bool {
		if bad = len(k) != 40 || len(v) < 32; bad {
			return false
		}
		return fn(binary.BigEndian.Uint64(k[32:]), record.ID(v[:32]), string(v[32:]))
	})
	if err == nil && bad {
		err = damaged("scopes")
	}
	return err
}

// write puts a row of the log into the database, with the next number if it has none.
func (r *Replica) write(s *scope, w *row) {
	if w.number == 0 {
		s.last = max(s.last, r.floor) + 1
		w.number = s.last
	}
	r.put(spaceScope, scopeKey(s.peer, w.number), append(append([]byte(nil), w.id[:]...), w.path...))
}

// erase has a row not be told any more.
func (r *Replica) erase(s *scope, w *row) {
	if w.off = true; w.number > 0 {
		r.drop(spaceScope, scopeKey(s.peer, w.number))
	}
}

// saveScopes notes how far the logs of scopes go.
func (r *Replica) saveScopes() {
	for _, s := range r.scopes {
		if s.saved != s.last {
			r.saveScope(s)
		}
	}
}

func (r *Replica) saveScope(s *scope) {
	s.saved = s.last
	r.put(spaceScope, s.peer[:], binary.BigEndian.AppendUint64(append([]byte(nil), s.log[:]...), s.last))
}

// renew has all logs of scopes begin anew under other names: whoever has something of them has nothing.
func (r *Replica) renew() error {
	for _, s := range r.scopes {
		if err := r.random(s.log[:]); err != nil {
			return err
		}
		r.saveScope(s)
	}
	return nil
}

// loadScopes reads the logs of scopes. Those of peers that have none any more, and are not to be remembered, go.
func (r *Replica) loadScopes() error {
	type head struct {
		log  LogID
		last uint64
	}
	heads := map[sharefs.PeerID]head{}
	rules := map[sharefs.PeerID]*Scope{} // asked for once, for they may change meanwhile; nil: nothing of it is kept
	var off [][]byte
	bad := false
	err := r.cfg.Store.Scan(spaceScope, nil, nil, func(k, v []byte) bool {
		if len(k) < 32 {
			bad = true
			return false
		}
		peer := sharefs.PeerID(k[:32])
		if _, asked := rules[peer]; !asked {
			rules[peer] = nil
			if r.cfg.Scope != nil {
				if now, ok := r.cfg.Scope(peer); ok || now.Reads != nil {
					rules[peer] = &now
				}
			}
		}
		switch {
		case rules[peer] == nil:
			off = append(off, append([]byte(nil), k...))
		case len(k) == 32 && len(v) == 24:
			heads[peer] = head{LogID(v[:16]), binary.BigEndian.Uint64(v[16:])}
		}
		return true
	})
	if err == nil && bad {
		err = damaged("scopes")
	}
	if err != nil {
		return err
	}
	for _, k := range off {
		r.drop(spaceScope, k)
	}
	for peer, h := range heads {
		s := newScope(*rules[peer], peer)
		s.log, s.last, s.had, s.saved = h.log, h.last, h.last, h.last
		err := r.scopeRows(peer, 0, func(n uint64, id record.ID, path string) bool {
			rec := r.tree.Record(id)
			if bad = rec == nil; bad {
				return false
			}
			w := &row{id: id, number: n, path: path}
			if path != "" {
				s.gone[id] = w
				return true
			}
			p := s.files[fileOf(rec)]
			if p == nil {
				p = &part{read: true}
				s.files[fileOf(rec)] = p
			}
			p.rows = append(p.rows, w)
			// Of a directory nobody knows whether all of it was told: it is looked at again as one that comes into the scope.
			p.all = p.all || !isDirectory(rec)
			return true
		})
		if err == nil && bad {
			err = damaged("scopes")
		}
		if err != nil {
			return err
		}
		if r.floor <= s.last { // the clock went back: numbers may have been given before that are given now
			if err := r.random(s.log[:]); err != nil {
				return err
			}
			r.saveScope(s)
		}
		r.scopes[peer] = s
	}
	if err := r.loadAway(); err != nil || len(r.scopes) == 0 {
		return err
	}
	r.index()
	for _, s := range r.scopes {
		r.survey(s)
	}
	return nil
}
