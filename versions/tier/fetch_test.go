package tier_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs"
	"sharefs/versions/tier"
	"sharefs/versions/tier/membucket"
)

// filled returns a bucket with some objects, and the files that a root would name: one of them shorter than its object, for it has grown.
func filled(t *testing.T) (*membucket.Bucket, []tier.RootFile) {
	t.Helper()
	b := &membucket.Bucket{}
	var files []tier.RootFile
	for name, size := range map[string]int{"packs/ab/one": 100, "packs/open/two": 20 << 20, "checkpoints/rows/cd/three": 1, "checkpoints/changes/open/four": 0, "packs/ab/five": 8 << 20} {
		body := strings.Repeat(name+" ", size/len(name)+1)[:size]
		if _, err := b.Put(t.Context(), name, strings.NewReader(body+"more"), int64(size+4), tier.Condition{}); err != nil {
			t.Fatal(err)
		}
		files = append(files, tier.RootFile{Name: name, Size: int64(size)})
	}
	return b, files
}

func sameFiles(t *testing.T, dir string, files []tier.RootFile) {
	t.Helper()
	n := 0
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	}); err != nil || n != len(files) {
		t.Errorf("%d files, want %d: %v", n, len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.Name))
		if want := strings.Repeat(f.Name+" ", int(f.Size)/len(f.Name)+1)[:f.Size]; err != nil || string(text) != want {
			t.Errorf("%s: %d bytes, want %d, %v", f.Name, len(text), len(want), err)
		}
	}
}

func TestFetch(t *testing.T) {
	b, files := filled(t)
	dir := t.TempDir()
	var last, total uint64
	f := &tier.Fetch{Bucket: b, Dir: dir, Files: files, Progress: func(d, all uint64) {
		if d < last {
			t.Errorf("from %d to %d", last, d)
		}
		last, total = d, all
	}}
	got, err := f.Run(t.Context())
	if err != nil || got.Files != 5 || got.Here != 0 || got.Bytes != 28<<20+101 || len(got.Missing) > 0 || last != 28<<20+101 || total != last {
		t.Errorf("%+v, %v, %d of %d", got, err, last, total)
	}
	sameFiles(t, dir, files)

	// What is there is not fetched again, what is not wanted goes, in the directories that there are files for.
	for _, name := range []string{"packs/ab/six", "packs/open/seven.part", "share.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(dir, "packs/ab/one"), 99); err != nil {
		t.Fatal(err)
	}
	last = 0
	got, err = f.Run(t.Context())
	if err != nil || got.Files != 1 || got.Here != 4 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.Remove(filepath.Join(dir, "share.key")); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, dir, files)
}

// A fetch is cut off again and again, and goes on.
func TestFetchGoesOn(t *testing.T) {
	b, files := filled(t)
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 1))
	for round := 0; ; round++ {
		ctx, cancel := context.WithCancel(t.Context())
		broken := errors.New("the network is down")
		left := make(chan struct{}, round)
		for range rnd.IntN(round + 1) {
			left <- struct{}{}
		}
		how := rnd.IntN(2) == 0
		b.Before = func(op, key string) error {
			select {
			case <-left:
				return nil
			default:
			}
			if how {
				cancel()
				return nil
			}
			return broken
		}
		_, err := (&tier.Fetch{Bucket: b, Dir: dir, Files: files}).Run(ctx)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, broken) && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	sameFiles(t, dir, files)
}

func TestFetchTellsWhatIsMissing(t *testing.T) {
	b, files := filled(t)
	files = append(files, tier.RootFile{Name: "packs/ab/gone", Size: 10}, tier.RootFile{Name: "packs/ab/cut", Size: 10})
	if _, err := b.Put(t.Context(), "packs/ab/cut", strings.NewReader("packs/ab"), 8, tier.Condition{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for range 2 {
		got, err := (&tier.Fetch{Bucket: b, Dir: dir, Files: files}).Run(t.Context())
		missing := strings.Join(got.Missing, "\n")
		if err != nil || len(got.Missing) != 2 || !strings.Contains(missing, "packs/ab/gone: it is not there") || !strings.Contains(missing, "packs/ab/cut: it is shorter than it was") {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "packs/ab/cut")); err != nil || string(text) != "packs/ab" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestFetchErrors(t *testing.T) {
	b, files := filled(t)
	for _, name := range []string{"../etc/x", "/etc/x", "share.key", "packs/../../x", "packs/x.part", "packs/../live/1", "live/1", "journal/1", "packs", "packs/"} {
		_, err := (&tier.Fetch{Bucket: b, Dir: t.TempDir(), Files: []tier.RootFile{{Name: name}}}).Run(t.Context())
		if sharefs.KindOf(err) != sharefs.KindCorrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "packs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&tier.Fetch{Bucket: b, Dir: dir, Files: files}).Run(t.Context()); sharefs.KindOf(err) != sharefs.KindNotDir || !strings.Contains(err.Error(), "packs") {
		t.Errorf("a file in the way: %v", err)
	}
}

// A store that was made of what a root names goes on where the other one ended, and that one is refused.
func TestTakingUp(t *testing.T) {
	b, f := &membucket.Bucket{}, &files{held: map[string]string{"packs/a": "one"}}
	cfg := config(t, b, f)
	cfg.About = []byte("told of it")
	u := start(t, cfg)
	for _, name := range []string{"packs/b", "packs/c"} {
		f.set(name, "text of "+name)
		until(t, "it is there", func() bool { _, there := named(t, b)[name]; return there })
	}
	u.Close()
	root, _, err := tier.ReadRoot(t.Context(), b, key)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := tier.Written(cfg.State); err != nil || !ok {
		t.Errorf("a root was written: %v, %v", ok, err)
	}
	store, number, err := tier.Known(cfg.State)
	if err != nil || store != root.Store || number == 0 || number > root.Number || string(root.Config) != "told of it" {
		t.Errorf("%s, %d, %v; the root is %+v", store, number, err, root)
	}
	again := config(t, b, f)
	if _, _, err := tier.Known(again.State); sharefs.KindOf(err) != sharefs.KindNotExist {
		t.Errorf("what is not there is known: %v", err)
	}
	if err := tier.TakeUp(again.State, root); err != nil {
		t.Fatal(err)
	}
	if s, n, err := tier.Known(again.State); err != nil || s != root.Store || n != root.Number {
		t.Errorf("%s, %d, %v", s, n, err)
	}
	v := start(t, again)
	f.set("packs/d", "later")
	until(t, "it is there", func() bool { _, there := named(t, b)["packs/d"]; return there })
	v.Close()
	u = start(t, cfg)
	until(t, "the first one is refused", func() bool { return u.Stats().Refused })
	if s := u.Stats(); !strings.Contains(s.Error, "another copy of this store") {
		t.Errorf("%+v", s)
	}
}
