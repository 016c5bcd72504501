package versions

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"sharefs"
)

// distant is a tree whose chunks are asked for one by one, by several at once.
type distant struct {
	*Tree
	t    *testing.T
	got  atomic.Int64
	fail error
}

func (d *distant) Want(int, ...sharefs.ChunkID) { d.t.Error("it is told of chunks before") }

func (d *distant) Get(of int, id sharefs.ChunkID, good func([]byte) bool) ([]byte, error) {
	d.got.Add(1)
	if d.fail != nil {
		return nil, d.fail
	}
	data, err := d.Chunk(id, nil)
	if err == nil && (of != 0 || !good(data)) {
		d.t.Errorf("chunk %s of %d does not count as good", id, of)
	}
	return data, err
}

// Content of another tree is read chunk by chunk: from packs as far as they have it, otherwise from there, and none of it stays.
func TestOpenForeign(t *testing.T) {
	t.Parallel()
	here, other := pair(t)
	there := &distant{Tree: other.Tree, t: t}
	text := blob(7, 9<<20)
	c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, "large", text).Ino).Content
	if c.Level == 0 {
		t.Fatal("it has no nodes")
	}
	whole := func(want error) {
		t.Helper()
		r := must[VersionReader](t)(here.OpenForeign(c, there))
		defer r.Close()
		b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()+1))
		if !errors.Is(err, want) || err == nil && string(b) != text {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	whole(nil)
	got := there.got.Load()
	if got < 50 {
		t.Errorf("%d chunks came", got)
	}
	if must[bool](t)(here.Here(&c)) {
		t.Error("what was read is here")
	}
	// A read somewhere in it fetches what it needs.
	r := must[VersionReader](t)(here.OpenForeign(c, there))
	b := make([]byte, 1000)
	if _, err := r.ReadAt(b, 5<<20); err != nil || string(b) != text[5<<20:5<<20+1000] {
		t.Errorf("in the middle: %v", err)
	}
	check(t, r.Close())
	if n := there.got.Load() - got; n > 20 {
		t.Errorf("%d chunks for a thousand bytes", n)
	}
	// What is here is not asked for.
	l := gathered(t, here, other, c)
	got = there.got.Load()
	whole(nil)
	if n := there.got.Load() - got; n != 0 {
		t.Errorf("%d chunks came that are here", n)
	}
	l.End()
	collect(t, here, GCOptions{})
	there.fail = sharefs.KindUnreachable
	whole(sharefs.KindUnreachable)
	c.Key[0] ^= 1
	if _, err := here.OpenForeign(c, there); !errors.Is(err, sharefs.KindAccess) {
		t.Errorf("under an unknown key: %v", err)
	}
	c.Size++
	if _, err := here.OpenForeign(c, there); !errors.Is(err, sharefs.KindInvalid) {
		t.Errorf("of a wrong size: %v", err)
	}
}
