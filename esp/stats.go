package esp

import (
	"net/netip"
	"time"
)

// PathInfo describes one path of a session at one moment.
type PathInfo struct {
	ID            uint32
	Kind          string // "udp" or "tcp"
	Local, Remote netip.AddrPort
	Observed      netip.AddrPort // our end as the peer sees it; invalid where it has not said
	State         string         // "probing", "ready" or "dead"
	Active        bool           // data and control go here
	PeerActive    bool           // the peer sends here
	RTT, RTTVar   time.Duration
	MinRTT        time.Duration
	Loss          float64 // of the last few hundred packets, 0 to 1
	Bandwidth     float64 // estimate in bytes/s; 0: not known
	Window        int64   // congestion window in bytes; 0 on TCP, where the kernel has it
	InFlight      int64
	Congestion    string // controller and its state
	MTU           int    // UDP payload in bytes
	Sent          uint64 // bytes
	Received      uint64
	PacketsSent   uint64
	PacketsLost   uint64
	Timeouts      uint64
	Score         time.Duration // what the choice is made by: the smaller the better
	Why           string        // why the path is in use, or not
	LastHeard     time.Duration // ago
}

// Paths describes all paths of the session, in the order in which they were opened.
func (s *Session) Paths() []PathInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	out := make([]PathInfo, 0, len(s.paths))
	for _, p := range s.paths {
		rtt, st := p.rec.RTT(), p.rec.Stats()
		info := PathInfo{
			ID: p.id, Kind: p.kind(), Local: p.localAddr(), Remote: p.remote, Observed: p.observed,
			State: p.state.String(), Active: p == s.active, PeerActive: p.peerActive,
			RTT: rtt.Smoothed, RTTVar: rtt.Var, MinRTT: rtt.Min, Loss: st.LossRate, Bandwidth: p.bandwidth(),
			InFlight: p.rec.Inflight(), MTU: p.packetSize(), Sent: p.stats.bytesOut, Received: p.stats.bytesIn,
			PacketsSent: p.stats.packetsOut, PacketsLost: st.Lost, Timeouts: st.Timeouts,
			Score: p.score(now), Why: p.why, LastHeard: now - p.heard,
		}
		if p.cc != nil {
			info.Window = p.cc.Window()
			info.Congestion = p.cc.Name() + " " + p.cc.State()
		} else {
			info.Congestion = "kernel"
		}
		out = append(out, info)
	}
	return out
}

// SessionStats counts what went over a session, on all its paths.
type SessionStats struct {
	Age                      time.Duration
	Streams                  int // open now
	Opened, Accepted         uint64
	Refused                  uint64 // streams of the peer that nobody took
	BytesSent, BytesReceived uint64 // on the wire
	PacketsSent              uint64
	PacketsReceived          uint64
	PacketsLost              uint64
	Replayed                 uint64 // packets that came twice
	Malformed                uint64
	ResentBytes              uint64 // stream bytes that were sent again
	CopiedBytes              uint64 // stream bytes that were sent twice, in case the first is lost
	Rekeys, Exchanges        uint64 // epochs of ours that ended; fresh Diffie-Hellman exchanges
	Migrations               uint64 // changes of the active path
	Windows                  int    // bytes granted to the peer on all streams
	Suite                    string
}

// Stats returns the counters of the session.
func (s *Session) Stats() SessionStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.stats
	st := SessionStats{
		Age: s.now(), Streams: len(s.streams), Opened: c.opened, Accepted: c.accepted, Refused: c.refused,
		BytesSent: c.bytesOut, BytesReceived: c.bytesIn, PacketsSent: c.packetsOut, PacketsReceived: c.packetsIn,
		Replayed: c.replayed, Malformed: c.malformed, ResentBytes: c.resentBytes, CopiedBytes: c.copiedBytes, Rekeys: c.rekeys, Exchanges: c.exchanges,
		Migrations: c.migrations, Windows: s.windows, Suite: s.suite.String(), PacketsLost: c.lost,
	}
	for _, p := range s.paths {
		st.PacketsLost += p.rec.Stats().Lost
	}
	if s.err != nil {
		st.Age = s.final
	}
	return st
}

// EndpointStats counts what an endpoint saw outside of its sessions. Everything that is named a fault was dropped.
type EndpointStats struct {
	Sessions        int
	Handshakes      uint64 // INIT packets that cost a Diffie-Hellman
	FailedHandshake uint64 // handshake packets that did not open
	Repeated        uint64 // INIT packets that had come before, or were replayed
	BadMac          uint64 // INIT of who does not know our key
	Cookies         uint64 // cookies asked for, under load
	Overload        uint64 // INIT and connections that found no room
	Refused         uint64 // peers that Authorize did not want
	UnknownCID      uint64 // packets of no session
	Undecrypted     uint64 // packets that were forged, corrupt, or of keys long gone
	Malformed       uint64 // what is no packet at all
	BadRecords      uint64 // TCP connections that ended because of what came over them
	ResetsSent      uint64 // stateless resets
	ResetsReceived  uint64
	Memory          int64 // bytes granted to all peers together
}

// Stats returns the counters of the endpoint.
func (e *Endpoint) Stats() EndpointStats {
	c := &e.stats
	st := EndpointStats{
		Handshakes: c.handshakes.Load(), FailedHandshake: c.failed.Load(), Repeated: c.repeated.Load(), BadMac: c.badMac.Load(),
		Cookies: c.cookies.Load(), Overload: c.overload.Load(), Refused: c.refused.Load(), UnknownCID: c.unknownCID.Load(),
		Undecrypted: c.undecrypted.Load(), Malformed: c.malformed.Load(), BadRecords: c.badRecords.Load(),
		ResetsSent: c.resetsSent.Load(), ResetsReceived: c.resetsTaken.Load(), Memory: e.memory.Load(),
	}
	e.mu.Lock()
	st.Sessions = len(e.sessions)
	e.mu.Unlock()
	return st
}

// EventKind says what an [Event] is about.
type EventKind uint8

// The kinds of events.
const (
	EventSessionOpened EventKind = iota // the peer has confirmed a session
	EventSessionClosed                  // Detail says why
	EventPath                           // a path was tried, answered, moved or was given up
	EventActive                         // data go over another path from now on
)

func (k EventKind) String() string {
	return [...]string{"session opened", "session closed", "path", "active path"}[k]
}

// Event is something that happened to a session, for Config.Trace.
type Event struct {
	Kind    EventKind
	Session *Session
	At      time.Duration // since the session began
	Path    uint32
	Detail  string
}

// trace notes an event; unlock tells it. s.mu is held.
func (s *Session) trace(ev Event) {
	if s.e.cfg.Trace == nil {
		return
	}
	ev.Session, ev.At = s, s.now()
	s.events = append(s.events, ev)
}
