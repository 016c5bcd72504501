package versions

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs"
	"sharefs/versions/tier/membucket"
)

// kept is a store that has lived and is in a bucket whole.
type kept struct {
	m      *model
	bucket *membucket.Bucket
	read   map[versionID]string
	names  string
}

func keptInBucket(t *testing.T, seed uint64, more func(*Tree)) *kept {
	t.Helper()
	k := &kept{m: lived(t, t.TempDir(), seed), bucket: &membucket.Bucket{}}
	tree := k.m.tree
	comeToRest(t, tree)
	check(t, tree.closeEpoch())
	capture(t, tree)
	if more != nil {
		more(tree)
	}
	inBucket(t, tree, k.bucket, filepath.Join(t.TempDir(), "tier"))
	k.read, k.names = everyVersion(t, tree), outline(t, tree)
	check(t, tree.Close())
	return k
}

// recoverTree makes a store anew of what came from a bucket, under an identity of its own.
func recoverTree(dir string, step func(string) error) (RebuildReport, error) {
	b := &rebuilder{ctx: context.Background(), cfg: Config{Dir: dir, Peer: sharefs.PeerID{1, 2, 3}, Settle: 1000 * 3600e9, Clock: &sharefs.Clock{}}, opts: RebuildOptions{Recovered: true}, tell: func(Progress) {}, failpoint: step}
	err := b.run()
	return b.report, err
}

// The bucket alone has a store: every name, attribute, content and version is there again, and life goes on, under another identity.
func TestRecoveredStore(t *testing.T) {
	t.Parallel()
	k := keptInBucket(t, 910, nil)
	dir, _ := fromBucket(t, k.bucket, [32]byte{})
	r, err := recoverTree(dir, nil)
	check(t, err)
	wantNothingLost(t, r)
	if len(r.Problems) > 0 || r.Files < 5 {
		t.Errorf("%+v", r)
	}
	other := func(c *Config) { c.Peer = sharefs.PeerID{1, 2, 3} }
	k.m.tree = testTree(t, dir, byHand, other)
	k.m.forgetHandles()
	k.m.find(t)
	k.m.compare(t)
	if got := everyVersion(t, k.m.tree); fmt.Sprint(got) != fmt.Sprint(k.read) {
		t.Errorf("%d versions read otherwise than %d", len(got), len(k.read))
	}
	k.m.run(t, 1000, 1200)
	k.m.compare(t)
	check(t, k.m.tree.Close())
	if _, err := Open(Config{Dir: dir, Peer: sharefs.PeerID{9}}); sharefs.KindOf(err) != sharefs.KindCorrupt || !strings.Contains(err.Error(), "identity.key") {
		t.Errorf("a third identity: %v", err)
	}
}

// A recovery may be interrupted anywhere, any number of times.
func TestRecoveryInterrupted(t *testing.T) {
	t.Parallel()
	k := keptInBucket(t, 911, nil)
	dir, _ := fromBucket(t, k.bucket, [32]byte{})
	stop := errors.New("interrupted")
	rnd := rand.New(rand.NewPCG(1, 911))
	stages := map[string]bool{}
	for round := 0; ; round++ {
		left := rnd.IntN(20 + 4*round)
		r, err := recoverTree(dir, func(name string) error {
			stages[name] = true
			if left--; left < 0 {
				return stop
			}
			return nil
		})
		if err == nil {
			wantNothingLost(t, r)
			break
		}
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
	}
	if !stages[fillStage] || !stages["finished"] || !stages["renamed"] {
		t.Errorf("stages: %v", stages)
	}
	k.m.tree = testTree(t, dir, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1, 2, 3} })
	k.m.forgetHandles()
	k.m.find(t)
	k.m.compare(t)
	if got := everyVersion(t, k.m.tree); fmt.Sprint(got) != fmt.Sprint(k.read) {
		t.Errorf("%d versions read otherwise than %d", len(got), len(k.read))
	}
	check(t, k.m.tree.Close())
}

