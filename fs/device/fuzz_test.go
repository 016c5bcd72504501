package device

import (
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// panics counts what the log tells of them.
type panics struct{ n atomic.Int64 }

func (p *panics) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "panic while serving") {
		p.n.Add(1)
		os.Stderr.Write(b)
	}
	return len(b), nil
}

// Whatever a request holds, it is answered, by a reply that is as long as it says.
func FuzzHandle(f *testing.F) {
	name := []byte("file\x00second\x00")
	for op := range uint32(opCount) {
		f.Add(op, make([]byte, 48))
		f.Add(op, append(make([]byte, handlers[op].size), name...))
	}
	f.Add(uint32(opBatchForget), []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3})
	f.Fuzz(func(t *testing.T, op uint32, body []byte) {
		if op == 0xffffffff || len(body) > 4096 || strings.Contains(string(body), "panic") {
			return
		}
		null, err := unix.Open(os.DevNull, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(null)
		fs := newFlat()
		close(fs.fsync)
		close(fs.block)
		var seen panics
		c := newConn(Config{FS: fs, MaxWrite: 8192, Log: slog.New(slog.NewTextHandler(&seen, nil))}, null, false)
		w := newWorker(c)
		// Structures are read in place, so that the request begins where a word may.
		words := make([]uint64, 1+(40+len(body)+7)/8)
		in := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 40+len(body))
		copy(in[40:], body)
		h := (*fuse.InHeader)(unsafe.Pointer(&in[0]))
		h.Length, h.Opcode, h.Unique, h.NodeId = uint32(len(in)), op, 7, 1
		w.handle(opcodeOf(in), in)
		if seen.n.Load() > 0 {
			t.Error("a handler panicked")
		}
		if handlers[opcodeOf(in)].quiet {
			return
		}
		out := (*fuse.OutHeader)(unsafe.Pointer(&w.out[0]))
		if out.Unique != 7 || int(out.Length) < sizeOutHeader || int(out.Length) > len(w.out) || out.Status > 0 ||
			out.Status < 0 && int(out.Length) != sizeOutHeader {
			t.Errorf("opcode %d got the reply %+v", op, *out)
		}
	})
}
