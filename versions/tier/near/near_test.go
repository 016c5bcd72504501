package near

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sharefs"
	"sharefs/versions/pack"
	"sharefs/versions/pack/memdisk"
	"sharefs/versions/tier"
	"sharefs/versions/tier/membucket"
)

// patience bounds waits that only exist to end a hang.
const patience = time.Minute

// bench is a store of packs in a directory, with what it needs.
type bench struct {
	t      testing.TB
	packs  *memdisk.Disk
	files  *memdisk.Disk
	bucket *faulty
	fs     *FS
	store  *pack.Store
	budget int64
	target int64
	wait   time.Duration

	locs  map[sharefs.ChunkID]pack.Loc
	plain map[sharefs.ChunkID][]byte
	order []sharefs.ChunkID
}

func newBench(t testing.TB, budget int64) *bench {
	b := &bench{t: t, packs: memdisk.New(), files: memdisk.New(), bucket: &faulty{Bucket: &membucket.Bucket{}}, budget: budget, target: 400 << 10, wait: patience,
		locs: map[sharefs.ChunkID]pack.Loc{}, plain: map[sharefs.ChunkID][]byte{}}
	b.open()
	return b
}

// remoteBench returns one whose packs, with some chunks, have all left the disk, and the list of them.
func remoteBench(t testing.TB, r *rand.Rand, chunks int) (*bench, []tier.Info) {
	t.Helper()
	b := newBench(t, 1)
	b.add(r, chunks)
	list := b.upload(true)
	if err := b.fs.shrink(); err != nil {
		t.Fatal(err)
	}
	return b, list
}

func (b *bench) open() {
	b.t.Helper()
	var err error
	b.fs, err = Open(Config{Packs: b.packs, Files: b.files, Bucket: b.bucket, URL: "s3://here/bucket", Budget: b.budget, Patience: b.wait})
	if err != nil {
		b.t.Fatal(err)
	}
	b.store, err = pack.Open(pack.Config{FS: b.fs, Key: func(pack.Epoch) ([32]byte, error) { return [32]byte{1}, nil }, Target: b.target})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) close() {
	b.t.Helper()
	if err := b.store.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.fs.Close()
}

// add appends records that do not compress.
func (b *bench) add(r *rand.Rand, n int) {
	b.t.Helper()
	var word [8]byte
	for range n {
		plain := make([]byte, 1+r.IntN(60<<10))
		for i := 0; i < len(plain); i += 8 {
			binary.LittleEndian.PutUint64(word[:], r.Uint64())
			copy(plain[i:], word[:])
		}
		var id sharefs.ChunkID
		copy(id[:], fmt.Sprintf("%032x", r.Uint64()))
		loc, err := b.store.Append(pack.TypeChunk, id, plain)
		if err != nil {
			b.t.Fatal(err)
		}
		b.locs[id], b.plain[id] = loc, plain
		b.order = append(b.order, id)
	}
	if err := b.store.Sync(); err != nil {
		b.t.Fatal(err)
	}
}

