// Package sched chooses among the paths of a session: [Selector] says which one is active, [Spread] which ones carry
// bulk data beside it, [Copies] which ones carry a small packet more than once. It only computes: the caller measures,
// and moves the traffic.
package sched

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Mode says how paths are used together.
type Mode uint8

const (
	Single    Mode = iota // everything goes over the active path
	Aggregate             // bulk data goes over all paths that are not much slower
	Redundant             // what is small and urgent goes over two paths at once
)

var modeNames = []string{"single", "aggregate", "redundant"}

// String returns the name that [ParseMode] reads.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// ParseMode reads the name of a mode.
func ParseMode(s string) (Mode, error) {
	if i := slices.Index(modeNames, s); i >= 0 {
		return Mode(i), nil
	}
	return 0, fmt.Errorf("scheduler %q: it must be one of %s", s, strings.Join(modeNames, ", "))
}

// Path is what the caller has measured of a path.
type Path struct {
	ID        uint32
	SRTT      time.Duration // 0 = not known
	Bandwidth float64       // bytes/s, 0 = not known
	Loss      float64       // 0 to 1
	Alive     bool          // heard from lately, and not known to be broken
	Fallback  bool          // only where there is no other: TCP carriage
}

const (
	// scoreBytes is the size of the transfer whose time the score estimates: a batch of packets.
	scoreBytes = 64 << 10

	// A path must be better by both, in so many looks one after the other, to become the active one.
	betterShare = 0.10
	betterTime  = 5 * time.Millisecond
	betterLooks = 3

	// spreadRTT: a path is used beside another whose round-trip time is up to so many times lower; slower ones would
	// only make the receiver wait for what goes over them.
	spreadRTT = 4
)

// Never is the score of a path that cannot be used.
const Never = time.Duration(1<<63 - 1)

// Score estimates how long 64 KiB take over the path, round trip included: the smaller, the better. Where the bandwidth
// is not known, it is the round-trip time alone; see [Compare] for two paths.
func (p *Path) Score() time.Duration { return p.score(p.Bandwidth) }

func (p *Path) score(bandwidth float64) time.Duration {
	if !p.Alive || p.SRTT <= 0 {
		return Never
	}
	if bandwidth <= 0 {
		return p.SRTT
	}
	good := max(1-p.Loss, 0.01)
	s := p.SRTT.Seconds() + scoreBytes/(bandwidth*good)
	if s > time.Hour.Seconds() {
		return time.Hour
	}
	return time.Duration(s * float64(time.Second))
}

// Compare scores two paths so that the numbers can be compared: where the bandwidth of one is not known, because nothing
// was sent over it yet, it is given that of the other.
func Compare(a, b *Path) (sa, sb time.Duration) {
	ba, bb := a.Bandwidth, b.Bandwidth
	if ba <= 0 {
		ba = bb
	}
	if bb <= 0 {
		bb = ba
	}
	return a.score(ba), b.score(bb)
}

// Selector chooses the active path. The zero Selector has chosen none. It is not safe for concurrent use.
type Selector struct {
	active     uint32
	has        bool
	challenger uint32
	wins       int
}

// Active returns the chosen path.
func (s *Selector) Active() (id uint32, ok bool) { return s.active, s.has }

// Set makes a path the active one, whatever its score: the peer may have moved, or it is the only one.
func (s *Selector) Set(id uint32) {
	s.active, s.has, s.wins = id, true, 0
}

// Choice is the outcome of a look at the paths.
type Choice struct {
	ID      uint32
	OK      bool   // false where no path can be used
	Changed bool   // since the last look
	Why     string // for people; set where it changed
}

// Observe looks at the paths once, after each round of probes say. It moves at once when the active path is gone or is
// only a fallback, else when another one was better by more than 10 % and 5 ms in three looks.
func (s *Selector) Observe(paths []Path) Choice {
	best := s.best(paths)
	if best < 0 {
		s.wins = 0
		return Choice{ID: s.active}
	}
	b := &paths[best]
	i := slices.IndexFunc(paths, func(p Path) bool { return s.has && p.ID == s.active })
	switch {
	case i == best:
		s.wins = 0
		return Choice{ID: s.active, OK: true}
	case i < 0 || paths[i].Score() == Never:
		why := "the first path"
		if s.has {
			why = "the active path is gone"
		}
		return s.move(b, why)
	}
	a := &paths[i]
	if a.Fallback && !b.Fallback {
		return s.move(b, "a path other than a fallback can be used")
	}
	sa, sb := Compare(a, b)
	if sa-sb <= betterTime || float64(sa-sb) <= betterShare*float64(sa) {
		s.wins = 0
		return Choice{ID: s.active, OK: true}
	}
	if s.challenger != b.ID {
		s.challenger, s.wins = b.ID, 0
	}
	if s.wins++; s.wins < betterLooks {
		return Choice{ID: s.active, OK: true}
	}
	return s.move(b, fmt.Sprintf("score %v instead of %v, %d times", sb.Round(100*time.Microsecond), sa.Round(100*time.Microsecond), betterLooks))
}

func (s *Selector) move(to *Path, why string) Choice {
	s.Set(to.ID)
	return Choice{ID: to.ID, OK: true, Changed: true, Why: why}
}

// best returns the index of the best path, -1 where none can be used. Among equals it stays with the active one.
func (s *Selector) best(paths []Path) int {
	best := -1
	for i := range paths {
		p := &paths[i]
		if p.Score() == Never {
			continue
		}
		if best < 0 || s.less(p, &paths[best]) {
			best = i
		}
	}
	return best
}

func (s *Selector) less(p, q *Path) bool {
	if p.Fallback != q.Fallback {
		return q.Fallback
	}
	sp, sq := Compare(p, q)
	if sp != sq {
		return sp < sq
	}
	return s.has && p.ID == s.active
}

// Spread reports whether path i carries bulk data. The active one always does; in Aggregate mode, so do those whose
// round-trip time is within four times the lowest, and which are no fallback.
func Spread(mode Mode, active uint32, paths []Path, i int) bool {
	p := &paths[i]
	if p.ID == active {
		return true
	}
	if mode != Aggregate || p.Fallback || p.Score() == Never {
		return false
	}
	for j := range paths {
		if q := &paths[j]; !q.Fallback && q.Score() != Never && p.SRTT > spreadRTT*q.SRTT {
			return false
		}
	}
	return true
}

// Copies appends to out the indices of the paths that a small urgent packet goes over: the active one, and in Redundant
// mode the best other one beside it. It appends nothing where the active path cannot be used.
func Copies(mode Mode, active uint32, paths []Path, out []int) []int {
	i := slices.IndexFunc(paths, func(p Path) bool { return p.ID == active })
	if i < 0 || !paths[i].Alive {
		return out
	}
	out = append(out, i)
	if mode != Redundant {
		return out
	}
	best := -1
	for j := range paths {
		if j == i || paths[j].Score() == Never {
			continue
		}
		if best < 0 || (&Selector{}).less(&paths[j], &paths[best]) {
			best = j
		}
	}
	if best >= 0 {
		out = append(out, best)
	}
	return out
}
