package fs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// listings are those of virtual directories that go on: what is listed is found once, so that each piece costs what is in it, and what comes or goes between two of
// them (rm -r in the trash) does not have others passed over.
type listings struct {
	mu   sync.Mutex // guards what follows
	last uint64     // number of the last one
	kept [8]listing
}

// listing is one of them. Offsets in it are its number, 32 bits further up, and the place behind an entry.
type listing struct {
	number  uint64
	of      nodeKey // the directory, as whoever lists it sees it
	uid     uint32
	entries []listed
}

// listed is a name in a listing.
type listed struct {
	name string
	ino  uint64
	mode uint32
}

func (l *listings) get(number uint64, of nodeKey, uid uint32) *listing {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.kept[number%uint64(len(l.kept))]; t.number == number && number > 0 && t.uid == uid && t.of == of {
		return &t
	}
	return nil
}

// add gives a listing its number.
func (l *listings) add(t *listing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = l.last%(1<<30) + 1
	t.number = l.last
	l.kept[t.number%uint64(len(l.kept))] = *t
}

// listFound lists a directory whose entries find finds.
func (e *edge) listFound(in *fuse.ReadIn, out *fuse.DirEntryList, plus bool, of nodeKey, find func() ([]listed, error)) fuse.Status {
	at := int(uint32(in.Offset))
	if in.Offset <= offDotDot {
		at = 0
	}
	list := e.listings.get(in.Offset>>32, of, in.Uid)
	if list == nil {
		entries, err := find()
		if err != nil {
			return status(err)
		}
		list = &listing{of: of, uid: in.Uid, entries: entries}
		e.listings.add(list)
	}
	for ; at < len(list.entries); at++ {
		t := &list.entries[at]
		if !addEntry(out, plus, fuse.DirEntry{Name: t.name, Ino: t.ino, Mode: t.mode, Off: list.number<<32 | uint64(at+1)}) {
			break
		}
	}
	return fuse.OK
}
