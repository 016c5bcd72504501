package vault

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"sharefs"
	"sharefs/peers/pace"
)

// ServerConfig says what a keeper does for whom.
type ServerConfig struct {
	Store *Store
	// Pace bounds how fast bytes of objects go to a peer, and come from it; nil: nothing does.
	Pace *pace.Pacer
}

// Server serves streams. It may be used by several goroutines.
type Server struct {
	cfg  ServerConfig
	busy chan struct{} // one for each operation at work

	mu      sync.Mutex // guards what follows
	closed  bool
	streams map[net.Conn]struct{}
	of      map[[32]byte]int // streams of each peer, and of each fetcher's key
	ended   sync.WaitGroup
}

// NewServer returns one.
func NewServer(cfg ServerConfig) *Server {
	return &Server{cfg: cfg, busy: make(chan struct{}, busyAll), streams: map[net.Conn]struct{}{}, of: map[[32]byte]int{}}
}

// Close ends all streams.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.streams {
		c.Close()
	}
	s.mu.Unlock()
	s.ended.Wait()
}

// enter counts a stream; leave is to be called at its end. ok is false where there are too many.
func (s *Server) enter(of [32]byte, c net.Conn) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.of[of] >= streamsOf || len(s.streams) >= streamsAll {
		return nil, false
	}
	s.of[of]++
	s.streams[c] = struct{}{}
	s.ended.Add(1)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.of[of]--; s.of[of] == 0 {
			delete(s.of, of)
		}
		delete(s.streams, c)
		s.ended.Done()
	}, true
}

// stream is one that is served.
type stream struct {
	s    *Server
	ctx  context.Context
	p    patient
	v    *Vault
	peer sharefs.PeerID
	read bool // nothing is changed by it
	buf  []byte
}

var errMany = &sharefs.Error{Op: "keep", Kind: sharefs.KindBusy, Detail: "too many streams are open"}

// Serve serves a stream that a peer opened, whom the session has proved to be so; first is the message that it begins with. It closes the stream.
func (s *Server) Serve(peer sharefs.PeerID, c net.Conn, first json.RawMessage) {
	defer c.Close()
	p := patient{c, giveUp}
	leave, ok := s.enter(peer, c)
	if !ok {
		_ = p.send(opened{Error: faultOf(errMany)})
		return
	}
	defer leave()
	v, err := s.giver(peer, first)
	if err != nil {
		_ = p.send(opened{Error: faultOf(err), As: s.cfg.Store.name(peer)})
		return
	}
	if p.send(opened{As: s.cfg.Store.name(peer), state: v.state()}) == nil {
		s.serve(&stream{p: p, v: v, peer: peer})
	}
}

// giver returns the vault of a peer.
func (s *Server) giver(peer sharefs.PeerID, first json.RawMessage) (*Vault, error) {
	var o opening
	if err := json.Unmarshal(first, &o); err != nil {
		return nil, &sharefs.Error{Op: "keep", Kind: sharefs.KindInvalid, Detail: "the first message is none"}
	}
	quota, why := s.cfg.Store.cfg.Quota(peer)
	v, err := s.cfg.Store.of(peer, quota > 0)
	switch {
	case err != nil:
		return nil, err
	case v == nil: // what it gave before it may have back, although nothing is taken any more
		return nil, s.cfg.Store.unwanted(peer, why)
	}
	if quota > 0 {
		s.cfg.Store.wanted(peer)
	}
	return v, v.setFetcher(o.Fetcher)
}

// ServeFetcher serves a stream of whoever has proved by the session to have a fetcher's key.
func (s *Server) ServeFetcher(key [32]byte, c net.Conn, first json.RawMessage) {
	defer c.Close()
	p := patient{c, giveUp}
	leave, ok := s.enter(key, c)
	if !ok {
		_ = p.send(opened{Error: faultOf(errMany)})
		return
	}
	defer leave()
	var o opening
	_ = json.Unmarshal(first, &o)
	all := s.cfg.Store.fetched(key)
	if len(all) == 0 {
		_ = p.send(opened{Error: faultOf(&sharefs.Error{Op: "fetch", Kind: sharefs.KindNotExist, Detail: "nothing is kept for this key"})})
		return
	}
	v := all[0]
	var offers []Offer
	for _, one := range all[:min(len(all), maxVaults)] {
		st := one.state()
		one.mu.Lock()
		offers = append(offers, Offer{Giver: one.peer.String(), Objects: len(one.objects), Bytes: st.Used, Written: one.written})
		one.mu.Unlock()
		if one.peer.String() == o.Of {
			v = one
		}
	}
	if p.send(opened{Vaults: offers, state: v.state()}) == nil {
		s.serve(&stream{p: p, v: v, peer: v.peer, read: true})
	}
}

// serve answers requests until the stream ends, or one that is none comes.
func (s *Server) serve(t *stream) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t.s, t.ctx = s, ctx
	for {
		var r request
		if (patient{t.p.c, idleKeeper}).receive(&r) != nil {
			return
		}
		if err := t.one(&r); err != nil {
			return
		}
	}
}

