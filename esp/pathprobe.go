package esp

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"sharefs/esp/internal/sched"
)

// sendChallenge asks the other end of a path to show that it receives there. s.mu is held.
func (s *Session) sendChallenge(p *path) {
	now := s.now()
	if p.challenged == 0 {
		s.e.random(p.challenge[:])
		p.tries = 0
	}
	p.challenged, p.probed = now, now
	p.tries++
	p.ctrlq = append(p.ctrlq, &ctrl{typ: framePathChallenge, data: append([]byte(nil), p.challenge[:]...)})
}

// nextChallenge is when the path is to be challenged again: soon while an answer is missing, else with the heartbeat.
// 0: never.
func (p *path) nextChallenge() time.Duration {
	switch {
	case !p.usable() || p.link != nil && p.validated:
		return 0
	case p.challenged != 0 && (p.state == pathProbing || !p.validated || p.tries < 3):
		return p.challenged + challengeWait<<min(p.tries-1, 5)
	case p.challenged != 0:
		return p.challenged + heartbeat
	case !p.s.heartbeats():
		return 0
	case p.s.busy():
		return p.probed + heartbeat
	case p == p.s.active: // which has the PINGs
		return 0
	}
	return p.s.keptAlive(max(p.probed, p.heard))
}

// onPathResponse takes the answer to a challenge.
func (s *Session) onPathResponse(p *path, f *frame, now time.Duration) {
	var q *path
	for _, c := range s.paths { // the answer may take another way than the question
		if c.challenged != 0 && string(c.challenge[:]) == string(f.data) {
			q = c
		}
	}
	if q == nil || q.state == pathDead {
		return
	}
	q.challenged, q.tries = 0, 0
	q.echoes++
	q.heard = now
	first := q.state == pathProbing
	q.state = pathReady
	q.validated = true
	q.oldRemote = netip.AddrPort{}
	if first {
		delete(s.pathsets.tried, addrPair{q.local, q.remote})
		s.trace(Event{Kind: EventPath, Path: q.id, Detail: "the other end answers"})
		s.tellObserved(q)
	}
	switch a := s.active; {
	case a == nil || a.state == pathDead:
		s.setActive(q, "the only path that answers")
	case a == q:
	case a.suspect && s.failing(a, now):
		s.failover(a, now)
	default:
		s.compare(now)
	}
}

// tellObserved tells the peer how its end of a path looks from here.
func (s *Session) tellObserved(p *path) {
	if p.observedSent == p.remote || p.link != nil {
		return
	}
	p.observedSent = p.remote
	s.sendCtrl(&ctrl{typ: frameObservedAddr, id: uint64(p.id), data: appendAddr(nil, candidateAddr{addr: p.remote})})
}

// schedPaths describes the UDP paths to the scheduler.
func (s *Session) schedPaths(now time.Duration) []sched.Path {
	out := s.scratch[:0]
	for _, p := range s.paths {
		if p.state != pathDead && !s.sharesDead(p, now) {
			out = append(out, p.describe(now))
		}
	}
	s.scratch = out
	return out
}

func (p *path) describe(now time.Duration) sched.Path {
	bw := p.bandwidth()
	if p.cc != nil { // before the window was ever filled, the estimate tells how little was sent
		if st := p.cc.State(); st == "startup" || st == "slow-start" {
			bw = 0
		}
	}
	return sched.Path{
		ID: p.id, SRTT: p.rec.RTT().Smoothed, Bandwidth: bw, Loss: p.rec.Stats().LossRate,
		Alive:    p.state == pathReady && p.usable() && !p.suspect && now-p.heard < deadAfter,
		Fallback: p.link != nil,
	}
}

// score is what paths are compared by.
func (p *path) score(now time.Duration) time.Duration {
	d := p.describe(now)
	return d.Score()
}

// compare moves to a better path, if one has been better for long enough. s.mu is held.
func (s *Session) compare(now time.Duration) {
	if s.active == nil || s.active.suspect {
		return
	}
	c := s.selector.Observe(s.schedPaths(now))
	if !c.Changed {
		return
	}
	if p := s.path(c.ID); p != nil {
		s.setActive(p, c.Why)
	}
}

