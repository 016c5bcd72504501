package replica

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// authorPiece is how many marks are dealt with at a time, in one commit.
const authorPiece = 1024

// came is a name in the tree that the account does not have.
type came struct {
	slot
	sharefs.Dentry
}

// Author writes down what changed in the tree, the first time all of it, and returns how many records that took. They survive power loss when it returns. A part after the other is
// written, and [Config.Wrote] told of each, so that others need not wait for all of a large tree.
func (r *Replica) Author() (n int, err error) {
	r.authoring.Lock()
	defer r.authoring.Unlock()
	var after Mark
	for more := true; more && err == nil; {
		var m int
		m, more, err = r.authorPart(&after)
		if n += m; m > 0 && r.cfg.Wrote != nil {
			r.cfg.Wrote()
		}
	}
	return n, err
}

// authorPart writes down a part: of all of the tree, until it was looked at, then of what changed behind a mark.
func (r *Replica) authorPart(after *Mark) (n int, more bool, err error) {
	if err := r.enter(); err != nil {
		return 0, false, err
	}
	defer r.mu.Unlock()
	if r.lost && !r.heard {
		return 0, false, &sharefs.Error{Op: "write down what changed", Kind: sharefs.KindUnreachable,
			Detail: "the records of peers were lost: this host tells nothing before it has heard one of its peers, or files that others removed since would come back"}
	}
	if !r.walked {
		for whole := r.lost; ; { // then at once: what was said of it once is looked up as it was at the beginning
			m, err := r.walkPart()
			if n += m; err != nil || !whole || r.walked {
				return n, true, err
			}
		}
	}
	list, err := r.cfg.Tree.Changes(*after, authorPiece)
	if *after == (Mark{}) {
		r.unread, r.hidden = nil, false // what is so still has its marks
	}
	if err == nil && len(list) == 0 {
		r.unseen = false
		if len(r.unread) == 0 && !r.hidden { // or it may be among what cannot be looked at
			err = r.madeNothing()
		}
	}
	if err != nil || len(list) == 0 && (*after != (Mark{}) || len(r.later)+len(r.loose) == 0) {
		return 0, false, err
	}
	n, err = r.piece(list)
	if err != nil || len(list) == 0 {
		return n, false, err
	}
	*after = list[len(list)-1]
	return n, true, r.cfg.Tree.Dealt(slices.DeleteFunc(list, r.stays))
}

// walkPart writes down a part of the whole tree. Where it ends before all is written it goes on the next time.
func (r *Replica) walkPart() (n int, err error) {
	list, err := r.cfg.Tree.Everything(r.walk, authorPiece)
	if err != nil {
		return 0, err
	}
	if len(list) > 0 {
		last := list[len(list)-1]
		last.Count = 0
		r.put(spaceGlobal, globalWalk, binary.BigEndian.AppendUint64(u64(uint64(last.Ino)), last.Cookie))
		if n, err = r.piece(list); err == nil {
			r.walk = last
		}
		return n, err
	}
	if r.lost {
		if n, err = r.alsoGone(); err != nil {
			r.broken = err
			return 0, err
		}
	}
	r.walked = true
	r.put(spaceGlobal, globalWalked, nil)
	r.ahead = true // that the tree is followed
	r.drop(spaceGlobal, globalWalk)
	if r.lost {
		r.lost, r.once = false, nil
		r.drop(spaceGlobal, globalLost)
	}
	return n, r.sync()
}

// Walking reports whether the tree has not been looked at as a whole yet.
func (r *Replica) Walking() (bool, error) {
	if err := r.enter(); err != nil {
		return false, err
	}
	defer r.mu.Unlock()
	return !r.walked, nil
}

