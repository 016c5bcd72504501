package tier_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sharefs"
	"sharefs/versions/tier"
	"sharefs/versions/tier/membucket"
)

const patience = 2 * time.Minute

// files is a store in memory: names with what they hold.
type files struct {
	mu       sync.Mutex
	held     map[string]string
	changes  int
	removals uint64
	notReady bool
	opened   func(name string) // called before a file is opened, without the lock
}

func (f *files) State() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprint(f.changes)
}

func (f *files) Removals() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.removals
}

func (f *files) Files() (all []tier.File, ready bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, text := range f.held {
		all = append(all, tier.File{Name: name, Size: int64(len(text))})
	}
	return all, !f.notReady, nil
}

type body struct{ *strings.Reader }

func (body) Close() error { return nil }

func (f *files) Open(name string) (interface {
	io.ReaderAt
	io.Closer
}, error) {
	if f.opened != nil {
		f.opened(name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	text, ok := f.held[name]
	if !ok {
		return nil, sharefs.KindNotExist
	}
	return body{strings.NewReader(text)}, nil
}

func (f *files) set(name, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes++
	if f.held == nil {
		f.held = map[string]string{}
	}
	f.held[name] = text
}

func (f *files) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes++
	f.removals++
	delete(f.held, name)
}

func (f *files) all() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.held)
}

var key = [32]byte{1, 2, 3}

func config(t *testing.T, b tier.Bucket, f *files) tier.Config {
	return tier.Config{
		Bucket: b, Source: f, Key: key, State: filepath.Join(t.TempDir(), "tier"), Host: "here", Every: time.Millisecond, Log: slog.New(slog.DiscardHandler),
	}
}