// setActive makes p the path that carries data and control. s.mu is held.
func (s *Session) setActive(p *path, why string) {
	old := s.active
	p.why = why
	s.active = p
	s.selector.Set(p.id)
	if old == p {
		return
	}
	if old != nil {
		if old.state != pathDead && (old.suspect || old.state == pathProbing) { // what is under way there may never arrive
			s.giveUpInflight(old, s.now())
		}
		s.stats.migrations++
		old.why = "was active before: " + why
	}
	p.sayActive = len(s.paths) > 1
	s.pathsets.settleAt = 0
	s.trace(Event{Kind: EventActive, Path: p.id, Detail: why})
}

// writeStatus tells the peer that we send on this path.
func (s *Session) writeStatus(p *path, w *packetWriter) {
	p.statusSeq++
	c := &ctrl{typ: framePathStatus, id: uint64(p.id), a: p.statusSeq, b: statusActive}
	if p != s.active {
		c.b = statusStandby
	}
	w.b.buf = c.append(w.b.buf)
	w.add(sentFrame{kind: sentCtrl, ctrl: c})
}

// onPathStatus: the peer says which path it sends on. Where ours has gone silent, we follow.
func (s *Session) onPathStatus(f *frame, now time.Duration) {
	p := s.path(uint32(f.id))
	if p == nil || f.off <= p.peerSeq {
		return
	}
	p.peerSeq = f.off
	p.peerActive = f.code == statusActive
	a := s.active
	if !p.peerActive || p == a || p.state != pathReady || a == nil {
		return
	}
	if rtt := a.rec.RTT().Smoothed; a.state == pathDead || a.suspect || p.heard-a.heard > 2*rtt+100*time.Millisecond {
		a.suspect = true
		s.setActive(p, "the peer moved here")
	}
}

// onSilence runs with each probe timeout of a path. s.mu is held.
func (s *Session) onSilence(p *path, now time.Duration) {
	if p != s.active {
		return
	}
	if !p.suspect {
		p.suspect = true
		s.challengeAll(p, now)
	}
	if s.failing(p, now) {
		s.failover(p, now)
	}
}

// An active path that owes an answer is suspected after silence of one and a half probe timeouts, and left after
// three, when another one answers. The floors keep a busy machine from seeing ghosts. (The probe timeout itself
// starts anew with each packet that is sent, so that it does not fire while a program keeps writing.)
const (
	suspectFloor     = 100 * time.Millisecond
	failFloor        = 300 * time.Millisecond
	linkSuspectFloor = 1500 * time.Millisecond

	patience = time.Second // the longest probe timeout that silence is measured by, unless the path itself is that long
)

// silence returns when the path becomes suspect and when it may be left, both 0 where it owes no answer.
func (p *path) silence() (suspect, fail time.Duration) {
	if p.rec.Outstanding() == 0 {
		return 0, 0
	}
	if t, ok := p.rec.Oldest(); ok && t.probe > 0 {
		return 0, 0 // a probe of the PMTU may well be lost; its timeout asks again
	}
	rtt := p.rec.RTT()
	pto := rtt.Smoothed + max(4*rtt.Var, time.Millisecond) + p.s.peerParams.ackDelay
	if rtt.Smoothed == 0 {
		pto = firstRetry
	}
	// Round trips that a queue or a busy machine has drawn out to many seconds must not keep a dead path in use for as long.
	pto = min(pto, max(4*rtt.Min, patience))
	base := max(p.heard, p.firstUnanswered)
	if p.link != nil {
		at := base + max(linkSuspectFloor, 4*pto)
		return at, at
	}
	return base + max(pto*3/2, suspectFloor), base + max(3*pto, failFloor)
}

