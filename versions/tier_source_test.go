package versions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/versions/tier"
	"sharefs/versions/tier/membucket"
)

// inBucket keeps a tree in a bucket until it is there whole, and then no more.
func inBucket(t *testing.T, tree *Tree, b tier.Bucket, state string) {
	t.Helper()
	began := time.Now()
	var named func([]tier.Info)
	if near := tree.past.cache; near != nil {
		named = near.Named
	}
	u := must[*tier.Uploader](t)(tier.Start(tier.Config{
		Named: named, Bucket: b, Source: tree.TierSource(), Key: TierKey(tree.Keys().First().Secret), Keys: func() []byte { return SealKeysForTier(tree.Keys()) }, State: state, Host: "here", Every: time.Millisecond, Log: slog.New(slog.DiscardHandler),
	}))
	defer u.Close()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		s := u.Stats()
		if s.Complete.After(began) && s.Behind.IsZero() && s.Error == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the bucket does not get on: %+v", s)
		}
	}
}

// fromBucket fetches what the root of a bucket names into an empty directory.
func fromBucket(t *testing.T, b tier.Bucket, share [32]byte) (dir string, names []string) {
	t.Helper()
	dir = t.TempDir()
	root, _, err := tier.ReadRoot(context.Background(), b, TierKey(share))
	check(t, err)
	for _, f := range root.Files {
		body := make([]byte, f.Size)
		n, _, err := b.ReadAt(context.Background(), f.Name, body, 0)
		if err != nil || int64(n) < f.Size {
			t.Fatalf("the root names %s, of %d bytes: %d, %v", f.Name, f.Size, n, err)
		}
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		check(t, os.MkdirAll(filepath.Dir(path), 0o700))
		check(t, os.WriteFile(path, body, 0o600))
		names = append(names, f.Name)
	}
	return dir, names
}

// copyLive copies the live files of a store that is open: files are prepared and discarded meanwhile.
func copyLive(t *testing.T, from, to string) {
	t.Helper()
	check(t, filepath.WalkDir(filepath.Join(from, "live"), func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name := must[string](t)(filepath.Rel(from, path))
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		body, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		check(t, err)
		return os.WriteFile(filepath.Join(to, name), body, 0o600)
	}))
}

// A store that has lived is kept in a bucket: from what the bucket's root names, and the live files, every name is there again, and every
// version reads. So it is once more when it has lived on, after a garbage collection, and in another life of the daemon.
func TestStoreComesBackFromItsBucket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := lived(t, dir, 900)
	tree := m.tree
	b, state := &membucket.Bucket{}, filepath.Join(t.TempDir(), "tier")
	for round := range 3 {
		comeToRest(t, tree)
		check(t, tree.closeEpoch())
		capture(t, tree)
		inBucket(t, tree, b, state)
		read := everyVersion(t, tree)
		if len(read) < 20 {
			t.Fatalf("%d versions: the test is smaller than it thinks", len(read))
		}
		copied, files := fromBucket(t, b, tree.Keys().First().Secret)
		copyLive(t, dir, copied)
		r := must[RebuildReport](t)(tryRebuild(copied, RebuildOptions{}))
		if len(r.Lost) > 0 || r.LostMore > 0 {
			t.Errorf("round %d: of %q: lost: %q", round, files, r.Lost)
		}
		again := testTree(t, copied, byHand, func(c *Config) { c.ReadOnly = true })
		// A copied live file has other times than its row, so it may get one more version.
		got := everyVersion(t, again)
		for id, text := range read {
			if other, ok := got[id]; !ok || other != text {
				t.Errorf("round %d: version %d of inode %d reads otherwise, %v", round, id.own, id.ino, ok)
			}
		}
		if got, want := names2(t, again), names2(t, tree); !maps.Equal(got, want) {
			t.Errorf("round %d: the names %v, want %v", round, got, want)
		}
		check(t, again.Close())
		switch round {
		case 0:
			for n := range 40 {
				save(t, tree, fmt.Sprintf("file %d", n), strings.Repeat(fmt.Sprint(n), 10000+n))
			}
		case 1:
			check(t, tree.Close())
			tree = testTree(t, dir, byHand)
			tree.checkpoint.room = func() int64 { return 1 << 40 }
			save(t, tree, "later", "later")
			must[GCReport](t)(tree.GC(t.Context(), GCOptions{Hurry: true}, nil))
		}
	}
	check(t, tree.Close())
}

// What grows is listed as far as it survives the loss of power, and shorter files are not sealed for the bucket's sake.
func TestTierSourceListsWhatIsDurable(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	defer tree.Close()
	s := tree.TierSource()
	if files, ready, err := s.Files(); err != nil || ready || len(files) != 0 {
		t.Fatalf("an empty store: %v, %v, %v", files, ready, err)
	}
	save(t, tree, "a", "text")
	comeToRest(t, tree)
	check(t, tree.closeEpoch())
	capture(t, tree)
	tree.checkpoint.room = func() int64 { return 1 << 40 }
	export(t, tree)
	before := s.State()
	files, ready, err := s.Files()
	if err != nil || !ready {
		t.Fatalf("%v, %v", ready, err)
	}
	growing := 0
	for _, f := range files {
		info, err := os.Stat(filepath.Join(dir, f.Name))
		if err != nil || info.Size() != f.Size {
			t.Errorf("%+v: %v", f, err)
		}
		if strings.HasPrefix(f.Name, "packs/open/") {
			growing++
		}
	}
	if growing != 1 {
		t.Errorf("%+v", files)
	}
	if s.State() == "" || before == "" {
		t.Error("there is no state")
	}
	tree.checkpoint.work.Lock()
	tree.checkpoint.gap = true
	tree.checkpoint.work.Unlock()
	if _, ready, err := s.Files(); err != nil || ready {
		t.Errorf("while changes are missing behind the export: %v, %v", ready, err)
	}
	check(t, tree.checkpoint.turn())
	if _, ready, err := s.Files(); err != nil || !ready {
		t.Errorf("with another export: %v, %v", ready, err)
	}
	save(t, tree, "b", "more")
	if s.State() == before {
		t.Error("the state tells nothing of a change")
	}
	removals := s.Removals()
	must[GCReport](t)(tree.GC(t.Context(), GCOptions{Hurry: true}, nil))
	if s.Removals() == removals {
		t.Error("a collection is not told of")
	}
	if _, err := s.Open("packs/ab/none"); sharefs.KindOf(err) != sharefs.KindNotExist {
		t.Error(err)
	}
	if TierKey(tree.Keys().First().Secret) == tree.Keys().First().Secret {
		t.Error("the key is the share's own")
	}
}
