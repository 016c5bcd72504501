package versions

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/writers"
)

// whole returns content that tells whether it is whole: one line again and again, and how often.
func whole(r *rand.Rand, n int) string {
	line := fmt.Sprintf("%016x", r.Uint64())
	times := 1 + r.IntN(n)
	return fmt.Sprintf("%6d ", times) + strings.Repeat(line, times)
}

func isWhole(s string) bool {
	var times int
	if _, err := fmt.Sscanf(s, "%d", &times); err != nil || len(s) != 7+16*times {
		return false
	}
	return strings.Count(s[7:], s[7:23]) == times
}

// Files are rewritten, replaced and removed while they settle, are captured and read back: whatever a version holds is something that
// was closed, and what was open before stays as it was.
func TestManyHandsOnThePast(t *testing.T) {
	t.Parallel()
	tree := testTree(t, t.TempDir(), func(c *Config) { c.Settle = time.Millisecond })
	var wg sync.WaitGroup
	var done atomic.Int32
	const hands = 3
	for hand := range hands {
		wg.Go(func() {
			defer done.Add(1)
			r := rand.New(rand.NewPCG(uint64(hand), 12))
			name := fmt.Sprint("file ", hand)
			for i := range 60 {
				temp := name
				if i%3 == 2 {
					temp = name + ".new"
				}
				a, h, err := tree.Create(sharefs.RootIno, temp, unix.O_WRONLY|unix.O_TRUNC, 0o644, root)
				if err != nil {
					t.Error(err)
					return
				}
				content := whole(r, 20_000)
				if n, err := h.WriteAt([]byte(content), 0); err != nil || n != len(content) {
					t.Error(n, err)
				}
				if err := h.Close(); err != nil {
					t.Error(err)
				}
				if temp != name {
					if err := tree.Rename(sharefs.RootIno, temp, sharefs.RootIno, name, 0); err != nil {
						t.Error(err)
					}
				}
				if i%4 == 0 {
					if _, _, err := tree.Commit(a.Ino, "committed"); err != nil {
						t.Error(err)
					}
				}
				tree.Forget(a.Ino, 1)
			}
		})
		wg.Go(func() { // reads versions while they move about
			for done.Load() < hands {
				ino, err := tree.Past(sharefs.RootIno, fmt.Sprint("file ", hand))
				if err != nil {
					continue
				}
				all, err := tree.Versions(ino)
				if err != nil {
					t.Error(err)
					return
				}
				for _, v := range all[max(0, len(all)-3):] {
					rd, err := tree.OpenVersion(ino, v.Number)
					if sharefs.KindOf(err) == sharefs.KindNotExist {
						continue
					}
					if err != nil {
						t.Errorf("version %d: %v", v.Number, err)
						return
					}
					b := make([]byte, rd.Size())
					if n, err := rd.ReadAt(b, 0); n < len(b) || !isWhole(string(b)) {
						t.Errorf("version %d is not whole: %d of %d bytes, %v", v.Number, n, len(b), err)
					}
					if err := rd.Close(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "all is captured", func() bool { return tree.HistoryStats().Queue == 0 })
	for hand := range hands {
		ino := lookup(t, tree, sharefs.RootIno, fmt.Sprint("file ", hand)).Ino
		all := must[[]sharefs.Version](t)(tree.Versions(ino))
		if len(all) < 15 {
			t.Errorf("only %d versions", len(all))
		}
		for _, v := range all {
			if !isWhole(readVersion(t, tree, ino, v.Number)) {
				t.Errorf("version %d is not whole", v.Number)
			}
		}
	}
	if n := tree.HistoryStats(); n.Lost+n.TooLarge > 0 {
		t.Errorf("%+v", n)
	}
}

// BenchmarkReadVersion measures how fast a version opens and streams.
func BenchmarkReadVersion(b *testing.B) {
	tree := testTree(b, b.TempDir(), byHand)
	var text strings.Builder
	for i := 0; text.Len() < 48<<20; i++ {
		fmt.Fprintf(&text, "line %d of a file that compresses as source text does: %x\n", i, i*i*7919)
	}
	ino := save(b, tree, "f", text.String())
	capture(b, tree)
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			r := must[VersionReader](b)(tree.OpenVersion(ino, 1))
			check(b, r.Close())
		}
	})
	b.Run("stream", func(b *testing.B) {
		b.SetBytes(int64(text.Len()))
		buf := make([]byte, 128<<10)
		for b.Loop() {
			r := must[VersionReader](b)(tree.OpenVersion(ino, 1))
			for off := int64(0); off < r.Size(); {
				n, _ := r.ReadAt(buf, off)
				off += int64(n)
			}
			check(b, r.Close())
		}
	})
}

// At a start the newest version may get another content under its number while it is captured, for it never came to rest. What was read of
// the old one is neither taken for the new one, nor is the version lost because the sizes differ.
func TestAnotherContentUnderTheNumberWhileItIsCaptured(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	h := &tree.past
	old := must[*version](t)(newestVersion(tree.db, ino, noLimit))
	top := manifest{0, []span{{len: 3, id: sharefs.ChunkID{1}}}}
	check(t, os.WriteFile(liveFile(tree, ino), []byte("two, by a writer that outlived the daemon"), 0o600))
	f := tree.files.pin(ino)
	defer tree.files.unpin(f)
	if _, err := h.beginNow(f, ""); err != nil {
		t.Fatal(err)
	}
	if again, err := h.unreadable(old, &sourceError{errShort}); err != nil || !again {
		t.Errorf("again: %t, %v", again, err)
	}
	check(t, h.commitVersions([]captured{{versionID{ino, old.own}, old.stamp(), top, 0}}, nil))
	wantHistory(t, tree, ino, "two, by a writer that outlived the daemon")
	capture(t, tree)
	wantHistory(t, tree, ino, "two, by a writer that outlived the daemon")
	if n := tree.HistoryStats(); n.Lost != 0 || n.Queue != 0 {
		t.Errorf("%+v", n)
	}
}

// A version that the capture meets before its file is marked as being at rest is captured as soon as it is, not when something else happens.
func TestCaptureReturnsToWhatItPassedOver(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	settle(t, tree, ino)
	f := tree.files.pin(ino)
	defer tree.files.unpin(f)
	f.mu.Lock()
	f.hot = true
	ev := writers.Event{ID: ino, Kind: writers.Quiet, Stamp: f.base}
	f.mu.Unlock()
	for len(tree.past.wake) > 0 {
		<-tree.past.wake
	}
	if n := must[int](t)(tree.past.capture()); n != 0 || tree.HistoryStats().Queue != 1 {
		t.Fatalf("%d versions of files that are not at rest were captured; %+v", n, tree.HistoryStats())
	}
	tree.mu.Lock()
	tree.cooled(f, ev)
	tree.mu.Unlock()
	if len(tree.past.wake) == 0 {
		t.Error("nobody wakes the capture")
	}
	if n := must[int](t)(tree.past.capture()); n != 1 || tree.HistoryStats().Queue != 0 {
		t.Errorf("%d versions captured; %+v", n, tree.HistoryStats())
	}
}

// The version is on disk before its file is marked as being at rest; the capture waits for that.
func TestCaptureWaitsForRestToBeMarked(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	settle(t, tree, ino)
	f := tree.files.pin(ino)
	defer tree.files.unpin(f)
	tree.mu.Lock()
	f.mu.Lock()
	f.hot = true
	ev := writers.Event{ID: ino, Kind: writers.Quiet, Stamp: f.base}
	f.mu.Unlock()
	captured := make(chan int, 1)
	go func() {
		n, err := tree.past.capture()
		if err != nil {
			t.Error(err)
		}
		captured <- n
	}()
	for !tree.past.passed.Load() { // it has met the version
		time.Sleep(time.Millisecond)
	}
	tree.cooled(f, ev)
	tree.mu.Unlock()
	if n := <-captured; n != 1 {
		t.Errorf("%d versions captured", n)
	}
}
