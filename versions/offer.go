package versions

import (
	"slices"
	"sync"
	"time"

	"sharefs"
)

// A version that is away has its chunks in no pack, though the file that holds it may be here, as a whole or in part. Others are given what is: its backing file is read at the place
// of the chunk, and what comes of that counts if it bears the chunk's name, as for who reads the file here.
//
// Where the chunk of a name lies nothing tells, for the manifest leads from places to names. So of files that are asked for it is noted which name they have where, as
// far as was looked for, for chunks are asked for about in their order.

// offers are the files that were asked for lately.
type offers struct {
	mu     sync.Mutex // guards what follows
	list   []*offer   // the last one asked for first
	forget *time.Timer
}

// Bounds of what is noted of files that are asked for.
const (
	offersMost = 4
	offerIdle  = time.Minute
	offerNames = 1 << 17 // in each of the two maps of a file, about 7 MB
)

// offer is where the chunks of one file are.
type offer struct {
	p    *partial
	most int       // names in each of the two maps
	used time.Time // guarded by the lock of all

	mu         sync.Mutex // guards what follows
	next       int64      // where it is to be gone on looking
	looked     int64      // bytes that were gone through, all the names of which are noted
	young, old map[[16]byte]int64
}

// ChunkOf returns a chunk of the newest version of a file out of what the file holds. Errors: KindNotExist: that is not to be had of it.
func (t *Tree) ChunkOf(ino sharefs.Ino, id sharefs.ChunkID) ([]byte, error) {
	none := fail("read a chunk", sharefs.KindNotExist)
	v, err := newestVersion(t.db, ino, noLimit)
	if err != nil {
		return nil, err
	}
	if v == nil || v.place != placeKept || !v.away { // the chunks of others are in packs
		return nil, none
	}
	o := t.offers.of(t, v)
	l, ok, err := o.find(&id)
	if err != nil {
		return nil, err
	}
	if ok {
		if data := o.p.onDisk(&l); data != nil {
			return data, nil
		}
	}
	return nil, none
}

// of returns what is noted of the file that holds a version.
func (a *offers) of(t *Tree, v *version) *offer {
	a.mu.Lock()
	defer a.mu.Unlock()
	var o *offer
	a.list = slices.DeleteFunc(a.list, func(other *offer) bool {
		if other.p.ino != v.ino {
			return false
		}
		if other.p.v.own == v.own {
			o = other
		}
		return true
	})
	if o == nil {
		p := newPartial(nil, t, v)
		p.ino = v.ino
		o = &offer{p: p, most: offerNames, young: map[[16]byte]int64{}}
	}
	o.used = time.Now()
	a.list = slices.Insert(a.list, 0, o)
	a.list = slices.Delete(a.list, min(offersMost, len(a.list)), len(a.list))
	if a.forget == nil {
		a.forget = time.AfterFunc(offerIdle, a.age)
	}
	return o
}

// age forgets files that nobody has asked for.
func (a *offers) age() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = slices.DeleteFunc(a.list, func(o *offer) bool { return time.Since(o.used) >= offerIdle })
	if a.forget = nil; len(a.list) > 0 {
		a.forget = time.AfterFunc(offerIdle, a.age)
	}
}

// find looks for a chunk, from behind what was found last on, and once around.
func (o *offer) find(id *sharefs.ChunkID) (l located, ok bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := [16]byte(id[:16])
	for _, known := range [...]map[[16]byte]int64{o.young, o.old} {
		if at, ok := known[key]; ok {
			l, err = o.p.at(at)
			return l, err == nil && l.id == *id, err
		}
	}
	size := int64(o.p.v.size)
	for gone := int64(0); gone < size && o.looked < size; gone += l.len {
		if l, err = o.p.at(o.next); err != nil {
			return l, false, err
		}
		if o.next = l.off + l.len; o.next >= size {
			o.next = 0
		}
		o.looked += l.len
		if l.hole {
			continue
		}
		o.note([16]byte(l.id[:16]), l.off)
		if l.id == *id {
			return l, true, nil
		}
	}
	return l, false, nil
}

// note notes where a chunk is, and forgets those that were noted first if there are very many.
func (o *offer) note(key [16]byte, at int64) {
	if len(o.young) >= o.most {
		if o.old != nil {
			o.looked = 0
		}
		o.old, o.young = o.young, map[[16]byte]int64{}
	}
	o.young[key] = at
}
