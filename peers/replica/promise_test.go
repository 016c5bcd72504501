package replica

import (
	"slices"
	"testing"

	"sharefs"
)

// A row of before peers were noted tells of nobody, and what was cut off is no peer.
func TestPromisedTo(t *testing.T) {
	one, two := sharefs.PeerID{1}, sharefs.PeerID{2}
	both := slices.Concat([]byte{1}, one[:], two[:])
	for _, c := range []struct {
		row  []byte
		want []sharefs.PeerID
	}{
		{nil, nil},
		{[]byte{1}, nil},
		{both, []sharefs.PeerID{one, two}},
		{both[:len(both)-1], []sharefs.PeerID{one}},
	} {
		if got := promisedTo(c.row); !slices.Equal(got, c.want) {
			t.Errorf("%x: %v, not %v", c.row, got, c.want)
		}
	}
}
