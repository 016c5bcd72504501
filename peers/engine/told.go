package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/record"
)

// Status tells how far it is.
type Status struct {
	Fetching int      // contents
	Missing  int      // contents that are needed and elsewhere, as far as was looked
	Bytes    uint64   // their size
	Names    int      // that are not yet as peers say
	Troubles []string // what does not come off, and why: something that a person may have to see to
	Waits    []string // why contents are not here, each reason once
}

// Status tells how far it is.
func (e *Engine) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{Fetching: len(e.running), Missing: e.missing.contents, Bytes: e.missing.bytes, Names: e.names, Troubles: []string{}}
	var full []string // what a full disk keeps from coming off, which is told once
	for _, what := range slices.Sorted(maps.Keys(e.troubles)) {
		if err := e.troubles[what]; errors.Is(err, sharefs.KindNoSpace) {
			full = append(full, what)
		} else {
			s.Troubles = append(s.Troubles, what+": "+err.Error())
		}
	}
	if len(full) > 0 {
		s.Troubles = append(s.Troubles, strings.Join(full, ", ")+": "+fullDisk+e.missing.text())
	}
	reasons := map[string]int{}
	for _, f := range e.failed {
		if len(full) > 0 && errors.Is(f.err, sharefs.KindNoSpace) {
			continue
		}
		reasons[reason(f.err)]++
	}
	s.Waits = append([]string{}, slices.Sorted(maps.Keys(reasons))...)
	return s
}

// Reached returns up to which byte all of a content is here that is being fetched for the tree; ok is false for any other.
func (e *Engine) Reached(id record.ID) (upTo uint64, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reached[id], e.running[id]
}

const fullDisk = "the disk below the store is full; it goes on when there is room"

// text says how much it is.
func (m *missing) text() string {
	switch m.contents {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf(" (1 file of %d bytes waits)", m.bytes)
	}
	return fmt.Sprintf(" (%d files with %d bytes wait)", m.contents, m.bytes)
}

// reason says why contents are not here, without which of them it is.
func reason(err error) string {
	switch {
	case errors.Is(err, sharefs.KindUnreachable):
		return "no connected peer has all of what is missing"
	case errors.Is(err, sharefs.KindAccess):
		return "the key of some contents has not come yet"
	case errors.Is(err, sharefs.KindNoSpace):
		return fullDisk
	}
	return err.Error()
}
