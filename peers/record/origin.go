package record

import (
	"encoding/binary"
	"sync/atomic"

	"sharefs"
)

// Origin is where a record comes from. Records have one in common where they can: it must not be changed.
type Origin struct {
	Share  ShareID
	Author sharefs.PeerID
}

// origins are those that were met last, one for each value of some bits of the author's key, so that records in any order have theirs in common as long as authors are few. It never makes a
// difference but in memory.
var origins [256]atomic.Pointer[Origin]

func originOf(share ShareID, author sharefs.PeerID) *Origin {
	at := &origins[binary.LittleEndian.Uint64(author[:])%uint64(len(origins))]
	if o := at.Load(); o != nil && o.Share == share && o.Author == author {
		return o
	}
	o := &Origin{share, author}
	at.Store(o)
	return o
}
