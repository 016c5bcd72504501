package versions

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// While files are made, changed, renamed, linked and removed, captured, and garbage is collected, a check finds nothing wrong.
func TestFsckFindsNothingWhileAllIsAtWork(t *testing.T) {
	t.Parallel()
	tree := testTree(t, t.TempDir(), func(c *Config) { c.packSize, c.byHand = 300_000, true })
	stop := make(chan struct{})
	var all sync.WaitGroup
	// It is as different as goroutines are from run to run; the seed says at least what each of them does.
	seed := rand.Uint64()
	if s := os.Getenv("SHAREFS_SEED"); s != "" {
		seed = must[uint64](t)(strconv.ParseUint(s, 10, 64))
	}
	t.Logf("SHAREFS_SEED=%d", seed)
	work := func(fn func(r *rand.Rand, i int) error) {
		seed++
		r := rand.New(rand.NewPCG(seed, 1))
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := fn(r, i); err != nil {
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	tolerant := func(err error) error {
		for _, kind := range []sharefs.Kind{sharefs.KindNotExist, sharefs.KindExist, sharefs.KindStale, sharefs.KindNotEmpty, sharefs.KindIsDir, sharefs.KindNotDir, sharefs.KindInvalid} {
			if errors.Is(err, kind) {
				return nil
			}
		}
		return err
	}
	dir := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root)).Ino
	name := func(r *rand.Rand) string { return string(rune('a' + r.IntN(12))) }
	parent := func(r *rand.Rand) sharefs.Ino { return []sharefs.Ino{sharefs.RootIno, dir}[r.IntN(2)] }
	for range 2 {
		work(func(r *rand.Rand, i int) error {
			if i > 400 { // the store is to stay small
				tree.sleep(10 * time.Millisecond)
			}
			switch r.IntN(9) {
			case 0:
				return tolerant(tree.Unlink(parent(r), name(r)))
			case 1:
				return tolerant(tree.Rename(parent(r), name(r), parent(r), name(r), []uint32{0, unix.RENAME_EXCHANGE}[r.IntN(2)]))
			case 2:
				_, err := tree.Mkdir(parent(r), "sub"+name(r), 0o755, root)
				return tolerant(err)
			case 3:
				return tolerant(tree.Rmdir(parent(r), "sub"+name(r)))
			}
			a, h, err := tree.Create(parent(r), name(r), unix.O_RDWR|unix.O_TRUNC, 0o644, root)
			if err != nil {
				return tolerant(err)
			}
			defer tree.Forget(a.Ino, 1)
			content := blob(r.Uint64N(500), 100+r.IntN(60_000))
			if _, err := h.WriteAt([]byte(content), 0); err != nil {
				return err
			}
			return h.Close()
		})
	}
	work(func(*rand.Rand, int) error {
		n, err := tree.past.capture()
		if n == 0 {
			tree.sleep(time.Millisecond)
		}
		return err
	})
	work(func(r *rand.Rand, i int) error { // as retention does
		var old []versionID
		newest := sharefs.Ino(0)
		err := tree.db.Scan(spaceVersion, nil, nil, func(key, value []byte) bool {
			v, err := decodeVersion(key, value)
			if err == nil && v.place == placeKept && v.ino == newest && r.IntN(3) == 0 {
				old = append(old, versionID{v.ino, v.own})
			}
			newest = keyIno(key)
			return true
		})
		if err != nil {
			return err
		}
		tree.mu.Lock()
		x := tree.begin()
		x.aside = true
		for _, id := range old {
			x.b.Delete(spaceVersion, versionKey(id.ino, id.own))
		}
		err = x.commit()
		tree.mu.Unlock()
		if err != nil {
			return err
		}
		_, err = tree.GC(context.Background(), GCOptions{Hurry: true, leastRun: 4096, leastDead: 4096}, nil)
		tree.sleep(5 * time.Millisecond)
		return err
	})
	var hold int64
	for round := 0; round < 8 || round < 200 && tree.HistoryStats().Captured < 50; round++ {
		r, err := tree.Fsck(context.Background(), FsckOptions{Mode: []FsckMode{FsckFast, FsckScrub}[round%2]}, nil)
		if err != nil {
			t.Errorf("round %d: %v", round, err)
			break
		}
		hold = max(hold, r.HoldUS)
		for _, f := range r.Findings {
			t.Errorf("round %d: %+v", round, f)
		}
		if t.Failed() {
			break
		}
	}
	close(stop)
	all.Wait()
	if !t.Failed() {
		r := must[FsckReport](t)(tree.Fsck(context.Background(), FsckOptions{Mode: FsckScrub}, nil))
		t.Logf("%+v, longest hold %d µs", r, hold)
		if r.Outcome != OutcomeClean {
			t.Errorf("%s", r.Text())
		}
	}
}
