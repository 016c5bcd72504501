package replica

import (
	"maps"
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// What becomes of a name where an author's part in the tree is taken back.
const (
	PurgeRemoves  = "removed"  // nobody else had a part in it
	PurgeRestores = "restored" // the author had removed it
	PurgeMoves    = "moved"    // back
	PurgeContent  = "content"  // is the newest of others
	PurgeAttrs    = "attributes"
)

// Purged is a name whose part by an author is taken back.
type Purged struct {
	What string
	Path string // from the root, without a slash before it; where it is to be
	From string // of what is moved
}

// purge is what the tree would be without the records of an author.
type purge struct {
	r      *Replica
	author sharefs.PeerID
	past   map[record.ID]bool // what of the author goes; nil: all
	tree   *converge.Tree
	keys   map[converge.Key]bool   // names that it placed or removed
	files  map[sharefs.FileID]bool // that it wrote to
	attrs  map[sharefs.FileID]bool // whose attributes it set
	hollow map[sharefs.FileID]bool // directories that it made, in which nothing of others is
	first  map[sharefs.FileID]*record.Record
	told   map[record.ID]bool // what it told of others, for which nobody else stands
	again  map[record.ID]bool // what takes something else back by saying again what goes
	list   []Purged
}

// of reports whether a record is what goes of the author.
func (p *purge) of(rec *record.Record) bool {
	return rec.Author == p.author && (p.past == nil || p.past[rec.ID()])
}

// by reports whether a record goes, or rests on the word of what does, or is it again.
func (p *purge) by(rec *record.Record) bool {
	return p.of(rec) || p.told[rec.ID()] || p.again[rec.ID()]
}

// newPurge makes the tree without an author; past: without those of its records alone, nil: without all.
func newPurge(r *Replica, author sharefs.PeerID, past map[record.ID]bool) *purge {
	p := &purge{r: r, author: author, past: past, keys: map[converge.Key]bool{}, files: map[sharefs.FileID]bool{}, attrs: map[sharefs.FileID]bool{}, hollow: map[sharefs.FileID]bool{},
		first: map[sharefs.FileID]*record.Record{}, told: map[record.ID]bool{}, again: map[record.ID]bool{}}
	p.findTold()
	p.findAgain()
	p.without()
	p.findHollow()
	return p
}

// Purge takes back what an author did to the live tree: what it removed is there again, what it moved is where it was, what it wrote to others' files is as the newest version of others has it, and
// what it made is removed, but for files that others have written to since, and directories in which there is something of others. What it alone told of others, and they did not sign, is its own. This host says so itself, in records
// of its own, so that all hosts follow who trust it; [Replica.Apply] does it, and nothing is lost from any history. It returns what changes, by path; dry: and changes nothing.
func (r *Replica) Purge(d *Decision, author sharefs.PeerID, dry bool) ([]Purged, error) {
	if author == r.cfg.Self {
		return nil, &sharefs.Error{Op: "purge", Kind: sharefs.KindInvalid, Detail: "that is this host"}
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	defer r.decides(d)()
	var list []Purged
	p := newPurge(r, author, nil)
	err := r.takesBack(author, nil, func() (err error) {
		list, err = p.work(dry)
		return err
	})
	if err != nil || dry {
		return list, err
	}
	return list, r.sync()
}

// work finds what changes, by path, and says so; dry: it says nothing.
func (p *purge) work(dry bool) ([]Purged, error) {
	p.list = nil
	say := func(body record.Body, before ...sharefs.HLC) error { return p.r.say(body, before...) }
	if dry {
		say = func(record.Body, ...sharefs.HLC) error { return nil }
	}
	for _, step := range []func(func(record.Body, ...sharefs.HLC) error) error{p.places, p.contents, p.attributes} {
		if err := step(say); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(p.list, func(a, b Purged) int { return strings.Compare(a.Path, b.Path) })
	return p.list, nil
}

// findTold finds what the author alone told of others: it has no signature here, so that whoever is said to have written it may know nothing of it. What others signed is their own,
// also where it came by the author.
func (p *purge) findTold() {
	others := map[record.ID]bool{} // what somebody else told
	p.r.tree.Inputs(func(i converge.Input) {
		inner := i.Record.Says()
		switch {
		case inner == i.Record || i.Standing != converge.Merged:
		case !p.of(i.Record):
			others[inner.ID()] = true
		case p.r.vouched[inner.ID()] != nil && inner.Author != p.r.cfg.Self:
			p.told[inner.ID()] = true
		}
	})
	maps.DeleteFunc(p.told, func(id record.ID, _ bool) bool { return others[id] })
}

// without makes the tree without the author's records. Versions stay as what lies between others; of what it made the first place stays where somebody else had a part in it.
func (p *purge) without() {
	others := map[sharefs.FileID]bool{} // who wrote to it
	p.r.tree.Inputs(func(i converge.Input) {
		if i.Standing != converge.Merged {
			return
		}
		switch b := i.Record.Body.(type) {
		case *record.Place:
			if was := p.first[b.File]; was == nil || i.Record.Order().Compare(was.Order()) < 0 {
				p.first[b.File] = i.Record
			}
		case *record.Version:
			others[b.File] = others[b.File] || !p.by(i.Record)
		}
	})
	var in []converge.Input
	p.r.tree.Inputs(func(i converge.Input) {
		if !p.by(i.Record) || i.Standing != converge.Merged {
			in = append(in, i)
			return
		}
		switch b := i.Record.Body.(type) {
		case *record.Version:
			p.files[b.File] = true
			in = append(in, converge.Input{Record: i.Record, Standing: converge.Known})
		case *record.Attr:
			p.attrs[b.File] = true
		case *record.Place:
			p.keys[converge.Key{File: b.File, Link: b.Link}] = true
			if p.first[b.File] == i.Record && !b.Removed() && (b.Type == record.Directory || others[b.File]) {
				in = append(in, i)
			}
		}
	})
	p.tree = converge.New()
	p.tree.Add(in...)
}

// findHollow finds the directories that are to go.
func (p *purge) findHollow() {
	var hollow func(dir sharefs.FileID) bool
	hollow = func(dir sharefs.FileID) bool {
		own := dir != record.Root && p.first[dir] != nil && p.by(p.first[dir])
		if n, ok := p.tree.Node(converge.Key{File: dir}); ok {
			for _, id := range n.Merged {
				own = own && p.first[id] != nil && p.by(p.first[id])
			}
		}
		p.tree.Children(dir, func(n converge.Node) {
			own = (n.Type == record.Directory && hollow(n.Key.File)) && own
		})
		if own {
			p.hollow[dir] = true
		}
		return own
	}
	hollow(record.Root)
}

// spot is where a name is in a tree.
func (p *purge) spot(t *converge.Tree, key converge.Key) (s converge.Spot, ok bool) {
	if t == p.tree && p.hollow[key.File] {
		return s, false
	}
	t.Spots(key.File, func(at converge.Spot) {
		if at.Key == key {
			s, ok = at, true
		}
	})
	return s, ok
}

// places puts names back, the upper directories first, so that what is in them is put into something, and takes those away that the author made.
func (p *purge) places(say func(record.Body, ...sharefs.HLC) error) error {
	r := p.r
	type change struct {
		key      converge.Key
		was, now converge.Spot
		is, will bool
	}
	var all []change
	for _, key := range slices.SortedFunc(maps.Keys(p.keys), converge.Key.Compare) {
		c := change{key: key}
		c.was, c.is = p.spot(r.tree, key)
		c.now, c.will = p.spot(p.tree, key)
		if c.is || c.will {
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b change) int { return strings.Count(a.now.Path, "/") - strings.Count(b.now.Path, "/") })
	for _, c := range all {
		switch {
		case !c.will:
			if err := r.removal(c.key, c.was.Type, r.tree.Heads(c.key.File), say); err != nil {
				return err
			}
			p.list = append(p.list, Purged{What: PurgeRemoves, Path: c.was.Path})
		case !c.is || slotOf(r.tree.Record(c.was.Place).Body.(*record.Place)) != slotOf(r.tree.Record(c.now.Place).Body.(*record.Place)):
			s := slotOf(r.tree.Record(c.now.Place).Body.(*record.Place))
			back := &record.Place{File: c.key.File, Link: c.key.Link, Type: c.now.Type, Parent: s.Parent, Name: s.Name}
			if err := say(back, append(r.aboveID(s.Parent), r.lastAt(c.key))...); err != nil {
				return err
			}
			if c.is {
				p.list = append(p.list, Purged{What: PurgeMoves, Path: c.now.Path, From: c.was.Path})
			} else {
				p.list = append(p.list, Purged{What: PurgeRestores, Path: c.now.Path})
			}
		}
	}
	return nil
}

// name returns where a file is to be, by the first of its names; ok is false where it has none.
func (p *purge) name(file sharefs.FileID) (path string, key converge.Key, ok bool) {
	p.tree.Spots(file, func(s converge.Spot) {
		if !ok && !p.hollow[file] {
			path, key, ok = s.Path, s.Key, true
		}
	})
	return path, key, ok
}

func sortedFiles(m map[sharefs.FileID]bool) []sharefs.FileID {
	return slices.SortedFunc(maps.Keys(m), func(a, b sharefs.FileID) int { return converge.Key{File: a}.Compare(converge.Key{File: b}) })
}

// contents puts the newest version of others behind those of the author that nobody went on from.
func (p *purge) contents(say func(record.Body, ...sharefs.HLC) error) error {
	r := p.r
	for _, file := range sortedFiles(p.files) {
		path, _, ok := p.name(file)
		heads, rest := r.tree.Heads(file), p.tree.Heads(file)
		var parents []record.ID
		for _, id := range heads {
			if p.by(r.tree.Record(id)) {
				parents = append(parents, id)
			}
		}
		if !ok || len(parents) == 0 || len(rest) == 0 && r.tree.Type(file) != record.Regular {
			continue
		}
		if len(rest) > 0 && slices.Contains(heads, rest[0]) {
			parents = append(parents, rest[0])
		}
		parents = parents[max(0, len(parents)-record.MaxParents):]
		slices.SortFunc(parents, record.ID.Compare)
		v := record.Version{File: file} // nobody else wrote to it
		if len(rest) > 0 {
			v = *r.tree.Record(rest[0]).Body.(*record.Version)
			v.Mtime = timeIn(p.tree, p.tree.Record(rest[0]))
		}
		v.Parents = parents
		if err := say(&v, append(r.times(parents), r.attrs[file])...); err != nil {
			return err
		}
		p.list = append(p.list, Purged{What: PurgeContent, Path: path})
	}
	return nil
}

// attributes sets those anew that the author set last.
func (p *purge) attributes(say func(record.Body, ...sharefs.HLC) error) error {
	r := p.r
	for _, file := range sortedFiles(p.attrs) {
		path, key, ok := p.name(file)
		is, _ := r.tree.Node(key)
		was, _ := p.tree.Node(key)
		now, old := r.tree.Record(is.Attr), r.tree.Record(was.Attr)
		if !ok || now == nil || !p.by(now) || old == nil {
			continue
		}
		a := *old.Body.(*record.Attr)
		before := []sharefs.HLC{r.attrs[file]}
		if a.HasMtime { // behind what is live then
			at, ok := record.Mtime(p.tree.Record(was.Live), old)
			live := r.tree.Record(is.Live)
			setTime(&a, at, ok, live)
			if live != nil {
				before = append(before, live.HLC)
			}
		}
		if err := say(&a, before...); err != nil {
			return err
		}
		p.list = append(p.list, Purged{What: PurgeAttrs, Path: path})
	}
	return nil
}

// tellRest tells what stays of what is past a cut, for others went on from it: this host stands for that now, and it is the same on hosts that have not taken it.
func (p *purge) tellRest() error {
	r := p.r
	files := map[sharefs.FileID]bool{}
	maps.Copy(files, p.files)
	maps.Copy(files, p.attrs)
	for key := range p.keys {
		files[key.File] = true
	}
	for _, file := range sortedFiles(files) {
		var ids []record.ID
		r.tree.Spots(file, func(at converge.Spot) { ids = append(ids, at.Place) })
		if len(ids) > 0 {
			ids = append(append(ids, r.tree.Attr(file)), r.tree.Heads(file)...)
		}
		for _, id := range ids {
			if p.past[id] {
				if err := r.tellAgain(r.tree.Record(id)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
