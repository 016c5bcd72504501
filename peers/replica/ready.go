package replica

import (
	"fmt"
	"maps"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Bounds of what is readied at a time, which is on the disk twice then.
const (
	readyFiles = 256
	readyBytes = 64 << 20
)

// plan is the way from the account to the tree that the records say, while it is walked. It is walked in rounds: one ends where contents are needed, which are then made ready without the
// lock, for that takes as long as the disk does. If something else has been done meanwhile, the way is found anew, and that round is the last one: what is not ready is left, so that
// whatever others do there is an end. An operation is carried out only on what is there (step), so it never matters when it was planned.
type plan struct {
	r     *Replica
	ready map[record.ID]result // contents, as far as they were looked at: each once
	held  []record.ID          // those of them that were made ready last

	made    bool   // there is a way
	gen     uint64 // r.gen when it was left
	changes map[converge.Key]*converge.Node
	ops     []converge.Op
	next    int                  // those before it were carried out, or failed
	last    map[converge.Key]int // the last operation that a name takes part in
	failed  map[converge.Key]bool
	making  []sharefs.FileID // what may have been made

	skipped map[converge.Key]bool // names at which something is to be done that nobody came to
	waiting int
	err     error // the first of what failed
}

// result is what became of the content of a version.
type result struct {
	content Staged
	at      sharefs.Time // that it was given
	err     error
}

// round goes on until contents are needed, which it returns: none at the end.
func (p *plan) round() (list []Ready, err error) {
	r := p.r
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if r.lost { // what the tree has is to be looked at first
		p.waiting = len(r.due)
		return nil, p.give()
	}
	last := p.made && p.gen != r.gen
	if last {
		if err := p.give(); err != nil {
			return nil, err
		}
	}
	if !p.made {
		p.make()
	}
	if err := p.announce(last); err != nil {
		return nil, err
	}
	for ; p.next < len(p.ops); p.next++ {
		op := &p.ops[p.next]
		rec := p.needs(op)
		var it result
		if rec != nil {
			var looked bool
			if it, looked = p.ready[rec.ID()]; !looked {
				if !last {
					p.gen = r.gen
					return p.list(), nil
				}
				it.err = errAgain // whoever did something has this looked at again
				p.skip(op)
			}
		}
		if it.err == nil {
			it.err = r.step(op, it)
		}
		if it.content != nil {
			it.content.Drop()
			p.ready[rec.ID()] = result{err: errAgain}
		}
		p.did(op, it.err)
	}
	if p.waiting = len(r.due); p.waiting == 0 {
		r.due = map[converge.Key]bool{} // a map keeps the room of the most that was in it
		clear(r.decided)
	}
	return nil, p.give()
}

// make finds the way.
func (p *plan) make() {
	r := p.r
	*p = plan{r: r, ready: p.ready, held: p.held, err: p.err, skipped: map[converge.Key]bool{}, made: true, gen: r.gen, changes: map[converge.Key]*converge.Node{}, last: map[converge.Key]int{}, failed: map[converge.Key]bool{}}
	away := r.away()
	delete(r.due, converge.Key{})
	for key := range r.due {
		p.changes[key] = nil
		n, shown := r.tree.Node(key)
		if _, here := r.world.Node(key); shown && (here || n.Type != record.Symlink || !n.Live.IsZero()) {
			p.changes[key] = &n
		}
	}
	if len(away) > 0 {
		r.world.Leave(p.changes, away)
	}
	p.ops = r.world.Lead(p.changes)
	for i := range p.ops {
		p.last[p.ops[i].Key] = i
		if over := p.ops[i].Over; over != nil {
			p.last[*over] = i
		}
	}
	for key := range p.changes {
		if _, some := p.last[key]; !some {
			p.done(key)
		}
	}
}

// away lists the files of which nobody knows at the moment where they are, or whether they are here: somebody moves them, or it is to be found out what was made, or they are in a directory
// that was made just now, and of which it is still to be told where it is. The author comes first, and nothing is done that hangs on them.
func (r *Replica) away() map[sharefs.FileID]bool {
	files := map[sharefs.FileID]bool{}
	for key := range r.loose {
		files[key.File], r.due[key] = true, true
	}
	for id := range r.unsure {
		files[id] = true
	}
	maps.DeleteFunc(r.nameless, func(ino sharefs.Ino, _ bool) bool {
		e := r.inos.Get(ino)
		return e == nil || !e.isNameless()
	})
	if len(r.nameless) > 0 {
		for key := range r.due {
			if e := r.files.Get(key.File); e != nil && r.isBelowNameless(e, key.Link) {
				files[key.File] = true
			}
		}
	}
	return files
}

// skip notes that an operation was not tried.
func (p *plan) skip(op *converge.Op) {
	p.skipped[op.Key] = true
	if op.Over != nil {
		p.skipped[*op.Over] = true
	}
}

// did notes how an operation ended.
func (p *plan) did(op *converge.Op, err error) {
	keys := []converge.Key{op.Key}
	if op.Over != nil {
		keys = append(keys, *op.Over)
	}
	if err != nil && p.err == nil && !overtaken(err) {
		p.err = fmt.Errorf("%s %q: %w", op.Verb, op.Node.Name, err)
	}
	for _, key := range keys {
		if err != nil {
			p.failed[key], p.r.due[key] = true, true
		}
		if p.last[key] == p.next && !p.failed[key] {
			p.done(key)
		}
	}
}

// done says of a name that it is as the records say.
func (p *plan) done(key converge.Key) {
	delete(p.r.due, key)
	if n := p.changes[key]; n != nil {
		p.r.toldOf(n)
	}
}

// give gives the way up, wherever it was left: what of it was not done is in the world as the account says, and in due.
func (p *plan) give() error {
	if !p.made {
		return p.r.commit()
	}
	for ; p.next < len(p.ops); p.next++ {
		op := &p.ops[p.next]
		p.skip(op)
		p.failed[op.Key] = true
		if over := op.Over; over != nil {
			p.failed[*over] = true
		}
	}
	p.r.remake(p.failed)
	p.made, p.r.skipped = false, p.skipped
	p.withdraw()
	return p.r.commit()
}

// list returns the versions whose contents the next operations need.
func (p *plan) list() (list []Ready) {
	twice := map[record.ID]bool{}
	size := uint64(0)
	for i := p.next; i < len(p.ops) && len(list) < readyFiles && size < readyBytes; i++ {
		rec := p.needs(&p.ops[i])
		if rec == nil || twice[rec.ID()] {
			continue
		}
		if _, looked := p.ready[rec.ID()]; looked {
			continue
		}
		twice[rec.ID()] = true
		it := Ready{Record: rec, At: rec.Body.(*record.Version).Mtime}
		if e := p.r.files.Get(p.ops[i].Key.File); e != nil && p.ops[i].Verb == converge.Content {
			it.Onto = e.ino
			it.At, _ = p.r.mtime(rec.ID(), e.attr)
		}
		list = append(list, it)
		size += rec.Body.(*record.Version).Size
	}
	return list
}

// needs returns the version whose content an operation needs.
func (p *plan) needs(op *converge.Op) *record.Record {
	e := p.r.files.Get(op.Key.File)
	switch {
	case op.Node.Type != record.Regular || op.Node.Live.IsZero(), op.Verb != converge.Create && op.Verb != converge.Content:
		return nil
	case op.Verb == converge.Create && e != nil && e.names.Len() > 0: // a further name
		return nil
	}
	rec := p.r.tree.Record(op.Node.Live)
	if op.Verb == converge.Content && (e == nil || p.r.holds(e, rec)) {
		return nil // it was made with it, or could not be made
	}
	return rec
}

// stage makes contents ready, without the lock.
func (p *plan) stage(list []Ready) {
	p.drop() // what nobody needed
	made, errs, err := p.r.cfg.Tree.Stage(list)
	for i := range list {
		id := list[i].ID()
		switch {
		case err != nil:
			p.ready[id] = result{err: err}
		case errs[i] != nil:
			p.ready[id] = result{err: errs[i]}
		default:
			p.ready[id] = result{content: made[i], at: list[i].At}
			p.held = append(p.held, id)
		}
	}
}

// drop gives up what is ready.
func (p *plan) drop() {
	for _, id := range p.held {
		if it := p.ready[id]; it.content != nil {
			it.content.Drop()
			delete(p.ready, id)
		}
	}
	p.held = p.held[:0]
}
