package esp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// pathsets holds what a session knows of possible paths: the CIDs both sides have set aside for them, the addresses
// of both ends, and what was tried. The session's lock guards it.
type pathsets struct {
	s *Session

	ours      map[uint32]uint64  // CIDs that we gave the peer, by path id
	theirs    map[uint32]peerCID // CIDs that the peer gave us
	highEven  uint32             // highest path id of each parity for which we gave a CID
	highOdd   uint32
	usedEven  uint32 // highest path id of each parity that is or was in use
	usedOdd   uint32
	nextPath  uint32 // the next path that we open
	linkUsed  bool   // the TCP path of the handshake is or was in use
	retired   []retiredCID
	addrSeq   uint64          // of the ADDRS that we sent
	peerSeq   uint64          // of the ADDRS that came
	peerAddrs []candidateAddr // where the peer may be reached
	advert    []byte          // what we sent last

	tried      map[addrPair]attempt // of candidates
	deadAddrs  map[netip.Addr]time.Duration
	probeAt    time.Duration // when candidates are looked at again; 0: never
	linkAt     time.Duration // when TCP may be tried again
	linkTrying bool
	compareAt  time.Duration // when the paths are compared again
	settleAt   time.Duration // when the silence of the active path is looked at again; 0: no need

	lastLocal, lastRemote netip.AddrPort
}

type peerCID struct {
	cid   uint64
	token [resetTokSize]byte
}

// retiredCID is one of ours that the peer may still use for a moment.
type retiredCID struct {
	cid uint64
	at  time.Duration
}

// addrPair is a candidate: one of our addresses and one of the peer's.
type addrPair struct {
	local  netip.Addr
	remote netip.AddrPort
}

// attempt is when a candidate was tried last, and how often in vain since it answered.
type attempt struct {
	at     time.Duration
	inVain int
}

const (
	mostInVain    = 6 // times that the pause between two attempts doubles
	spareCIDs     = 4 // path ids of each parity that are provided for, beyond those in use
	retireDelay   = 10 * time.Second
	heartbeat     = 3 * time.Second
	trustedFor    = 6500 * time.Millisecond
	fullProbe     = 60 * time.Second
	rarelyProbe   = fullProbe/2 - time.Second // doubled with each attempt in vain, so that the first one comes with the next full probe
	firstProbe    = time.Second               // after the session was confirmed, so that short ones leave others in peace
	linkUpgrade   = 5 * time.Second
	challengeWait = 200 * time.Millisecond // first pause between challenges of a new path, doubled each time
	challengeMax  = 6
	againMax      = 3                // the same, of a candidate that was tried in vain before
	deadAfter     = 30 * time.Second // a standby that says nothing for so long is given up
	addrsLife     = 2 * time.Second  // how long the list of our addresses is held to be true
)

func (ps *pathsets) init(s *Session) {
	ps.s = s
	ps.ours = make(map[uint32]uint64)
	ps.theirs = make(map[uint32]peerCID)
	ps.tried = make(map[addrPair]attempt)
	ps.deadAddrs = make(map[netip.Addr]time.Duration)
	ps.nextPath = firstPath
	if !s.client {
		ps.nextPath = firstPath + 1
	}
	ps.highEven, ps.highOdd = 0, 1
	ps.usedEven, ps.usedOdd = 0, 1
}

func (ps *pathsets) stop() { ps.probeAt, ps.settleAt = 0, 0 }

// cids returns all CIDs that lead to this session.
func (ps *pathsets) cids() (out []uint64) {
	for _, cid := range ps.ours {
		out = append(out, cid)
	}
	for _, r := range ps.retired {
		out = append(out, r.cid)
	}
	return out
}

// tokens returns the stateless reset tokens of all CIDs that the peer gave us.
func (ps *pathsets) tokens() (out [][resetTokSize]byte) {
	for _, t := range ps.theirs {
		out = append(out, t.token)
	}
	return out
}

// byClient reports whether the client opens paths of this id.
func byClient(id uint32) bool { return id&1 == 0 }

