package link

import (
	"errors"
	"testing"
	"time"
)

// Tries are kept apart, but the first one behind a pairing: the one that found the pairing under way dialed nobody.
func TestTriesAreKeptApart(t *testing.T) {
	var s tries
	now := time.Unix(1e9, 0)
	if d := s.pause(now); d != 0 {
		t.Errorf("the first one waits %v", d)
	}
	for _, c := range []struct {
		err  error
		want time.Duration
	}{{nil, leastPause - 1}, {errors.New("no answer"), leastPause - 1}, {errConnected, leastPause - 1}, {errPairing, 0}} {
		s.begin(now)
		s.end(c.err)
		if d := s.pause(now.Add(1)); d != c.want {
			t.Errorf("after %v the next one waits %v, not %v", c.err, d, c.want)
		}
		if d := s.pause(now.Add(leastPause)); d != 0 {
			t.Errorf("after %v the next one waits %v in the end", c.err, d)
		}
	}
}
