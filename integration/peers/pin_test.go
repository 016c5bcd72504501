package peers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
	where "sharefs/internal/client"
	"sharefs/internal/status"
	"sharefs/peers/report"
)

// status is what a mount tells of itself.
func (h *host) status() (s status.Status) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.must("status", "--json")), &s); err != nil {
		h.t.Fatal(err)
	}
	return s
}

// comes waits until a file is here as a whole, without anybody asking for it.
func (h *host) comes(name string, pinned bool) {
	h.t.Helper()
	mounttest.WaitFor(h.t, h.name+" has all of "+name, func() bool {
		if _, err := os.Stat(h.Path(name)); err != nil {
			return false
		}
		p := h.here(name)
		return p.State == where.HereFull && p.Pinned == pinned
	})
}

// named waits until a host shows a file of a size.
func (h *host) named(name string, size int) {
	h.t.Helper()
	mounttest.WaitFor(h.t, h.name+" shows "+name, func() bool {
		info, err := os.Stat(h.Path(name))
		return err == nil && info.Size() == int64(size)
	})
}

// A pin lasts: whatever comes to lie below it is fetched by itself, whoever made it and however it came there, as soon as somebody has it, across changes, renames, kills and disconnections; and what leaves is
// not kept any more.
func TestPinLasts(t *testing.T) {
	const size = 1 << 20
	a, b := spacious(t, "32MiB", true)
	a.do(os.MkdirAll(a.Path("keep/below"), 0o755))
	a.do(os.MkdirAll(a.Path("other/dir"), 0o755))
	a.do(os.WriteFile(a.Path("keep/first"), random(1, size), 0o644))
	a.do(os.WriteFile(a.Path("other/dir/moves"), random(2, size), 0o644))
	a.do(os.WriteFile(a.Path("other/stays"), random(3, size), 0o644))
	b.named("keep/first", size)
	b.named("other/dir/moves", size)
	b.named("other/stays", size)
	b.must("pin", "keep")
	if p := b.here("keep/first"); p.State != where.HereFull || !p.Pinned {
		t.Errorf("%+v", p)
	}

	// A peer makes a large file, below it and deeper, and changes one.
	a.do(os.WriteFile(a.Path("keep/new"), random(4, size), 0o644))
	a.do(os.WriteFile(a.Path("keep/below/deep"), random(5, size), 0o644))
	b.comes("keep/new", true)
	b.comes("keep/below/deep", true)
	changed := random(1, size)
	copy(changed[size/2:], "changed")
	f, err := os.OpenFile(a.Path("keep/first"), os.O_WRONLY, 0)
	a.do(err)
	_, err = f.WriteAt([]byte("changed"), size/2)
	a.do(err)
	a.do(f.Close())
	mounttest.WaitFor(t, "the change is here, unread", func() bool {
		return b.versionsOf("keep/first") > 1 && b.here("keep/first").State == where.HereFull
	})

	// Directories come in and go out, on either host.
	a.do(os.Rename(a.Path("other/dir"), a.Path("keep/dir")))
	b.comes("keep/dir/moves", true)
	b.do(os.Rename(b.Path("keep/below"), b.Path("other/below")))
	mounttest.WaitFor(t, "what left is not pinned", func() bool { return !b.here("other/below/deep").Pinned })
	b.must("free", "other/below/deep")
	if p := b.here("other/below/deep"); p.State != where.HereAbsent {
		t.Errorf("%+v", p)
	}
	b.do(os.Rename(b.Path("other/below"), b.Path("keep/below")))
	b.comes("keep/below/deep", true)
	if p := b.here("other/stays"); p.State != where.HereAbsent || p.Pinned {
		t.Errorf("%+v", p)
	}

	// Nobody has it for a while, and this host is killed meanwhile.
	b.must("free", "other/stays")
	a.Unmount()
	b.do(os.Rename(b.Path("other/stays"), b.Path("keep/stays")))
	mounttest.WaitFor(t, "status tells what lacks and why", func() bool {
		r := b.status().Room
		return r != nil && r.LackingFiles == 1 && r.Why["no connected host has it"] == 1 && r.Lacking == size
	})
	if out := b.must("status"); !strings.Contains(out, "1.0 MiB of 1 pinned file still to come: of 1 no connected host has it") {
		t.Errorf("%s", out)
	}
	b.Kill()
	b.Mount.Mount()
	a.Mount.Mount()
	b.comes("keep/stays", true)
	if _, err := b.tool("free", "keep/stays"); err == nil || !strings.Contains(err.Error(), "it is pinned with ") {
		t.Errorf("%v", err)
	}
	if _, err := b.tool("unpin", "keep/stays"); err == nil || !strings.Contains(err.Error(), "unpin that") {
		t.Errorf("%v", err)
	}

	// All of it is right, with nobody to ask.
	a.Unmount()
	for name, want := range map[string][]byte{"keep/first": changed, "keep/new": random(4, size), "keep/below/deep": random(5, size), "keep/dir/moves": random(2, size), "keep/stays": random(3, size)} {
		got, err := os.ReadFile(b.Path(name))
		b.do(err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs", name)
		}
	}
	b.must("unpin", "keep")
	if p := b.here("keep/stays"); p.Pinned {
		t.Errorf("%+v", p)
	}
	if out := b.must("fsck"); !strings.Contains(out, "all is well") {
		t.Errorf("%s", out)
	}
}