// piece deals with some marks.
func (r *Replica) piece(list []Mark) (n int, err error) {
	r.blind = blind{map[sharefs.Ino]error{}, map[slot]bool{}, nil}
	err = r.compare(list)
	marks := r.blind.more
	if err == nil && !r.walked { // nothing has marked what is listed then
		marks = append(marks, slices.DeleteFunc(slices.Clone(list), func(m Mark) bool { return !r.stays(m) })...)
	}
	if err == nil && len(marks) > 0 {
		err = r.cfg.Tree.Mark(marks)
	}
	r.noteUnread()
	if err != nil { // what is in memory goes beyond what was compared: it has to be read anew
		r.broken = err
		return 0, err
	}
	// Neither may a peer have what this host does not, nor may a mark go before what it led to is safe.
	n = len(r.fresh)
	return n, r.sync()
}

// compare writes down what some marks lead to.
func (r *Replica) compare(list []Mark) error {
	var news []came
	for _, m := range list {
		if m.Cookie == 0 {
			if err := r.blind.pass(r.madeAndGone(m.Ino)); err != nil {
				return err
			}
			continue
		}
		at := slot{m.Ino, m.Cookie}
		c, err := r.slotChanged(at)
		if err := r.blind.passName(at, err); err != nil {
			return err
		}
		if c != nil {
			news = append(news, *c)
		}
	}
	clear(r.early)
	for _, c := range news {
		early, err := r.isEarly(&c)
		if err == nil && early {
			r.early[c.slot] = true
			continue
		}
		if err == nil {
			err = r.nameCame(c)
		}
		if _, said := r.slots[c.slot]; said && err != nil { // what the inode holds is not
			r.blind.more = append(r.blind.more, Mark{Ino: c.Ino})
			err = r.blind.pass(err)
		}
		if err := r.blind.passName(c.slot, err); err != nil {
			return err
		}
	}
	for _, m := range list {
		if e := r.inos.Get(m.Ino); m.Cookie == 0 && e != nil {
			if err := r.blind.pass(r.inode(e)); err != nil {
				return err
			}
		}
	}
	for _, ino := range slices.Sorted(maps.Keys(r.later)) {
		if e := r.inos.Get(ino); e == nil {
			delete(r.later, ino)
		} else if err := r.blind.pass(r.inode(e)); err != nil {
			return err
		} else if r.blind.inos[ino] != nil {
			r.later[ino] = true
		}
	}
	for _, key := range sortedKeys(r.loose) {
		if err := r.blind.pass(r.nameGone(key)); err != nil {
			return err
		}
	}
	r.tellLater()
	return nil
}

func sortedKeys(m map[converge.Key]bool) []converge.Key {
	all := make([]converge.Key, 0, len(m))
	for key := range m {
		all = append(all, key)
	}
	slices.SortFunc(all, converge.Key.Compare)
	return all
}

// slotChanged compares a slot with the account. What it had is loose if it is not there any more; what it has is returned if that is new.
func (r *Replica) slotChanged(s slot) (*came, error) {
	d, there, err := r.cfg.Tree.NameAt(s.dir, s.cookie)
	if err != nil {
		return nil, err
	}
	key, had := r.slots[s]
	if there && typeOf(d.Type) == 0 {
		there = false
	}
	if had {
		e := r.files.Get(key.File)
		was, _ := e.names.Get(key.Link)
		if there && d.Ino == e.ino && d.Name == was.name {
			return nil, nil
		}
		if there && d.Name == was.name {
			if took, err := r.takeOver(e, d); err != nil || took {
				return nil, err
			}
		}
		r.due[key] = true
		r.loosen(key)
	}
	if !there {
		return nil, nil
	}
	return &came{s, d}, nil
}

// links returns how many names an inode has, 0 if there is none.
func (r *Replica) links(ino sharefs.Ino) (uint32, error) {
	a, err := r.cfg.Tree.Getattr(ino)
	if errors.Is(err, sharefs.KindStale) {
		return 0, nil
	}
	return a.Nlink, err
}

func typeOf(mode uint32) record.Type {
	switch mode & sharefs.ModeType {
	case sharefs.ModeDir:
		return record.Directory
	case sharefs.ModeRegular:
		return record.Regular
	case sharefs.ModeSymlink:
		return record.Symlink
	}
	return 0
}