// challengeAll asks all other paths at once whether they live, and tries new ones. s.mu is held.
func (s *Session) challengeAll(p *path, now time.Duration) {
	for _, q := range s.paths {
		if q != p && q.usable() && (q.link == nil || !q.validated) {
			q.challenged = 0
			s.sendChallenge(q)
		} else if q != p && q.usable() {
			q.ctrlq = append(q.ctrlq, &ctrl{typ: framePing})
		}
	}
	s.tryCandidates(now, heartbeat, false)
	if s.confirmed {
		s.pathsets.settleAt = now + 100*time.Millisecond
	}
}

// manyTimeouts is how many probe timeouts in a row end the use of a path on which packets still come.
const manyTimeouts = 4

// failing reports whether a path has been silent for long enough to leave it, or the system refuses to send on it.
func (s *Session) failing(p *path, now time.Duration) bool {
	if p.state == pathDead || p.broken != 0 || !p.usable() {
		return true
	}
	_, at := p.silence()
	// Where the round trip is short, four timeouts are over within the time that a busy machine may keep the peer waiting.
	return at != 0 && now >= at || p.rec.PTOCount() >= manyTimeouts && now-p.firstUnanswered >= failFloor
}

// revived: what was sent on a suspected path was acknowledged, so its addresses are not dead either. s.mu is held.
func (s *Session) revived(p *path) {
	p.suspect, p.failedAt = false, 0
	delete(s.pathsets.deadAddrs, p.local)
	delete(s.pathsets.deadAddrs, p.remote.Addr())
}

// pathBroken: the socket refuses to send on a path. s.mu is held.
func (s *Session) pathBroken(p *path) {
	if p != s.active || p.suspect {
		return
	}
	now := s.now()
	p.suspect = true
	s.challengeAll(p, now)
	s.failover(p, now)
}

// failover leaves a path that is dead, or looks so, for the best one that answered since. s.mu is held.
func (s *Session) failover(p *path, now time.Duration) {
	ps := &s.pathsets
	if p.failedAt == 0 || now-p.failedAt > trustedFor {
		p.failedAt = now
		if p.local.IsValid() {
			ps.deadAddrs[p.local] = now
		}
		ps.deadAddrs[p.remote.Addr()] = now
		s.trace(Event{Kind: EventPath, Path: p.id, Detail: "silent"})
	}
	var best *path
	var bestScore time.Duration
	bestShares := 3
	for _, q := range s.paths {
		if q == p || q.state != pathReady || !q.usable() || q.suspect {
			continue
		}
		answered := q.heard > p.heard && q.challenged == 0
		shares := 0
		if q.local == p.local && p.local.IsValid() {
			shares++
		}
		if q.remote.Addr() == p.remote.Addr() {
			shares++
		}
		if q.link != nil { // TCP is the last choice
			shares = 2
		}
		if !answered && (shares > 0 || p.broken == 0 || now-q.heard > trustedFor) {
			continue
		}
		score := q.score(now)
		if best == nil || shares < bestShares || shares == bestShares && score < bestScore {
			best, bestScore, bestShares = q, score, shares
		}
	}
	if best != nil {
		s.giveUpInflight(p, now)
		s.setActive(best, fmt.Sprintf("path %d went silent", p.id))
		ps.scheduleProbe(now + heartbeat)
		return
	}
	s.tryLink(now)
	if ps.settleAt == 0 {
		ps.settleAt = now + 200*time.Millisecond
	}
}

// giveUpInflight has what is under way on a path sent again elsewhere.
func (s *Session) giveUpInflight(p *path, now time.Duration) {
	r := &s.result
	r.Reset()
	p.rec.Abandon(r)
	s.settleResult(p, r, now)
	p.probes = 0
	for _, c := range p.ctrlq {
		s.ctrlLost(c)
	}
	p.ctrlq = nil
}

// sharesDead reports whether a path ends at an address of a path that died a moment ago.
func (s *Session) sharesDead(p *path, now time.Duration) bool {
	for _, a := range [...]netip.Addr{p.local, p.remote.Addr()} {
		if t, ok := s.pathsets.deadAddrs[a]; ok && now-t < trustedFor && p != s.active {
			return true
		}
	}
	return false
}

