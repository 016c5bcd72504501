package versions

import (
	"cmp"
	"strings"
	"sync"
	"time"

	"sharefs"
	"sharefs/versions/kv"
)

// Bounds of what is taken for one operation, and of what is kept of it.
const (
	opPause   = 2 * time.Second  // Config.Pause by default
	opLength  = 10 * time.Minute // of programs that never pause
	opChanges = 200_000          // listed; about 100 bytes each in memory
	opWaiting = time.Hour        // for files that it still has open for writing
	opTasks   = 4096             // whose operation is remembered
	opTotal   = 1_000_000        // changes and files in memory, of all operations together
	opAge     = 90 * 24 * time.Hour
	opPruned  = 64 // old operations removed when one ends
)

// operations notes who changes what. Changes are noted by the edge, which alone knows who asks.
type operations struct {
	t     *Tree
	pause time.Duration // see Config.Pause
	wake  chan struct{} // 1 deep: there are operations whose end is to be seen
	ends  sync.Mutex    // held while operations are written down that are over; taken before Tree.mu
	trash trashNames

	mu      sync.Mutex // guards all below, and what ops hold; taken after Tree.mu
	tasks   map[actor]*op
	groups  map[actor]*op
	named   map[actor]*op               // by the id of a process that said what it does
	causes  map[Cause]*op               // of changes that no process asks for
	unknown *op                         // what those do whose process cannot be told; it is never written down
	total   int                         // see opTotal
	all     map[*op]bool                // that have not ended
	writing map[sharefs.Ino][]*op       // which wrote to a file that has not come to rest since
	bound   map[sharefs.Ino]sharefs.HLC // of files that are brought to rest before another operation changes them: the moment before that
}

// actor is a task, a process or a process group that works for a user. What one task does for several users, as a server of files may, are several
// operations: nobody is told of what was done for others.
type actor struct{ id, uid uint32 }

// op is an operation at work.
type op struct {
	Operation
	cause   Cause // of [Tree.OperateFor], zero otherwise; what such an operation makes is at rest from the first
	began   time.Time
	last    time.Time
	busy    int  // requests that are being dealt with
	shut    bool // takes no more changes
	dirty   bool // its row is not up to date
	written bool // its row is there

	changes  []OpChange
	dead     int // of changes: those without a verb, which others made needless
	seen     map[OpChange]struct{}
	made     map[sharefs.Ino]struct{} // directories
	removed  map[sharefs.Ino][]int    // directory → places in changes of what was removed from it
	unrested map[sharefs.Ino]struct{} // files that it wrote to

	untrashed map[sharefs.Ino]bool // removed by it, and taken out of the trash since
	weight    int                  // its part of operations.total
}

// asked reports whether a process asks for what is done.
func (p *op) asked() bool { return p.cause == Cause{} }

func (o *operations) open(t *Tree) {
	o.t, o.pause = t, cmp.Or(t.cfg.Pause, opPause)
	o.wake = make(chan struct{}, 1)
	o.tasks, o.groups, o.named, o.causes = map[actor]*op{}, map[actor]*op{}, map[actor]*op{}, map[Cause]*op{}
	o.all, o.writing, o.bound = map[*op]bool{}, map[sharefs.Ino][]*op{}, map[sharefs.Ino]sharefs.HLC{}
	o.unknown = &op{unrested: map[sharefs.Ino]struct{}{}}
}

// takes reports whether a change at a time is one of an operation. o.mu is held.
func (o *operations) takes(p *op, now time.Time) bool {
	return !p.shut && (p.busy > 0 || now.Sub(p.last) < o.pause) && now.Sub(p.began) < opLength
}

// Op is an operation that a request belongs to. The zero value notes nothing.
type Op struct {
	t *Tree
	p *op
}

// Operate is told that somebody is about to change something; End is to be called when that is done, or has failed. The first change of an
// operation comes after the instant that is open at that time, so that the state before it is one of the past.
func (t *Tree) Operate(who Caller) Op {
	if t.cfg.ReadOnly {
		return Op{}
	}
	o := &t.ops
	if who.PID == 0 {
		return Op{t, o.unknown}
	}
	now := time.Now()
	o.mu.Lock()
	if p := o.tasks[actor{who.PID, who.UID}]; p != nil && o.takes(p, now) {
		p.busy++
		o.mu.Unlock()
		return Op{t, p}
	}
	o.mu.Unlock()
	return o.enter(who, lookAt(who.PID), "", now)
}

