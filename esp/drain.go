package esp

import "time"

// drainMeter measures how fast encoded bytes of a stream leave, while a writer waits for the path. The congestion
// controller's estimate remembers the best of the last seconds; a path that became slow shows here within drainWindow
// bytes. The stream's wmu guards it.
type drainMeter struct {
	start  time.Duration // of the window; 0: none was begun
	waited time.Duration // in it, for the path
	bytes  int           // in it
	rate   float64       // of the last window, bytes/s; 0: the path was not what limited it
}

// drainWindow is short enough to notice, and long enough not to mistake the bursts in which a send buffer empties for
// the path's rate.
const drainWindow = 2 << 20

// add notes a record of n bytes that was queued. It looks at the clock once in a window.
func (m *drainMeter) add(n int, clock func() time.Duration) {
	if m.bytes += n; m.bytes < drainWindow && m.start != 0 {
		return
	}
	now := clock()
	m.rate = 0
	if took := now - m.start; m.start != 0 && took > 0 && m.waited >= took/4*3 {
		m.rate = float64(m.bytes) / took.Seconds()
	}
	m.start, m.waited, m.bytes = now, 0, 0
}

// limit returns the smaller of two rates in bytes/s, of which 0 means unknown.
func (m *drainMeter) limit(rate float64) float64 {
	if m.rate > 0 && (rate <= 0 || m.rate < rate) {
		return m.rate
	}
	return rate
}