// deadline is when tick has something to do.
func (ps *pathsets) deadline() (at time.Duration) {
	s := ps.s
	if !s.confirmed || s.err != nil {
		return 0
	}
	earliest(&at, ps.probeAt)
	earliest(&at, ps.settleAt)
	for _, p := range s.paths {
		earliest(&at, p.nextChallenge())
	}
	if len(ps.retired) > 0 {
		earliest(&at, ps.retired[0].at)
	}
	if a := s.active; a != nil {
		suspect, fail := a.silence()
		if !a.suspect {
			earliest(&at, suspect)
		} else if ps.settleAt == 0 {
			earliest(&at, fail)
		}
	}
	if s.heartbeats() && s.busy() {
		earliest(&at, ps.compareAt)
	}
	return at
}

// tick challenges, gives up and tries paths. s.mu is held.
func (ps *pathsets) tick(now time.Duration) {
	s := ps.s
	if !s.confirmed {
		return
	}
	for _, p := range s.paths {
		if at := p.nextChallenge(); at == 0 || now < at {
			continue
		}
		switch {
		case p.state == pathProbing && p.tries >= p.mayTry, p.state == pathReady && p != s.active && now-p.heard > deadAfter:
			s.dropPath(p, "no answer", true)
		case !p.validated && p.tries >= challengeMax && p.oldRemote.IsValid():
			p.remote, p.validated, p.oldRemote = p.oldRemote, true, netip.AddrPort{} // the move was forged, or did not last
			p.challenged = 0
		case p.state == pathReady && p.challenged == 0 && p == s.active && now-p.heard < heartbeat:
			p.probed = now
		default:
			s.sendChallenge(p)
		}
	}
	for len(ps.retired) > 0 && now >= ps.retired[0].at {
		s.e.table.remove(ps.retired[0].cid, s)
		ps.retired = ps.retired[1:]
	}
	if ps.probeAt != 0 && now >= ps.probeAt {
		ps.probeAt = s.common(now+fullProbe, fullProbe)
		s.advertise()
		switch a := s.active; {
		case a == nil || s.e.cfg.DisableUDP:
		case a.link != nil:
			s.tryCandidates(now, linkUpgrade/2, false)
			ps.probeAt = s.common(now+linkUpgrade, linkUpgrade) // UDP may come back any moment
		case s.client || now > fullProbe/2: // at the first common moment that leaves the client the time
			s.tryCandidates(now, rarelyProbe, true)
		}
	}
	if ps.settleAt != 0 && now >= ps.settleAt {
		ps.settleAt = 0
		if a := s.active; a != nil && a.suspect && s.failing(a, now) {
			s.failover(a, now)
		}
	}
	if a := s.active; a != nil {
		suspect, fail := a.silence()
		if suspect != 0 && now >= suspect && !a.suspect {
			s.onSilence(a, now)
		} else if a.suspect && fail != 0 && now >= fail && ps.settleAt == 0 {
			s.failover(a, now)
		}
	}
	if now >= ps.compareAt {
		ps.compareAt = now + heartbeat
		s.compare(now)
	}
}

// dropPath gives up a path. tell says whether the peer is to be told. s.mu is held.
func (s *Session) dropPath(p *path, why string, tell bool) {
	if p.state == pathDead {
		return
	}
	p.state, p.why = pathDead, why
	s.giveUpInflight(p, s.now())
	s.trace(Event{Kind: EventPath, Path: p.id, Detail: "given up: " + why})
	if tell {
		s.sendCtrl(&ctrl{typ: framePathAbandon, id: uint64(p.id), a: uint64(CodeNone)})
	}
	rest := make([]*path, 0, len(s.paths))
	for _, q := range s.paths {
		if q != p {
			rest = append(rest, q)
		}
	}
	s.setPaths(rest)
	s.retirePath(p.id)
	if s.active != p {
		return
	}
	s.active = nil
	var best *path
	for _, q := range rest {
		if q.state == pathReady && q.usable() && (best == nil || best.link != nil && q.link == nil || q.heard > best.heard && (q.link == nil || best.link != nil)) {
			best = q
		}
	}
	if best != nil {
		s.setActive(best, fmt.Sprintf("path %d is gone", p.id))
		return
	}
	s.lastEnds(p)
	s.reviveUDP(p)
}

