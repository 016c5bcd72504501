package versions

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/versions/kv/journal/simdisk"
)

// outline writes down what a model's names lead to, without content and times.
func (m *model) outline() string {
	var lines []string
	var walk func(d *mnode, path string)
	walk = func(d *mnode, path string) {
		for name, n := range d.children {
			names := make([]string, 0, len(n.xattrs))
			for name, value := range n.xattrs {
				names = append(names, name+"="+value)
			}
			slices.Sort(names)
			lines = append(lines, fmt.Sprintf("%s/%s %o %d %d %d %d %q %q", path, name, n.mode, n.nlink, n.uid, n.gid, n.rdev, n.target, names))
			if n.isDir() {
				walk(n, path+"/"+name)
			}
		}
	}
	walk(m.root, "")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// outline writes the same down for a tree.
func outline(t testing.TB, tree *Tree) string {
	t.Helper()
	var lines []string
	var walk func(dir sharefs.Ino, path string)
	walk = func(dir sharefs.Ino, path string) {
		for name, ino := range names(t, tree, dir) {
			a := must[sharefs.Attr](t)(tree.Getattr(ino))
			xattrs := must[[]string](t)(tree.Listxattr(ino))
			for i, name := range xattrs {
				xattrs[i] += "=" + string(must[[]byte](t)(tree.Getxattr(ino, name)))
			}
			target := ""
			if a.IsSymlink() {
				target = must[string](t)(tree.Readlink(ino))
			}
			lines = append(lines, fmt.Sprintf("%s/%s %o %d %d %d %d %q %q", path, name, a.Mode, a.Nlink, a.UID, a.GID, a.Rdev, target, xattrs))
			if a.IsDir() {
				walk(ino, path+"/"+name)
			}
		}
	}
	walk(sharefs.RootIno, "")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestTreeAfterLossOfPower lets the power go with everything written since the last sync landed up to some write, and a part of that one. The
// tree that is left is one that was, no older than the sync. Of the backing files either all that there are have reached the disk,
// or none since the sync.
func TestTreeAfterLossOfPower(t *testing.T) {
	t.Parallel()
	dir, synced, latest := t.TempDir(), t.TempDir(), t.TempDir()
	disk := simdisk.New()
	quiet := func(c *Config) { c.Journal, c.Settle, c.MaxDelay = disk, 1<<40, 1<<40 }
	m := newModel(300)
	m.atomic = true
	m.tree = testTree(t, dir, quiet)
	m.find(t)
	m.run(t, 0, 200)
	// The reaper would sync on its own account.
	m.tree.orphans.reaping.Lock()
	defer m.tree.orphans.reaping.Unlock()
	check(t, m.tree.Sync())
	copyStore(t, dir, synced)
	from := disk.Len()
	states := []string{m.outline()}
	m.done = func(int) { states = append(states, m.outline()) }
	// A tree that is slow looks as one that nobody uses, and puts a memtable away, which syncs: then what came before is no matter of chance any more, and there has to be more.
	var writes []simdisk.Op
	n := 0
	for step := 200; len(writes) < 50; step += 200 {
		if step > 4000 {
			t.Fatalf("only %d writes since the last sync", len(writes))
		}
		m.run(t, step, step+200)
		n, writes = disk.Len(), nil
		for _, op := range disk.Unsynced(n) {
			if op.Kind == simdisk.Write && op.Index >= from {
				writes = append(writes, op)
			}
		}
	}
	copyStore(t, dir, latest)
	every := len(writes) / 12
	if os.Getenv("SHAREFS_SOAK") != "" {
		every = 1
	}
	at := 0
	for i := 0; i < len(writes); i += every {
		op := writes[i]
		for _, cut := range []int{0, 1, len(op.Data) / 2, len(op.Data) - 1, len(op.Data)} {
			tree := testTree(t, latest, func(c *Config) {
				c.Journal, c.ReadOnly = disk.PowerLoss(n, simdisk.Torn(op.Index, cut)), true
			})
			got := outline(t, tree)
			was := slices.Index(states[at:], got)
			if was < 0 {
				t.Fatalf("write %d cut to %d bytes: the tree is none that was since step %d:\n%s", i, cut, at, got)
			}
			at += was
			check(t, tree.Close())
		}
	}
	if at == 0 {
		t.Error("nothing ever landed")
	}

	// With a daemon that goes on: backing files that never reached the disk, and others whose rows did not.
	for name, store := range map[string]string{"names of backing files lost": synced, "rows lost": latest} {
		fate := simdisk.Kept
		if store == latest {
			fate = simdisk.Lost
		}
		tree := testTree(t, store, func(c *Config) { c.Journal = disk.PowerLoss(n, fate) })
		got := outline(t, tree)
		// Nobody asked for a sync since the first state, but a memtable that is put away when the tree is quiet makes one.
		if store == latest && slices.Index(states, got) < 0 || store == synced && got != states[len(states)-1] {
			t.Errorf("%s: another tree than was", name)
		}
		noProblems(t, tree)
		for i := range 600 { // more than were prepared
			create(t, tree, sharefs.RootIno, fmt.Sprint("more", i), "x")
		}
		noProblems(t, tree)
		check(t, tree.Close())
	}
}
