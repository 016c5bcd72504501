package daemon

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/config"
	"sharefs/internal/store"
	"sharefs/versions"
)

// Who is told to end does so also while there is nobody to ask, and others wait on.
func TestReadOfWhatIsAwayEnds(t *testing.T) {
	d := &Daemon{store: &store.Store{}}
	d.store.Config.Space.Wait = config.Duration(2 * time.Second)
	d.travel.d = d
	a := &away{t: &d.travel, c: &versions.Content{}}
	cancel := make(chan struct{})
	close(cancel)
	if _, err := a.Get(cancel, sharefs.ChunkID{1}, true); !errors.Is(err, unix.EINTR) {
		t.Errorf("%v", err)
	}
	if d.travel.nobody.Load() {
		t.Error("nobody else waits")
	}
}

// Whoever has waited in vain for a peer that has it, and is gone by then, does not wait anew for one to come.
func TestReadOfWhatAPeerDoesNotSendWaitsOnce(t *testing.T) {
	d := &Daemon{store: &store.Store{}}
	d.travel.d = d
	a := &away{t: &d.travel, c: &versions.Content{}}
	hangs := func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }
	if _, err := a.get(nil, time.Hour, time.Millisecond, hangs); !errors.Is(err, sharefs.KindUnreachable) {
		t.Errorf("%v", err)
	}
	asked := 0
	gone := func(context.Context) ([]byte, error) { asked++; return nil, sharefs.KindUnreachable }
	if _, err := a.get(nil, time.Hour, time.Hour, gone); !errors.Is(err, sharefs.KindUnreachable) || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	if data, err := a.get(nil, 0, time.Hour, func(context.Context) ([]byte, error) { return []byte("x"), nil }); err != nil || string(data) != "x" {
		t.Errorf("%q, %v", data, err)
	}
}
