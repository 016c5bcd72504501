// Package host brings a replica together with the tree and the database that it works on.
package host

import (
	"errors"
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/versions"
	"sharefs/versions/kv"
)

// Tree is a tree as a replica needs it. What a peer's file is made as belongs to Owner.
type Tree struct {
	*versions.Tree
	Owner versions.Caller
	// Absence says which contents stay elsewhere; nil: none.
	Absence *Absence
	// Cause is what the changes come from that are made at present, so that they are operations of that; nil: they are noted nowhere.
	Cause *versions.Cause
}

// By implements [replica.Tree].
func (t Tree) By(author sharefs.PeerID, of *replica.Decision) {
	if t.Cause == nil {
		return
	}
	*t.Cause = versions.Cause{Author: author}
	if of != nil {
		t.Cause.Decision, t.Cause.Command = of.Number, "sharefs "+of.Command
	}
}

// operate begins a change.
func (t Tree) operate() versions.Op {
	if t.Cause == nil {
		return versions.Op{}
	}
	return t.OperateFor(*t.Cause, t.Owner.UID)
}

// Follow implements [replica.Tree].
func (t Tree) Follow() (before bool, err error) { return t.Tree.Followed(), t.Tree.Follow(true) }

// Changes implements [replica.Tree].
func (t Tree) Changes(after replica.Mark, max int) ([]replica.Mark, error) {
	list, err := t.Tree.Changes(versions.Change(after), max)
	return marks(list), err
}

// Everything implements [replica.Tree].
func (t Tree) Everything(after replica.Mark, max int) ([]replica.Mark, error) {
	list, err := t.Tree.Everything(versions.Change(after), max)
	return marks(list), err
}

func marks(list []versions.Change) []replica.Mark {
	all := make([]replica.Mark, len(list))
	for i, c := range list {
		all[i] = replica.Mark(c)
	}
	return all
}

// Dealt implements [replica.Tree].
func (t Tree) Dealt(list []replica.Mark) error { return t.Tree.Dealt(changes(list)) }

// Mark implements [replica.Tree].
func (t Tree) Mark(list []replica.Mark) error { return t.Tree.Mark(changes(list)) }

func changes(list []replica.Mark) []versions.Change {
	all := make([]versions.Change, len(list))
	for i, m := range list {
		all[i] = versions.Change(m)
	}
	return all
}

// Sync implements [replica.Tree].
func (t Tree) Sync() error { return t.SyncNames() }

// ownXattrs begins the names of the mount's own extended attributes. Those that are kept with a file are rules of this host, as how long its past is kept, and no other host sets them.
const ownXattrs = "user.sharefs."

// travels reports whether an extended attribute is told to other hosts, and taken from them.
func travels(name string) bool {
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, ownXattrs)
}

// Xattrs implements [replica.Tree].
func (t Tree) Xattrs(ino sharefs.Ino) (all []record.Xattr, err error) {
	names, err := t.Listxattr(ino)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		if !travels(name) {
			continue
		}
		value, err := t.Getxattr(ino, name)
		if errors.Is(err, sharefs.KindNoAttr) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, record.Xattr{Name: name, Value: string(value)})
	}
	return all, nil
}

// Latest implements [replica.Tree].
func (t Tree) Latest(ino sharefs.Ino) (own uint64, v *record.Version, err error) {
	l, err := t.Tree.Latest(ino)
	if err != nil || !l.Kept || l.Torn {
		return l.Own, nil, err
	}
	return l.Own, versionOf(&l.Content), nil
}

func versionOf(c *versions.Content) *record.Version {
	v := &record.Version{Size: c.Size, Mtime: c.Mtime, Level: c.Level, Key: c.Key}
	for _, s := range c.Spans {
		v.Spans = append(v.Spans, record.Span(s))
	}
	return v
}

// Between implements [replica.Tree].
func (t Tree) Between(ino sharefs.Ino, after, before uint64, most int) ([]*record.Version, error) {
	list, err := t.Tree.Between(ino, after, before, most)
	all := make([]*record.Version, len(list))
	for i := range list {
		all[i] = versionOf(&list[i])
	}
	return all, err
}

// Put implements [replica.Tree].
func (t Tree) Put(dir sharefs.Ino, name string, n replica.New) (sharefs.Ino, error) {
	v := versions.New{ID: n.ID, Target: n.Target}
	switch n.Type {
	case record.Directory:
		v.Mode = sharefs.ModeDir | uint32(n.Mode)
	case record.Regular:
		v.Mode = sharefs.ModeRegular | uint32(n.Mode)
	case record.Symlink:
		v.Mode = sharefs.ModeSymlink | 0o777
	}
	if n.Content != nil {
		v.Staged = stagedOf(n.Content)
	}
	var noted []versions.OpChange
	if n.Over != nil {
		v.Over = (*versions.Name)(n.Over)
		noted = append(noted, versions.OpChange{Verb: versions.OpRemoved, Parent: dir, Name: name})
	}
	op := t.operate()
	a, err := t.Tree.Put(dir, name, v, t.Owner)
	op.End(err, append(noted, versions.OpChange{Verb: versions.OpMade, Ino: a.Ino, Parent: dir, Name: name, Dir: n.Type == record.Directory})...)
	return a.Ino, err
}

// Link implements [replica.Tree].
func (t Tree) Link(ino, dir sharefs.Ino, name string) error {
	op := t.operate()
	err := t.PutLink(ino, dir, name)
	op.End(err, versions.OpChange{Verb: versions.OpLinked, Ino: ino, Parent: dir, Name: name})
	if errors.Is(err, sharefs.KindStale) || errors.Is(err, sharefs.KindNotExist) {
		return &sharefs.Error{Op: "link", Kind: sharefs.KindAgain, Err: err}
	}
	return err
}