// versionsOf is how many versions a file has.
func (h *host) versionsOf(name string) int {
	h.t.Helper()
	list, err := os.ReadDir(h.Path(name + "@@"))
	if err != nil {
		return 0
	}
	n := 0
	for _, d := range list {
		if strings.Trim(d.Name(), "0123456789") == "" {
			n++
		}
	}
	return n
}

// A saved file stays pinned though editors save by another file.
func TestPinOfASavedFile(t *testing.T) {
	a, b := spacious(t, "32MiB", true)
	b.do(os.WriteFile(b.Path("text"), []byte("one"), 0o644))
	b.must("pin", "text")
	b.do(os.WriteFile(b.Path(".text.tmp"), []byte("two"), 0o644))
	b.do(os.Rename(b.Path(".text.tmp"), b.Path("text")))
	if p := b.here("text"); !p.Pinned {
		t.Errorf("saved here: %+v", p)
	}
	a.holdsFile("text", []byte("two"))
	want := random(7, 1<<20)
	a.do(os.WriteFile(a.Path(".text.tmp"), want, 0o644))
	a.do(os.Rename(a.Path(".text.tmp"), a.Path("text")))
	b.named("text", len(want))
	b.comes("text", true)
}

// The budget's use is shown; a pin beyond it is refused with the figures, and what a pin comes to want beyond it waits, and comes when there is room.
func TestPinsAndTheBudget(t *testing.T) {
	const size = 6 << 20
	a, b := spacious(t, "16MiB", true)
	a.do(os.Mkdir(a.Path("keep"), 0o755))
	for i := range 2 {
		a.do(os.WriteFile(a.Path(fmt.Sprint("keep/", i)), random(uint64(i), size), 0o644))
	}
	a.do(os.WriteFile(a.Path("large"), random(9, size), 0o644))
	b.named("keep/1", size)
	b.named("large", size)
	b.must("pin", "keep")
	mounttest.WaitFor(t, "the figures", func() bool {
		r := b.status().Room
		return r != nil && r.Budget == 16<<20 && r.Pinned == 2*size && r.PinnedFiles == 2 && r.LackingFiles == 0 && r.Used >= 2*size && r.Used <= 2*size+1<<20 && r.AbsentFiles == 1 && r.Absent == size
	})
	out := b.must("status")
	for _, want := range []string{"of the budget of 16 MiB used", "2 files pinned, 12 MiB", "6.0 MiB of 1 file not here by choice"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	metrics := b.ctl("metrics")
	for _, want := range []string{fmt.Sprintf("sharefs_room_pinned_bytes %v", 1.2582912e+07), "sharefs_room_absent_files 1\n", fmt.Sprintf("sharefs_room_budget_bytes %v", 1.6777216e+07)} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
	if _, err := b.tool("pin", "large"); err == nil || !strings.Contains(err.Error(), "6.0 MiB") || !strings.Contains(err.Error(), "the budget of 16 MiB") || !strings.Contains(err.Error(), "unpin something") {
		t.Errorf("%v", err)
	}
	if p := b.here("large"); p.Pinned || p.State != where.HereAbsent {
		t.Errorf("%+v", p)
	}

	// The pin comes to want more than there is room for.
	a.do(os.Rename(a.Path("large"), a.Path("keep/large")))
	b.named("keep/large", size)
	mounttest.WaitFor(t, "status says that there is no room", func() bool {
		s := b.status()
		return s.Room != nil && s.Room.LackingFiles == 1 && strings.Contains(strings.Join(s.Problems, "\n"), "1 pinned file cannot come")
	})
	if n := b.taken(); n > 16<<20+1<<20 {
		t.Errorf("%d bytes are here", n)
	}
	a.do(os.Remove(a.Path("keep/0")))
	b.comes("keep/large", true)
}

// While a large file comes status tells how far it is, from whom it comes and how fast, be it for the tree or because it is pinned.
func TestStatusTellsWhatComes(t *testing.T) {
	a, b := spacious(t, "64MiB", true)
	root := os.Geteuid() == 0 // or there is no other user to be
	if root {
		b.Unmount()
		b.do(b.TryMount("allow_other"))
		connected(t, a, b)
	}
	const size = 8 << 20
	b.must("peers", "limit", "anna", "down=2MB/s")
	watch := func(name string) (seen report.Coming) {
		mounttest.WaitFor(t, "status tells of "+name, func() bool {
			s := b.status()
			if s.Peers == nil || s.Peers.Sync == nil {
				return false
			}
			for _, c := range s.Peers.Sync.Coming {
				if c.Path == name && c.Here > 0 && c.Rate > 0 {
					seen = c
				}
			}
			return seen.Path != ""
		})
		return seen
	}
	a.do(os.WriteFile(a.Path("large"), random(1, size), 0o644))
	b.named("large", size)
	go func() { _, _ = b.tool("pin", "large") }()
	c := watch("large")
	if c.Size != size || c.Here >= size || len(c.From) != 1 || c.From[0] != "anna" {
		t.Errorf("%+v", c)
	}
	out := b.must("status")
	if b.here("large").State != where.HereFull && !strings.Contains(out, "of 8.0 MiB from anna") {
		t.Errorf("%s", out)
	}
	if root {
		if text, ok := b.byStranger("cat", b.Path(".share/ctl/status.json")); !ok || !strings.Contains(string(text), `"coming_now":`) || strings.Contains(string(text), `"large"`) {
			t.Errorf("everybody may read names of files: %s", text)
		}
	}
	b.comes("large", true)

	// Without a budget all comes, and a name only with its content.
	b.must("peers", "limit", "anna", "down=none")
	b.Unmount()
	b.do(os.WriteFile(b.Store+"/share.toml", []byte("[peers]\nname = \"bert\"\n"), 0o600))
	b.Mount.Mount()
	connected(t, a, b)
	b.must("peers", "limit", "anna", "down=2MB/s")
	a.do(os.WriteFile(a.Path("larger"), random(2, size), 0o644))
	if c := watch("larger"); c.Size != size || len(c.From) != 1 || c.From[0] != "anna" {
		t.Errorf("%+v", c)
	}
	if out := b.must("status"); !strings.Contains(out, "1 file") {
		t.Errorf("%s", out)
	}
	b.named("larger", size)
	mounttest.WaitFor(t, "nothing comes any more", func() bool {
		s := b.status().Peers.Sync
		return s != nil && s.Receiving == 0
	})
}

// A host without a budget tells of what was freed on it, as one with a budget does, after a mount too; and no more once it is back.
func TestStatusTellsWhatWasFreed(t *testing.T) {
	const size = 3 << 20
	a, b := spacious(t, "0", true)
	for i := range 3 {
		a.do(os.WriteFile(a.Path(fmt.Sprint("f", i)), random(uint64(i), size), 0o644))
	}
	for i := range 3 {
		b.holdsFile(fmt.Sprint("f", i), random(uint64(i), size))
	}
	if r := b.status().Room; r != nil {
		t.Errorf("nothing is absent, and status tells of %+v", r)
	}
	told := func(files int) {
		t.Helper()
		mounttest.WaitFor(t, "the figures", func() bool {
			r := b.status().Room
			return r != nil && r.AbsentFiles == files && r.Absent == uint64(files)*size && r.Budget == 0
		})
		want := fmt.Sprintf("%d.0 MiB of %d files not here by choice", 3*files, files)
		if out := b.must("status"); !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
		if metrics := b.ctl("metrics"); !strings.Contains(metrics, fmt.Sprintf("sharefs_room_absent_files %d\n", files)) {
			t.Error("the metrics do not tell of it")
		}
	}
	mounttest.WaitFor(t, "they are freed", func() bool {
		_, err := b.tool("free", ".")
		return err == nil || strings.Contains(err.Error(), "nothing")
	})
	told(3)
	b.Unmount()
	b.Mount.Mount()
	connected(t, a, b)
	told(3)
	b.holdsFile("f0", random(0, size))
	b.must("pin", "f0")
	told(2)
}

// What was asked for and is done shows at once: what status says is as things are when it is asked.
func TestStatusLagsBehindNothing(t *testing.T) {
	const size = 4 << 20
	a, b := spacious(t, "32MiB", true)
	a.do(os.WriteFile(a.Path("f"), random(1, size), 0o644))
	b.named("f", size)
	for range 3 {
		b.must("pin", "f")
		if r := b.status().Room; r.PinnedFiles != 1 || r.LackingFiles != 0 || r.AbsentFiles != 0 || r.Used < size {
			t.Errorf("after pin: %+v", r)
		}
		b.must("unpin", "f")
		b.must("free", "f")
		if r := b.status().Room; r.PinnedFiles != 0 || r.AbsentFiles != 1 || r.Absent != size || r.Freeable >= size || r.Used >= size {
			t.Errorf("after free: %+v", r)
		}
	}
}

// A pin beyond the budget of one file that has no room is told of as what lacks, and why.
func TestPinOfOneFileBeyondTheBudget(t *testing.T) {
	const size = 20 << 20
	a, b := spacious(t, "16MiB", true)
	a.do(os.WriteFile(a.Path("large"), random(1, size), 0o644))
	a.do(os.WriteFile(a.Path("other"), random(2, size/10), 0o644))
	b.named("large", size)
	b.named("other", size/10)
	if _, err := b.tool("pin", "other", "large"); err == nil || !strings.Contains(err.Error(), "other, ") || !strings.Contains(err.Error(), "large") || !strings.Contains(err.Error(), "together they have 22 MiB") {
		t.Errorf("%v", err)
	}
	if _, err := b.tool("pin", "--beyond", "large"); err == nil || !strings.Contains(err.Error(), "the budget of 16 MiB has no room for it, though the disk has: ") || strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v", err)
	}
	mounttest.WaitFor(t, "status tells that there is no room", func() bool {
		out := b.must("status")
		return strings.Contains(out, "Pinned       20 MiB of 1 pinned file still to come: of 1 the budget has no room") && strings.Contains(out, "1 pinned file cannot come")
	})
}

