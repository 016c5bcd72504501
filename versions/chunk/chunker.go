package chunk

import (
	"bytes"
	"io"

	"sharefs"
)

// Extents is what a source that may be sparse offers beside [io.ReaderAt].
type Extents interface {
	// NextData returns the first run of data at or after off; where none follows, start is at least the size of the content.
	NextData(off int64) (start, end int64, err error)
}

// Piece is one part of the content. Pieces follow each other without a gap.
type Piece struct {
	Off  int64  // where it begins
	Len  int64  // bytes, never zero
	Data []byte // valid until the next call; nil: a hole, which reads as zeros
}

// Chunker cuts one content after another. Its zero value is not ready: use [NewChunker].
type Chunker struct {
	gear *Gear
	p    Params
	src  io.ReaderAt
	ext  Extents // nil: the source is dense
	size int64

	buf    []byte
	win    []byte // the part of buf that is read and not yet handed out
	off    int64  // where win begins in the content
	limit  int64  // where the run of data at hand ends; reads stop there
	atOnce int    // bytes that are read at once at most
}

// bufferLen is long enough that moving the rest of the buffer to its front copies little: at most a chunk for every seven.
const bufferLen = 8 * MaxLen

// NewChunker returns a chunker with its buffer of 2 MiB.
func NewChunker(gear *Gear) *Chunker {
	return &Chunker{gear: gear, buf: make([]byte, bufferLen)}
}

// Reset begins a content of size bytes in pieces of class p. Where src has [Extents], holes are not read.
func (c *Chunker) Reset(src io.ReaderAt, size int64, p Params) {
	c.src, c.size, c.p = src, size, p
	c.ext, _ = src.(Extents)
	c.win, c.off, c.limit, c.atOnce = nil, 0, 0, bufferLen
}

// ResetAt is Reset for the part of the content that begins at off, of which little may be wanted: no more is read ahead than the longest chunk. Where off is an
// end of a piece of the whole content, the pieces are those of the whole content from there on.
func (c *Chunker) ResetAt(src io.ReaderAt, off, size int64, p Params) {
	c.Reset(src, size, p)
	c.off, c.atOnce = off, p.Max
}

// Next returns the next piece, or io.EOF after the last. Content that ends before the size given to Reset is an error of
// kind again, caused by io.ErrUnexpectedEOF: somebody truncates it.
func (c *Chunker) Next() (Piece, error) {
	for len(c.win) == 0 {
		if c.off >= c.size {
			return Piece{}, io.EOF
		}
		if c.off < c.limit {
			break
		}
		hole, err := c.nextRun()
		if err != nil {
			return Piece{}, err
		}
		if hole > 0 {
			c.off += hole
			return Piece{Off: c.off - hole, Len: hole}, nil
		}
	}
	if err := c.fill(); err != nil {
		return Piece{}, err
	}
	n := c.gear.Cut(&c.p, c.win)
	piece := Piece{Off: c.off, Len: int64(n), Data: c.win[:n:n]}
	c.win = c.win[n:]
	c.off += int64(n)
	if isZero(piece.Data) {
		piece.Data = nil
	}
	return piece, nil
}

// nextRun finds the run of data that begins at or after c.off+len(c.win) and moves c.limit to its end. It returns the
// length of the hole before it, where that is long enough (p.Max) to be worth a cut; a shorter one is read as zeros.
func (c *Chunker) nextRun() (hole int64, err error) {
	at := c.off + int64(len(c.win))
	if c.ext == nil {
		c.limit = c.size
		return 0, nil
	}
	start, end, err := c.ext.NextData(at)
	if err != nil {
		return 0, &sharefs.Error{Op: "chunk", Detail: "cannot find the next data", Err: err}
	}
	if start >= c.size || start < at || end <= start {
		start, end = c.size, c.size
	}
	end = min(end, c.size)
	if start-at >= int64(c.p.Max) || (start == c.size && start > at && len(c.win) == 0) {
		return start - at, nil
	}
	c.limit = end
	return 0, nil
}

// fill reads until the window holds a whole chunk or the run of data ends. Runs with only short holes between count as one.
func (c *Chunker) fill() error {
	for len(c.win) < c.p.Max {
		from := c.off + int64(len(c.win))
		if from == c.size {
			return nil
		}
		if from == c.limit {
			hole, err := c.nextRun()
			if err != nil || hole > 0 {
				return err
			}
			continue
		}
		// The window moves to the front of the buffer when there is no room for another chunk behind it.
		used := cap(c.buf) - cap(c.win)
		if c.win == nil {
			used = 0
		}
		if used+c.p.Max > len(c.buf) || len(c.win) == 0 {
			copy(c.buf, c.win)
			used = 0
		}
		tail := c.buf[used+len(c.win):]
		n, err := c.src.ReadAt(tail[:min(int64(len(tail)), int64(c.atOnce), c.limit-from)], from)
		c.win = c.buf[used : used+len(c.win)+n]
		if n == 0 {
			if err == nil || err == io.EOF {
				return &sharefs.Error{Op: "chunk", Kind: sharefs.KindAgain, Detail: "the content became shorter", Err: io.ErrUnexpectedEOF}
			}
			return &sharefs.Error{Op: "chunk", Err: err}
		}
	}
	return nil
}

// isZero reports whether b holds only zeros: each byte equals its neighbour and the first is zero.
func isZero(b []byte) bool {
	return b[0] == 0 && b[len(b)-1] == 0 && bytes.Equal(b[:len(b)-1], b[1:])
}
