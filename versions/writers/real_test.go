package writers

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// realDesc is an open file description somewhere among the children.
type realDesc struct {
	file    *realFile
	foreign bool
	rw      bool
	fds     int // descriptors, over all processes
	maps    int
}

type realFile struct {
	id      sharefs.Ino
	path    string
	tracked bool
	held    time.Time // when Hold was last called
	descs   map[*realDesc]bool
	content int
	base    int
	sure    bool
	stamp   Stamp
}

// realFD is one descriptor of one process; realMap one mapping.
type realFD struct {
	c    *child
	fd   int
	desc *realDesc
}
type realMap struct {
	c    *child
	n    int
	desc *realDesc
}

// realModel is the truth about children that share files, against which the tracker's events are held.
type realModel struct {
	t   *testing.T
	n   *nursery
	rng *rand.Rand
	tr  *Tracker

	mu       sync.Mutex // guards all below; a step holds it, and so does Notify
	files    []*realFile
	children []*child
	fds      []*realFD
	maps     []*realMap
}

// TestChildren is the model test against the real kernel: child processes open, write, map, duplicate, inherit and die at random.
func TestChildren(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { children(t, seed, 150) })
	}
}

func children(t *testing.T, seed uint64, steps int) Stats {
	dir := t.TempDir()
	m := &realModel{t: t, n: newNursery(t), rng: rand.New(rand.NewPCG(seed, 2))}
	for i := range 5 {
		f := &realFile{id: sharefs.Ino(2 + i), path: filepath.Join(dir, strconv.Itoa(2+i)), sure: true, descs: map[*realDesc]bool{}}
		if err := os.WriteFile(f.path, make([]byte, 8192), 0o600); err != nil {
			t.Fatal(err)
		}
		f.stamp = stampAt(t, f.path)
		m.files = append(m.files, f)
	}
	for range 3 {
		m.children = append(m.children, m.n.start())
	}
	// An earlier life: the children write before there is a tracker.
	for range 20 {
		m.step(true)
	}
	tr, err := New(Config{
		Dir: dir, Settle: 5 * time.Millisecond, Notify: m.notify,
		Open: func(id sharefs.Ino) (int, error) {
			return unix.Open(filepath.Join(dir, strconv.Itoa(int(id))), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOATIME, 0)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if s := tr.Stats(); !s.Leases {
		t.Skipf("leases are not to be had here: %+v", s.Abilities)
	}
	m.mu.Lock()
	m.tr = tr
	for _, f := range m.files {
		f.tracked = true
		tr.Adopt(f.id, f.stamp)
	}
	m.mu.Unlock()
	for i := range steps {
		m.step(false)
		if i%10 == 9 {
			m.settle()
		}
		if t.Failed() {
			break
		}
	}
	m.end()
	m.settle()
	var s Stats
	// An event counts as being told until notify has returned.
	for deadline := time.Now().Add(hang); ; time.Sleep(time.Millisecond) {
		if s = tr.Stats(); s.Held+s.Settling+s.Lingering+s.Watches == 0 {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("left over: %+v", s)
		}
	}
}

func stampAt(t *testing.T, path string) Stamp {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return StampOf(&st)
}

// step does one random thing, with m.mu held so that an event is judged before or after it.
func (m *realModel) step(foreign bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	pickFD := func() *realFD {
		if len(m.fds) == 0 {
			return nil
		}
		return m.fds[m.rng.IntN(len(m.fds))]
	}
	fd := pickFD()
	var mp *realMap
	if len(m.maps) > 0 {
		mp = m.maps[m.rng.IntN(len(m.maps))]
	}
	switch op := m.rng.IntN(20); {
	case op < 6 || fd == nil && mp == nil:
		f := m.files[m.rng.IntN(len(m.files))]
		d := &realDesc{file: f, foreign: foreign, rw: m.rng.IntN(3) > 0, fds: 1}
		how := "wo"
		if d.rw {
			how = "rw"
		}
		if !foreign {
			f.tracked = true
			m.tr.Hold(f.id, f.stamp, d.rw)
			f.held = time.Now() // after it: Hold may have waited for a verdict
		}
		c := m.children[m.rng.IntN(len(m.children))]
		f.descs[d] = true
		m.fds = append(m.fds, &realFD{c, m.n.do(c, "open %s %s", f.path, how), d})
	case op < 8 && fd != nil:
		m.n.do(fd.c, "write %d", fd.fd)
		fd.desc.file.content++
	case op < 10 && fd != nil && fd.desc.rw:
		m.maps = append(m.maps, &realMap{fd.c, m.n.do(fd.c, "map %d", fd.fd), fd.desc})
		fd.desc.maps++
	case op < 12 && mp != nil:
		m.n.do(mp.c, "store %d", mp.n)
		mp.desc.file.content++
	case op < 14 && mp != nil:
		m.n.do(mp.c, "unmap %d", mp.n)
		m.dropMap(mp)
	case op < 17 && fd != nil:
		m.n.do(fd.c, "close %d", fd.fd)
		m.dropFD(fd)
	case op == 17 && fd != nil:
		m.fds = append(m.fds, &realFD{fd.c, m.n.do(fd.c, "dup %d", fd.fd), fd.desc})
		fd.desc.fds++
	case op == 18 && fd != nil && len(m.children) < 6:
		m.n.do(fd.c, "spawn %d", fd.fd)
		c := m.n.accept()
		m.children = append(m.children, c)
		m.fds = append(m.fds, &realFD{c, 3, fd.desc})
		fd.desc.fds++
	case op == 19 && len(m.children) > 2:
		m.kill(m.rng.IntN(len(m.children)))
	}
}

// kill ends a child by SIGKILL, with all that it has open.
func (m *realModel) kill(i int) {
	c := m.children[i]
	m.n.do(c, "die")
	m.children = append(m.children[:i], m.children[i+1:]...)
	for _, fd := range append([]*realFD(nil), m.fds...) {
		if fd.c == c {
			m.dropFD(fd)
		}
	}
	for _, mp := range append([]*realMap(nil), m.maps...) {
		if mp.c == c {
			m.dropMap(mp)
		}
	}
}

func (m *realModel) dropFD(fd *realFD) {
	for i := range m.fds {
		if m.fds[i] == fd {
			m.fds = append(m.fds[:i], m.fds[i+1:]...)
			break
		}
	}
	d := fd.desc
	d.fds--
	if d.fds == 0 && !d.foreign {
		m.tr.Release(d.file.id) // as RELEASE comes: with the last descriptor, whatever is mapped
	}
	m.gone(d)
}

func (m *realModel) dropMap(mp *realMap) {
	for i := range m.maps {
		if m.maps[i] == mp {
			m.maps = append(m.maps[:i], m.maps[i+1:]...)
			break
		}
	}
	mp.desc.maps--
	m.gone(mp.desc)
}

func (m *realModel) gone(d *realDesc) {
	if d.fds == 0 && d.maps == 0 {
		delete(d.file.descs, d)
	}
}

func (m *realModel) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.children) > 0 {
		m.kill(0)
	}
}

func (m *realModel) notify(ev Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[ev.ID-2]
	switch ev.Kind {
	case Quiet:
		if ev.At.Before(f.held) {
			return // decided on before the last Hold, told after it; the Hold entered the file again, with the base from before
		}
		f.tracked = false
		if len(f.descs) > 0 {
			m.t.Errorf("file %d: quiet with %d descriptions alive", ev.ID, len(f.descs))
		}
		if f.content != f.base && !ev.Changed {
			m.t.Errorf("file %d: change lost", ev.ID)
		}
		if f.content == f.base && f.sure && ev.Changed && m.tr.can.FineStamps {
			m.t.Errorf("file %d: unchanged, and reported as changed", ev.ID)
		}
		f.base, f.stamp, f.sure = f.content, ev.Stamp, true
	case StillHeld:
		if ev.Changed {
			f.sure = false
		}
	case Gone:
		m.t.Errorf("file %d is said to be gone", ev.ID)
	}
}

// settle waits until the tracker's verdict about every file is the truth.
func (m *realModel) settle() {
	m.t.Helper()
	deadline := time.Now().Add(hang)
	for {
		wrong := 0
		m.mu.Lock()
		for _, f := range m.files {
			if len(f.descs) > 0 {
				// Held is no matter of time: it was true before this question.
				s, err := m.tr.Check(f.id)
				if err != nil || !s.Held || !f.tracked {
					m.t.Errorf("file %d has %d descriptions: %+v, %v, tracked %v", f.id, len(f.descs), s, err, f.tracked)
				}
			} else if f.tracked {
				wrong++
			}
		}
		m.mu.Unlock()
		if wrong == 0 || m.t.Failed() {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%d files never came to rest: %+v", wrong, m.tr.Stats())
		}
		time.Sleep(time.Millisecond)
	}
}
