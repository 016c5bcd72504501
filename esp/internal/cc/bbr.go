package cc

import (
	"math"
	"math/rand/v2"
	"time"
)

// The constants of draft-ietf-ccwg-bbr-04, section 2, under the names used there.
const (
	startupPacingGain = 2.773 // 4·ln 2: doubles the rate of delivery in each round
	startupCwndGain   = 2
	drainPacingGain   = 0.5
	probeRTTCwndGain  = 0.5
	pacingMargin      = 0.01 // paced a little below the estimate, so that queues drain

	lossThresh = 0.02 // loss in a round that is held to be too much
	beta       = 0.7  // what is kept of a bound in a round with loss
	headroom   = 0.15 // of the bound on bytes in flight, left to other flows

	startupFullBwGain  = 1.25 // growth in a round that counts as growth
	startupFullBwCount = 3    // rounds without growth until the pipe is held to be full
	startupLossCount   = 6    // losses in a round of startup that may end it
	startupBareLoss    = 4    // times the threshold has to be lost where no queue stood

	minRTTWindow     = 10 * time.Second
	probeRTTInterval = 5 * time.Second
	probeRTTDuration = 200 * time.Millisecond
	extraAckedWindow = 10 // rounds
	minPipePackets   = 4
	probeWaitBase    = 2 * time.Second
	probeWaitSpread  = time.Second
	maxRenoRounds    = 63 // between two probes, for the sake of Reno flows at a small share
	quantaInFlight   = 3  // send quanta that cwnd allows for, so that batches on both sides fit
	maxUpRounds      = 30

	// What may be in flight at first, in packets, and the round-trip time by which these are paced before the first sample: ten leave at once, as many as others
	// begin with (RFC 9002, section 7.2), and the rest within some milliseconds.
	bbrFirst   = 32
	guessedRTT = 9 * time.Millisecond
)

type bbrState uint8

const (
	bbrStartup bbrState = iota
	bbrDrain
	bbrDown   // sends less than is delivered until the queue is gone
	bbrCruise // at the estimated rate
	bbrRefill // fills the pipe before probing up, without a queue
	bbrUp     // more than the estimate, to find bandwidth
	bbrProbeRTT
)

func (s bbrState) probeBW() bool { return s >= bbrDown && s <= bbrUp }

var bbrNames = [...]string{"startup", "drain", "down", "cruise", "refill", "up", "probe-rtt"}

var (
	bbrPacingGain = [...]float64{startupPacingGain, drainPacingGain, 0.9, 1, 1, 1.25, 1}
	bbrCwndGain   = [...]float64{startupCwndGain, startupCwndGain, 2, 2, 2, 2.25, probeRTTCwndGain}
)

// ackPhase says to which phase of probing the packets belong that are being acknowledged now.
type ackPhase uint8

const (
	acksInit ackPhase = iota
	acksRefilling
	acksProbeStarting
	acksProbeFeedback
	acksProbeStopping
)

// unbounded is a bound that does not hold anything back.
const unbounded = math.MaxInt64

