package store

import (
	"os"
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
	if Killed(os.Getpid()) {
		t.Error("this process")
	}
}

// A process of which the first thread has ended and another has not, as one that was killed and cannot end, is told from one that is at work.
func TestAProcessWhoseFirstThreadHasEnded(t *testing.T) {
	dir := t.TempDir()
	pid, end := hold(t, dir, Mounted)
	if Killed(pid) {
		t.Error("it is at work")
	}
	end()
	pid, _ = hold(t, dir, firstThreadEnded)
	for until := time.Now().Add(time.Minute); !Killed(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("its first thread does not end")
		}
	}
	if _, held, err := HolderOf(dir); !held || err != nil {
		t.Errorf("the store is held: %v, %v", held, err)
	}
}