// issueCIDs gives the peer CIDs for path ids that either side may open next. s.mu is held.
func (s *Session) issueCIDs() {
	ps := &s.pathsets
	for ps.highEven < ps.usedEven+2*spareCIDs {
		ps.highEven += 2
		s.issueCID(ps.highEven)
	}
	for ps.highOdd < ps.usedOdd+2*spareCIDs {
		ps.highOdd += 2
		s.issueCID(ps.highOdd)
	}
}

// used notes that a path id is taken, for good.
func (ps *pathsets) used(id uint32) {
	if byClient(id) {
		ps.usedEven = max(ps.usedEven, id)
	} else {
		ps.usedOdd = max(ps.usedOdd, id)
	}
}

// wasUsed reports whether an id of this parity, or a higher one, was taken.
func (ps *pathsets) wasUsed(id uint32) bool {
	if byClient(id) {
		return id <= ps.usedEven
	}
	return id <= ps.usedOdd
}

func (s *Session) issueCID(id uint32) {
	cid := s.e.newCID()
	for !s.e.table.add(cid, cidEntry{s: s, path: id}) {
		cid = s.e.newCID()
	}
	s.pathsets.ours[id] = cid
	tok := s.e.resetToken(cid)
	s.sendCtrl(&ctrl{typ: frameNewCID, id: uint64(id), a: cid, data: tok[:]})
}

func (s *Session) onNewCID(f *frame) {
	ps := &s.pathsets
	id := uint32(f.id)
	if _, ok := ps.theirs[id]; ok || ps.wasUsed(id) {
		return // the frame came twice, or late
	}
	// The peer provides for few ids ahead of those in use; more than that is a waste of our memory.
	if len(ps.theirs) > 4*spareCIDs+2*s.e.cfg.Limits.Paths+16 {
		s.violation(CodeLimit, "too many connection ids")
		return
	}
	t := peerCID{cid: f.cid}
	copy(t.token[:], f.data)
	ps.theirs[id] = t
	s.e.table.addToken(t.token, s)
}

// onRetireCID: the peer does not use our CID for a path any more.
func (s *Session) onRetireCID(f *frame) {
	id := uint32(f.id)
	ps := &s.pathsets
	if s.path(id) != nil || id > max(ps.highEven, ps.highOdd) {
		return
	}
	if cid, ok := ps.ours[id]; ok {
		delete(ps.ours, id)
		s.e.table.remove(cid, s)
	}
	if t, ok := ps.theirs[id]; ok { // nobody will use the id any more
		delete(ps.theirs, id)
		s.e.table.removeToken(t.token, s)
	}
	ps.used(id)
	s.issueCIDs()
}

// retirePath frees what belongs to a path that is gone: our CID soon, the peer's at once. s.mu is held.
func (s *Session) retirePath(id uint32) {
	ps := &s.pathsets
	if cid, ok := ps.ours[id]; ok {
		delete(ps.ours, id)
		ps.retired = append(ps.retired, retiredCID{cid: cid, at: s.now() + retireDelay})
	}
	if t, ok := ps.theirs[id]; ok {
		delete(ps.theirs, id)
		s.e.table.removeToken(t.token, s)
		s.sendCtrl(&ctrl{typ: frameRetireCID, id: uint64(id)})
	}
	s.issueCIDs()
}

// localEnd is one of our addresses with the socket that sends from it.
type localEnd struct {
	sock *socket
	addr netip.Addr
}

// localEnds lists the addresses that paths may begin at. Loopback ones are of use only to peers on this host.
func (e *Endpoint) localEnds(loopback bool) (out []localEnd) {
	seen := make(map[netip.Addr]bool)
	for _, so := range e.socks {
		la := so.conn.LocalAddr().Addr()
		for _, a := range e.expand(la) {
			if !seen[a] && a.IsLoopback() == loopback {
				seen[a] = true
				out = append(out, localEnd{so, a})
			}
		}
	}
	return out
}

// expand turns an unspecified address into those of the interfaces.
func (e *Endpoint) expand(a netip.Addr) []netip.Addr {
	if !a.IsUnspecified() {
		return []netip.Addr{a}
	}
	var out []netip.Addr
	for _, ip := range e.hostAddrs() {
		if a.Is6() || ip.Is4() {
			out = append(out, ip)
		}
	}
	return out
}

