package device

import (
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// The functions of this file take one request apart, call the filesystem and leave the answer in w.out. Their order
// is that of the table in dispatch.go.

func head(in []byte) *fuse.InHeader { return request[fuse.InHeader](in) }

func tail[T any](in []byte) []byte { return in[sizeOf[T]():] }

// bounded is the size of an answer that a request asks for. The kernel never asks for more than it was granted in INIT.
func (w *worker) bounded(size uint32) int { return min(int(size), w.c.cfg.MaxWrite) }

func doLookup(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.EntryOut](w)
	return sizeOf[fuse.EntryOut](), w.c.fs.Lookup(cancel, head(in), name(tail[fuse.InHeader](in)), out)
}

func doForget(w *worker, in []byte, _ <-chan struct{}) (int, fuse.Status) {
	r := request[fuse.ForgetIn](in)
	w.c.fs.Forget(r.NodeId, r.Nlookup)
	return 0, fuse.OK
}

// forgetOne is struct fuse_forget_one.
type forgetOne struct{ node, n uint64 }

func doBatchForget(w *worker, in []byte, _ <-chan struct{}) (int, fuse.Status) {
	h := sizeOf[fuse.InHeader]()
	count := int(*(*uint32)(unsafe.Pointer(&in[h])))
	rest := in[h+8:]
	count = min(count, len(rest)/sizeOf[forgetOne]())
	if count == 0 {
		return 0, fuse.OK
	}
	for _, f := range unsafe.Slice((*forgetOne)(unsafe.Pointer(&rest[0])), count) {
		w.c.fs.Forget(f.node, f.n)
	}
	return 0, fuse.OK
}

func doGetattr(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.AttrOut](w)
	return sizeOf[fuse.AttrOut](), w.c.fs.GetAttr(cancel, request[fuse.GetAttrIn](in), out)
}

func doSetattr(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.AttrOut](w)
	return sizeOf[fuse.AttrOut](), w.c.fs.SetAttr(cancel, request[fuse.SetAttrIn](in), out)
}

func doStatx(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.StatxOut](w)
	return sizeOf[fuse.StatxOut](), w.c.fs.Statx(cancel, request[fuse.StatxIn](in), out)
}

func doReadlink(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	target, st := w.c.fs.Readlink(cancel, head(in))
	return copy(w.payload(0, len(target)), target), st
}

func doSymlink(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	link, target := names(tail[fuse.InHeader](in))
	out := answer[fuse.EntryOut](w)
	return sizeOf[fuse.EntryOut](), w.c.fs.Symlink(cancel, head(in), target, link, out)
}

func doMknod(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.EntryOut](w)
	return sizeOf[fuse.EntryOut](), w.c.fs.Mknod(cancel, request[fuse.MknodIn](in), name(tail[fuse.MknodIn](in)), out)
}

func doMkdir(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.EntryOut](w)
	return sizeOf[fuse.EntryOut](), w.c.fs.Mkdir(cancel, request[fuse.MkdirIn](in), name(tail[fuse.MkdirIn](in)), out)
}

func doUnlink(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	return 0, w.c.fs.Unlink(cancel, head(in), name(tail[fuse.InHeader](in)))
}

func doRmdir(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	return 0, w.c.fs.Rmdir(cancel, head(in), name(tail[fuse.InHeader](in)))
}

// doRename serves the older of the two requests, which has no flags.
func doRename(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	h := sizeOf[fuse.InHeader]()
	r := fuse.RenameIn{InHeader: *head(in), Newdir: *(*uint64)(unsafe.Pointer(&in[h]))}
	from, to := names(in[h+8:])
	return 0, w.c.fs.Rename(cancel, &r, from, to)
}

func doRename2(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	from, to := names(tail[fuse.RenameIn](in))
	return 0, w.c.fs.Rename(cancel, request[fuse.RenameIn](in), from, to)
}

func doLink(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.EntryOut](w)
	return sizeOf[fuse.EntryOut](), w.c.fs.Link(cancel, request[fuse.LinkIn](in), name(tail[fuse.LinkIn](in)), out)
}

func doOpen(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.OpenOut](w)
	return sizeOf[fuse.OpenOut](), w.c.fs.Open(cancel, request[fuse.OpenIn](in), out)
}

func doCreate(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.CreateOut](w)
	return sizeOf[fuse.CreateOut](), w.c.fs.Create(cancel, request[fuse.CreateIn](in), name(tail[fuse.CreateIn](in)), out)
}

func doTmpfile(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.CreateOut](w)
	return sizeOf[fuse.CreateOut](), w.c.fs.Tmpfile(cancel, request[fuse.CreateIn](in), out)
}

func doRead(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	r := request[fuse.ReadIn](in)
	buf := w.payload(0, w.bounded(r.Size))
	res, st := w.c.fs.Read(cancel, r, buf)
	if res == nil || st != fuse.OK {
		return 0, st
	}
	defer res.Done()
	data, st := res.Bytes(buf)
	if len(data) > 0 && unsafe.SliceData(data) != unsafe.SliceData(buf) {
		data = buf[:copy(buf, data)]
	}
	return len(data), st
}

func doWrite(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	r := request[fuse.WriteIn](in)
	data := tail[fuse.WriteIn](in)
	if int(r.Size) > len(data) {
		return 0, fuse.EIO
	}
	out := answer[fuse.WriteOut](w)
	var st fuse.Status
	out.Size, st = w.c.fs.Write(cancel, r, data[:r.Size])
	return sizeOf[fuse.WriteOut](), st
}