// lastEnds keeps the addresses of a session without a path.
func (s *Session) lastEnds(p *path) {
	if p.link == nil || s.pathsets.lastRemote == (netip.AddrPort{}) {
		s.pathsets.lastRemote = p.remote
	}
}

// reviveUDP opens a path where a session has lost its last one: to the address where the peer was, and over TCP as
// well.
func (s *Session) reviveUDP(p *path) {
	if s.err != nil {
		return
	}
	now := s.now()
	if so := s.e.socketFor(p.remote); so != nil && !s.e.cfg.DisableUDP && (p.link == nil || s.client) {
		s.active = s.openPath(so, netip.Addr{}, p.remote, "the last path is gone")
	}
	s.tryLink(now)
	if s.active == nil && !s.pathsets.linkTrying {
		s.closeLocked(newSessionError(CodeTimeout, false, errNoPath.Error()))
	}
}

func (s *Session) onPathAbandon(f *frame) {
	if p := s.path(uint32(f.id)); p != nil {
		s.dropPath(p, "given up by the peer", false)
	}
}

// moved: an authentic packet, newer than all before, came from elsewhere: a NAT has forgotten the mapping, or the
// peer changed its address without telling. The new address must prove itself. s.mu is held.
func (s *Session) moved(p *path, in *inPacket, now time.Duration) {
	p.sock = in.sock
	if in.to.IsValid() {
		p.local = in.to
	}
	if in.from == p.remote {
		return
	}
	if in.from == p.oldRemote {
		p.remote, p.validated, p.oldRemote = in.from, true, netip.AddrPort{}
		p.challenged = 0
		return
	}
	if p.validated {
		p.oldRemote = p.remote
	}
	p.remote = in.from
	p.validated = false
	p.allowance = 3 * in.size
	p.challenged = 0
	s.sendChallenge(p)
	s.trace(Event{Kind: EventPath, Path: p.id, Detail: fmt.Sprintf("the peer moved to %v", in.from)})
}

// spreads reports whether bulk data go over a path that is not the active one. s.mu is held.
func (s *Session) spreads(p *path, now time.Duration) bool {
	if s.e.cfg.Scheduler != Aggregate || p.link != nil || !p.validated {
		return false
	}
	paths := s.schedPaths(now)
	for i := range paths {
		if paths[i].ID == p.id {
			return sched.Spread(sched.Aggregate, s.active.id, paths, i)
		}
	}
	return false
}

// linkTimeout bounds one attempt to carry a session over TCP.
const linkTimeout = 10 * time.Second

// tryLink dials a TCP connection for a session whose UDP paths are silent. s.mu is held.
func (s *Session) tryLink(now time.Duration) {
	ps := &s.pathsets
	if s.e.cfg.DisableTCP || ps.linkTrying || now < ps.linkAt || !s.confirmed || s.err != nil {
		return
	}
	for _, p := range s.paths {
		if p.link != nil && p.usable() && !p.suspect {
			return
		}
	}
	var to []netip.AddrPort
	for _, a := range ps.peerAddrs {
		if a.tcp && len(to) < dialAddrs {
			to = append(to, a.addr)
		}
	}
	if len(to) == 0 {
		return
	}
	id, cid, dcid, ok := s.takePathID()
	if !ok {
		return
	}
	ps.linkAt = now + 2*time.Second
	ps.linkTrying = s.e.spawn(func() { s.dialLink(to, id, cid, dcid) })
}

