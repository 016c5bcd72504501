package kv

import (
	"bytes"
	"encoding/binary"

	"sharefs"
)

// The ordered key: groups of 8 bytes and a marker. See the package comment.
const (
	group     = 8
	groupMore = 9 // the marker of a group that another one follows
)

// orderedKey appends the form of key that sorts among others as key does, whatever follows either.
func orderedKey(to, key []byte) []byte {
	for len(key) > group {
		to = append(append(to, key[:group]...), groupMore)
		key = key[group:]
	}
	var last [group]byte
	n := copy(last[:], key)
	return append(append(to, last[:]...), byte(n))
}

// pastKey appends the key of a row's history at a stamp. Seeking it finds the newest row up to the stamp.
func pastKey(to, key []byte, stamp sharefs.HLC) []byte {
	return binary.BigEndian.AppendUint64(orderedKey(to, key), ^uint64(stamp))
}

// plainKey appends the row's key in a key of its history.
func plainKey(to, past []byte) []byte {
	for len(past) > group {
		marker := past[group]
		if marker <= group {
			return append(to, past[:marker]...)
		}
		to = append(to, past[:group]...)
		past = past[group+1:]
	}
	return to
}

// pastStamp returns the stamp in a key of history.
func pastStamp(past []byte) sharefs.HLC {
	return sharefs.HLC(^binary.BigEndian.Uint64(past[len(past)-stampSize:]))
}

// samePast reports whether a key of history belongs to the same row as another.
func samePast(k, other []byte) bool {
	return len(k) == len(other) && bytes.Equal(k[:len(k)-stampSize], other[:len(other)-stampSize])
}

// splitStamp takes a row of a versioned space apart.
func splitStamp(v []byte) (sharefs.HLC, []byte) {
	return sharefs.HLC(binary.BigEndian.Uint64(v)), v[stampSize:]
}

// splitPast takes a row of history apart; ok is false where it says that there was no row.
func splitPast(v []byte) (value []byte, ok bool) {
	if len(v) == 0 || v[0] == 0 {
		return nil, false
	}
	return v[1:], true
}
