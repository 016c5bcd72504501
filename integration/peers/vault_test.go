package peers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs"
	"sharefs/integration/mounttest"
	"sharefs/internal/keyring"
	"sharefs/internal/recovery"
	"sharefs/peers/report"
	"sharefs/versions/tier"
)

// backedUp waits until a peer has all of the past, as of a moment after this was called. The daemon starts anew for it, so that nobody waits for the next round.
func (h *host) backedUp(at ...*host) {
	h.t.Helper()
	h.Settled()
	h.Remount()
	for _, p := range at {
		mounttest.WaitFor(h.t, p.name+" has all of the past of "+h.name, func() bool {
			b := h.peer(p.name).Backup
			return b != nil && !b.Complete.IsZero() && b.Behind.IsZero() && b.BacklogFiles == 0 && b.Error == ""
		})
	}
}

// on runs the tool on a host, without a mount.
func (h *host) on(args ...string) (string, error) {
	h.t.Helper()
	out, err := h.net.Run(h.t.Context(), mounttest.Bin(h.t, "sharefs"), args...)
	return string(out), err
}

// leaks looks for texts in all files of a directory.
func leaks(t *testing.T, dir string, texts ...string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		n++
		for _, text := range texts {
			if strings.Contains(path, text) || bytes.Contains(body, []byte(text)) {
				t.Errorf("%s has %q", path, text)
			}
		}
		return err
	})
	if err != nil || n < 5 {
		t.Errorf("%d files, %v", n, err)
	}
}

