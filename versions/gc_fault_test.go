package versions

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/pack"
	"sharefs/versions/pack/memdisk"
)

// damageAt flips a bit of a record's body.
func damageAt(packs *memdisk.Disk, loc pack.Loc) {
	name := loc.Pack.String()
	packs.Data(name[:2] + "/" + name)[loc.Off+64+1] ^= 4
}

// A pack with a record that is needed and does not read stays as it is, and is named.
func TestGCLeavesDamagedPacks(t *testing.T) {
	packs := memdisk.New()
	tree := memTree(t, packs)
	m := newGCModel(t, tree, 15)
	m.mix()
	// Of every sealed pack one record that is needed is damaged.
	need := neededChunks(t, tree)
	bad := map[pack.ID]sharefs.ChunkID{}
	before := map[string][]byte{}
	grows, _, _ := tree.past.packs.Growing()
	check(t, tree.db.Scan(spaceChunk, nil, nil, func(key, value []byte) bool {
		loc := must[pack.Loc](t)(pack.ParseLoc(value))
		if need[sharefs.ChunkID(key)] && loc.Pack != grows && bad[loc.Pack] == (sharefs.ChunkID{}) {
			bad[loc.Pack] = sharefs.ChunkID(key)
			damageAt(packs, loc)
			name := loc.Pack.String()
			before[name] = slices.Clone(packs.Data(name[:2] + "/" + name))
		}
		return true
	}))
	r := collect(t, tree, smallGC)
	if len(r.Left) == 0 || r.PacksRewritten > 0 {
		t.Fatalf("%+v", r)
	}
	for _, l := range r.Left {
		if !bytes.Equal(packs.Data(l.Pack[:2]+"/"+l.Pack), before[l.Pack]) || !strings.Contains(l.Why, "does not read") {
			t.Errorf("%+v was changed", l)
		}
		if !strings.Contains(r.Text(), l.Pack) {
			t.Error(r.Text())
		}
	}
	for id, chunk := range bad {
		loc := chunkAt(t, tree, chunk)
		if loc.Pack != id {
			t.Error("the row of a damaged record moved")
		}
	}
}

// chunkAt returns where the record of a chunk lies.
func chunkAt(t testing.TB, tree *Tree, id sharefs.ChunkID) pack.Loc {
	t.Helper()
	b, ok, err := tree.db.Get(spaceChunk, id[:])
	if !ok || err != nil {
		t.Fatalf("chunk %v has no row: %v", id, err)
	}
	return must[pack.Loc](t)(pack.ParseLoc(b))
}

// A manifest that cannot be read hides what it needs: nothing is given up, and the version is named.
func TestGCWithADamagedManifest(t *testing.T) {
	packs := memdisk.New()
	tree := memTree(t, packs)
	m := newGCModel(t, tree, 16)
	var large strings.Builder
	for i := range uint64(40) {
		large.WriteString(bytesFor(2*i + 1))
	}
	id := m.save("large", large.String())
	m.save("large", "small")
	m.fill(20)
	v := must[*version](t)(loadVersion(tree.db, id.ino, id.own))
	if v.top.level == 0 {
		t.Fatal("its manifest has no nodes")
	}
	m.thin(1 << 30)
	m.kept[id] = large.String()
	tree.mu.Lock()
	x := tree.begin()
	v.put(&x.b)
	check(t, x.commit())
	tree.mu.Unlock()
	loc := chunkAt(t, tree, v.top.spans[0].id)
	if grows, _, _ := tree.past.packs.Growing(); grows == loc.Pack {
		check(t, tree.past.packs.Seal())
	}
	damageAt(packs, loc)
	for _, slots := range []int{0, 64} {
		opts := smallGC
		opts.slots = slots
		r := collect(t, tree, opts)
		if r.ChunksRemoved != 0 && slots == 0 || len(r.Left) == 0 || r.Left[0].Ino != id.ino || r.Left[0].Version != id.own {
			t.Errorf("%+v", r)
		}
		if !strings.Contains(r.Text(), "cannot be told") {
			t.Error(r.Text())
		}
	}
	damageAt(packs, loc) // whole again
	m.verify()
	if r := collect(t, tree, smallGC); r.ChunksRemoved == 0 || len(r.Left) > 0 {
		t.Errorf("%+v", r)
	}
	m.verify()
	noGarbage(t, tree)

	// A row that is damaged, likewise.
	tree.mu.Lock()
	x = tree.begin()
	x.b.Put(spaceVersion, versionKey(id.ino, 7), []byte{99})
	check(t, x.commit())
	tree.mu.Unlock()
	m.fill(3)
	if r := collect(t, tree, smallGC); r.ChunksRemoved != 0 || len(r.Left) != 1 || r.Left[0].Ino != id.ino || r.Left[0].Version != 0 {
		t.Errorf("%+v", r)
	}
}

