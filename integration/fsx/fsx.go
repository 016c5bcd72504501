// Package fsx exercises one file with random operations against a model in memory, after Apple's and the Linux Test Project's fsx: reads and writes of
// every kind, mappings, truncation, allocation and holes, synchronisation, and opening anew. Whatever way a byte was written and whatever way
// it is read back, it must be the model's.
package fsx

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxSize bounds the file, in bytes. It is no multiple of a page.
const MaxSize = 250_001

// Exerciser is one file and its model. Its zero value is not usable; see [New].
type Exerciser struct {
	path   string
	rng    *rand.Rand
	model  []byte
	fds    [2]int // two open file descriptions, taken at random
	direct int    // with O_DIRECT; -1 where that is not to be had
	maps   []mapping
	recent []string       // the last operations, for the report
	modes  []uint32       // modes of fallocate that the filesystem knows
	Counts map[string]int // how often each operation came
}

// mapping is a shared mapping of the first pages of the file as it was then.
type mapping struct {
	mem []byte
}

// operation is one kind of step, chosen by weight.
type operation struct {
	name   string
	weight int
	run    func(*Exerciser) error
}

var operations = []operation{
	{"read", 20, (*Exerciser).read},
	{"write", 20, (*Exerciser).write},
	{"append", 4, (*Exerciser).append},
	{"truncate", 6, (*Exerciser).truncate},
	{"map read", 10, (*Exerciser).mapRead},
	{"map write", 12, (*Exerciser).mapWrite},
	{"map keep", 1, (*Exerciser).mapKeep},
	{"fallocate", 8, (*Exerciser).fallocate},
	{"copy", 5, (*Exerciser).copyRange},
	{"direct read", 3, (*Exerciser).directRead},
	{"direct write", 3, (*Exerciser).directWrite},
	{"sync", 2, (*Exerciser).sync},
	{"forget", 3, (*Exerciser).forget},
	{"reopen", 2, (*Exerciser).reopen},
	{"rename", 1, (*Exerciser).rename},
	{"stat", 4, (*Exerciser).stat},
	{"seek", 2, (*Exerciser).seek},
}

// New creates a file in a directory, to be exercised by what the seed gives.
func New(dir string, seed uint64) (*Exerciser, error) {
	e := &Exerciser{path: filepath.Join(dir, "fsx"), rng: rand.New(rand.NewPCG(seed, 0)), Counts: map[string]int{}}
	for _, op := range operations {
		e.Counts[op.name] = 0
	}
	fd, err := unix.Open(e.path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	e.fds = [2]int{fd, -1}
	if e.fds[1], err = unix.Open(e.path, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if e.direct, err = unix.Open(e.path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0); err != nil {
		e.direct = -1
	}
	for _, m := range []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE} {
		err := unix.Fallocate(fd, m, 0, 4096)
		if err == nil {
			e.modes = append(e.modes, m)
		} else if !errors.Is(err, unix.ENOTSUP) {
			return nil, fmt.Errorf("fallocate, mode %#x: %w", m, err)
		}
	}
	return e, unix.Ftruncate(fd, 0)
}

// Abilities says which of the operations the filesystem has that not every one does; the others are left out.
func (e *Exerciser) Abilities() string {
	return fmt.Sprintf("direct I/O %v, fallocate modes %v", e.direct >= 0, e.modes)
}

// Path is where the file is now.
func (e *Exerciser) Path() string { return e.path }

// Model is what the file must hold; the caller must not change it.
func (e *Exerciser) Model() []byte { return e.model }

// Run does n operations. The error tells the first difference and what led to it.
func (e *Exerciser) Run(n int) error {
	total := 0
	for _, op := range operations {
		total += op.weight
	}
	for i := range n {
		w := e.rng.IntN(total)
		for _, op := range operations {
			if w -= op.weight; w < 0 {
				e.Counts[op.name]++
				if err := op.run(e); err != nil {
					return fmt.Errorf("operation %d, %s: %w\nbefore it:\n%s", i, op.name, err, strings.Join(e.recent, "\n"))
				}
				break
			}
		}
	}
	return nil
}

// Close lets the file go and compares it once more, whole.
func (e *Exerciser) Close() error {
	for _, m := range e.maps {
		unix.Munmap(m.mem)
	}
	for _, fd := range append(e.fds[:], e.direct) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	e.maps, e.direct, e.fds = nil, -1, [2]int{-1, -1}
	b, err := os.ReadFile(e.path)
	if err != nil {
		return err
	}
	return e.compare(b, 0, len(e.model))
}

func (e *Exerciser) note(format string, args ...any) {
	e.recent = append(e.recent, fmt.Sprintf(format, args...))
	if len(e.recent) > 60 {
		e.recent = e.recent[1:]
	}
}

func (e *Exerciser) fd() int { return e.fds[e.rng.IntN(len(e.fds))] }

// span picks a range within limit, most of them short, some around page boundaries.
func (e *Exerciser) span(limit int) (at, n int) {
	if limit == 0 {
		return 0, 0
	}
	at = e.rng.IntN(limit)
	if e.rng.IntN(4) == 0 {
		at &^= 4095
	}
	n = 1 + e.rng.IntN(1<<(1+e.rng.IntN(17)))
	return at, min(n, limit-at)
}

// compare reports the first difference between what was read and n bytes of the model.
func (e *Exerciser) compare(got []byte, at, n int) error {
	want := e.model[at : at+n]
	if bytes.Equal(got, want) {
		return nil
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d bytes at %d, want %d", len(got), at, len(want))
	}
	first, last, count := -1, 0, 0
	for i := range want {
		if got[i] != want[i] {
			if first < 0 {
				first = i
			}
			last = i
			count++
		}
	}
	return fmt.Errorf("%d bytes differ, from %#x to %#x: first is %#02x, want %#02x", count, at+first, at+last, got[first], want[first])
}

// grow makes the model at least n bytes long.
func (e *Exerciser) grow(n int) {
	if n > len(e.model) {
		e.model = append(e.model, make([]byte, n-len(e.model))...)
	}
}

// random fills n bytes that are unlikely to be there already.
func (e *Exerciser) random(n int) []byte {
	b := make([]byte, n)
	x := e.rng.Uint64() | 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}