// known returns the file that an inode is, which it may become just now; nil if it is gone.
func (r *Replica) known(ino sharefs.Ino, typ record.Type) (*entry, error) {
	if e := r.inos.Get(ino); e != nil {
		return e, nil
	}
	id, err := r.cfg.Tree.FileID(ino)
	if errors.Is(err, sharefs.KindStale) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if r.files.Get(id) != nil { // another inode has become that file
		if err := r.random(id[:]); err != nil {
			return nil, err
		}
	}
	return r.bind(id, ino, typ), nil
}

// isEarly reports whether a name is that of a new file which somebody writes still, or whose content cannot be told yet: its mark stays, so that others do not see it
// before it is whole.
func (r *Replica) isEarly(c *came) (bool, error) {
	if typeOf(c.Type) != record.Regular || r.inos.Get(c.Ino) != nil {
		return false, nil
	}
	a, err := r.cfg.Tree.Getattr(c.Ino)
	if errors.Is(err, sharefs.KindStale) || err == nil && a.Changing {
		return err == nil, nil
	}
	if err != nil {
		return false, err
	}
	own, v, err := r.cfg.Tree.Latest(c.Ino)
	return v == nil && (own > 0 || a.Size > 0), err
}

// nameCame writes down a name.
func (r *Replica) nameCame(c came) error {
	dir, err := r.known(c.dir, record.Directory)
	if err != nil || dir == nil {
		return err
	}
	if dir.isNameless() {
		r.nameless[dir.ino] = true
	}
	to := converge.Slot{Parent: dir.id, Name: c.Name}
	if r.lost {
		if was, err := r.wasThere(&c, to); err != nil || was {
			return err
		}
	}
	before := r.inos.Get(c.Ino)
	e, err := r.known(c.Ino, typeOf(c.Type))
	if err != nil || e == nil {
		return err
	}
	if before == nil && !r.placed[e.id] {
		r.began(e.id, r.cfg.Now())
	}
	first := e.names.Len() == 0 // of a directory that is known for what is in it already, the mark of what it is like may have gone by
	link, err := r.linkFor(e, to)
	if err != nil {
		return err
	}
	key := converge.Key{File: e.id, Link: link}
	r.leaves(e, link, to)
	r.name(e, link, spot{c.slot, c.Name})
	r.show(e, link)
	r.due[key] = true
	if node, shown := r.tree.Node(key); !isLimbo(to) && (!shown || node.Slot != to) {
		if err := r.sayPlace(e, key, dir, c.Name); err != nil {
			return err
		}
	}
	if first {
		return r.inode(e)
	}
	return nil
}

// sayPlace writes down where a file has one of its names.
func (r *Replica) sayPlace(e *entry, key converge.Key, dir *entry, name string) error {
	node, _ := r.tree.Node(key)
	var above []sharefs.HLC
	if e.typ == record.Directory {
		above = r.above(dir)
	}
	for _, key := range append([]converge.Key{key}, r.along(node.Merged)...) {
		if err := r.say(&record.Place{File: key.File, Link: key.Link, Type: e.typ, Parent: dir.id, Name: name}, append(above, r.lastAt(key))...); err != nil {
			return err
		}
	}
	return nil
}

// along lists those of some directories that go where another one goes with which they are one: all but those that stand by themselves here, as one that was made just now under the name that
// the other one had.
func (r *Replica) along(merged []sharefs.FileID) (keys []converge.Key) {
	for _, id := range merged {
		if e := r.files.Get(id); e == nil || e.names.Len() == 0 {
			keys = append(keys, converge.Key{File: id})
		}
	}
	return keys
}

