package cc

import (
	"math"
	"time"
)

// The model: rates of delivery, rounds, losses, aggregation and the round-trip time (draft-ietf-ccwg-bbr-04, sections
// 5.3.1, 5.5.8 to 5.5.10 and 5.3.4).

func (b *BBR) updateLatest(a *Ack) {
	b.lossRoundStart = false
	b.bwLatest = max(b.bwLatest, a.Rate)
	b.inflightLatest = max(b.inflightLatest, a.RateBytes)
	if a.Packet.Delivered >= b.lossRoundEnd {
		b.lossRoundEnd = a.Delivered
		b.lossRoundStart = true
	}
}

func (b *BBR) advanceLatest(a *Ack) {
	if b.lossRoundStart {
		b.bwLatest = a.Rate
		b.inflightLatest = a.RateBytes
	}
}

func (b *BBR) updateRound(a *Ack) {
	b.roundStart = false
	if a.Packet.Delivered >= b.roundEnd && a.Acked > 0 {
		b.startRound(a.Delivered)
		b.roundCount++
		b.roundsSince++
		b.roundStart = true
	}
}

func (b *BBR) startRound(delivered int64) { b.roundEnd = delivered }

// advanceMaxBw ends a probing cycle; its highest rate counts for one cycle more.
func (b *BBR) advanceMaxBw() {
	if b.maxBw[1] > 0 {
		b.maxBw[0], b.maxBw[1] = b.maxBw[1], 0
	}
}

func (b *BBR) updateMaxBw(a *Ack) {
	if a.Rate >= b.highestBw() || !a.Packet.AppLimited {
		b.maxBw[1] = max(b.maxBw[1], a.Rate)
	}
}

// updateLoss lowers the short-term bounds at the end of a round with loss: to what was delivered in it if it lost too
// much, else to what was sent, so that a path which always loses a little is not given less and less. Other than in the
// draft, a round in which the program had little to send says nothing of what the path carries, unless a queue stood in
// it or it lost too much in too many places: or the few packets of a dialogue, of which one is lost now and then, would
// leave a tenth of the rate to what is sent after them.
func (b *BBR) updateLoss(a *Ack) {
	if a.RTT > 0 && (b.roundMinRTT == 0 || a.RTT < b.roundMinRTT) {
		b.roundMinRTT = a.RTT
	}
	b.roundLost += a.Lost
	b.roundAcked += a.Acked
	b.roundLimited = b.roundLimited || a.Packet.AppLimited
	if a.Lost > 0 {
		b.lossInRound = true
		b.lossEvents++
	}
	if !b.lossRoundStart {
		return
	}
	lost := float64(b.roundLost) / float64(max(b.roundLost+b.roundAcked, 1))
	says := !b.roundLimited || b.queued() || lost > lossThresh && b.lossEvents >= startupLossCount
	if b.lossInRound && says && b.state != bbrRefill && b.state != bbrUp && b.state != bbrStartup {
		if math.IsInf(b.bwLo, 1) {
			b.bwLo = b.highestBw()
		}
		if b.inflightLo == unbounded {
			b.inflightLo = b.cwnd
		}
		sent := 1.0 // over delivered
		if lost <= lossThresh && !b.queued() {
			sent = 1 / ((1 - lost) * (1 - pacingMargin))
		}
		b.bwLo = max(b.bwLatest*sent, beta*b.bwLo)
		b.inflightLo = max(int64(float64(b.inflightLatest)*sent), int64(beta*float64(b.inflightLo)))
	}
	b.wasQueued = b.queued()
	b.roundLost, b.roundAcked, b.roundMinRTT, b.roundLimited = 0, 0, 0, false
	if b.state != bbrStartup { // there the losses of a round are counted until checkStartupDone has seen them
		b.lossInRound, b.lossEvents = false, 0
	}
}

// queued reports whether a queue stood at the bottleneck for all of the round.
func (b *BBR) queued() bool { return b.roundMinRTT > b.minRTT+b.minRTT/8 }

func (b *BBR) resetLowerBounds() {
	b.bwLo = math.Inf(1)
	b.inflightLo = unbounded
}

func (b *BBR) resetSignals() {
	b.lossInRound, b.lossEvents = false, 0
	b.bwLatest, b.inflightLatest = 0, 0
}

// updateExtraAcked measures by how much acknowledgements run ahead of the bandwidth, because receivers and links send
// them in bunches: cwnd must allow for it, or sending stalls between two bunches.
func (b *BBR) updateExtraAcked(a *Ack) {
	expected := int64(b.bw * (a.Now - b.extraStart).Seconds())
	if b.extraBytes <= expected {
		b.extraBytes, b.extraStart, expected = 0, a.Now, 0
	}
	b.extraBytes += a.Acked
	extra := min(b.extraBytes-expected, b.cwnd)
	length := int64(1)
	if b.fullBwOnce {
		length = extraAckedWindow
	}
	b.extraAcked.update(float64(extra), b.roundCount, length)
}

