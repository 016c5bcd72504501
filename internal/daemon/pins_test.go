package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"sharefs"
	"sharefs/peers/record"
)

// lackers are pinned files that are not here, in place of a tree.
type lackers struct {
	h *hydrator

	mu     sync.Mutex
	lack   []sharefs.Ino
	listed int
	tried  map[sharefs.Ino]int
	fetch  func(ino sharefs.Ino) (int64, error)
}

func newLackers(n int, fetch func(sharefs.Ino) (int64, error)) *lackers {
	s := &space{d: &Daemon{}}
	s.ctx = context.Background()
	l := &lackers{h: &s.pins, tried: map[sharefs.Ino]int{}, fetch: fetch}
	for i := range n {
		l.lack = append(l.lack, sharefs.Ino(i+2))
	}
	l.h.begin(s)
	l.h.lacking = func(from sharefs.Ino, most int) ([]sharefs.Ino, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		at, _ := slices.BinarySearch(l.lack, from)
		list := slices.Clone(l.lack[at:min(at+most, len(l.lack))])
		l.listed += len(list)
		return list, nil
	}
	l.h.fetch = func(ino sharefs.Ino) (of record.ID, need int64, err error) {
		need, err = l.fetch(ino)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.tried[ino]++
		if err == nil {
			if at, ok := slices.BinarySearch(l.lack, ino); ok {
				l.lack = slices.Delete(l.lack, at, at+1)
			}
		}
		return record.ID{byte(ino), byte(ino >> 8)}, need, err
	}
	return l
}

// settle does what run does until there is nothing to do.
func (l *lackers) settle(t *testing.T) {
	t.Helper()
	for {
		if _, err := l.h.round(); err != nil {
			t.Fatal(err)
		}
		l.h.s.hands.Wait()
		select {
		case <-l.h.wake:
		default:
			return
		}
	}
}

// However many pinned files nobody has, each is tried once, and looked at not much more often, until there is news.
func TestWhatNobodyHasIsLookedAtOnce(t *testing.T) {
	const n = 5000
	had := map[sharefs.Ino]bool{}
	l := newLackers(n, func(ino sharefs.Ino) (int64, error) {
		if had[ino] {
			return 0, nil
		}
		return 0, &sharefs.Error{Kind: sharefs.KindUnreachable}
	})
	l.settle(t)
	if len(l.tried) != n || len(l.h.waits) != n || l.listed > 2*n {
		t.Errorf("%d of %d tried, %d wait, and %d were listed", len(l.tried), n, len(l.h.waits), l.listed)
	}
	had[4000], had[17] = true, true
	l.h.retry(record.ID{4000 & 255, 4000 >> 8})
	l.settle(t)
	if l.tried[4000] != 2 || l.tried[17] != 1 || len(l.lack) != n-1 || len(l.h.waits) != n-1 {
		t.Errorf("somebody has one: tried %d and %d times, %d lack, %d wait", l.tried[4000], l.tried[17], len(l.lack), len(l.h.waits))
	}
	l.h.retry()
	l.settle(t)
	if l.tried[17] != 2 || len(l.lack) != n-2 || len(l.h.waits) != n-2 {
		t.Errorf("a peer came: tried %d times, %d lack, %d wait", l.tried[17], len(l.lack), len(l.h.waits))
	}
	l.lack = l.lack[:10]
	l.h.again()
	l.settle(t)
	if len(l.h.waits) != 10 || len(l.h.asked) != 10 {
		t.Errorf("%d wait, and %d are asked for, of 10", len(l.h.waits), len(l.h.asked))
	}
}

// What there is no room for is tried again when there may be as much as it takes.
func TestWhatDoesNotFitWaitsForSoMuch(t *testing.T) {
	l := newLackers(3, func(ino sharefs.Ino) (int64, error) {
		return int64(ino) * 100, fmt.Errorf("in a test: %w", errNoRoom)
	})
	l.settle(t)
	for _, made := range []int64{199, 300, 1000} {
		l.h.roomMade(made)
		l.settle(t)
	}
	if l.tried[2] != 3 || l.tried[3] != 3 || l.tried[4] != 2 {
		t.Errorf("tried %v", l.tried)
	}
}

// What lacks again while it is brought is brought again.
func TestWhatLacksAgainIsBroughtAgain(t *testing.T) {
	l := newLackers(1, nil)
	first := true
	l.fetch = func(ino sharefs.Ino) (int64, error) {
		if first {
			first = false
			l.h.again()
			if _, err := l.h.round(); err != nil { // which comes to it
				return 0, err
			}
			return 0, errChanged
		}
		return 0, nil
	}
	fetch := l.h.fetch
	l.h.fetch = func(ino sharefs.Ino) (record.ID, int64, error) {
		of, need, err := fetch(ino)
		if errors.Is(err, errChanged) { // all of what it was to hold is here, and it is to hold something else
			err = nil
		}
		return of, need, err
	}
	l.settle(t)
	if l.tried[2] != 2 || len(l.lack) != 0 {
		t.Errorf("tried %v, %d lack", l.tried, len(l.lack))
	}
}

var errChanged = errors.New("it changed")
