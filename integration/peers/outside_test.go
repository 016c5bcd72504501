package peers

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sharefs/integration/mounttest"
)

// What a peer's symbolic links lead to outside of the mount is neither read nor changed by what the daemon does with them: taking them, in the place of a directory too that files are put
// into meanwhile, pinning, freeing, taking back, and accepting them.
func TestLinksThatLeadOutside(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	b.do(os.WriteFile(secret, []byte("not of the share"), 0o600))
	b.do(os.Chtimes(secret, time.Unix(1, 0), time.Unix(1, 0)))
	look := func() (all string) {
		t.Helper()
		list, err := os.ReadDir(outside)
		b.do(err)
		for _, e := range list {
			info, err := e.Info()
			b.do(err)
			all += info.Name() + " " + info.Mode().String() + " " + info.ModTime().String() + "\n"
		}
		text, err := os.ReadFile(secret)
		b.do(err)
		return all + string(text)
	}
	before := look()
	after := func(what string) {
		t.Helper()
		if got := look(); got != before {
			t.Fatalf("%s: outside is\n%s\nnot\n%s", what, got, before)
		}
	}
	a.do(os.Mkdir(a.Path("d"), 0o755))
	a.write("d/secret", "of the share")
	a.do(os.Symlink(secret, a.Path("link")))
	alike(t, "a link", hs, func(tree map[string]string) bool { return len(tree) == 3 })
	after("a link that came")

	// The directory gives way to a link of its name, while the other host puts files into it.
	a.Unmount()
	b.write("d/secret", "by bert")
	b.write("d/more", "by bert")
	b.Settled()
	b.Unmount()
	a.Mount.Mount()
	a.do(os.Rename(a.Path("d"), a.Path("was")))
	a.do(os.Symlink(outside, a.Path("d")))
	a.Settled()
	b.Mount.Mount()
	connected(t, a, b)
	alike(t, "a link in the place of a directory", hs, func(tree map[string]string) bool {
		return has(tree, "was/secret", "by bert") && has(tree, "was/more", "by bert") && len(tree) == 5
	})
	if to, err := os.Readlink(b.Path("d")); err != nil || to != outside {
		t.Fatalf("%s, %v", to, err)
	}
	after("files in a directory that is a link now")

	for _, args := range [][]string{{"pin", "link"}, {"free", "link"}, {"log", "link"}, {"pin", "."}, {"unpin", "."}, {"free", "."}, {"retain"}, {"gc"}, {"fsck", "--scrub"}} {
		_, _ = b.tool(args...) // may be refused
		after(args[0])
	}
	a.do(os.Chmod(a.Path("was"), 0o700))
	a.do(os.Remove(a.Path("link")))
	a.write("link", "a file now")
	alike(t, "a file in the place of a link", hs, func(tree map[string]string) bool { return has(tree, "link", "a file now") })
	after("a file in the place of a link")
	_, _ = b.tool("undo", "--by", "anna") // which what bert put into a directory of hers may keep from coming off
	after("undo")

	// As a proposal.
	b.must("grant", "anna", "propose")
	a.do(os.Symlink(secret, a.Path("proposed")))
	mounttest.WaitFor(t, "the proposal", func() bool { return len(b.proposed()) == 1 })
	if to, err := os.Readlink(b.Path(".share/peers/anna/proposed")); err != nil || to != secret {
		t.Errorf("%s, %v", to, err)
	}
	b.must("accept", "anna", "--all")
	if to, err := os.Readlink(b.Path("proposed")); err != nil || to != secret {
		t.Errorf("%s, %v", to, err)
	}
	after("accept")
	b.must("revoke", "anna", "--purge")
	after("revoke --purge")
}
