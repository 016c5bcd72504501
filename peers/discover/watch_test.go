package discover

import (
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// Messages that never cease hold no change up, and those that mean none are not told.
func TestChangesAreToldAndNothingElse(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var state atomic.Int64
	told := make(chan int64, 100)
	watch := watch(r, func() string { return strconv.FormatInt(state.Load(), 10) }, func() { told <- state.Load() })
	defer watch.Close()
	stop := make(chan struct{})
	done := make(chan struct{})
	defer func() { close(stop); <-done }()
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(quiet / 10):
			}
			if _, err := w.Write([]byte("message")); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for want := range int64(2) {
		state.Store(want + 1)
		select {
		case got := <-told:
			if got != want+1 {
				t.Errorf("change %d was told at %d", want+1, got)
			}
		case <-time.After(time.Minute):
			t.Fatalf("change %d was not told within a minute", want+1)
		}
	}
	if n := len(told); n > 0 {
		t.Errorf("%d changes were told that were none", n)
	}
}
