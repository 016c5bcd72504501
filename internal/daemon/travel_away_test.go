package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/config"
	"sharefs/internal/status"
	"sharefs/internal/store"
	"sharefs/peers/book"
	"sharefs/peers/trust"
	"sharefs/versions"
)

// withPeer returns a daemon, of no store that could be used, that knows a peer.
func withPeer(t *testing.T, level trust.Level) *Daemon {
	t.Helper()
	d := &Daemon{store: &store.Store{}}
	d.travel.d = d
	b, err := book.Open(nil, func([]byte) error { return nil })
	if err == nil {
		_, err = b.Add(sharefs.PeerID{1}, "anna", book.ByHand, nil, nil, time.Now())
	}
	if err == nil {
		_, err = b.Grant("anna", level, trust.Pattern{})
	}
	if err != nil {
		t.Fatal(err)
	}
	d.peers.book = b
	return d
}

// Where nobody is known who could have it nobody waits: neither without peers, nor with one that keeps a backup alone.
func TestReadOfWhatNobodyHasDoesNotWait(t *testing.T) {
	for level, waits := range map[trust.Level]bool{trust.Blocked: false, trust.Store: false, trust.Read: true, trust.Write: true} {
		d := withPeer(t, level)
		a := &away{t: &d.travel, c: &versions.Content{}}
		asked := 0
		_, err := a.get(nil, time.Hour, time.Hour, func(context.Context) ([]byte, error) {
			if asked++; asked == 2 {
				return []byte("x"), nil
			}
			return nil, sharefs.KindUnreachable
		})
		if waits != (asked == 2 && err == nil) || !waits && (asked != 1 || !errors.Is(err, sharefs.KindUnreachable)) {
			t.Errorf("%v: asked %d times, %v", level, asked, err)
		}
	}
}

// What was read in vain is counted, each file once, until something new comes, and stands in the status.
func TestReadInVainIsTold(t *testing.T) {
	d := withPeer(t, trust.Write)
	d.store.Config.Space.Wait = config.Duration(time.Millisecond)
	for _, ino := range []sharefs.Ino{2, 3, 2} {
		a := &away{t: &d.travel, ino: ino, c: &versions.Content{}}
		if _, err := a.Get(nil, sharefs.ChunkID{1}, true); !errors.Is(err, sharefs.KindUnreachable) {
			t.Errorf("%v", err)
		}
	}
	r := status.Room{AbsentFiles: 4, Absent: 100, Vain: d.travel.missed.count()}
	if text := r.InVain(); !strings.HasPrefix(text, "2 files read in vain ") {
		t.Errorf("%q", text)
	}
	d.travel.missed.forget()
	if r.Vain = d.travel.missed.count(); r.InVain() != "" {
		t.Errorf("%q", r.InVain())
	}
}

// Who is told to end does so also while there is nobody to ask, and others wait on.
func TestReadOfWhatIsAwayEnds(t *testing.T) {
	d := withPeer(t, trust.Write)
	d.store.Config.Space.Wait = config.Duration(2 * time.Second)
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
	d := withPeer(t, trust.Write)
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