// upload puts all sealed packs into the bucket, and says so where told.
func (b *bench) upload(tell bool) (list []tier.Info) {
	b.t.Helper()
	there := map[string]bool{} // what may leave while this goes on
	err := b.bucket.List(context.Background(), "packs/", "", func(i tier.Info) bool {
		there[i.Key] = true
		return true
	})
	if err != nil {
		b.t.Fatal(err)
	}
	err = b.store.Each(func(i pack.Info) bool {
		if !i.Sealed {
			return true
		}
		name := pack.PathOf(i.ID)
		if !i.Remote && !there["packs/"+name] {
			data := bytes.Clone(b.packs.Data(name))
			if _, err := b.bucket.Put(context.Background(), "packs/"+name, bytes.NewReader(data), int64(len(data)), tier.Condition{}); err != nil {
				b.t.Fatal(err)
			}
		}
		list = append(list, tier.Info{Key: "packs/" + name, Size: i.Size})
		return true
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if tell {
		b.fs.Named(list)
	}
	return list
}

// shrunk waits until what is held is within the budget.
func (b *bench) shrunk() {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s := b.fs.Stats()
		if s.Held <= s.Budget {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%+v", s)
		}
	}
}

func (b *bench) read(id sharefs.ChunkID) error {
	got, err := b.store.Read(b.locs[id], id, nil)
	if err == nil && !bytes.Equal(got, b.plain[id]) {
		err = errors.New("another content came back")
	}
	return err
}

func (b *bench) readAll() {
	b.t.Helper()
	for _, id := range b.order {
		if err := b.read(id); err != nil {
			b.t.Fatal(err)
		}
	}
}

// faulty is a bucket that reads as it is told.
type faulty struct {
	*membucket.Bucket
	read atomic.Pointer[readFunc]
}

type readFunc func(ctx context.Context, dst []byte, next func() (int, tier.Info, error)) (int, tier.Info, error)

func (b *faulty) ReadAt(ctx context.Context, key string, dst []byte, off int64) (int, tier.Info, error) {
	next := func() (int, tier.Info, error) { return b.Bucket.ReadAt(ctx, key, dst, off) }
	if fn := b.read.Load(); fn != nil {
		return (*fn)(ctx, dst, next)
	}
	return next()
}

func (b *faulty) reads(fn readFunc) { b.read.Store(&fn) }

// setBudget changes the budget of a store in use.
func (b *bench) setBudget(bytes int64) {
	b.fs.mu.Lock()
	defer b.fs.mu.Unlock()
	b.fs.cfg.Budget = bytes
}

func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestPacksLeaveTheDiskAndAreRead(t *testing.T) {
	b := newBench(t, 1<<20)
	b.add(seeded(t), 100)
	b.upload(true)
	b.shrunk()
	s := b.fs.Stats()
	if s.Remote == 0 || s.Left != uint64(s.Remote) || s.Local == 0 {
		t.Errorf("%+v", s)
	}
	b.readAll()
	b.shrunk()
	if s := b.fs.Stats(); s.Fetched == 0 || s.Hits == 0 {
		t.Errorf("%+v", s)
	}
	// All are listed, each in its lasting place, and what is in them is known without the bucket.
	fetches := b.fs.Stats().Fetches
	records := 0
	if err := b.store.Each(func(i pack.Info) bool {
		list, err := b.store.Present(i.ID)
		if err != nil {
			t.Error(err)
		}
		records += len(list)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if records != len(b.order) || b.fs.Stats().Fetches != fetches {
		t.Errorf("%d records of %d, %d fetches", records, len(b.order), b.fs.Stats().Fetches-fetches)
	}
	b.close()
	b.open()
	b.readAll()
	b.close()
}

func TestWhatTheBucketDoesNotHaveStays(t *testing.T) {
	b := newBench(t, 1)
	defer b.close()
	b.add(seeded(t), 100)
	list := b.upload(false)
	for i := range list[1:] {
		list[i+1].Size-- // the bucket has less of it
	}
	list[0].Key = "packs/open/" + list[0].Key[len("packs/00/"):]
	b.fs.Named(list)
	if err := b.fs.shrink(); err != nil {
		t.Fatal(err)
	}
	if s := b.fs.Stats(); s.Remote != 0 {
		t.Errorf("%+v", s)
	}
}

// What the root names and the bucket has lost since, or has otherwise, stays as well; so does everything while the bucket does not answer.
func TestWhatTheBucketHasLostStays(t *testing.T) {
	b := newBench(t, 1<<30)
	defer b.close()
	b.add(seeded(t), 100)
	list := b.upload(false)
	if len(list) < 3 {
		t.Fatalf("%d packs", len(list))
	}
	// As Named does, but for the look at the budget, which could be the one that is told what the bucket has lost.
	b.fs.mu.Lock()
	b.fs.named = map[pack.ID]tier.Info{}
	for _, h := range list {
		id, _ := IDOf(h.Key)
		b.fs.named[id] = h
	}
	b.fs.mu.Unlock()
	if err := b.bucket.Delete(t.Context(), list[0].Key); err != nil {
		t.Fatal(err)
	}
	if _, err := b.bucket.Put(t.Context(), list[1].Key, bytes.NewReader(make([]byte, list[1].Size)), list[1].Size, tier.Condition{}); err != nil {
		t.Fatal(err)
	}
	b.setBudget(1)
	if err := b.fs.shrink(); sharefs.KindOf(err) != sharefs.KindCorrupt {
		t.Errorf("it is not said: %v", err)
	}
	for i, h := range list {
		id, _ := IDOf(h.Key)
		if remote := b.store.IsRemote(id); remote != (i > 1) {
			t.Errorf("pack %d has left: %v", i, remote)
		}
	}
	b.readAll()
	b.add(seeded(t), 30)
	before := b.fs.Stats().Remote
	b.bucket.reads(func(context.Context, []byte, func() (int, tier.Info, error)) (int, tier.Info, error) {
		return 0, tier.Info{}, pass
	})
	b.upload(true)
	if err := b.fs.shrink(); sharefs.KindOf(err) != sharefs.KindUnreachable || b.fs.Stats().Remote != before {
		t.Errorf("without the bucket: %v, %+v", err, b.fs.Stats())
	}
}

func TestWhatWasNotReadGoesFirst(t *testing.T) {
	b := newBench(t, 1<<30)
	defer b.close()
	r := seeded(t)
	b.add(r, 100)
	list := b.upload(true)
	now := time.Now().UnixNano()
	rest := map[pack.ID]bool{}
	for i, h := range list {
		id, _ := IDOf(h.Key)
		b.fs.nodes[id].used.Store(now + int64(i))
		rest[id] = i >= len(list)/2
	}
	b.fs.mu.Lock()
	b.fs.cfg.Budget = b.fs.held
	for id, stays := range rest {
		if !stays {
			b.fs.cfg.Budget -= b.fs.nodes[id].size * 95 / 100
		}
	}
	b.fs.mu.Unlock()
	if err := b.fs.shrink(); err != nil {
		t.Fatal(err)
	}
	for i, h := range list {
		id, _ := IDOf(h.Key)
		// A twentieth more than is needed may go, and notes take some room.
		if local := b.fs.nodes[id].local; !local != !rest[id] && (i < len(list)/2 || i > len(list)/2+3) {
			t.Errorf("pack %d of %d is here: %v", i, len(list), local)
		}
	}
}

func TestOneOfSeveralReadersFetches(t *testing.T) {
	b, _ := remoteBench(t, seeded(t), 40)
	defer b.close()
	var asked atomic.Int64
	gate := make(chan struct{})
	b.bucket.reads(func(_ context.Context, _ []byte, next func() (int, tier.Info, error)) (int, tier.Info, error) {
		asked.Add(1)
		<-gate
		return next()
	})
	b.setBudget(1 << 40) // what is fetched stays
	var all sync.WaitGroup
	loc := b.locs[b.order[0]]
	if !b.store.IsRemote(loc.Pack) {
		t.Fatal("the first pack is here")
	}
	for range 20 {
		all.Go(func() {
			if err := b.read(b.order[0]); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(10 * time.Millisecond) // so that some wait; nothing depends on it
	close(gate)
	all.Wait()
	most := int64(loc.Len()/blockLen + 2)
	if n := asked.Load(); n > most {
		t.Errorf("%d requests for %d blocks", n, most)
	}
}

func TestManyAtOnce(t *testing.T) {
	b := newBench(t, 1<<20)
	r := seeded(t)
	b.add(r, 60)
	b.upload(true)
	var all sync.WaitGroup
	stop := make(chan struct{})
	for seed := range uint64(4) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for range 200 {
				if err := b.read(b.order[r.IntN(len(b.order))]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var tells sync.WaitGroup
	tells.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			b.upload(true)
			b.fs.Stats()
		}
	})
	all.Wait()
	close(stop)
	tells.Wait()
	b.close()
}

func TestRemovedPacks(t *testing.T) {
	b, _ := remoteBench(t, seeded(t), 40)
	id := b.order[0]
	loc := b.locs[id]
	// Who has it open reads on.
	f, err := b.fs.Open(pack.PathOf(loc.Pack), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.Remove(loc.Pack); err != nil {
		t.Fatal(err)
	}
	if n, err := f.ReadAt(make([]byte, loc.Len()), int64(loc.Off)); err != nil {
		t.Errorf("%d, %v", n, err)
	}
	f.Close()
	if err := b.read(id); sharefs.KindOf(err) != sharefs.KindCorrupt {
		t.Errorf("a removed pack is read: %v", err)
	}
	b.close()
	b.files = b.files.PowerLoss(rand.New(rand.NewPCG(1, 1)))
	b.open()
	defer b.close()
	if err := b.read(id); sharefs.KindOf(err) != sharefs.KindCorrupt {
		t.Errorf("a removed pack is there again: %v", err)
	}
}

func TestAdopt(t *testing.T) {
	b := newBench(t, 0)
	b.add(seeded(t), 40)
	if err := b.store.Seal(); err != nil {
		t.Fatal(err)
	}
	list := b.upload(false)
	b.close()
	b.packs, b.files = memdisk.New(), memdisk.New()
	b.open()
	defer b.close()
	for _, h := range list {
		if err := b.fs.Adopt(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if err := b.fs.Adopt(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	b.readAll()
	if err := b.fs.Adopt(t.Context(), tier.Info{Key: "packs/00/00000000000000000000000000000000", Size: 1000}); sharefs.KindOf(err) != sharefs.KindCorrupt {
		t.Errorf("one that is not there: %v", err)
	}
	if err := b.fs.Adopt(t.Context(), tier.Info{Key: "checkpoints/x", Size: 1000}); sharefs.KindOf(err) != sharefs.KindInvalid {
		t.Errorf("what is none: %v", err)
	}
}

func TestExamineReadsTheBucket(t *testing.T) {
	b, _ := remoteBench(t, seeded(t), 40)
	defer b.close()
	seen := 0
	err := b.store.Each(func(i pack.Info) bool {
		if _, err := b.store.Examine(i.ID, func(_ pack.Epoch, r pack.Record, plain []byte) error {
			seen++
			if !bytes.Equal(plain, b.plain[r.ID]) {
				t.Errorf("record %v is another one", r.ID)
			}
			return nil
		}, func(r pack.BadRecord) { t.Errorf("%+v", r) }); err != nil {
			t.Error(err)
		}
		return true
	})
	if err != nil || seen != len(b.order) {
		t.Errorf("%d of %d, %v", seen, len(b.order), err)
	}
	if held := b.fs.Stats().CacheBytes; held > int64(b.fs.Stats().Remote)*(noteLen*4) {
		t.Errorf("what was examined is kept: %d bytes", held)
	}
	// A copy of a pack in the bucket is as good as the pack.
	for _, id := range b.order[:5] {
		got, err := b.store.ReadCopy(b.fs.InBucket(b.locs[id].Pack), b.locs[id], id, nil)
		if err != nil || !bytes.Equal(got, b.plain[id]) {
			t.Errorf("%v", err)
		}
	}
}

func TestFullDiskReadsOn(t *testing.T) {
	b, _ := remoteBench(t, seeded(t), 40)
	defer b.close()
	for n := range 60 {
		b.files.Fail(n+1, errors.New("no space left"))
		if err := b.read(b.order[n%30]); err != nil {
			t.Fatal(err)
		}
	}
	b.files.Fail(0, nil)
	b.readAll()
}

func TestPacksCanBePunchedAndThenLeave(t *testing.T) {
	b := newBench(t, 1<<30)
	defer b.close()
	b.add(seeded(t), 40)
	b.upload(true)
	id := b.locs[b.order[0]].Pack
	records, err := b.store.Index(id)
	if err != nil || len(records) < 3 {
		t.Fatal(records, err)
	}
	if _, err := b.store.Punch(id, records[:1], 1); err != nil {
		t.Fatal(err)
	}
	b.setBudget(1)
	if err := b.fs.shrink(); err != nil {
		t.Fatal(err)
	}
	if !b.store.IsRemote(id) {
		t.Fatal("it is here")
	}
	b.readAll() // the bucket has it as it was
	if _, err := b.store.Punch(id, records[:1], 1); sharefs.KindOf(err) != sharefs.KindNotSupported {
		t.Errorf("a remote pack is punched: %v", err)
	}
	if _, err := b.store.Mend(id); sharefs.KindOf(err) != sharefs.KindNotSupported {
		t.Errorf("a remote pack is mended: %v", err)
	}
}

// A pack that the bucket has stays here as long as whoever counts copies does not let it go.
func TestPacksThatMayNotLeave(t *testing.T) {
	var may atomic.Bool
	b := newBench(t, 1<<20)
	b.fs.cfg.May = func(pack.ID, int64) bool { return may.Load() }
	b.add(seeded(t), 100)
	b.upload(true)
	if err := b.fs.shrink(); err != nil {
		t.Fatal(err)
	}
	if s := b.fs.Stats(); s.Remote != 0 || s.Left != 0 {
		t.Errorf("%+v", s)
	}
	may.Store(true)
	b.fs.Rouse()
	b.shrunk()
	if s := b.fs.Stats(); s.Remote == 0 {
		t.Errorf("%+v", s)
	}
	b.readAll()
}
