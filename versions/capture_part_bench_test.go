package versions

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// BenchmarkLargeVersion is what a version costs of a file of 1 GiB of which 4 KiB changed, by what tells where: processor time of the daemon, user and system, and
// bytes read of all files (/proc/self/io). "whole" is the same without any knowledge, as the first version is captured. The disk below TMPDIR is that of all but the
// clones, which have an image of theirs on it.
func BenchmarkLargeVersion(b *testing.B) {
	const size = 1 << 30
	for _, way := range []string{"whole", "names", "ranges", "extents/xfs", "extents/btrfs"} {
		b.Run(way, func(b *testing.B) {
			store := b.TempDir()
			kind, clones := strings.CutPrefix(way, "extents/")
			if clones {
				store = filepath.Join(reflinkDiskOf(b, kind, 12*size), "store")
				check(b, os.Mkdir(store, 0o700))
			}
			tree := testTree(b, store, byHand, func(c *Config) {
				if way == "whole" {
					c.partSize = endless
				}
			})
			if way == "ranges" {
				tree.SetServed()
			}
			a, h, err := tree.Create(sharefs.RootIno, "large", unix.O_RDWR, 0o644, root)
			check(b, err)
			random := rand.NewChaCha8([32]byte{1})
			buf := make([]byte, 1<<20)
			for off := int64(0); off < size; off += int64(len(buf)) {
				random.Read(buf)
				must[int](b)(h.WriteAt(buf, off))
			}
			check(b, h.Close())
			settle(b, tree, a.Ino)
			capture(b, tree)
			r := rand.New(rand.NewPCG(1, 61))
			version := func() {
				h := must[*Handle](b)(tree.Open(a.Ino, unix.O_RDWR, root))
				random.Read(buf[:4096])
				must[int](b)(h.WriteAt(buf[:4096], r.Int64N(size/4096)*4096))
				check(b, h.Close())
				settle(b, tree, a.Ino)
				capture(b, tree)
			}
			version() // makes the first reference
			cpu, read := used(b)
			for b.Loop() {
				version()
			}
			cpu2, read2 := used(b)
			b.ReportMetric((cpu2-cpu)/float64(b.N)*1000, "cpu-ms/version")
			b.ReportMetric(float64(read2-read)/float64(b.N)/(1<<20), "MiB-read/version")
		})
	}
}

// used returns processor time in seconds and bytes read so far by this process.
func used(b *testing.B) (cpu float64, read int64) {
	var u unix.Rusage
	check(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	io, err := os.ReadFile("/proc/self/io")
	check(b, err)
	if _, err := fmt.Sscanf(string(io), "rchar: %d", &read); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9, read
}
