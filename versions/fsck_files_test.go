package versions

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/internal/keyring"
)

// Keys that are not those of the store are refused before anything is written under them.
func TestOtherKeysAreRefused(t *testing.T) {
	dir := t.TempDir()
	with := func(share, peer byte) func(*Config) {
		return func(c *Config) {
			byHand(c)
			c.Keys, c.Peer = keyring.New([32]byte{share}), sharefs.PeerID{peer}
		}
	}
	tree := testTree(t, dir, with(1, 0)) // as long as a store has no identity it takes any
	ino := save(t, tree, "f", "one")
	capture(t, tree)
	check(t, tree.Close())
	tree = testTree(t, dir, with(1, 2))
	check(t, tree.Close())
	for file, change := range map[string]func(*Config){"share.key": with(3, 2), "identity.key": with(1, 3)} {
		for _, readOnly := range []bool{false, true} {
			cfg := Config{Dir: dir, ReadOnly: readOnly}
			change(&cfg)
			_, err := Open(cfg)
			wantKind(t, err, sharefs.KindCorrupt)
			if !strings.Contains(err.Error(), filepath.Join(dir, file)) {
				t.Error(err)
			}
		}
	}
	tree = testTree(t, dir, with(1, 2))
	wantHistory(t, tree, ino, "one")
}

// lookAround does all that reads a store: names, attributes, versions and their content. It only must not end the process.
func lookAround(tree *Tree) {
	for _, dir := range []sharefs.Ino{sharefs.RootIno} {
		_ = tree.ReadDir(dir, 0, false, func(d sharefs.Dentry, _ *sharefs.Attr) bool {
			_, _ = tree.Getattr(d.Ino)
			all, _ := tree.Versions(d.Ino)
			for _, v := range all {
				if r, err := tree.OpenVersion(d.Ino, v.Number); err == nil {
					_, _ = r.ReadAt(make([]byte, min(v.Size, 1<<20)), 0)
					_ = r.Close()
				}
			}
			return true
		})
	}
}

// Bits of the journal are flipped: the store opens with a state that it was in, or says that it is damaged.
func TestFlippedBitsInTheJournal(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	for i := range 40 {
		save(t, tree, fmt.Sprint("f", i%7), fmt.Sprint("content ", i))
	}
	capture(t, tree)
	// A record says how far the journal was synced before it. Without one behind the capture, which removed files once it was synced, a flipped
	// bit is as good as a torn end.
	check(t, tree.db.Sync())
	save(t, tree, "last", "content")
	killed := storeAsKilled(t, dir)
	segments := must[[]string](t)(filepath.Glob(filepath.Join(killed, "journal", "*.wal")))
	whole := map[string][]byte{}
	for _, name := range segments {
		whole[name] = must[[]byte](t)(os.ReadFile(name))
	}
	opened := 0
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 6))
		l := storeAsKilled(t, killed)
		name := segments[r.IntN(len(segments))]
		data := []byte(string(whole[name]))
		used := len(strings.TrimRight(string(data), "\x00"))
		data[r.IntN(used)] ^= 1 << r.IntN(8)
		check(t, os.WriteFile(filepath.Join(l, "journal", filepath.Base(name)), data, 0o600))
		after, err := Open(Config{Dir: l, Settle: 1e15, byHand: true, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			if kind := sharefs.KindOf(err); kind != sharefs.KindCorrupt {
				t.Errorf("seed %d: %v", seed, err)
			}
			continue
		}
		opened++
		comeToRest(t, after)
		lookAround(after)
		if r := fsckNow(t, after, FsckScrub, false); r.Outcome != OutcomeClean {
			t.Errorf("seed %d: %s", seed, r.Text())
		}
		check(t, after.Close())
	}
	t.Logf("%d of 8 opened", opened)
}

// Bits of meta.db are flipped. Its pages have no checksums, so that not all is found; but nothing ends the process, and what hangs on no flipped bit
// can be used.
func TestFlippedBitsInMetaDB(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	for i := range 300 {
		save(t, tree, fmt.Sprint("f", i), fmt.Sprint("content ", i))
	}
	capture(t, tree)
	check(t, tree.Close())
	whole := must[[]byte](t)(os.ReadFile(filepath.Join(dir, "meta.db")))
	refused, found, silent := 0, 0, 0
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 8))
		l := storeAsKilled(t, dir)
		data := []byte(string(whole))
		for range 1 + r.IntN(20) {
			at := r.IntN(len(data))
			for data[at] == 0 { // most of the file is room
				at = r.IntN(len(data))
			}
			data[at] ^= 1 << r.IntN(8)
		}
		check(t, os.WriteFile(filepath.Join(l, "meta.db"), data, 0o600))
		after, err := Open(Config{Dir: l, Settle: 1e15, byHand: true, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			refused++
			continue
		}
		lookAround(after)
		if r, err := after.Fsck(t.Context(), FsckOptions{Mode: FsckScrub}, nil); err != nil || r.Outcome != OutcomeClean {
			found++
		} else {
			silent++
		}
		_ = after.Close()
	}
	t.Logf("%d were refused, %d found, %d not", refused, found, silent)
}