// Take implements [replica.Tree].
func (t Tree) Take(n replica.Name) error {
	a, err := t.Getattr(n.Ino)
	if err != nil {
		return &sharefs.Error{Op: "remove", Kind: sharefs.KindAgain, Err: err}
	}
	op := t.operate()
	err = t.Tree.Take(versions.Name(n))
	op.End(err, versions.OpChange{Verb: versions.OpRemoved, Parent: n.Parent, Name: n.Name, Dir: a.IsDir()})
	return err
}

// Pass implements [replica.Tree].
func (t Tree) Pass(from, to replica.Name) error {
	op := t.operate()
	err := t.Tree.Pass(versions.Name(from), versions.Name(to))
	op.End(err, versions.OpChange{Verb: versions.OpRenamedFrom, Parent: from.Parent, Name: from.Name}, versions.OpChange{Verb: versions.OpRenamedTo, Parent: to.Parent, Name: to.Name})
	return err
}

// Retarget implements [replica.Tree].
func (t Tree) Retarget(ino sharefs.Ino, target string) error {
	op := t.operate()
	err := t.Tree.Retarget(ino, target)
	op.End(err, versions.OpChange{Verb: versions.OpWritten, Ino: ino})
	return err
}

// SetMode implements [replica.Tree].
func (t Tree) SetMode(ino sharefs.Ino, mode uint16) error {
	m := uint32(mode)
	if a, err := t.Getattr(ino); err == nil && a.Mode&sharefs.ModePerm == m {
		return nil
	}
	op := t.operate()
	err := t.PutMode(ino, m, t.Owner)
	op.End(err, versions.OpChange{Verb: versions.OpAttributes, Ino: ino})
	return err
}

// SetMtime implements [replica.Tree].
func (t Tree) SetMtime(ino sharefs.Ino, at sharefs.Time, base uint64) error {
	op := t.operate()
	err := t.Tree.SetMtime(ino, at, base)
	op.End(err, versions.OpChange{Verb: versions.OpAttributes, Ino: ino})
	return err
}

// SetXattrs implements [replica.Tree].
func (t Tree) SetXattrs(ino sharefs.Ino, all []record.Xattr) error {
	have, err := t.Xattrs(ino)
	if err != nil {
		return err
	}
	for _, x := range have {
		if !slices.ContainsFunc(all, func(o record.Xattr) bool { return o.Name == x.Name }) {
			op := t.operate()
			err := t.Removexattr(ino, x.Name)
			op.End(err, versions.OpChange{Verb: versions.OpAttributes, Ino: ino})
			if err != nil {
				return err
			}
		}
	}
	for _, x := range all {
		if slices.Contains(have, x) || !travels(x.Name) {
			continue
		}
		op := t.operate()
		err := t.Setxattr(ino, x.Name, []byte(x.Value), 0)
		op.End(err, versions.OpChange{Verb: versions.OpAttributes, Ino: ino})
		if err != nil {
			return err
		}
	}
	return nil
}

// Contents returns the contents of versions, for [versions.Tree.Gather].
func Contents(list []*record.Record) []versions.Content {
	all := make([]versions.Content, len(list))
	for i, rec := range list {
		all[i] = content(rec.Body.(*record.Version))
	}
	return all
}

func content(v *record.Version) versions.Content {
	c := versions.Content{Size: v.Size, Mtime: v.Mtime, Level: v.Level, Key: v.Key}
	for _, s := range v.Spans {
		c.Spans = append(c.Spans, versions.Span(s))
	}
	return c
}

// Keys are the share keys of a tree, as a replica needs them.
type Keys struct{ Tree *versions.Tree }

// Share implements [replica.Keys].
func (k Keys) Share() record.ShareID { return record.ShareID(k.Tree.Keys().Use().Share) }

// Takes implements [replica.Keys].
func (k Keys) Takes(share record.ShareID) bool {
	return slices.Contains(k.Tree.Keys().Shares(), sharefs.KeyID(share))
}

// Has implements [replica.Keys].
func (k Keys) Has(key sharefs.KeyID) bool {
	_, ok := k.Tree.Keys().ByID(key)
	return ok
}

// Store is a database of rows as a replica needs it.
type Store struct{ DB *kv.DB }

// OpenStore opens the database of a replica in a directory, which must exist.
func OpenStore(dir string) (Store, error) {
	defs := make([]kv.SpaceDef, len(replica.Spaces))
	for i, name := range replica.Spaces {
		defs[i] = kv.SpaceDef{ID: uint8(i + 1), Name: name}
	}
	db, err := kv.Open(kv.Config{Dir: dir, Spaces: defs, Clock: &sharefs.Clock{}})
	return Store{db}, err
}

// Get implements [replica.Store].
func (s Store) Get(space uint8, key []byte) ([]byte, bool, error) { return s.DB.Get(space, key) }

// Scan implements [replica.Store].
func (s Store) Scan(space uint8, from, to []byte, fn func(key, value []byte) bool) error {
	return s.DB.Scan(space, from, to, fn)
}

// Commit implements [replica.Store].
func (s Store) Commit(rows []replica.Row) error {
	var b kv.Batch
	for _, row := range rows {
		if row.Value == nil {
			b.Delete(row.Space, row.Key)
		} else {
			b.Put(row.Space, row.Key, row.Value)
		}
	}
	_, err := s.DB.Commit(&b)
	return err
}

// Sync implements [replica.Store].
func (s Store) Sync() error { return s.DB.Sync() }

// Close closes the database.
func (s Store) Close() error { return s.DB.Close() }
