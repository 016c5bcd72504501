package fsx_test

import (
	"bytes"
	"os"
	"testing"

	"sharefs/integration/fsx"
	"sharefs/integration/mounttest"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

func exercise(t *testing.T, dir string, seed uint64, ops int) *fsx.Exerciser {
	t.Helper()
	t.Logf("seed %d, %d operations", seed, ops)
	e, err := fsx.New(dir, seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(e.Abilities())
	if err := e.Run(ops); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if err := e.Close(); err != nil {
		t.Fatalf("seed %d, after the last close: %v", seed, err)
	}
	for name, n := range e.Counts {
		if n == 0 && ops >= 1000 {
			t.Errorf("no %s", name)
		}
	}
	return e
}

// TestReference: the exerciser finds nothing on the disk below.
func TestReference(t *testing.T) {
	exercise(t, t.TempDir(), 1, 5000)
}

// TestMount exercises a file in the mount; in the end its latest version is what it holds. SHAREFS_FSX_OPS is how many operations it takes,
// SHAREFS_FSX_SEED what they follow from.
func TestMount(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		seed := mounttest.Number(t, "SHAREFS_FSX_SEED", 1, 1)
		e := exercise(t, m.Dir, uint64(seed), mounttest.Number(t, "SHAREFS_FSX_OPS", 20_000, 1_000_000))
		m.Settled()
		holds := func(path, what string) {
			t.Helper()
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, e.Model()) {
				t.Errorf("%s has %d bytes and differs from the %d that were written", what, len(got), len(e.Model()))
			}
		}
		holds(mounttest.Latest(t, e.Path()), "the latest version")
		m.Remount()
		holds(e.Path(), "the file after a remount")
	})
}