func (b *BBR) checkFullBw(a *Ack) {
	if b.fullBwNow || a.Packet.AppLimited || a.Rate == 0 {
		return
	}
	if a.Rate >= b.fullBw*startupFullBwGain {
		b.resetFullBw(a.Rate)
		return
	}
	if !b.roundStart {
		return
	}
	b.fullBwRuns++
	if b.fullBwRuns >= startupFullBwCount {
		b.fullBwNow, b.fullBwOnce = true, true
	}
}

func (b *BBR) resetFullBw(bw float64) {
	b.fullBw, b.fullBwRuns, b.fullBwNow = bw, 0, false
}

// checkStartupDone ends Startup when the rate grows no more, or when a round lost too much in too many places. Other than in the draft, that has to be far too much where no queue stood in
// the round: of 300 packets at 1 % random loss six are lost once in twelve times, and to leave Startup then costs most of the rate until the next probe, seconds later. A path without a queue
// that is full loses a great part of what Startup sends.
func (b *BBR) checkStartupDone(a *Ack) {
	if b.state != bbrStartup {
		return
	}
	if b.lossRoundStart {
		lost := a.TotalLost - a.Packet.Lost
		if !b.wasQueued {
			lost /= startupBareLoss
		}
		if b.lossEvents >= startupLossCount && b.tooMuchLost(a.Packet.Inflight, lost) {
			b.fullBwOnce, b.undo.startup = true, true
			b.inflightHi = max(b.bdp(b.highestBw(), 1), b.inflightLatest)
		}
		b.lossInRound, b.lossEvents = false, 0
	}
	if b.fullBwOnce {
		b.state = bbrDrain
	}
}

// tooMuchLost reports whether lost bytes are more than the threshold of those that were in flight.
func (b *BBR) tooMuchLost(inflight, lost int64) bool {
	return float64(lost) > lossThresh*float64(inflight)
}

// updateMinRTT keeps the lowest round-trip time of ten seconds, and of five, after which it is time to measure again.
func (b *BBR) updateMinRTT(a *Ack) {
	b.rttExpired = b.probeRTTMin > 0 && a.Now > b.probeRTTMinAt+probeRTTInterval
	if a.RTT > 0 && (a.RTT < b.probeRTTMin || b.probeRTTMin == 0 || b.rttExpired) {
		b.probeRTTMin, b.probeRTTMinAt = a.RTT, a.Now
	}
	if b.probeRTTMin > 0 && (b.probeRTTMin < b.minRTT || b.minRTT == 0 || a.Now > b.minRTTAt+minRTTWindow) {
		if b.minRTT == 0 { // the first: what was guessed gives way
			b.pacingRate = startupPacingGain * float64(b.cwnd) / b.probeRTTMin.Seconds()
		}
		b.minRTT, b.minRTTAt = b.probeRTTMin, b.probeRTTMinAt
	}
}

// checkProbeRTT lets the queue run empty for 200 ms when no round-trip time as low as the lowest was seen for 5 s.
func (b *BBR) checkProbeRTT(a *Ack) {
	if b.state != bbrProbeRTT && b.rttExpired && !b.idle {
		b.saveCwnd()
		b.state = bbrProbeRTT
		b.probeRTTDone = 0
		b.phase = acksProbeStopping
		b.startRound(a.Delivered)
	}
	if b.state == bbrProbeRTT {
		b.limitedUntil = a.Delivered + a.Inflight
		if b.probeRTTDone == 0 {
			if a.Inflight <= b.probeRTTCwnd() {
				b.probeRTTDone = a.Now + probeRTTDuration
				b.probeRTTRound = false
				b.startRound(a.Delivered)
			}
		} else {
			b.probeRTTRound = b.probeRTTRound || b.roundStart
			if b.probeRTTRound {
				b.checkProbeRTTDone(a.Now)
			}
		}
	}
	if a.Acked > 0 {
		b.idle = false
	}
}

func (b *BBR) probeRTTCwnd() int64 {
	return max(b.bdp(b.highestBw(), probeRTTCwndGain), b.minPipe())
}

func (b *BBR) checkProbeRTTDone(now time.Duration) {
	if b.probeRTTDone == 0 || now <= b.probeRTTDone {
		return
	}
	b.probeRTTMinAt = now
	b.restoreCwnd()
	b.resetLowerBounds()
	if b.fullBwOnce {
		b.startDown(now, b.roundEnd)
		b.state = bbrCruise
	} else {
		b.state = bbrStartup
	}
}