// NameOperation begins an operation of the process that asks, and of it alone, and says what it is. What others of its process group do from now on
// is another operation than what they did before.
func (t *Tree) NameOperation(who Caller, label string) {
	if t.cfg.ReadOnly || who.PID == 0 {
		return
	}
	proc := lookAt(who.PID)
	o := &t.ops
	o.mu.Lock()
	for _, p := range []*op{o.groups[actor{proc.group, who.UID}], o.named[actor{proc.id, who.UID}]} {
		if p != nil {
			o.shut(p)
		}
	}
	o.mu.Unlock()
	o.enter(who, proc, label, time.Now()).End(nil)
}

// enter finds the operation that a task belongs to, or begins it. With a label it is one of the process alone.
func (o *operations) enter(who Caller, proc process, label string, now time.Time) Op {
	t := o.t
	t.mu.Lock()
	defer t.mu.Unlock()
	o.mu.Lock()
	process, group := actor{proc.id, who.UID}, actor{proc.group, who.UID}
	p := o.named[process]
	if p == nil || !o.takes(p, now) {
		p = o.groups[group]
		if proc.group == 0 || label != "" {
			p = nil
		}
	}
	if p != nil && o.takes(p, now) {
		o.remember(who, p)
		p.busy++
		o.mu.Unlock()
		return Op{t, p}
	}
	o.mu.Unlock()
	p = o.start(Operation{UID: who.UID, Process: proc.group, Command: proc.command, Label: label}, now)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all[p] = true
	switch {
	case label != "":
		o.named[process] = p
	case proc.group != 0:
		o.groups[group] = p
	}
	o.remember(who, p)
	o.began()
	return Op{t, p}
}

// decision is the command of what was decided here about changes of other hosts, where no more is known of it: which version of several is the file, say.
const decision = "sharefs, a decision about peers"

// Cause is what a change comes from that is done as a user without a process that asks for it. What has one cause is one operation, and what has another one is not.
type Cause struct {
	Author   sharefs.PeerID // the host that made it, or this one where it was decided on here
	Decision uint64         // of that, or by which the change counts: a number that no other has; 0: none is known
	Command  string         // of a decision
}

// OperateFor is [Tree.Operate] for a change that another host made, or that was decided on here.
func (t *Tree) OperateFor(by Cause, uid uint32) Op {
	if t.cfg.ReadOnly || by.Author.IsZero() {
		return Op{}
	}
	of := Operation{UID: uid, Author: by.Author}
	if by.Author == t.cfg.Peer {
		of = Operation{UID: uid, Command: cmp.Or(by.Command, decision)}
	}
	o := &t.ops
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	o.mu.Lock()
	if p := o.causes[by]; p != nil && o.takes(p, now) {
		p.busy++
		o.mu.Unlock()
		return Op{t, p}
	}
	o.mu.Unlock()
	p := o.start(of, now)
	p.cause = by
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all[p], o.causes[by] = true, p
	o.began()
	return Op{t, p}
}

// start makes an operation that begins with the instant after the one that is open. Tree.mu is held.
func (o *operations) start(of Operation, now time.Time) *op {
	t := o.t
	if err := t.endInstant(); err != nil {
		t.log.Warn("an operation begins within an instant", "err", err)
	}
	p := &op{
		Operation: of, last: now, busy: 1, dirty: of.Label != "",
		seen: map[OpChange]struct{}{}, made: map[sharefs.Ino]struct{}{}, removed: map[sharefs.Ino][]int{}, unrested: map[sharefs.Ino]struct{}{},
		untrashed: map[sharefs.Ino]bool{},
	}
	p.ID = t.wholeMillisecond()
	p.began = time.Now() // what is older was there at the moment before it
	p.After = p.ID
	return p
}

// began tells that there is an operation whose end is to be seen.
func (o *operations) began() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// wholeMillisecond returns the last reading of the present millisecond, which no change has any more: written to the millisecond, as people read and type
// times, it is the same moment. Tree.mu is held.
func (t *Tree) wholeMillisecond() sharefs.HLC {
	at := t.clock.Next() | 0xffff
	t.clock.Restore(at)
	return at
}

// remember notes whose operation the changes of a task are. o.mu is held.
func (o *operations) remember(who Caller, p *op) {
	if len(o.tasks) >= opTasks {
		clear(o.tasks)
	}
	o.tasks[actor{who.PID, who.UID}] = p
}

// shut has an operation take no more changes. o.mu is held.
func (o *operations) shut(p *op) { p.shut = true }

