package peers

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sharefs/integration/mounttest"
	"sharefs/peers/identity"
)

// attempt runs sharefs as it is called wrongly, and returns what it says and its exit status.
func (h *host) attempt(env []string, args ...string) (text string, exit int) {
	h.t.Helper()
	cmd := exec.Command(mounttest.Bin(h.t, "sharefs"), append([]string{"-C", h.Dir}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if status := new(exec.ExitError); err != nil && !errors.As(err, &status) {
		h.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// wrong is a call that must fail with a status, and name the thing and the way out.
type wrong struct {
	exit int
	want string
	args []string
}

// refused makes wrong calls.
func (h *host) refused(calls []wrong) {
	h.t.Helper()
	for _, c := range calls {
		if text, exit := h.attempt(nil, c.args...); exit != c.exit || !strings.Contains(text, c.want) || !strings.HasPrefix(text, "sharefs: ") {
			h.t.Errorf("sharefs %q: status %d, not %d, wanted %q:\n%s", c.args, exit, c.exit, c.want, text)
		}
	}
}

func call(args ...string) []string { return args }

// What is called wrongly says what is wrong and what would be right, does not end with 0, and changes nothing.
func TestCalledWrongly(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	a.write("file", "text")
	a.do(os.Mkdir(a.Path("dir"), 0o755))
	a.write("dir/inner", "text")
	a.must("snapshot", "named")
	b.must("snapshot", "named")
	alike(t, "the beginning", hs, func(tree map[string]string) bool { return has(tree, "dir/inner", "text") && has(tree, "file", "text") })
	a.must("tag", "file", "marked")
	b.must("branch", "file", "marked")
	kept := func() string {
		text, err := os.ReadFile(filepath.Join(a.Store, "peers.json"))
		a.do(err)
		lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return strings.Contains(line, `"seen"`) }) // changes by itself
		return strings.Join(lines, "\n") + a.must("here", a.Dir) + a.must("op", "log")
	}
	before := kept()
	outside := t.TempDir()
	const unknown, few, much, empty, notThere, notMount = "peer nobody: no peer has this name; known are bert", " is missing", "too many arguments: x", " is empty", "no such file or directory", "not in a ShareFS mount"

	var calls []wrong
	add := func(exit int, want string, args ...string) { calls = append(calls, wrong{exit, want, args}) }
	for _, c := range [][]string{ // what a peer's name ends; behind it what else is wanted
		call("peers", "rename", "NAME", "new"), call("peers", "replace", "NAME", "bert"), call("peers", "forget", "NAME"), call("peers", "drop", "NAME"), call("revoke", "NAME"),
		call("trust", "explain", "NAME", "dir"), call("grant", "NAME", "read"), call("held", "accept", "NAME"), call("held", "reject", "NAME"),
	} {
		i := slices.Index(c, "NAME")
		with := func(name string, more ...string) []string {
			return slices.Concat(c[:i], []string{name}, c[i+1:], more)
		}
		add(2, few, c[:i]...)
		add(2, few, c[:max(i, len(c)-1)]...)
		add(1, unknown, with("nobody")...)
		add(2, empty, with("")...)
		if c[0] != "grant" {
			add(2, much, with("bert", "x")...)
		}
	}
	for _, verb := range []string{"accept", "reject"} {
		add(2, "PEER is missing", verb)
		add(2, "--all and none", verb, "bert")
		add(2, "--all and none", verb, "bert", "--all", "file")
		add(1, unknown, verb, "nobody", "--all")
		add(1, unknown, verb, "nobody", "file")
		add(2, empty, verb, "bert", "")
		add(1, notMount, verb, "bert", outside)
		add(1, "bert proposes nothing", verb, "bert", "--all")
		add(1, "sharefs proposed bert", verb, "bert", "file")
		add(1, "sharefs proposed bert", verb, "bert", "nowhere")
	}
	for _, verb := range []string{"here", "pin", "unpin", "free"} {
		add(2, empty, verb, "")
		add(1, "nowhere: "+notThere, verb, "nowhere")
		if verb != "here" { // which tells of the working directory
			add(2, "PATH is missing", verb)
		}
		if verb != "here" { // which tells what there is
			add(1, "nowhere: "+notThere, verb, "file", "nowhere")
		}
		add(1, "not in a ShareFS mount", verb, "/proc/self/comm")
		add(1, "not in a ShareFS mount", verb, outside)
		for _, path := range []string{".share/ctl/status", "file@@1", ".share", ".share/at/named/dir"} {
			add(1, path+": it is not in the live tree of the mount", verb, path)
		}
	}
	calls = append(calls, []wrong{
		{2, "nobody is not a command of sharefs peers", call("peers", "nobody")},
		{2, "'' is not a command of sharefs peers\n", call("peers", "")},
		{2, "is not a command of sharefs held", call("held", "bert")},
		{2, "is not a command of sharefs trust", call("trust", "bert")},

		{1, "known are bert", call("peers", "check", "nobody")},
		{2, empty, call("peers", "check", "")},
		{1, "no peer keeps a backup of this host: sharefs grant NAME store", call("peers", "check")},
		{1, "bert: it keeps no backup of this host: sharefs grant bert store", call("peers", "check", "bert")},
		{1, "bert: nothing is kept for it", call("peers", "drop", "bert")},
		{1, "bert: a peer does not replace itself", call("peers", "replace", "bert", "bert")},
		{1, unknown, call("peers", "replace", "bert", "nobody")},
		{2, few, call("peers", "limit")},
		{2, empty, call("peers", "limit", "")},
		{1, unknown, call("peers", "limit", "nobody")},
		{1, unknown, call("peers", "limit", "nobody", "up=10MB/s")},
		{2, "such as up=10MB/s", call("peers", "limit", "bert", "x")},
		{1, "such as up=10MB/s, from 10KB/s to 1TB/s", call("peers", "limit", "bert", "up=x")},
		{1, "such as down=10MB/s, from 10KB/s to 1TB/s", call("peers", "limit", "bert", "down=-5MB/s")},

		{2, "x is no level; there are blocked, paired,", call("grant", "bert", "x")},
		{2, much, call("grant", "bert", "read", "dir", "x")},
		{2, "PATH is empty", call("grant", "bert", "read", "")},
		{2, "PATH, which is missing", call("grant", "bert", "inherit")},
		{1, `there is none for "dir"`, call("grant", "bert", "inherit", "dir")},
		{1, "lies outside of the mount", call("grant", "bert", "read", "/proc/self/comm")},
		{1, "lies outside of the mount", call("grant", "bert", "read", "../x")},
		{1, "nothing in .share is ever sent", call("grant", "bert", "read", ".share/ctl")},
		{1, "nothing in .share is ever sent", call("trust", "explain", "bert", "/.share")},
		{1, "above a wildcard", call("grant", "bert", "read", "*/../x")},
		{1, "is not closed", call("grant", "bert", "read", "[")},
		{1, unknown, call("grant", "nobody", "write", "--purge", "-n")},
		{2, "leave PATH away", call("grant", "bert", "write", "dir", "--purge")},
		{2, "--dry-run goes with --purge", call("revoke", "bert", "-n")},
		{1, unknown, call("revoke", "nobody", "--purge")},

		{2, empty, call("trust", "explain", "bert", "")},
		{1, "lies outside of the mount", call("trust", "explain", "bert", "/proc/self/comm")},
		{1, "lies outside of the mount", call("trust", "explain", "bert", "../x")},

		{1, "bert: nothing is held", call("held", "accept", "bert")},
		{2, much, call("conflicts", "file", "x")},
		{2, empty, call("conflicts", "")},
		{1, notThere, call("conflicts", "nowhere")},
		{1, notMount, call("conflicts", outside)},
		{1, unknown, call("proposed", "nobody")},
		{2, empty, call("proposed", "")},
		{2, empty, call("proposed", "bert", "")},
		{1, notThere, call("proposed", "bert", "nowhere")},
		{1, notMount, call("proposed", "bert", outside)},
		{2, much, call("proposed", "bert", "dir", "x")},

		{2, few, call("resolve")},
		{2, empty, call("resolve", "", "--take", "bert")},
		{2, "--merge or --with OTHER is missing", call("resolve", "file")},
		{2, "exclude each other", call("resolve", "file", "--take", "bert", "--merge")},
		{2, "go with --merge", call("resolve", "file", "--edit")},
		{2, "exclude each other", call("resolve", "file", "--merge", "--edit", "--output", "x")},
		{1, "sharefs conflicts lists", call("resolve", "file", "--take", "bert")},
		{1, "sharefs conflicts lists", call("resolve", "dir", "--merge")},
		{1, notThere, call("resolve", "nowhere", "--take", "bert")},
		{1, notMount, call("resolve", outside, "--take", "bert")},

		{2, "neither a link (sharefs:…) nor the id of a host", call("pair", "x")},
		{1, "copy all of it", call("pair", "sharefs:x")},
		{2, much, call("pair", "sharefs:x", "x")},
		{2, empty, call("pair", "")},
		{2, "exclude each other", call("pair", "--id", "--link")},
		{2, "take no arguments", call("pair", "--link", "x")},
		{1, "HOST:PORT is wanted", call("pair", b.id(), "127.0.0.1")},
		{1, "this very host", call("pair", a.id())},
		{2, "--name goes with the ID of a host", call("pair", "--name", "x")},
		{2, "--name goes with the ID of a host", call("pair", "--link", "--name", "x")},
		{2, "--name is empty", call("pair", b.id(), "--name", "")},
		{1, "is a peer already, called bert: sharefs peers rename bert NEW", call("pair", b.id(), "--name", "other")},

		{2, much, call("status", "x")},
		{2, much, call("recovery", "bert", "x")},
		{32, "there is no such store", call("recovery", "nobody")},
		{32, "grant a peer the level store", call("recovery")},
		{32, "it is no store", call("recovery", outside)},
		{32, "it is no directory, so it is no store", call("recovery", "/proc/self/comm")},
		{2, "x is not a command", call("esp", "x")},
		{2, "is missing", call("esp", "dial")},
		{2, "HOST:PORT is wanted", call("esp", "trace", "x")},
		{2, "without a KEY", call("esp", "listen", "x@127.0.0.1:1")},
		{2, "'peers x' is not a command", call("help", "peers", "x")},
		{1, "a peer is called bert, and FILE@@NAME is what it wrote: take another name", call("snapshot", "bert")},
		{1, "a peer is called BERT", call("tag", "file", "BERT")},
		{1, "a peer is called bert", call("tag", "dir", "bert", "--at", "now")},
		{1, "a peer is called bert", call("branch", "file", "bert")},
	}...)
	a.refused(calls)

	// Names that mean something else where names of peers stand.
	key := identity.New()
	stranger := key.ID.String()
	for name, why := range map[string]string{
		"now": "can be read as a time", "Yesterday": "can be read as a time", "monday": "can be read as a time", "2026-11": "can be read as a time", "3.days.ago": "can be read as a time",
		"20261120T1030": "can be read as a time", "7": "is a number", "2026": "is a number", "007": "is a number", "log": "stands for something else", "meta": "stands for something else",
		"here": "what this host is called", "main": "the work on no branch", "HERE": "what this host is called", "named": "a snapshot or branch of the tree", "marked": "a tag or branch of a file",
		"be rt": "such as be-rt", "../x": "such as x", "-x": "such as x", "a/b": "such as a-b", strings.Repeat("x", 49): "48 bytes",
	} {
		if text, exit := a.attempt(nil, "peers", "rename", "bert", "--", name); exit != 1 || !strings.Contains(text, why) || !strings.Contains(text, "name a peer ") {
			t.Errorf("%q: status %d, %s", name, exit, text)
		}
		if text, exit := b.attempt(nil, "pair", stranger, "--name="+name); exit != 1 || !strings.Contains(text, why) {
			t.Errorf("pair --name=%q: status %d, %s", name, exit, text)
		}
	}
	if text, exit := a.attempt(nil, "peers", "rename", "bert", ""); exit != 2 || !strings.Contains(text, "NEW is empty") {
		t.Errorf("status %d, %s", exit, text)
	}
	if len(b.peers()) != 1 {
		t.Errorf("%+v", b.peers())
	}
	if now := kept(); now != before {
		t.Errorf("something was changed:\n%s\nbefore:\n%s", now, before)
	}
	// An editor that is not there is said before anything is looked for.
	for _, env := range [][]string{{"VISUAL=no-such-editor -w"}, {"VISUAL=", "EDITOR=/no/such"}, {"VISUAL=", "EDITOR=", "PATH="}} {
		if text, exit := a.attempt(env, "resolve", "nowhere", "--merge", "--edit"); exit != 1 || !strings.Contains(text, "--merge --output OTHER") || strings.Contains(text, notThere) {
			t.Errorf("%q: status %d, %s", env, exit, text)
		}
	}
	// Who may not, and what may not.
	if os.Geteuid() == 0 {
		cmd := exec.Command(mounttest.Bin(t, "sharefs"), "-C", a.Dir, "peers")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "in a mount of another user") {
			t.Errorf("%s, %v", out, err)
		}
	}
	a.Unmount()
	if err := a.TryMount("ro"); err != nil {
		t.Fatal(err)
	}
	calls = nil
	for _, c := range [][]string{
		call("peers", "rename", "bert", "new"), call("peers", "forget", "bert"), call("grant", "bert", "read"), call("revoke", "bert"), call("accept", "bert", "--all"), call("pair", "--link"), call("peers", "limit", "bert", "up=10MB/s"),
	} {
		add(1, "is mounted read-only, so nothing is changed about it", c...)
	}
	for _, verb := range []string{"pin", "unpin"} {
		add(1, verb+" file: read-only file system", verb, "file")
	}
	a.refused(calls)
	a.Unmount()
	a.Mount.Mount()
	if now := kept(); now != before {
		t.Errorf("something was changed:\n%s\nbefore:\n%s", now, before)
	}
}
