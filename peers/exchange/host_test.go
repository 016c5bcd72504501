package exchange

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/book"
	"sharefs/peers/identity"
	"sharefs/peers/link"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// patience only ends a hang.
const patience = 90 * time.Second

// wait waits until something holds.
func wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// leakCheck fails the test if it ends with more goroutines than it began with. It is called before anything else.
func leakCheck(t testing.TB) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		wait(t, "goroutines are back to the start", func() bool { return runtime.NumGoroutine() <= before })
	})
}

var share = record.ShareID{1}

// memory is the log, the chunks and the keys of a host.
type memory struct {
	key identity.Key

	mu      sync.Mutex
	id      LogID
	items   []Item
	have    map[string]uint64 // by peer and log
	records map[record.ID]*record.Record
	batches map[record.Hash]bool
	last    map[sharefs.PeerID]*record.Batch
	writer  record.Writer
	saw     []*record.Batch
	takes   int
	refuse  func(from sharefs.PeerID) error // what Take fails with
	chunks  map[sharefs.ChunkID][]byte
	reads   int
	ring    []byte
	rings   map[sharefs.PeerID]string
	badRing bool
	slow    chan struct{} // if not nil, each read of a chunk takes one
	parts   map[sharefs.PeerID]*partLog
}

// partLog is the log of a peer that may read a part of the share.
type partLog struct {
	id    LogID
	items []Item
}

// tells has a peer be told of records alone, one after the other.
func (m *memory) tells(peer sharefs.PeerID, list ...*record.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.parts == nil {
		m.parts = map[sharefs.PeerID]*partLog{}
	}
	if m.parts[peer] == nil {
		m.parts[peer] = &partLog{id: LogID{7, peer[0]}}
	}
	part := m.parts[peer]
	for _, rec := range list {
		part.items = append(part.items, Item{Records: []*record.Record{rec}, Next: uint64(len(part.items) + 1)})
	}
}

func newMemory(key identity.Key) *memory {
	m := &memory{key: key, have: map[string]uint64{}, records: map[record.ID]*record.Record{}, batches: map[record.Hash]bool{}, last: map[sharefs.PeerID]*record.Batch{},
		chunks: map[sharefs.ChunkID][]byte{}, rings: map[sharefs.PeerID]string{}}
	rand.Read(m.id[:])
	m.writer = record.Writer{Share: share, Head: record.Head{Author: key.ID, Incarnation: 1}}
	return m
}

func (m *memory) ID(peer sharefs.PeerID) LogID {
	m.mu.Lock()
	defer m.mu.Unlock()
	if part := m.parts[peer]; part != nil {
		return part.id
	}
	return m.id
}

func (m *memory) Last(peer sharefs.PeerID) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if part := m.parts[peer]; part != nil {
		return uint64(len(part.items))
	}
	return m.lastLocked()
}

func (m *memory) lastLocked() uint64 {
	if len(m.items) == 0 {
		return 0
	}
	return m.items[len(m.items)-1].Next
}

func (m *memory) Since(peer sharefs.PeerID, log LogID, after uint64, most int) ([]Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if part := m.parts[peer]; part != nil && part.id == log {
		return slices.Clone(part.items[min(after, uint64(len(part.items))):]), nil
	}
	if log != m.id {
		return nil, nil
	}
	i, _ := slices.BinarySearchFunc(m.items, after+1, func(it Item, n uint64) int { return int(it.Next) - int(n) })
	var out []Item
	for n := 0; i < len(m.items) && n < most; i++ {
		out = append(out, m.items[i])
		n += len(m.items[i].Records)
	}
	return out, nil
}

func (m *memory) Gave(peer sharefs.PeerID, log LogID, number uint64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if part := m.parts[peer]; part != nil {
		return part.id == log && number <= uint64(len(part.items)), nil
	}
	return log == m.id && (number == 0 || slices.ContainsFunc(m.items, func(it Item) bool { return it.Next == number })), nil
}

func cursor(peer sharefs.PeerID, log LogID) string { return string(peer[:]) + string(log[:]) }

func (m *memory) Have(peer sharefs.PeerID, log LogID) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.have[cursor(peer, log)], nil
}

func (m *memory) Take(from sharefs.PeerID, log LogID, items []Item, upTo uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.takes++
	if m.refuse != nil {
		if err := m.refuse(from); err != nil {
			return err
		}
	}
	for _, it := range items {
		if it.Batch == nil {
			if err := it.Records[0].Verify(); err != nil {
				return err
			}
		} else if err := it.Batch.Verify(); err != nil {
			return err
		}
		m.put(it)
	}
	m.have[cursor(from, log)] = upTo
	return nil
}

