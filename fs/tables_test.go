package fs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

func TestHandles(t *testing.T) {
	var h handles
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			mine := map[uint64]*open{}
			for range 3000 {
				o := &open{}
				fh, ok := h.add(o)
				if !ok {
					t.Error("no number left")
					return
				}
				if mine[fh] != nil {
					t.Errorf("number %d was given twice", fh)
				}
				mine[fh] = o
				if len(mine) > 700 {
					for fh, o := range mine {
						if h.get(fh) != o || h.remove(fh) != o {
							t.Errorf("number %d leads elsewhere", fh)
						}
						delete(mine, fh)
						break
					}
				}
			}
			for fh := range mine {
				h.remove(fh)
			}
		})
	}
	wg.Wait()
	if n := h.count(); n != 0 {
		t.Errorf("%d handles are left", n)
	}
	for _, fh := range []uint64{0, 5, 1 << 20, 1 << 40, 1<<64 - 1} {
		if h.get(fh) != nil || h.remove(fh) != nil {
			t.Errorf("number %d is in use", fh)
		}
	}
	a, _ := h.add(&open{})
	b, _ := h.add(&open{})
	if all := h.drain(); len(all) != 2 || h.get(a) != nil || h.get(b) != nil || h.count() != 0 {
		t.Errorf("drained %d handles of 2", len(all))
	}
}

// fakeKernel hands out ids and minds which are registered.
type fakeKernel struct {
	mu   sync.Mutex
	last int32
	open map[int32]bool
	fail error
}

func (k *fakeKernel) OpenBacking(int) (int32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return 0, k.fail
	}
	k.last++
	k.open[k.last] = true
	return k.last, nil
}

func (k *fakeKernel) CloseBacking(id int32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.open[id] {
		return unix.ENOENT
	}
	delete(k.open, id)
	return nil
}

func openNull() (int, error) { return unix.Open(os.DevNull, unix.O_PATH|unix.O_CLOEXEC, 0) }

// Against a model: an inode that has users has one id as long as it has them, and no more idle ones are kept than
// there may be.
func TestBackingsAgainstModel(t *testing.T) {
	k := &fakeKernel{open: map[int32]bool{}}
	var b backings
	b.init(k)
	rnd := rand.New(rand.NewPCG(1, 2))
	users, ids := map[sharefs.Ino]int{}, map[sharefs.Ino]int32{}
	const inodes = 3 * backingShards * idleBackings
	for range 60000 {
		ino := sharefs.Ino(rnd.IntN(inodes))
		switch op := rnd.IntN(10); {
		case op < 5:
			id, err := b.acquire(ino, openNull)
			ok(t, err)
			if users[ino] > 0 && ids[ino] != id {
				t.Fatalf("inode %d has the ids %d and %d at a time", ino, ids[ino], id)
			}
			if !k.open[id] {
				t.Fatalf("inode %d got the id %d, which is not registered", ino, id)
			}
			users[ino]++
			ids[ino] = id
		case op < 9:
			if users[ino] > 0 {
				users[ino]--
				b.release(ino)
			}
		default:
			if got, want := b.drop(ino), users[ino] == 0; got != want {
				t.Fatalf("drop(%d) = %v with %d users", ino, got, users[ino])
			}
		}
	}
	used := 0
	for ino, n := range users {
		if n > 0 {
			used++
			if !k.open[ids[ino]] {
				t.Errorf("inode %d is in use and its id is not registered", ino)
			}
		}
	}
	all, idle := b.count()
	if all-idle != used || all != len(k.open) || idle > backingShards*idleBackings {
		t.Errorf("%d ids, %d of them idle; %d are in use, %d registered", all, idle, used, len(k.open))
	}
}

func TestBackingsFailures(t *testing.T) {
	k := &fakeKernel{open: map[int32]bool{}}
	var b backings
	b.init(k)
	_, err := b.acquire(1, func() (int, error) { return 0, sharefs.KindStale })
	want(t, "a file that cannot be opened", err, sharefs.KindStale)
	k.fail = unix.ENOMEM
	_, err = b.acquire(1, openNull)
	want(t, "a file that cannot be registered", err, unix.ENOMEM)
	k.fail = nil
	if all, _ := b.count(); all != 0 {
		t.Errorf("%d ids after failures alone", all)
	}
	b.release(1) // of nothing
	if !b.drop(1) {
		t.Error("nothing could not be dropped")
	}
	if _, err := b.acquire(1, openNull); err != nil {
		t.Error(err)
	}
}

func TestNodes(t *testing.T) {
	var n nodes
	n.init()
	a := nodeKey{kind: pastFile, ino: 7, num: 3}
	id := n.enter(a)
	if !virtual(id) || id != n.enter(a) || id != n.find(a) {
		t.Fatalf("the number %#x of a node is not its own", id)
	}
	if k, found := n.get(id); !found || k != a {
		t.Errorf("number %#x stands for %+v", id, k)
	}
	n.forget(id, 1)
	if _, found := n.get(id); !found {
		t.Error("a node was forgotten with a lookup left")
	}
	n.forget(id, 1)
	if _, found := n.get(id); found || n.count() != 0 {
		t.Error("a node was not forgotten")
	}
	n.forget(id, 1)
	if n.enter(a) != id {
		t.Error("a node has another number the second time")
	}
}

