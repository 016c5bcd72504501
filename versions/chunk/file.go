package chunk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// File is a file with its holes as [Extents].
type File struct{ *os.File }

// NextData asks the file system with SEEK_DATA and SEEK_HOLE (lseek(2)). One that knows of no holes says that all is data.
func (f File) NextData(off int64) (start, end int64, err error) {
	fd := int(f.Fd())
	start, err = unix.Seek(fd, off, unix.SEEK_DATA)
	if err == nil {
		end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
	}
	if errors.Is(err, unix.ENXIO) { // also where the file became shorter in between
		return 1<<63 - 1, 1<<63 - 1, nil
	}
	if errors.Is(err, unix.EINVAL) {
		return off, 1<<63 - 1, nil
	}
	return start, end, err
}
