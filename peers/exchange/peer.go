package exchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/pace"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// peer is one at the other end of a session, as long as the session lasts.
type peer struct {
	x      *Exchange
	id     sharefs.PeerID
	s      session
	ctx    context.Context
	cancel context.CancelFunc
	since  time.Time
	poke   chan struct{} // of the pusher, capacity 1
	source *source
	common *common
	rings  sync.Mutex // held while its keys are taken

	mu      sync.Mutex    // guards what follows
	tended  bool          // this end sees to it that there is a control stream
	met     bool          // the session is, or was, the one with the peer
	control net.Conn      // nil: there is none
	ours    bool          // opened by this end
	ended   chan struct{} // closed when it has ended
	greeted bool
	version uint16    // of the protocol: the highest that both speak
	bye     *wire.Bye // to be said
	serving map[net.Conn]struct{}
	err     string // why something is not exchanged

	// What goes to it.
	offered bool
	log     LogID  // that was offered
	last    uint64 // number that the offer names: until it is told that it has all up to there, the peer waits
	ring    []byte
	seen    bool // its own batch was shown
	partial bool // it may read a part of the share
	sending bool // it asked for the log
	run     uint32
	at      uint64 // what was sent, or left out because it came from the peer
	told    uint64 // the number up to which the last message went
	most    int    // about how many bytes the next one has
	acked   uint64
	here    []record.ID // to be told
	keeps   keeps

	// What comes from it.
	offer     *wire.Offer // nil: nothing is offered
	theirs    LogID       // that was offered last
	theirRing []byte      // not taken yet
	asking    bool        // it is asked for content
	began     bool        // its log was asked for
	mine      uint32      // the run
	position  uint64      // of what has come
	taken     uint64      // of what is on disk here
	stop      bool        // to be said
	ack       bool        // to be said
	look      bool        // rules have changed
	refused   bool        // the last control stream ended before the peer said anything
	failed    error       // why its log is not taken, for a reason of this host
	failures  int         // how often that was so in a row
	failedAt  uint64      // up to where it would have been taken then
	inbox     []*wire.Items
	inboxSize int
	come      chan struct{} // there is something in the inbox; capacity 1
	room      chan struct{} // there is room in the inbox; capacity 1
	known     known
}

func newPeer(x *Exchange, id sharefs.PeerID, s session, c *common) *peer {
	p := &peer{x: x, id: id, s: s, common: c, since: time.Now(), poke: make(chan struct{}, 1), come: make(chan struct{}, 1), room: make(chan struct{}, 1),
		serving: map[net.Conn]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(x.ctx)
	p.source = newSource(p)
	return p
}

// grant is by what something is sent to a peer: by which rules, and whether they permit it the whole share. What was made ready under one is not sent under another.
type grant struct {
	whole bool
	print [32]byte // of the rules, if it is a part of the share
}

// granted returns the permission to send something to a peer by the rules of a policy.
func (p *peer) granted(policy trust.Policy) (g grant, plain trust.Plain, err error) {
	if plain, err = policy.Whole(p.id); err == nil {
		return grant{whole: true}, plain, nil
	}
	plain, err = policy.Some(p.id)
	return grant{print: policy.Print(p.id)}, plain, err
}

// still returns the permission of the moment to send what was made ready under a grant.
func (p *peer) still(g grant) (trust.Plain, error) {
	now, plain, err := p.granted(p.x.cfg.Policy())
	if err == nil && now != g {
		err = &sharefs.Error{Op: op, Kind: sharefs.KindPermission, Detail: "what the peer may read has changed"}
	}
	return plain, err
}

// end closes all streams of the session.
func (p *peer) end() {
	p.cancel()
	p.endServing()
}

// helloTime is how long the first message of a stream may take, byeTime how long the last one.
const (
	helloTime = 20 * time.Second
	byeTime   = 2 * time.Second
)

// patient writes to a stream, and gives up where nothing moves for a while.
type patient struct {
	c    net.Conn
	time time.Duration
}

// Write writes in pieces, so that however slow a peer is, it is given time as long as it reads.
func (w patient) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		_ = w.c.SetWriteDeadline(time.Now().Add(w.time))
		var m int
		m, err = w.c.Write(b[:min(len(b), 256<<10)])
		n, b = n+m, b[m:]
	}
	return n, err
}

// claim makes a stream the control stream, unless there is one. Where both ends have opened one that of whoever dialed the session counts, at both.
func (p *peer) claim(c net.Conn, ours bool) bool {
	dialed := p.s.dialed()
	for {
		p.mu.Lock()
		old, oldOurs, ended := p.control, p.ours, p.ended
		if p.ctx.Err() == nil && old == nil {
			p.control, p.ours, p.ended, p.err, p.bye = c, ours, make(chan struct{}), "", nil
			p.mu.Unlock()
			return true
		}
		p.mu.Unlock()
		if old == nil || ours != dialed || oldOurs == dialed {
			return false
		}
		_ = old.Close()
		<-ended
	}
}

