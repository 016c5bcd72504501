package replica

import (
	"errors"
	"strings"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// isLimbo tells names of what is put aside for a moment. Nobody writes them down.
func isLimbo(s converge.Slot) bool {
	return s.Parent == record.Root && strings.HasPrefix(s.Name, record.LimboName)
}

// Wanted lists up to some versions whose content is to be in the tree and is not all here, with keys that are here, except those that skip tells of. Whoever gathers it has
// Apply go on. Skip may be nil; it is called with a lock of the replica held. An error tells of one content of which it could not be found out; the list is of the others.
func (r *Replica) Wanted(most int, skip func(*record.Record) bool) (list []*record.Record, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	twice := map[record.ID]bool{}
	for key := range r.due {
		if len(list) >= most {
			break
		}
		n, shown := r.tree.Node(key)
		if !shown || n.Type != record.Regular || n.Live.IsZero() || twice[n.Live] {
			continue
		}
		twice[n.Live] = true
		rec := r.tree.Record(n.Live)
		v := rec.Body.(*record.Version)
		if e := r.files.Get(key.File); e != nil && r.holds(e, rec) || v.Key != (sharefs.KeyID{}) && !r.cfg.Keys.Has(v.Key) || skip != nil && skip(rec) {
			continue
		}
		here, e := r.cfg.Tree.Here(v)
		switch {
		case e != nil && err == nil:
			err = e
		case e == nil && !here:
			list = append(list, rec)
		}
	}
	return list, err
}

// holds reports whether the account says that a file has the content of a version.
func (r *Replica) holds(e *entry, rec *record.Record) bool {
	had := r.tree.Record(e.version)
	return had != nil && (had == rec || had.Body.(*record.Version).Content() == rec.Body.(*record.Version).Content())
}

// Apply does to the tree what the records say, as far as that is possible now, and returns how many names wait: for content, which Wanted tells of, for a file to come to
// rest, or for the author. What waits keeps nothing else back. An error tells of what failed beside that; then what failed waits too. While contents are made ready nothing else
// waits for that.
func (r *Replica) Apply() (waiting int, err error) {
	r.applying.Lock()
	defer r.applying.Unlock()
	p := plan{r: r, ready: map[record.ID]result{}}
	defer p.drop()
	for {
		list, err := p.round()
		if err != nil {
			return p.waiting, err
		}
		if len(list) == 0 {
			return p.waiting, p.err
		}
		p.stage(list)
	}
}

// Held returns the inode of the file that a version is one of; 0: there is none in the tree.
func (r *Replica) Held(v *record.Version) sharefs.Ino {
	if r.enter() != nil {
		return 0
	}
	defer r.mu.Unlock()
	if e := r.files.Get(v.File); e != nil {
		return e.ino
	}
	return 0
}

// overtaken reports whether an error says that something is gone since, or came since: the feed tells of that.
func overtaken(err error) bool {
	switch sharefs.KindOf(err) {
	case sharefs.KindAgain, sharefs.KindStale, sharefs.KindExist, sharefs.KindNotEmpty:
		return true
	}
	return false
}

var errAgain = error(sharefs.KindAgain)

// step carries out one operation. Ready is the content that it needs, if it needs any.
func (r *Replica) step(op *converge.Op, ready result) error {
	e := r.files.Get(op.Key.File)
	r.cfg.Tree.By(r.whose(op))
	switch op.Verb {
	case converge.Create:
		return r.create(op, e, ready)
	case converge.Conflicts:
		return nil
	}
	if e == nil {
		return errAgain
	}
	here, ok := e.names.Get(op.Key.Link)
	if !ok {
		return errAgain
	}
	switch op.Verb {
	case converge.Move:
		return r.move(op, e, here)
	case converge.Remove:
		return r.remove(e, op.Key.Link)
	case converge.Content:
		return r.content(op, e, ready)
	case converge.SetAttr:
		return r.setAttr(op, e)
	}
	return nil
}

// whose returns who wrote what leads to an operation, this host where that is not known, and by which decision that counts.
func (r *Replica) whose(op *converge.Op) (author sharefs.PeerID, of *Decision) {
	var rec *record.Record
	switch op.Verb {
	case converge.Content:
		rec = r.tree.Record(op.Node.Live)
	case converge.SetAttr:
		rec = r.tree.Record(op.Node.Attr)
	default:
		rec = r.last.Get(op.Key)
	}
	if rec == nil {
		return r.cfg.Self, nil
	}
	return rec.Author, r.decided[rec.ID()]
}

// place returns where in the tree a slot is.
func (r *Replica) place(to converge.Slot) (dir sharefs.Ino, name string, err error) {
	if to.Parent == converge.Limbo {
		return sharefs.RootIno, record.LimboName + to.Name, nil
	}
	e := r.files.Get(to.Parent)
	if e == nil {
		return 0, "", errAgain
	}
	return e.ino, to.Name, nil
}

// entered says that a name is in the tree.
func (r *Replica) entered(e *entry, link uint64, dir sharefs.Ino, name string) error {
	d, ok, err := r.cfg.Tree.Slot(dir, name)
	if err != nil {
		return err
	}
	if !ok || d.Ino != e.ino { // somebody has removed it since, or renamed it: the author comes to see which
		r.loosen(converge.Key{File: e.id, Link: link})
		return errAgain
	}
	r.account.name(e, link, spot{slot{dir, d.Cookie}, name})
	return nil
}

// there is what the account says of a name that is to go.
func (r *Replica) there(key converge.Key) (Name, *entry, error) {
	e := r.files.Get(key.File)
	if e == nil {
		return Name{}, nil, errAgain
	}
	s, ok := e.names.Get(key.Link)
	if !ok {
		return Name{}, nil, errAgain
	}
	return Name{s.dir, s.name, e.ino, e.own}, e, nil
}

func (r *Replica) create(op *converge.Op, e *entry, ready result) error {
	dir, name, err := r.place(op.To)
	if err != nil {
		return err
	}
	var gives *Name // who has the name until the file is made
	if op.Over != nil {
		here, over, err := r.there(*op.Over)
		if err != nil {
			return err
		}
		if e == nil && over.typ != record.Directory && op.Node.Type != record.Directory && here.Parent == dir && here.Name == name {
			gives = &here
		} else if err := r.remove(over, op.Over.Link); err != nil {
			return err
		} else if over == e {
			e = r.files.Get(op.Key.File)
		}
	}
	if e != nil && e.names.Len() == 0 {
		switch alive, err := r.links(e.ino); {
		case err != nil:
			return err
		case alive == 0: // made, and removed before the account knew its name
			r.release(e)
			if e = r.files.Get(op.Key.File); e != nil {
				return errAgain
			}
		}
	}
	if e != nil && e.typ == record.Directory {
		return errAgain // it has a name, which is still to be told
	}
	if e != nil && e.typ != op.Node.Type {
		return errAgain // it was another thing until now, and has names of which some are still to go
	}
	if e != nil {
		if err := r.cfg.Tree.Link(e.ino, dir, name); err != nil {
			return err
		}
		return r.entered(e, op.Key.Link, dir, name)
	}
	content := ready.content
	if at, _ := r.mtime(op.Node.Live, record.ID{}); content != nil && at != ready.at {
		return errAgain // it was readied for the file that was there then
	}
	n := New{ID: op.Key.File, Type: op.Node.Type, Mode: plainMode(op.Node.Type), Content: content, Over: gives}
	if rec := r.tree.Record(op.Node.Attr); rec != nil {
		n.Mode = rec.Body.(*record.Attr).Mode
	}
	if n.Type == record.Symlink {
		rec := r.tree.Record(op.Node.Live)
		if rec == nil { // it was another thing until now, and nobody has said where it leads
			return errAgain
		}
		n.Target = rec.Body.(*record.Version).Target
	}
	ino, err := r.cfg.Tree.Put(dir, name, n)
	if err != nil {
		return err
	}
	if gives != nil {
		r.lose(r.files.Get(op.Over.File), op.Over.Link)
	}
	e = r.bind(n.ID, ino, n.Type)
	if n.Target != "" || content != nil {
		e.version = op.Node.Live
		if content != nil {
			e.own = 1
		}
		r.saveEntry(e)
	}
	return r.entered(e, op.Key.Link, dir, name)
}

func (r *Replica) move(op *converge.Op, e *entry, here spot) error {
	dir, name, err := r.place(op.To)
	if err != nil {
		return err
	}
	from, to := Name{here.dir, here.name, e.ino, e.own}, Name{Parent: dir, Name: name}
	if op.Over != nil {
		var over *entry
		if to, over, err = r.there(*op.Over); err != nil {
			return err
		}
		if over == e { // rename(2) leaves two names of one file alone
			if err := r.cfg.Tree.Take(from); err != nil {
				return err
			}
			r.unname(e, op.Over.Link)
			return r.entered(e, op.Key.Link, dir, name)
		}
	}
	if err := r.cfg.Tree.Pass(from, to); err != nil {
		return err
	}
	if op.Over != nil {
		r.lose(r.files.Get(op.Over.File), op.Over.Link)
	}
	return r.entered(e, op.Key.Link, dir, name)
}

func (r *Replica) remove(e *entry, link uint64) error {
	n, _, err := r.there(converge.Key{File: e.id, Link: link})
	if err != nil {
		return err
	}
	if err := r.cfg.Tree.Take(n); err != nil {
		return err
	}
	r.lose(e, link)
	return nil
}

func (r *Replica) content(op *converge.Op, e *entry, ready result) error {
	rec := r.tree.Record(op.Node.Live)
	if rec == nil || e.version == op.Node.Live {
		return nil
	}
	if !r.holds(e, rec) {
		if e.typ == record.Symlink {
			if err := r.cfg.Tree.Retarget(e.ino, rec.Body.(*record.Version).Target); err != nil {
				return err
			}
			e.version = op.Node.Live
			r.saveEntry(e)
			return nil
		}
		if at, _ := r.mtime(op.Node.Live, e.attr); ready.content == nil || at != ready.at {
			return errAgain
		}
		own, err := r.cfg.Tree.Adopt(e.ino, ready.content, e.own)
		if err != nil {
			return err
		}
		e.own = own
	} else if err := r.retime(e, op.Node.Live, e.attr, false); err != nil {
		return err
	}
	e.version = op.Node.Live
	r.saveEntry(e)
	return nil
}

func (r *Replica) setAttr(op *converge.Op, e *entry) error {
	rec := r.tree.Record(op.Node.Attr)
	if rec == nil || e.attr == op.Node.Attr || e.typ == record.Symlink {
		return nil
	}
	a := rec.Body.(*record.Attr)
	if err := r.cfg.Tree.SetMode(e.ino, a.Mode); err != nil {
		return err
	}
	if err := r.cfg.Tree.SetXattrs(e.ino, a.Xattrs); err != nil && !errors.Is(err, sharefs.KindNotSupported) {
		return err
	}
	if err := r.retime(e, e.version, op.Node.Attr, !op.Node.Live.IsZero() && e.version != op.Node.Live); err != nil {
		return err
	}
	e.attr = op.Node.Attr
	r.saveEntry(e)
	return nil
}
