package recovery

import "time"

const (
	granularity     = time.Millisecond       // of timers (RFC 9002, section 6.1.2)
	defaultRTT      = 333 * time.Millisecond // section 6.2.2
	defaultAckDelay = 5 * time.Millisecond
	defaultMaxPTO   = 10 * time.Second
)

// RTT is what is known of the round-trip time of a path; all fields are 0 before the first sample.
type RTT struct {
	Latest   time.Duration
	Smoothed time.Duration
	Var      time.Duration // mean deviation
	Min      time.Duration // since the beginning
}

// add takes a sample (RFC 9002, section 5.3). delay is what the peer says it waited before it acknowledged.
func (r *RTT) add(sample, delay time.Duration) {
	sample = max(sample, time.Microsecond) // clocks may stand still
	r.Latest = sample
	if r.Smoothed == 0 {
		r.Min, r.Smoothed, r.Var = sample, sample, sample/2
		return
	}
	r.Min = min(r.Min, sample)
	if sample-delay >= r.Min { // a peer cannot talk the time below the lowest that was seen
		sample -= delay
	}
	dev := r.Smoothed - sample
	if dev < 0 {
		dev = -dev
	}
	r.Var += (dev - r.Var) / 4
	r.Smoothed += (sample - r.Smoothed) / 8
}

// pto is the probe timeout before any back-off (section 6.2.1).
func (r *RTT) pto(initial, maxAckDelay time.Duration) time.Duration {
	if r.Smoothed == 0 {
		return 3 * initial // as if the deviation were half of it
	}
	return r.Smoothed + max(4*r.Var, granularity) + maxAckDelay
}
