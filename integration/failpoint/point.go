package failpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// point tells what a thread is about to do, from the number of its call and the arguments, and whether that is on a file below the directory that is watched.
func (w *Watch) point(tid int, data []byte) (Point, bool) {
	p := Point{Call: calls[int32(binary.NativeEndian.Uint32(data))]}
	arg := func(i int) uint64 { return binary.NativeEndian.Uint64(data[noticeArgs-noticeCall+8*i:]) }
	switch p.Call {
	case "rename", "link":
		p.Path = pathAt(tid, int32(arg(2)), arg(3))
	case "unlink", "mkdir":
		p.Path = pathAt(tid, int32(arg(0)), arg(1))
	case "copy":
		p.Path = pathOf(tid, int32(arg(2)))
	default:
		p.Path = pathOf(tid, int32(arg(0)))
	}
	if p.Path == w.under {
		p.Path = "."
		return p, true
	}
	rel, ok := strings.CutPrefix(p.Path, w.under+"/")
	p.Path = rel
	return p, ok
}

// pathOf returns what a descriptor of a thread leads to.
func pathOf(tid int, fd int32) string {
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, fd))
	return strings.TrimSuffix(path, " (deleted)")
}

// pathAt returns the path that a thread gives to a call, made whole by the directory that it gives with it.
func pathAt(tid int, dir int32, address uint64) string {
	// A path never reaches over into a page that is not there: it is read up to the end of its page, and then on.
	var path []byte
	for len(path) < unix.PathMax {
		at := address + uint64(len(path))
		buf := make([]byte, 4096-at%4096)
		n, err := unix.ProcessVMReadv(tid, []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}, []unix.RemoteIovec{{Base: uintptr(at), Len: len(buf)}}, 0)
		if err != nil {
			return ""
		}
		if end := bytes.IndexByte(buf[:n], 0); end >= 0 {
			path = append(path, buf[:end]...)
			break
		}
		path = append(path, buf[:n]...)
	}
	if filepath.IsAbs(string(path)) {
		return string(path)
	}
	if dir == unix.AT_FDCWD {
		cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", tid))
		return filepath.Join(cwd, string(path))
	}
	return filepath.Join(pathOf(tid, dir), string(path))
}
