package near

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"

	"sharefs/versions/pack"
	"sharefs/versions/pack/memdisk"
)

// The power fails at every step of a pack's leaving, and of what is fetched: then the pack is here, or there is a note of it and the bucket has it, and all that it held is read.
func TestPowerFailsWhileAPackLeaves(t *testing.T) {
	r := seeded(t)
	for round := 0; ; round++ {
		b := newBench(t, 1<<30)
		b.target = 100 << 10
		b.close()
		var armed atomic.Bool
		var snapshot func()
		b.packs.Before = func() {
			if armed.Load() {
				snapshot()
			}
		}
		b.files.Before = b.packs.Before
		b.open()
		b.add(r, 12)
		b.upload(true)
		if round%3 == 2 { // some have left before
			b.setBudget(b.fs.Stats().Held / 2)
			if err := b.fs.shrink(); err != nil {
				t.Fatal(err)
			}
		}
		// What the disks hold then; both lose power at once, in the midst of what goes on.
		var mu sync.Mutex
		steps := 0
		var packs, files *memdisk.Disk
		snapshot = func() {
			mu.Lock()
			defer mu.Unlock()
			if steps++; steps != round+1 {
				return
			}
			if round%2 == 0 {
				packs, files = b.packs.Killed(), b.files.Killed()
			} else {
				packs, files = b.packs.PowerLoss(r), b.files.PowerLoss(r)
			}
		}
		armed.Store(true)
		b.setBudget(1)
		if err := b.fs.shrink(); err != nil {
			t.Fatal(err)
		}
		b.readAll()
		b.fs.Close()
		if packs == nil {
			t.Logf("%d steps", round)
			return
		}
		after := *b
		after.packs, after.files, after.budget = packs, files, 1<<30
		after.open()
		after.readAll()
		if ids, err := after.store.Packs(); err != nil || len(ids) == 0 {
			t.Fatal(ids, err)
		}
		if strays, err := after.store.Strays(); err != nil || len(strays) > 0 {
			t.Fatalf("step %d leaves %v, %v", round, strays, err)
		}
		after.close()
	}
}

// Whatever becomes of the files of the cache, what is read is right: a damaged block is fetched again, a damaged note is made anew.
func TestDamagedCache(t *testing.T) {
	r := seeded(t)
	b, _ := remoteBench(t, r, 30)
	b.setBudget(1 << 40)
	b.readAll()
	b.close()
	b.budget = 1 << 40
	for range 40 {
		for _, name := range b.files.Names() {
			data := b.files.Data(name)
			switch r.IntN(5) {
			case 0:
				data[r.IntN(len(data))] ^= 1 << r.IntN(8)
			case 1:
				data[r.IntN(noteLen)] ^= 1 << r.IntN(8)
			case 2:
				b.files.Put(name, bytes.Clone(data[:r.IntN(len(data)+1)]))
			case 3:
				from := r.IntN(len(data))
				clear(data[from:min(len(data), from+r.IntN(200<<10))])
			}
		}
		b.open()
		b.readAll()
		if err := b.store.Each(func(i pack.Info) bool {
			if i.Size <= 0 {
				t.Errorf("%+v", i)
			}
			return true
		}); err != nil {
			t.Error(err)
		}
		b.close()
	}
}

// A store of packs behind the cache is as one that has all of them.
func TestRandomLife(t *testing.T) {
	r := seeded(t)
	b := newBench(t, 1<<20)
	b.target = 150 << 10
	b.close()
	b.open()
	for range 60 {
		switch r.IntN(8) {
		case 0, 1:
			b.add(r, r.IntN(10))
		case 2:
			b.upload(true)
		case 3:
			b.setBudget(int64(r.IntN(1 << 20)))
			if err := b.fs.shrink(); err != nil {
				t.Fatal(err)
			}
		case 4:
			b.close()
			b.open()
		case 5: // a pack goes, with what is in it
			ids, err := b.store.Packs()
			if err != nil {
				t.Fatal(err)
			}
			if len(ids) == 0 || r.IntN(3) > 0 {
				break
			}
			id := ids[r.IntN(len(ids))]
			if growing, _, ok := b.store.Growing(); ok && id == growing {
				break
			}
			records, err := b.store.Index(id)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.store.Remove(id); err != nil {
				break // it was left open by an earlier life
			}
			for _, rec := range records {
				delete(b.locs, rec.ID)
			}
		case 6: // a pack is copied, and removed
			for _, id := range b.order {
				loc, ok := b.locs[id]
				if !ok || r.IntN(20) > 0 {
					continue
				}
				to, err := b.store.Copy(pack.Record{Loc: loc, Type: pack.TypeChunk, ID: id})
				if err != nil {
					t.Fatal(err)
				}
				b.locs[id] = to
			}
			if err := b.store.Sync(); err != nil {
				t.Fatal(err)
			}
		default:
			for range 20 {
				if len(b.order) == 0 {
					break
				}
				if id := b.order[r.IntN(len(b.order))]; b.locs[id] != (pack.Loc{}) {
					if err := b.read(id); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	for _, id := range b.order {
		if _, ok := b.locs[id]; ok {
			if err := b.read(id); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.close()
}