// above returns the times of the placements of a directory and of all above it. What is put into it comes later, also after a clock went back: or in the order of all records it would
// lie in a directory that is not where it was seen, and what is no circle would be one.
func (r *Replica) above(dir *entry) (times []sharefs.HLC) {
	for range r.files.Len() {
		key := converge.Key{File: dir.id}
		times = append(times, r.lastAt(key))
		if n, ok := r.tree.Node(key); ok {
			for _, id := range n.Merged {
				times = append(times, r.lastAt(converge.Key{File: id}))
			}
		}
		s, ok := dir.names.Get(0)
		if dir = r.inos.Get(s.dir); !ok || dir == nil {
			break
		}
	}
	return times
}

func (r *Replica) lastAt(key converge.Key) sharefs.HLC {
	if rec := r.last.Get(key); rec != nil {
		return rec.HLC
	}
	return 0
}

// linkFor tells which of its names a file has in a slot where it had none: one that is gone elsewhere, or another one.
func (r *Replica) linkFor(e *entry, to converge.Slot) (uint64, error) {
	if e.typ == record.Directory {
		return 0, nil
	}
	if node, ok := r.tree.Lookup(to.Parent, to.Name); ok && node.Key.File == e.id {
		if !e.names.Has(node.Key.Link) {
			return node.Key.Link, nil
		}
	}
	if len(e.loose) > 0 {
		return slices.Min(e.loose), nil
	}
	for _, link := range slices.Sorted(e.names.Keys()) {
		s, _ := e.names.Get(link)
		d, there, err := r.cfg.Tree.NameAt(s.dir, s.cookie)
		if err != nil {
			return 0, err
		}
		if !there || d.Ino != e.ino || d.Name != s.name {
			return link, nil
		}
	}
	if !e.names.Has(0) {
		return 0, nil
	}
	for {
		var b [8]byte
		if err := r.random(b[:]); err != nil {
			return 0, err
		}
		link := binary.BigEndian.Uint64(b[:])
		if !e.names.Has(link) && link != 0 {
			return link, nil
		}
	}
}

// inode writes down what an inode is like and what it holds.
func (r *Replica) inode(e *entry) error { return r.inodeUnless(e, r.isPlain) }

// inodeUnless does so, but for what it is like where plain says so.
func (r *Replica) inodeUnless(e *entry, plain func(*entry, *record.Attr) bool) error {
	if e.id == record.Root {
		return nil
	}
	a, err := r.cfg.Tree.Getattr(e.ino)
	if errors.Is(err, sharefs.KindStale) || err == nil && a.Nlink == 0 {
		return nil // whoever took its last name sees to it
	}
	if err != nil {
		return err
	}
	if err := r.version(e); err != nil || e.typ == record.Symlink {
		return err
	}
	now, err := r.like(e, a.Mode)
	if err != nil || r.hasAttr(e, e.attr, now) || plain(e, now.Attr) {
		return err
	}
	for link := range e.names.Keys() {
		key := converge.Key{File: e.id, Link: link}
		node, ok := r.tree.Node(key)
		if ok && r.hasAttr(e, node.Attr, now) {
			e.attr = node.Attr
			r.saveEntry(e)
			return nil
		}
		if ok && r.isHalf(e, &node, now) {
			r.due[key] = true
			return nil
		}
	}
	before := []sharefs.HLC{r.attrs[e.id]}
	if rec := r.tree.Record(e.version); rec != nil && now.HasMtime {
		before = append(before, rec.HLC)
	}
	id, err := r.sayID(now.Attr, before...)
	if !id.IsZero() {
		e.attr = id
		r.saveEntry(e)
	}
	return err
}