// controlled returns what is closed when the control stream ends; nil: there is none.
func (p *peer) controlled() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.control == nil {
		return nil
	}
	return p.ended
}

// controlStream serves a control stream that the peer opened, until one end ends it.
func (p *peer) controlStream(c net.Conn) { p.runControl(c, false) }

// runControl serves a control stream that one end opened, until one end ends it.
func (p *peer) runControl(c net.Conn, ours bool) {
	defer c.Close()
	if !p.claim(c, ours) {
		return
	}
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	cut := context.AfterFunc(ctx, func() { c.Close() })
	defer cut()
	w := wire.NewWriter(patient{c, p.x.cfg.Limits.GiveUp}, p.id)
	var hands sync.WaitGroup
	var pushed error
	hands.Go(func() { pushed = p.push(ctx, w); cancel() })
	hands.Go(func() { p.take(ctx) })
	err := p.listen(ctx, c)
	if bye := farewell(err); bye != nil {
		p.mu.Lock()
		p.bye = bye
		p.mu.Unlock()
		poke(p.poke)
		late := time.AfterFunc(byeTime, cancel)
		defer late.Stop()
	} else {
		cancel()
	}
	hands.Wait()
	if errors.Is(err, net.ErrClosed) && pushed != nil { // that is why
		err = pushed
	}
	p.closed(err)
}

// farewell is what is said to a peer whose message was refused; nil: nothing is.
func farewell(err error) *wire.Bye {
	switch sharefs.KindOf(err) {
	case sharefs.KindNotSupported:
		return &wire.Bye{Code: wire.ByeVersion, Text: err.Error()}
	case sharefs.KindInvalid, sharefs.KindCorrupt:
		return &wire.Bye{Code: wire.ByeProtocol, Text: err.Error()}
	}
	return nil
}

// left reports whether an error is no more than that the peer ended a stream, or did not take it. Whoever writes first learns it by EPIPE, and may have closed the stream here before its end was read.
func left(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPIPE)
}

// closed puts back what the control stream stood for.
func (p *peer) closed(err error) {
	p.mu.Lock()
	p.refused = !p.greeted && left(err)
	p.greeted = false
	p.offered, p.ring, p.seen, p.sending = false, nil, false, false
	p.offer, p.began, p.stop, p.ack = nil, false, false, false
	p.inbox, p.inboxSize = nil, 0
	p.keeps.over()
	asked := p.asking
	p.asking = false
	if err != nil && p.ctx.Err() == nil && !left(err) {
		p.err = err.Error()
	}
	p.mu.Unlock()
	if k := sharefs.KindOf(err); k == sharefs.KindInvalid || k == sharefs.KindCorrupt {
		p.x.blame(p.id, err)
	}
	if asked {
		p.x.fetch.remove(p.source)
		p.x.changed(p.id)
	}
	p.x.log.Debug("an exchange ended", "peer", p.id.Short(), "error", err)
	p.mu.Lock()
	p.control = nil
	close(p.ended)
	p.mu.Unlock()
}

