package esp

import (
	"math"
	"net/netip"
	"time"

	"sharefs/esp/internal/cc"
	"sharefs/esp/internal/pacer"
	"sharefs/esp/internal/pmtu"
	"sharefs/esp/internal/recovery"
	"sharefs/esp/internal/replay"
)

// pathState is what is known of a path.
type pathState uint8

const (
	pathProbing pathState = iota // a challenge is out, or the peer opened it and has not answered ours
	pathReady                    // the peer answered: it receives here
	pathDead                     // given up; only its records remain until they are told as lost
)

func (st pathState) String() string {
	switch st {
	case pathProbing:
		return "probing"
	case pathReady:
		return "ready"
	}
	return "dead"
}

// Path ids 0 and 1 belong to the handshake: 0 is its UDP path, 1 its TCP path. Later ones are even when the client opens them, odd when the
// server does. An id is never used twice in a session, since it is part of the nonce.
const (
	pathUDP   = 0
	pathTCP   = 1
	firstPath = 2
)

// path is one way between the peers, with packet numbers, loss detection and congestion control of its own. The session's lock guards it.
type path struct {
	s      *Session
	id     uint32
	sock   *socket        // UDP; nil on a TCP path
	link   *link          // TCP; nil on a UDP path
	local  netip.Addr     // our end; invalid where the system does not tell
	remote netip.AddrPort // the peer's end
	cid    uint64         // by which the peer names the path to us
	dcid   uint64         // by which we name it to the peer

	state     pathState
	byPeer    bool // the peer opened it
	validated bool // the peer has shown that it receives at remote
	allowance int  // bytes that may be sent before that: three times what came
	born      time.Duration
	heard     time.Duration // when a packet last came
	heardPN   uint64        // the highest packet number that came, plus one
	broken    time.Duration // since when the socket refuses to send here; 0: it does not
	why       string        // why it is what it is, for people

	// probing (pathprobe.go)
	challenge    [8]byte
	challenged   time.Duration // when the challenge was last sent; 0: none is out
	probed       time.Duration // when it was sent at all
	tries        int
	mayTry       int  // how many challenges without an answer end it while nothing has come yet
	echoes       int  // answers that came
	sayActive    bool // PATH_STATUS is to be sent
	suspect      bool // an episode of silence is under way
	failedAt     time.Duration
	peerActive   bool // the peer sends its data here
	statusSeq    uint64
	peerSeq      uint64
	observed     netip.AddrPort // how the peer sees our end
	oldRemote    netip.AddrPort // where the peer was before it moved, until the move is proven
	observedSent netip.AddrPort // what we told it of its end

	// sending
	rec       *recovery.Sender[sent]
	cc        cc.Controller // nil on a TCP path
	pace      pacer.Pacer
	mtu       *pmtu.Discovery // nil on a TCP path
	sending   bool            // a goroutine builds and sends packets for the path
	ctrlq     []*ctrl         // for this path alone
	probes    int             // packets to send beyond the window, because of a PTO
	paceUntil time.Duration   // sending waits for this; 0: it does not
	rate      rateMeter       // of acknowledged bytes, on a TCP path
	tail      tail

	firstUnanswered time.Duration // when the oldest run of packets without an answer began

	// receiving
	replay  replay.Window
	acker   *recovery.Acker
	unacked int           // eliciting bytes since the last ACK, on a TCP path
	ackAt   time.Duration // when that ACK is due at the latest, on a TCP path; 0: none is
	ackedAt time.Duration // when the last ACK was sent

	stats pathCounters
}

type pathCounters struct {
	packetsIn, packetsOut, bytesIn, bytesOut uint64
	dataOut                                  uint64 // stream bytes
}

// sent is what a packet in flight carries, so that it can be told as delivered or sent again.
type sent struct {
	first  sentFrame
	more   []sentFrame
	ackTop uint64 // one past the largest packet number that an ACK in it told of; 0: none
	epoch  uint64
	probe  int // size of a PMTU probe, 0: none
}

type sentKind uint8

const (
	sentNothing sentKind = iota
	sentStream
	sentCredit
	sentCtrl
	sentMaxData
	sentMaxStreams
)

type sentFrame struct {
	kind  sentKind
	fin   bool
	again bool // it was sent before, and may come yet
	n     uint32
	off   uint64
	c     *Conn
	ctrl  *ctrl
}

func (t *sent) add(f sentFrame) {
	if t.first.kind == sentNothing {
		t.first = f
		return
	}
	t.more = append(t.more, f)
}

// each calls fn for every frame.
func (t *sent) each(fn func(*sentFrame)) {
	if t.first.kind != sentNothing {
		fn(&t.first)
	}
	for i := range t.more {
		fn(&t.more[i])
	}
}

// newPath makes a path; exactly one of sock and link is set.
func (s *Session) newPath(id uint32, sock *socket, ln *link, local netip.Addr, remote netip.AddrPort) *path {
	now := s.now()
	p := &path{s: s, id: id, sock: sock, link: ln, local: local, remote: remote, born: now, heard: now, mayTry: challengeMax}
	p.acker = recovery.NewAcker(maxAckRanges, defaultAckDelay)
	p.initSending()
	return p
}

