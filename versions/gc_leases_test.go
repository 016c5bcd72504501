package versions

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/pack/memdisk"
)

// In every place where a collection can be met, the capture makes versions of what is being swept, a version is committed, and one is restored.
func TestGCWhileVersionsAreMade(t *testing.T) {
	t.Parallel()
	places := map[string]int{}
	work := func(where string, nth int) (reached bool) {
		tree := memTree(t, memdisk.New())
		m := newGCModel(t, tree, 5)
		m.fill(14)
		m.mix()
		m.thin(3)
		again := slices.Clone(m.garbage)
		reader := must[*version](t)(loadVersion(tree.db, m.ids()[0].ino, m.ids()[0].own))
		opts := smallGC
		n := 0
		opts.at = func(place string) {
			places[place]++
			if place != where {
				return
			}
			if n++; n != nth {
				return
			}
			reached = true
			for i, content := range again {
				m.save(fmt.Sprint("again ", i), content)
			}
			capture(t, tree)
			held := create(t, tree, sharefs.RootIno, "held", again[0])
			h := must[*Handle](t)(tree.Open(held.Ino, unix.O_RDWR, root))
			v, _, err := tree.past.takeTimed(held.Ino, tree.past.newTools(), "")
			check(t, err)
			m.kept[versionID{held.Ino, v.own}] = again[0]
			check(t, h.Close())
			m.drop(versionID{reader.ino, reader.own})
		}
		r := collect(t, tree, opts)
		m.verify()
		if t.Failed() {
			t.Fatalf("at %q: %+v", where, r)
		}
		collect(t, tree, smallGC)
		m.verify()
		noGarbage(t, tree)
		check(t, tree.Close())
		return reached
	}
	work("", 0)
	want := []string{"versions marked", "marked", "sweep", "swept", "settled", "remove", "punch", "copied", "copies synced", "moved", "synced"}
	for _, place := range want {
		if places[place] == 0 {
			t.Errorf("%q is never met with", place)
		}
	}
	for place := range places {
		if !work(place, 1) {
			t.Errorf("%q is not met with", place)
		}
		if os.Getenv("SHAREFS_SOAK") != "" {
			for nth := 2; work(place, nth) && nth < 10; nth++ {
			}
		}
	}
}

// A batch that has looked for its chunks before the collection began and commits them after it.
func TestGCLeavesWhatABatchPassedOver(t *testing.T) {
	t.Parallel()
	for _, until := range []string{"versions marked", "swept", "settled", "the end"} {
		tree := memTree(t, memdisk.New())
		m := newGCModel(t, tree, 9)
		content := bytesFor(12) + bytesFor(14)
		old := m.save("old", content)
		m.fill(20)
		m.save("old", "newer")
		capture(t, tree)
		m.drop(old)
		id := m.save("new", content)
		h := &tree.past
		b := h.newBatch(h.tools)
		done, err := b.add(id)
		if err != nil || !done {
			t.Fatal(done, err)
		}
		if len(b.chunks) > 0 {
			t.Fatal("its chunks were gone before")
		}
		finish := func(place string) {
			if place == until && b != nil {
				check(t, b.finish())
				b.lease.end()
				b = nil
			}
		}
		opts := smallGC
		opts.at = finish
		collect(t, tree, opts)
		finish("the end")
		m.verify()
		if v := must[*version](t)(loadVersion(tree.db, id.ino, id.own)); v.place != placeKept {
			t.Fatalf("until %q: it is not kept", until)
		}
		collect(t, tree, smallGC)
		m.verify()
		noGarbage(t, tree)
	}
}

// A batch with records in a sealed pack and no rows yet: the pack stays.
func TestGCLeavesPacksOfBatchesAtWork(t *testing.T) {
	tree := memTree(t, memdisk.New())
	m := newGCModel(t, tree, 10)
	var ids []versionID
	for i := range 12 {
		ids = append(ids, m.save(fmt.Sprint("new ", i), bytesFor(uint64(2*i+1))))
	}
	h := &tree.past
	b := h.newBatch(h.tools)
	for _, id := range ids {
		must[bool](t)(b.add(id))
	}
	if len(b.chunks) == 0 || h.packs.Stats().Packs == 0 {
		t.Fatal("no pack was sealed")
	}
	r := collect(t, tree, smallGC)
	if r.PacksRemoved+r.PacksRewritten+r.PacksPunched > 0 || len(r.Left) == 0 {
		t.Errorf("%+v", r)
	}
	check(t, b.finish())
	b.lease.end()
	capture(t, tree)
	m.verify()
	if r := collect(t, tree, smallGC); len(r.Left) > 0 {
		t.Errorf("%+v", r)
	}
	m.verify()
}

