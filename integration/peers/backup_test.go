package peers

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sharefs/integration/mounttest"
)

// A host whose store is put back from a backup, or that has lost its records of peers, brings nothing back that others removed or renamed meanwhile, and loses nothing.
func TestAStoreFromABackup(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	for _, name := range []string{"kept", "removed", "renamed", "changed", "removed later"} {
		a.write(name, "first "+name)
	}
	all := func(tree map[string]string) bool {
		return len(tree) == 5 && has(tree, "removed later", "first removed later")
	}
	alike(t, "the beginning", hs, all)
	a.Settled()
	a.Unmount()
	backup := filepath.Join(mounttest.TempDir(t), "backup")
	if out, err := exec.Command("cp", "-a", a.Store, backup).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a.Mount.Mount()
	connected(t, a, b)
	a.write("after the backup", "x")
	a.write("kept", "second kept")
	alike(t, "what came after the backup", hs, func(tree map[string]string) bool {
		return has(tree, "after the backup", "x") && has(tree, "kept", "second kept")
	})
	b.do(os.Remove(b.Path("removed")))
	b.do(os.Rename(b.Path("renamed"), b.Path("new name")))
	b.write("changed", "second changed")
	now := func(tree map[string]string) bool {
		return len(tree) == 5 && has(tree, "after the backup", "x") && has(tree, "kept", "second kept") && has(tree, "new name", "first renamed") && has(tree, "changed", "second changed")
	}
	alike(t, "what the other one did", hs, now)
	a.Unmount()
	a.do(os.Rename(a.Store, a.Store+".old"))
	a.do(os.Rename(backup, a.Store))
	a.Mount.Mount()
	connected(t, a, b)
	alike(t, "all of it with the backup", hs, now)
	for _, h := range hs {
		mounttest.WaitFor(t, "no conflict on "+h.name, func() bool { return len(h.conflicts()) == 0 })
	}
	// Its records are lost while it is away.
	a.Settled()
	a.Unmount()
	a.do(os.RemoveAll(filepath.Join(a.Store, "peers")))
	b.do(os.Remove(b.Path("removed later")))
	b.do(os.Rename(b.Path("new name"), b.Path("newest name")))
	b.write("kept", "third kept")
	b.Settled()
	a.Mount.Mount()
	connected(t, a, b)
	alike(t, "all of it without the records", hs, func(tree map[string]string) bool {
		return len(tree) == 4 && has(tree, "after the backup", "x") && has(tree, "kept", "third kept") && has(tree, "newest name", "first renamed") && has(tree, "changed", "second changed")
	})
	a.write("changed", "third changed")
	alike(t, "a change after that", hs, func(tree map[string]string) bool { return has(tree, "changed", "third changed") })
	for _, h := range hs {
		mounttest.WaitFor(t, "no conflict on "+h.name, func() bool { return len(h.conflicts()) == 0 })
	}
}
