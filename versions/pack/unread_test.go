package pack

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// large returns a chunk of some size for a seed: of four one compresses.
func large(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), 7
	rand.NewChaCha8(key).Read(b)
	if seed%4 == 0 {
		clear(b[n/3:])
	}
	return b
}

// TestUnreadReadsAsAllElse appends much more than is gathered before it is written, some of it as unread, reads at once what is in the buffer, across its end and on disk, and
// opens the store anew in the midst.
func TestUnreadReadsAsAllElse(t *testing.T) {
	dir := Dir(filepath.Join(t.TempDir(), "packs"))
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 9))
		s := open(t, dir, 12<<20)
		var locs []Loc
		var sizes []int
		must := func(i int) {
			t.Helper()
			x := uint64(i)
			got, err := s.Read(locs[i], idOf(x+1), nil)
			if err != nil || !bytes.Equal(got, large(x, sizes[i])) {
				t.Fatalf("seed %d, record %d: %d bytes instead of %d, %v", seed, i, len(got), sizes[i], err)
			}
		}
		put := s.AppendTo
		for i := range 600 {
			if i%20 == 0 {
				if put = s.AppendTo; r.IntN(3) > 0 {
					put = s.AppendUnread
				}
			}
			n := 1 + r.IntN(120_000)
			loc, err := put(Epoch{Number: 1}, TypeChunk, idOf(uint64(i)+1), large(uint64(i), n))
			if err != nil {
				t.Fatal(err)
			}
			locs, sizes = append(locs, loc), append(sizes, n)
			switch r.IntN(60) {
			case 0:
				must(i)
			case 1:
				if err := s.Sync(); err != nil {
					t.Fatal(err)
				}
			case 2, 3, 4, 5, 6, 7:
				must(r.IntN(len(locs)))
			case 8:
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, dir, 12<<20)
				put = s.AppendTo
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, 12<<20)
		for i := range locs {
			must(i)
		}
		ids, err := s.Packs()
		if err != nil || len(ids) < 2 {
			t.Fatalf("%d packs, %v", len(ids), err)
		}
		for _, id := range ids {
			if err := s.Verify(id, func(r Record, err error) { t.Errorf("%v: %v", r, err) }); err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWrittenEndsAtARecord holds what is said to be in the file of a pack that grows against the places of its records.
func TestWrittenEndsAtARecord(t *testing.T) {
	s := open(t, Dir(filepath.Join(t.TempDir(), "packs")), 64<<20)
	defer s.Close()
	ends, inside := map[int64]bool{packHeaderLen: true}, 0
	for x := range uint64(400) {
		loc, err := s.AppendTo(Epoch{Number: 1}, TypeChunk, idOf(x+1), large(x, 40_000+int(x)*7))
		if err != nil {
			t.Fatal(err)
		}
		ends[loc.end()] = true
		w := s.growsNow(loc.Pack)
		if w == nil {
			t.Fatal("the pack does not grow")
		}
		size, err := w.file.file.Size()
		if at := w.written.Load(); err != nil || size > 0 && !ends[at] || at > size {
			t.Fatalf("after %d records %d bytes of %d are said to be whole records, %v", x+1, at, size, err)
		} else if size > at {
			inside++
		}
	}
	if inside == 0 {
		t.Error("no write ended in a record: this test shows nothing")
	}
}

// resident returns how many bytes of a file are in the page cache.
func resident(t *testing.T, path string) (bytes int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		t.Fatal(st, err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	page := os.Getpagesize()
	in := make([]byte, (len(m)+page-1)/page)
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&in[0]))); e != 0 {
		t.Fatal(e)
	}
	for _, p := range in {
		bytes += int(p&1) * page
	}
	return bytes
}

// past reports whether the filesystem of a directory can write past the page cache.
func past(dir string) bool {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_DIRECT, 0o600)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && st.Type != unix.TMPFS_MAGIC
}

// TestUnreadGoesPastThePageCache appends what nobody reads with syncs at any place between, after each of which a write begins anywhere, and looks at what of it is in the page cache.
func TestUnreadGoesPastThePageCache(t *testing.T) {
	at := t.TempDir()
	if !past(at) {
		t.Skip("this filesystem keeps in memory what is written")
	}
	dir := Dir(filepath.Join(at, "packs"))
	s := open(t, dir, 64<<20)
	defer s.Close()
	var locs []Loc
	size := func(x uint64) int { return 30_001 + int(x)*151 }
	for x := range uint64(400) {
		loc, err := s.AppendUnread(Epoch{Number: 1}, TypeChunk, idOf(x+1), large(4*x+1, size(x)))
		if err != nil {
			t.Fatal(err)
		}
		locs = append(locs, loc)
		if x%100 == 50 {
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	id := locs[0].Pack
	length := int(locs[len(locs)-1].end())
	if got := resident(t, dir.path(id.growing())); got > length/20 {
		t.Errorf("%d of %d bytes are in the page cache", got, length)
	}
	for x := range uint64(len(locs)) {
		if got, err := s.Read(locs[x], idOf(x+1), nil); err != nil || !bytes.Equal(got, large(4*x+1, size(x))) {
			t.Fatalf("record %d: %d bytes, %v", x, len(got), err)
		}
	}
}

// TestWriteUnreadAnywhere writes pieces of any length from any place in memory to any place in a file, with what reads them beside, and compares with a plain copy.
func TestWriteUnreadAnywhere(t *testing.T) {
	dir := Dir(t.TempDir())
	f, err := dir.Create("file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := rand.New(rand.NewPCG(5, 6))
	var want []byte
	room := pastRoom(1 << 20)
	for range 300 {
		off := r.IntN(len(want) + 1)
		switch r.IntN(4) {
		case 0: // where the last one ended
			off = len(want)
		case 1:
			off &^= pastUnit - 1
		}
		lead := r.IntN(2 * pastUnit)
		if r.IntN(2) == 0 {
			lead = off & (pastUnit - 1)
		}
		b := room[lead : lead+r.IntN(400_000)]
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if n, err := WriteUnread(f, b, int64(off)); n != len(b) || err != nil {
			t.Fatalf("%d bytes at %d: %d, %v", len(b), off, n, err)
		}
		if more := off + len(b) - len(want); more > 0 {
			want = append(want, make([]byte, more)...)
		}
		copy(want[off:], b)
		if from := r.IntN(len(want) + 1); r.IntN(3) == 0 {
			got := make([]byte, min(len(want)-from, 100_000))
			if _, err := f.ReadAt(got, int64(from)); err != nil && len(got) > 0 || !bytes.Equal(got, want[from:][:len(got)]) {
				t.Fatalf("%d bytes at %d are not what was written, %v", len(got), from, err)
			}
		}
		if len(want) > 8<<20 {
			want = want[:0]
			if err := f.Truncate(0); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("what was written is not there, %v", err)
	}
}
