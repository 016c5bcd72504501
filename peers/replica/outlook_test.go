package replica

import (
	"testing"
	"time"

	"sharefs"
)

// As many trees of proposers are kept as there is room for their records, and two in any case; those go first at which nobody has looked for longest.
func TestRoomForOutlooks(t *testing.T) {
	for _, c := range []struct{ records, add, keep int }{
		{33_000, 11, 11},
		{1, 1000, 1000},
		{mostInOutlooks / 2, 5, 2},
		{mostInOutlooks / 3, 5, 3},
		{10 * mostInOutlooks, 5, 2},
	} {
		r := &Replica{state: state{outlooks: map[sharefs.PeerID]*outlook{}}}
		for i := range c.add {
			r.makeRoom(c.records)
			r.outlooks[sharefs.PeerID{1, byte(i), byte(i >> 8)}] = &outlook{records: c.records, used: time.Unix(int64(i), 0), leaving: time.NewTimer(time.Hour)}
		}
		if len(r.outlooks) != c.keep {
			t.Errorf("%d of %d records: %d are kept, not %d", c.add, c.records, len(r.outlooks), c.keep)
		}
		for i := c.add - c.keep; i < c.add; i++ {
			if r.outlooks[sharefs.PeerID{1, byte(i), byte(i >> 8)}] == nil {
				t.Errorf("%d of %d records: %d is gone", c.add, c.records, i)
			}
		}
	}
}
