package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"sharefs"
)

// Bounds of a version. The list of spans is the top of a manifest, as versions/manifest.go has it.
const (
	MaxParents = 16
	MaxSpans   = 16
	MaxLevel   = 16
)

// Span is a part of a content: a chunk, a hole, or, above level 0, a node that is itself a list of spans.
type Span struct {
	Len  uint64 // bytes, not zero
	Hole bool
	ID   sharefs.ChunkID // zero of a hole
}

// Version is one state of a regular file or symlink. The versions of a file form a graph.
type Version struct {
	File    sharefs.FileID
	Parents []ID // the versions that this one replaces; rising
	Mtime   sharefs.Time

	// Of a regular file: its size in bytes and the top list of its manifest, whose spans fill that size.
	Size  uint64
	Level uint8 // 0: the spans are chunks; otherwise nodes of the level below
	Spans []Span
	Key   sharefs.KeyID // of the share key that names the chunks and nodes; zero where there are none

	// Target is where a symlink leads; empty of a regular file.
	Target string
}

// Kind returns KindVersion.
func (v *Version) Kind() uint8 { return KindVersion }

// Type returns the type of file that can have such a version.
func (v *Version) Type() Type {
	if v.Target != "" {
		return Symlink
	}
	return Regular
}

// Content returns bytes that are equal for versions of equal content.
func (v *Version) Content() string { return string(v.appendContent(nil)) }

const (
	contentManifest = 1
	contentTarget   = 2
)

func (v *Version) check() error {
	if v.File == Root || v.File == Nowhere {
		return fmt.Errorf("a version of the root, or of nowhere")
	}
	if err := checkIDs(v.Parents, MaxParents, "parents"); err != nil {
		return err
	}
	if v.Target != "" {
		switch {
		case v.Size != 0 || v.Level != 0 || len(v.Spans) > 0 || v.Key != sharefs.KeyID{}:
			return fmt.Errorf("a symlink with content")
		case len(v.Target) > sharefs.SymlinkMax:
			return fmt.Errorf("a symlink of %d bytes, allowed are %d", len(v.Target), sharefs.SymlinkMax)
		case strings.Contains(v.Target, "\x00"):
			return fmt.Errorf("a symlink with a NUL byte")
		}
		return nil
	}
	switch {
	case v.Size > math.MaxInt64:
		return fmt.Errorf("a size of %d bytes", v.Size)
	case len(v.Spans) > MaxSpans:
		return fmt.Errorf("%d spans, allowed are %d", len(v.Spans), MaxSpans)
	case v.Level > MaxLevel:
		return fmt.Errorf("a manifest of level %d, allowed are %d", v.Level, MaxLevel)
	case v.Level > 0 && len(v.Spans) == 0:
		return fmt.Errorf("an empty manifest of level %d", v.Level)
	}
	left := v.Size
	for i, s := range v.Spans {
		switch {
		case s.Len == 0 || s.Len > left:
			return fmt.Errorf("a span of %d bytes where %d are left", s.Len, left)
		case s.Hole && s.ID != sharefs.ChunkID{}:
			return fmt.Errorf("a hole with an id")
		case s.Hole && i > 0 && v.Spans[i-1].Hole:
			return fmt.Errorf("two holes in a row")
		}
		left -= s.Len
	}
	switch {
	case left > 0:
		return fmt.Errorf("spans that lack %d bytes of the size", left)
	case v.named() != (v.Key != sharefs.KeyID{}):
		return fmt.Errorf("chunks without a key, or a key without chunks")
	}
	return nil
}

// named reports whether there is a chunk or node, which has a name.
func (v *Version) named() bool {
	return slices.ContainsFunc(v.Spans, func(s Span) bool { return !s.Hole })
}

func (v *Version) append(b []byte) []byte {
	b = append(b, v.File[:]...)
	b = appendIDs(b, v.Parents)
	b = binary.BigEndian.AppendUint64(b, uint64(v.Mtime))
	return v.appendContent(b)
}

func (v *Version) appendContent(b []byte) []byte {
	if v.Target != "" {
		b = append(b, contentTarget)
		b = binary.AppendUvarint(b, uint64(len(v.Target)))
		return append(b, v.Target...)
	}
	b = append(b, contentManifest)
	b = binary.BigEndian.AppendUint64(b, v.Size)
	b = append(b, v.Level)
	b = binary.AppendUvarint(b, uint64(len(v.Spans)))
	for i := range v.Spans {
		s := &v.Spans[i]
		if s.Hole {
			b = binary.AppendUvarint(b, s.Len<<1|1)
			continue
		}
		b = binary.AppendUvarint(b, s.Len<<1)
		b = append(b, s.ID[:]...)
	}
	if v.named() {
		b = append(b, v.Key[:]...)
	}
	return b
}

func decodeVersion(d *reader) *Version {
	v := &Version{}
	d.array(v.File[:], "file")
	v.Parents = d.ids(MaxParents, "parents")
	v.Mtime = sharefs.Time(d.u64("time of change"))
	switch kind := d.u8("content"); kind {
	case contentManifest:
		v.Size = d.u64("size")
		v.Level = d.u8("level")
		n := d.count(MaxSpans, 1, "spans")
		for range n {
			l := d.varint("length of a span")
			s := Span{Len: l >> 1, Hole: l&1 != 0}
			if !s.Hole {
				d.array(s.ID[:], "spans")
			}
			v.Spans = append(v.Spans, s)
		}
		if v.named() {
			d.array(v.Key[:], "key")
		}
	case contentTarget:
		n := d.count(sharefs.SymlinkMax, 1, "bytes of a symlink")
		if n == 0 {
			d.refuse("an empty symlink")
		}
		v.Target = string(d.take(n, "symlink"))
	default:
		d.refuse("content of kind %d", kind)
	}
	return v
}

// DecodeNode reads a node of a manifest: a list of spans that fill length bytes. The error is of [sharefs.KindCorrupt].
func DecodeNode(node []byte, length uint64) ([]Span, error) {
	d := reader{b: node}
	spans := make([]Span, 0, len(node)/33+1)
	left := length
	for d.err == nil && len(d.b) > 0 {
		l := d.varint("length of a span")
		s := Span{Len: l >> 1, Hole: l&1 != 0}
		if !s.Hole {
			d.array(s.ID[:], "spans")
		}
		if s.Len == 0 || s.Len > left {
			d.refuse("a span of %d bytes where %d are left", s.Len, left)
		}
		left -= s.Len
		spans = append(spans, s)
	}
	if d.err == nil && left > 0 {
		d.refuse("spans that lack %d bytes", left)
	}
	if d.err != nil {
		return nil, &sharefs.Error{Op: "read a node of a manifest", Kind: sharefs.KindCorrupt, Err: d.err}
	}
	return spans, nil
}