func start(t *testing.T, cfg tier.Config) *tier.Uploader {
	t.Helper()
	u, err := tier.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// named reads what a bucket's root names, and fails if any of it is not there although that is the root still.
func named(t *testing.T, b tier.Bucket) map[string]string {
	t.Helper()
	for {
		root, etag, err := tier.ReadRoot(context.Background(), b, key)
		if errors.Is(err, sharefs.KindNotExist) {
			return nil
		}
		if err != nil {
			t.Error(err)
			return nil
		}
		got, missing := map[string]string{}, ""
		for _, f := range root.Files {
			dst := make([]byte, f.Size)
			n, _, err := b.ReadAt(context.Background(), f.Name, dst, 0)
			if err != nil || int64(n) != f.Size {
				missing = fmt.Sprintf("the root names %s, of %d bytes: %d, %v", f.Name, f.Size, n, err)
				break
			}
			got[f.Name] = string(dst[:n])
		}
		if missing == "" {
			return got
		}
		if _, now, err := tier.ReadRoot(context.Background(), b, key); err != nil || now == etag {
			t.Error(missing, err)
			return nil
		}
	}
}

func same(t *testing.T, b tier.Bucket, f *files) {
	t.Helper()
	until(t, "the bucket holds what the store does", func() bool { return maps.Equal(named(t, b), f.all()) })
}

func TestUploadFollowsTheStore(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{}
	f.set("packs/ab/1", "one")
	f.set("checkpoints/rows/open/2", "rows")
	u := start(t, config(t, b, f))
	same(t, b, f)
	f.set("packs/ab/3", "three")
	f.set("checkpoints/rows/open/2", "rows and more")
	same(t, b, f)
	f.remove("packs/ab/1")
	same(t, b, f)
	until(t, "the status says so", func() bool {
		s := u.Stats()
		return s.Files == 2 && s.Bytes == 18 && s.BacklogFiles == 0 && s.Behind.IsZero() && s.Error == "" && !s.Complete.IsZero()
	})
	// What no root names goes with the next root behind it.
	f.set("packs/ab/4", "four")
	until(t, "what was dropped is gone", func() bool { return fmt.Sprint(b.Keys()) == "[checkpoints/rows/open/2 packs/ab/3 packs/ab/4 root]" })
}

func TestNothingIsNamedBeforeThereIsACheckpoint(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{notReady: true}
	f.set("packs/ab/1", "one")
	start(t, config(t, b, f))
	until(t, "the pack is there", func() bool { return len(b.Keys()) > 0 })
	f.mu.Lock()
	if got := named(t, b); got != nil {
		t.Errorf("%v are named", got)
	}
	f.notReady = false
	f.mu.Unlock()
	same(t, b, f)
}

func TestWhatIsDroppedStaysForAWhile(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{}
	f.set("packs/ab/1", "one")
	cfg := config(t, b, f)
	cfg.Keep = time.Hour
	u := start(t, cfg)
	same(t, b, f)
	f.remove("packs/ab/1")
	f.set("packs/ab/2", "two")
	same(t, b, f)
	u.Close()
	// It is known in the next life too.
	start(t, cfg)
	f.set("packs/ab/3", "three")
	same(t, b, f)
	if got := fmt.Sprint(b.Keys()); got != "[packs/ab/1 packs/ab/2 packs/ab/3 root]" {
		t.Error(got)
	}
}

func TestFileThatGoesWhileItIsUploaded(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{}
	f.set("packs/ab/1", "one")
	f.set("packs/open/2", "two")
	var once sync.Once
	f.opened = func(string) {
		once.Do(func() { // a collection moves all to another pack
			f.set("packs/ab/3", "one two")
			f.remove("packs/ab/1")
			f.remove("packs/open/2")
		})
	}
	start(t, config(t, b, f))
	same(t, b, f)
}

// A collection while files are uploaded: what was listed may not go together with what was read, and no root may name it.
func TestRemovalWhileFilesAreUploaded(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{}
	f.set("checkpoints/rows/open/1", "old rows")
	f.set("packs/ab/1", "whole")
	removed := false
	b.Before = func(op, key string) error {
		if op == "put" && strings.HasPrefix(key, "packs/") && !removed {
			removed = true
			f.set("checkpoints/rows/open/1", "new rows")
			f.remove("nothing")
		}
		if op == "put" && key == "root" {
			if n, _, err := b.ReadAt(context.Background(), "checkpoints/rows/open/1", make([]byte, 100), 0); err != nil || n != 8 {
				t.Errorf("%d bytes of rows, %v", n, err)
			}
		}
		return nil
	}
	// Both rows have the same length, as two states of a file never have in earnest.
	f.set("checkpoints/rows/open/1", "old row")
	start(t, config(t, b, f))
	same(t, b, f)
}

func TestOutages(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	b, f := &membucket.Bucket{}, &files{}
	var mu sync.Mutex
	down, lost := true, false
	fault := func(is *bool) func(string, string) error {
		return func(string, string) error {
			mu.Lock()
			defer mu.Unlock()
			if *is {
				return errors.New("the line is dead")
			}
			return nil
		}
	}
	b.Before = fault(&down)
	b.After = fault(&lost)
	set := func(what *bool, to bool) {
		mu.Lock()
		defer mu.Unlock()
		*what = to
	}
	u := start(t, config(t, b, f))
	for round := range 3 {
		f.set(fmt.Sprintf("packs/ab/%d", round), strings.Repeat("x", 1+r.IntN(1000)))
		f.set("packs/open/1", strings.Repeat("y", 10*round+1))
		until(t, "the backlog shows", func() bool {
			s := u.Stats()
			return s.BacklogFiles >= 1 && s.BacklogBytes > 0 && !s.Behind.IsZero() && strings.Contains(s.Error, "the line is dead") && !s.Refused
		})
		set(&down, false)
		until(t, "it has caught up", func() bool {
			s := u.Stats()
			return s.BacklogFiles == 0 && s.Error == "" && maps.Equal(quietly(b), f.all())
		})
		if round%2 == 0 {
			set(&lost, true)
		} else {
			set(&down, true)
		}
		f.set("packs/cd/1", strings.Repeat("z", round+1))
		until(t, "it fails", func() bool { return u.Stats().Error != "" })
		set(&lost, false)
		set(&down, true)
	}
}

// quietly is named for a bucket of which the root may be replaced meanwhile.
func quietly(b *membucket.Bucket) map[string]string {
	root, _, err := tier.ReadRoot(context.Background(), b, key)
	if err != nil {
		return nil
	}
	got := map[string]string{}
	for _, f := range root.Files {
		dst := make([]byte, f.Size)
		if n, _, err := b.ReadAt(context.Background(), f.Name, dst, 0); err == nil {
			got[f.Name] = string(dst[:n])
		}
	}
	return got
}

// Killed at any operation, before or behind it, the next life goes on; and at each moment the root names what is there.
func TestKilledAtEachOperation(t *testing.T) {
	for _, behind := range []bool{false, true} {
		for at := 1; ; at++ {
			b, f := &membucket.Bucket{}, &files{}
			f.set("packs/ab/1", "one")
			f.set("packs/open/2", "two")
			cfg := config(t, b, f)
			u := start(t, cfg)
			same(t, b, f)
			u.Close()
			f.set("packs/ab/3", "three")
			f.set("packs/open/2", "two and a half")
			f.remove("packs/ab/1")
			n := 0
			dead := make(chan struct{})
			kill := func(string, string) error {
				if n++; n == at {
					close(dead)
				}
				if n >= at {
					return context.Canceled
				}
				return nil
			}
			if behind {
				b.After = kill
			} else {
				b.Before = kill
			}
			u = start(t, cfg)
			done := false
			until(t, "it is killed, or done", func() bool {
				select {
				case <-dead:
					return true
				default:
					done = !u.Stats().Complete.IsZero()
					return done
				}
			})
			u.Close()
			b.Before, b.After = nil, nil
			named(t, b)
			u = start(t, cfg)
			same(t, b, f)
			u.Close()
			if s := u.Stats(); s.Refused {
				t.Fatalf("killed at %d: %s", at, s.Error)
			}
			if done {
				break
			}
		}
	}
}

func TestAnotherStoreIsRefusedByName(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{}
	f.set("packs/ab/1", "one")
	first := start(t, config(t, b, f))
	same(t, b, f)
	first.Close()
	before := fmt.Sprint(b.Keys())
	refused := func(cfg tier.Config, want string) string {
		t.Helper()
		u := start(t, cfg)
		defer u.Close()
		until(t, "it is refused", func() bool { return u.Stats().Refused })
		if s := u.Stats(); !strings.Contains(s.Error, want) || s.BacklogFiles != 1 {
			t.Errorf("%+v", s)
		}
		if now := fmt.Sprint(b.Keys()); now != before {
			t.Errorf("the bucket has %s", now)
		}
		return u.Stats().Error
	}
	other := &files{}
	other.set("packs/cd/2", "two")
	stranger := config(t, b, other)
	stranger.Key = [32]byte{9}
	refused(stranger, "another share key")
	cousin := config(t, b, other)
	text := refused(cousin, "another store with the same share key is kept there, which here wrote to")
	// It may take its place when somebody says so, who is told how.
	_, rest, _ := strings.Cut(text, `take_over = "`)
	cousin.Take, _, _ = strings.Cut(rest, `"`)
	start(t, cousin)
	same(t, b, other)
	until(t, "what the other one had is gone", func() bool {
		other.set("packs/cd/3", random())
		return !strings.Contains(fmt.Sprint(b.Keys()), "packs/ab/1")
	})
}

func random() string { return strings.Repeat("x", 1+rand.IntN(1000)) }

// twins returns a store that has written to the bucket, and a copy of it.
func twins(t *testing.T, b tier.Bucket) (cfg, copied tier.Config, f, g *files) {
	f = &files{}
	f.set("packs/ab/1", "one")
	cfg = config(t, b, f)
	u := start(t, cfg)
	same(t, b, f)
	u.Close()
	copied = cfg
	copied.State = filepath.Join(t.TempDir(), "tier")
	copyFile(t, cfg.State, copied.State)
	g = &files{held: f.all(), changes: 100}
	copied.Source = g
	return cfg, copied, f, g
}

func TestCopyOfAStoreIsRefused(t *testing.T) {
	b := &membucket.Bucket{}
	cfg, copied, f, g := twins(t, b)
	f.set("packs/ab/2", "two")
	u := start(t, cfg)
	same(t, b, f)
	g.set("packs/ab/3", "three")
	v := start(t, copied)
	until(t, "the copy is refused", func() bool { return v.Stats().Refused })
	if s := v.Stats(); !strings.Contains(s.Error, "another copy of this store") {
		t.Error(s.Error)
	}
	f.set("packs/ab/4", "four")
	same(t, b, f)
	if s := u.Stats(); s.Refused || slices.Contains(b.Keys(), "packs/ab/3") {
		t.Errorf("%s, %v", s.Error, b.Keys())
	}
}

// A store in which nothing changes learns all the same that another copy of it has taken its bucket, and gives nothing up for being there.
func TestTakeOverIsSeenByAnIdleStore(t *testing.T) {
	b := &membucket.Bucket{}
	cfg, copied, f, g := twins(t, b)
	cfg.Look = time.Millisecond
	named := make(chan bool, 1000) // whether there is any
	cfg.Named = func(all []tier.Info) { named <- len(all) > 0 }
	f.set("packs/ab/2", "two")
	u := start(t, cfg)
	same(t, b, f)
	root, _, err := tier.ReadRoot(context.Background(), b, key)
	if err != nil {
		t.Fatal(err)
	}
	g.set("packs/ab/3", "three")
	copied.Take = root.Nonce
	start(t, copied)
	same(t, b, g)
	until(t, "the store knows", func() bool { return u.Stats().Refused })
	if s := u.Stats(); !strings.Contains(s.Error, "another copy of this store") {
		t.Error(s.Error)
	}
	last := true
	until(t, "nothing is held to be there", func() bool {
		for {
			select {
			case last = <-named:
			default:
				return !last
			}
		}
	})
}

// Two copies that begin at once: one of them goes on, whichever it is, and the bucket is its own.
func TestOfTwoCopiesOneGoesOn(t *testing.T) {
	b := &membucket.Bucket{}
	cfg, copied, f, g := twins(t, b)
	f.set("packs/ab/2", "two")
	g.set("packs/ab/3", "three")
	u, v := start(t, cfg), start(t, copied)
	until(t, "one is refused", func() bool { return u.Stats().Refused != v.Stats().Refused })
	if u.Stats().Refused {
		u, f = v, g
	}
	f.set("packs/ab/4", "four")
	same(t, b, f)
	if s := u.Stats(); s.Refused {
		t.Error(s.Error)
	}
}

func TestRootIsNotTakenFromAnybody(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{}
	f.set("packs/ab/1", "one")
	u := start(t, config(t, b, f))
	same(t, b, f)
	u.Close()
	whole := make([]byte, 1<<16)
	n, _, err := b.ReadAt(t.Context(), "root", whole, 0)
	if err != nil {
		t.Fatal(err)
	}
	whole = whole[:n]
	for at := range whole {
		bad := bytes.Clone(whole)
		bad[at] ^= 1
		if _, err := b.Put(t.Context(), "root", bytes.NewReader(bad), int64(n), tier.Condition{}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := tier.ReadRoot(t.Context(), b, key); sharefs.KindOf(err) != sharefs.KindAccess {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
	for _, short := range []int{1, 10, 79, 80, n - 1} {
		if _, err := b.Put(t.Context(), "root", bytes.NewReader(whole), int64(short), tier.Condition{}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := tier.ReadRoot(t.Context(), b, key); sharefs.KindOf(err) != sharefs.KindAccess {
			t.Fatalf("%d bytes: %v", short, err)
		}
	}
}

func TestLongRootIsReadWhole(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{}
	r := rand.New(rand.NewPCG(5, 6))
	for range 5000 {
		f.set(fmt.Sprintf("packs/ab/%016x%016x", r.Uint64(), r.Uint64()), "x")
	}
	start(t, config(t, b, f))
	same(t, b, f)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
