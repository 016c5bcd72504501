package esp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// cidTable says whose packets bear which CID. All sockets of an endpoint share it, since the kernel may deliver a
// packet to any of them. It is safe for concurrent use, and its lock is a leaf.
type cidTable struct {
	changes atomic.Uint64 // of byCID, as they begin; changed under mu

	mu     sync.RWMutex
	byCID  map[uint64]cidEntry
	tokens map[[resetTokSize]byte]*Session // of CIDs that peers gave us: what a stateless reset ends with
}

// cidEntry is one of four: a session with the id of the path, an incoming handshake that waits for its first packet,
// a dial that waits for REPLY, a session that we have closed.
type cidEntry struct {
	s       *Session
	path    uint32
	pending *pending
	dial    *dialing
	closed  *lastPacket
}

// lastPacket is the CLOSE of a session that is over. It is sent again to a peer that did not get it, ever more rarely.
type lastPacket struct {
	b     []byte
	asked atomic.Uint32
}

// closedLife is how long CLOSE can be repeated; later packets meet a stateless reset.
const closedLife = 3 * time.Second

// again reports whether one more packet of the peer deserves a repetition: the first, second, fourth, eighth …
func (l *lastPacket) again() bool {
	n := l.asked.Add(1)
	return n&(n-1) == 0
}

func (t *cidTable) init() {
	t.byCID = make(map[uint64]cidEntry)
	t.tokens = make(map[[resetTokSize]byte]*Session)
}

func (t *cidTable) get(cid uint64) (cidEntry, bool) {
	t.mu.RLock()
	en, ok := t.byCID[cid]
	t.mu.RUnlock()
	return en, ok
}

// cidMemory is what who asks for the same CID again and again remembers of the table. It is not safe for concurrent use.
type cidMemory struct {
	cid     uint64
	changes uint64 // of the table, before entry was looked up
	entry   cidEntry
}

// get is that of the table, without its lock where nothing has changed since.
func (m *cidMemory) get(t *cidTable, cid uint64) (cidEntry, bool) {
	changes := t.changes.Load()
	if m.cid == cid && m.changes == changes && cid != 0 {
		return m.entry, true
	}
	en, ok := t.get(cid)
	if ok {
		m.cid, m.changes, m.entry = cid, changes, en
	}
	return en, ok
}

func (t *cidTable) set(cid uint64, en cidEntry) {
	t.mu.Lock()
	t.changes.Add(1)
	t.byCID[cid] = en
	t.mu.Unlock()
}

// add enters cid unless it is taken.
func (t *cidTable) add(cid uint64, en cidEntry) bool {
	t.mu.Lock()
	t.changes.Add(1)
	defer t.mu.Unlock()
	if _, ok := t.byCID[cid]; ok {
		return false
	}
	t.byCID[cid] = en
	return true
}

// remove takes cid out if it belongs to s.
func (t *cidTable) remove(cid uint64, s *Session) {
	t.mu.Lock()
	t.changes.Add(1)
	if t.byCID[cid].s == s {
		delete(t.byCID, cid)
	}
	t.mu.Unlock()
}

// close lets cid answer with the last packet of s for a while.
func (t *cidTable) close(cid uint64, s *Session, last []byte) {
	t.mu.Lock()
	t.changes.Add(1)
	defer t.mu.Unlock()
	if t.byCID[cid].s != s {
		return
	}
	l := &lastPacket{b: last}
	t.byCID[cid] = cidEntry{closed: l}
	time.AfterFunc(closedLife, func() {
		t.mu.Lock()
		t.changes.Add(1)
		if t.byCID[cid].closed == l {
			delete(t.byCID, cid)
		}
		t.mu.Unlock()
	})
}

// removeHandshake takes cid out unless a session has it by now.
func (t *cidTable) removeHandshake(cid uint64) {
	t.mu.Lock()
	t.changes.Add(1)
	if en := t.byCID[cid]; en.s == nil && en.closed == nil {
		delete(t.byCID, cid)
	}
	t.mu.Unlock()
}

func (t *cidTable) addToken(tok [resetTokSize]byte, s *Session) {
	t.mu.Lock()
	t.tokens[tok] = s
	t.mu.Unlock()
}

func (t *cidTable) removeToken(tok [resetTokSize]byte, s *Session) {
	t.mu.Lock()
	if t.tokens[tok] == s {
		delete(t.tokens, tok)
	}
	t.mu.Unlock()
}

// dropTokens removes all tokens of a session; its lock is held.
func (t *cidTable) dropTokens(s *Session) {
	toks := s.pathsets.tokens()
	t.mu.Lock()
	for _, tok := range toks {
		if t.tokens[tok] == s {
			delete(t.tokens, tok)
		}
	}
	t.mu.Unlock()
}

// byToken finds the session that a stateless reset ends.
func (t *cidTable) byToken(packet []byte) *Session {
	if len(packet) < packetExtra {
		return nil
	}
	tok := [resetTokSize]byte(packet[len(packet)-resetTokSize:])
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.tokens[tok]
}

// resetToken is the token of one of our CIDs: HMAC-SHA256 under a key that only this identity knows. It needs no
// memory, so that an endpoint that lost its sessions can still tell the peers.
func (e *Endpoint) resetToken(cid uint64) (tok [resetTokSize]byte) {
	h := hmac.New(sha256.New, e.reset[:])
	h.Write(binary.BigEndian.AppendUint64(nil, cid))
	copy(tok[:], h.Sum(nil))
	return tok
}
