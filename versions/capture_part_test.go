package versions

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
)

// inParts makes a tree in which small files are captured as large ones are.
func inParts(c *Config) { c.partSize = 32 << 10 }

// largeFile is a file of a tree that is edited at random through handles, and what its versions are to hold by a plain list.
type largeFile struct {
	t       *testing.T
	r       *rand.Rand
	tree    *Tree
	ino     sharefs.Ino
	now     []byte
	settled []string
	filled  uint64
}

func (l *largeFile) data(n int) string {
	l.filled++
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(l.filled), byte(l.filled >> 8), 3}).Read(b)
	return string(b)
}

// grow makes the model long enough.
func (l *largeFile) grow(size int) {
	if size > len(l.now) {
		l.now = append(l.now, make([]byte, size-len(l.now))...)
	}
}

// edit changes something, through a handle or by the name.
func (l *largeFile) edit() {
	t := l.t
	size := len(l.now)
	at, n := l.r.IntN(size+1), 1+l.r.IntN(1<<(2+l.r.IntN(14)))
	kind := l.r.IntN(24)
	switch kind {
	case 0:
		to := uint64(size - min(n, size/2))
		must[sharefs.Attr](t)(l.tree.Setattr(l.ino, &SetAttr{Size: &to}, root))
		l.now = l.now[:to]
		return
	case 1:
		content := l.data(size)
		rewrite(t, l.tree, l.ino, content)
		l.now = []byte(content)
		return
	}
	h := must[*Handle](t)(l.tree.Open(l.ino, unix.O_RDWR, root))
	defer func() { check(t, h.Close()) }()
	switch kind {
	case 2:
		at, n = at&^4095, (n+4095)&^4095
		check(t, h.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(at), int64(n), root))
		clear(l.now[at:max(at, min(at+n, size))])
	case 3:
		to := l.r.IntN(size + 1)
		n = min(n, size-at)
		if n == 0 || at < to+n && to < at+n {
			return // the kernel refuses an overlap
		}
		if got := must[int64](t)(h.CopyTo(h, int64(at), int64(to), int64(n), root)); got != int64(n) {
			t.Fatalf("%d of %d bytes copied", got, n)
		}
		l.grow(to + n)
		copy(l.now[to:], l.now[at:at+n])
	default:
		data := l.data(n)
		if m := must[int](t)(h.WriteAt([]byte(data), int64(at))); m != n {
			t.Fatalf("%d of %d bytes written", m, n)
		}
		l.grow(at + n)
		copy(l.now[at:], data)
	}
}

// rest has the file come to rest, which makes a version if it has changed.
func (l *largeFile) rest() {
	settle(l.t, l.tree, l.ino)
	if n := len(l.settled); n == 0 || l.settled[n-1] != string(l.now) {
		l.settled = append(l.settled, string(l.now))
	}
}

func (l *largeFile) compare() {
	l.t.Helper()
	all := must[[]sharefs.Version](l.t)(l.tree.Versions(l.ino))
	// What was written with the same bytes is a version of its own.
	var want []string
	for _, v := range all {
		got := readVersion(l.t, l.tree, l.ino, v.Number)
		if len(want) > 0 && want[len(want)-1] == got {
			continue
		}
		want = append(want, got)
	}
	if len(want) != len(l.settled) {
		l.t.Fatalf("%d versions, wanted %d", len(want), len(l.settled))
	}
	for i := range want {
		if want[i] != l.settled[i] {
			l.t.Fatalf("version %d of %d differs", i+1, len(want))
		}
	}
}

// runParts edits a large file for some rounds, with captures, restarts and collections between.
func runParts(t *testing.T, store string, seed uint64, served bool) (stats HistoryStats) {
	l := &largeFile{t: t, r: rand.New(rand.NewPCG(seed, 41))}
	open := func() {
		l.tree = testTree(t, store, byHand, inParts)
		if served {
			l.tree.SetServed()
		}
	}
	add := func() {
		s := l.tree.HistoryStats()
		stats.CapturedBytes += s.CapturedBytes
		stats.ReusedBytes += s.ReusedBytes
		stats.ByRanges += s.ByRanges
		stats.ByExtents += s.ByExtents
		stats.ByNames += s.ByNames
		stats.References = s.References
	}
	open()
	l.now = []byte(l.data(1<<20 + l.r.IntN(1<<19)))
	l.ino = save(t, l.tree, "large", string(l.now))
	l.rest()
	capture(t, l.tree)
	for range 20 {
		for range 1 + l.r.IntN(4) {
			l.edit()
		}
		l.rest()
		switch l.r.IntN(12) {
		case 0:
			add()
			check(t, l.tree.Close())
			open()
		case 1, 2, 3, 4: // the next version comes before this one is captured
		case 5:
			capture(t, l.tree)
			must[GCReport](t)(l.tree.GC(t.Context(), GCOptions{}, nil))
		default:
			capture(t, l.tree)
		}
	}
	capture(t, l.tree)
	l.compare()
	add()
	if names := asideFiles(t, l.tree); len(names) > stats.References {
		t.Errorf("set aside are %v, with %d references", names, stats.References)
	}
	r := fsckNow(t, l.tree, FsckScrub, false)
	if r.Outcome != OutcomeClean {
		t.Errorf("fsck: %s", r.Text())
	}
	check(t, l.tree.Close())
	return stats
}

// TestLargeFilesAgainstModel: whatever is changed in a large file between versions, each version is what the file held; and little of it is read where it is
// known what changed.
func TestLargeFilesAgainstModel(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	for seed := range uint64(3) {
		for _, served := range []bool{false, true} {
			t.Run(fmt.Sprint("seed ", seed, ", served ", served), func(t *testing.T) {
				s := runParts(t, t.TempDir(), seed, served)
				if s.ReusedBytes < 4<<20 || served != (s.ByRanges > 3) || !served && s.ByRanges > 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// TestReferencesAgainstModel is the same where clones tell what changed.
func TestReferencesAgainstModel(t *testing.T) {
	race.Leave(t, race.OneHand)
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			disk := reflinkDisk(t, kind)
			for seed := range uint64(3) {
				store := filepath.Join(disk, fmt.Sprint("store", seed))
				check(t, os.Mkdir(store, 0o700))
				s := runParts(t, store, seed, false)
				if s.ReusedBytes < 4<<20 || s.References != 1 || s.ByExtents < 2*s.ByNames {
					t.Errorf("seed %d: %+v", seed, s)
				}
			}
		})
	}
}