// version writes down what a file holds.
func (r *Replica) version(e *entry) error {
	var own uint64
	var v *record.Version
	var beside []record.ID
	switch e.typ {
	case record.Regular:
		var err error
		if own, v, err = r.cfg.Tree.Latest(e.ino); err != nil {
			return err
		}
		if own == 0 && e.own == 0 && !e.version.IsZero() {
			if v, err = r.neverWritten(e.ino); err != nil {
				return err
			}
		} else if own == e.own {
			return nil
		}
		if beside, err = r.catchUp(e, own); err != nil || v == nil {
			return err
		}
	case record.Symlink:
		if !e.version.IsZero() {
			return nil
		}
		target, err := r.cfg.Tree.Readlink(e.ino)
		if err != nil {
			return err
		}
		v = &record.Version{Target: target}
	default:
		return nil
	}
	had := r.tree.Record(e.version)
	if had != nil && had.Body.(*record.Version).Content() == v.Content() || had == nil && e.typ == record.Regular && v.Size == 0 && r.isOfAnother(e) {
		if e.own != own {
			e.own = own
			r.saveEntry(e)
		}
		return nil
	}
	v.File = e.id
	id := record.ID{}
	if heads := r.tree.Heads(e.id); len(heads) > 0 && r.tree.Record(heads[0]).Body.(*record.Version).Content() == v.Content() {
		id = heads[0]
	} else if id = r.unlearned(e, v.Content(), true); id.IsZero() {
		v.Parents = r.parents(e, beside...)
		var err error
		if id, err = r.sayID(v, append(r.times(v.Parents), r.attrs[e.id])...); err != nil || id.IsZero() { // behind a time that was set
			return err
		}
	}
	e.version, e.own = id, own
	r.told[id] = true
	r.saveEntry(e)
	for link := range e.names.Keys() {
		r.due[converge.Key{File: e.id, Link: link}] = true
	}
	return nil
}

// parents lists the versions that one replaces which somebody makes here: the one that the file held, those that it held right before, and those in conflict with it that could be seen
// here, for writing to a file ends its conflict. Of several that hold the same one stands for all.
func (r *Replica) parents(e *entry, before ...record.ID) (ids []record.ID) {
	if e.version.IsZero() {
		return nil
	}
	ids = append(before[:min(len(before), record.MaxParents-1)], e.version)
	heads := r.tree.Heads(e.id)
	if len(heads) > 1 && heads[0] == e.version {
		for _, id := range heads[1:] {
			if r.told[id] && len(ids) < record.MaxParents {
				ids = append(ids, id)
			}
		}
	}
	if len(heads) > 1 || len(heads) == 1 && heads[0] != e.version {
		same := r.sameAs(ids)
		for _, id := range heads {
			if len(ids) < record.MaxParents && !slices.Contains(ids, id) && same(id) {
				ids = append(ids, id)
			}
		}
	}
	return r.cover(ids, record.MaxParents)
}

// neverWritten returns the content of an inode that took over a file and has no version, for nothing was written to it: it is empty. While somebody may write to it, that
// is looked at again later.
func (r *Replica) neverWritten(ino sharefs.Ino) (*record.Version, error) {
	delete(r.later, ino)
	a, err := r.cfg.Tree.Getattr(ino)
	switch {
	case errors.Is(err, sharefs.KindStale):
		return nil, nil
	case err != nil || a.Size > 0:
		return nil, err
	case a.Changing:
		r.later[ino] = true
		return nil, nil
	}
	return &record.Version{Mtime: a.Mtime}, nil
}

func (r *Replica) say(body record.Body, before ...sharefs.HLC) error {
	_, err := r.sayID(body, before...)
	return err
}

// sayID authors a record and returns its id; zero for what no record can say, which stays on this host.
func (r *Replica) sayID(body record.Body, before ...sharefs.HLC) (record.ID, error) {
	at := r.now()
	if r.asOf != 0 {
		at = min(at, r.asOf)
	}
	rec, err := record.New(record.ShareID(r.cfg.Keys.Share()), r.cfg.Self, record.After(at, before...), body)
	if err != nil {
		r.cfg.Log.Warn("something stays on this host", "err", err)
		return record.ID{}, nil
	}
	if err := rec.Sign(r.cfg.Key); err != nil {
		return record.ID{}, err
	}
	r.fresh = append(r.fresh, rec)
	r.isDecided(rec.ID())
	r.add(judged{rec, Merged}.inputs()...)
	return rec.ID(), r.lean(body)
}