// dialLink connects to the first address that takes the connection.
func (s *Session) dialLink(to []netip.AddrPort, id uint32, cid, dcid uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), linkTimeout)
	defer cancel()
	go func() { // ends with ctx at the latest, when this function returns
		select {
		case <-s.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	var l *link
	for _, a := range to {
		conn, err := s.e.cfg.Net.Dial(ctx, netip.Addr{}, a)
		if err != nil {
			continue
		}
		l = newLink(s.e, conn)
		if !s.e.addLink(l) || l.sendMessage(appendHandshakeHeader(nil, typeJoin, dcid)) != nil {
			l.giveUp()
			l = nil
			continue
		}
		break
	}
	s.mu.Lock()
	s.pathsets.linkTrying = false
	if l == nil || s.err != nil {
		if l != nil {
			l.giveUp()
		}
		s.retirePath(id)
		s.flushUnlock()
		return
	}
	p := s.newPath(id, nil, l, netip.Addr{}, addrPortOf(l.conn.RemoteAddr()))
	p.cid, p.dcid, p.validated, p.why = cid, dcid, true, "UDP is silent"
	l.s, l.p = s, p
	s.addPath(p)
	s.startLink(l, true)
	s.sendChallenge(p)
	s.flushUnlock()
}

// startLink starts the goroutines of a link that belongs to the session now. reads is false where the caller reads.
// s.mu is held.
func (s *Session) startLink(l *link, reads bool) {
	if !s.e.spawn(l.writer) || reads && !s.e.spawn(l.reader) {
		l.open = false
		l.conn.Close()
	}
}

// joinLink takes over a connection that names a path of the session. The first record proves that who connected
// belongs to it.
func (e *Endpoint) joinLink(s *Session, id uint32, ln *link) *Session {
	rec, epoch, err := ln.record()
	if err != nil {
		return nil
	}
	in := inPacket{size: len(rec), buf: ln.buf, link: ln, from: addrPortOf(ln.conn.RemoteAddr())}
	if !in.open(new(nonceBuf), s, epoch, rec, recordHeader, id) {
		e.stats.undecrypted.Add(1)
		return nil
	}
	if !s.adoptLink(ln, id) {
		return nil
	}
	_ = ln.conn.SetReadDeadline(time.Time{})
	ln.pn = 1
	s.receive([]inPacket{in})
	return s
}

// mayJoin reports whether a connection of the peer may become the path of an id. Each id is for one path only: one that
// ended must not begin anew with packet number 0, or what an eavesdropper recorded of it would count once more, and the
// nonces of our own packets would be used twice.
func (ps *pathsets) mayJoin(id uint32) bool {
	if id < firstPath {
		return id == pathTCP && !ps.linkUsed
	}
	_, given := ps.ours[id]
	return given && byClient(id) != ps.s.client
}

// adoptLink makes the path of a link that came in, unless it has one, and starts its writer. The caller reads.
func (s *Session) adoptLink(ln *link, id uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return ln.s == s // refused: the reader still drains what the peer says
	}
	if ln.s == nil {
		if s.path(id) != nil || !s.pathsets.mayJoin(id) || s.livePaths() >= s.e.cfg.Limits.Paths+4 {
			s.stats.replayed++
			return false
		}
		p := s.newPath(id, nil, ln, netip.Addr{}, addrPortOf(ln.conn.RemoteAddr()))
		p.cid, p.dcid = s.pathsets.ours[id], s.pathsets.theirs[id].cid
		p.byPeer, p.validated, p.state, p.why = true, true, pathReady, "the peer came over TCP"
		ln.s, ln.p = s, p
		s.addPath(p)
		s.pathsets.used(id)
		s.pathsets.linkUsed = s.pathsets.linkUsed || id == pathTCP
		s.issueCIDs()
	}
	s.startLink(ln, false)
	return true
}

// linkGone: the connection of a TCP path has ended.
func (s *Session) linkGone(p *path, err error) {
	s.mu.Lock()
	if s.err == nil {
		p.link.open = false
		detail := "TCP connection closed"
		if err != nil {
			detail = err.Error()
		}
		s.dropPath(p, detail, true)
	}
	s.flushUnlock()
}
