package versions

import (
	"io"

	"sharefs"
)

// emptyReader reads a file that nothing had been written to yet.
type emptyReader struct{}

func (emptyReader) Size() int64  { return 0 }
func (emptyReader) Close() error { return nil }

// ReadAt implements io.ReaderAt.
func (emptyReader) ReadAt(_ []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fail("read a version", sharefs.KindInvalid)
	}
	return 0, io.EOF
}
