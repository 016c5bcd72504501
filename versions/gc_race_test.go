package versions

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/pack"
)

// seeded returns content that tells what it is to be: one of few, so that what is dropped comes again.
func seeded(seed uint64) string {
	return fmt.Sprintf("%6d ", seed) + noise(seed, 5_000+int(seed*7919%90_000))
}

func isSeeded(s string) bool {
	var seed uint64
	_, err := fmt.Sscanf(s, "%d", &seed)
	return err == nil && s == seeded(seed)
}

// Files are written, replaced, committed while they are open, restored and read; versions are dropped as retention does it; and garbage is
// collected all the time. Whatever is read is whole at any moment, and at the end every version that is kept is there.
func TestGCAmongManyHands(t *testing.T) {
	t.Parallel()
	tree := testTree(t, t.TempDir(), func(c *Config) { c.Settle, c.packSize = time.Millisecond, 300_000 })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	if os.Getenv("SHAREFS_SOAK") != "" {
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Minute)
	}
	defer cancel()
	const files, seeds = 6, 30
	inPlace := strings.Repeat("in place ", 3000)
	name := func(i int) string { return fmt.Sprint("file ", i) }
	for i := range files {
		save(t, tree, name(i), seeded(uint64(i)))
	}
	var wg sync.WaitGroup
	hand := func(id uint64, step func(r *rand.Rand) error) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(id, 77))
			for ctx.Err() == nil && !t.Failed() {
				if err := step(r); err != nil {
					t.Errorf("hand %d: %v", id, err)
				}
			}
		})
	}
	fine := func(err error, kinds ...sharefs.Kind) error {
		for _, k := range kinds {
			if errors.Is(err, k) || sharefs.KindOf(err) == k {
				return nil
			}
		}
		return err
	}
	for id := range uint64(2) {
		hand(id, func(r *rand.Rand) error { // writes, in place or by another file
			// Some files are written in place, by all with the same content, for two may write at once; others are replaced, and restored.
			to, content := name(r.IntN(files)), seeded(r.Uint64N(seeds))
			temp := fmt.Sprint("temp ", id)
			if to < name(files/2) {
				temp, content = to, inPlace
			}
			a, h, err := tree.Create(sharefs.RootIno, temp, unix.O_WRONLY|unix.O_TRUNC, 0o644, root)
			if err != nil {
				return err
			}
			defer tree.Forget(a.Ino, 1)
			if _, err := h.WriteAt([]byte(content), 0); err != nil {
				return err
			}
			if r.IntN(4) == 0 {
				if _, _, err := tree.Commit(a.Ino, ""); fine(err, sharefs.KindAgain) != nil {
					return err
				}
			}
			if err := h.Close(); err != nil {
				return err
			}
			if temp != to {
				return tree.Rename(sharefs.RootIno, temp, sharefs.RootIno, to, 0)
			}
			return nil
		})
	}
	whole := func(rd VersionReader) error {
		b := make([]byte, rd.Size())
		n, err := rd.ReadAt(b, 0)
		if n == len(b) && (isSeeded(string(b)) || strings.HasPrefix(inPlace, string(b))) { // somebody may be writing it still
			return nil
		}
		if err == nil {
			err = fmt.Errorf("what was read is no version: %.20q", b)
		}
		return err
	}
	for id := range uint64(2) {
		hand(10+id, func(r *rand.Rand) error { // reads
			ino, err := tree.Past(sharefs.RootIno, name(r.IntN(files)))
			if err != nil {
				return err
			}
			all, err := tree.Versions(ino)
			if err != nil || len(all) == 0 {
				return err
			}
			rd, err := tree.OpenVersion(ino, all[r.IntN(len(all))].Number)
			if err != nil {
				return fine(err, sharefs.KindNotExist)
			}
			defer rd.Close()
			tree.sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
			return fine(whole(rd), sharefs.KindNotExist)
		})
	}
	hand(20, func(r *rand.Rand) error { // restores
		a, err := tree.Lookup(sharefs.RootIno, name(files/2+r.IntN(files/2)))
		if err != nil {
			return err
		}
		ino := a.Ino
		defer tree.Forget(ino, 1)
		all, err := tree.Versions(ino)
		if err != nil || len(all) == 0 {
			return err
		}
		err = tree.Restore(Op{}, ino, all[r.IntN(len(all))].Number, root)
		return fine(err, sharefs.KindNotExist, sharefs.KindExist, sharefs.KindStale, sharefs.KindAgain)
	})
	hand(30, func(r *rand.Rand) error { // drops
		tree.sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		return dropSome(tree, r, 2)
	})
	runs := 0
	var freed uint64
	hand(40, func(r *rand.Rand) error { // collects
		opts := smallGC
		if r.IntN(2) == 0 {
			opts.slots = 64
		}
		rep, err := tree.GC(ctx, opts, nil)
		if ctx.Err() != nil {
			return nil
		}
		runs++
		freed += rep.Freed
		for _, l := range rep.Left {
			if !strings.Contains(l.Why, "being made") && !strings.Contains(l.Why, "uses it otherwise") && !strings.Contains(l.Why, "does not list") {
				return fmt.Errorf("%+v", l)
			}
		}
		return err
	})
	wg.Wait()
	if t.Failed() {
		return
	}
	eventually(t, "all is at rest and captured", func() bool {
		hot := false
		tree.files.each(func(f *file) {
			f.mu.Lock()
			hot = hot || f.hot
			f.mu.Unlock()
		})
		return !hot && tree.HistoryStats().Queue == 0 // in this order, which is that of a file on its way
	})
	tree.past.capturing.Lock() // whatever else comes waits
	defer tree.past.capturing.Unlock()
	verify := func() (n int) {
		check(t, tree.db.Scan(spaceVersion, nil, nil, func(key, value []byte) bool {
			v := must[*version](t)(decodeVersion(key, value))
			if v.place == placeLost {
				t.Errorf("version %d of inode %d is lost", v.own, v.ino)
				return true
			}
			rd := must[VersionReader](t)(tree.past.openVersion(v))
			if err := whole(rd); err != nil {
				t.Errorf("version %d of inode %d: %v", v.own, v.ino, err)
			}
			check(t, rd.Close())
			n++
			return true
		}))
		return n
	}
	n := verify()
	if r := collect(t, tree, smallGC); len(r.Left) > 0 {
		t.Errorf("%+v", r)
	}
	verify()
	noGarbage(t, tree)
	for _, f := range fsckNow(t, tree, FsckScrub, false).Findings {
		if slices.Contains([]string{FoundVersion, FoundChunk, FoundRecord, FoundPack, FoundLost}, string(f.Kind)) {
			t.Errorf("%+v", f)
		}
	}
	t.Logf("%d collections freed %d bytes; %d versions are kept", runs, freed, n)
}

