package cc

import "time"

// The cycle of probing for bandwidth, and what loss does to it (draft-ietf-ccwg-bbr-04, sections 5.3.3 and 5.5.10).

func (b *BBR) startDown(now time.Duration, delivered int64) {
	b.resetSignals()
	b.upCount = unbounded
	// The times are spread, so that flows that share a link do not probe together.
	b.roundsSince = b.rand.Int64N(2)
	b.probeWait = probeWaitBase + time.Duration(b.rand.Int64N(int64(probeWaitSpread)))
	b.cycleStart = now
	b.phase = acksProbeStopping
	b.startRound(delivered)
	b.state = bbrDown
}

func (b *BBR) startRefill(delivered int64) {
	b.resetLowerBounds()
	b.upRounds, b.upAcks = 0, 0
	b.phase = acksRefilling
	b.startRound(delivered)
	b.state = bbrRefill
}

func (b *BBR) startUp(a *Ack) {
	b.phase = acksProbeStarting
	b.startRound(a.Delivered)
	b.resetFullBw(a.Rate)
	b.cycleStart = a.Now
	b.state = bbrUp
	b.raiseSlope()
}

// updateCycle moves through DOWN, CRUISE, REFILL and UP.
func (b *BBR) updateCycle(a *Ack) {
	if !b.fullBwOnce {
		return
	}
	b.adaptUpperBounds(a)
	switch b.state {
	case bbrDown:
		if b.timeToProbe(a) {
			b.startRefill(a.Delivered)
		} else if a.Inflight <= b.inflightWithHeadroom() && a.Inflight <= b.inflightFor(1) {
			b.state = bbrCruise
		}
	case bbrCruise:
		if b.timeToProbe(a) {
			b.startRefill(a.Delivered)
		}
	case bbrRefill:
		if b.roundStart { // one round at the full rate has gone by
			b.probingSamples = true
			b.startUp(a)
		}
	case bbrUp:
		if b.timeToGoDown(a) {
			b.prevTooHigh = false
			b.startDown(a.Now, a.Delivered)
		}
	}
}

// timeToProbe comes after two to three seconds, or after as many rounds as a Reno flow would take to regain half of such
// a window, so that it may have its share. After a probe that lost too much it takes half as long again.
func (b *BBR) timeToProbe(a *Ack) bool {
	wait, rounds := b.probeWait, min(b.targetInflight()/b.mtu, maxRenoRounds)
	if b.prevTooHigh {
		wait, rounds = wait*3/2, rounds*3/2
	}
	return a.Now > b.cycleStart+wait || b.roundsSince >= rounds
}

// timeToGoDown comes when more brings no more. After a probe that lost too much, the next one stops before it can do so
// again, as Linux's BBRv3 has it: every probe that overflows a queue costs the other flows too.
func (b *BBR) timeToGoDown(a *Ack) bool {
	if b.prevTooHigh && a.Inflight >= b.inflightHi {
		return true
	}
	if a.CwndLimited && b.cwnd >= b.inflightHi {
		b.resetFullBw(a.Rate) // the bound held it back, not the link
		return false
	}
	return b.fullBwNow
}

func (b *BBR) targetInflight() int64 { return min(b.bdp(b.bw, 1), b.cwnd) }

// inflightWithHeadroom leaves some of the bound to other flows.
func (b *BBR) inflightWithHeadroom() int64 {
	if b.inflightHi == unbounded {
		return unbounded
	}
	room := max(b.mtu, int64(headroom*float64(b.inflightHi)))
	return max(b.inflightHi-room, b.minPipe())
}

// adaptUpperBounds raises the bound on bytes in flight while probing finds that more goes through.
func (b *BBR) adaptUpperBounds(a *Ack) {
	if b.roundStart {
		switch b.phase {
		case acksProbeStarting:
			b.phase = acksProbeFeedback
		case acksProbeStopping:
			b.probingSamples = false
			b.phase = acksInit
			if b.state.probeBW() && !a.Packet.AppLimited {
				b.advanceMaxBw() // the samples of the last probe are complete
			}
		}
	}
	if b.probingSamples && b.tooMuchLost(a.Packet.Inflight, a.TotalLost-a.Packet.Lost) {
		b.onTooMuchInflight(a.Now, a.Delivered, a.Packet.Inflight, a.Packet.AppLimited)
		return
	}
	if b.inflightHi == unbounded {
		return
	}
	b.inflightHi = max(b.inflightHi, a.Packet.Inflight)
	if b.state == bbrUp {
		b.raiseInflightHi(a)
	}
}

// raiseInflightHi lets the bound grow by one packet, two, four … in each round, as slow start does.
func (b *BBR) raiseInflightHi(a *Ack) {
	if !a.CwndLimited || b.cwnd < b.inflightHi {
		return
	}
	b.upAcks += a.Acked
	if b.upAcks >= b.upCount {
		n := b.upAcks / b.upCount
		b.upAcks -= n * b.upCount
		b.inflightHi += n * b.mtu
	}
	if b.roundStart {
		b.raiseSlope()
	}
}

func (b *BBR) raiseSlope() {
	b.upCount = max(b.cwnd>>b.upRounds, 1)
	b.upRounds = min(b.upRounds+1, maxUpRounds)
}

// OnLost notes a loss, and sets the bound where it shows that probing went too far.
func (b *BBR) OnLost(l *Loss) {
	if !b.lossInRound {
		b.lossRoundEnd = l.Delivered // the bounds adapt when a round has gone by after it
		b.lossInRound = true
		b.undo = bbrUndo{bwLo: b.bwLo, inflightLo: b.inflightLo, inflightHi: b.inflightHi}
	}
	if !b.probingSamples {
		return
	}
	lost := l.TotalLost - l.Packet.Lost
	if !b.tooMuchLost(l.Packet.Inflight, lost) {
		return
	}
	// How much was in flight when loss began to pass the threshold: this packet stands for a run of lost bytes, of
	// which the first ones were still below it.
	inflight, before := l.Packet.Inflight-l.Packet.Size, lost-l.Packet.Size
	prefix := int64((lossThresh*float64(inflight) - float64(before)) / (1 - lossThresh))
	b.onTooMuchInflight(l.Now, l.Delivered, inflight+max(prefix, 0), l.Packet.AppLimited)
}

func (b *BBR) onTooMuchInflight(now time.Duration, delivered, inflight int64, appLimited bool) {
	b.probingSamples, b.prevTooHigh = false, true
	if !appLimited {
		b.inflightHi = max(inflight, int64(beta*float64(b.targetInflight())))
	}
	if b.state == bbrUp {
		b.startDown(now, delivered)
	}
}

// OnSpurious restores what the last round of losses took.
func (b *BBR) OnSpurious(time.Duration) {
	b.lossInRound, b.lossEvents = false, 0
	b.resetFullBw(0)
	b.bwLo = max(b.bwLo, b.undo.bwLo)
	b.inflightLo = max(b.inflightLo, b.undo.inflightLo)
	b.inflightHi = max(b.inflightHi, b.undo.inflightHi)
	if b.undo.startup {
		b.undo.startup = false
		b.fullBwOnce, b.state = false, bbrStartup
	}
}
