package versions

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"sharefs/versions/pack"
)

// Packs are read back in the background, one after the other in the order of their ids, so that all are in Config.Scrub: what a disk has lost is to be
// found while there is still another copy. Nothing is repaired; the log and the status tell.
//
// On disk (space global, row "scrub"): the pack that was read last (16 bytes), when the next one is due and when the pass began, both in nanoseconds
// since 1970 (8 bytes each, big endian). It is written once an hour at most: a start after a crash reads some packs again.
var globalScrub = []byte("scrub")

const (
	scrubStart = 5 * time.Minute // after an opening, before anything is read
	scrubNote  = time.Hour       // between writes of the row
	scrubRate  = 32 << 20        // bytes read in a second, at most
	scrubLeast = time.Second     // between two packs
)

// ScrubStats tell of the reading back of packs in the background.
type ScrubStats struct {
	Every   string    `json:"every,omitempty"`    // in which time all packs are read; empty: never
	Bytes   uint64    `json:"bytes"`              // read since the start
	Packs   uint64    `json:"packs"`              // since the start
	Far     uint64    `json:"bucket_packs"`       // of those, that the bucket alone has, and that were not read
	Bad     uint64    `json:"bad"`                // records that versions may need and that did not read, since the start
	LastBad string    `json:"last_bad,omitempty"` // the pack that had some last
	Pass    time.Time `json:"pass,omitzero"`      // when the present pass began
	Next    time.Time `json:"next,omitzero"`      // when the next pack is due
}

// scrubber is the state of it.
type scrubber struct {
	mu    sync.Mutex // guards all below
	last  pack.ID
	next  time.Time
	pass  time.Time
	noted time.Time
	stats ScrubStats
}

// load reads the row.
func (s *scrubber) load(t *Tree) error {
	row, ok, err := t.db.Get(spaceGlobal, globalScrub)
	if err != nil || !ok || len(row) != 32 {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	copy(s.last[:], row)
	s.next = time.Unix(0, int64(binary.BigEndian.Uint64(row[16:])))
	s.pass = time.Unix(0, int64(binary.BigEndian.Uint64(row[24:])))
	return nil
}

// note writes the row, unless it did so not long ago.
func (s *scrubber) note(t *Tree, now time.Time, force bool) error {
	s.mu.Lock()
	if !force && now.Sub(s.noted) < scrubNote {
		s.mu.Unlock()
		return nil
	}
	s.noted = now
	row := append([]byte(nil), s.last[:]...)
	row = binary.BigEndian.AppendUint64(row, uint64(s.next.UnixNano()))
	row = binary.BigEndian.AppendUint64(row, uint64(s.pass.UnixNano()))
	s.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.aside = true
	x.b.Put(spaceGlobal, globalScrub, row)
	return x.commit()
}

// scrub reads packs back until the tree is closed.
func (t *Tree) scrub() {
	s := &t.past.scrubber
	if err := s.load(t); err != nil {
		t.log.Warn("where the reading back of packs had come to cannot be read", "err", err)
	}
	if !t.sleep(scrubStart) {
		return
	}
	for {
		s.mu.Lock()
		wait := time.Until(s.next)
		s.mu.Unlock()
		// The clock of the host may be set while this waits.
		if wait > 0 {
			if !t.sleep(min(wait, time.Minute)) {
				return
			}
			continue
		}
		err := t.scrubNext(time.Now())
		if errors.Is(err, errStopped) {
			return
		}
		if err != nil {
			t.log.Warn("packs wait to be read back", "err", err)
			if !t.sleep(time.Minute) {
				return
			}
		}
	}
}

// scrubNext reads the next pack, and says when the one after it is due.
func (t *Tree) scrubNext(now time.Time) error {
	h, s := &t.past, &t.past.scrubber
	ids, err := h.packs.Packs()
	if err != nil {
		return err
	}
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	at, found := slices.BinarySearchFunc(ids, last, func(a, b pack.ID) int { return bytes.Compare(a[:], b[:]) })
	if found {
		at++
	}
	begins := at == 0 || at >= len(ids) || last == pack.ID{}
	if at >= len(ids) {
		at = 0
	}
	var sum pack.Examined
	if len(ids) > 0 {
		if sum, err = h.scrubPack(ids[at], t.scrubRest); err != nil && !damage(err) {
			return err
		}
	}
	s.mu.Lock()
	if begins {
		s.pass = now
	}
	if len(ids) > 0 {
		s.last = ids[at]
	}
	// Packs have about the same length.
	s.next = now.Add(max(scrubLeast, t.cfg.Scrub/time.Duration(max(1, len(ids)))))
	s.stats.Packs += uint64(min(1, len(ids)))
	s.stats.Bytes += uint64(sum.Bytes)
	s.mu.Unlock()
	return s.note(t, now, begins)
}

// scrubRest makes way for whoever uses the disk, and reports false if the tree is being closed.
func (t *Tree) scrubRest(read int64) bool {
	return t.sleep(time.Duration(float64(read) / scrubRate * float64(time.Second)))
}

// scrubPack reads one pack back, with a rest after each MiB, and tells of what does not read and is needed.
func (h *history) scrubPack(id pack.ID, rest func(read int64) bool) (pack.Examined, error) {
	if h.packs.IsRemote(id) {
		s := &h.scrubber
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stats.Far++
		return pack.Examined{ID: id}, nil // the bucket vouches for it
	}
	namers := h.t.keys.namers()
	var bad []pack.BadRecord
	var read int64
	stopped := false
	sum, err := h.packs.Examine(id, func(e pack.Epoch, r pack.Record, plain []byte) error {
		if read += r.Loc.Len(); read >= 1<<20 && !stopped {
			stopped = !rest(read)
			read = 0
		}
		if !namers.fits(e, r.ID, plain) {
			return errName
		}
		return nil
	}, func(b pack.BadRecord) {
		if !b.Empty && len(bad) < maxBadNamed {
			bad = append(bad, b)
		}
	})
	if stopped {
		return sum, errStopped
	}
	if _, gone := h.packs.Length(id); gone != nil {
		return sum, nil // collected meanwhile
	}
	needed := 0
	for _, b := range bad {
		row, ok, err := h.t.db.Get(spaceChunk, b.ID[:])
		if err != nil {
			return sum, err
		}
		if loc, err := pack.ParseLoc(row); !ok || err != nil || loc != b.Loc {
			continue // nobody needs it, or it is elsewhere by now
		}
		if _, err := h.readChunk(b.ID, nil); err != nil {
			needed++
			h.spoilt.add(&b.ID)
		}
	}
	if needed == 0 && err == nil && sum.Header == nil && sum.Index == nil {
		return sum, nil
	}
	s := &h.scrubber
	s.mu.Lock()
	s.stats.Bad += uint64(needed)
	s.stats.LastBad = id.String()
	s.mu.Unlock()
	h.t.log.Error("a pack does not read back: sharefs fsck tells what is concerned, sharefs fsck --repair heals what has another copy",
		"pack", id.String(), "records", needed, "err", cmp.Or(err, sum.Header, sum.Index))
	return sum, err
}

// scrubStats returns the present figures.
func (h *history) scrubStats() ScrubStats {
	s := &h.scrubber
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	if h.t.cfg.Scrub > 0 {
		out.Every, out.Pass, out.Next = h.t.cfg.Scrub.String(), s.pass, s.next
	}
	return out
}
