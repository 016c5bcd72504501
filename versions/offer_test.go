package versions

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// chunksOf lists the chunks of the newest version of a file in their order, found by asking for each place.
func chunksOf(t *testing.T, tree *Tree, ino sharefs.Ino) (list []located) {
	t.Helper()
	v := must[*version](t)(newestVersion(tree.db, ino, noLimit))
	p := newPartial(nil, tree, v)
	for off := int64(0); off < int64(v.size); {
		l := must[located](t)(p.at(off))
		if off = l.off + l.len; !l.hole {
			list = append(list, l)
		}
	}
	return list
}

// What a file holds that went and was read again is given to others, chunk by chunk and in any order: all that is right, and nothing else.
func TestChunkOfAFileThatIsAway(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	f := newFaraway()
	tree.SetElsewhere(f)
	text := blob(1, 1<<20) + string(make([]byte, 1<<20)) + blob(2, 9<<20) + blob(1, 1<<20)
	ino := away(t, tree, f, "f", text)
	list := chunksOf(t, tree, ino)
	given := func(is func(l *located) bool) (n int) {
		t.Helper()
		order := slices.Clone(list)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(order)/2, func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, l := range order {
			data, err := tree.ChunkOf(ino, l.id)
			switch {
			case err == nil && !bytes.Equal(data, []byte(text[l.off:l.off+l.len])):
				t.Fatalf("what lies at %d is another one", l.off)
			case err == nil:
				n++
			case !errors.Is(err, sharefs.KindNotExist):
				t.Fatal(err)
			}
			if is(&l) != (err == nil) {
				t.Errorf("%d bytes at %d of %d: %v", l.len, l.off, len(text), err)
			}
		}
		return n
	}
	if n := given(func(*located) bool { return false }); n > 0 {
		t.Errorf("%d chunks of what is not here", n)
	}

	// Some of it: the middle, where nothing is that is there twice.
	h := must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root))
	buf := make([]byte, 4<<20)
	must[int](t)(h.ReadAt(buf, 4<<20))
	has := map[int64]bool{}
	part := tree.files.pin(ino).part.Load()
	part.mu.Lock()
	for at := range part.here {
		has[at] = true
	}
	part.mu.Unlock()
	if n := given(func(l *located) bool { return has[l.off] }); n < 10 {
		t.Errorf("%d chunks of a part", n)
	}
	check(t, h.Close())

	if all(t, tree, ino) != text {
		t.Fatal("it did not come")
	}
	given(func(*located) bool { return true })
	if _, err := tree.ChunkOf(ino, sharefs.ChunkID{1}); !errors.Is(err, sharefs.KindNotExist) {
		t.Error(err)
	}
	const spoilt = 6 << 20
	fd, err := tree.live.open(ino, unix.O_WRONLY)
	check(t, err)
	_, err = unix.Pwrite(fd, []byte("spoilt"), spoilt)
	check(t, err)
	check(t, unix.Close(fd))
	given(func(l *located) bool { return spoilt+6 <= l.off || spoilt >= l.off+l.len })

	// Another version is another list.
	other := away(t, tree, f, "g", blob(3, 1<<20))
	if all(t, tree, other) == "" {
		t.Fatal("it did not come")
	}
	for _, l := range chunksOf(t, tree, other) {
		if _, err := tree.ChunkOf(other, l.id); err != nil {
			t.Error(err)
		}
	}
	if n := len(tree.offers.list); n != 2 {
		t.Errorf("%d files are noted", n)
	}
	tree.offers.age()
	if n := len(tree.offers.list); n != 2 {
		t.Errorf("%d files are noted that were asked for just now", n)
	}
	for _, o := range tree.offers.list {
		o.used = o.used.Add(-offerIdle)
	}
	tree.offers.age()
	if n := len(tree.offers.list); n != 0 {
		t.Errorf("%d files are noted for ever", n)
	}
}

// However few names are noted, each chunk is found, and looking for one ends.
func TestOffersOfManyChunks(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	f := newFaraway()
	tree.SetElsewhere(f)
	ino := away(t, tree, f, "f", blob(1, 3<<20))
	list := chunksOf(t, tree, ino)
	v := must[*version](t)(newestVersion(tree.db, ino, noLimit))
	for _, most := range []int{1, 2, 7, len(list) - 1, len(list), 1 << 20} {
		o := tree.offers.of(tree, v)
		o.most = most
		rnd := rand.New(rand.NewPCG(uint64(most), 1))
		for range 2000 {
			want := list[rnd.IntN(len(list))]
			if l, ok, err := o.find(&want.id); !ok || err != nil || l.off != want.off {
				t.Fatalf("%d names: at %d instead of %d, %v", most, l.off, want.off, err)
			}
			if len(o.young) > most || len(o.old) > most {
				t.Fatalf("%d and %d names are noted, not %d", len(o.young), len(o.old), most)
			}
			if rnd.IntN(50) == 0 {
				if _, ok, err := o.find(&sharefs.ChunkID{1}); ok || err != nil {
					t.Fatal(ok, err)
				}
			}
		}
		tree.offers.list = nil
	}
}
