package tier_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sharefs"
	"sharefs/versions/tier"
	"sharefs/versions/tier/membucket"
)

// copyOf returns a bucket that has what another one has.
func copyOf(t *testing.T, b *membucket.Bucket) *membucket.Bucket {
	t.Helper()
	c := &membucket.Bucket{}
	for _, key := range b.Keys() {
		body := make([]byte, 1<<20)
		n, _, err := b.ReadAt(t.Context(), key, body, 0)
		if err == nil {
			_, err = c.Put(t.Context(), key, bytes.NewReader(body[:n]), int64(n), tier.Condition{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// A bucket that nobody else can write to, and that has an older root, none, or a damaged one, gets all again, and its numbers go on; a later one is another copy of the store.
func TestOwnBucketThatWasPutBack(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{}
	f.set("packs/ab/1", "one")
	cfg := config(t, b, f)
	cfg.Own, cfg.Elsewhere = true, "do this or that"
	u := start(t, cfg)
	same(t, b, f)
	old := copyOf(t, b)
	f.set("packs/ab/2", "two")
	same(t, b, f)
	f.set("packs/ab/3", "three")
	same(t, b, f)
	u.Close()
	early, err := os.ReadFile(cfg.State)
	if err != nil {
		t.Fatal(err)
	}
	last, _, err := tier.ReadRoot(t.Context(), b, key)
	if err != nil {
		t.Fatal(err)
	}
	damaged := copyOf(t, b)
	if _, err := damaged.Put(t.Context(), "root", strings.NewReader("no root"), 7, tier.Condition{}); err != nil {
		t.Fatal(err)
	}
	for name, has := range map[string]*membucket.Bucket{"an older root": old, "nothing": {}, "a damaged root": damaged} {
		again := cfg
		again.Bucket, again.State = has, filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(again.State, early, 0o600); err != nil {
			t.Fatal(err)
		}
		u := start(t, again)
		until(t, "all is there, and it is told", func() bool { return !u.Stats().PutBack.IsZero() && !u.Stats().Complete.IsZero() })
		u.Close()
		root, _, err := tier.ReadRoot(t.Context(), has, key)
		if err != nil || root.Number < last.Number || !maps.Equal(named(t, has), f.all()) {
			t.Errorf("%s: %+v, %v", name, root, err)
		}
	}
	// The state is that of an older copy of the store.
	f.set("packs/ab/4", "four")
	u = start(t, cfg)
	same(t, b, f)
	f.set("packs/ab/5", "five")
	same(t, b, f)
	u.Close()
	if err := os.WriteFile(cfg.State, early, 0o600); err != nil {
		t.Fatal(err)
	}
	u = start(t, cfg)
	until(t, "it is refused", func() bool { return u.Stats().Refused })
	if s := u.Stats().Error; !strings.Contains(s, "another copy of this store is kept there") || !strings.Contains(s, "do this or that") {
		t.Error(s)
	}
}

// What is lost behind the uploader's back comes again when it is told to look.
func TestRecheck(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{}
	f.set("packs/ab/1", "one")
	f.set("packs/ab/2", "two")
	u := start(t, config(t, b, f))
	same(t, b, f)
	if err := b.Delete(t.Context(), "packs/ab/1"); err != nil {
		t.Fatal(err)
	}
	u.Recheck()
	until(t, "it is there again", func() bool { return slices.Contains(b.Keys(), "packs/ab/1") })
	same(t, b, f)
}

// A bucket that says after each answer that it has lost something, and loses it, is given ever more time, and does not keep the uploader busy.
func TestBucketThatGoesOnLosing(t *testing.T) {
	for name, loses := range map[string]bool{"it says so": false, "it loses it": true} {
		t.Run(name, func(t *testing.T) {
			b, f := &membucket.Bucket{}, &files{}
			f.set("packs/ab/1", "one")
			var u atomic.Pointer[tier.Uploader]
			var lists, puts atomic.Int64
			b.Before = func(op, key string) error {
				switch {
				case op == "list" && key == "packs/":
					lists.Add(1)
				case op == "put" && key == "packs/ab/1":
					puts.Add(1)
				case op == "put" && key == tier.RootKey && loses:
					if err := b.Delete(t.Context(), "packs/ab/1"); err != nil {
						t.Error(err)
					}
				}
				if u := u.Load(); u != nil {
					u.Recheck()
				}
				return nil
			}
			began := time.Now()
			one := start(t, config(t, b, f))
			u.Store(one)
			one.Recheck()
			until(t, "it was looked for twice", func() bool { return lists.Load() >= 2 })
			time.Sleep(200 * time.Millisecond) // what is here without rest is thousands
			one.Close()
			most := int64(3) // at the start, when that is asked for, and a second, two, four, … after
			for rest := time.Second; rest < time.Since(began); rest *= 2 {
				most++
			}
			if got := lists.Load(); got > most {
				t.Errorf("it was looked %d times", got)
			}
			if got := puts.Load(); got > most {
				t.Errorf("it was put %d times", got)
			}
		})
	}
}

// refusing is a bucket that takes nothing that is damaged.
type refusing struct{ *membucket.Bucket }

// A file that is damaged here is left out, and said; all else gets there.
func TestDamagedFileIsLeftOut(t *testing.T) {
	mem, f := &membucket.Bucket{}, &files{}
	mem.Before = func(op, key string) error {
		if op == "put" && key == "packs/ab/2" {
			return &sharefs.Error{Op: op, Path: key, Kind: sharefs.KindCorrupt}
		}
		return nil
	}
	f.set("packs/ab/1", "one")
	f.set("packs/ab/2", "damaged")
	f.set("packs/ab/3", "three")
	u := start(t, config(t, refusing{mem}, f))
	want := f.all()
	delete(want, "packs/ab/2")
	until(t, "all else is there", func() bool { return maps.Equal(named(t, mem), want) })
	until(t, "it is said", func() bool {
		s := u.Stats()
		return strings.Contains(s.Error, "packs/ab/2") && strings.Contains(s.Error, "fsck")
	})
}

// The file that names a store is made once, and begins those of further buckets.
func TestNameOfAStore(t *testing.T) {
	dir := t.TempDir()
	store, err := tier.Identify(filepath.Join(dir, "tier"))
	if err != nil || len(store) != 32 {
		t.Fatal(store, err)
	}
	if again, err := tier.Identify(filepath.Join(dir, "tier")); err != nil || again != store {
		t.Error(again, err)
	}
	other := filepath.Join(dir, "other")
	if err := errors.Join(tier.Begin(other, store, 5), tier.Begin(other, "another", 4)); err != nil {
		t.Fatal(err)
	}
	if ok, err := tier.Written(other); err != nil || ok {
		t.Errorf("no root was written: %v, %v", ok, err)
	}
	if got, number, err := tier.Known(other); err != nil || got != store || number != 5 {
		t.Error(got, number, err)
	}
	// Roots have numbers above it; where one was written nothing is begun any more.
	b, f := &membucket.Bucket{}, &files{}
	f.set("packs/ab/1", "one")
	cfg := config(t, b, f)
	cfg.State = other
	u := start(t, cfg)
	same(t, b, f)
	u.Close()
	if root, _, err := tier.ReadRoot(t.Context(), b, key); err != nil || root.Number != 6 || root.Store != store {
		t.Errorf("%+v, %v", root, err)
	}
	if err := tier.Begin(other, store, 50); err != nil {
		t.Error(err)
	}
	if _, number, err := tier.Known(other); err != nil || number >= 50 {
		t.Error(number, err)
	}
	if err := tier.TakeName(other, &tier.Root{Store: store, Number: 7, Nonce: "x"}); err != nil {
		t.Fatal(err)
	}
	if got, number, err := tier.Known(other); err != nil || got != store || number != 7 {
		t.Error(got, number, err)
	}
}

// As long as a bucket is not ready nothing is looked at; when it is, and somebody says so, it goes on at once.
func TestBucketThatIsNotReady(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{}
	f.set("packs/ab/1", "one")
	var ready atomic.Bool
	var asked atomic.Int64
	cfg := config(t, b, f)
	cfg.Ready = func() error {
		asked.Add(1)
		if !ready.Load() {
			return sharefs.KindUnreachable
		}
		return nil
	}
	u := start(t, cfg)
	until(t, "it is said", func() bool { return u.Stats().Error != "" && !u.Stats().Behind.IsZero() })
	if len(b.Keys()) != 0 {
		t.Error(b.Keys())
	}
	ready.Store(true)
	u.Wake()
	same(t, b, f)
	if asked.Load() < 2 {
		t.Error("it was not asked")
	}
}

// Of several buckets a file is taken from one that has it as it should be: the first may lack it, have it too short, or have something else in its place. What none has right is as the first has it, and is named.
func TestFetchFromSeveral(t *testing.T) {
	good := map[string]string{"packs/ab/1": "right one", "packs/ab/2": "right two", "packs/ab/3": "right three", "packs/ab/4": "right four", "checkpoints/rows/ab/5": "right five"}
	var wanted []tier.RootFile
	for name, text := range good {
		wanted = append(wanted, tier.RootFile{Name: name, Size: int64(len(text))})
	}
	with := func(change map[string]string) *membucket.Bucket {
		b := &membucket.Bucket{}
		for name, text := range good {
			if other, ok := change[name]; ok {
				text = other
			}
			if text == "" {
				continue
			}
			if _, err := b.Put(t.Context(), name, strings.NewReader(text), int64(len(text)), tier.Condition{}); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	first := with(map[string]string{"packs/ab/1": "", "packs/ab/2": "right", "packs/ab/3": "wrong three", "packs/ab/4": "wrong four"})
	second := with(map[string]string{"packs/ab/3": "wrong 3 too", "packs/ab/4": "wrong 4er", "checkpoints/rows/ab/5": "wrong five"})
	third := with(map[string]string{"packs/ab/1": "wrong one", "packs/ab/4": ""})
	dir := t.TempDir()
	out, err := (&tier.Fetch{Bucket: first, Others: []tier.Bucket{second, third}, Dir: dir, Files: wanted, Check: func(name string, body io.ReaderAt, size int64) error {
		b := make([]byte, size)
		if _, err := body.ReadAt(b, 0); err != nil || !strings.HasPrefix(string(b), "right") {
			return &sharefs.Error{Op: "check", Path: name, Kind: sharefs.KindCorrupt}
		}
		return nil
	}}).Run(t.Context())
	if err != nil || !slices.Equal(out.Missing, []string{"packs/ab/4: it is damaged"}) || out.Files != len(good)-1 {
		t.Fatalf("%+v, %v", out, err)
	}
	good["packs/ab/4"] = "wrong four"
	for name, want := range good {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
