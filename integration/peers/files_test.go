package peers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/peers/report"
)

// sharing makes hosts that are all paired with each other and may write all of the share.
func sharing(t *testing.T, names ...string) []*host {
	t.Helper()
	return sharingWith(t, "", names...)
}

func sharingWith(t *testing.T, conf string, names ...string) []*host {
	t.Helper()
	hs := hosts(t, conf, names...)
	for i, a := range hs {
		for _, b := range hs[:i] {
			pairByLink(t, a, b)
		}
	}
	for _, a := range hs {
		for _, b := range hs {
			if a != b {
				a.must("grant", b.name, "write")
			}
		}
	}
	return hs
}

// tree is what is in a mount: of each path its type, mode, and content or target.
func (h *host) tree() (map[string]string, error) { return treeBelow(h.Dir) }

func treeBelow(dir string) (map[string]string, error) {
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += " " + string(text)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what += " " + target
		}
		out[rel] = what
		return nil
	})
	return out, err
}

// alike waits until all hosts have the same tree, and for which holds is true.
func alike(t *testing.T, what string, hs []*host, holds func(tree map[string]string) bool) {
	t.Helper()
	var last []map[string]string
	ok := func() bool {
		last = nil
		for _, h := range hs {
			tree, err := h.tree()
			if err != nil { // something goes while it is looked at
				last = append(last, map[string]string{"error": err.Error()})
				return false
			}
			last = append(last, tree)
		}
		for _, tree := range last[1:] {
			if !maps.Equal(tree, last[0]) {
				return false
			}
		}
		return holds(last[0])
	}
	for end := time.Now().Add(mounttest.Patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			var b strings.Builder
			for i, tree := range last {
				fmt.Fprintf(&b, "%s:\n", hs[i].name)
				for _, path := range slices.Sorted(maps.Keys(tree)) {
					fmt.Fprintf(&b, "  %s %.80q\n", path, tree[path])
				}
			}
			for _, h := range hs {
				fmt.Fprintf(&b, "%s: %s\n%s", h.name, h.ctl("sync.json"), h.must("peers"))
			}
			t.Fatalf("%s: not within %v\n%s", what, mounttest.Patience, b.String())
		}
	}
}

func (h *host) write(name, content string) {
	h.t.Helper()
	if err := os.WriteFile(h.Path(name), []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) do(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%s: %v", h.name, err)
	}
}

// ends reports whether a tree has a file that holds some text.
func has(tree map[string]string, name, content string) bool {
	what, ok := tree[name]
	return ok && strings.HasPrefix(what, "-") && strings.HasSuffix(what, " "+content)
}

// Where a directory has the name of a file, whoever wrote the file still reads it by itself, and is not told that others have to send it.
func TestADirectoryHasTheNameOfAFile(t *testing.T) {
	hs := hosts(t, "", "anna", "bert")
	a, b := hs[0], hs[1]
	a.do(os.Mkdir(a.Path("name"), 0o755))
	b.write("name", "of bert")
	b.Settled()
	pairByLink(t, a, b)
	a.must("grant", "bert", "write")
	b.must("grant", "anna", "write")
	for _, h := range hs {
		mounttest.WaitFor(t, "the conflict on "+h.name, func() bool { return len(h.conflicts()) == 1 })
	}
	if out := a.must("conflicts"); !strings.Contains(out, "  name@@bert, which peers send when it is read\n") {
		t.Errorf("%s", out)
	}
	a.Unmount()
	if out := b.must("conflicts"); !strings.Contains(out, "  name@@here\n") {
		t.Errorf("%s", out)
	}
	if text, err := os.ReadFile(b.Path("name@@here")); err != nil || string(text) != "of bert" {
		t.Errorf("%s, %v", text, err)
	}
}

