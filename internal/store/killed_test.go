package store

import (
	"strings"
	"testing"
	"time"
)

func TestKilled(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\tsharefs-mount\nState:\tS (sleeping)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n":   false,
		"Name:\tsharefs-mount\nState:\tD (disk sleep)\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n": true,
		"Name:\tsharefs-mount\nState:\tD (disk sleep)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n": true,
		"Name:\tsharefs-mount\nState:\tZ (zombie)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n":     true,
		"Name:\tState: Z\nState:\tR (running)\nSigPnd:\t0000000000004000\nShdPnd:\t0000000000000000\n":         false,
		"Name:\tsharefs-mount\nState:\tS (sleeping)\nSigPnd:\tnothing\nShdPnd:\n":                              false,
		"": false,
	} {
		if got := killed([]byte(status)); got != want {
			t.Errorf("%q: %v", status, got)
		}
	}
	if Killed(self(Mounted, "")) {
		t.Error("this process")
	}
}

// A pid that counts in another namespace, or nobody knows in which, is nobody's here.
func TestAPidOfAnotherNamespace(t *testing.T) {
	dir := t.TempDir()
	_, _ = hold(t, dir, firstThreadEnded)
	h, held, err := HolderOf(dir)
	if err != nil || !held || h.Space == 0 {
		t.Fatalf("%+v, %v, %v", h, held, err)
	}
	for until := time.Now().Add(time.Minute); !Killed(h); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("its first thread does not end")
		}
	}
	for _, space := range []uint64{0, h.Space + 1} {
		other := h
		if other.Space = space; Killed(other) {
			t.Errorf("of namespace %d", space)
		}
	}
	other := &LockedError{dir, Holder{PID: h.PID, Space: h.Space + 1, State: Mounted}}
	if text := other.Error(); !strings.Contains(text, "of another pid namespace") {
		t.Error(text)
	}
}

// A process of which the first thread has ended and another has not, as one that was killed and cannot end, is told from one that is at work.
func TestAProcessWhoseFirstThreadHasEnded(t *testing.T) {
	dir := t.TempDir()
	killed := func() bool {
		h, _, err := HolderOf(dir)
		return err == nil && Killed(h)
	}
	_, end := hold(t, dir, Mounted)
	if killed() {
		t.Error("it is at work")
	}
	end()
	_, _ = hold(t, dir, firstThreadEnded)
	for until := time.Now().Add(time.Minute); !killed(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("its first thread does not end")
		}
	}
	if _, held, err := HolderOf(dir); !held || err != nil {
		t.Errorf("the store is held: %v, %v", held, err)
	}
}