// BBR estimates the bandwidth of the path as the highest rate of delivery over the last two probing cycles, and its
// round-trip time as the lowest of ten seconds; it paces at their model, and probes for more every two to three seconds.
// Other than BBRv1 it takes loss above 2 % in a round for a full queue.
//
// It differs from the draft in that cwnd is not cut to what was delivered in the first round of a recovery (packet
// conservation): packets are paced anyway, and at 1 % random loss every round is one with loss; in what a round says
// in which the program sent little (updateLoss); and in that aggregation counts once Startup is over, as in Linux.
type BBR struct {
	rand *rand.Rand
	mtu  int64

	state      bbrState
	cwnd       int64
	priorCwnd  int64
	pacingRate float64
	initial    int64

	// Rounds: one ends when a packet is acknowledged that was sent after it began.
	roundEnd   int64 // delivered bytes at which it ends
	roundCount int64
	roundStart bool
	idle       bool // restarting from idle

	// Bandwidth.
	maxBw      [2]float64 // bytes/s: highest of the last probing cycle and of this one
	bw         float64    // the model's: maxBw within bwLo
	bwLo       float64
	bwLatest   float64
	fullBw     float64
	fullBwRuns int
	fullBwNow  bool
	fullBwOnce bool // the pipe was full once: startup is over

	// Bytes in flight.
	inflightHi     int64 // found to be too much when probing
	inflightLo     int64 // of this round's losses
	inflightLatest int64
	extraAcked     maxFilter // bytes acknowledged beyond what bw explains: aggregation
	extraStart     time.Duration
	extraBytes     int64

	// Loss.
	lossInRound    bool
	lossEvents     int
	lossRoundEnd   int64
	lossRoundStart bool
	roundLost      int64
	roundAcked     int64
	roundMinRTT    time.Duration
	roundLimited   bool // a packet acknowledged in it was all that the program had to send
	wasQueued      bool // a queue stood in the last round
	undo           bbrUndo

	// Round-trip time.
	minRTT        time.Duration // 0 = unknown
	minRTTAt      time.Duration
	probeRTTMin   time.Duration
	probeRTTMinAt time.Duration
	probeRTTDone  time.Duration // 0 = inflight not yet low enough
	probeRTTRound bool
	rttExpired    bool
	limitedUntil  int64 // delivered bytes until which samples come from PROBE_RTT

	// Probing for bandwidth.
	phase          ackPhase
	cycleStart     time.Duration
	probeWait      time.Duration
	roundsSince    int64
	upRounds       int
	upAcks         int64
	upCount        int64 // bytes to be acknowledged for one more packet in flight
	prevTooHigh    bool  // the last probe lost too much
	probingSamples bool  // packets being acknowledged were sent while probing
}

// bbrUndo is what held before the last reduction, in case its losses were none.
type bbrUndo struct {
	bwLo       float64
	inflightLo int64
	inflightHi int64
	startup    bool // whether it was for loss that Startup ended
}

// NewBBR returns a controller in Startup.
func NewBBR(cfg Config) *BBR {
	b := &BBR{
		rand: cfg.Rand, mtu: cfg.mtu(), initial: cfg.initialWindow(bbrFirst), cwnd: cfg.initialWindow(bbrFirst),
		bwLo: math.Inf(1), inflightLo: unbounded, inflightHi: unbounded, upCount: unbounded,
	}
	b.undo = bbrUndo{bwLo: b.bwLo, inflightLo: unbounded, inflightHi: unbounded}
	b.pacingRate = startupPacingGain * float64(b.cwnd) / guessedRTT.Seconds()
	return b
}

// Name returns "bbr".
func (b *BBR) Name() string { return "bbr" }

// Window returns cwnd in bytes.
func (b *BBR) Window() int64 { return b.cwnd }

// PacingRate returns bytes/s.
func (b *BBR) PacingRate() float64 { return b.pacingRate }

// Quantum returns how many bytes may leave at once.
func (b *BBR) Quantum() int { return int(quantum(b.pacingRate, b.mtu)) }

// Bandwidth returns the highest recent rate of delivery in bytes/s.
func (b *BBR) Bandwidth() float64 { return b.highestBw() }

func (b *BBR) highestBw() float64 { return max(b.maxBw[0], b.maxBw[1]) }

// State returns the name of the state.
func (b *BBR) State() string { return bbrNames[b.state] }

// SetMTU tells the size of a full packet.
func (b *BBR) SetMTU(mtu int) {
	b.mtu = int64(mtu)
	b.cwnd = max(b.cwnd, b.minPipe())
	if !b.fullBwOnce { // before anything is known, the initial window is meant in packets
		b.cwnd = max(b.cwnd, firstWindow(bbrFirst, b.mtu))
	}
}

// OnSent notes that a silence ends: what was not sent meanwhile must not count against the model.
func (b *BBR) OnSent(now time.Duration, size, inflight int64, appLimited bool) {
	if inflight > 0 || !appLimited {
		return
	}
	b.idle = true
	b.extraStart, b.extraBytes = now, 0
	switch {
	case b.state.probeBW():
		b.setPacingRate(1)
	case b.state == bbrProbeRTT:
		b.checkProbeRTTDone(now)
	}
}