// Files that both had before they met, each kept under its own share key: what is equal is no conflict, whatever its names in the records.
func TestTheSameFilesBeforeTheyMet(t *testing.T) {
	hs := hosts(t, "", "anna", "bert")
	a, b := hs[0], hs[1]
	large := strings.Repeat("0123456789abcdef", 20_000)
	for i, h := range hs {
		h.do(os.Mkdir(h.Path("dir"), 0o755))
		h.write("dir/same", "the same on both")
		h.write("dir/large", large)
		h.write("dir/other", "of "+h.name)
		written := time.Date(2020+i, 1, 1, 0, 0, 0, 0, time.UTC) // by which it is seen that a host has heard of the other's
		h.do(errors.Join(os.Chtimes(h.Path("dir/same"), written, written), os.Chtimes(h.Path("dir/large"), written, written)))
		h.Settled()
	}
	pairByLink(t, a, b)
	if out := a.must("grant", "bert", "write"); !strings.Contains(out, "sharefs grant anna LEVEL, there.") {
		t.Errorf("nothing was granted there: %s", out)
	}
	b.must("grant", "anna", "write")
	written := func(h *host, name string) time.Time {
		info, err := os.Stat(h.Path(name))
		if err != nil {
			return time.Time{} // it is being replaced
		}
		return info.ModTime()
	}
	mounttest.WaitFor(t, "one conflict", func() bool {
		for _, name := range []string{"dir/same", "dir/large"} {
			if at := written(a, name); at.IsZero() || !at.Equal(written(b, name)) {
				return false
			}
		}
		for _, h := range hs { // who has heard of both has said by now that they are the same
			if all := h.conflicts(); len(all) != 1 || all[0].Path != "dir/other" {
				return false
			}
		}
		for i, h := range hs { // and the other knows
			if f := h.peer(hs[1-i].name).Files; f == nil || !f.Sends || f.Lacks > 0 {
				return false
			}
		}
		return true
	})
	alike(t, "the same files", hs, func(tree map[string]string) bool {
		return has(tree, "dir/same", "the same on both") && has(tree, "dir/large", large)
	})
	a.write("dir/same", "later")
	alike(t, "a change of one", hs, func(tree map[string]string) bool { return has(tree, "dir/same", "later") })
	for _, h := range hs {
		if all := h.conflicts(); len(all) != 1 {
			t.Errorf("%s: %+v", h.name, all)
		}
	}
}

func (h *host) conflicts() (all []report.Conflict) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.must("conflicts", "--json")), &all); err != nil {
		h.t.Fatal(err)
	}
	return all
}

// What happens to a file on one host happens on the other, both ways.
func TestFilesTravel(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	a.write("a", "one")
	alike(t, "a file", hs, func(tree map[string]string) bool { return has(tree, "a", "one") })
	b.write("a", "two and more")
	alike(t, "the file back", hs, func(tree map[string]string) bool { return has(tree, "a", "two and more") })
	// A directory, its attributes, what is no regular file, and a file of several chunks.
	big := strings.Repeat("0123456789abcdef", 1<<17)
	a.do(os.MkdirAll(a.Path("d/e"), 0o750))
	a.write("d/e/big", big)
	a.do(os.Symlink("../a", a.Path("d/link")))
	a.do(os.Chmod(a.Path("a"), 0o600))
	a.do(unix.Lsetxattr(a.Path("a"), "user.note", []byte("x"), 0))
	a.do(os.Link(a.Path("d/e/big"), a.Path("d/again")))
	alike(t, "a directory and what is in it", hs, func(tree map[string]string) bool {
		return has(tree, "d/e/big", big) && has(tree, "d/again", big) && tree["d/link"] != "" && strings.HasPrefix(tree["a"], "-rw-------")
	})
	mounttest.WaitFor(t, "an extended attribute", func() bool {
		var buf [8]byte
		n, err := unix.Lgetxattr(b.Path("a"), "user.note", buf[:])
		return err == nil && string(buf[:n]) == "x"
	})
	// As vim saves: the old one goes aside, the new one takes its name, the old one goes.
	b.do(os.Rename(b.Path("a"), b.Path("a~")))
	b.write("a", "three")
	b.do(os.Remove(b.Path("a~")))
	// As others do: written beside and renamed over.
	b.write(".a.tmp", "four")
	alike(t, "saving", hs, func(tree map[string]string) bool { return has(tree, "a", "three") && has(tree, ".a.tmp", "four") })
	b.do(os.Rename(b.Path(".a.tmp"), b.Path("a")))
	alike(t, "a rename over", hs, func(tree map[string]string) bool { _, temp := tree[".a.tmp"]; return has(tree, "a", "four") && !temp })
	// A directory is renamed, moved, removed.
	b.do(os.Rename(b.Path("d"), b.Path("moved")))
	alike(t, "a rename of a directory", hs, func(tree map[string]string) bool { _, old := tree["d"]; return has(tree, "moved/e/big", big) && !old })
	a.do(os.RemoveAll(a.Path("moved")))
	alike(t, "a removal", hs, func(tree map[string]string) bool { return len(tree) == 1 && has(tree, "a", "four") })
	for _, h := range hs {
		if all := h.conflicts(); len(all) != 0 {
			t.Errorf("%s: %+v", h.name, all)
		}
		if s := h.Status(); len(s.Problems) != 0 {
			t.Errorf("%s: %q", h.name, s.Problems)
		}
	}
	// What both have, both know to have.
	mounttest.WaitFor(t, "both to know it", func() bool {
		x, y := a.peer("bert").Files, b.peer("anna").Files
		return x != nil && y != nil && x.Sends && x.Receives && x.Lacks == 0 && !x.Waiting && y.Lacks == 0 && !y.Waiting
	})
}

