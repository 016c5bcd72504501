package peers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	where "sharefs/internal/client"
)

// spacious makes two hosts that share all, the second with a budget, and content passed through there or served.
func spacious(t *testing.T, budget string, passthrough bool) (a, b *host) {
	t.Helper()
	hs := hosts(t, "", "anna", "bert")
	a, b = hs[0], hs[1]
	way := "auto"
	if !passthrough {
		way = "off"
	}
	b.rationed(budget, "[mount]\npassthrough = \""+way+"\"\n")
	pairByLink(t, a, b)
	a.must("grant", "bert", "write")
	b.must("grant", "anna", "write")
	return a, b
}

// rationed mounts a host anew with a budget, and more that its share.toml says.
func (h *host) rationed(budget, conf string) {
	h.t.Helper()
	h.Unmount()
	h.do(os.WriteFile(filepath.Join(h.Store, "share.toml"), []byte("[peers]\nname = \""+h.name+"\"\n"+conf+"[space]\nbudget = \""+budget+"\"\nwait = \"2s\"\n"), 0o600))
	h.Mount.Mount()
}

// here is how much of a file a host has.
func (h *host) here(name string) where.Presence {
	h.t.Helper()
	var all []where.Presence
	if err := json.Unmarshal([]byte(h.must("here", "--json", name)), &all); err != nil || len(all) != 1 {
		h.t.Fatalf("%v %+v", err, all)
	}
	return all[0]
}

// taken returns how many bytes the content in a store takes.
func (h *host) taken() (n int64) {
	h.t.Helper()
	for _, dir := range []string{"live", "packs"} {
		if err := filepath.WalkDir(filepath.Join(h.Store, dir), func(path string, d fs.DirEntry, err error) error {
			var st unix.Stat_t
			if err == nil && d.Type().IsRegular() && unix.Lstat(path, &st) == nil {
				n += st.Blocks * 512
			}
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return err
		}); err != nil {
			h.t.Fatal(err)
		}
	}
	return n
}

func random(seed uint64, size int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, size)
	rand.NewChaCha8(key).Read(b)
	return b
}

// holds waits until a file on a host has some content.
func (h *host) holdsFile(name string, want []byte) {
	h.t.Helper()
	mounttest.WaitFor(h.t, h.name+" has "+name, func() bool {
		got, err := os.ReadFile(h.Path(name))
		return err == nil && bytes.Equal(got, want)
	})
}

// mappedPage is memory as O_DIRECT wants it.
func mappedPage(t *testing.T) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return b
}

// throughMapping reads what is mapped of a file that is elsewhere. A call of the kernel does, which takes the page faults: one in the code of this process could not be preempted, so that a garbage
// collection would wait for it, with all goroutines behind that, those that carry the packets between the hosts among them, and the fault for what these bring.
func (h *host) throughMapping(m []byte) []byte {
	h.t.Helper()
	r, w, err := os.Pipe()
	h.do(err)
	defer r.Close()
	defer w.Close()
	_, err = w.Write(m) // a pipe takes a page without a reader
	h.do(err)
	got := make([]byte, len(m))
	_, err = io.ReadFull(r, got)
	h.do(err)
	return got
}

// A host with a budget has a share that is larger: all of it is to be seen, read, mapped and changed there, and what is used stays in the budget. Without others what is here works, and
// what is not says so.
func TestBudget(t *testing.T) {
	for name, passthrough := range map[string]bool{"passthrough": true, "served": false} {
		t.Run(name, func(t *testing.T) { testBudget(t, passthrough) })
	}
}