// hostAddrs are the addresses of this host, asked for anew every addrsLife.
func (e *Endpoint) hostAddrs() []netip.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.addrsAt.IsZero() || now.Sub(e.addrsAt) > addrsLife || now.Before(e.addrsAt) {
		if a, err := e.cfg.Net.Addrs(); err == nil {
			e.addrs = a
		}
		e.addrsAt = now
	}
	return e.addrs
}

// advertise tells the peer where we may be reached, when that has changed. s.mu is held.
func (s *Session) advertise() {
	ps := &s.pathsets
	p := s.active
	if p == nil {
		return
	}
	loopback := p.remote.Addr().IsLoopback()
	var list []candidateAddr
	for _, le := range s.e.localEnds(loopback) {
		list = append(list, candidateAddr{addr: netip.AddrPortFrom(le.addr, le.sock.conn.LocalAddr().Port())})
	}
	for _, l := range s.e.tcp {
		la := addrPortOf(l.Addr())
		for _, a := range s.e.expand(la.Addr()) {
			if a.IsLoopback() == loopback {
				list = append(list, candidateAddr{addr: netip.AddrPortFrom(a, la.Port()), tcp: true})
			}
		}
	}
	list = list[:min(len(list), maxAddrs)]
	b := appendVarint(nil, uint64(len(list)))
	for _, a := range list {
		b = appendAddr(b, a)
	}
	if slices.Equal(b, ps.advert) {
		return
	}
	ps.advert = b
	ps.addrSeq++
	s.sendCtrl(&ctrl{typ: frameAddrs, a: ps.addrSeq, data: b})
}

func (s *Session) onAddrs(f *frame) {
	ps := &s.pathsets
	if f.off <= ps.peerSeq {
		return
	}
	ps.peerSeq = f.off
	ps.peerAddrs = append(ps.peerAddrs[:0], f.addrs...)
	ps.scheduleProbe(s.now() + firstProbe)
}

// scheduleProbe looks at candidates at a time, or earlier where that was planned.
func (ps *pathsets) scheduleProbe(at time.Duration) {
	if ps.probeAt == 0 || at < ps.probeAt {
		ps.probeAt = at
	}
}

