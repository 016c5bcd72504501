package versions

import (
	"encoding/binary"
	"errors"
	"testing"

	"sharefs"
)

// made is a source of chunks and nodes that somebody put together by hand.
type made struct {
	tree *Tree
	data map[sharefs.ChunkID][]byte
}

func (m *made) Want(int, ...sharefs.ChunkID) {}

func (m *made) Get(_ int, id sharefs.ChunkID, _ func([]byte) bool) ([]byte, error) {
	return m.data[id], nil
}

// keep returns the span of a chunk or node that stands for so many bytes.
func (m *made) keep(data []byte, length uint64) Span {
	id := m.tree.keys.namers().of(m.tree.keys.load().first).ID(data)
	m.data[id] = data
	return Span{Len: length, ID: id}
}

// above returns a node that lists a span a number of times.
func (m *made) above(s Span, times int) Span {
	var node []byte
	for range times {
		if s.Hole {
			node = binary.AppendUvarint(node, s.Len<<1|1)
		} else {
			node = append(binary.AppendUvarint(node, s.Len<<1), s.ID[:]...)
		}
	}
	return m.keep(node, s.Len*uint64(times))
}

// A few nodes that lead to each other many times over are gone through once each, and make no file; nor does one chunk that is to fill a disk; a node that leads nowhere is not
// taken for one that is here.
func TestContentsThatMeanHarm(t *testing.T) {
	here := testTree(t, t.TempDir(), byHand)
	src := &made{here, map[sharefs.ChunkID][]byte{}}
	content := func(level uint8, top ...Span) (c Content) {
		c = Content{Level: level, Spans: top, Key: here.keys.load().first.id}
		for _, s := range top {
			c.Size += s.Len
		}
		return c
	}
	tower := func(s Span) Content {
		for range maxLevel {
			s = src.above(s, 8)
		}
		return content(maxLevel, s, s)
	}
	bomb := src.keep(make([]byte, 64<<10), 64<<10)
	for range 4 {
		bomb = src.above(bomb, nodeSpans)
	}
	list := []Content{
		tower(src.keep([]byte("x"), 1)),
		tower(Span{Len: 1, Hole: true}),
		content(1, src.keep([]byte("no node"), 70_000)),
		content(4, bomb),
	}
	l, errs, err := here.Gather(list, src)
	check(t, err)
	defer l.End()
	for i, want := range []struct {
		gathered error
		here     bool
		staged   sharefs.Kind
	}{{nil, true, sharefs.KindInvalid}, {nil, true, sharefs.KindInvalid}, {sharefs.KindCorrupt, false, sharefs.KindAgain}, {nil, true, sharefs.KindNoSpace}} {
		if !errors.Is(errs[i], want.gathered) {
			t.Errorf("content %d is gathered with %v", i, errs[i])
		}
		if ok := must[bool](t)(here.Here(&list[i])); ok != want.here {
			t.Errorf("content %d is here: %v", i, ok)
		}
		_, errs, err := here.Stage([]Foreign{{Content: list[i]}})
		check(t, err)
		wantKind(t, errs[0], want.staged)
	}
}

// A file that another host rewrote runs with nobody's rights.
func TestAdoptDropsRights(t *testing.T) {
	here, there := pair(t)
	c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, "f", "theirs").Ino).Content
	defer gathered(t, here, there, c).End()
	a := create(t, here, sharefs.RootIno, "f", "ours")
	own := newestKept(t, here, a.Ino).Own
	mode := uint32(sharefs.ModeSetuid | sharefs.ModeSetgid | 0o755)
	must[sharefs.Attr](t)(here.Setattr(a.Ino, &SetAttr{Mode: &mode}, root))
	check(t, here.Setxattr(a.Ino, xattrCaps, []byte("all of them"), 0))
	must[uint64](t)(here.Adopt(a.Ino, staged(t, here, Foreign{Content: c, Author: there.cfg.Peer}), own))
	if now := must[sharefs.Attr](t)(here.Getattr(a.Ino)); now.Mode&sharefs.ModePerm != 0o755 {
		t.Errorf("mode %o", now.Mode)
	}
	if _, err := here.Getxattr(a.Ino, xattrCaps); !errors.Is(err, sharefs.KindNoAttr) {
		t.Errorf("capabilities: %v", err)
	}
}
