package versions

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/versions/kv"
)

// A file is *pinned* that is to be here always: it has XattrPin, or one of its names is in a directory that has it, or anywhere below one. So a name that comes to such a place is pinned there, whoever brought
// it, and one that leaves is not any more. Which files that are nobody has to look for: names that come and go are noted in the change by which they do (tx.notePins), and only where a directory comes under
// a pin or leaves it is all below it looked through once, in pieces, behind whoever did that.
//
// On disk (space pin, no value but where told): 1 byte kind, then numbers of 8 bytes each, big endian:
//
//	pinName: inode, directory, cookie: a name of a regular file that is in or below a pinned directory. Directory and cookie are 0 where the file itself has XattrPin
//	pinLook: directory: the names in it, and in the directories below, are to be noted as their place is now. The value is the cookie from which on that is still to be done, 8 bytes, big endian
//	pinLack: inode: it is absent, and pinned as far as was known
//
// A row of pinName whose name is gone, or whose directory is not below a pin any more, says nothing; so what a pin once made never keeps a file here. Whoever asks for what lacks drops rows of pinLack that are none.
const (
	pinName byte = 1
	pinLook byte = 2
	pinLack byte = 3
)

// globalPins is a row of the space global: there is or was something that has XattrPin. Its value says whether the space pin has what follows from that.
var (
	globalPins = []byte("pins")
	pinsWhole  = []byte{1}
	pinsToMake = []byte{0}
)

// XattrPin is the extended attribute by which a file, or all that is in a directory or below it, is to be here always. Its value is PinHere.
const XattrPin = "user.sharefs.pin"

// PinHere is the only value of XattrPin.
const PinHere = "here"

// CheckPin returns what is wrong with a value of XattrPin, an error of KindInvalid.
func CheckPin(value []byte) error {
	if string(value) == PinHere {
		return nil
	}
	return &sharefs.Error{Op: "set " + XattrPin, Kind: sharefs.KindInvalid, Detail: "the value is \"" + PinHere + "\"; remove the attribute to have the file be freed when room is wanted"}
}

// pins is what a tree knows of its pins beside the rows.
type pins struct {
	on    atomic.Bool   // there is or was a pin; changes with Tree.mu held
	wake  chan struct{} // 1 deep: a directory is to be looked through
	lacks chan struct{} // 1 deep: a pinned file may be absent that was not
	loose chan struct{} // 1 deep: a file may be freed that was not to be, or is gone
	count atomic.Uint64 // grows when something is pinned, or not any more

	mu     sync.Mutex    // guards looked; nothing is taken under it
	looked chan struct{} // closed, and replaced, when no directory is to be looked through
}

