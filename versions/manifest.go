package versions

import (
	"encoding/binary"
	"sort"

	"sharefs"
)

// A manifest leads from a version to its chunks. It is a tree: a list of spans, each a chunk, a hole, or (above level 0) a node, which
// is itself a list of spans kept in packs under the name of its content, as chunks are. The list at the top stands in the version's row
// and is short; so a version opens without reading more than its row, whatever its size, and the versions of a file share all
// nodes below which nothing changed.
//
// Where a node ends is decided by the chunks in it (one in 128 ends a node), not by their count, so that an insertion moves no border but
// its own.
//
// Encoding of a list, in rows and nodes: for each span
//
//	uvarint  its length in bytes, times two, plus one for a hole
//	32       name of the chunk or node; not of a hole
type span struct {
	len  int64
	hole bool
	id   sharefs.ChunkID
}

// Bounds of a manifest's lists.
const (
	topSpans  = 16  // at most in the row
	nodeSpans = 512 // at most in a node: 17 KiB
	nodeMask  = 127 // of the last byte of a chunk's name: zero there ends a node
	maxLevel  = 16  // no content of 2^63 bytes needs more
)

// manifest is the list at the top, and what its spans are.
type manifest struct {
	level uint8 // 0: chunks; otherwise nodes of the level below
	spans []span
}

func appendSpans(b []byte, spans []span) []byte {
	for i := range spans {
		s := &spans[i]
		if s.hole {
			b = binary.AppendUvarint(b, uint64(s.len)<<1|1)
			continue
		}
		b = binary.AppendUvarint(b, uint64(s.len)<<1)
		b = append(b, s.id[:]...)
	}
	return b
}

// decodeSpans reads a list to its end; ok is false where it is damaged. The spans are to fill length bytes.
func decodeSpans(b []byte, length int64) (spans []span, ok bool) {
	spans = make([]span, 0, len(b)/33+1)
	for d := (decoder{b: b}); len(d.b) > 0; {
		v := d.uvarint()
		s := span{len: int64(v >> 1), hole: v&1 != 0}
		if !s.hole {
			copy(s.id[:], d.take(len(s.id)))
		}
		if d.bad || s.len <= 0 || s.len > length {
			return nil, false
		}
		length -= s.len
		spans = append(spans, s)
	}
	return spans, length == 0
}

// mapper builds a manifest from the chunks of a content in their order.
type mapper struct {
	levels [][]span
	// keep stores a node and returns its name.
	keep func(node []byte) (sharefs.ChunkID, error)
	buf  []byte
}

func (m *mapper) reset() {
	for i := range m.levels {
		m.levels[i] = m.levels[i][:0]
	}
}

// add takes the next span of the content.
func (m *mapper) add(s span) error { return m.addTo(0, s) }

// between reports whether a node of a level may come next as it is: one of each level below would begin there.
func (m *mapper) between(level int) bool {
	for _, list := range m.levels[:min(level, len(m.levels))] {
		if len(list) > 0 {
			return false
		}
	}
	return true
}

// addTo is add for a span of a level: a node, above level 0.
func (m *mapper) addTo(level int, s span) error {
	for level >= len(m.levels) {
		m.levels = append(m.levels, nil)
	}
	list := m.levels[level]
	if n := len(list); s.hole && n > 0 && list[n-1].hole {
		list[n-1].len += s.len
		return nil
	}
	list = append(list, s)
	m.levels[level] = list
	if len(list) >= nodeSpans || len(list) > 1 && !s.hole && s.id[31]&nodeMask == 0 {
		return m.close(level)
	}
	return nil
}

// close makes a node of what is gathered on a level.
func (m *mapper) close(level int) error {
	list := m.levels[level]
	var up span
	for i := range list {
		up.len += list[i].len
	}
	m.buf = appendSpans(m.buf[:0], list)
	var err error
	if up.id, err = m.keep(m.buf); err != nil {
		return err
	}
	m.levels[level] = list[:0]
	return m.addTo(level+1, up)
}

// finish returns the manifest. A level is closed unless it is the top and fits the row.
func (m *mapper) finish() (manifest, error) {
	for level := 0; level < len(m.levels); level++ {
		top := true
		for _, above := range m.levels[level+1:] {
			top = top && len(above) == 0
		}
		list := m.levels[level]
		if top && len(list) <= topSpans {
			return manifest{uint8(level), append([]span(nil), list...)}, nil
		}
		if len(list) > 0 {
			if err := m.close(level); err != nil {
				return manifest{}, err
			}
		}
	}
	return manifest{}, nil
}

// located is a chunk or hole and where it lies in the content.
type located struct {
	span
	off int64
}

// walker finds the chunk at an offset. It keeps the nodes on the way to the last one, so that going on from there costs nothing.
type walker struct {
	top  manifest
	size int64
	load func(id sharefs.ChunkID, level uint8) ([]byte, error)
	path []step // from the top down
}

// step is a list on the way down.
type step struct {
	off, end int64 // what it covers
	spans    []span
	starts   []int64
}

func newStep(off int64, spans []span) step {
	s := step{off: off, end: off, spans: spans, starts: make([]int64, len(spans))}
	for i := range spans {
		s.starts[i] = s.end
		s.end += spans[i].len
	}
	return s
}

// find returns the span of the list that covers off.
func (s *step) find(off int64) located {
	i := sort.Search(len(s.starts), func(i int) bool { return s.starts[i] > off }) - 1
	return located{s.spans[i], s.starts[i]}
}

// at returns the chunk or hole that covers off, which lies within the content.
func (w *walker) at(off int64) (located, error) {
	w.enter(off)
	for {
		last := &w.path[len(w.path)-1]
		if off < last.off || off >= last.end {
			return located{}, &sharefs.Error{Op: "read a version", Kind: sharefs.KindCorrupt, Detail: "its manifest does not cover its size"}
		}
		found := last.find(off)
		if found.hole || w.level() == 0 {
			return found, nil
		}
		if err := w.descend(found); err != nil {
			return located{}, err
		}
	}
}

// enter goes up to the lowest list on the way that covers off, or to the top.
func (w *walker) enter(off int64) {
	if w.path == nil {
		w.path = append(w.path, newStep(0, w.top.spans))
	}
	for len(w.path) > 1 {
		if last := &w.path[len(w.path)-1]; last.off <= off && off < last.end {
			break
		}
		w.path = w.path[:len(w.path)-1]
	}
}

// level returns the level of the spans of the lowest list on the way; 0: they are chunks.
func (w *walker) level() uint8 { return uint8(int(w.top.level) - len(w.path) + 1) }

// descend goes down into a node of the lowest list.
func (w *walker) descend(found located) error {
	node, err := w.load(found.id, w.level())
	if err != nil {
		return err
	}
	spans, ok := decodeSpans(node, found.len)
	if !ok {
		return &sharefs.Error{Op: "read a version", Kind: sharefs.KindCorrupt, Detail: "a node of its manifest is damaged"}
	}
	w.path = append(w.path, newStep(found.off, spans))
	return nil
}