// A pack whose index does not list what rows lead to stays.
func TestGCLeavesAPackWhoseIndexIsShort(t *testing.T) {
	packs := memdisk.New()
	tree := memTree(t, packs)
	m := newGCModel(t, tree, 17)
	m.mix()
	need := neededChunks(t, tree)
	grows, _, _ := tree.past.packs.Growing()
	var loc pack.Loc
	check(t, tree.db.Scan(spaceChunk, nil, nil, func(key, value []byte) bool {
		loc = must[pack.Loc](t)(pack.ParseLoc(value))
		return loc.Pack == grows || !need[sharefs.ChunkID(key)]
	}))
	data := packs.Data(loc.Pack.String()[:2] + "/" + loc.Pack.String())
	data[len(data)-20] ^= 1 // its footer: the records are looked for one after the other
	data[loc.Off+3] ^= 1    // and one of them is not found
	r := collect(t, tree, smallGC)
	if packs.Data(loc.Pack.String()[:2]+"/"+loc.Pack.String()) == nil || !strings.Contains(r.Text(), loc.Pack.String()) {
		t.Errorf("%+v", r)
	}
}

// Every operation on packs fails once, for want of room or otherwise: nothing is lost, and the next run finishes.
func TestGCFaults(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	run := func(fault int, cause error) (ops int) {
		packs := memdisk.New()
		tree := memTree(t, packs)
		m := newGCModel(t, tree, 18)
		m.fill(7)
		m.mix()
		m.thin(4)
		before := packs.Ops()
		packs.Fail(fault, cause)
		r, err := tree.GC(t.Context(), smallGC, nil)
		packs.Fail(0, nil)
		if fault > 0 && err == nil && len(r.Left) == 0 && fault < packs.Ops()-before {
			t.Errorf("fault %d is not reported: %+v", fault, r)
		}
		m.verify()
		m.fill(3)
		r = collect(t, tree, smallGC)
		m.verify()
		noGarbage(t, tree)
		ops = packs.Ops() - before
		check(t, tree.Close()) // there are many
		return ops
	}
	ops := run(0, nil)
	for n := 1; n <= ops; n++ {
		run(n, []error{unix.ENOSPC, unix.EIO}[n%2])
		if os.Getenv("SHAREFS_SOAK") == "" {
			n += 1 + n/2
		} else {
			run(n, []error{unix.EIO, unix.ENOSPC}[n%2])
		}
	}
}

// The disk stays full: packs that are all dead are removed and others punched, what is to be copied waits, and says so.
func TestGCOnAFullDisk(t *testing.T) {
	disk := &fullPacks{Disk: memdisk.New()}
	tree := memTree(t, disk)
	m := newGCModel(t, tree, 19)
	m.mix()
	capture(t, tree)
	disk.full = true
	r := collect(t, tree, smallGC)
	if len(r.Left) < 2 || r.PacksRewritten != 0 || r.PacksRemoved+r.PacksPunched == 0 {
		t.Errorf("%+v", r)
	}
	m.verify()
	disk.full = false
	if r := collect(t, tree, smallGC); len(r.Left) > 0 || r.PacksRewritten == 0 {
		t.Errorf("%+v", r)
	}
	m.verify()
	noGarbage(t, tree)
}

// fullPacks is a disk that takes no new file and no longer one while it is full.
type fullPacks struct {
	*memdisk.Disk
	full bool
}

func (d *fullPacks) Create(name string) (pack.File, error) {
	if d.full {
		return nil, unix.ENOSPC
	}
	f, err := d.Disk.Create(name)
	return &growingFile{f, d}, err
}

func (d *fullPacks) Open(name string, write bool) (pack.File, error) {
	f, err := d.Disk.Open(name, write)
	if err != nil {
		return nil, err
	}
	return &growingFile{f, d}, nil
}

type growingFile struct {
	pack.File
	d *fullPacks
}

func (f *growingFile) WriteAt(b []byte, off int64) (int, error) {
	if size, err := f.Size(); f.d.full && err == nil && off+int64(len(b)) > size {
		return 0, unix.ENOSPC
	}
	return f.File.WriteAt(b, off)
}

func (f *growingFile) Punch(off, n int64) error {
	return f.File.(interface{ Punch(off, n int64) error }).Punch(off, n)
}

func (f *growingFile) Held() (int64, error) {
	return f.File.(interface{ Held() (int64, error) }).Held()
}

// Stopped anywhere, a collection leaves what the next one finishes.
func TestGCStopped(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	stop := func(n int) (places int) {
		tree := memTree(t, memdisk.New())
		m := newGCModel(t, tree, 20)
		m.fill(7)
		m.mix()
		m.thin(4)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		opts := smallGC
		opts.at = func(string) {
			if places++; places == n {
				cancel()
			}
		}
		_, err := tree.GC(ctx, opts, nil)
		if (err != nil) != (n > 0 && places >= n) {
			t.Errorf("stopped in place %d: %v", n, err)
		}
		m.verify()
		collect(t, tree, smallGC)
		m.verify()
		noGarbage(t, tree)
		check(t, tree.Close())
		return places
	}
	all := stop(0)
	for n := 1; n <= all; n++ {
		stop(n)
		if os.Getenv("SHAREFS_SOAK") == "" {
			n += 1 + n/2
		}
	}
}
