// Package book keeps whom a store knows: keys, names, addresses and what each may. It is kept as one JSON file, written whole at each change, so that it is
// the old one or the new one after a crash.
//
// A peer is its key. Its name is a word of this host for it, one of its kind, first made of what the peer calls itself; no peer can change it.
// The rules of trust stand in it in their text form (package trust), with keys as words.
package book

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/peers/trust"
)

// How two hosts were paired.
const (
	ByLink = "link"
	ByLAN  = "lan"
	ByHand = "hand"

	ByRecovery = "recovery" // it is this host itself, by a key that it had before
)

// Peer is one that is known.
type Peer struct {
	ID   sharefs.PeerID `json:"id"`
	Name string         `json:"name"`
	// Unnamed: nobody has said yet what it is called, so that it gets the name that it says when it is connected.
	Unnamed bool      `json:"unnamed,omitempty"`
	Calls   string    `json:"calls_itself,omitempty"` // as it last said, made a word
	How     string    `json:"how"`
	Paired  time.Time `json:"paired"`
	Seen    time.Time `json:"seen,omitzero"`     // last connected
	Given   []string  `json:"given,omitempty"`   // addresses that the user named
	Found   []string  `json:"found,omitempty"`   // addresses that worked, or that it named, the latest first
	Lost    bool      `json:"lost,omitempty"`    // another key has taken its place
	CutDue  bool      `json:"cut_due,omitempty"` // it was revoked when what it wrote counted here, and the other hosts were not told yet where that ends
	Limits  Limits    `json:"limits,omitzero"`
	Keys    int       `json:"keys,omitempty"` // share keys that it was the first to bring here

	Bringing []string `json:"bringing,omitempty"` // ids of share keys that are being taken from it: those of them that are here do not count in Keys yet
}

// Bounds of the book.
const (
	MaxPeers  = 1000
	maxFound  = 12
	formatNow = 1
)

// file is what is kept.
type file struct {
	Format int      `json:"format"`
	Port   uint16   `json:"port,omitempty"`       // that was listened on last
	Due    uint64   `json:"epochs_due,omitempty"` // see Book.EpochsDue
	Peers  []Peer   `json:"peers"`
	Trust  []string `json:"trust"`
}

// Book is open. All methods may be called by several goroutines at once.
type Book struct {
	save     func([]byte) error
	reserved func(name string) string // see Reserve

	mu     sync.Mutex // guards what follows; held while saving, so that what is kept is never older than what is told
	peers  []Peer     // by name
	policy trust.Policy
	port   uint16
	due    uint64

	limits atomic.Pointer[map[sharefs.PeerID]Limits] // of those that have any; asked for each piece of content that goes or comes
}

// Open reads a book; nothing is an empty one. Save replaces what is kept. The error is of KindCorrupt.
func Open(text []byte, save func([]byte) error) (*Book, error) {
	b := &Book{save: save, reserved: func(string) string { return "" }}
	b.limits.Store(&map[sharefs.PeerID]Limits{})
	if len(text) == 0 {
		return b, nil
	}
	bad := func(detail string, err error) (*Book, error) {
		return nil, &sharefs.Error{Op: "read peers", Kind: sharefs.KindCorrupt, Detail: detail, Err: err}
	}
	var f file
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return bad("", err)
	}
	if f.Format != formatNow {
		return bad("it is of a format that this version does not know", nil)
	}
	ids := map[sharefs.PeerID]bool{}
	for i, p := range f.Peers {
		if p.ID.IsZero() || ids[p.ID] || named(f.Peers[:i], p.Name) || p.Name != CleanName(p.Name) {
			return bad("the peer "+CleanName(p.Name)+" has no key or no proper name, or one that another has", nil)
		}
		if err := p.Limits.check(); err != nil {
			return bad("the peer "+p.Name, err)
		}
		ids[p.ID] = true
	}
	policy, err := trust.Parse(strings.Join(f.Trust, "\n"), func(word string) (sharefs.PeerID, bool) {
		id, err := sharefs.ParsePeerID(word)
		return id, err == nil && ids[id]
	})
	if err != nil {
		return bad("", err)
	}
	b.peers, b.policy, b.port, b.due = f.Peers, policy, f.Port, f.Due
	b.noteLimits()
	return b, nil
}

// Reserve has peers not be given names for which why returns a reason, such as words that mean something else where names of peers stand. A peer that has one keeps it.
// To be called before other methods; why is called without a lock.
func (b *Book) Reserve(why func(name string) string) { b.reserved = why }

// change does fn on a copy and keeps it, or leaves all as it is.
func (b *Book) change(fn func(n *Book) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := &Book{peers: slices.Clone(b.peers), policy: b.policy, port: b.port, due: b.due}
	if err := fn(n); err != nil {
		return err
	}
	n.due += shutOut(b.policy, n.policy)
	for i := range n.peers {
		n.peers[i].CutDue = n.peers[i].CutDue && n.policy.Most(n.peers[i].ID) == trust.Blocked
	}
	slices.SortFunc(n.peers, func(x, y Peer) int { return strings.Compare(x.Name, y.Name) })
	f := file{Format: formatNow, Port: n.port, Due: n.due, Peers: n.peers, Trust: strings.Split(strings.TrimSpace(n.policy.Format(sharefs.PeerID.String)), "\n")}
	if f.Trust[0] == "" {
		f.Trust = nil
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = b.save(append(text, '\n'))
	}
	if err != nil {
		return err
	}
	b.peers, b.policy, b.port, b.due = n.peers, n.policy, n.port, n.due
	b.noteLimits()
	return nil
}

// Peers lists all, by name.
func (b *Book) Peers() []Peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.peers)
}

// Policy is all rules.
func (b *Book) Policy() trust.Policy {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.policy
}

// Port is the one that was listened on last, 0 where there was none.
func (b *Book) Port() uint16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.port
}

// SetPort keeps the port.
func (b *Book) SetPort(port uint16) error {
	if b.Port() == port {
		return nil
	}
	return b.change(func(n *Book) error { n.port = port; return nil })
}

// Peer finds one by its key.
func (b *Book) Peer(id sharefs.PeerID) (Peer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := b.index(id); i >= 0 {
		return b.peers[i], true
	}
	return Peer{}, false
}

func (b *Book) index(id sharefs.PeerID) int {
	return slices.IndexFunc(b.peers, func(p Peer) bool { return p.ID == id })
}

// named reports whether one of them has a name; case does not tell names apart.
func named(peers []Peer, name string) bool {
	return slices.ContainsFunc(peers, func(p Peer) bool { return strings.EqualFold(p.Name, name) })
}

// Find finds one by a word: its name, its key, or at least seven characters that its key alone begins with. The error is of KindNotExist.
func (b *Book) Find(word string) (Peer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.find(word)
}

func (b *Book) find(word string) (Peer, error) {
	var fits []Peer
	for _, p := range b.peers {
		if strings.EqualFold(p.Name, word) {
			return p, nil
		}
		if p.ID.Begins(word) {
			fits = append(fits, p)
		}
	}
	if len(fits) == 1 {
		return fits[0], nil
	}
	names := make([]string, len(b.peers))
	for i := range b.peers {
		names[i] = b.peers[i].Name
	}
	detail := "no peer has this name; known are " + strings.Join(names, ", ")
	if len(names) == 0 {
		detail = "no peer has this name: this store is paired with nobody yet (sharefs pair)"
	}
	return Peer{}, &sharefs.Error{Op: "peer", Path: quoted(word), Kind: sharefs.KindNotExist, Detail: detail}
}