func doLseek(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.LseekOut](w)
	return sizeOf[fuse.LseekOut](), w.c.fs.Lseek(cancel, request[fuse.LseekIn](in), out)
}

func doCopyFileRange(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.WriteOut](w)
	var st fuse.Status
	out.Size, st = w.c.fs.CopyFileRange(cancel, request[fuse.CopyFileRangeIn](in))
	return sizeOf[fuse.WriteOut](), st
}

// doCopyRange64 serves the request whose answer has room for more than 4 GiB. The filesystem copies a part, and the
// program asks again.
func doCopyRange64(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	n, st := w.c.fs.CopyFileRange(cancel, request[fuse.CopyFileRangeIn](in))
	answer[fuse.CopyFileRangeOut](w).BytesCopied = uint64(n)
	return sizeOf[fuse.CopyFileRangeOut](), st
}

func doFallocate(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	return 0, w.c.fs.Fallocate(cancel, request[fuse.FallocateIn](in))
}

func doFlush(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	return 0, w.c.fs.Flush(cancel, request[fuse.FlushIn](in))
}

func doFsync(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	return 0, w.c.fs.Fsync(cancel, request[fuse.FsyncIn](in))
}

func doRelease(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	w.c.fs.Release(cancel, request[fuse.ReleaseIn](in))
	return 0, fuse.OK
}

func doOpendir(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.OpenOut](w)
	return sizeOf[fuse.OpenOut](), w.c.fs.OpenDir(cancel, request[fuse.OpenIn](in), out)
}

func doReleasedir(w *worker, in []byte, _ <-chan struct{}) (int, fuse.Status) {
	w.c.fs.ReleaseDir(request[fuse.ReleaseIn](in))
	return 0, fuse.OK
}

func doReaddir(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	r := request[fuse.ReadIn](in)
	list := fuse.NewDirEntryList(w.payload(0, w.bounded(r.Size)), r.Offset)
	st := w.c.fs.ReadDir(cancel, r, list)
	return len(list.Bytes()), st
}

func doReaddirplus(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	r := request[fuse.ReadIn](in)
	list := fuse.NewDirEntryList(w.payload(0, w.bounded(r.Size)), r.Offset)
	st := w.c.fs.ReadDirPlus(cancel, r, list)
	return len(list.Bytes()), st
}

func doFsyncdir(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	return 0, w.c.fs.FsyncDir(cancel, request[fuse.FsyncIn](in))
}

func doStatfs(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.StatfsOut](w)
	return sizeOf[fuse.StatfsOut](), w.c.fs.StatFs(cancel, head(in), out)
}

// doSetxattr serves both forms of the request: without CAP_SETXATTR_EXT the structure ends after its first two fields.
func doSetxattr(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	short := sizeOf[fuse.InHeader]() + 8
	r := fuse.SetXAttrIn{}
	rest := in[short:]
	if w.c.caps&fuse.CAP_SETXATTR_EXT != 0 {
		if len(in) < sizeOf[fuse.SetXAttrIn]() {
			return 0, fuse.EIO
		}
		r = *request[fuse.SetXAttrIn](in)
		rest = tail[fuse.SetXAttrIn](in)
	} else {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&r)), short), in)
	}
	attr := name(rest)
	if len(rest) < len(attr)+1+int(r.Size) {
		return 0, fuse.EIO
	}
	return 0, w.c.fs.SetXAttr(cancel, &r, attr, rest[len(attr)+1:len(attr)+1+int(r.Size)])
}

func doGetxattr(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	return w.xattr(in, func(dest []byte) (uint32, fuse.Status) {
		return w.c.fs.GetXAttr(cancel, head(in), name(tail[fuse.GetXAttrIn](in)), dest)
	})
}

func doListxattr(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	return w.xattr(in, func(dest []byte) (uint32, fuse.Status) {
		return w.c.fs.ListXAttr(cancel, head(in), dest)
	})
}

// xattr answers with the size where the caller gave no buffer, else with the value.
func (w *worker) xattr(in []byte, get func(dest []byte) (uint32, fuse.Status)) (int, fuse.Status) {
	size := w.bounded(request[fuse.GetXAttrIn](in).Size)
	if size == 0 {
		n, st := get(nil)
		if st == fuse.ERANGE {
			st = fuse.OK
		}
		answer[fuse.GetXAttrOut](w).Size = n
		return sizeOf[fuse.GetXAttrOut](), st
	}
	n, st := get(w.payload(0, size))
	return min(int(n), size), st
}

func doRemovexattr(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	return 0, w.c.fs.RemoveXAttr(cancel, head(in), name(tail[fuse.InHeader](in)))
}

func doGetlk(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	out := answer[fuse.LkOut](w)
	return sizeOf[fuse.LkOut](), w.c.fs.GetLk(cancel, request[fuse.LkIn](in), out)
}

func doSetlk(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	return 0, w.c.fs.SetLk(cancel, request[fuse.LkIn](in))
}

func doSetlkw(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	return 0, w.c.fs.SetLkw(cancel, request[fuse.LkIn](in))
}

func doAccess(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	return 0, w.c.fs.Access(cancel, request[fuse.AccessIn](in))
}

func doIoctl(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status) {
	r := request[fuse.IoctlIn](in)
	data := tail[fuse.IoctlIn](in)
	if int(r.InSize) > len(data) {
		return 0, fuse.EIO
	}
	skip := sizeOf[fuse.IoctlOut]()
	buf := w.payload(skip, w.bounded(r.OutSize))
	clear(buf)
	out := answer[fuse.IoctlOut](w)
	st := w.c.fs.Ioctl(cancel, r, data[:r.InSize], out, buf)
	return skip + len(buf), st
}
