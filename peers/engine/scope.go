package engine

import (
	"sync"

	"sharefs"
	"sharefs/peers/exchange"
	"sharefs/peers/replica"
	"sharefs/peers/trust"
)

// Scope is what a peer may read of a tree under a policy, if that is a part of it.
func Scope(p trust.Policy, peer sharefs.PeerID) (replica.Scope, bool) {
	if _, err := p.Some(peer); err != nil {
		if p.Most(peer) == trust.Blocked {
			return replica.Scope{}, false
		}
		return replica.Scope{Reads: func(string) bool { return false }}, false // it may come to read again what it was told
	}
	if _, err := p.Whole(peer); err == nil {
		return replica.Scope{}, false
	}
	return replica.Scope{Print: p.Print(peer), Reads: func(path string) bool { return p.Reads(peer, path) }}, true
}

// scopes remembers the logs of peers that may read a part of the tree.
type scopes struct {
	mu  sync.Mutex // guards all; behind the lock of the log, before that of a replica
	all map[sharefs.PeerID]scope
}

// scope is the log of a peer under some rules.
type scope struct {
	print [32]byte
	log   exchange.LogID // zero: it is not known
	last  uint64
}

// look learns how far the logs go.
func (s *scopes) look(r *replica.Replica) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for peer, had := range s.all {
		s.learn(r, peer, had.print)
	}
}

// learn asks for the log of a peer. One that has none any more, or of which that cannot be told, is forgotten. s.mu is held.
func (s *scopes) learn(r *replica.Replica, peer sharefs.PeerID, print [32]byte) (now scope) {
	id, last, err := r.ScopeLog(peer)
	if err != nil {
		delete(s.all, peer)
		return scope{}
	}
	if s.all == nil {
		s.all = map[sharefs.PeerID]scope{}
	}
	now = scope{print, exchange.LogID(id), last}
	s.all[peer] = now
	return now
}

// part reports whether a peer may read a part of the tree only, and by which rules.
func (l *Log) part(peer sharefs.PeerID) (print [32]byte, part bool) {
	policy := l.Policy()
	if _, err := policy.Whole(peer); err == nil {
		return print, false
	}
	_, err := policy.Some(peer)
	return policy.Print(peer), err == nil
}

// scope returns the log of a peer under some rules, which are those of the moment or were just now.
func (l *Log) scope(peer sharefs.PeerID, print [32]byte) (now scope) {
	l.scopes.mu.Lock()
	had, ok := l.scopes.all[peer]
	l.scopes.mu.Unlock()
	if ok && had.print == print {
		return had
	}
	_ = l.with(func(r *replica.Replica) error { // without one there is no log
		l.scopes.mu.Lock()
		defer l.scopes.mu.Unlock()
		now = l.scopes.learn(r, peer, print)
		return nil
	})
	return now
}