// candidates lists the pairs of addresses that no path joins yet, those first that share no address with the paths
// there are.
func (s *Session) candidates() (out []candidate) {
	ps := &s.pathsets
	if s.active == nil {
		return nil
	}
	loopback := s.active.remote.Addr().IsLoopback()
	for _, le := range s.e.localEnds(loopback) {
		for _, ra := range ps.peerAddrs {
			r := ra.addr
			if ra.tcp || r.Addr().Is4() != le.addr.Is4() || r.Addr().IsLoopback() != loopback || r.Addr() == le.addr && !loopback {
				continue
			}
			c := candidate{localEnd: le, remote: r}
			known := false
			for _, p := range s.paths {
				if p.link == nil && p.remote == r && (p.local == le.addr || !p.local.IsValid()) {
					known = true
				}
				if p.link == nil && (p.remote.Addr() == r.Addr() || p.local == le.addr) {
					c.shares++
				}
			}
			if !known && len(out) < maxAddrs {
				out = append(out, c)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int { return a.shares - b.shares })
	return out
}

type candidate struct {
	localEnd
	remote netip.AddrPort
	shares int // paths that end at the same addresses
}

// tryCandidates opens paths to candidates that were not tried for a while. Rarely: the while doubles each time that one does not answer, so that a host at rest is not woken
// again and again for addresses that lead nowhere from here. s.mu is held.
func (s *Session) tryCandidates(now time.Duration, again time.Duration, rarely bool) {
	ps := &s.pathsets
	if !s.confirmed || s.e.cfg.DisableUDP {
		return
	}
	limit := s.e.cfg.Limits.Paths
	for _, c := range s.candidates() {
		if s.livePaths() >= limit {
			return
		}
		pair := addrPair{c.addr, c.remote}
		was, ok := ps.tried[pair]
		wait := again
		if rarely {
			wait <<= min(was.inVain, mostInVain)
		}
		if ok && now-was.at < wait {
			continue
		}
		if len(ps.tried) > 4*maxAddrs {
			clear(ps.tried)
		}
		ps.tried[pair] = attempt{now, was.inVain + 1}
		if !s.e.reaches(c.addr, c.remote) {
			continue
		}
		p := s.openPath(c.sock, c.addr, c.remote, "candidate")
		if p == nil {
			return
		}
		if rarely && was.inVain > 0 {
			p.mayTry = againMax
		}
	}
}

func (s *Session) livePaths() (n int) {
	for _, p := range s.paths {
		if p.state != pathDead {
			n++
		}
	}
	return n
}

// openPath begins a path: a challenge to the other end. It returns nil where no CIDs are left for it. s.mu is held.
func (s *Session) openPath(so *socket, local netip.Addr, remote netip.AddrPort, why string) *path {
	id, cid, dcid, ok := s.takePathID()
	if !ok {
		return nil
	}
	p := s.newPath(id, so, nil, local, remote)
	p.cid, p.dcid, p.why = cid, dcid, why
	p.validated = true // of our own accord; the amplification limit is for addresses that others named
	s.addPath(p)
	s.issueCIDs()
	s.sendChallenge(p)
	s.trace(Event{Kind: EventPath, Path: p.id, Detail: fmt.Sprintf("try %v to %v: %s", local, remote, why)})
	return p
}

// takePathID allots the next path id of ours, with the CIDs for it.
func (s *Session) takePathID() (id uint32, cid, dcid uint64, ok bool) {
	ps := &s.pathsets
	id = ps.nextPath
	cid, ok1 := ps.ours[id]
	t, ok2 := ps.theirs[id]
	if !ok1 || !ok2 || id > maxPathID-2 {
		return 0, 0, 0, false
	}
	ps.nextPath += 2
	ps.used(id)
	return id, cid, t.cid, true
}

// pathOf finds the path of a packet, or makes one that the peer opens with it. nil: the packet must be dropped. s.mu
// is held.
func (s *Session) pathOf(in *inPacket, now time.Duration) *path {
	if p := s.path(in.path); p != nil {
		if p.state == pathDead || (p.link != in.link) {
			return nil
		}
		return p
	}
	ps := &s.pathsets
	t, ok := ps.theirs[in.path]
	cid, ok2 := ps.ours[in.path]
	if in.link != nil || !ok || !ok2 || byClient(in.path) == s.client || s.livePaths() >= s.e.cfg.Limits.Paths+4 {
		return nil
	}
	ps.used(in.path)
	p := s.newPath(in.path, in.sock, nil, in.to, in.from)
	p.cid, p.dcid, p.byPeer, p.why = cid, t.cid, true, "opened by the peer"
	s.addPath(p)
	s.issueCIDs()
	s.sendChallenge(p)
	s.trace(Event{Kind: EventPath, Path: p.id, Detail: fmt.Sprintf("the peer opens %v to %v", in.to, in.from)})
	return p
}

// firstPath gives a new session its first path. Nobody else knows the session yet.
func (s *Session) firstPath(id uint32, so *socket, ln *link, local netip.Addr, remote netip.AddrPort) {
	p := s.newPath(id, so, ln, local, remote)
	p.cid, p.dcid = s.handshakeCID, s.handshakePeer
	p.validated, p.state, p.why = true, pathReady, "handshake"
	s.heard = s.now()
	s.pathsets.ours[pathUDP] = p.cid
	s.pathsets.linkUsed = id == pathTCP
	if s.peerParams.hasToken {
		s.pathsets.theirs[pathUDP] = peerCID{cid: p.dcid, token: s.peerParams.resetToken}
	}
	s.addPath(p)
	s.active = p
	if ln != nil {
		ln.s, ln.p = s, p
	}
}

// abandon undoes a session that nobody knows.
func (s *Session) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = newSessionError(CodeLimit, false, "not published")
		s.stopTimer()
		close(s.done)
	}
}

// begin sends the first packet of a session that was dialed, and starts what belongs to it.
func (s *Session) begin() {
	if s.peerParams.hasToken {
		s.e.table.addToken(s.peerParams.resetToken, s)
	}
	s.mu.Lock()
	p := s.paths[0]
	if p.link != nil {
		s.startLink(p.link, true)
	}
	s.idleSince = s.now()
	s.sendCtrl(&ctrl{typ: framePing})
	s.flushUnlock()
}