// What is changed while hosts are apart travels when they meet; two versions of which none knew of the other are a conflict, the same on both.
func TestChangesApartAndConflict(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	a.write("both", "base")
	a.write("old", "x")
	alike(t, "the beginning", hs, func(tree map[string]string) bool { return has(tree, "both", "base") && has(tree, "old", "x") })
	b.Unmount()
	a.write("both", "by anna")
	a.write("from-anna", "1")
	a.do(os.Rename(a.Path("old"), a.Path("renamed")))
	a.Settled()
	a.Unmount()
	b.Mount.Mount()
	b.write("both", "by bert")
	b.write("from-bert", "2")
	b.Settled()
	a.Mount.Mount()
	connected(t, a, b)
	alike(t, "both sides' changes", hs, func(tree map[string]string) bool {
		return has(tree, "from-anna", "1") && has(tree, "from-bert", "2") && has(tree, "renamed", "x") && len(tree) == 4
	})
	var got [2][]report.Conflict
	for i, h := range hs {
		mounttest.WaitFor(t, "a conflict on "+h.name, func() bool {
			got[i] = h.conflicts()
			return len(got[i]) == 1 && len(got[i][0].Sides) == 2 && got[i][0].Sides[1].Number > 0
		})
	}
	for i, h := range hs {
		if got[i][0].Path != "both" {
			t.Errorf("%s: %+v", h.name, got[i])
		}
		for j, s := range got[i][0].Sides {
			if other := got[1-i][0].Sides[j]; s.ID != other.ID || s.By != other.By || s.Live != other.Live || (s.Author == "here") == (other.Author == "here") {
				t.Errorf("%+v and %+v", s, other)
			}
			s.Author = h.whose(s.Author)
			text, err := os.ReadFile(h.Path(fmt.Sprintf("both@@%d", s.Number)))
			if err != nil || string(text) != "by "+s.Author {
				t.Errorf("%s: the version of %s is %q, %v", h.name, s.Author, text, err)
			}
			if text, err := os.ReadFile(h.Path("both@@" + s.Author)); err != nil || string(text) != "by "+h.whose(s.Author) {
				t.Errorf("%s: by its author's name the version of %s is %q, %v", h.name, s.Author, text, err)
			}
		}
		loser := got[i][0].Sides[1].Author
		if names := h.list(".share/conflicts"); names != "both" {
			t.Errorf("%s: .share/conflicts lists %s", h.name, names)
		}
		if names := h.list(".share/conflicts/both"); names != loser+"@1" {
			t.Errorf("%s: it lists %s", h.name, names)
		}
		if text, err := os.ReadFile(h.Path(".share/conflicts/both", loser+"@1")); err != nil || string(text) != "by "+h.whose(loser) {
			t.Errorf("%s: %q, %v", h.name, text, err)
		}
		if out, err := h.tool("diff", h.Path("both"), h.Path("both@@"+loser)); err == nil || !strings.Contains(out, "\n-by "+h.whose(got[i][0].Sides[0].Author)+"\n") || !strings.Contains(out, "\n+by "+h.whose(loser)+"\n") {
			t.Errorf("%s: %s, %v", h.name, out, err)
		}
		if _, err := os.Stat(h.Path("both@@nobody")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", h.name, err)
		}
	}
	for _, c := range []struct {
		says string
		args []string
	}{
		{"the name of a peer may stand there whose version is in conflict or proposed: there are bert", []string{"diff", "both", "both@@nobody"}},
		{"nope: no such file or directory", []string{"resolve", "nope", "--take", "here"}},
		{"nope: no such file or directory", []string{"conflicts", "nope"}},
	} {
		if out, err := a.tool(c.args...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %s, %v", c.args, out, err)
		}
	}
	if out, err := a.tool("resolve", a.Path("both"), "--take", "nobody"); err == nil || !strings.Contains(err.Error(), "here") {
		t.Errorf("%s, %v", out, err)
	}
	loser := a.whose(got[0][0].Sides[1].Author)
	wrote := b.whose(loser)
	if wrote == b.name {
		wrote = "this host"
	}
	if out := b.must("resolve", b.Path("both"), "--take", loser); out != b.Path("both")+" is as "+wrote+" wrote it.\n" {
		t.Errorf("%s", out)
	}
	if text, err := os.ReadFile(b.Path("both")); err != nil || string(text) != "by "+b.whose(loser) {
		t.Errorf("%s was taken, and the file is %q, %v", loser, text, err)
	}
	alike(t, "the choice", hs, func(tree map[string]string) bool { return has(tree, "both", "by "+loser) })
	for _, h := range hs {
		mounttest.WaitFor(t, "no conflict on "+h.name, func() bool { return len(h.conflicts()) == 0 })
		if names := h.list(".share/conflicts"); names != "" {
			t.Errorf("%s: .share/conflicts lists %s", h.name, names)
		}
	}
}