// Two peers keep the past of a host, sealed. One of them loses it and gets it again; the host is lost, and one of them, and the sheet brings all back on a machine that no
// peer has seen: the tree, and the past.
func TestBackupOnPeers(t *testing.T) {
	hs := hosts(t, "", "anna", "bert", "carl", "nova")
	a, b, c, nova := hs[0], hs[1], hs[2], hs[3]
	pairByLink(t, a, b)
	pairByLink(t, a, c)
	for _, k := range []*host{b, c} {
		k.must("peers", "rename", "anna", "laptop")
		const allow = "sharefs peers limit laptop quota=50GB"
		if out := a.must("grant", k.name, "store"); !strings.HasSuffix(out, "It keeps nothing yet, for it has to set a quota for this host, there: "+allow+"\n") {
			t.Errorf("%s", out)
		}
		const none = "it takes nothing, for no quota is set for this host there; on that host: " + allow
		if got, want := strings.Join(a.Status().Problems, "\n"), "the backup with "+k.name+" does not get on: "+none; got != want {
			t.Errorf("problems: %q, not %q", got, want)
		}
		if b := a.peer(k.name).Backup; b == nil || b.Allow != allow || b.Error != none {
			t.Errorf("%+v", b)
		}
		if out := a.must("peers"); !strings.Contains(out, "; "+none+"\n") || strings.Contains(out, "not known") {
			t.Errorf("%s", out)
		}
		const wants = "it wants to keep a backup here and has no quota: " + allow + " sets one"
		if out := k.must("peers"); !strings.HasSuffix(out, "; this host keeps nothing for it; "+wants+"\n") {
			t.Errorf("%s", out)
		}
		if out := k.must("status"); !strings.Contains(out, "  "+wants+"\n") || !strings.Contains(out, "Problems     none\n") {
			t.Errorf("%s", out)
		}
		if _, err := os.Stat(filepath.Join(k.Store, "vaults")); !os.IsNotExist(err) {
			t.Errorf("%s keeps something that nobody allowed: %v", k.name, err)
		}
		k.must("peers", "rename", "laptop", "anna")
		k.must("peers", "limit", "anna", "quota=1GB")
		if out := a.must("grant", k.name, "store"); !strings.Contains(out, " has the level store everywhere.\nIt keeps ") {
			t.Errorf("%s", out)
		}
		mounttest.WaitFor(t, k.name+" keeps it", func() bool { return len(a.Status().Problems) == 0 && !strings.Contains(k.must("status"), "wants") })
	}
	const secret, name = "nobody but anna reads this", "a-telling-name"
	for n := range 20 {
		a.write(fmt.Sprintf("%s-%d.txt", name, n), strings.Repeat(fmt.Sprintf("%s, %d\n", secret, n), 2000))
	}
	a.do(os.Mkdir(a.Path("dir"), 0o750))
	a.do(os.Symlink("dir", a.Path("link")))
	a.do(os.WriteFile(a.Path("dir/changed"), []byte("the first text"), 0o600))
	a.must("commit", a.Path("dir/changed"))
	a.do(os.WriteFile(a.Path("dir/changed"), []byte("the second text"), 0o600))
	a.must("commit", a.Path("dir/changed"))
	a.backedUp(b, c)
	want, err := a.tree()
	a.do(err)

	// What they have tells nothing.
	key, err := os.ReadFile(filepath.Join(a.Store, "share.key"))
	a.do(err)
	ring, err := keyring.Parse(key)
	a.do(err)
	share := ring.First().Secret
	for _, k := range []*host{b, c} {
		leaks(t, filepath.Join(k.Store, "vaults"), secret, name, "telling", "changed", "the second text", "share.toml", string(share[:]), hex.EncodeToString(share[:]))
		kept := k.peer("anna").Keeps
		if kept == nil || kept.Files == 0 || kept.Quota != 1e9 || kept.Bytes == 0 {
			t.Errorf("%+v", kept)
		}
	}
	mounttest.WaitFor(t, "proofs of both", func() bool {
		out, err := a.tool("peers", "check")
		return err == nil && strings.Count(out, "it proved to have ") == 2
	})
	mounttest.WaitFor(t, "both have all", func() bool { return strings.Count(a.must("peers"), "it keeps all of the past, sealed") == 2 })
	mounttest.WaitFor(t, "both have all, in the status", func() bool { return strings.Count(a.must("status"), "it keeps the past, sealed") == 2 })

	// One of them loses all that it kept, and has it again.
	b.Unmount()
	a.do(os.RemoveAll(filepath.Join(b.Store, "vaults")))
	b.Mount.Mount()
	connected(t, a, b)
	mounttest.WaitFor(t, "it is found out", func() bool { // by a check, or before that by the next state that was to be put there
		_, err := a.tool("peers", "check", "bert")
		p := a.peer("bert").Backup
		return err != nil && strings.Contains(err.Error(), "it could not prove to have") || p != nil && !p.PutBack.IsZero()
	})
	var last report.Backup
	mounttest.WaitFor(t, "all is there again", func() bool {
		if p := a.peer("bert").Backup; p != nil {
			last = *p
		}
		return !last.PutBack.IsZero() && last.Behind.IsZero() && last.BacklogFiles == 0 && last.Complete.After(last.Failed)
	})
	mounttest.WaitFor(t, "a proof", func() bool {
		out, err := a.tool("peers", "check", "bert")
		return err == nil && strings.Contains(out, "it proved to have ") && !strings.Contains(out, "could not prove")
	})

	// The sheet, and then the host is gone, and one that kept its past too.
	sheet := filepath.Join(mounttest.TempDir(t), "sheet")
	text, err := a.on("recovery", "--store", a.Store)
	if err != nil || strings.Count(text, "\npeer    ") != 2 || strings.Contains(text, "bucket  ") {
		t.Fatalf("%v\n%s", err, text)
	}
	a.do(os.WriteFile(sheet, []byte(text), 0o600))
	a.Kill()
	a.do(os.RemoveAll(a.Store))
	// Words of another sheet fetch nothing.
	other := filepath.Join(mounttest.TempDir(t), "store")
	if out, err := nova.on("recover", "--store", other, "--sheet", wrongSheet(t, sheet)); err == nil || !strings.Contains(err.Error(), "keeps nothing for this sheet") {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := os.Stat(other); !os.IsNotExist(err) {
		t.Error("there is a store")
	}
	// The disk of one of them goes bad meanwhile: what it has wrong comes from the other.
	b.Unmount()
	if n := spoil(t, filepath.Join(b.Store, "vaults")); n == 0 {
		t.Error("nothing was spoilt")
	}
	b.Mount.Mount()
	// The other has something of one more host too that names the same key, as a host does that came back and was lost before all was there again: it has no root that reads.
	c.Unmount()
	kept, err := filepath.Glob(filepath.Join(c.Store, "vaults/*"))
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	more := filepath.Join(c.Store, "vaults", sharefs.PeerID{0, 1}.Plain())
	a.do(os.CopyFS(more, os.DirFS(kept[0])))
	rootName := fmt.Sprintf("%x", sha256.Sum256([]byte(tier.RootKey)))
	spoilt, err := os.ReadFile(filepath.Join(more, rootName[:2], rootName))
	a.do(err)
	spoilt[100] ^= 1
	a.do(os.WriteFile(filepath.Join(more, rootName[:2], rootName), spoilt, 0o600))
	c.Mount.Mount()
	made := filepath.Join(mounttest.TempDir(t), "store")
	out, err := nova.on("recover", "--store", made, "--sheet", sheet)
	if err != nil || !strings.Contains(out, "kept it with the peer ") || !strings.Contains(out, "Nothing is missing.") {
		t.Fatalf("%s, %v", out, err)
	}
	back := &host{t: t, net: nova.net, name: "back", Mount: mounttest.Start(t, mode(), mounttest.On(made), mounttest.Through(nova.net.Start))}
	got, err := back.tree()
	a.do(err)
	if !maps.Equal(got, want) {
		t.Errorf("%d names, not %d", len(got), len(want))
	}
	if text, err := os.ReadFile(back.Path("dir/changed@@1")); err != nil || string(text) != "the first text" {
		t.Errorf("%q, %v", text, err)
	}
	// It goes on with who has its past, as a new host.
	if out, err := c.feed(back.must("pair", "--link"), "pair", "-"); err != nil || !strings.Contains(out, "Paired with anna-2 (") {
		t.Fatalf("%s, %v", out, err)
	}
	c.must("peers", "replace", "anna", "anna-2")
	c.must("peers", "limit", "anna", "quota=1GB")
	back.must("grant", "carl", "store")
	back.backedUp(c)
	if c.must("peers", "drop", "anna-lost"); c.peer("anna-lost").Keeps.Files != 0 || c.peer("anna").Keeps.Files == 0 {
		t.Errorf("%+v, %+v", c.peer("anna-lost").Keeps, c.peer("anna").Keeps)
	}
}

// spoil changes a byte of each object that is kept in a directory, but of the root.
func spoil(t *testing.T, dir string) (n int) {
	t.Helper()
	const footer = 80
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) < footer || !bytes.HasPrefix(b[len(b)-footer:], []byte("sharefsV")) || bytes.HasSuffix(b[:len(b)-footer], []byte("root")) {
			return err
		}
		b[len(b)/3] ^= 1
		n++
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wrongSheet is one of another key, of which all words are right.
func wrongSheet(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := recovery.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	s.Share[0] ^= 1
	line, err := s.Line()
	other := filepath.Join(mounttest.TempDir(t), "sheet")
	if err == nil {
		err = os.WriteFile(other, []byte(line), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return other
}