// Nodes whose numbers fall together are told apart as long as both are known.
func TestNodesCollide(t *testing.T) {
	var n nodes
	n.init()
	a, b := nodeKey{kind: pastFile, ino: 7, num: 3}, nodeKey{kind: pastDir, ino: 9}
	n.shard(b.number()).byID[b.number()] = node{nodeKey: a, refs: 1}
	id := n.enter(b)
	if k, _ := n.get(id); k != b || id == b.number() || !virtual(id) {
		t.Errorf("%+v got the number %#x of another", b, id)
	}
}

func TestNodeNumbersDiffer(t *testing.T) {
	seen := map[uint64]nodeKey{}
	for ino := range sharefs.Ino(40) {
		for num := range uint64(40) {
			for kind := shareDir; kind <= sideNode; kind++ {
				k := nodeKey{kind: kind, ino: ino, num: num}
				if other, double := seen[k.number()]; double {
					t.Fatalf("%+v and %+v have one number", k, other)
				}
				seen[k.number()] = k
			}
			k := nodeKey{kind: pastLink, ino: ino, text: fmt.Sprint(num)}
			if other, double := seen[k.number()]; double {
				t.Fatalf("%+v and %+v have one number", k, other)
			}
			seen[k.number()] = k
		}
	}
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want unix.Errno
	}{
		{sharefs.KindNotExist, unix.ENOENT},
		{&sharefs.Error{Op: "x", Kind: sharefs.KindNotEmpty}, unix.ENOTEMPTY},
		{unix.ENOSPC, unix.ENOSPC},
		{errors.New("no idea"), unix.EIO},
	} {
		if got := status(c.err); unix.Errno(got) != c.want {
			t.Errorf("%v became %v, want %v", c.err, got, c.want)
		}
	}
	if status(nil) != 0 || missing(nil) || !missing(sharefs.KindNotExist) ||
		!missing(&sharefs.Error{Kind: sharefs.KindNotExist}) {
		t.Error("missing or success was not recognised")
	}
}

// runs are extents of data, in order.
type runs [][2]int64

func (r runs) NextData(off int64) (start, end int64, err error) {
	for _, e := range r {
		if off < e[1] {
			return max(off, e[0]), e[1], nil
		}
	}
	return 100, 100, nil
}

// Against a model that knows of each byte whether it is data.
func TestSeekExtents(t *testing.T) {
	const size = 100
	for _, r := range []runs{
		{}, {{0, 100}}, {{10, 20}}, {{0, 10}, {10, 20}, {50, 100}}, {{99, 100}}, {{0, 1}},
	} {
		var data [size]bool
		for _, e := range r {
			for i := e[0]; i < e[1]; i++ {
				data[i] = true
			}
		}
		for off := range int64(size) {
			wantData, wantHole := int64(-1), int64(size)
			for i := size - 1; i >= int(off); i-- {
				if data[i] {
					wantData = int64(i)
				} else {
					wantHole = int64(i)
				}
			}
			got, err := seekExtents(r, size, off, unix.SEEK_DATA)
			if wantData < 0 != errors.Is(err, sharefs.KindNoDevice) || err == nil && got != wantData {
				t.Errorf("%v: data from %d at %d, %v, want %d", r, off, got, err, wantData)
			}
			if got, err := seekExtents(r, size, off, unix.SEEK_HOLE); err != nil || got != wantHole {
				t.Errorf("%v: hole from %d at %d, %v, want %d", r, off, got, err, wantHole)
			}
		}
		_, err := seekExtents(r, size, size, unix.SEEK_HOLE)
		want(t, "from the end", err, sharefs.KindNoDevice)
		_, err = seekExtents(r, size, 0, unix.SEEK_CUR)
		want(t, "another kind of seek", err, sharefs.KindInvalid)
	}
}

// Where a file cannot be passed through it cannot be opened; one that was made for the open is there all the same, and
// the kernel does not go on believing that it is missing.
func TestCreateWithoutRegistration(t *testing.T) {
	m := mountTree(t, true, nil)
	p := m.path("file")
	want(t, "before", unix.Access(p, unix.F_OK), unix.ENOENT)
	m.unregistered.Store(true)
	_, err := os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	want(t, "create", err, unix.ENOMEM)
	m.unregistered.Store(false)
	m.until("the name is known", func() bool { return unix.Access(p, unix.F_OK) == nil })
	if n := m.srv.Stats().OpenHandles; n != 0 {
		t.Errorf("%d open handles", n)
	}
	ok(t, os.WriteFile(p, []byte("content"), 0o644))
	m.holds("file", "content")
}
