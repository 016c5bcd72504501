package client

import (
	"time"

	"sharefs"
	"sharefs/internal/term"
)

// WantLive refuses a mount that shows the tree as it was (-o view=at:TIME): what is in it has no history of its own, and nothing in it can change. The root
// of such a mount bears the time of the view; that of any other has none.
func (m *Mount) WantLive() error {
	text, err := ownAttr(m.Point, "time")
	if err != nil {
		return nil // whatever else is wrong with the mount is for others to say
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		text = term.Time(at)
	}
	return &sharefs.Error{Path: term.Quote(m.Point), Kind: sharefs.KindReadOnly,
		Detail: "shows the tree as it was at " + text + " (view=at:) and nothing else; for this the live tree has to be mounted"}
}
