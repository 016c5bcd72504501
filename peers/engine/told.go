package engine

import (
	"errors"
	"maps"
	"slices"

	"sharefs"
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
	for _, what := range slices.Sorted(maps.Keys(e.troubles)) {
		text := e.troubles[what].Error()
		if errors.Is(e.troubles[what], sharefs.KindNoSpace) {
			text = "the disk below the store is full; it goes on when there is room (" + text + ")"
		}
		s.Troubles = append(s.Troubles, what+": "+text)
	}
	reasons := map[string]int{}
	for _, f := range e.failed {
		reasons[reason(f.err)]++
	}
	s.Waits = append([]string{}, slices.Sorted(maps.Keys(reasons))...)
	return s
}

// reason says why contents are not here, without which of them it is.
func reason(err error) string {
	switch {
	case errors.Is(err, sharefs.KindUnreachable):
		return "no connected peer has all of what is missing"
	case errors.Is(err, sharefs.KindAccess):
		return "the key of some contents has not come yet"
	}
	return err.Error()
}
