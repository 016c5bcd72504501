package replica

import (
	"encoding/binary"
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/few"
	"sharefs/peers/index"
	"sharefs/peers/record"
)

// entry is a file of which something is in the tree.
type entry struct {
	id      sharefs.FileID
	ino     sharefs.Ino
	typ     record.Type
	attr    record.ID             // what the account says of its attributes
	version record.ID             // and of its content
	own     uint64                // the number of the tree's version that this is
	names   few.Map[uint64, spot] // by link
	loose   []uint64              // links of names that are gone while the inode has others of which nobody told yet
}

func newEntry(id sharefs.FileID, ino sharefs.Ino, typ record.Type) *entry {
	return &entry{id: id, ino: ino, typ: typ}
}

// spot is where a name is in the tree.
type spot struct {
	slot
	name string
}

type slot struct {
	dir    sharefs.Ino
	cookie uint64
}

// account is what of the tree is written down.
type account struct {
	files index.Index[sharefs.FileID, entry]
	inos  index.Index[sharefs.Ino, entry]
	slots map[slot]converge.Key
	loose map[converge.Key]bool // of all files
	world *converge.World       // the same as a tree
	// Directories of which nobody has told yet where they are, while something was told that is in them.
	nameless map[sharefs.Ino]bool
	rows     []Row // what is to be on disk
	// What a process was about to make that ended meanwhile, and of which the author has not come to see what became; see made.go.
	unsure map[sharefs.FileID]making
	ahead  bool // some of the rows tell of the tree what may not be on disk there
}

func newAccount() account {
	a := account{
		files: index.New(func(e *entry) sharefs.FileID { return e.id }), inos: index.New(func(e *entry) sharefs.Ino { return e.ino }),
		slots: map[slot]converge.Key{}, loose: map[converge.Key]bool{}, world: converge.NewWorld(), unsure: map[sharefs.FileID]making{},
		nameless: map[sharefs.Ino]bool{},
	}
	a.enrol(newEntry(record.Root, sharefs.RootIno, record.Directory))
	return a
}

// enrol files an entry.
func (a *account) enrol(e *entry) {
	a.files.Put(e)
	a.inos.Put(e)
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func (s slot) key() []byte { return binary.BigEndian.AppendUint64(u64(uint64(s.dir)), s.cookie) }

func keyRow(k converge.Key) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), k.File[:]...), k.Link)
}

func (a *account) put(space uint8, key, value []byte) {
	a.tells(space)
	if value == nil {
		value = []byte{}
	}
	a.rows = append(a.rows, Row{space, key, value})
}

func (a *account) drop(space uint8, key []byte) {
	a.tells(space)
	a.rows = append(a.rows, Row{Space: space, Key: key})
}

// tells notes that a row tells of the tree.
func (a *account) tells(space uint8) {
	a.ahead = a.ahead || space == spaceName || space == spaceInode || space == spaceLoose
}

// bind says which inode a file is.
func (a *account) bind(id sharefs.FileID, ino sharefs.Ino, typ record.Type) *entry {
	e := newEntry(id, ino, typ)
	a.enrol(e)
	if _, made := a.unsure[id]; made {
		delete(a.unsure, id)
		a.drop(spaceMaking, id[:])
	}
	a.saveEntry(e)
	return e
}

// rebind says that another inode is the file from now on.
func (a *account) rebind(e *entry, ino sharefs.Ino) {
	a.inos.Delete(e.ino)
	a.drop(spaceInode, u64(uint64(e.ino)))
	e.ino, e.own = ino, 0
	a.inos.Put(e)
	a.saveEntry(e)
}

// saveEntry notes what is known of a file, in all its names.
func (a *account) saveEntry(e *entry) {
	b := append([]byte(nil), e.id[:]...)
	b = append(b, byte(e.typ))
	b = append(b, e.attr[:]...)
	b = append(b, e.version[:]...)
	a.put(spaceInode, u64(uint64(e.ino)), binary.BigEndian.AppendUint64(b, e.own))
	for link := range e.names.Keys() {
		if n, ok := a.world.Node(converge.Key{File: e.id, Link: link}); ok {
			n.Live, n.Attr = e.version, e.attr
			a.world.Set(n)
		}
	}
}

// name says that a name of a file is in a slot, and in no other. What the account had there is loose: somebody took it away, and nobody told of it yet.
func (a *account) name(e *entry, link uint64, s spot) {
	key := converge.Key{File: e.id, Link: link}
	if other, taken := a.slots[s.slot]; taken && other != key {
		a.loosen(other)
	}
	if old, ok := e.names.Get(link); ok && old.slot != s.slot && a.slots[old.slot] == key {
		delete(a.slots, old.slot)
		a.drop(spaceName, old.key())
	}
	a.fasten(e, key)
	e.names.Set(link, s)
	a.slots[s.slot] = key
	a.put(spaceName, s.key(), append(keyRow(key), s.name...))
}

// unname says that a file does not have a name any more.
func (a *account) unname(e *entry, link uint64) {
	key := converge.Key{File: e.id, Link: link}
	if old, ok := e.names.Get(link); ok && a.slots[old.slot] == key {
		delete(a.slots, old.slot)
		a.drop(spaceName, old.key())
	}
	e.names.Delete(link)
	a.fasten(e, key)
}

// lose says that a file does not have a name any more, and forgets the file if that was the last.
func (a *account) lose(e *entry, link uint64) {
	a.unname(e, link)
	a.release(e)
}

