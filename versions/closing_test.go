package versions

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

func eachClose(c *Config) { c.Settle, c.byHand = 0, true }

// waits waits until somebody who opens a file waits for its writers.
func waits(t testing.TB, f *file) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		waiting := f.closing.wake != nil
		f.mu.Unlock()
		if waiting {
			return
		}
		if time.Now().After(end) {
			t.Fatal("nobody waits")
		}
	}
}

// A file is opened for writing after its close has returned and before its RELEASE is there.
func TestAnOpenWaitsForACloseOnItsWay(t *testing.T) {
	tree := testTree(t, t.TempDir(), eachClose, func(c *Config) { c.closingWait = time.Hour })
	a, h, err := tree.Create(sharefs.RootIno, "f", unix.O_WRONLY, 0o644, root)
	check(t, err)
	want := []string{"0", "1", "2", "3"}
	for _, content := range want[:3] {
		writeAll(t, h, content)
		h.Flushed()
		h.Flushed() // of another descriptor
		next := make(chan *Handle)
		go func() {
			h, err := tree.Open(a.Ino, unix.O_WRONLY|unix.O_TRUNC, root)
			if err != nil {
				t.Error(err)
			}
			next <- h
		}()
		waits(t, h.f)
		check(t, h.Close())
		h = <-next
	}
	writeAll(t, h, want[3])
	check(t, h.Close())
	settle(t, tree, a.Ino)
	wantHistory(t, tree, a.Ino, want...)
}

// A descriptor was closed, and others of the same handle are open: they are waited for once.
func TestAnOpenDoesNotWaitForOthers(t *testing.T) {
	tree := testTree(t, t.TempDir(), eachClose, func(c *Config) { c.closingWait = time.Millisecond })
	a, h, err := tree.Create(sharefs.RootIno, "f", unix.O_WRONLY, 0o644, root)
	check(t, err)
	if !h.CountsCloses() {
		t.Error("closes do not count")
	}
	h.Flushed()
	for range 100 { // all but the first one at once
		h.Flushed()
		second := must[*Handle](t)(tree.Open(a.Ino, unix.O_WRONLY, root))
		check(t, second.Close())
	}
	if r := h.f.closing.round; r != 2 {
		t.Errorf("waited %d times", r-1)
	}
	reader := must[*Handle](t)(tree.Open(a.Ino, unix.O_RDONLY, root))
	if reader.CountsCloses() {
		t.Error("closes of readers count")
	}
	check(t, reader.Close())
	check(t, h.Close())
	if c := h.f.closing; c.flushed != 0 || c.leaving != 0 {
		t.Errorf("%+v", c)
	}
}