// initSending sets loss detection, congestion control and PMTU discovery to their beginning.
func (p *path) initSending() {
	e := p.s.e
	cfg := recovery.Config{MaxAckDelay: p.s.peerParams.ackDelay}
	if p.link == nil {
		cfg.Rand = e.newRand()
		size := minDatagram
		p.mtu = pmtu.New(pmtu.Config{Base: minDatagram, Max: maxDatagram, Fixed: e.cfg.MTU})
		size = p.mtu.Size()
		p.cc = e.newController(size)
		cfg.CC = p.cc
	}
	p.rec = recovery.New[sent](cfg)
	p.pace = pacer.Pacer{}
}

// maxLinkPacket is the size of a record on a TCP path: a chunk with its frame header and room for control frames.
const maxLinkPacket = recordHeader + 512 + chunkLarge + tagSize

// packetSize is the largest packet that the path takes now, header and tag included.
func (p *path) packetSize() int {
	if p.link != nil {
		return maxLinkPacket
	}
	return p.mtu.Size()
}

func (p *path) headerSize() int {
	if p.link != nil {
		return recordHeader
	}
	return headerSize
}

// usable reports whether packets may be sent here at all.
func (p *path) usable() bool { return p.state != pathDead && (p.link == nil || p.link.open) }

// kind is "udp" or "tcp".
func (p *path) kind() string {
	if p.link != nil {
		return "tcp"
	}
	return "udp"
}

// room is how many bytes of data may be sent now. It arms paceUntil when it is pacing that forbids more.
func (p *path) room(now time.Duration) int64 {
	p.paceUntil = 0
	if p.link != nil {
		return math.MaxInt32
	}
	n := p.rec.Available()
	if n <= 0 {
		return 0
	}
	p.pace.SetRate(p.cc.PacingRate(), p.cc.Quantum())
	if b := p.pace.Budget(now); b <= 0 {
		p.paceUntil = p.pace.Next()
		return 0
	} else {
		n = min(n, b)
	}
	return n
}

// tooLittle reports whether the window has so little room, just after an acknowledgement, that it is better to wait for
// the next one: batches that are as small as what a small one freed would each bring a small acknowledgement again (the
// silly window syndrome, RFC 9293, section 3.8.6.2). It is for paths so fast that a millisecond fills a batch, and never
// holds back what nothing under way would set free.
func (p *path) tooLittle(room int64) bool {
	if p.link != nil || room <= 0 || room >= goodBatch || p.rec.Inflight() == 0 || p.rec.Available() > room {
		return false
	}
	return p.cc.Quantum() >= goodBatch && room < p.cc.Window()/4
}

// goodBatch is a number of bytes that is worth a system call.
const goodBatch = 48 << 10

// linkAckBytes is how many bytes may come on a TCP path before they are acknowledged, which there only frees the sender's buffers.
const linkAckBytes = 128 << 10

// ackPause is how soon after one ACK the next may ride on a packet: questions and answers that follow each other faster
// need none each, and those that come slower need no packet for the ACK alone.
const ackPause = time.Millisecond

// ackDue reports whether an ACK should leave even if nothing else does.
func (p *path) ackDue(now time.Duration) bool {
	if p.link != nil {
		return p.unacked >= linkAckBytes || p.ackAt != 0 && now >= p.ackAt
	}
	return p.acker.Due(now)
}

// rateMeter measures how fast bytes are acknowledged, in windows of a few milliseconds; the best of the last windows counts.
type rateMeter struct {
	start time.Duration
	bytes uint64
	best  [4]float64
	at    int
}

const rateWindow = 20 * time.Millisecond

func (m *rateMeter) add(now time.Duration, n int) {
	if m.start == 0 || now-m.start > 10*rateWindow {
		m.start, m.bytes = now, 0
		return
	}
	m.bytes += uint64(n)
	if d := now - m.start; d >= rateWindow {
		m.best[m.at] = float64(m.bytes) / d.Seconds()
		m.at = (m.at + 1) % len(m.best)
		m.start, m.bytes = now, 0
	}
}

// rate is in bytes/s, 0 where nothing is known.
func (m *rateMeter) rate() float64 { return max(m.best[0], m.best[1], m.best[2], m.best[3]) }

// bandwidth is what the path is thought to carry, in bytes/s; 0: not known.
func (p *path) bandwidth() float64 {
	if p.link != nil {
		return p.rate.rate()
	}
	return p.cc.Bandwidth()
}

// pathRate is what the encoders of the streams compare themselves with. s.mu is held.
func (s *Session) pathRate() float64 {
	if s.active == nil {
		return 0
	}
	return s.active.bandwidth()
}

// setPaths replaces the set of paths. s.mu is held.
func (s *Session) setPaths(ps []*path) { s.paths = ps }

func (s *Session) addPath(p *path) {
	ps := make([]*path, 0, len(s.paths)+1)
	s.setPaths(append(append(ps, s.paths...), p))
	s.everPath = true
}

// path finds a path by its id, nil if there is none. s.mu is held.
func (s *Session) path(id uint32) *path {
	for _, p := range s.paths {
		if p.id == id {
			return p
		}
	}
	return nil
}
