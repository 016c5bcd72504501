package fs

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// typed runs a command in the mount as a shell with job control does: in a process group of its own. It is env(1) that goes there: this process serves the
// mount, and must not wait for it in fork(2).
func (m *mounted) typed(argv ...string) {
	m.t.Helper()
	cmd := exec.Command("env", append([]string{"-C", m.dir}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: m.typist}
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// operations reads .share/ops/log.json, the newest first.
func (m *mounted) operations() (all []OpInfo) {
	m.t.Helper()
	text, err := os.ReadFile(m.path(shareName, opsName, opsJSONName))
	ok(m.t, err)
	ok(m.t, json.Unmarshal(text, &all))
	return all
}

func (m *mounted) operation(id string) (o OpInfo) {
	m.t.Helper()
	text, err := os.ReadFile(m.path(shareName, opsName, id))
	ok(m.t, err)
	ok(m.t, json.Unmarshal(text, &o))
	return o
}

func TestOperations(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *mounted) {
		m.typed("mkdir", "dir")
		m.typed("sh", "-c", "echo one > dir/a; echo two > dir/b")
		m.released()
		m.moment() // all is settled
		m.typed("mv", "dir/a", "c")
		m.typed("sh", "-c", "echo three > dir/b")
		m.typed("chmod", "600", "c")
		all := m.operations()
		var commands []string
		for _, o := range all {
			commands = append(commands, o.Command)
		}
		want := []string{"chmod 600 c", "sh -c echo three > dir/b", "mv dir/a c", "sh -c echo one > dir/a; echo two > dir/b", "mkdir dir"}
		if !slices.Equal(commands, want) {
			t.Fatalf("%q", commands)
		}
		if all[2].Counts.Renamed != 1 || all[3].Counts.Made != 2 || all[0].Counts.Attributes != 1 || all[1].Counts.Written == 0 {
			t.Errorf("%+v", all)
		}
		moved := m.operation(all[2].ID)
		if !slices.ContainsFunc(moved.Changes, func(c OpPathInfo) bool { return c.Before == "dir/a" && c.After == "c" && c.Moved }) {
			t.Errorf("%+v", moved.Changes)
		}
		m.moment()
		written := m.operation(all[1].ID)
		if !slices.ContainsFunc(written.Changes, func(c OpPathInfo) bool { return c.Before == "dir/b" && c.After == "dir/b" }) {
			t.Errorf("%+v", written.Changes)
		}
		// The moments before and after it are to be walked.
		m.holds(".share/at/"+moved.ID+"/dir/a", "one\n")
		m.holds(".share/at/"+moved.After+"/c", "one\n")
		m.holds(".share/at/"+written.ID+"/dir/b", "two\n")
		m.holds(".share/at/"+written.After+"/dir/b", "three\n")
		if _, err := os.Lstat(m.at(moved.ID, "c")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("c before it was made: %v", err)
		}
		text, err := os.ReadFile(m.path(shareName, opsName, opsLogName))
		ok(t, err)
		if !strings.Contains(string(text), "renamed 1  mv dir/a c") {
			t.Errorf("%s", text)
		}
	})
}

