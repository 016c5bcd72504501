package treediff

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// describe is the slow, obvious way: each path with all that is to be compared, as text.
func describe(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.Walk(root, func(p string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch {
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			text += target
		case info.Mode().IsRegular():
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text += string(content)
		}
		out[rel] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// growTree makes a random tree of few names, so that two of them have much in common.
func growTree(t *testing.T, r *rand.Rand, dir string, depth int) {
	t.Helper()
	for i := range 5 {
		p := filepath.Join(dir, string(rune('a'+i)))
		var err error
		switch k := r.IntN(10); {
		case k < 3:
			content := strings.Repeat("x", r.IntN(3)) + strings.Repeat("y", r.IntN(2))
			err = os.WriteFile(p, []byte(content), []os.FileMode{0o600, 0o644}[r.IntN(2)])
		case k < 4:
			err = os.Symlink([]string{"a", "b"}[r.IntN(2)], p)
		case k < 8 && depth > 0:
			if err = os.Mkdir(p, []os.FileMode{0o700, 0o755}[r.IntN(2)]); err == nil {
				growTree(t, r, p, depth-1)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestRandomTreesAgainstTheObviousWay(t *testing.T) {
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 1))
		old, new := t.TempDir(), t.TempDir()
		growTree(t, r, old, 3)
		growTree(t, r, new, 3)
		a, b := describe(t, old), describe(t, new)
		want := map[string]bool{}
		for p := range a {
			if _, there := b[p]; !there {
				want["D "+p] = true
			}
		}
		for p := range b {
			if was, there := a[p]; !there {
				want["A "+p] = true
			} else if was != b[p] {
				want["M "+p] = true
			}
		}
		for _, workers := range []int{1, 8} {
			result, err := Compare(t.Context(), Side{Dir: old}, Side{Dir: new}, Options{Workers: workers})
			if err != nil || len(result.Problems) > 0 {
				t.Fatal(err, result.Problems)
			}
			got := map[string]bool{}
			for _, c := range result.Changes {
				if c.What&^Times != 0 || c.Op != Changed {
					got[fmt.Sprintf("%c %s", c.Op, c.Path)] = true
				}
			}
			if !maps.Equal(got, want) {
				t.Fatalf("seed %d: %v, want %v", seed, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
			if !slices.IsSortedFunc(result.Changes, func(a, b Change) int { return ComparePaths(a.Path, b.Path) }) {
				t.Fatalf("seed %d: not sorted", seed)
			}
		}
		// With renames, each path that came or went is told once: as such, or as one end of a rename.
		result, err := Compare(t.Context(), Side{Dir: old}, Side{Dir: new}, Options{Renames: ByContent})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for _, c := range result.Changes {
			switch c.Op {
			case Added:
				seen["A "+c.Path]++
			case Removed:
				seen["D "+c.Path]++
			case Renamed:
				seen["A "+c.Path]++
				seen["D "+c.From]++
				if c.What&Content == 0 && a[c.From][10:] != b[c.Path][10:] {
					t.Errorf("seed %d: %s is not %s", seed, c.From, c.Path)
				}
			}
		}
		for k := range want {
			if k[0] != 'M' && seen[k] != 1 {
				t.Errorf("seed %d: %s is told %d times", seed, k, seen[k])
			}
		}
	}
}
