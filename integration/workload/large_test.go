package workload

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
)

// TestLargeFileByRanges changes a few bytes of a large file, by writes, through a mapping, and in other ways. Where the file is served, by the mode of the mount or
// because an attribute wants it so, little more than what changed is read of it; the attribute may come and go while the file is in use.
func TestLargeFileByRanges(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		served := !m.Status().Content.Passthrough
		const track = "user.sharefs.track"
		dir, path := m.Path("d"), m.Path("d/large")
		must(os.Mkdir(dir, 0o755))
		if unix.Setxattr(dir, track, []byte("sometimes"), 0) != unix.EINVAL {
			t.Error("a value that is none was taken")
		}
		if !served {
			must(unix.Setxattr(dir, track, []byte("ranges"), 0))
		}
		now := make([]byte, 17<<20)
		random := rand.NewChaCha8([32]byte{7})
		random.Read(now)
		must(os.WriteFile(path, now, 0o644))
		m.Settled()
		want := [][]byte{bytes.Clone(now)}

		write := func(f *os.File, at, n int) {
			t.Helper()
			b := make([]byte, n)
			random.Read(b)
			if at+n > len(now) {
				now = append(now, make([]byte, at+n-len(now))...)
			}
			copy(now[at:], b)
			_, err := f.WriteAt(b, int64(at))
			must(err)
		}
		look := func() {
			t.Helper()
			if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, now) {
				t.Fatalf("the file holds something else: %v", err)
			}
		}
		version := func(n int) {
			t.Helper()
			if b, err := os.ReadFile(fmt.Sprintf("%s@@%d", path, n)); err != nil || !bytes.Equal(b, want[n-1]) {
				t.Fatalf("version %d of %d differs: %v", n, len(want), err)
			}
		}
		// change makes a version, and says by what it was captured.
		change := func(by string, fn func(f *os.File)) {
			t.Helper()
			before := m.Status().Capture
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(err)
			fn(f)
			must(f.Close())
			look()
			m.Settled()
			want = append(want, bytes.Clone(now))
			after := m.Status().Capture
			ranges, others := after.ByRanges-before.ByRanges, after.ByExtents+after.ByNames-before.ByExtents-before.ByNames
			if got := fmt.Sprint(ranges, others); got != by {
				t.Errorf("version %d: captured by ranges and otherwise: %s, wanted %s", len(want), got, by)
			}
			if read := after.PlainBytes - before.PlainBytes; by == "1 0" && read > 8<<20 {
				t.Errorf("version %d: %d bytes were read", len(want), read)
			}
			version(len(want))
		}
		change("1 0", func(f *os.File) {
			write(f, 1000, 4096)
			write(f, 9<<20, 10)
		})
		change("1 0", func(f *os.File) {
			b, err := unix.Mmap(int(f.Fd()), 0, len(now), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			must(err)
			b[5<<20]++
			now[5<<20]++
			must(unix.Munmap(b))
			must(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 15<<20, 64<<10))
			clear(now[15<<20 : 15<<20+64<<10])
		})
		change("1 0", func(f *os.File) {
			must(f.Truncate(int64(len(now) - 5000)))
			now = now[:len(now)-5000]
			write(f, len(now)+100, 300)
		})
		for i := range want {
			version(i + 1)
		}
		if served {
			return
		}
		// It is passed through from the next time on that nobody has it open, and served again.
		reader, err := os.Open(path)
		must(err)
		must(unix.Removexattr(path, track))
		change("1 0", func(f *os.File) { write(f, 2<<20, 100) }) // the reader has it open
		must(reader.Close())
		change("0 1", func(f *os.File) { write(f, 3<<20, 100) })
		reader, err = os.Open(path)
		must(err)
		must(unix.Setxattr(path, track, []byte("ranges"), 0))
		change("0 1", func(f *os.File) { write(f, 4<<20, 100) })
		must(reader.Close())
		change("1 0", func(f *os.File) { write(f, 5<<20, 100) })
	})
}
