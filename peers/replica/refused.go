package replica

import (
	"slices"

	"sharefs"
	"sharefs/peers/record"
)

// refusals are the records that somebody decided against, by author and file.
type refusals map[sharefs.PeerID]map[sharefs.FileID][]record.ID

// set notes what a record counts.
func (f refusals) set(j judged) {
	id, file := j.ID(), fileOf(j.Says())
	of := f[j.Author]
	if j.standing == Refused {
		if of == nil {
			of = map[sharefs.FileID][]record.ID{}
			f[j.Author] = of
		}
		of[file] = append(of[file], id)
		return
	}
	if i := slices.Index(of[file], id); i >= 0 {
		of[file] = slices.Delete(of[file], i, i+1)
	}
}

// reopen has all be proposed again that its author said of a file before, for he says more of it, and what he said of the directories that it is put into: without
// these it would have no place.
func (r *Replica) reopen(rec *record.Record) {
	again := func(file sharefs.FileID) {
		for _, id := range slices.Clone(r.refused[rec.Author][file]) {
			r.keep(judged{r.tree.Record(id), Proposed})
		}
	}
	again(fileOf(rec.Says()))
	if p, ok := rec.Says().Body.(*record.Place); ok && !p.Removed() {
		again(p.Parent)
	}
}
