package sharefs

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
	"time"
)

func TestTimeSplitsAndJoins(t *testing.T) {
	for _, c := range []struct {
		sec  int64
		nsec uint32
	}{{0, 0}, {1, 999999999}, {-1, 1}, {-1, 0}, {1 << 33, 5}, {-9223372035, 0}} {
		at := MakeTime(c.sec, c.nsec)
		if at.Sec() != c.sec || at.Nsec() != c.nsec {
			t.Errorf("MakeTime(%d, %d) gives %d.%09d", c.sec, c.nsec, at.Sec(), at.Nsec())
		}
	}
	if at := MakeTime(1<<62, 0); at.Sec() != 9223372035 {
		t.Errorf("a time past the range is not clamped: %d", at.Sec())
	}
}

func TestClockRisesWhilePhysicalTimeStandsAndFalls(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	c := Clock{Now: func() time.Time { return now }}
	last := c.Next()
	for i := range 70_000 {
		if i == 100 {
			now = now.Add(-time.Hour)
		}
		next := c.Next()
		if next <= last {
			t.Fatalf("reading %d: %d after %d", i, next, last)
		}
		last = next
	}
	if err := c.Observe(HLCAt(now.Add(MaxClockLead + time.Second))); !errors.Is(err, KindInvalid) {
		t.Fatalf("a reading too far ahead: %v", err)
	}
	ahead := HLCAt(now.Add(time.Minute))
	c = Clock{Now: func() time.Time { return now }}
	if err := c.Observe(ahead); err != nil || c.Next() <= ahead {
		t.Fatalf("after observing %d: %d, %v", ahead, c.Last(), err)
	}
}

func TestErrorTellsItsParts(t *testing.T) {
	e := &Error{Op: "open", Path: "a/b", Kind: KindNotExist}
	if got := e.Error(); got != "open a/b: no such file or directory" {
		t.Error(got)
	}
	wrapped := fmt.Errorf("outer: %w", &Error{Op: "capture", Kind: KindOther, Err: syscall.ENOSPC})
	if Errno(wrapped) != syscall.ENOSPC || KindOf(fmt.Errorf("x: %w", syscall.ENOSPC)) != KindNoSpace {
		t.Error("the errno in the chain is lost")
	}
	if !errors.Is(e, KindNotExist) || errors.Is(e, KindExist) || Errno(e) != syscall.ENOENT {
		t.Error("the kind is not seen")
	}
	if Errno(fs.ErrClosed) != syscall.EIO || Errno(nil) != 0 {
		t.Error("an unknown error is not EIO, or none is one")
	}
	for k := range kinds {
		if k.String() == "" || k.Errno() == 0 {
			t.Errorf("kind %d has no name or errno", k)
		}
	}
}