// OnAck is the draft's BBRUpdateOnACK.
func (b *BBR) OnAck(a *Ack) {
	if a.Packet.Delivered < b.limitedUntil {
		a.Packet.AppLimited = true // sent in PROBE_RTT
	}
	b.updateLatest(a)
	b.updateRound(a)
	b.updateMaxBw(a)
	b.updateLoss(a)
	b.updateExtraAcked(a)
	b.checkFullBw(a)
	b.checkStartupDone(a)
	if b.state == bbrDrain && a.Inflight <= b.inflightFor(1) {
		b.startDown(a.Now, a.Delivered)
	}
	b.updateCycle(a)
	b.updateMinRTT(a)
	b.checkProbeRTT(a)
	b.advanceLatest(a)
	b.bw = min(b.highestBw(), b.bwLo)

	b.setPacingRate(bbrPacingGain[b.state])
	b.setCwnd(a)
}

// OnPersistentCongestion falls back to the smallest window; the model stays, and the window grows again as packets are
// delivered.
func (b *BBR) OnPersistentCongestion(time.Duration) {
	b.cwnd = b.minPipe()
}

func (b *BBR) minPipe() int64 { return minPipePackets * b.mtu }

// bdp returns gain times the bandwidth–delay product, and the initial window while that is unknown.
func (b *BBR) bdp(bw, gain float64) int64 {
	if b.minRTT == 0 || bw == 0 {
		return b.initial
	}
	return int64(gain * bw * b.minRTT.Seconds())
}

// inflightFor returns what is to be in flight at the estimated bandwidth with the given gain.
func (b *BBR) inflightFor(gain float64) int64 { return b.quantize(b.bdp(b.highestBw(), gain)) }

// quantize allows for the batches in which packets leave and acknowledgements come.
func (b *BBR) quantize(inflight int64) int64 {
	inflight = max(inflight, quantaInFlight*quantum(b.pacingRate, b.mtu), b.minPipe())
	if b.state == bbrUp {
		inflight += 2 * b.mtu
	}
	return inflight
}

// setPacingRate follows the model; in Startup the rate only grows, since samples of a pipe that is not full say nothing
// against it.
func (b *BBR) setPacingRate(gain float64) {
	bw := min(b.highestBw(), b.bwLo)
	if rate := gain * bw * (1 - pacingMargin); bw > 0 && (b.fullBwOnce || rate > b.pacingRate) {
		b.pacingRate = rate
	}
}

func (b *BBR) setCwnd(a *Ack) {
	limit := b.bdp(b.bw, bbrCwndGain[b.state])
	if b.fullBwOnce { // until then acknowledgements run ahead because the estimate lags behind, and what is allowed for them is lost in a queue that twice the pipe fills
		limit += int64(b.extraAcked.get())
	}
	limit = b.quantize(limit)
	if b.fullBwOnce {
		b.cwnd = min(b.cwnd+a.Acked, limit)
	} else if b.cwnd < limit || a.Delivered < b.initial {
		b.cwnd += a.Acked
	}
	b.cwnd = max(b.cwnd, b.minPipe())
	if b.state == bbrProbeRTT {
		b.cwnd = min(b.cwnd, b.probeRTTCwnd())
	}
	// The bounds that loss has set.
	bound := int64(unbounded)
	switch {
	case b.state.probeBW() && b.state != bbrCruise:
		bound = b.inflightHi
	case b.state == bbrProbeRTT || b.state == bbrCruise:
		bound = b.inflightWithHeadroom()
	}
	b.cwnd = min(b.cwnd, max(min(bound, b.inflightLo), b.minPipe()))
}

func (b *BBR) saveCwnd() {
	if b.state == bbrProbeRTT {
		b.priorCwnd = max(b.priorCwnd, b.cwnd)
	} else {
		b.priorCwnd = b.cwnd
	}
}

func (b *BBR) restoreCwnd() { b.cwnd = max(b.cwnd, b.priorCwnd) }