// whose is the name of a host that an author is called by on this one.
func (h *host) whose(author string) string {
	if author == "here" {
		return h.name
	}
	return author
}

// list are the names in a directory.
func (h *host) list(dir string) string {
	h.t.Helper()
	all, err := os.ReadDir(h.Path(dir))
	h.do(err)
	var names []string
	for _, d := range all {
		names = append(names, d.Name())
	}
	return strings.Join(names, " ")
}

// Neither end of a daemon loses anything, whichever way it ends.
func TestKilledAtWork(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	want := map[string]string{}
	put := func(h *host, i int) {
		name, text := fmt.Sprintf("%s-%d", h.name, i), strings.Repeat(fmt.Sprint(i), 100+i)
		h.write(name, text)
		want[name] = text
	}
	for round := range mounttest.Number(t, "SHAREFS_PEER_KILLS", 2, 20) {
		for i := range 20 {
			put(a, 100*round+i)
			put(b, 100*round+i)
			if i == 10 {
				dies := hs[round%2]
				dies.Kill()
				dies.Mount.Mount()
			}
		}
	}
	alike(t, "all files", hs, func(tree map[string]string) bool {
		for name, text := range want {
			if !has(tree, name, text) {
				return false
			}
		}
		return len(tree) == len(want)
	})
}

// Three hosts have the same, also what one of them takes from another whom the author does not reach.
func TestThreeHosts(t *testing.T) {
	hs := sharing(t, "anna", "bert", "cleo")
	a, b, c := hs[0], hs[1], hs[2]
	a.write("a", "1")
	b.write("b", "2")
	c.write("c", "3")
	all := func(tree map[string]string) bool {
		return has(tree, "a", "1") && has(tree, "b", "2") && has(tree, "c", "3")
	}
	alike(t, "a file of each", hs, all)
	c.Unmount()
	a.write("a", "later")
	alike(t, "a change without the third", hs[:2], func(tree map[string]string) bool { return has(tree, "a", "later") })
	a.Unmount()
	c.Mount.Mount()
	alike(t, "what the second has of the first", hs[1:], func(tree map[string]string) bool { return has(tree, "a", "later") })
	a.Mount.Mount()
	c.write("c", "at last")
	alike(t, "all of them", hs, func(tree map[string]string) bool { return has(tree, "a", "later") && has(tree, "c", "at last") })
}

