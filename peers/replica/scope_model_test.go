package replica

import (
	"maps"
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// told is the slow scope: after each step everything is looked at.
type told struct {
	rules scopeRules
	all   map[sharefs.FileID]bool               // files of which all is told
	names map[converge.Key]string               // names that may be read, and where they were
	log   map[sharefs.FileID]map[record.ID]bool // what is told of each file
	gone  map[record.ID]string                  // removals, and of what; and the versions that they have seen of files of which nothing else is told
	away  map[converge.Key]string               // names that were told, and where they are, or were when they were removed: where the peer may not read
}

func newTold(rules scopeRules) *told {
	return &told{rules: rules, all: map[sharefs.FileID]bool{}, names: map[converge.Key]string{}, log: map[sharefs.FileID]map[record.ID]bool{}, gone: map[record.ID]string{}, away: map[converge.Key]string{}}
}

// step is told of all records, and of those that came just now.
func (o *told) step(all, news []*record.Record) {
	tree := treeOf(all)
	of := map[sharefs.FileID][]*record.Record{}
	for _, rec := range all {
		of[fileOf(rec)] = append(of[fileOf(rec)], rec)
	}
	for _, list := range of {
		slices.SortFunc(list, byOrder)
	}
	names, files, leads := map[converge.Key]converge.Spot{}, map[sharefs.FileID]bool{}, map[sharefs.FileID]record.ID{}
	spotOf := map[sharefs.FileID]converge.Spot{} // of directories
	for id := range of {
		tree.Spots(id, func(at converge.Spot) {
			if at.Type == record.Directory {
				spotOf[id] = at
			}
			if o.rules.reads(at.Path) {
				names[at.Key], files[id] = at, true
			}
		})
	}
	for _, at := range names {
		for dir := at.Parent; dir != record.Root; dir = spotOf[dir].Parent {
			if !files[dir] {
				leads[dir] = spotOf[dir].Place
			}
		}
	}
	tells := func(id sharefs.FileID, rec *record.Record) bool {
		b, ok := rec.Body.(*record.Place)
		if !ok {
			return true
		}
		if !b.Removed() {
			dir, ok := tree.Path(b.Parent)
			_, named := names[converge.Key{File: id, Link: b.Link}]
			return ok && named && o.rules.reads(converge.Join(dir, b.Name))
		}
		for other := range o.log[id] {
			p, ok := tree.Record(other).Body.(*record.Place)
			if ok && (p.Link == b.Link || p.Removed() && slices.Contains(b.Seen, other)) {
				return true
			}
		}
		return false
	}
	fresh := map[sharefs.FileID]bool{} // files with a name that came, or came back
	for key := range names {
		if _, old := o.names[key]; !old {
			fresh[key.File] = true
		}
	}
	for id := range of {
		if o.log[id] == nil {
			o.log[id] = map[record.ID]bool{}
		}
		for _, at := range names {
			if at.File == id {
				o.log[id][at.Place] = true
			}
		}
		for _, rec := range of[id] {
			came := o.all[id] && slices.Contains(news, rec) || !o.all[id] && files[id] || fresh[id] && isRemoval(rec)
			_, gone := o.gone[rec.ID()]
			if _, version := rec.Body.(*record.Version); came && gone && version && files[id] {
				delete(o.gone, rec.ID())
				gone = false
			}
			if came && !gone && tells(id, rec) {
				o.log[id][rec.ID()] = true
			}
		}
	}
	o.stray(tree, names)
	for key, path := range o.names {
		if tree.Placed(key) {
			continue
		}
		ended := map[record.ID]bool{}
		for _, rec := range of[key.File] {
			b, ok := rec.Body.(*record.Place)
			if ok && b.Removed() && o.log[key.File][rec.ID()] && (b.Link == key.Link || slices.ContainsFunc(b.Seen, func(id record.ID) bool { return ended[id] })) {
				ended[rec.ID()] = true
				delete(o.log[key.File], rec.ID())
				o.gone[rec.ID()] = path
			}
		}
	}
	for key := range o.names {
		if _, still := names[key]; still {
			continue
		}
		maps.DeleteFunc(o.log[key.File], func(id record.ID, _ bool) bool { // where it was is not told any more
			b, ok := tree.Record(id).Body.(*record.Place)
			return ok && b.Link == key.Link && !b.Removed()
		})
	}
	for id := range of {
		if place, ok := leads[id]; ok {
			o.log[id] = map[record.ID]bool{place: true}
		} else if !files[id] {
			for _, rec := range of[id] {
				if path, ok := o.gone[rec.ID()]; ok && isRemoval(rec) {
					o.keep(tree, o.log[id], rec.Body.(*record.Place).Seen, path)
				}
			}
			delete(o.log, id)
		}
	}
	o.all, o.names = files, map[converge.Key]string{}
	for key, at := range names {
		o.names[key] = at.Path
	}
}

// keep has versions of a file be told with a removal that has seen them.
func (o *told) keep(tree *converge.Tree, log map[record.ID]bool, seen []record.ID, path string) {
	for _, id := range seen {
		if rec := tree.Record(id); rec != nil && log[id] {
			if v, ok := rec.Body.(*record.Version); ok {
				delete(log, id)
				o.gone[id] = path
				o.keep(tree, log, v.Parents, path)
			}
		}
	}
}

// regrant is told of other rules.
func (o *told) regrant(rules scopeRules, all []*record.Record) {
	o.rules = rules
	tree := treeOf(all)
	maps.DeleteFunc(o.gone, func(id record.ID, path string) bool {
		if b, ok := tree.Record(id).Body.(*record.Place); ok && !rules.reads(path) {
			o.away[converge.Key{File: b.File, Link: b.Link}] = path
		}
		return !rules.reads(path)
	})
	o.check(all)
}

// stray is told which names the peer may read now.
func (o *told) stray(tree *converge.Tree, names map[converge.Key]converge.Spot) {
	for key, path := range o.names {
		if tree.Placed(key) {
			o.away[key] = path
		}
	}
	for key := range o.away {
		if _, reads := names[key]; reads {
			delete(o.away, key)
		}
		tree.Spots(key.File, func(at converge.Spot) {
			if _, is := o.away[key]; is && at.Key == key {
				o.away[key] = at.Path
			}
		})
	}
}

// ended has the removals be told of what was removed where the peer might not read it, and may now, with all versions that they have seen.
func (o *told) ended(tree *converge.Tree, all []*record.Record) {
	all = slices.SortedFunc(slices.Values(all), byOrder)
	var tell func(key converge.Key, path string, ids []record.ID)
	tell = func(key converge.Key, path string, ids []record.ID) {
		for _, id := range ids {
			if v, ok := tree.Record(id).Body.(*record.Version); ok && !o.all[key.File] {
				if _, told := o.gone[id]; !told {
					o.gone[id] = path
				}
				tell(key, path, v.Parents)
			}
		}
	}
	for key, path := range o.away {
		if tree.Placed(key) || !o.rules.reads(path) {
			continue
		}
		delete(o.away, key)
		ended := map[record.ID]bool{}
		for _, rec := range all {
			b, ok := rec.Body.(*record.Place)
			if !ok || !b.Removed() || b.File != key.File || b.Link != key.Link && !slices.ContainsFunc(b.Seen, func(id record.ID) bool { return ended[id] }) {
				continue
			}
			ended[rec.ID()] = true
			delete(o.log[key.File], rec.ID())
			if _, told := o.gone[rec.ID()]; !told {
				o.gone[rec.ID()] = path
			}
			tell(key, path, b.Seen)
		}
	}
}

func treeOf(all []*record.Record) *converge.Tree {
	tree := converge.New()
	for _, rec := range all {
		tree.Add(converge.Input{Record: rec, Standing: converge.Merged})
	}
	return tree
}

// check looks at everything again, also at what was told before: where names were that may not be read (any more).
func (o *told) check(all []*record.Record) {
	o.step(all, nil)
	tree := treeOf(all)
	for id := range o.all {
		maps.DeleteFunc(o.log[id], func(rec record.ID, _ bool) bool {
			b, ok := tree.Record(rec).Body.(*record.Place)
			if !ok || b.Removed() {
				return false
			}
			dir, ok := tree.Path(b.Parent)
			_, named := o.names[converge.Key{File: id, Link: b.Link}]
			return !ok || !named || !o.rules.reads(converge.Join(dir, b.Name))
		})
	}
	o.ended(tree, all)
}

func (o *told) ids() (ids []record.ID) {
	ids = slices.Collect(maps.Keys(o.gone))
	for _, log := range o.log {
		ids = slices.AppendSeq(ids, maps.Keys(log))
	}
	slices.SortFunc(ids, record.ID.Compare)
	return ids
}
