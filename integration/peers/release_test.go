package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	where "sharefs/internal/client"
)

// frees waits until a host has freed a file: it is closed, and peers are asked.
func (h *host) frees(name string) {
	h.t.Helper()
	var last error
	mounttest.WaitFor(h.t, h.name+" frees "+name, func() bool {
		_, err := h.tool("free", name)
		if err != nil && (last == nil || err.Error() != last.Error()) {
			h.t.Log(err)
			last = err
		}
		return err == nil && h.here(name).State == where.HereAbsent
	})
}

// relied returns who relies on what a host has of a file, as the mount says.
func (h *host) relied(name string) string {
	h.t.Helper()
	buf := make([]byte, 4096)
	n, err := unix.Lgetxattr(h.Path(name), "user.sharefs.promised", buf)
	if err == unix.ENODATA {
		return ""
	}
	h.do(err)
	return string(buf[:n])
}

// What one host freed by the promise of another, and reads again, is kept there again: then the other one may free it, by a promise of the first, and so on, also after kills.
func TestPromisesAreGivenBack(t *testing.T) {
	a, b := spacious(t, "0", true)
	want := random(1, 3<<20)
	b.do(os.WriteFile(b.Path("f"), want, 0o644))
	a.holdsFile("f", want)
	b.frees("f")
	a.says(true, []string{"this host promised bert to keep its copy", "bert relies on it (it does not hold all of it for good"}, "free", "f")
	b.Unmount()
	mounttest.WaitFor(t, "bert is gone", func() bool { return !a.peer("bert").Connected })
	a.says(true, []string{"bert relies on it (it is not connected)"}, "free", "f")
	b.Mount.Mount()
	connected(t, a, b)
	for range 2 {
		b.holdsFile("f", want)
		a.frees("f") // bert keeps it again, and says so
		b.says(true, []string{"this host promised anna to keep its copy"}, "free", "f")
		b.Kill()
		b.Mount.Mount()
		connected(t, a, b)
		b.says(true, []string{"this host promised anna to keep its copy"}, "free", "f")
		a.holdsFile("f", want)
		b.frees("f")
		a.Kill()
		a.Mount.Mount()
		connected(t, a, b)
		a.says(true, []string{"this host promised bert to keep its copy"}, "free", "f")
	}
	a.holdsFile("f", want)
	b.holdsFile("f", want)

	// What has another content, or is gone, is promised to nobody any more.
	b.do(os.WriteFile(b.Path("f"), []byte("another"), 0o644))
	a.holdsFile("f", []byte("another"))
	mounttest.WaitFor(t, "nothing of it is promised", func() bool { return a.relied("f") == "" }) // as soon as the version behind it is there, too
	for _, h := range []*host{a, b} {
		mounttest.WaitFor(t, "fsck", func() bool {
			out, err := h.tool("fsck")
			return err == nil && strings.Contains(out, "all is well")
		})
	}
}

// Who relies on a copy lets its host go where another one promises the same instead, though it does not hold the content itself, and not before; and who is revoked relies on nothing.
func TestAPromiseOfAnotherInstead(t *testing.T) {
	hs := hosts(t, "", "anna", "bert", "carl")
	a, b, c := hs[0], hs[1], hs[2]
	b.Unmount()
	b.do(os.WriteFile(filepath.Join(b.Store, "share.toml"), []byte("[peers]\nname = \"bert\"\n[space]\nbudget = \"32MiB\"\nwait = \"2s\"\n"), 0o600))
	b.Mount.Mount()
	join := func(x, y *host) {
		t.Helper()
		pairByLink(t, x, y)
		x.must("grant", y.name, "write")
		y.must("grant", x.name, "write")
	}
	join(a, b)
	join(a, c)
	join(b, c)
	want := random(1, 3<<20)
	b.do(os.WriteFile(b.Path("f"), want, 0o644))
	a.holdsFile("f", want)
	c.holdsFile("f", want)
	c.Unmount()
	mounttest.WaitFor(t, "carl is gone", func() bool { return !a.peer("carl").Connected && !b.peer("carl").Connected })
	b.frees("f")
	b.holdsFile("f", want) // as a cache, which goes without asking
	a.says(true, []string{"this host promised bert", "nor do enough others"}, "free", "f")
	c.Mount.Mount()
	connected(t, a, c)
	connected(t, b, c)
	a.frees("f")
	if text := c.relied("f"); strings.Count(text, "\n") != 2 {
		t.Errorf("anna and bert rely on carl: %q", text)
	}
	c.says(true, []string{"this host promised", "anna relies on it", "bert relies on it"}, "free", "f")
	b.frees("f")
	// What is pinned is kept, also by a host with a budget.
	b.must("pin", "f")
	b.holdsFile("f", want)
	c.frees("f")
	if text := b.relied("f"); text == "" {
		t.Error("nobody relies on bert")
	}
	b.must("unpin", "f")
	b.says(true, []string{"this host promised"}, "free", "f")
	b.must("revoke", "anna")
	b.must("revoke", "carl")
	b.says(true, []string{"promises to keep"}, "free", "f") // nobody relies on it, and nobody is left who could promise it
	if text := b.relied("f"); text != "" {
		t.Error(text)
	}
}
