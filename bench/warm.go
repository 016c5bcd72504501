package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// warmMemory has the kernel hold free memory for what a step is going to write, up to so many bytes, that this machine has for certain. A virtual one may have given free memory
// back to its host, and then each page is paid for when it is used again: that took more of the processors than all the programs did, and fell on the one that was measured first.
func warmMemory(bytes int64) error {
	var now unix.Sysinfo_t
	if err := unix.Sysinfo(&now); err != nil {
		return fmt.Errorf("sysinfo: %w", err)
	}
	// Beyond what is free there would be taken from the page cache, whose memory is the machine's own.
	bytes = min(bytes, int64(uint64(now.Freeram)*uint64(now.Unit)*9/10))
	if bytes < 1<<20 {
		return nil
	}
	b, err := unix.Mmap(-1, 0, int(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("mmap of %d bytes: %w", bytes, err)
	}
	return unix.Munmap(b)
}
