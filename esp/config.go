package esp

import (
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"sharefs/esp/internal/sched"
)

// Compression says what happens to the bytes of the streams that an endpoint writes.
type Compression uint8

const (
	// CompressAuto compresses with zstd where that wins bytes and the path is slower than the encoder. It is the default.
	CompressAuto Compression = iota
	// CompressOff sends all bytes as they are. What the peer compressed is read all the same.
	CompressOff
)

// Scheduler says which paths of a session carry what.
type Scheduler uint8

const (
	// Single sends on the best path and keeps the others warm. It is the default.
	Single Scheduler = iota
	// Aggregate spreads bulk data over all paths whose round trip is within four times the best one's.
	Aggregate
	// Redundant sends small packets on the two best paths at once.
	Redundant
)

func (s Scheduler) String() string { return s.mode().String() }

func (s Scheduler) mode() sched.Mode {
	switch s {
	case Aggregate:
		return sched.Aggregate
	case Redundant:
		return sched.Redundant
	}
	return sched.Single
}

// Config is how an [Endpoint] works. The zero value is useful: a new identity, every peer welcome, sockets on any free port.
type Config struct {
	// Key is the identity. Zero: one is made for this endpoint only.
	Key PrivateKey

	// Authorize decides about a peer by its key, before anything about it is kept; an error refuses it, and its text is
	// sent to the peer. It is called for peers that dial here, and for a peer that was dialed by an address without a key.
	// It may be called by several goroutines at once and must not wait for long. Nil welcomes all who dial here (ask
	// [Session.PeerKey]) and fails a Dial without key with [ErrNoKey].
	Authorize func(peer PublicKey) error

	// Addrs are the local addresses: "HOST:PORT", UDP and TCP alike. None: ":0" for all interfaces and any port.
	Addrs []string

	// Pairing answers dialers that do not know this endpoint's key (Noise XX). Otherwise such packets meet silence.
	Pairing bool

	Compression Compression
	Scheduler   Scheduler

	// Congestion is "bbr" (the default) or "cubic".
	Congestion string

	// MTU fixes the size of UDP payloads in bytes, 1200 to 65507. 0: what a path carries is found out (RFC 8899).
	MTU int

	// DisableUDP and DisableTCP leave out one of the two carriages.
	DisableUDP, DisableTCP bool

	// Sockets is how many UDP sockets share the port of a listening endpoint. 0: one for each core.
	Sockets int

	Limits Limits

	// KeepAlive is the pause after which a session with open streams that was dialed from here sends something, or earlier, together with others at a multiple of it by the clock. 0: 15 s.
	KeepAlive time.Duration

	// IdleTimeout is the silence after which a peer is given up with ETIMEDOUT. 0: 45 s. At least 2·KeepAlive is used.
	IdleTimeout time.Duration

	// HandshakeTimeout bounds a Dial whose context has no earlier deadline. 0: 20 s.
	HandshakeTimeout time.Duration

	// Linger bounds how long closing an endpoint waits until the peers have what was written. 0: 5 s; negative: no waiting.
	Linger time.Duration

	// Rand gives keys, CIDs and challenges. Nil: crypto/rand. It must be safe for concurrent use.
	Rand io.Reader

	// Net makes the sockets. Nil: those of the operating system.
	Net Network

	// Trace is called with what happens to sessions and paths, for tools that show it. It is called without locks held,
	// must be safe for concurrent use and must not block for long. Nil: nobody watches.
	Trace func(Event)
}

// Limits bound what peers can make an endpoint spend. Zero fields take the value in the comment.
type Limits struct {
	Handshakes    int // unfinished incoming handshakes: 1024
	Sessions      int // sessions: 16384
	Streams       int // open streams of a session that the peer opened: 4096
	Backlog       int // streams of an endpoint that wait for Accept: 4096
	StreamWindow  int // bytes that the peer may send ahead on one stream: 16 MiB; it begins lower and grows with use
	SessionWindow int // the same for all streams of a session together: 64 MiB
	Memory        int // the same for all sessions of an endpoint together: 1 GiB
	SendBuffer    int // bytes written to one stream and not acknowledged: 16 MiB; it begins lower and grows with use
	Paths         int // paths of a session in use or on standby: 8
}

const (
	defaultAckDelay = 5 * time.Millisecond

	minStreamWindow  = 16 << 10 // granted even where all memory is spoken for
	firstWindow      = 1 << 20  // of a stream, in bytes
	firstSendBuffer  = 512 << 10
	outOfOrderRanges = 1024 // of one stream
)

func def[T ~int | ~int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// withDefaults checks c and fills in what is not set.
func (c Config) withDefaults() (Config, error) {
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Key.IsZero() {
		k, err := generateKey(c.Rand)
		if err != nil {
			return c, err
		}
		c.Key = k
	}
	switch c.Congestion {
	case "":
		c.Congestion = "bbr"
	case "bbr", "cubic":
	default:
		return c, fmt.Errorf("esp: congestion control %q: known are bbr and cubic", c.Congestion)
	}
	if c.MTU != 0 && (c.MTU < minDatagram || c.MTU > maxDatagram) {
		return c, fmt.Errorf("esp: MTU %d: must be within %d and %d", c.MTU, minDatagram, maxDatagram)
	}
	if c.DisableUDP && c.DisableTCP {
		return c, fmt.Errorf("esp: neither UDP nor TCP is allowed")
	}
	if c.Scheduler > Redundant {
		return c, fmt.Errorf("esp: scheduler %d is not known", c.Scheduler)
	}
	if len(c.Addrs) == 0 {
		c.Addrs = []string{":0"}
	}
	if c.Net == nil {
		c.Net = systemNet{}
	}
	def(&c.KeepAlive, 15*time.Second)
	def(&c.IdleTimeout, 45*time.Second)
	c.IdleTimeout = max(c.IdleTimeout, 2*c.KeepAlive)
	def(&c.HandshakeTimeout, 20*time.Second)
	def(&c.Linger, 5*time.Second)
	l := &c.Limits
	def(&l.Handshakes, 1024)
	def(&l.Sessions, 16384)
	def(&l.Streams, 4096)
	def(&l.Backlog, 4096)
	def(&l.StreamWindow, 16<<20)
	def(&l.SessionWindow, 64<<20)
	def(&l.Memory, 1<<30)
	def(&l.SendBuffer, 16<<20)
	def(&l.Paths, 8)
	l.StreamWindow = max(l.StreamWindow, minStreamWindow)
	l.SessionWindow = max(l.SessionWindow, minStreamWindow)
	return c, nil
}
