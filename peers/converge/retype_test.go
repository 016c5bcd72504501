package converge

import (
	"testing"

	"sharefs"
	"sharefs/peers/record"
)

// A directory that is said to have been a file, and before that a directory, at once, is one, and comes before another one of the same name that was placed in between.
func TestAnotherTypeAndBack(t *testing.T) {
	h := newHosts(t, 1)[0]
	at := func(hlc sharefs.HLC, id byte, typ record.Type, parent byte) Input {
		t.Helper()
		p := &record.Place{File: sharefs.FileID{id}, Type: typ, Parent: sharefs.FileID{parent}, Name: "a"}
		r, err := record.New(record.ShareID{}, sharefs.PeerID{1}, hlc, p)
		if err != nil {
			t.Fatal(err)
		}
		return Input{r, Merged}
	}
	h.take(at(10, 1, record.Directory, 0), at(20, 2, record.Directory, 0), at(30, 3, record.Regular, 2))
	h.check()
	h.take(at(5, 2, record.Regular, 0), at(3, 2, record.Directory, 0))
	h.check()
	if n := h.node("a"); n.Key.File != (sharefs.FileID{2}) || len(n.Merged) != 1 {
		t.Errorf("%+v", n)
	}
	h.node("a/a")
	h.take(at(2, 2, record.Regular, 0)) // and what is in it has no place
	h.check()
	h.take(at(1, 2, record.Directory, 0))
	h.check()
	h.node("a/a")
}
