package daemon

import (
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
	if _, err := a.Get(cancel, sharefs.ChunkID{1}); !errors.Is(err, unix.EINTR) {
		t.Errorf("%v", err)
	}
	if d.travel.nobody.Load() {
		t.Error("nobody else waits")
	}
}