// put puts an item into the log, if it says anything new. m.mu is held.
func (m *memory) put(it Item) {
	fresh := it.Batch != nil && !m.batches[it.Batch.Hash()]
	for _, r := range it.Records {
		fresh = fresh || m.records[r.ID()] == nil
		m.records[r.ID()] = r
	}
	if !fresh {
		return
	}
	if b := it.Batch; b != nil {
		m.batches[b.Hash()] = true
		m.last[b.Author] = b
		for _, id := range b.Records {
			if m.records[id] == nil {
				panic("a batch of which a record is missing")
			}
		}
		it.Records = nil
		for _, id := range b.Records {
			it.Records = append(it.Records, m.records[id])
		}
	}
	m.items = append(m.items, Item{Batch: it.Batch, Records: it.Records, Next: m.lastLocked() + uint64(max(len(it.Records), 1))})
}

func (m *memory) Seen(author sharefs.PeerID) (*record.Batch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last[author], nil
}

func (m *memory) Saw(b *record.Batch) error {
	if err := b.Verify(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saw = append(m.saw, b)
	if m.writer.Saw(b) {
		rand.Read(m.id[:])
	}
	return nil
}

func (m *memory) Version(peer sharefs.PeerID, id record.ID) (*record.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if part := m.parts[peer]; part != nil {
		if !slices.ContainsFunc(part.items, func(it Item) bool { return it.Records[0].ID() == id }) {
			return nil, nil
		}
	}
	return m.records[id], nil
}

func (m *memory) Chunk(_ *record.Record, id sharefs.ChunkID, dst []byte) ([]byte, error) {
	if m.slow != nil {
		<-m.slow
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	data, ok := m.chunks[id]
	if !ok {
		return nil, sharefs.KindNotExist
	}
	return append(dst[:0], data...), nil
}

func (m *memory) Check(_ *record.Record, id sharefs.ChunkID, data []byte) error {
	if sha256.Sum256(data) != id {
		return sharefs.KindCorrupt
	}
	return nil
}

func (m *memory) Ring() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ring
}

func (m *memory) TakeRing(from sharefs.PeerID, ring []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.badRing {
		return sharefs.KindInvalid
	}
	m.rings[from] = string(ring)
	return nil
}

// keep keeps a chunk and returns its name.
func (m *memory) keep(data []byte) sharefs.ChunkID {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := sharefs.ChunkID(sha256.Sum256(data))
	m.chunks[id] = data
	return id
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}

// version makes the record of a version with chunks that are kept: at most 16 on level 0, else in nodes.
func (m *memory) version(t testing.TB, chunks ...[]byte) (*record.Record, []sharefs.ChunkID) {
	t.Helper()
	var all []sharefs.ChunkID
	var spans []record.Span
	v := &record.Version{Key: sharefs.KeyID{1}}
	rand.Read(v.File[:])
	for _, data := range chunks {
		id := m.keep(data)
		all = append(all, id)
		spans = append(spans, record.Span{Len: uint64(len(data)), ID: id})
		v.Size += uint64(len(data))
	}
	for len(spans) > record.MaxSpans {
		var up []record.Span
		for part := range slices.Chunk(spans, 300) {
			node, size := nodeOf(part)
			id := m.keep(node)
			all = append(all, id)
			up = append(up, record.Span{Len: size, ID: id})
		}
		spans = up
		v.Level++
	}
	v.Spans = spans
	r, err := record.New(share, m.key.ID, sharefs.HLCAt(time.Now()), v)
	if err == nil {
		err = r.Sign(m.key.Private())
	}
	if err != nil {
		t.Fatal(err)
	}
	return r, all
}

// nodeOf encodes a node of a manifest.
func nodeOf(spans []record.Span) (node []byte, size uint64) {
	for _, s := range spans {
		node = appendUvarint(node, s.Len<<1)
		node = append(node, s.ID[:]...)
		size += s.Len
	}
	return node, size
}

// author puts records into the log as one batch.
func (m *memory) author(t testing.TB, records ...*record.Record) *record.Batch {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []record.ID
	for _, r := range records {
		ids = append(ids, r.ID())
	}
	b, err := m.writer.Batch(sharefs.HLCAt(time.Now()), ids, m.key.Private())
	if err != nil {
		t.Fatal(err)
	}
	m.put(Item{Batch: b, Records: records})
	return b
}

// write authors a version of its own for each content.
func (m *memory) write(t testing.TB, contents ...string) (list []*record.Record) {
	t.Helper()
	for _, c := range contents {
		v, _ := m.version(t, []byte(c))
		list = append(list, v)
	}
	m.author(t, list...)
	return list
}

// host is an exchange over a hub, with everything in memory.
type host struct {
	*memory
	*Exchange
	t    testing.TB
	hub  *link.Hub
	book *book.Book
	name string

	mu      sync.Mutex
	blamed  map[sharefs.PeerID]error
	here    []record.ID
	changes int
}

type option func(*Config, *link.Config)

func newHost(t testing.TB, name string, options ...option) *host {
	t.Helper()
	h := newHostBeside(t, name, options...)
	h.Over(h.hub)
	return h
}

// newHostBeside is newHost whose exchange does not run over the hub yet.
func newHostBeside(t testing.TB, name string, options ...option) *host {
	t.Helper()
	h := &host{memory: newMemory(identity.New()), t: t, name: name, blamed: map[sharefs.PeerID]error{}}
	var err error
	if h.book, err = book.Open(nil, func([]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	c := Config{Self: h.key.ID, Policy: h.book.Policy, Log: h.memory, Chunks: h.memory, Rings: h.memory,
		Changed: func(sharefs.PeerID) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.changes++
		},
		Here: func(_ sharefs.PeerID, versions []record.ID) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.here = append(h.here, versions...)
		},
		Misbehaved: func(id sharefs.PeerID, err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.blamed[id] = err
		},
	}
	l := link.Config{Key: h.key.Private(), Name: name, Listen: "127.0.0.1:0", Book: h.book, Log: slog.New(slog.DiscardHandler)}
	for _, o := range options {
		o(&c, &l)
	}
	h.Exchange = New(c)
	if h.hub, err = link.Start(l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	return h
}

func (h *host) stop() {
	h.Exchange.Close()
	h.hub.Close()
}

// know pairs two hosts, one way each.
func (h *host) know(o *host) {
	h.t.Helper()
	at := []string{o.hub.Pairing().Listening}
	if _, err := h.book.Add(o.key.ID, o.name, book.ByHand, at, nil, time.Now()); err != nil {
		h.t.Fatal(err)
	}
}

// pair pairs hosts with each other at levels, and waits for the connection.
func pair(t testing.TB, a, b *host, ab, ba trust.Level) {
	t.Helper()
	a.know(b)
	b.know(a)
	a.grant(b, ab)
	b.grant(a, ba)
	a.hub.Sync()
	b.hub.Sync()
	wait(t, a.name+" and "+b.name+" connected", func() bool {
		_, aok := a.hub.Connected(b.key.ID)
		_, bok := b.hub.Connected(a.key.ID)
		return aok && bok
	})
}

func (h *host) grant(o *host, l trust.Level) {
	h.t.Helper()
	if _, err := h.book.Grant(o.name, l, trust.Pattern{}); err != nil {
		h.t.Fatal(err)
	}
	h.Refresh()
}

// with returns how the exchange with another host stands.
func (h *host) with(o *host) Status {
	var last Status
	for _, st := range h.Peers() {
		if st.Peer == o.key.ID && !st.Since.Before(last.Since) {
			last = st
		}
	}
	return last
}

// author also tells the exchange.
func (h *host) write(contents ...string) []*record.Record {
	h.t.Helper()
	list := h.memory.write(h.t, contents...)
	h.Grown()
	return list
}

// has waits until the records have come.
func (h *host) has(list ...*record.Record) {
	h.t.Helper()
	wait(h.t, fmt.Sprintf("%d records at %s", len(list), h.name), func() bool {
		h.memory.mu.Lock()
		defer h.memory.mu.Unlock()
		for _, r := range list {
			if h.records[r.ID()] == nil {
				return false
			}
		}
		return true
	})
}

// fetch gets all of a version.
func (h *host) fetch(r *record.Record, ids ...sharefs.ChunkID) (data []byte, err error) {
	defer h.Drop(r.ID())
	h.Want(r, ids...)
	for _, id := range ids {
		b, err := h.Get(h.t.Context(), r, id)
		if err != nil {
			return nil, err
		}
		data = append(data, b...)
	}
	return data, nil
}

// told returns how often there was reason to look again for what was not to be had.
func (h *host) told() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.here) + h.changes
}

// fetchAgain is fetch for somebody who tries again whenever there is reason to.
func (h *host) fetchAgain(r *record.Record, ids ...sharefs.ChunkID) (data []byte, err error) {
	h.t.Helper()
	return h.again(func() ([]byte, error) { return h.fetch(r, ids...) })
}

// again gets something, and tries again whenever there is reason to: where both ends have dialed, the session with a peer may give way to another one at any time.
func (h *host) again(get func() ([]byte, error)) (data []byte, err error) {
	h.t.Helper()
	for {
		told := h.told()
		if data, err = get(); !isKind(err, sharefs.KindUnreachable) {
			return data, err
		}
		wait(h.t, "a reason to look again at "+h.name, func() bool { return h.told() > told })
	}
}

func idsOf(r *record.Record) (ids []sharefs.ChunkID) {
	for _, s := range r.Body.(*record.Version).Spans {
		ids = append(ids, s.ID)
	}
	return ids
}

func isKind(err error, k sharefs.Kind) bool { return errors.Is(err, k) }
