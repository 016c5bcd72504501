package peers

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sharefs/integration/mounttest"
)

// shuffler renames directories on a host into names that others rename at the same time.
type shuffler struct {
	h   *host
	rnd *rand.Rand
}

// shuffled are the names, of few, so that several hosts mean the same ones.
var shuffled = []string{"d", "o", "p", "q"}

// path returns one of up to three names deep; the more rarely the deeper.
func (s *shuffler) path() string {
	path := shuffled[s.rnd.IntN(len(shuffled))]
	for range 2 {
		if s.rnd.IntN(2) == 0 {
			path = filepath.Join(path, shuffled[s.rnd.IntN(len(shuffled))])
		}
	}
	return s.h.Path(path)
}

// step does one thing, which may fail: another host was faster.
func (s *shuffler) step() {
	switch n := s.rnd.IntN(20); {
	case n < 4:
		_ = os.Mkdir(s.path(), 0o755)
	case n < 14:
		_ = os.Rename(s.path(), s.path())
	case n < 15:
		_ = os.Remove(s.path())
	case n < 17:
		_, _ = os.Lstat(s.path())
	case n < 18:
		_ = os.WriteFile(s.path(), []byte(s.h.name), 0o644)
	default:
		_, _ = s.h.tree()
	}
}

// shuffle has programs on all hosts do so at once, so many steps each.
func shuffle(hs []*host, seed uint64, steps int) {
	var hands sync.WaitGroup
	for i, h := range hs {
		for k := range 2 {
			s := &shuffler{h, rand.New(rand.NewPCG(seed, uint64(10*i+k)))}
			hands.Go(func() {
				for range steps {
					s.step()
					time.Sleep(time.Duration(s.rnd.IntN(20)) * time.Millisecond)
				}
			})
		}
	}
	hands.Wait()
}

// present is a view of the past as of now, in which the kernel knows no name before it is looked up.
func (h *host) present() string {
	return filepath.Join(h.Path(".share/at"), time.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
}

// lookedUp tells what paths of shuffled names lead to, each looked up by itself: a listing would have the kernel look at names anew.
func lookedUp(dir string) map[string]string {
	all := map[string]string{}
	paths := []string{""}
	for range 3 {
		var deeper []string
		for _, up := range paths {
			for _, name := range shuffled {
				path := filepath.Join(up, name)
				deeper = append(deeper, path)
				if info, err := os.Lstat(filepath.Join(dir, path)); err == nil {
					all[path] = info.Mode().String()
				}
			}
		}
		paths = deeper
	}
	return all
}

// untilAlike waits until hosts are at rest and show one tree, each of them also by names that the kernel does not know yet.
func untilAlike(t *testing.T, hs []*host) {
	t.Helper()
	why := ""
	alike := func() bool {
		why = "they do not come to rest"
		if !atRest(hs) {
			return false
		}
		why = ""
		var first map[string]string
		for _, h := range hs {
			if d := differ(lookedUp(h.Dir), lookedUp(h.present())); d != "" {
				why = fmt.Sprintf("%s finds by names that the kernel knows, and that are in its tree: %s\n", h.name, d)
				return false // before a listing hides it
			}
			shown, err := h.tree()
			kept, bad := treeBelow(h.present())
			if err = errors.Join(err, bad); err != nil {
				why = err.Error()
				return false
			}
			if d := differ(shown, kept); d != "" {
				why += fmt.Sprintf("%s lists, and has in its tree: %s\n", h.name, d)
			}
			if first == nil {
				first = shown
			} else if d := differ(first, shown); d != "" {
				why += fmt.Sprintf("%s and %s show: %s\n", hs[0].name, h.name, d)
			}
		}
		return why == ""
	}
	for end := time.Now().Add(mounttest.Patience); !alike(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			var b strings.Builder
			for _, h := range hs {
				fmt.Fprintf(&b, "%s: %s\n%s", h.name, h.ctl("sync.json"), h.must("peers"))
			}
			t.Fatalf("not within %v: %s\n%s", mounttest.Patience, why, b.String())
		}
	}
}

// differ says what two trees do not have in common.
func differ(a, b map[string]string) string {
	var out []string
	for _, path := range slices.Sorted(maps.Keys(a)) {
		if b[path] != a[path] {
			out = append(out, fmt.Sprintf("%s %.40q, not %.40q", path, a[path], b[path]))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[path]; !ok {
			out = append(out, fmt.Sprintf("no %s %.40q", path, b[path]))
		}
	}
	return strings.Join(out, "; ")
}

// Directories are renamed on several hosts at once into each other's names. When all are at rest they show one tree, and each shows what its tree has, also where the
// kernel remembers names.
func TestDirectoriesRenamedAtOnce(t *testing.T) {
	hs := sharing(t, "anna", "bert", "cleo")
	for _, h := range hs {
		for _, o := range hs {
			if o != h {
				h.must("grant", o.name, "manage") // of whose removals none are held
			}
		}
	}
	seed := seedOf(t)
	steps := mounttest.Number(t, "SHAREFS_PEER_STEPS", 60, 150)
	for round := range mounttest.Number(t, "SHAREFS_PEER_ROUNDS", 2, 60) {
		shuffle(hs, seed+uint64(round), steps)
		untilAlike(t, hs)
	}
}
