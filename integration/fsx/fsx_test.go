package fsx_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"

	"sharefs/integration/fsx"
	"sharefs/integration/mounttest"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

// number reads a number from the environment: SHAREFS_FSX_OPS, how many operations for each file, and SHAREFS_FSX_SEED.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func exercise(t *testing.T, dir string, seed uint64, ops int) *fsx.Exerciser {
	t.Helper()
	t.Logf("seed %d, %d operations", seed, ops)
	e, err := fsx.New(dir, seed)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(ops); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if err := e.Close(); err != nil {
		t.Fatalf("seed %d, after the last close: %v", seed, err)
	}
	for name, n := range e.Counts {
		if n == 0 {
			t.Errorf("no %s", name)
		}
	}
	return e
}

// TestReference: the exerciser finds nothing on the disk below.
func TestReference(t *testing.T) {
	exercise(t, t.TempDir(), 1, 5000)
}

// TestMount exercises a file in the mount; in the end its latest version is what it holds.
func TestMount(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		ops := uint64(20_000)
		if os.Getenv("SHAREFS_SOAK") != "" {
			ops = 1_000_000
		}
		e := exercise(t, m.Dir, number(t, "SHAREFS_FSX_SEED", 1), int(number(t, "SHAREFS_FSX_OPS", ops)))
		m.Settled()
		entries, err := os.ReadDir(e.Path() + "@@")
		if err != nil {
			t.Fatal(err)
		}
		latest := 0
		for _, entry := range entries {
			if n, err := strconv.Atoi(entry.Name()); err == nil {
				latest = max(latest, n)
			}
		}
		got, err := os.ReadFile(fmt.Sprintf("%s@@%d", e.Path(), latest))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, e.Model()) {
			t.Errorf("version %d has %d bytes and differs from the file's %d", latest, len(got), len(e.Model()))
		}
		m.Remount()
		got, err = os.ReadFile(e.Path())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, e.Model()) {
			t.Errorf("after a remount the file has %d bytes and differs from what was written", len(got))
		}
	})
}