// A batch that is given up leaves garbage, which goes.
func TestGCTakesWhatABatchGaveUp(t *testing.T) {
	tree := memTree(t, memdisk.New())
	h := &tree.past
	b := h.newBatch(h.tools)
	for i := range 20 {
		ino := save(t, tree, fmt.Sprint(i), bytesFor(uint64(i)))
		must[bool](t)(b.add(versionID{ino, 1}))
		unlink(t, tree, fmt.Sprint(i))
		drop(t, tree, ino, 1)
	}
	check(t, b.flush())
	b.lease.end()
	if r := collect(t, tree, smallGC); r.PacksRemoved == 0 || r.ChunksRemoved == 0 {
		t.Errorf("%+v", r)
	}
	noGarbage(t, tree)
}

// A version that is open keeps its chunks when retention takes its row, until it is closed.
func TestGCLeavesWhatIsBeingRead(t *testing.T) {
	tree := memTree(t, memdisk.New())
	m := newGCModel(t, tree, 11)
	content := bytesFor(101) + bytesFor(103) + bytesFor(105)
	id := m.save("f", content)
	m.save("f", "newer")
	m.fill(10)
	v := must[*version](t)(loadVersion(tree.db, id.ino, id.own))
	rd := must[VersionReader](t)(tree.OpenVersion(id.ino, 1))
	m.drop(id)
	collect(t, tree, smallGC)
	b := make([]byte, rd.Size())
	if n, err := rd.ReadAt(b, 0); n != len(content) || string(b) != content {
		t.Fatalf("%d bytes, %v", n, err)
	}
	check(t, rd.Close())
	if r := collect(t, tree, smallGC); r.ChunksRemoved == 0 {
		t.Errorf("%+v", r)
	}
	noGarbage(t, tree)
	late := newKeptReader(&tree.past, v) // its row was read before retention came, and it is known of after
	_, err := late.ReadAt(b, 0)
	wantKind(t, err, sharefs.KindNotExist)
	_, _, err = late.NextData(0)
	wantKind(t, err, sharefs.KindNotExist)
	check(t, late.Close())
	if n := len(tree.past.leases.readers); n != 0 {
		t.Errorf("%d readers are known of", n)
	}
}

// While a lease holds more than it can name, nothing goes.
func TestGCWhileALeaseHoldsAll(t *testing.T) {
	for _, ends := range []bool{false, true} {
		tree := memTree(t, memdisk.New())
		m := newGCModel(t, tree, 12)
		m.fill(30)
		m.thin(3)
		l := tree.past.leases.take()
		l.all = true
		l.add(&sharefs.ChunkID{1})
		opts := smallGC
		opts.at = func(place string) {
			if ends && place == "marked" {
				l.end()
			}
		}
		if r := collect(t, tree, opts); r.ChunksRemoved != 0 || r.PacksRemoved != 0 {
			t.Errorf("%+v", r)
		}
		if !ends {
			l.end()
		}
		if r := collect(t, tree, smallGC); r.ChunksRemoved == 0 {
			t.Errorf("%+v", r)
		}
		m.verify()
		noGarbage(t, tree)
	}
}

// Closing the tree ends a collection.
func TestCloseWhileCollecting(t *testing.T) {
	tree := memTree(t, memdisk.New())
	m := newGCModel(t, tree, 22)
	m.fill(30)
	m.thin(3)
	began, closed := make(chan struct{}), make(chan error)
	opts := smallGC
	first := true
	opts.at = func(string) {
		if first {
			first = false
			close(began)
			for !tree.closed.Load() {
				tree.sleep(1)
			}
		}
	}
	go func() {
		<-began
		closed <- tree.Close()
	}()
	if _, err := tree.GC(t.Context(), opts, nil); err == nil {
		t.Error("it went on")
	}
	check(t, <-closed)
}