// fasten says that a name is loose no more.
func (a *account) fasten(e *entry, key converge.Key) {
	if i := slices.Index(e.loose, key.Link); i >= 0 {
		e.loose = slices.Delete(e.loose, i, i+1)
		delete(a.loose, key)
		a.drop(spaceLoose, keyRow(key))
	}
}

// loosen says that a name is not where it was, and nobody knows yet where it went.
func (a *account) loosen(key converge.Key) {
	e := a.files.Get(key.File)
	a.unname(e, key.Link)
	a.world.Remove(key)
	a.loose[key], e.loose = true, append(e.loose, key.Link)
	a.put(spaceLoose, keyRow(key), nil)
}

// release forgets a file of which nothing is in the tree.
func (a *account) release(e *entry) {
	if e.names.Len() > 0 || len(e.loose) > 0 || e.id == record.Root {
		return
	}
	a.files.Delete(e.id)
	a.inos.Delete(e.ino)
	a.drop(spaceInode, u64(uint64(e.ino)))
}

// isNameless reports whether an entry is a directory of which nobody has told yet where it is.
func (e *entry) isNameless() bool {
	return e.typ == record.Directory && e.names.Len() == 0 && len(e.loose) == 0 && e.id != record.Root
}

// isBelowNameless reports whether a name of a file is below such a directory.
func (a *account) isBelowNameless(e *entry, link uint64) bool {
	for range a.files.Len() {
		s, ok := e.names.Get(link)
		if e = a.inos.Get(s.dir); !ok || e == nil {
			return false
		}
		if e.isNameless() {
			return true
		}
		link = 0
	}
	return false
}

// node is a name as the account has it.
func (a *account) node(e *entry, link uint64) (converge.Node, bool) {
	s, _ := e.names.Get(link)
	dir := a.inos.Get(s.dir)
	if dir == nil {
		return converge.Node{}, false
	}
	return converge.Node{Key: converge.Key{File: e.id, Link: link}, Type: e.typ, Slot: converge.Slot{Parent: dir.id, Name: s.name}, Live: e.version, Attr: e.attr}, true
}

// show makes the world say what the account does of a name.
func (a *account) show(e *entry, link uint64) {
	if n, ok := a.node(e, link); ok {
		if old, ok := a.world.Node(n.Key); ok {
			n.Merged, n.Conflicts = old.Merged, old.Conflicts
		}
		a.world.Set(n)
	}
}

// remake makes the world say what the account does of some names.
func (a *account) remake(keys map[converge.Key]bool) {
	for key := range keys {
		a.world.Remove(key)
	}
	for key := range keys {
		if e := a.files.Get(key.File); e != nil {
			if e.names.Has(key.Link) {
				a.show(e, key.Link)
			}
		}
	}
}

// load reads the account.
func (a *account) load(db Store) error {
	bad := false
	err := db.Scan(spaceInode, nil, nil, func(k, v []byte) bool {
		if len(k) != 8 || len(v) != 16+1+32+32+8 {
			bad = true
			return false
		}
		e := newEntry(sharefs.FileID(v[:16]), sharefs.Ino(binary.BigEndian.Uint64(k)), record.Type(v[16]))
		e.attr, e.version, e.own = record.ID(v[17:49]), record.ID(v[49:81]), binary.BigEndian.Uint64(v[81:])
		a.enrol(e)
		return true
	})
	if err == nil && !bad {
		err = db.Scan(spaceName, nil, nil, func(k, v []byte) bool {
			if len(k) != 16 || len(v) < 24 || a.files.Get(sharefs.FileID(v[:16])) == nil {
				bad = true
				return false
			}
			key := converge.Key{File: sharefs.FileID(v[:16]), Link: binary.BigEndian.Uint64(v[16:])}
			s := spot{slot{sharefs.Ino(binary.BigEndian.Uint64(k)), binary.BigEndian.Uint64(k[8:])}, string(v[24:])}
			a.files.Get(key.File).names.Set(key.Link, s)
			a.slots[s.slot] = key
			return true
		})
	}
	if err == nil && !bad {
		err = db.Scan(spaceLoose, nil, nil, func(k, _ []byte) bool {
			if len(k) != 24 || a.files.Get(sharefs.FileID(k[:16])) == nil {
				bad = true
				return false
			}
			key := converge.Key{File: sharefs.FileID(k[:16]), Link: binary.BigEndian.Uint64(k[16:])}
			e := a.files.Get(key.File)
			a.loose[key], e.loose = true, append(e.loose, key.Link)
			return true
		})
	}
	if err == nil && !bad {
		err = db.Scan(spaceMaking, nil, nil, func(k, v []byte) bool {
			var m making
			if m, bad = decodeMaking(v); len(k) != 16 {
				bad = true
			}
			if !bad {
				a.unsure[sharefs.FileID(k)] = m
			}
			return !bad
		})
	}
	if err == nil && bad {
		err = damaged("account")
	}
	for e := range a.files.All() {
		for link := range e.names.Keys() {
			a.show(e, link)
		}
		if e.isNameless() {
			a.nameless[e.ino] = true
		}
	}
	return err
}

func damaged(what string) error {
	return &sharefs.Error{Op: "open the records of peers", Kind: sharefs.KindCorrupt, Detail: "a row of the " + what + " is damaged"}
}
