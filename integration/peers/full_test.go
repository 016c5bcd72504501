package peers

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
)

// A host whose disk is full says so, takes what it can, and goes on when there is room.
func TestAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 || !mounttest.Soak() {
		t.Skip("a disk of its own needs root, and much goes over it: a part of make soak")
	}
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	a.write("small", "x")
	alike(t, "the beginning", hs, func(tree map[string]string) bool { return has(tree, "small", "x") })
	b.Unmount()
	// Its store moves to a disk of its own.
	before := b.Store + ".before"
	b.do(os.Rename(b.Store, before))
	b.do(os.Mkdir(b.Store, 0o700))
	b.do(unix.Mount("disk", b.Store, "tmpfs", 0, "size=96m,mode=700"))
	mounted := true
	defer func() {
		if mounted {
			_ = unix.Unmount(b.Store, unix.MNT_DETACH)
		}
	}()
	if out, err := exec.Command("cp", "-a", before+"/.", b.Store).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.Mount.Mount()
	connected(t, a, b)
	big := make([]byte, 48<<20)
	for i := range big {
		big[i] = byte(i * i >> 8 * 31)
	}
	for _, name := range []string{"big1", "big2", "big3"} {
		for i := 0; i < len(big); i += 64 {
			big[i] += name[3] // other chunks in each
		}
		a.write(name, string(big))
	}
	mounttest.WaitFor(t, "word of the full disk", func() bool { return strings.Contains(strings.Join(b.Status().Problems, "\n"), "full") })
	a.write("later", "y")
	b.do(unix.Mount("disk", b.Store, "tmpfs", unix.MS_REMOUNT, "size=1g,mode=700"))
	alike(t, "all of it", hs, func(tree map[string]string) bool {
		return len(tree) == 5 && has(tree, "later", "y") && len(tree["big3"]) > len(big)
	})
	mounttest.WaitFor(t, "no problem", func() bool { return len(b.Status().Problems) == 0 })
	b.Unmount()
	if err := unix.Unmount(b.Store, 0); err != nil {
		t.Error(err)
	}
	mounted = false
	b.do(os.Remove(b.Store))
	b.do(os.Rename(before, b.Store))
	b.Mount.Mount() // so that the end of the test finds what it expects
}