// listen takes the messages of the control stream.
func (p *peer) listen(ctx context.Context, c net.Conn) error {
	_ = c.SetReadDeadline(time.Now().Add(helloTime))
	r := wire.NewReader(bufio.NewReaderSize(c, 64<<10))
	m, err := r.Next()
	if err != nil {
		return err
	}
	hello, ok := m.(*wire.Hello)
	if !ok {
		return refuse("it does not begin with hello")
	}
	if hello.Lowest > wire.Version || hello.Highest < wire.Lowest || hello.Lowest > hello.Highest {
		return &sharefs.Error{Op: op, Kind: sharefs.KindNotSupported,
			Detail: fmt.Sprintf("it speaks versions %d to %d of the exchange, this host %d to %d: update the older one", hello.Lowest, hello.Highest, wire.Lowest, wire.Version)}
	}
	_ = c.SetReadDeadline(time.Time{})
	p.mu.Lock()
	p.greeted, p.refused, p.version = true, false, min(hello.Highest, wire.Version)
	p.mu.Unlock()
	poke(p.poke)
	var changes, heres, asks pace.Bucket
	for {
		if m, err = r.Next(); err != nil {
			return err
		}
		switch m := m.(type) {
		case *wire.Ring:
			p.mu.Lock()
			p.theirRing = m.Bytes
			p.mu.Unlock()
			p.takeRing()
		case *wire.Seen:
			err = p.saw(m.Batch)
		case *wire.Offer:
			p.mu.Lock()
			if m.Log != p.theirs { // it may not have what it sent before
				p.theirs, p.known, p.at = m.Log, known{}, p.told
			}
			p.offer, p.began = m, false
			p.mu.Unlock()
		case *wire.Withdraw:
			p.mu.Lock()
			p.offer, p.began = nil, false
			p.mu.Unlock()
		case *wire.Begin:
			p.begin(m)
		case *wire.Items:
			if err = p.came(ctx, m); err == nil {
				continue
			}
		case *wire.Ack:
			p.mu.Lock()
			if m.Log == p.log {
				p.acked = max(p.acked, min(m.UpTo, p.told))
			}
			p.mu.Unlock()
			continue
		case *wire.Stop:
			p.mu.Lock()
			p.sending = false
			p.mu.Unlock()
		case *wire.Keep:
			if err := asks.Spend(ctx, 1, askRate); err != nil {
				return err
			}
			p.askedToKeep(m)
			continue
		case *wire.Release:
			if err := asks.Spend(ctx, 1, askRate); err != nil {
				return err
			}
			if err := p.askedToRelease(m); err != nil {
				return err
			}
			continue
		case *wire.Unkept:
			p.refusals(m)
			continue
		case *wire.Kept:
			p.answered(wire.KindKept, m.Number, m.Versions)
			continue
		case *wire.Released:
			p.answered(wire.KindReleased, m.Number, m.Versions)
			continue
		case *wire.Here:
			if err := heres.Spend(ctx, 1, hereRate); err != nil {
				return err
			}
			p.nowHere(m.Versions)
			continue
		case *wire.Bye:
			return &sharefs.Error{Op: op, Kind: sharefs.KindOther, Detail: "the peer ended the exchange: " + m.Text}
		default:
			return refuse("a message that does not belong on this stream")
		}
		if err != nil {
			return err
		}
		if !changes.Take(time.Now(), 1, controlRate, controlBurst) {
			return refuse("a flood of messages")
		}
		poke(p.poke)
	}
}

// Messages of the control stream that change what is offered and taken, in a second and at once.
const (
	controlRate  = 20
	controlBurst = 1000
	hereRate     = 100 // messages that contents are there: each may have somebody look
)

const op = "exchange with a peer"

func refuse(detail string) error {
	return &sharefs.Error{Op: op, Kind: sharefs.KindInvalid, Detail: detail}
}

// begin takes what the peer asks to be sent.
func (p *peer) begin(m *wire.Begin) {
	gave, err := p.x.cfg.Log.Gave(p.id, m.Log, m.After)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.offered || m.Log != p.log {
		return // it crossed with a change
	}
	p.sending, p.run, p.at, p.most = true, m.Run, m.After, pushFirst
	if err != nil || !gave { // the log has lost something that was on disk: all of it is told again
		p.at = 0
	}
	p.told, p.acked = p.at, p.at
}

// refresh looks at the rules again.
func (p *peer) refresh() {
	p.mu.Lock()
	p.look, p.failed = true, nil
	p.mu.Unlock()
	poke(p.poke)
}

// nowHere takes word of content that the peer has now.
func (p *peer) nowHere(versions []record.ID) {
	p.mu.Lock()
	offered := p.offer != nil
	p.mu.Unlock()
	if offered && p.x.cfg.Here != nil {
		p.x.cfg.Here(p.id, versions)
	}
}

func (p *peer) status() Status {
	st := Status{Peer: p.id, Since: p.since, RTT: p.s.rtt(), Last: p.x.cfg.Log.Last(p.id)}
	st.Rate = p.x.fetch.rate(p.source)
	p.common.mu.Lock()
	st.In, st.Out = p.common.in, p.common.out
	p.common.mu.Unlock()
	blamed := p.x.blamed(p.id)
	p.mu.Lock()
	defer p.mu.Unlock()
	st.Sends, st.Takes, st.Receives, st.Sent, st.Acked, st.Taken, st.Error = p.offered, p.sending, p.began, p.at, p.acked, p.taken, p.err
	st.Refused = p.refused
	if p.acked == p.told {
		st.Acked = p.at
	}
	if p.offer != nil {
		st.Known = max(p.offer.Last, p.position)
	}
	switch {
	case blamed != nil:
		st.Error, st.LeftOut = blamed.String(), blamed.until
	case p.failed != nil:
		st.Error = p.failed.Error()
	}
	return st
}

// known has some of what a peer has: the latest that it sent, so that it is not sent back.
type known struct{ now, before map[[8]byte]struct{} }

const mostKnown = 1 << 15

func (k *known) add(hash [32]byte) {
	if len(k.now) >= mostKnown || k.now == nil {
		k.before, k.now = k.now, map[[8]byte]struct{}{}
	}
	k.now[[8]byte(hash[:8])] = struct{}{}
}

func (k *known) has(hash [32]byte) bool {
	_, now := k.now[[8]byte(hash[:8])]
	_, before := k.before[[8]byte(hash[:8])]
	return now || before
}
