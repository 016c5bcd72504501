package writers

// Stats counts what a tracker does, for ctl/status.
type Stats struct {
	Abilities
	Held      int `json:"held"`      // files with handles
	Settling  int `json:"settling"`  // files that were released less than Settle ago, or of which an event is being told
	Lingering int `json:"lingering"` // files that are held by somebody without a handle
	Watches   int `json:"watches"`

	Probes         uint64 `json:"probes"`
	Blind          uint64 `json:"blind"` // probes that no lease could answer
	Errors         uint64 `json:"errors"`
	Hints          uint64 `json:"hints"`
	Overflows      uint64 `json:"overflows"` // of the inotify queue, or max_queued_events reached: everything lingering was probed
	WatchErrors    uint64 `json:"watch_errors"`
	LastWatchError string `json:"last_watch_error,omitempty"`

	Quiet     uint64 `json:"quiet"` // events told, by kind
	StillHeld uint64 `json:"still_held"`
	Changed   uint64 `json:"changed"`
	Gone      uint64 `json:"gone"`
}

type counters struct {
	probes, blind, errors, hints, overflows, watchErrors uint64
	lastWatchError                                       string
	watches, telling                                     int
	told                                                 [Gone + 1]uint64
}

// Stats returns the counts as they stand.
func (t *Tracker) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.counts
	s := Stats{
		Abilities: t.can, Watches: c.watches, Settling: c.telling,
		Probes: c.probes, Blind: c.blind, Errors: c.errors, Hints: c.hints, Overflows: c.overflows,
		WatchErrors: c.watchErrors, LastWatchError: c.lastWatchError,
		Quiet: c.told[Quiet], StillHeld: c.told[StillHeld], Changed: c.told[Changed], Gone: c.told[Gone],
	}
	for _, f := range t.files {
		switch {
		case f.holds > 0:
			s.Held++
		case f.lingering:
			s.Lingering++
		default:
			s.Settling++
		}
	}
	return s
}
