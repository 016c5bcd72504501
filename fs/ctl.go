package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
)

// CtlFile is one file of .share/ctl. Its functions may be called from several goroutines.
type CtlFile struct {
	Name  string
	Mode  uint32                  // permission bits; the file belongs to who mounted
	Read  func() []byte           // what the file holds, asked for at each open; nil: it cannot be read
	Write func(line string) error // takes one whole write(2); its error goes to the writer. nil: it cannot be written
}

// writeCtl hands over one write(2). The kernel cuts those above a megabyte into several.
func (o *open) writeCtl(data []byte) (uint32, fuse.Status) {
	if o.ctl.Write == nil {
		return 0, fuse.EBADF
	}
	if err := o.ctl.Write(string(data)); err != nil {
		return 0, status(err)
	}
	return uint32(len(data)), fuse.OK
}