// What was not captured when the bucket was brought up to date is told by name, and the files hold what was.
func TestRecoveredWithoutTheNewest(t *testing.T) {
	t.Parallel()
	k := keptInBucket(t, 912, func(tree *Tree) {
		a := save(t, tree, "changed in place", "first")
		save(t, tree, "replaced", "before")
		capture(t, tree)
		rewrite(t, tree, a, "other") // of the same size
		settle(t, tree, a)
		save(t, tree, "replaced.new", "after")
		check(t, tree.Rename(sharefs.RootIno, "replaced.new", sharefs.RootIno, "replaced", 0))
		save(t, tree, "never captured", "x")
		save(t, tree, "empty", "")
		check(t, tree.closeEpoch())
	})
	dir, _ := fromBucket(t, k.bucket, [32]byte{})
	r, err := recoverTree(dir, nil)
	check(t, err)
	lost := strings.Join(r.Lost, "\n")
	for name, why := range map[string]string{"changed in place": "earlier version", "replaced": "earlier version", "never captured": "its content is gone"} {
		if !strings.Contains(lost, fmt.Sprintf("%q: ", name)) || !strings.Contains(lost, why) {
			t.Errorf("%s is not among what is lost:\n%s", name, lost)
		}
	}
	if len(r.Lost) != 3 || len(r.Problems) > 0 {
		t.Errorf("%q %q", r.Lost, r.Problems)
	}
	tree := testTree(t, dir, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1, 2, 3} })
	comeToRest(t, tree)
	check(t, tree.closeEpoch())
	capture(t, tree)
	for name, want := range map[string]string{"changed in place": "first", "replaced": "before", "empty": ""} {
		if got := content(t, tree, lookup(t, tree, sharefs.RootIno, name).Ino); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	if _, err := tree.Lookup(sharefs.RootIno, "never captured"); sharefs.KindOf(err) != sharefs.KindNotExist {
		t.Errorf("what was never captured: %v", err)
	}
	for id, text := range everyVersion(t, tree) {
		if want, ok := k.read[id]; ok && text != want && text != "first" {
			t.Errorf("version %d of inode %d reads %q, want %q", id.own, id.ino, text, want)
		}
	}
	noProblems(t, tree)
	check(t, tree.Close())
}

// A pack is missing: the rest is there, and what is not is named.
func TestRecoveredWithoutAPack(t *testing.T) {
	t.Parallel()
	var ino sharefs.Ino
	k := keptInBucket(t, 913, func(tree *Tree) {
		ino = save(t, tree, "in two packs", "first")
		capture(t, tree)
		check(t, tree.past.packs.Seal())
		rewrite(t, tree, ino, strings.Repeat("second", 100))
		settle(t, tree, ino)
		save(t, tree, "in the last", strings.Repeat("not in another", 100))
		capture(t, tree)
		check(t, tree.past.packs.Seal())
	})
	dir, files := fromBucket(t, k.bucket, [32]byte{})
	// The pack that was sealed last is the one without the first version.
	newest, name := int64(0), ""
	for _, f := range files {
		if st, err := os.Stat(filepath.Join(dir, f)); strings.HasPrefix(f, "packs/") && err == nil && st.Size() > 0 {
			if b, err := os.ReadFile(filepath.Join(dir, f)); err == nil && (newest == 0 || int64(len(b)) < newest) {
				newest, name = int64(len(b)), f
			}
		}
	}
	check(t, os.Remove(filepath.Join(dir, name)))
	r, err := recoverTree(dir, nil)
	check(t, err)
	lost := strings.Join(r.Lost, "\n")
	if !strings.Contains(lost, `"in two packs": it holds an earlier version, as the newest does not read`) || !strings.Contains(lost, `"in the last": its content is gone, and no version of it reads`) || len(r.Lost) != 2 {
		t.Errorf("without %s of %q:\n%s", name, files, lost)
	}
	tree := testTree(t, dir, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1, 2, 3} })
	if got := content(t, tree, lookup(t, tree, sharefs.RootIno, "in two packs").Ino); got != "first" {
		t.Errorf("it holds %q", got)
	}
	check(t, tree.Close())
}

func TestWhatABucketIsToldIsSealed(t *testing.T) {
	share := [32]byte{7}
	sealed := SealForTier(share, []byte("[retention]"))
	if text, err := OpenFromTier(share, sealed); err != nil || string(text) != "[retention]" || strings.Contains(string(sealed), "retention") {
		t.Errorf("%q, %v", text, err)
	}
	sealed[5] ^= 1
	for key, what := range map[[32]byte][]byte{share: sealed, {8}: SealForTier(share, nil), {9}: nil} {
		if _, err := OpenFromTier(key, what); sharefs.KindOf(err) != sharefs.KindCorrupt {
			t.Errorf("%x: %v", what, err)
		}
	}
}
