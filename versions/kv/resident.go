package kv

import (
	"bytes"
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Reading meta.db maps its pages into the process, 16 around each one that is touched, and they count as its memory for
// as long as they are mapped. Given back they stay in the page cache, so that the next touch costs half a microsecond.
const (
	residentLimit = 128 << 20 // bytes of mapped files in memory before they are given back
	readsPerCheck = 4096      // reads between looks at it: transactions, and rows of a scan
)

// resident counts the reads of meta.db.
type resident struct {
	n    atomic.Uint64
	wake chan struct{}
}

func (db *DB) noteReads(n int) {
	after := db.reads.n.Add(uint64(n))
	if after/readsPerCheck != (after-uint64(n))/readsPerCheck && db.reads.wake != nil {
		db.wake(db.reads.wake)
	}
}

// trim gives the mapped pages of meta.db back when there are too many.
func (db *DB) trim() {
	for {
		select {
		case <-db.quit:
			return
		case <-db.reads.wake:
		}
		if residentFiles() > residentLimit {
			db.giveBack()
		}
	}
}

// giveBack unmaps the pages of meta.db; the mapping stays.
func (db *DB) giveBack() {
	tx, err := db.bolt.Begin(false) // while it is open bbolt does not map the file anew
	if err != nil {
		return
	}
	defer tx.Rollback()
	// The file may end before the mapping does.
	size := tx.Size()
	page := int64(os.Getpagesize())
	size = (size + page - 1) / page * page
	if _, _, e := unix.Syscall(unix.SYS_MADVISE, db.bolt.Info().Data, uintptr(size), unix.MADV_DONTNEED); e == 0 {
		db.counters.trims.Add(1)
	}
}

// residentFiles returns how many bytes of mapped files the process has in memory (RssFile and RssShmem of proc(5), from
// /proc/self/statm), 0 where it cannot tell.
func residentFiles() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if len(f) < 3 {
		return 0
	}
	n, err := strconv.ParseInt(string(f[2]), 10, 64)
	if err != nil {
		return 0
	}
	return n * int64(os.Getpagesize())
}