// End tells what was changed; nothing where err says that it failed.
func (h Op) End(err error, changes ...OpChange) {
	if h.p == nil {
		return
	}
	o, p := &h.t.ops, h.p
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if p == o.unknown {
		for _, c := range changes {
			if err == nil && (c.Verb == OpMade || c.Verb == OpWritten) {
				o.watch(p, c.Ino)
			}
			if err == nil {
				o.noteOthers(p, c)
			}
		}
		return
	}
	p.busy--
	if err != nil {
		return
	}
	p.last = now
	for i := range changes {
		o.note(p, changes[i])
	}
}

// changes notes what is not to wait for End: a file that is brought to rest before the operation ends, which then ends after the version that comes of
// that, and takes no later one for its own. The file has begun to change.
func (h Op) changes(c OpChange) {
	if h.p == nil {
		return
	}
	o := &h.t.ops
	o.mu.Lock()
	defer o.mu.Unlock()
	if h.p == o.unknown {
		o.watch(h.p, c.Ino)
		return
	}
	o.note(h.p, c)
	if !h.p.asked() {
		o.watch(h.p, c.Ino)
	}
}

// Rest is to be called before the operation changes a file or takes a name from it: what others closed a moment ago becomes a version of its own, as
// if they had waited, so that the state before the operation has it.
func (h Op) Rest(ino sharefs.Ino) {
	if h.p == nil {
		return
	}
	o := &h.t.ops
	o.mu.Lock()
	others := false
	for _, p := range o.writing[ino] {
		others = others || p != h.p
	}
	if others && h.p != o.unknown {
		if bound, ok := o.bound[ino]; !ok || h.p.ID < bound {
			o.bound[ino] = h.p.ID
		}
	}
	o.mu.Unlock()
	if !others {
		return
	}
	defer func() {
		o.mu.Lock()
		delete(o.bound, ino)
		o.mu.Unlock()
	}()
	f := h.t.files.find(ino)
	if f == nil {
		return
	}
	defer h.t.files.unpin(f)
	f.content.Lock()
	defer f.content.Unlock()
	rested, err := h.t.settleNow(f)
	if !rested && h.p != o.unknown {
		// Others write to it still: no version is what it held a moment ago.
		o.mu.Lock()
		o.list(h.p, OpChange{Verb: OpUnsure, Ino: ino})
		o.mu.Unlock()
	}
	if err != nil {
		h.t.log.Warn("a file could not be brought to rest", "inode", uint64(ino), "err", err)
	}
}

// RestName is Rest for what bears a name.
func (h Op) RestName(parent sharefs.Ino, name string) {
	if h.p == nil {
		return
	}
	o := &h.t.ops
	o.mu.Lock()
	any := len(o.writing) > 0
	o.mu.Unlock()
	if !any {
		return
	}
	if d, err := h.t.dent(parent, name); err == nil && d.found() {
		h.Rest(d.ino)
	}
}

// note adds a change. o.mu is held.
func (o *operations) note(p *op, c OpChange) {
	p.dirty = true
	o.noteOthers(p, c)
	k := &p.Counts
	switch c.Verb {
	case OpMade:
		k.Made++
	case OpRemoved:
		k.Removed++
	case OpRenamedFrom:
		k.Renamed++
	case OpLinked:
		k.Linked++
	case OpWritten:
		k.Written++
	case OpAttributes:
		k.Attributes++
	}
	switch {
	case c.Verb == OpWritten && p.asked(), c.Verb == OpMade && p.asked(), c.Verb == OpLinked && o.t.hot(c.Ino):
		o.watch(p, c.Ino)
	}
	if c.Dir && c.Verb == OpMade && len(p.made) < opChanges && o.total < opTotal {
		p.made[c.Ino] = struct{}{}
		o.weigh(p)
	}
	if c.Dir && c.Verb == OpRemoved {
		o.absorb(p, c)
	}
	if _, ok := p.made[c.Parent]; ok && (c.Verb == OpMade || c.Verb == OpLinked || c.Verb == OpRemoved) {
		return // that the directory was made says it all
	}
	if !c.Verb.ofName() {
		// What was born since has no state to go back to.
		if r, err := o.t.row(c.Ino); err == nil && o.bornSince(p, r) {
			return
		}
		c.Parent = o.t.whereabouts.of(c.Ino)
	}
	o.list(p, c)
}

// noteOthers notes a name that an operation gave in a directory that another one has made, which is none of that one's: all that it put there itself goes with the
// directory. Who undoes or does again what that one did puts back what it was. o.mu is held.
func (o *operations) noteOthers(p *op, c OpChange) {
	if !c.Verb.gives() || strings.HasPrefix(p.Label, sharefs.UndoLabel) || strings.HasPrefix(p.Label, sharefs.RedoLabel) {
		return
	}
	for q := range o.all {
		if _, made := q.made[c.Parent]; made && q != p {
			o.list(q, OpChange{Verb: OpOthers, Ino: c.Ino, Parent: c.Parent, Name: c.Name})
		}
	}
}