func pinKey(kind byte, numbers ...uint64) []byte {
	b := append(make([]byte, 0, 1+8*len(numbers)), kind)
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// pinRange returns the bounds of all rows of a kind, or of those of an inode.
func pinRange(kind byte, ino sharefs.Ino) (from, to []byte) {
	if ino == 0 {
		return []byte{kind}, []byte{kind + 1}
	}
	return pinKey(kind, uint64(ino)), pinKey(kind, uint64(ino)+1)
}

// pinInos calls fn for the inode of each row of a kind from one on, once for each, until it returns false.
func pinInos(v kv.View, kind byte, from sharefs.Ino, fn func(ino sharefs.Ino) bool) error {
	_, to := pinRange(kind, 0)
	var last sharefs.Ino
	return failed("read the pins", v.Scan(spacePin, pinKey(kind, uint64(from)), to, func(key, _ []byte) bool {
		ino := keyIno(key[1:])
		if ino == last {
			return true
		}
		last = ino
		return fn(ino)
	}))
}

// loadPins finds out whether there are pins, and makes the rows of the space pin from the attributes where they may not be whole.
func (t *Tree) loadPins() error {
	p := &t.pins
	p.wake, p.lacks, p.loose, p.looked = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	state, ok, err := t.db.Get(spaceGlobal, globalPins)
	if unknown := ok && string(state) != string(pinsWhole) || !ok && t.tracks.Load(); err == nil && unknown && !t.cfg.ReadOnly {
		ok, err = t.remakePins()
	}
	p.on.Store(ok)
	if ok {
		rouse(p.wake)
		rouse(p.lacks)
	}
	return failed("open the store", err)
}

// remakePins makes the space pin from the attributes that there are, and reports whether there are any. Nothing else may use the tree.
func (t *Tree) remakePins() (some bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.aside = true
	if err := t.db.Scan(spacePin, nil, nil, func(key, _ []byte) bool {
		x.b.Delete(spacePin, key)
		return true
	}); err != nil {
		return false, err
	}
	var bad error
	if err := errors.Join(t.db.Scan(spaceXattr, nil, nil, func(key, _ []byte) bool {
		if len(key) <= 8 || string(key[8:]) != XattrPin {
			return true
		}
		r, err := t.row(keyIno(key))
		if err == nil {
			some = true
			x.pin(r, true)
			if r.isRegular() && r.isAbsent() {
				x.lacks(r.ino)
			}
		} else if sharefs.KindOf(err) != sharefs.KindStale {
			bad = err
		}
		return bad == nil
	}), bad); err != nil {
		return false, err
	}
	if some || t.tracks.Load() {
		x.b.Put(spaceGlobal, globalPins, pinsWhole)
	} else {
		x.b.Delete(spaceGlobal, globalPins)
	}
	return some || t.tracks.Load(), x.commit()
}

// pin notes that an inode has XattrPin from now on, or not any more.
func (x *tx) pin(r *row, has bool) {
	t := x.t
	if has && !t.pins.on.Load() {
		x.b.Put(spaceGlobal, globalPins, pinsWhole)
		x.after(func(uint64) { t.pins.on.Store(true) })
	}
	x.after(func(uint64) { t.pins.count.Add(1) })
	switch key := pinKey(pinName, uint64(r.ino), 0, 0); {
	case r.isDir():
		x.lookThrough(r.ino)
	case r.isRegular() && has:
		x.b.Put(spacePin, key, nil)
		x.pinned = append(x.pinned, r.ino)
	case r.isRegular():
		x.b.Delete(spacePin, key)
		x.loosens()
	}
}

// pinAs pins an inode that is saved in the place of another one, if that one itself is pinned.
func (x *tx) pinAs(ino sharefs.Ino, old *row) error {
	has, err := x.t.hasPin(old)
	if err != nil || !has {
		return err
	}
	r, err := x.edit(ino)
	if err != nil {
		return err
	}
	if has, err = x.t.hasPin(r); err == nil && !has && r.isRegular() {
		x.putXattr(r, XattrPin, []byte(PinHere), false, true)
	}
	return err
}

// lookThrough has all names below a directory noted as their place is after the change.
func (x *tx) lookThrough(dir sharefs.Ino) {
	x.b.Put(spacePin, pinKey(pinLook, uint64(dir)), make([]byte, 8))
	x.after(func(uint64) { rouse(x.t.pins.wake) })
}

// hasPin reports whether an inode has XattrPin.
func (t *Tree) hasPin(r *row) (bool, error) {
	if r.xattrs == 0 {
		return false, nil
	}
	_, ok, err := t.db.Get(spaceXattr, xattrKey(r.ino, XattrPin))
	return ok, failed("read an extended attribute", err)
}

// belowPin reports whether a directory, or one that it is below, is pinned; row is how inodes are read.
func (t *Tree) belowPin(dir sharefs.Ino, row func(sharefs.Ino) (*row, error)) (bool, error) {
	for at := dir; ; {
		r, err := row(at)
		if sharefs.KindOf(err) == sharefs.KindStale {
			return false, nil // it is gone, and so is all in it
		}
		if err != nil {
			return false, err
		}
		if has, err := t.hasPin(r); err != nil || has || at == sharefs.RootIno {
			return has, err
		}
		at = r.parent
	}
}

// notePins adds to a change what it does to pins: of each name that comes or goes, of directories that change their place, and of files that become absent.
func (x *tx) notePins() error {
	t := x.t
	if !t.pins.on.Load() && len(x.pinned) == 0 {
		return nil
	}
	for i := range x.slots {
		if err := x.notePin(&x.slots[i]); err != nil {
			return err
		}
	}
	for _, r := range x.rows {
		if !r.isRegular() || !r.isAbsent() || r.nlink == 0 {
			continue
		}
		some := false
		for _, ino := range x.pinned {
			some = some || ino == r.ino
		}
		if !some {
			from, to := pinRange(pinName, r.ino)
			if err := t.db.Scan(spacePin, from, to, func(_, _ []byte) bool { some = true; return false }); err != nil {
				return failed("read the pins", err)
			}
		}
		if some {
			x.lacks(r.ino)
		}
	}
	for _, ino := range x.dead {
		for _, key := range [...][]byte{pinKey(pinName, uint64(ino), 0, 0), pinKey(pinLook, uint64(ino)), pinKey(pinLack, uint64(ino))} {
			if err := x.dropPin(key); err != nil {
				return err
			}
		}
	}
	return nil
}

// lacks notes that a pinned file is absent.
func (x *tx) lacks(ino sharefs.Ino) {
	x.b.Put(spacePin, pinKey(pinLack, uint64(ino)), nil)
	x.after(func(uint64) { rouse(x.t.pins.lacks) })
}

// loosens notes that something may be freed, or is gone.
func (x *tx) loosens() { x.after(func(uint64) { rouse(x.t.pins.loose) }) }

// dropPin removes a row if it is there.
func (x *tx) dropPin(key []byte) error {
	_, ok, err := x.t.db.Get(spacePin, key)
	if ok {
		x.b.Delete(spacePin, key)
		x.loosens()
	}
	return failed("read the pins", err)
}

// notePin is notePins of a name.
func (x *tx) notePin(s *slotChange) error {
	t := x.t
	var old dent
	key := dentryKey(s.id.parent, s.id.cookie)
	value, ok, err := t.db.Get(spaceDentry, key)
	if err == nil && ok {
		old, err = decodeDent(key, value)
	}
	if err != nil || old.ino == s.dent.ino {
		return failed("look up", err)
	}
	if old.ino != 0 && old.regular() {
		if err := x.dropPin(pinKey(pinName, uint64(old.ino), uint64(s.id.parent), s.id.cookie)); err != nil {
			return err
		}
	}
	if s.dent.ino == 0 || !s.dent.regular() && !s.dent.dir() {
		return nil
	}
	is, err := t.belowPin(s.id.parent, x.row)
	if err != nil {
		return err
	}
	if s.dent.regular() {
		if is {
			x.b.Put(spacePin, pinKey(pinName, uint64(s.dent.ino), uint64(s.id.parent), s.id.cookie), nil)
			x.pinned = append(x.pinned, s.dent.ino)
		}
		return nil
	}
	before, err := t.row(s.dent.ino)
	if sharefs.KindOf(err) == sharefs.KindStale {
		return nil // it is new, and empty
	}
	if err != nil {
		return err
	}
	was, err := t.belowPin(before.parent, t.row)
	if err != nil {
		return err
	}
	looking, _, err := t.pinToLook() // who looks may come from where it was, and be past where it is now
	if err == nil && (was != is || looking != 0) {
		x.lookThrough(s.dent.ino)
	}
	return err
}

func (d *dent) regular() bool { return uint32(d.typ)<<12 == sharefs.ModeRegular }
func (d *dent) dir() bool     { return uint32(d.typ)<<12 == sharefs.ModeDir }

// pinPiece is how many names are looked at in one change: others wait for Tree.mu meanwhile.
const pinPiece = 128

// lookPins looks directories through that have come under a pin, or have left one.
func (t *Tree) lookPins() {
	for {
		for {
			more, err := t.lookPin()
			if err != nil {
				t.log.Warn("what a pin is about cannot be found out, and is tried again", "error", err)
				if !t.sleep(time.Second) {
					return
				}
				continue
			}
			if !more || t.closed.Load() {
				break
			}
		}
		t.pins.mu.Lock()
		close(t.pins.looked)
		t.pins.looked = make(chan struct{})
		t.pins.mu.Unlock()
		select {
		case <-t.stop:
			return
		case <-t.pins.wake:
		}
	}
}

// lookPin does a piece of that, and reports whether there was any.
func (t *Tree) lookPin() (more bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	dir, next, err := t.pinToLook()
	if err != nil || dir == 0 {
		return false, err
	}
	key := pinKey(pinLook, uint64(dir))
	x := t.begin()
	x.aside = true
	x.after(func(uint64) { t.pins.count.Add(1) })
	r, err := t.row(dir)
	if sharefs.KindOf(err) == sharefs.KindStale || err == nil && (!r.isDir() || r.nlink == 0) {
		x.b.Delete(spacePin, key)
		return true, x.commit()
	}
	if err != nil {
		return false, err
	}
	below, err := t.belowPin(dir, t.row)
	if err != nil {
		return false, err
	}
	var list []dent
	var bad error
	err = t.db.Scan(spaceDentry, dentryKey(dir, next), inoKey(dir+1), func(key, value []byte) bool {
		d, err := decodeDent(key, value)
		bad = errors.Join(bad, err)
		list = append(list, d)
		return bad == nil && len(list) < pinPiece
	})
	if err = errors.Join(err, bad); err != nil {
		return false, failed("read a directory", err)
	}
	for i := range list {
		if err := x.lookAt(dir, &list[i], below); err != nil {
			return false, err
		}
	}
	if len(list) < pinPiece {
		x.b.Delete(spacePin, key)
	} else {
		x.b.Put(spacePin, key, binary.BigEndian.AppendUint64(nil, list[len(list)-1].cookie+1))
	}
	return true, x.commit()
}

// pinToLook returns the first directory that is to be looked through, and from which name on; 0: there is none.
func (t *Tree) pinToLook() (dir sharefs.Ino, next uint64, err error) {
	from, to := pinRange(pinLook, 0)
	err = t.db.Scan(spacePin, from, to, func(key, value []byte) bool {
		if dir = keyIno(key[1:]); len(value) == 8 {
			next = binary.BigEndian.Uint64(value)
		}
		return false
	})
	return dir, next, failed("read the pins", err)
}

// lookAt notes a name as its place is now.
func (x *tx) lookAt(dir sharefs.Ino, d *dent, below bool) error {
	t := x.t
	switch {
	case d.ino == 0:
	case d.dir():
		r, err := t.row(d.ino)
		if err != nil {
			return err
		}
		if has, err := t.hasPin(r); err != nil || has { // what is below it is pinned wherever it is
			return err
		}
		x.lookThrough(d.ino)
	case d.regular():
		key := pinKey(pinName, uint64(d.ino), uint64(dir), d.cookie)
		if !below {
			return x.dropPin(key)
		}
		x.b.Put(spacePin, key, nil)
		if t.absentNow(d.ino) {
			x.lacks(d.ino)
		}
	}
	return nil
}

// PinsSettled waits until it is known of all files whether they are pinned, or cancel is closed.
func (t *Tree) PinsSettled(cancel <-chan struct{}) error {
	for {
		t.pins.mu.Lock()
		looked := t.pins.looked
		t.pins.mu.Unlock()
		dir, _, err := t.pinToLook()
		if err != nil || dir == 0 {
			return err
		}
		select {
		case <-looked:
		case <-cancel:
			return nil
		case <-t.stop:
			return nil
		}
	}
}

// Pinned reports whether a file is to be here always.
func (t *Tree) Pinned(ino sharefs.Ino) bool {
	if !t.pins.on.Load() {
		return false
	}
	var keys [][]byte
	from, to := pinRange(pinName, ino)
	if t.db.Scan(spacePin, from, to, func(key, _ []byte) bool {
		keys = append(keys, append([]byte(nil), key...))
		return true
	}) != nil {
		return false
	}
	for _, key := range keys {
		if len(key) == 25 && t.pinHolds(ino, keyIno(key[9:]), binary.BigEndian.Uint64(key[17:])) {
			return true
		}
	}
	return false
}

// pinHolds reports whether a row of pinName says how things are.
func (t *Tree) pinHolds(ino, dir sharefs.Ino, cookie uint64) bool {
	if dir == 0 {
		r, err := t.row(ino)
		if err != nil {
			return false
		}
		has, err := t.hasPin(r)
		return err == nil && has
	}
	key := dentryKey(dir, cookie)
	value, ok, err := t.db.Get(spaceDentry, key)
	if err != nil || !ok {
		return false
	}
	if d, err := decodeDent(key, value); err != nil || d.ino != ino {
		return false
	}
	below, err := t.belowPin(dir, t.row)
	return err == nil && below
}

// PinLacks receives when there may be pinned files that are absent which there were not before.
func (t *Tree) PinLacks() <-chan struct{} { return t.pins.lacks }

// Pins grows whenever somebody pins something, or takes that back: before he is answered, and again when what follows for what lies below a directory is known.
func (t *Tree) Pins() uint64 { return t.pins.count.Load() }

// Loosened receives when files were removed, or are pinned no more.
func (t *Tree) Loosened() <-chan struct{} { return t.pins.loose }

// PinLacking lists up to most pinned files from an inode on that are absent; fewer: there are no more.
func (t *Tree) PinLacking(from sharefs.Ino, most int) (list []sharefs.Ino, err error) {
	for {
		var none []sharefs.Ino
		whole := true
		err = pinInos(t.db, pinLack, from, func(ino sharefs.Ino) bool {
			if t.lacks(ino) {
				list = append(list, ino)
			} else {
				none = append(none, ino)
			}
			from = ino + 1
			whole = len(list) < most && len(none) < pinPiece*16
			return whole
		})
		if err == nil && len(none) > 0 && !t.cfg.ReadOnly {
			err = t.lackNot(none)
		}
		if err != nil || whole || len(list) >= most {
			return list, err
		}
	}
}

// lacks reports whether a file is pinned and absent.
func (t *Tree) lacks(ino sharefs.Ino) bool {
	r, err := t.row(ino)
	return err == nil && r.isAbsent() && r.nlink > 0 && t.Pinned(ino)
}

// lackNot drops rows of pinLack that are none, unless they have come to be.
func (t *Tree) lackNot(list []sharefs.Ino) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.aside = true
	for _, ino := range list {
		if !t.lacks(ino) {
			x.b.Delete(spacePin, pinKey(pinLack, uint64(ino)))
		}
	}
	if x.b.Len() == 0 {
		return nil
	}
	return x.commit()
}

// EachPinned calls fn for each pinned file that has a name, until it returns false.
func (t *Tree) EachPinned(fn func(ino sharefs.Ino, size uint64, absent bool) bool) error {
	if !t.pins.on.Load() {
		return nil
	}
	return pinInos(t.db, pinName, 0, func(ino sharefs.Ino) bool {
		r, err := t.row(ino)
		if err != nil || r.nlink == 0 || !t.Pinned(ino) {
			return true
		}
		return fn(ino, r.size, r.isAbsent())
	})
}

// rouse wakes whoever waits for a channel that is 1 deep.
func rouse(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
