package exchange

import (
	"bufio"
	"context"
	"net"
	"sync"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// A stream over which a peer asks is served in stages, each on its own goroutine, with little room between them; so a peer that does not read is not read any more either:
//
//  1. questions are read
//  2. each is looked up: whether the peer may have the version, whether the chunk is part of it, and the chunk
//  3. answers are written, as many in one message as fit it well, no faster than the peer's rate

const (
	serveBytes = 256 << 10 // of answers in one message
	serveAhead = 2         // messages that wait at each stage
)

// chunkStream serves a stream over which the peer asks for content.
func (p *peer) chunkStream(c net.Conn) {
	defer c.Close()
	x := p.x
	p.mu.Lock()
	if len(p.serving) >= x.cfg.Limits.Streams || p.ctx.Err() != nil {
		p.mu.Unlock()
		return
	}
	p.serving[c] = grant{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.serving, c)
		p.mu.Unlock()
	}()
	g, _, err := p.granted(x.cfg.Policy()) // asked after the stream can be closed by Refresh
	if err != nil {
		p.part(c, wire.Bye{Code: wire.ByePermission, Text: "nothing is granted"})
		return
	}
	p.mu.Lock()
	p.serving[c] = g
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	cut := context.AfterFunc(ctx, func() { c.Close() })
	defer cut()
	wants := make(chan *wire.Want, serveAhead)
	answers := make(chan []byte, serveAhead)
	var hands sync.WaitGroup
	hands.Go(func() {
		defer close(answers)
		p.answer(ctx, wants, answers)
	})
	hands.Go(func() {
		p.send(ctx, c, g, answers)
		cancel()
	})
	err = listenWants(ctx, c, wants)
	close(wants)
	if fault(err) {
		cancel()
		x.blame(p.id, err)
	}
	hands.Wait()
	x.log.Debug("content is not asked for any more", "peer", p.id.Short(), "error", err)
}

// part says why nothing is served over a stream.
func (p *peer) part(c net.Conn, bye wire.Bye) {
	_ = wire.NewWriter(patient{c, byeTime}, p.id).Bye(bye)
}

// endServing closes the streams over which the peer asks, but those that are served under the grant which a policy gives. The peer opens others if it may.
func (p *peer) endServing(policy trust.Policy) {
	now, _, err := p.granted(policy)
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, g := range p.serving {
		if err != nil || g != now {
			_ = c.Close()
		}
	}
}

// listenWants reads questions.
func listenWants(ctx context.Context, c net.Conn, wants chan<- *wire.Want) error {
	r := wire.NewReader(bufio.NewReaderSize(c, 16<<10))
	for {
		m, err := r.Next()
		if err != nil {
			return err
		}
		w, ok := m.(*wire.Want)
		if !ok {
			return refuse("a message that does not belong on this stream")
		}
		select {
		case wants <- w:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answer makes messages of answers: one when it is large enough, or when nothing more is asked for at the moment.
func (p *peer) answer(ctx context.Context, wants <-chan *wire.Want, answers chan<- []byte) {
	m := wire.NewChunks()
	flush := func() bool {
		if m.Len() == 0 {
			return true
		}
		select {
		case answers <- m.Message():
			m = wire.NewChunks()
			return true
		case <-ctx.Done():
			return false
		}
	}
	for {
		var w *wire.Want
		select {
		case w = <-wants:
		default:
			if !flush() {
				return
			}
			w = <-wants
		}
		if w == nil {
			flush()
			return
		}
		for i := range w.Groups {
			g := &w.Groups[i]
			have := p.lookUp(g)
			for _, id := range g.IDs {
				if ctx.Err() != nil {
					return
				}
				data := have(ctx, id)
				if m.Len() > 0 && m.Size()+len(data) > serveBytes && !flush() {
					return
				}
				m.Add(data)
				if m.Len() >= wire.MaxWanted && !flush() {
					return
				}
			}
		}
	}
}

// lookUp finds out what the peer may have of a version, and returns what reads it: nothing for what is not here, or not for this peer.
func (p *peer) lookUp(g *wire.Group) func(ctx context.Context, id sharefs.ChunkID) []byte {
	x := p.x
	nothing := func(context.Context, sharefs.ChunkID) []byte { return nil }
	v, err := x.cfg.Log.Version(p.id, g.Version)
	if err != nil || v == nil {
		p.common.inVain(g.Version) // it may come yet
		return nothing
	}
	ids := make([]sharefs.ChunkID, len(g.IDs))
	for i := range ids {
		ids[i] = g.IDs[i]
	}
	belong := map[sharefs.ChunkID]bool{}
	for i, ok := range x.scopes.belong(v, ids) {
		belong[ids[i]] = ok
	}
	return func(ctx context.Context, id sharefs.ChunkID) []byte {
		var data []byte
		if belong[id] {
			data = x.readChunk(ctx, v, id)
		}
		if data == nil {
			// Complete may have been called between the two, so it is looked for again once it is noted that the peer is to be told.
			p.common.inVain(v.ID())
			if belong[id] {
				data = x.readChunk(ctx, v, id)
			}
		}
		p.common.mu.Lock()
		p.common.out.count(data)
		p.common.mu.Unlock()
		return data
	}
}

// readChunk reads a chunk for a peer; nil: it is not here.
func (x *Exchange) readChunk(ctx context.Context, v *record.Record, id sharefs.ChunkID) []byte {
	select {
	case x.reads <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-x.reads }()
	data, err := x.cfg.Chunks.Chunk(v, id)
	if err != nil || len(data) > wire.MaxChunk {
		return nil
	}
	return data
}

// send writes answers.
func (p *peer) send(ctx context.Context, c net.Conn, g grant, answers <-chan []byte) {
	w := wire.NewWriter(p.x.cfg.Pace.Writer(ctx, p.id, patient{c, p.x.cfg.Limits.GiveUp}), p.id)
	for m := range answers {
		plain, err := p.still(g) // of this moment
		if err != nil {
			_ = w.Bye(wire.Bye{Code: wire.ByePermission, Text: "nothing is granted any more"})
			return
		}
		if send(w, plain, m) != nil {
			return
		}
		wire.Release(m)
	}
}
