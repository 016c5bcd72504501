package versions

import (
	"encoding/binary"

	"sharefs"
	"sharefs/versions/kv"
)

// A name lies in the slot of its directory that its hash points to, a number called its cookie. Where another name has that slot
// already (two of 63-bit hashes are equal, which nobody will live to see, but the tests do), the next slots are tried in turn. A name
// never changes its slot, so the cookie is a stable place for a listing to go on from.
//
// On disk (space dentry, key: parent and cookie, 8 bytes each, big endian):
//
//	1 byte   type of the inode (mode >> 12) in bits 0–3; bit 7: names that belong here were put into later slots
//	uvarint  inode
//	rest     the name
//
// A row without a type, inode or name is a grave: the slot is free, but later slots have still to be looked at.
type dent struct {
	name    string
	ino     sharefs.Ino // 0: there is no such name
	cookie  uint64
	typ     uint8 // mode >> 12
	chained bool
}

const dentChained = 0x80

// Cookies keep clear of both ends, below for "." and ".." of whoever lists the directory, above for slots after a collision.
const (
	firstCookie = 16
	lastCookie  = 1<<63 - 1<<16
)

func (d *dent) appendTo(b []byte) []byte {
	first := d.typ
	if d.chained {
		first |= dentChained
	}
	b = append(b, first)
	b = binary.AppendUvarint(b, uint64(d.ino))
	return append(b, d.name...)
}

func decodeDent(key, value []byte) (dent, error) {
	dec := decoder{b: value}
	first := dec.byte()
	d := dent{typ: first &^ dentChained, chained: first&dentChained != 0, ino: sharefs.Ino(dec.uvarint())}
	if len(key) == 16 {
		d.cookie = binary.BigEndian.Uint64(key[8:])
	} else {
		dec.bad = true
	}
	d.name = string(dec.b)
	if dec.bad || (d.ino == 0) != (d.name == "") || (d.ino == 0) != (d.typ == 0) || d.typ > 15 {
		return dent{}, corrupt("directory entry", keyIno(key))
	}
	return d, nil
}

// place is where a name is or, where it is not there, would go.
type place struct {
	dent
	// passed are the slots before a free one that do not yet say that names lie beyond them.
	passed []dent
}

func (p *place) found() bool { return p.ino != 0 }

// cookieOf returns the slot that a name belongs to.
func (t *Tree) cookieOf(name string) uint64 {
	return min(max(t.hash(name)&(1<<63-1), firstCookie), lastCookie)
}

// findDent looks a name up in a view of the store.
func (t *Tree) findDent(v kv.View, parent sharefs.Ino, name string) (place, error) {
	free := place{}
	for cookie := t.cookieOf(name); ; cookie++ {
		key := dentryKey(parent, cookie)
		b, ok, err := v.Get(spaceDentry, key)
		if err != nil {
			return place{}, failed("look up", err)
		}
		if !ok {
			if free.cookie == 0 {
				free.cookie = cookie
			}
			return free, nil
		}
		d, err := decodeDent(key, b)
		switch {
		case err != nil:
			return place{}, err
		case d.ino != 0 && d.name == name:
			return place{dent: d}, nil
		case d.ino == 0 && free.cookie == 0:
			free.cookie, free.chained = cookie, d.chained
		}
		if !d.chained {
			if free.cookie != 0 {
				return free, nil
			}
			free.passed = append(free.passed, d) // the name can only go beyond it
		}
	}
}

// dent looks a name up in the live tree, in memory first. What is found may change at once unless t.mu is held.
func (t *Tree) dent(parent sharefs.Ino, name string) (place, error) {
	key := dentID{parent, t.cookieOf(name)}
	d, ok, gen := t.dents.get(key)
	if ok && (d.name == name || d.ino == 0 && d.name == "") {
		if d.name == "" {
			return place{dent: dent{cookie: key.cookie}}, nil
		}
		return place{dent: d}, nil
	}
	p, err := t.findDent(t.db, parent, name)
	if err == nil && p.cookie == key.cookie && !p.chained && len(p.passed) == 0 {
		t.dents.fill(key, p.dent, gen)
	}
	return p, err
}

// dentID names a slot.
type dentID struct {
	parent sharefs.Ino
	cookie uint64
}
