package converge

import (
	"fmt"
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/record"
)

// spots is where names are as somebody knows it who looks again at what Touched names, and at nothing else.
type spots map[sharefs.FileID][]Spot

// follow looks at what may have changed.
func (s spots) follow(t *Tree) {
	t.Touched(func(id sharefs.FileID) {
		delete(s, id)
		t.Spots(id, func(at Spot) { s[id] = append(s[id], at) })
	})
}

func (s spots) text() string {
	var all []string
	for _, list := range s {
		for _, at := range list {
			all = append(all, fmt.Sprint(at))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// wholeSpots is what the specification says of all names that have a place below the root.
func wholeSpots(in []Input) spots {
	w := whole{records: map[record.ID]Input{}, files: map[sharefs.FileID]*wholeFile{}}
	for _, i := range in {
		w.records[i.Record.ID()] = i
	}
	w.types()
	w.directories()
	w.content()
	w.names()
	all := spots{}
	for id, f := range w.files {
		for link, at := range f.places {
			if !at.exists || at.removed && !at.cameBack {
				continue
			}
			if path, ok := w.path(at); ok {
				all[id] = append(all[id], Spot{Key{id, link}, f.typ, at.parent, path, at.order.ID})
			}
		}
	}
	return all
}
