package versions

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"sharefs"
)

// A store of which some files were freed comes back: what packs have still of those is here again and stays, and the rest is told by name and comes from elsewhere. It is so wherever the recovery was interrupted.
func TestRecoveredWithWhatWasFreed(t *testing.T) {
	t.Parallel()
	far := newFaraway()
	texts := map[string]string{"gone": blob(1, 2<<20), "read again": blob(2, 300_000), "freed lately": blob(3, 3<<20), "never freed": blob(4, 1000)}
	free := func(tree *Tree, ino sharefs.Ino) {
		t.Helper()
		_, errs := tree.Free([]sharefs.Ino{ino}, func(_ sharefs.Ino, c *Content) error { return far.keep(tree, c) })
		check(t, errs[0])
	}
	k := keptInBucket(t, 914, func(tree *Tree) {
		tree.SetElsewhere(far)
		must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "dir", 0o755, root))
		dir := lookup(t, tree, sharefs.RootIno, "dir").Ino
		inos := map[string]sharefs.Ino{}
		for name, text := range texts {
			inos[name] = create(t, tree, dir, name, text).Ino
			newestKept(t, tree, inos[name])
		}
		free(tree, inos["gone"])
		free(tree, inos["read again"])
		check(t, tree.past.packs.Seal())
		collect(t, tree, GCOptions{leastRun: 1, leastDead: 1})
		if all(t, tree, inos["read again"]) != texts["read again"] || isAbsent(tree, inos["read again"]) {
			t.Fatal("it did not come")
		}
		free(tree, inos["freed lately"])
		check(t, tree.db.Checkpoint())
	})
	dir, _ := fromBucket(t, k.bucket, [32]byte{})
	stop := errors.New("interrupted")
	rnd := rand.New(rand.NewPCG(1, 914))
	var r RebuildReport
	for round := 0; ; round++ {
		left := rnd.IntN(20 + 4*round)
		var err error
		r, err = recoverTree(dir, func(string) error {
			if left--; left < 0 {
				return stop
			}
			return nil
		})
		if err == nil {
			break
		}
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
	}
	wantNothingLost(t, r)
	e := r.Elsewhere
	if len(r.Problems) > 0 || e.Files != 2 || e.Bytes != 2<<20+300_000 || fmt.Sprint(e.Named) != "[dir/gone dir/read again]" {
		t.Errorf("%+v, %q", e, r.Problems)
	}
	tree := testTree(t, dir, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1, 2, 3} })
	inDir := lookup(t, tree, sharefs.RootIno, "dir").Ino
	ino := func(name string) sharefs.Ino { return lookup(t, tree, inDir, name).Ino }
	kept := func() {
		t.Helper()
		for _, name := range []string{"freed lately", "never freed"} {
			p := must[Presence](t)(tree.Presence(ino(name)))
			if p.Absent || p.Here < p.Size || all(t, tree, ino(name)) != texts[name] {
				t.Errorf("%s is not here: %+v", name, p)
			}
			if c := must[*Content](t)(tree.Sole(ino(name))); c == nil || !must[bool](t)(tree.Here(c)) {
				t.Errorf("%s is not kept", name)
			}
		}
	}
	kept()
	collect(t, tree, GCOptions{})
	kept()
	wantClean(t, tree, FsckScrub)
	for _, name := range []string{"gone", "read again"} {
		if !isAbsent(tree, ino(name)) {
			t.Errorf("%s is here", name)
		}
	}
	tree.SetElsewhere(far)
	for name, text := range texts {
		if all(t, tree, ino(name)) != text {
			t.Errorf("%s holds something else", name)
		}
	}
	wantClean(t, tree, FsckScrub)
	check(t, tree.Close())
}