func testBudget(t *testing.T, passthrough bool) {
	const budget, size = 16 << 20, 6 << 20
	a, b := spacious(t, "16MiB", passthrough)
	n := mounttest.Number(t, "SHAREFS_SPACE_FILES", 4, 100)
	want := map[string][]byte{"small": []byte("small")}
	for i := range n {
		want[fmt.Sprintf("large%d", i)] = random(uint64(i), size)
	}
	for name, text := range want {
		a.do(os.WriteFile(a.Path(name), text, 0o644))
	}
	mounttest.WaitFor(t, "all names", func() bool {
		for name, text := range want {
			if info, err := os.Stat(b.Path(name)); err != nil || info.Size() != int64(len(text)) {
				return false
			}
		}
		return true
	})
	b.holdsFile("small", want["small"])
	if p := b.here("small"); p.State != where.HereFull {
		t.Errorf("%+v", p)
	}
	if p := b.here("large0"); p.State != where.HereAbsent || p.Size != size {
		t.Errorf("%+v", p)
	}
	for name, text := range want {
		got, err := os.ReadFile(b.Path(name))
		b.do(err)
		if !bytes.Equal(got, text) {
			t.Fatalf("%s differs", name)
		}
	}
	mounttest.WaitFor(t, "the budget", func() bool { return b.taken() <= budget+1<<20 })

	// A part is read, by a mapping; then all of it is wanted.
	for i := range n {
		b.must("free", fmt.Sprintf("large%d", i))
	}
	f, err := os.Open(b.Path("large0"))
	b.do(err)
	mapped, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	b.do(err)
	if got := b.throughMapping(mapped[size/2 : size/2+100]); !bytes.Equal(got, want["large0"][size/2:size/2+100]) {
		t.Error("what is mapped differs")
	}
	b.do(unix.Munmap(mapped))
	b.do(f.Close())
	b.must("pin", "large0")
	if p := b.here("large0"); p.State != where.HereFull || !p.Pinned {
		t.Errorf("%+v", p)
	}
	if out, err := b.tool("free", "large0"); err == nil || !strings.Contains(err.Error(), "it is pinned") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := a.tool("free", "large1"); err == nil || !strings.Contains(err.Error(), "promises to keep") {
		t.Errorf("%q, %v", out, err)
	}

	// Changes on both sides.
	change := func(h *host, name string, off int64) {
		f, err := os.OpenFile(h.Path(name), os.O_RDWR, 0)
		h.do(err)
		_, err = f.WriteAt([]byte("changed by "+h.name), off)
		h.do(err)
		h.do(f.Close())
		want[name] = bytes.Clone(want[name])
		copy(want[name][off:], "changed by "+h.name)
	}
	change(b, "large1", 1<<20)
	a.holdsFile("large1", want["large1"])
	change(a, "large2", 2<<20)
	b.holdsFile("large2", want["large2"])
	b.do(os.WriteFile(b.Path("large3"), []byte("short"), 0o644))
	want["large3"] = []byte("short")
	a.holdsFile("large3", want["large3"])
	mounttest.WaitFor(t, "what was changed is freed", func() bool {
		_, err := b.tool("free", "large1", "large2")
		return err == nil && b.here("large1").State == where.HereAbsent && b.here("large2").State == where.HereAbsent
	})

	// Alone.
	a.Unmount()
	f, err = os.OpenFile(b.Path("large2"), unix.O_DIRECT, 0) // past what the kernel has; of large1 the packs still have what was written here
	b.do(err)
	_, err = f.ReadAt(mappedPage(t), 0)
	b.do(f.Close())
	if !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("read: %v", err)
	}
	if _, err := os.OpenFile(b.Path("large2"), os.O_RDWR, 0); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("open: %v", err)
	}
	// Beyond the budget, as far as history is in the way, of which there is more or less at any moment.
	if out, err := b.tool("pin", "--beyond", "large2", "large0"); err == nil || !strings.Contains(err.Error(), "to come by itself") || !strings.Contains(out, "Pinned 2 files") || !b.here("large2").Pinned {
		t.Errorf("pin: %q, %v", out, err)
	}
	b.holdsFile("large0", want["large0"])
	b.do(os.WriteFile(b.Path("alone"), []byte("alone"), 0o644))
	b.do(os.Rename(b.Path("large2"), b.Path("moved")))
	want["alone"], want["moved"] = []byte("alone"), want["large2"]
	delete(want, "large2")
	b.Kill()
	b.Mount.Mount()
	a.Mount.Mount()
	connected(t, a, b)
	for _, h := range []*host{a, b} {
		for name, text := range want {
			h.holdsFile(name, text)
		}
	}
	mounttest.WaitFor(t, "what was pinned comes by itself", func() bool { return b.here("moved").State == where.HereFull })
	b.must("unpin", "large0", "moved")
	mounttest.WaitFor(t, "the budget again", func() bool { return b.taken() <= budget+1<<20 })
	mounttest.WaitFor(t, "fsck", func() bool {
		out, err := b.tool("fsck")
		return err == nil && strings.Contains(out, "all is well")
	})
}

// What a host has that has stopped, though it is connected, is as what nobody has, until it goes on.
func TestTheHolderStops(t *testing.T) {
	a, b := spacious(t, "16MiB", true)
	want := random(1, 2<<20)
	a.do(os.WriteFile(a.Path("large"), want, 0o644))
	mounttest.WaitFor(t, "its name", func() bool {
		info, err := os.Stat(b.Path("large"))
		return err == nil && info.Size() == int64(len(want))
	})
	if p := b.here("large"); p.State != where.HereAbsent {
		t.Errorf("%+v", p)
	}
	goOn := func() { _ = unix.Kill(a.PID(), unix.SIGCONT) }
	t.Cleanup(goOn)
	b.do(unix.Kill(a.PID(), unix.SIGSTOP))
	began := time.Now()
	if _, err := os.ReadFile(b.Path("large")); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("read: %v", err)
	}
	t.Logf("after %v", time.Since(began).Round(time.Second/10))
	if _, err := os.OpenFile(b.Path("large"), os.O_RDWR, 0); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("open: %v", err)
	}
	goOn()
	b.holdsFile("large", want)
}
