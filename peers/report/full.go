package report

import (
	"fmt"
	"time"

	"sharefs/internal/term"
)

// Full tells that who keeps a backup has no room for what is to come.
type Full struct {
	Since time.Time `json:"since"`
	Needs uint64    `json:"needs_bytes"`    // by the file for which there was none
	Disk  bool      `json:"disk,omitempty"` // it is the disk that is full, not the quota
	More  string    `json:"more,omitempty"` // the command that gives room, on the host that keeps it: for all that waits where the giver tells it, for the next file where the keeper does, who knows no other
}

// text tells of it; waits is what waits for room.
func (f *Full) text(used, quota uint64, waits string) string {
	text := "full since " + when(f.Since) + ": "
	if f.Disk {
		return text + "the disk below it has no room for " + waits
	}
	return text + fmt.Sprintf("%s of the quota of %s are used, and there is no room for %s", term.SizeIn(quota, used), term.SizeIn(quota, quota), waits)
}

// FullText tells, with the way out, that the peer has no room; empty: it has.
func (b *Backup) FullText() string {
	if b.Full == nil {
		return ""
	}
	waits := fmt.Sprintf("what waits here: %s, %s, of which the next one has %s", term.Of(uint64(b.BacklogFiles), "file"), term.SizeIn(b.Quota, uint64(b.BacklogBytes)), term.SizeIn(b.Quota, b.Full.Needs))
	text := b.Full.text(b.Used, b.Quota, waits)
	if b.Full.More != "" {
		return text + "; there, for all that waits: " + b.Full.More + "; or keep less history here: sharefs retain --quota SIZE"
	}
	return text + "; have room made there, or keep less history here: sharefs retain --quota SIZE"
}

// FullText tells, with the way out, that there is no room for what the peer has to give; empty: there is.
func (k *Keeps) FullText() string {
	if k.Full == nil {
		return ""
	}
	text := k.Full.text(k.Bytes, k.Quota, "its next file, of "+term.SizeIn(k.Quota, k.Full.Needs))
	if k.Full.More != "" {
		return text + "; that one file fits with " + k.Full.More + ", and how much all takes that waits behind it the problems in its own sharefs status say"
	}
	return text + "; free some space on it"
}