// dropSome drops about one of n captured versions, but the newest of each inode.
func dropSome(tree *Tree, r *rand.Rand, n int) error {
	tree.mu.Lock()
	defer tree.mu.Unlock()
	x := tree.begin()
	var last sharefs.Ino
	var bad error
	err := tree.db.Scan(spaceVersion, nil, nil, func(key, value []byte) bool {
		v, err := decodeVersion(key, value)
		if err != nil {
			bad = err
			return false
		}
		if v.ino == last && v.place == placeKept && r.IntN(n) == 0 {
			x.b.Delete(spaceVersion, versionKey(v.ino, v.own))
		}
		last = v.ino
		return true
	})
	if err = errors.Join(err, bad); err != nil || x.b.Len() == 0 {
		return err
	}
	return x.commit()
}

// A record that was moved between the look at its row and the reading of its pack is found in its new place.
func TestReadersFindWhatWasMoved(t *testing.T) {
	t.Parallel()
	tree := testTree(t, t.TempDir(), byHand, func(c *Config) { c.packSize = 200_000 })
	m := newGCModel(t, tree, 40)
	m.mix()
	check(t, tree.past.packs.Seal())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	ids := m.ids()
	for g := range uint64(3) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 3))
			for {
				select {
				case <-stop:
					return
				default:
				}
				id := ids[r.IntN(len(ids))]
				v, err := loadVersion(tree.db, id.ino, id.own)
				if err != nil {
					t.Error(err)
					return
				}
				rd := newKeptReader(&tree.past, v)
				b := make([]byte, rd.Size())
				if n, err := rd.ReadAt(b, 0); n < len(b) || string(b) != m.all[id] {
					t.Errorf("version %d of inode %d: %v", id.own, id.ino, err)
					return
				}
				if err := rd.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 5 {
		// Every pack is rewritten, whatever is dead in it.
		c := newCollector(&tree.past, t.Context(), smallGC, nil)
		var list []pack.Info
		check(t, tree.past.packs.Each(func(i pack.Info) bool { list = append(list, i); return true }))
		for _, i := range list {
			if i.Sealed {
				check(t, c.rewrite(&i))
			}
		}
		check(t, tree.past.packs.Seal())
		if c.report.PacksRewritten == 0 || len(c.report.Left) > 0 {
			t.Errorf("%+v", c.report)
		}
	}
	close(stop)
	wg.Wait()
}
