// Package twin does the same random things to two directories, one of them on a disk that is known to be right, and compares: each
// call's result at once, and everything that can be seen of the trees at the end.
package twin

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs/integration/posix"
)

// Twin is two directories, and what is open in them.
type Twin struct {
	dirs   [2]string
	rng    *rand.Rand
	held   []pair // files that are open on both sides
	recent []string
	who    posix.Cred // who makes the calls, as far as the caller is root
	root   bool
	Counts map[string]int // operations that succeeded, by name
}

// pair is one file, open in both directories.
type pair struct {
	fds [2]int
}

// New works on two empty directories.
func New(a, b string, seed uint64) *Twin {
	return &Twin{
		dirs: [2]string{a, b}, rng: rand.New(rand.NewPCG(seed, 0)),
		who: posix.Self(), root: os.Geteuid() == 0, Counts: map[string]int{},
	}
}

// Others play a part as well where the caller is root.
var others = []posix.Cred{{UID: 65534, GID: 65534}, {UID: 65533, GID: 65534, Groups: []uint32{65533}}}

// Run does n operations on a thread of its own. The error tells the first difference and what led to it.
func (t *Twin) Run(n int) error {
	var failure error
	self := posix.Self()
	err := posix.OnThread("/", self, func() {
		for i := range n {
			if t.root {
				t.who = self
				if k := t.rng.IntN(6); k < len(others) {
					t.who = others[k]
				}
				if failure = posix.Become(t.who, false); failure != nil {
					return
				}
			}
			if failure = t.step(); failure != nil {
				failure = fmt.Errorf("operation %d: %w\nbefore it:\n%s", i, failure, strings.Join(t.recent, "\n"))
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return failure
}

// Release closes what is open.
func (t *Twin) Release() {
	for _, p := range t.held {
		unix.Close(p.fds[0])
		unix.Close(p.fds[1])
	}
	t.held = nil
}

// Close closes what is open and makes the trees such that their owner can remove them.
func (t *Twin) Close() {
	t.Release()
	for _, dir := range t.dirs {
		open := func(path string, d fs.DirEntry, _ error) error {
			if d != nil && d.IsDir() {
				os.Chmod(path, 0o700)
			}
			return nil
		}
		// A directory is read before it is opened up, so that what is below it comes to light a level each round.
		for range maxDepth {
			filepath.WalkDir(dir, open)
		}
	}
}

// maxDepth bounds how deep a tree can get; renames of directories make it deeper than path goes.
const maxDepth = 12

// step does one operation on both sides.
func (t *Twin) step() error {
	total := 0
	for _, op := range operations {
		total += op.weight
	}
	w := t.rng.IntN(total)
	for _, op := range operations {
		if w -= op.weight; w >= 0 {
			continue
		}
		text, run := op.make(t)
		if run == nil {
			return nil
		}
		text = fmt.Sprintf("%d: %s %s", t.who.UID, op.name, text)
		a, errA := run(0)
		b, errB := run(1)
		t.recent = append(t.recent, fmt.Sprintf("%s: %v", text, errA))
		if len(t.recent) > 80 {
			t.recent = t.recent[1:]
		}
		if errA != errB {
			return fmt.Errorf("%s: %v here, %v there", text, errA, errB)
		}
		if a != b {
			return fmt.Errorf("%s:\n%s\nhere,\n%s\nthere", text, a, b)
		}
		if errA == nil {
			t.Counts[op.name]++
		}
		return nil
	}
	return nil
}

// names are few, so that operations meet.
var names = []string{"a", "b", "c", "d", "e", "f", "g", "ä", strings.Repeat("l", 255)}

// path picks a path, the same on both sides: a name within a directory that is there, something that is there, or anything.
func (t *Twin) path() string {
	name := func() string { return names[t.rng.IntN(len(names))] }
	switch k := t.rng.IntN(10); {
	case k < 4:
		dir := t.existing()
		if st, err := os.Lstat(filepath.Join(t.dirs[0], dir)); err != nil || !st.IsDir() {
			dir = filepath.Dir(dir)
		}
		return filepath.Join(dir, name())
	case k < 9:
		if p := t.existing(); p != "." {
			return p
		}
	}
	p := name()
	for range t.rng.IntN(3) {
		p = filepath.Join(p, name())
	}
	return p
}

// existing walks down from the top until it is tired, or at the end.
func (t *Twin) existing() string {
	p := "."
	for range 1 + t.rng.IntN(4) {
		entries, err := os.ReadDir(filepath.Join(t.dirs[0], p))
		if err != nil || len(entries) == 0 {
			break
		}
		p = filepath.Join(p, entries[t.rng.IntN(len(entries))].Name())
	}
	return p
}

func (t *Twin) at(side int, path string) string { return filepath.Join(t.dirs[side], path) }