// A peer that may read gets all and changes nothing; a mount that is read-only gives and takes nothing; one that has no grant gets nothing.
func TestWhatLevelsMean(t *testing.T) {
	hs := hosts(t, "", "anna", "bert", "cleo")
	a, b, c := hs[0], hs[1], hs[2]
	pairByLink(t, a, b)
	pairByLink(t, a, c)
	a.must("grant", "bert", "read")
	a.must("grant", "cleo", "store")
	b.must("grant", "anna", "write")
	c.must("grant", "anna", "write")
	a.write("a", "by anna")
	alike(t, "what is read", hs[:2], func(tree map[string]string) bool { return has(tree, "a", "by anna") })
	b.write("a", "by bert")
	b.write("b", "by bert")
	a.write("c", "by anna again")
	mounttest.WaitFor(t, "more of it", func() bool { tree, err := b.tree(); return err == nil && has(tree, "c", "by anna again") })
	tree, err := a.tree()
	if err != nil || len(tree) != 2 || !has(tree, "a", "by anna") {
		t.Errorf("the reader changed something: %q, %v", tree, err)
	}
	if tree, err := c.tree(); err != nil || len(tree) != 0 {
		t.Errorf("one without a grant for all got %q, %v", tree, err)
	}
	if _, err := os.Stat(filepath.Join(c.Store, "peers")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// A limit holds as seen from outside, on whichever side it is set, and small things do not wait for large ones.
func TestLimits(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	const rate, size = 400_000, 1_200_000
	var seed [32]byte
	noise := func() string { // nothing of it can be left out
		seed[0]++
		text := make([]byte, size)
		_, _ = rand.NewChaCha8(seed).Read(text)
		return string(text)
	}
	if out := a.must("peers", "limit", "bert", "up=400KB/s", "records=5000000"); out != "up=400KB/s records=5000000\n" {
		t.Errorf("%s", out)
	}
	if got := a.ctl("peers/bert/limits"); got != "up=400KB/s records=5000000\n" || a.peer("bert").Limits.Up != rate {
		t.Errorf("%s, %+v", got, a.peer("bert").Limits)
	}
	for _, bad := range [][]string{{"up=1KB/s"}, {"up=much"}, {"speed=1MB/s"}, {"up"}} {
		if out, err := a.tool(append([]string{"peers", "limit", "bert"}, bad...)...); err == nil {
			t.Errorf("%q: %s", bad, out)
		}
	}
	if out, err := a.tool("peers", "limit", "nobody"); err == nil || !strings.Contains(err.Error(), "no peer has this name") {
		t.Errorf("%s, %v", out, err)
	}
	travels := func(name string) time.Duration {
		t.Helper()
		start, text := time.Now(), noise()
		a.write(name, text)
		a.write(name+".small", "first")
		alike(t, name+".small", hs[1:], func(tree map[string]string) bool { return has(tree, name+".small", "first") })
		alike(t, name, hs, func(tree map[string]string) bool { return has(tree, name, text) })
		return time.Since(start)
	}
	const least = (size/rate)*time.Second - 500*time.Millisecond
	if d := travels("up"); d < least {
		t.Errorf("%d bytes in %v by %d a second that go", size, d, rate)
	}
	if err := os.WriteFile(b.Path(".share/ctl/peers/anna/limits"), []byte("down=400KB/s\n"), 0); err != nil {
		t.Error(err)
	}
	if out := a.must("peers", "limit", "bert", "up=none", "records=none"); out != "There is no limit for bert.\n" {
		t.Errorf("%s", out)
	}
	if d := travels("down"); d < least {
		t.Errorf("%d bytes in %v by %d a second that come", size, d, rate)
	}
}
