package fs

import (
	"iter"

	"github.com/hanwen/go-fuse/v2/fuse"

	"sharefs"
)

// CtlFile is one file of .share/ctl. Its functions may be called from several goroutines.
type CtlFile struct {
	Name  string
	Mode  uint32                  // permission bits; the file belongs to who mounted
	Read  func() []byte           // what the file holds, asked for at each open; nil: it cannot be read
	Own   func() []byte           // what it holds for who may be told of everybody; nil: the same
	Write func(line string) error // takes one whole write(2); its error goes to the writer. nil: it cannot be written
}

// CtlDir is a directory of .share/ctl that holds a directory for each of something that comes and goes, all with the same files. It belongs to who mounted, and
// nobody else may look into it. Its functions may be called from several goroutines.
type CtlDir struct {
	Name  string
	List  func() []string // sorted names, fit for a directory
	Files []CtlEntry
}

// CtlEntry is a file of each directory in a [CtlDir]; of is that directory's name. An error of KindNotExist says that there is nothing of that name any more.
type CtlEntry struct {
	Name  string
	Mode  uint32
	Read  func(of string) ([]byte, error)
	Write func(of, line string) error // nil: it cannot be written
}

// entryBits is how many bits of a node's number say which file of a directory it is.
const entryBits = 8

// ctlEntry finds the file that a node of kind ctlItemFile stands for.
func (e *edge) ctlEntry(k nodeKey) *CtlEntry {
	return &e.ctlDirs[k.num>>entryBits].Files[k.num&(1<<entryBits-1)]
}

// ctlNames are the names in .share/ctl or a directory below it, in the order in which they are listed, with what stands under them.
func (e *edge) ctlNames(k nodeKey) iter.Seq2[string, nodeKey] {
	return func(yield func(string, nodeKey) bool) {
		switch k.kind {
		case ctlDir:
			for i := range e.ctl {
				if !yield(e.ctl[i].Name, nodeKey{kind: ctlFile, num: uint64(i)}) {
					return
				}
			}
			for i := range e.ctlDirs {
				if !yield(e.ctlDirs[i].Name, nodeKey{kind: ctlGroup, num: uint64(i)}) {
					return
				}
			}
		case ctlGroup:
			for _, name := range e.ctlDirs[k.num].List() {
				if !yield(name, nodeKey{kind: ctlItem, num: k.num, text: name}) {
					return
				}
			}
		case ctlItem:
			for i := range e.ctlDirs[k.num].Files {
				if !yield(e.ctlDirs[k.num].Files[i].Name, nodeKey{kind: ctlItemFile, num: k.num<<entryBits | uint64(i), text: k.text}) {
					return
				}
			}
		}
	}
}

// lookupCtl finds a name in .share/ctl and below.
func (e *edge) lookupCtl(k nodeKey, name string, out *fuse.EntryOut) fuse.Status {
	for n, child := range e.ctlNames(k) {
		switch {
		case n != name:
		case k.kind == ctlDir: // what is there stays
			return e.enterFor(child, cacheSeconds, out)
		default:
			return e.enter(child, out)
		}
	}
	return fuse.ENOENT
}

// listCtl lists .share/ctl and what is below.
func (e *edge) listCtl(k nodeKey, add func(name string, off uint64, k nodeKey) bool) {
	off := uint64(offDotDot)
	for name, child := range e.ctlNames(k) {
		if off++; !add(name, off, child) {
			return
		}
	}
}

// openCtlEntry opens a file of a directory that comes and goes.
func (e *edge) openCtlEntry(k nodeKey, reads, writes bool) (*open, error) {
	f := e.ctlEntry(k)
	if reads && f.Read == nil || writes && f.Write == nil {
		return nil, sharefs.KindAccess
	}
	o := &open{ctl: &CtlFile{}}
	if f.Write != nil {
		o.ctl.Write = func(line string) error { return f.Write(k.text, line) }
	}
	if reads {
		text, err := f.Read(k.text)
		if err != nil {
			return nil, err
		}
		o.text = text
	}
	return o, nil
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