// one answers a request. The error is one behind which nothing more can be said.
func (t *stream) one(r *request) error {
	t.s.busy <- struct{}{}
	free := sync.OnceFunc(func() { <-t.s.busy })
	defer free()
	out := reply{}
	var err error
	switch {
	case r.Op == opRead:
		return t.sendRange(r, free)
	case r.Op == opList:
		out.Objects, out.More = t.v.list(r.Prefix, r.After)
	case r.Op == opProve:
		out.Proof, out.Size, err = t.v.prove(r)
	case t.read:
		err = &sharefs.Error{Op: r.Op, Kind: sharefs.KindPermission, Detail: "who fetches changes nothing"}
	case r.Op == opDelete:
		err = t.v.remove(r.Key)
	case r.Op == opPut:
		free() // it waits for the giver
		return t.take(r)
	default:
		return &sharefs.Error{Op: "keep", Kind: sharefs.KindInvalid, Detail: fmt.Sprintf("there is no %.20q", r.Op)}
	}
	free() // one who reads no answers holds up nobody else
	return t.answer(out, err)
}

func (t *stream) answer(out reply, err error) error {
	if err != nil {
		out = reply{Error: faultOf(err)}
	}
	out.state = t.v.state()
	return t.p.send(out)
}

// sendRange answers a read; free is called when the disk has done its part.
func (t *stream) sendRange(r *request, free func()) error {
	f, o, err := t.v.open(r.Key)
	if err != nil {
		free()
		return t.answer(reply{}, err)
	}
	defer f.Close()
	if r.Off < 0 || r.Len < 0 || r.Off >= o.size && o.size > 0 || r.Off > o.size {
		free()
		return t.answer(reply{}, &sharefs.Error{Op: "read", Path: r.Key, Kind: sharefs.KindRange, Detail: "there is nothing at that place"})
	}
	n := min(r.Len, o.size-r.Off, maxRead)
	if int64(cap(t.buf)) < n {
		t.buf = make([]byte, n)
	}
	b := t.buf[:n]
	if _, err := f.ReadAt(b, r.Off); err != nil && !errors.Is(err, io.EOF) {
		t.v.damage(r.Key, o)
		free()
		return t.answer(reply{}, t.v.store.failed("read", r.Key, err))
	}
	free()
	if err := t.answer(reply{N: n, Size: o.size, Tag: o.tag()}, nil); err != nil {
		return err
	}
	_, err = t.s.cfg.Pace.Writer(t.ctx, t.peer, t.p).Write(b)
	return err
}

// take receives an object.
func (t *stream) take(r *request) error {
	want := object{size: r.Size}
	if copy(want.sum[:], r.Sum) != len(want.sum) || len(r.Sum) != len(want.sum) {
		return t.answer(reply{}, &sharefs.Error{Op: "keep", Path: r.Key, Kind: sharefs.KindInvalid, Detail: "without a SHA-256"})
	}
	in, err := t.v.begin(r.Key, want, condition{r.Absent, r.Tag})
	if err != nil {
		return t.answer(reply{}, err)
	}
	defer in.end()
	if err := t.answer(reply{}, nil); err != nil {
		return err
	}
	if t.buf == nil {
		t.buf = make([]byte, piece)
	}
	from := t.s.cfg.Pace.Reader(t.ctx, t.peer, t.p, nil)
	var failed error
	for left := r.Size; left > 0; {
		b := t.buf[:min(left, int64(len(t.buf)), piece)]
		n, err := io.ReadFull(from, b)
		if err != nil {
			return err
		}
		if left -= int64(n); failed == nil { // what comes behind a failure is read, so that the giver hears of it
			_, failed = in.Write(b)
		}
	}
	var o *object
	if failed == nil {
		o, failed = in.commit()
	}
	if failed != nil {
		if errors.Is(failed, sharefs.KindNoSpace) { // others have filled the disk meanwhile
			t.v.full(in)
		}
		return t.answer(reply{}, failed)
	}
	return t.answer(reply{Tag: o.tag(), Size: o.size}, nil)
}

// prove answers a challenge. Errors: KindInvalid, KindNotExist, KindRange, those of reading.
func (v *Vault) prove(r *request) ([]byte, int64, error) {
	if len(r.Nonce) < nonceLen || len(r.Nonce) > 64 || len(r.Ranges) == 0 || len(r.Ranges) > maxRanges {
		return nil, 0, &sharefs.Error{Op: "prove", Path: r.Key, Kind: sharefs.KindInvalid, Detail: "it asks for nothing that is proved"}
	}
	f, o, err := v.open(r.Key)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	for _, p := range r.Ranges {
		if p[0] < 0 || p[1] <= 0 || p[1] > maxProved || p[0] > o.size-p[1] {
			return nil, o.size, &sharefs.Error{Op: "prove", Path: r.Key, Kind: sharefs.KindRange, Detail: "there is nothing at that place"}
		}
	}
	proof, err := proofOf(r.Nonce, r.Key, r.Ranges, f)
	if err != nil {
		v.damage(r.Key, o)
		err = v.store.failed("read", r.Key, err)
	}
	return proof, o.size, err
}

// proofOf is what only somebody knows who can read these ranges at that moment: HMAC-SHA-256 (RFC 2104) with the nonce for key.
func proofOf(nonce []byte, key string, ranges [][2]int64, body io.ReaderAt) ([]byte, error) {
	h := hmac.New(sha256.New, nonce)
	h.Write([]byte("sharefs vault proof 1\x00" + key + "\x00"))
	for _, p := range ranges {
		var head [16]byte
		binary.BigEndian.PutUint64(head[:], uint64(p[0]))
		binary.BigEndian.PutUint64(head[8:], uint64(p[1]))
		h.Write(head[:])
		if n, err := io.Copy(h, io.NewSectionReader(body, p[0], p[1])); err != nil || n != p[1] {
			return nil, errors.Join(io.ErrUnexpectedEOF, err)
		}
	}
	return h.Sum(nil), nil
}
