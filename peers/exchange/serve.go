package exchange

import (
	"bufio"
	"context"
	"net"
	"sync"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/record"
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
	p.serving[c] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.serving, c)
		p.mu.Unlock()
	}()
	if _, err := x.cfg.Policy().Some(p.id); err != nil { // asked after the stream can be closed by Refresh
		p.part(c, wire.Bye{Code: wire.ByePermission, Text: "nothing is granted"})
		return
	}
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	cut := context.AfterFunc(ctx, func() { c.Close() })
	defer cut()
	wants := make(chan *wire.Want, serveAhead)
	ready := make(chan *answers, serveAhead)
	var hands sync.WaitGroup
	hands.Go(func() {
		defer close(ready)
		p.answer(ctx, wants, ready)
	})
	hands.Go(func() {
		p.send(ctx, c, ready)
		cancel()
	})
	err := listenWants(ctx, c, wants)
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

// endServing closes the streams over which the peer asks.
func (p *peer) endServing() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.serving {
		_ = c.Close()
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

// answers is a message of answers, and what was asked, by the rules that said what may be answered.
type answers struct {
	to    grant
	m     *wire.ChunksWriter
	asked []wire.Group
	here  []bool // of all that was asked, in order
}

func (p *peer) newAnswers() *answers {
	g, _, _ := p.granted(p.x.cfg.Policy()) // whether anything is granted is asked when it is sent
	return &answers{to: g, m: wire.NewChunks()}
}

// add adds the answer to one question.
func (a *answers) add(version record.ID, id wire.ID, data []byte) {
	a.m.Add(data)
	a.here = append(a.here, data != nil)
	if n := len(a.asked); n == 0 || a.asked[n-1].Version != version {
		a.asked = append(a.asked, wire.Group{Version: version})
	}
	last := &a.asked[len(a.asked)-1]
	last.IDs = append(last.IDs, id)
}

// again answers anew, by the rules of the moment. What was not here is not, so that the message does not grow.
func (p *peer) again(ctx context.Context, old *answers) *answers {
	a := p.newAnswers()
	var room []byte
	for i := range old.asked {
		g := &old.asked[i]
		have := p.lookUp(g, &room)
		for _, id := range g.IDs {
			var data []byte
			if old.here[len(a.here)] {
				data = have(ctx, id)
			}
			a.add(g.Version, id, data)
		}
	}
	return a
}

// answer makes messages of answers: one when it is large enough, or when nothing more is asked for at the moment.
func (p *peer) answer(ctx context.Context, wants <-chan *wire.Want, ready chan<- *answers) {
	a := p.newAnswers()
	var room []byte // of the chunk that is answered: to clear it anew for each takes as long as to copy one
	flush := func() bool {
		if a.m.Len() > 0 {
			select {
			case ready <- a:
			case <-ctx.Done():
				return false
			}
		}
		a = p.newAnswers()
		return true
	}
	for {
		var w *wire.Want
		select {
		case w = <-wants:
		default:
			if !flush() {
				return
			}
			if w = <-wants; w != nil {
				a = p.newAnswers() // rules may have changed while nothing was asked
			}
		}
		if w == nil {
			flush()
			return
		}
		for i := range w.Groups {
			g := &w.Groups[i]
			have := p.lookUp(g, &room)
			for _, id := range g.IDs {
				if ctx.Err() != nil {
					return
				}
				data := have(ctx, id)
				if a.m.Len() > 0 && a.m.Size()+len(data) > serveBytes && !flush() {
					return
				}
				a.add(g.Version, id, data)
				if a.m.Len() >= wire.MaxWanted && !flush() {
					return
				}
			}
		}
	}
}

// lookUp finds out what the peer may have of a version, and returns what reads it, into room: nothing for what is not here, or not for this peer.
func (p *peer) lookUp(g *wire.Group, room *[]byte) func(ctx context.Context, id sharefs.ChunkID) []byte {
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
			data = x.readChunk(ctx, v, id, room)
		}
		if data == nil {
			// Complete may have been called between the two, so it is looked for again once it is noted that the peer is to be told.
			p.common.inVain(v.ID())
			if belong[id] {
				data = x.readChunk(ctx, v, id, room)
			}
		}
		p.common.mu.Lock()
		p.common.out.count(data)
		p.common.mu.Unlock()
		return data
	}
}

// readChunk reads a chunk for a peer into room, which grows where it is too small; nil: it is not here.
func (x *Exchange) readChunk(ctx context.Context, v *record.Record, id sharefs.ChunkID, room *[]byte) []byte {
	select {
	case x.reads <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-x.reads }()
	data, err := x.cfg.Chunks.Chunk(v, id, *room)
	if err != nil || len(data) > wire.MaxChunk {
		return nil
	}
	if cap(data) > cap(*room) {
		*room = data[:0]
	}
	return data
}

// send writes answers. Those that were made by other rules than those of the moment are made anew.
func (p *peer) send(ctx context.Context, c net.Conn, ready <-chan *answers) {
	w := wire.NewWriter(p.x.cfg.Pace.Writer(ctx, p.id, patient{c, p.x.cfg.Limits.GiveUp}), p.id)
	for a := range ready {
		for {
			now, plain, err := p.granted(p.x.cfg.Policy()) // of this moment
			if err != nil {
				_ = w.Bye(wire.Bye{Code: wire.ByePermission, Text: "nothing is granted any more"})
				return
			}
			if now != a.to {
				if a = p.again(ctx, a); ctx.Err() != nil {
					return
				}
				continue
			}
			m := a.m.Message()
			if send(w, plain, m) != nil {
				return
			}
			wire.Recycle(m)
			break
		}
	}
}