// bornSince reports whether an inode was made since an operation began. The clock says so, but where it was set back since.
func (o *operations) bornSince(p *op, r *row) bool {
	born := timeOf(r.btime)
	if born.Before(p.began) {
		return false
	}
	if born.Before(p.last.Add(time.Second)) {
		return true
	}
	_, err := loadRow(o.t.db.At(p.ID), r.ino)
	return err != nil
}

// weigh counts something that an operation keeps in memory. o.mu is held.
func (o *operations) weigh(p *op) {
	p.weight++
	o.total++
}

// list adds a change to the list of an operation, if it is not there yet. o.mu is held.
func (o *operations) list(p *op, c OpChange) {
	if _, ok := p.seen[c]; ok {
		return
	}
	if len(p.changes)-p.dead >= opChanges || o.total >= opTotal {
		p.Partly = true
		return
	}
	o.weigh(p)
	p.seen[c] = struct{}{}
	if c.Verb == OpRemoved {
		p.removed[c.Parent] = append(p.removed[c.Parent], len(p.changes))
	}
	p.changes = append(p.changes, c)
}

// absorb drops the changes that the removal of a directory made needless: removals from it, for the state before the operation tells what it held.
// o.mu is held.
func (o *operations) absorb(p *op, c OpChange) {
	was, err := o.t.findDent(o.t.db.At(p.ID), c.Parent, c.Name)
	if err != nil || !was.found() {
		return // it was made by this operation, or comes from elsewhere
	}
	for _, i := range p.removed[was.ino] {
		if i < len(p.changes) && p.changes[i].Verb == OpRemoved && p.changes[i].Parent == was.ino {
			delete(p.seen, p.changes[i])
			p.changes[i] = OpChange{}
			p.dead++
		}
	}
	delete(p.removed, was.ino)
	if p.dead > 1000 && p.dead > len(p.changes)/2 {
		p.compact()
	}
}

// compact drops the changes that others made needless.
func (p *op) compact() {
	kept := p.changes[:0]
	clear(p.removed)
	for _, c := range p.changes {
		if c.Verb == 0 {
			continue
		}
		if c.Verb == OpRemoved {
			p.removed[c.Parent] = append(p.removed[c.Parent], len(kept))
		}
		kept = append(kept, c)
	}
	p.changes, p.dead = kept, 0
}

// watch waits for the version of a file that was written to. o.mu is held.
func (o *operations) watch(p *op, ino sharefs.Ino) {
	if r, err := o.t.row(ino); err != nil || !r.isRegular() {
		return
	}
	if _, ok := p.unrested[ino]; ok || len(p.unrested) >= opChanges || o.total >= opTotal {
		return
	}
	if p != o.unknown {
		o.weigh(p)
	}
	p.unrested[ino] = struct{}{}
	o.writing[ino] = append(o.writing[ino], p)
}

// within puts the time at which a file was closed, which is known to the millisecond, between the moments before the operations that wrote to it and
// the moment before the one that is about to.
func (o *operations) within(ino sharefs.Ino, at sharefs.HLC) sharefs.HLC {
	o.mu.Lock()
	defer o.mu.Unlock()
	if bound, ok := o.bound[ino]; ok {
		at = min(at, bound)
	}
	for _, p := range o.writing[ino] {
		at = max(at, p.ID+1)
	}
	return at
}

// rested tells that a file has come to rest, and the time of the version that it became; 0: it did not change. Tree.mu is held.
func (o *operations) rested(ino sharefs.Ino, at sharefs.HLC) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.writing[ino] {
		delete(p.unrested, ino)
		if at > p.After {
			p.After, p.dirty = at|0xffff, true
		}
	}
	delete(o.writing, ino)
}

// flush writes the rows of operations that go on. Tree.mu is held; the open instant is about to end at a reading.
func (o *operations) flush(at sharefs.HLC) error {
	var b kv.Batch
	o.mu.Lock()
	for p := range o.all {
		if !p.dirty {
			continue
		}
		p.dirty, p.written = false, true
		p.After = max(p.After, at|0xffff)
		b.Put(spaceOp, opKey(p.ID, 0), p.encode())
	}
	o.mu.Unlock()
	return o.commit(&b)
}

// commit writes rows that are no change of the tree.
func (o *operations) commit(b *kv.Batch) error {
	if b.Len() == 0 {
		return nil
	}
	seq, err := o.t.db.Commit(b)
	if err != nil {
		return failed("write to the store", err)
	}
	o.t.lastSeq.Store(seq)
	return nil
}