// What is read in a burst stays, the last of it most of all.
func TestWhatIsReadLastStays(t *testing.T) {
	const size, n = 3 << 20, 12
	a, b := spacious(t, "16MiB", false)
	for i := range n {
		a.do(os.WriteFile(a.Path(fmt.Sprint("f", i)), random(uint64(i), size), 0o644))
	}
	for i := range n {
		b.named(fmt.Sprint("f", i), size)
	}
	for _, round := range []int{1, 5, 7} { // in other orders
		for i := range n {
			name := fmt.Sprint("f", i*round%n)
			if got, err := os.ReadFile(b.Path(name)); err != nil || len(got) != size {
				t.Fatal(err)
			}
		}
		for i := n - 3; i < n; i++ { // 80 percent of the budget have room for four
			name := fmt.Sprint("f", i*round%n)
			mounttest.WaitFor(t, name+", which was read among the last, is here", func() bool { return b.here(name).State == where.HereFull })
		}
	}
}

// Files that free leaves are named, with what keeps them.
func TestFreeNamesWhatStays(t *testing.T) {
	a, b := spacious(t, "32MiB", true)
	a.do(os.Mkdir(a.Path("d"), 0o755))
	a.do(os.WriteFile(a.Path("d/pinned"), random(1, 100_000), 0o644))
	a.do(os.WriteFile(a.Path("d/open"), random(2, 100_000), 0o644))
	b.named("d/pinned", 100_000)
	b.named("d/open", 100_000)
	for i := range 8 {
		b.do(os.WriteFile(b.Path(fmt.Sprint("d/own", i)), random(uint64(i), 10_000), 0o644))
	}
	for i := range 8 {
		a.holdsFile(fmt.Sprint("d/own", i), random(uint64(i), 10_000))
	}
	b.must("pin", "d/pinned")
	f, err := os.Open(b.Path("d/open"))
	b.do(err)
	defer f.Close()
	_, err = f.Read(make([]byte, 10))
	b.do(err)
	a.Unmount()
	mounttest.WaitFor(t, "anna is gone", func() bool { return !b.peer("anna").Connected })
	out, err := b.tool("free", "d")
	if err == nil || !strings.Contains(err.Error(), "10 files stay") {
		t.Errorf("%v", err)
	}
	for _, want := range []string{"it is pinned", "d/pinned", "somebody has it open", "d/open", "promises to keep its copy", "d/own0", "and 3 more files"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