func TestNamedOperation(t *testing.T) {
	m := mountTree(t, true, nil)
	m.typed("sh", "-c", "echo x > a; echo undo 5 > .share/ops/begin; echo x > b")
	all := m.operations()
	if i := slices.IndexFunc(all, func(o OpInfo) bool { return o.Label == "undo 5" }); i < 0 || all[i].Counts.Made != 1 {
		t.Errorf("%+v", all)
	}
	for _, line := range []string{"\n", strings.Repeat("x", 300), "\xff"} {
		if err := os.WriteFile(m.path(shareName, opsName, opsBeginName), []byte(line), 0); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestTrash(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *mounted) {
		m.typed("sh", "-c", "mkdir -p dir/sub; echo deep > dir/sub/deep; echo one > file; chmod 640 file")
		ok(t, unix.Setxattr(m.path("file"), "user.x", []byte("y"), 0))
		m.released()
		m.moment()
		m.typed("rm", "-rf", "dir", "file")
		if got := m.names(".share/trash"); got != "dir file" {
			t.Fatalf("%q", got)
		}
		m.holds(".share/trash/dir/sub/deep", "deep\n")
		m.holds(".share/trash/file", "one\n")
		m.typed("mv", ".share/trash/file", "back")
		m.holds("back", "one\n")
		if st := m.stat("back"); st.Mode&0o777 != 0o640 {
			t.Errorf("mode %o", st.Mode)
		}
		if x, err := getXattr(m.path("back"), "user.x"); err != nil || x != "y" {
			t.Errorf("attribute %q, %v", x, err)
		}
		if got := m.names(".share/trash"); got != "dir" {
			t.Errorf("%q", got)
		}
		m.typed("mv", ".share/trash/dir", ".")
		m.holds("dir/sub/deep", "deep\n")
		if got := m.names(".share/trash"); got != "" {
			t.Errorf("%q", got)
		}
		// Two of one name.
		m.released()
		m.moment()
		m.typed("rm", "back")
		m.typed("sh", "-c", "echo two > back")
		m.released()
		m.moment()
		if got := m.names(".share/trash"); got != "" {
			t.Errorf("what was replaced stays in the trash: %q", got)
		}
		m.typed("rm", "back")
		got := strings.Fields(m.names(".share/trash"))
		if len(got) != 2 || got[0] != "back" || !strings.HasPrefix(got[1], "back@@") {
			t.Fatalf("%q", got)
		}
		m.holds(".share/trash/back", "two\n")
		m.holds(".share/trash/"+got[1], "one\n")
		m.typed("rm", "-f", ".share/trash/back")
		if got := m.names(".share/trash"); got != "back" {
			t.Errorf("%q", got)
		}
		m.holds(".share/trash/back", "one\n")
		m.holds("back@@/2", "two\n")
		if err := os.WriteFile(m.path(".share/trash/new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("a file is made in the trash: %v", err)
		}
	})
}

// The trash is listed with what was removed last first, all of it though some is taken out meanwhile, and without what editors leave.
func TestTrashListed(t *testing.T) {
	m := mountTree(t, true, nil)
	const many = 1500
	m.typed("sh", "-c", "echo x > older; echo x > .older.swp; echo x > .swp; for i in $(seq "+strconv.Itoa(many)+"); do : > f$i; done")
	m.released()
	m.moment()
	m.typed("rm", "older", ".older.swp", ".swp")
	m.moment()
	m.typed("sh", "-c", "rm f*")
	fd, err := unix.Open(m.path(".share/trash"), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	ok(t, err)
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 4096)
	for {
		n, err := unix.ReadDirent(fd, buf)
		ok(t, err)
		if n == 0 {
			break
		}
		_, _, piece := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range piece {
			ok(t, os.RemoveAll(m.path(".share/trash", name)))
		}
		names = append(names, piece...)
	}
	if len(names) != many+2 || !slices.Contains(names[many:], "older") || !slices.Contains(names[many:], ".swp") {
		t.Errorf("%d names, the last %q", len(names), names[max(0, len(names)-3):])
	}
	if got := m.names(".share/trash"); got != "" {
		t.Errorf("%q", got)
	}
	m.holds(".share/trash/.older.swp", "x\n")
}

// Users see what they did and removed, and of others nothing.
func TestOperationsOfOthers(t *testing.T) {
	m := mountTree(t, true, nil)
	const alice, bob = 1001, 1002
	ok(t, os.Chmod(m.dir, 0o777))
	as := func(uid uint32, argv ...string) {
		m.typist = &syscall.Credential{Uid: uid, Gid: uid}
		defer func() { m.typist = nil }()
		m.typed(argv...)
	}
	as(alice, "sh", "-c", "echo a > a")
	as(bob, "sh", "-c", "echo b > b")
	m.released()
	m.moment()
	as(alice, "rm", "a")
	as(bob, "rm", "b")
	all := m.operations()
	uids := map[uint32]bool{}
	for _, o := range all {
		uids[o.UID] = true
	}
	if !uids[alice] || !uids[bob] {
		t.Fatalf("%+v", all)
	}
	ok(t, beUser(t, alice, alice, func() error {
		text, err := os.ReadFile(m.path(shareName, opsName, opsJSONName))
		if err != nil {
			return err
		}
		var mine []OpInfo
		if err := json.Unmarshal(text, &mine); err != nil {
			return err
		}
		for _, o := range mine {
			if o.UID != alice {
				t.Errorf("alice is told of %+v", o)
			}
		}
		for _, o := range all {
			_, err := os.ReadFile(m.path(shareName, opsName, o.ID))
			if (err == nil) != (o.UID == alice) {
				t.Errorf("alice reads of user %d: %v", o.UID, err)
			}
		}
		if got := m.names(".share/trash"); got != "a" {
			t.Errorf("alice finds %q in the trash", got)
		}
		return nil
	}))

	// A name in a directory that is closed to her is not told, though it is one of her file, and though it was looked up last.
	as(alice, "sh", "-c", "echo one > linked")
	m.released()
	m.moment()
	ok(t, os.Mkdir(m.path("closed"), 0o700))
	ok(t, os.Link(m.path("linked"), m.path("closed/secret")))
	m.stat("closed/secret")
	as(alice, "chmod", "600", "linked")
	m.moment()
	op := m.operations()[0]
	if len(op.Changes) != 0 || op.Counts.Attributes != 1 {
		t.Fatalf("%+v", op)
	}
	ok(t, beUser(t, alice, alice, func() error {
		told := m.operation(op.ID)
		want := OpPathInfo{Verb: "attributes", Before: "linked", After: "linked"}
		if len(told.Changes) != 1 || told.Changes[0].Before != want.Before || told.Changes[0].After != want.After || told.Partly {
			t.Errorf("%+v", told)
		}
		return nil
	}))
	if told := m.operation(op.ID); len(told.Changes) != 1 {
		t.Errorf("%+v", told)
	}
}
