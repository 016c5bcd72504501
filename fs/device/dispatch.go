package device

import (
	"bytes"
	"fmt"
	"runtime/debug"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Opcodes of the protocol (linux/fuse.h, enum fuse_opcode).
const (
	opLookup        = 1
	opForget        = 2
	opGetattr       = 3
	opSetattr       = 4
	opReadlink      = 5
	opSymlink       = 6
	opMknod         = 8
	opMkdir         = 9
	opUnlink        = 10
	opRmdir         = 11
	opRename        = 12
	opLink          = 13
	opOpen          = 14
	opRead          = 15
	opWrite         = 16
	opStatfs        = 17
	opRelease       = 18
	opFsync         = 20
	opSetxattr      = 21
	opGetxattr      = 22
	opListxattr     = 23
	opRemovexattr   = 24
	opFlush         = 25
	opInit          = 26
	opOpendir       = 27
	opReaddir       = 28
	opReleasedir    = 29
	opFsyncdir      = 30
	opGetlk         = 31
	opSetlk         = 32
	opSetlkw        = 33
	opAccess        = 34
	opCreate        = 35
	opInterrupt     = 36
	opBmap          = 37
	opDestroy       = 38
	opIoctl         = 39
	opPoll          = 40
	opNotifyReply   = 41
	opBatchForget   = 42
	opFallocate     = 43
	opReaddirplus   = 44
	opRename2       = 45
	opLseek         = 46
	opCopyFileRange = 47
	opSyncfs        = 50
	opTmpfile       = 51
	opStatx         = 52
	opCopyRange64   = 53

	opCount = 64
)

// handler serves one opcode. fn reads the request from w.in, writes its answer to w.out behind the header and returns
// the answer's length.
type handler struct {
	name  string
	size  int  // of the fixed structure that the request begins with
	slow  bool // may take milliseconds: another worker reads meanwhile, and it can be interrupted
	async bool // the program does not wait for it
	quiet bool // has no reply
	fn    func(w *worker, in []byte, cancel <-chan struct{}) (int, fuse.Status)
}

var handlers [opCount]handler

func sizeOf[T any]() int { var t T; return int(unsafe.Sizeof(t)) }

func init() {
	header := sizeOf[fuse.InHeader]()
	handlers = [opCount]handler{
		opLookup:        {name: "LOOKUP", size: header, fn: doLookup},
		opForget:        {name: "FORGET", size: sizeOf[fuse.ForgetIn](), fn: doForget, quiet: true, async: true},
		opGetattr:       {name: "GETATTR", size: sizeOf[fuse.GetAttrIn](), fn: doGetattr},
		opSetattr:       {name: "SETATTR", size: sizeOf[fuse.SetAttrIn](), fn: doSetattr},
		opReadlink:      {name: "READLINK", size: header, fn: doReadlink},
		opSymlink:       {name: "SYMLINK", size: header, fn: doSymlink},
		opMknod:         {name: "MKNOD", size: sizeOf[fuse.MknodIn](), fn: doMknod},
		opMkdir:         {name: "MKDIR", size: sizeOf[fuse.MkdirIn](), fn: doMkdir},
		opUnlink:        {name: "UNLINK", size: header, fn: doUnlink},
		opRmdir:         {name: "RMDIR", size: header, fn: doRmdir},
		opRename:        {name: "RENAME", size: header + 8, fn: doRename},
		opLink:          {name: "LINK", size: sizeOf[fuse.LinkIn](), fn: doLink},
		opOpen:          {name: "OPEN", size: sizeOf[fuse.OpenIn](), fn: doOpen},
		opRead:          {name: "READ", size: sizeOf[fuse.ReadIn](), fn: doRead},
		opWrite:         {name: "WRITE", size: sizeOf[fuse.WriteIn](), fn: doWrite},
		opStatfs:        {name: "STATFS", size: header, fn: doStatfs},
		opRelease:       {name: "RELEASE", size: sizeOf[fuse.ReleaseIn](), fn: doRelease, async: true},
		opFsync:         {name: "FSYNC", size: sizeOf[fuse.FsyncIn](), fn: doFsync, slow: true},
		opSetxattr:      {name: "SETXATTR", size: header + 8, fn: doSetxattr},
		opGetxattr:      {name: "GETXATTR", size: sizeOf[fuse.GetXAttrIn](), fn: doGetxattr},
		opListxattr:     {name: "LISTXATTR", size: sizeOf[fuse.GetXAttrIn](), fn: doListxattr},
		opRemovexattr:   {name: "REMOVEXATTR", size: header, fn: doRemovexattr},
		opFlush:         {name: "FLUSH", size: sizeOf[fuse.FlushIn](), fn: doFlush},
		opInit:          {name: "INIT", size: header},
		opOpendir:       {name: "OPENDIR", size: sizeOf[fuse.OpenIn](), fn: doOpendir},
		opReaddir:       {name: "READDIR", size: sizeOf[fuse.ReadIn](), fn: doReaddir},
		opReleasedir:    {name: "RELEASEDIR", size: sizeOf[fuse.ReleaseIn](), fn: doReleasedir, async: true},
		opFsyncdir:      {name: "FSYNCDIR", size: sizeOf[fuse.FsyncIn](), fn: doFsyncdir, slow: true},
		opGetlk:         {name: "GETLK", size: sizeOf[fuse.LkIn](), fn: doGetlk},
		opSetlk:         {name: "SETLK", size: sizeOf[fuse.LkIn](), fn: doSetlk},
		opSetlkw:        {name: "SETLKW", size: sizeOf[fuse.LkIn](), fn: doSetlkw, slow: true},
		opAccess:        {name: "ACCESS", size: sizeOf[fuse.AccessIn](), fn: doAccess},
		opCreate:        {name: "CREATE", size: sizeOf[fuse.CreateIn](), fn: doCreate},
		opInterrupt:     {name: "INTERRUPT", size: sizeOf[fuse.InterruptIn](), fn: doInterrupt, quiet: true, async: true},
		opBmap:          {name: "BMAP", size: header},
		opDestroy:       {name: "DESTROY", size: header, fn: doDestroy},
		opIoctl:         {name: "IOCTL", size: sizeOf[fuse.IoctlIn](), fn: doIoctl},
		opPoll:          {name: "POLL", size: header},
		opNotifyReply:   {name: "NOTIFY_REPLY", size: header, fn: doNotifyReply, quiet: true, async: true},
		opBatchForget:   {name: "BATCH_FORGET", size: header + 8, fn: doBatchForget, quiet: true, async: true},
		opFallocate:     {name: "FALLOCATE", size: sizeOf[fuse.FallocateIn](), fn: doFallocate, slow: true},
		opReaddirplus:   {name: "READDIRPLUS", size: sizeOf[fuse.ReadIn](), fn: doReaddirplus},
		opRename2:       {name: "RENAME2", size: sizeOf[fuse.RenameIn](), fn: doRename2},
		opLseek:         {name: "LSEEK", size: sizeOf[fuse.LseekIn](), fn: doLseek},
		opCopyFileRange: {name: "COPY_FILE_RANGE", size: sizeOf[fuse.CopyFileRangeIn](), fn: doCopyFileRange, slow: true},
		opSyncfs:        {name: "SYNCFS", size: header},
		opTmpfile:       {name: "TMPFILE", size: sizeOf[fuse.CreateIn](), fn: doTmpfile},
		opStatx:         {name: "STATX", size: sizeOf[fuse.StatxIn](), fn: doStatx},
		opCopyRange64:   {name: "COPY_FILE_RANGE_64", size: sizeOf[fuse.CopyFileRangeIn](), fn: doCopyRange64, slow: true},
	}
}

// opName is the name that linux/fuse.h gives an opcode, without FUSE_.
func opName(op uint32) string {
	if op < opCount && handlers[op].name != "" {
		return handlers[op].name
	}
	return fmt.Sprintf("OPCODE_%d", op)
}

// opcodeOf reads the opcode of a request; those beyond the table become 0, which no handler serves.
func opcodeOf(in []byte) uint32 {
	if len(in) < sizeOf[fuse.InHeader]() {
		return 0
	}
	if op := (*fuse.InHeader)(unsafe.Pointer(&in[0])).Opcode; op < opCount {
		return op
	}
	return 0
}

// handle serves one request and replies to it.
func (w *worker) handle(op uint32, in []byte) {
	if len(in) < sizeOf[fuse.InHeader]() {
		w.c.cfg.Log.Error("request shorter than its header", "bytes", len(in))
		return
	}
	w.c.counts[op].Add(1)
	head := *(*fuse.InHeader)(unsafe.Pointer(&in[0]))
	h := &handlers[op]
	n, st := 0, fuse.ENOSYS
	switch {
	case h.fn == nil:
	case len(in) < h.size:
		w.c.cfg.Log.Error("request too short", "op", h.name, "bytes", len(in))
		st = fuse.EIO
	case h.slow:
		cancel := w.c.interruptible(head.Unique)
		n, st = w.call(h, in, cancel)
		w.c.finished(head.Unique)
	default:
		n, st = w.call(h, in, nil)
	}
	if h.quiet {
		return
	}
	if st < 0 || st >= maxErrno {
		w.c.cfg.Log.Error("the filesystem answers with what is no error number", "op", h.name, "status", int32(st))
		st = fuse.EIO
	}
	if st != fuse.OK {
		n = 0
	}
	out := (*fuse.OutHeader)(unsafe.Pointer(&w.out[0]))
	out.Unique, out.Status, out.Length = head.Unique, -int32(st), uint32(sizeOutHeader+n)
	w.send(op, w.out[:sizeOutHeader+n])
}

// maxErrno bounds the error numbers that the kernel takes in a reply (fs/fuse/dev.c, fuse_dev_do_write). What is above has a meaning between
// parts of the kernel only, yet a disk's filesystem now and then lets one out (524, ENOTSUPP); a reply with it would be
// refused, and the program wait for ever.
const maxErrno = 512

// send writes a reply. Small ones never sleep in the kernel, so they go past the scheduler's bookkeeping.
func (w *worker) send(op uint32, out []byte) {
	for {
		var errno syscall.Errno
		p, n := uintptr(unsafe.Pointer(&out[0])), uintptr(len(out))
		if len(out) <= 4096 {
			_, _, errno = syscall.RawSyscall(unix.SYS_WRITE, uintptr(w.c.fd), p, n)
		} else {
			_, _, errno = syscall.Syscall(unix.SYS_WRITE, uintptr(w.c.fd), p, n)
		}
		switch errno {
		case unix.EINTR, unix.EAGAIN:
			continue
		case 0, unix.ENOENT, unix.ENODEV: // the request was given up, or the mount is gone
		default:
			w.c.cfg.Log.Error("the kernel refuses a reply", "op", opName(op), "error", errno)
		}
		return
	}
}

// call runs the handler; a panic in it fails the one request.
func (w *worker) call(h *handler, in []byte, cancel <-chan struct{}) (n int, st fuse.Status) {
	defer func() {
		if r := recover(); r != nil {
			w.c.cfg.Log.Error("panic while serving a request", "op", h.name, "panic", r, "stack", string(debug.Stack()))
			n, st = 0, fuse.EIO
		}
	}()
	return h.fn(w, in, cancel)
}

// payload returns n bytes of the reply behind a structure of skip bytes.
func (w *worker) payload(skip, n int) []byte {
	need := sizeOutHeader + skip + n
	if need > len(w.out) {
		w.out = make([]byte, (need+4095)&^4095)
	}
	return w.out[sizeOutHeader+skip : need : need]
}

// request views the start of a request as its structure.
func request[T any](in []byte) *T { return (*T)(unsafe.Pointer(&in[0])) }

// answer returns the zeroed structure behind the header of the reply.
func answer[T any](w *worker) *T {
	b := w.out[sizeOutHeader : sizeOutHeader+sizeOf[T]()]
	clear(b)
	return (*T)(unsafe.Pointer(&b[0]))
}

// name reads the NUL-terminated string at the start of b.
func name(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// names reads two of them.
func names(b []byte) (string, string) {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return string(b[:i]), name(b[i+1:])
	}
	return string(b), ""
}

// interruptible registers a request that can be interrupted.
func (c *Conn) interruptible(unique uint64) <-chan struct{} {
	ch := make(chan struct{})
	c.interruptMu.Lock()
	c.interrupts[unique] = ch
	c.interruptMu.Unlock()
	return ch
}

func (c *Conn) finished(unique uint64) {
	c.interruptMu.Lock()
	delete(c.interrupts, unique)
	c.interruptMu.Unlock()
}

// doInterrupt has no reply: one with EAGAIN would make the kernel ask again and again until the request ends.
func doInterrupt(w *worker, in []byte, _ <-chan struct{}) (int, fuse.Status) {
	unique := request[fuse.InterruptIn](in).Unique
	w.c.interruptMu.Lock()
	if ch, ok := w.c.interrupts[unique]; ok {
		close(ch)
		delete(w.c.interrupts, unique)
	}
	w.c.interruptMu.Unlock()
	return 0, fuse.OK
}

func doDestroy(*worker, []byte, <-chan struct{}) (int, fuse.Status) { return 0, fuse.OK }

func doNotifyReply(*worker, []byte, <-chan struct{}) (int, fuse.Status) { return 0, fuse.OK }
