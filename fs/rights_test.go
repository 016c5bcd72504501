package fs

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

// Whoever may write to a directory can put a file in the place of one that they may not read. It continues that one's
// history, but must not be the key to it.
func TestPastOfAnotherOwner(t *testing.T) {
	const alice, bob, carol = 1001, 1002, 1003
	m := mountTree(t, true, nil)
	ok(t, os.Chmod(m.dir, 0o755))
	ok(t, os.Mkdir(m.path("shared"), 0o777))
	ok(t, os.Chmod(m.path("shared"), 0o777)) // whatever the umask
	make := func(uid int, name, content string, mode os.FileMode) {
		t.Helper()
		ok(t, beUser(t, uint32(uid), uint32(uid), func() error { return os.WriteFile(m.path(name), []byte(content), mode) }))
		m.released()
	}
	replace := func(name string) {
		t.Helper()
		make(bob, "shared/new", "bob's", 0o600)
		ok(t, beUser(t, bob, bob, func() error { return os.Rename(m.path("shared/new"), m.path(name)) }))
		m.commit(name, "")
		m.holds(name+"@@2", "bob's") // it does continue the history
	}
	read := func(uid uint32, name string) error { return asUser(t, uid, uid, m.path(name), unix.O_RDONLY) }
	restore := func(uid uint32, name string) error {
		return beUser(t, uid, uid, func() error { return unix.Setxattr(m.path(name), attrRestore, []byte("1"), 0) })
	}

	make(alice, "shared/closed", "alice's secret", 0o600)
	m.commit("shared/closed", "a secret note")
	want(t, "what is closed", read(bob, "shared/closed@@1"), unix.EACCES)
	replace("shared/closed")
	want(t, "what is closed, after the file was replaced", read(bob, "shared/closed@@1"), unix.EACCES)
	want(t, "by way of its directory", read(bob, "shared/closed@@/1"), unix.EACCES)
	want(t, "one's own version", read(bob, "shared/closed@@2"), nil)
	want(t, "root", read(0, "shared/closed@@1"), nil)
	want(t, "the log", read(bob, "shared/closed@@/log"), nil)
	log, err := os.ReadFile(m.path("shared/closed@@/log"))
	ok(t, err)
	if strings.Contains(string(log), "secret") {
		t.Errorf("the log tells of\n%s", log)
	}
	want(t, "restore of what is closed", restore(bob, "shared/closed"), unix.EACCES)
	m.holds("shared/closed", "bob's")

	make(alice, "shared/open", "alice's", 0o644)
	m.commit("shared/open", "")
	replace("shared/open")
	want(t, "what is open, in a closed file", read(carol, "shared/open@@1"), unix.EACCES)
	ok(t, os.Chmod(m.path("shared/open"), 0o644))
	m.until("attributes have aged", func() bool { return read(carol, "shared/open@@1") == nil })
	want(t, "what is open, for the present owner", read(bob, "shared/open@@1"), nil)
	want(t, "restore of what is open", restore(bob, "shared/open"), nil)
	m.holds("shared/open", "alice's")

	// A list names carol now; alice's version was not meant for her.
	ok(t, unix.Setxattr(m.path("shared/closed"), aclAccess, acl(
		[3]uint32{aclUserObj, 6, noID}, [3]uint32{aclUser, 4, carol}, [3]uint32{aclGroupObj, 4, noID},
		[3]uint32{aclMask, 4, noID}, [3]uint32{aclOther, 4, noID}), 0))
	want(t, "one who is named", read(carol, "shared/closed"), nil)
	want(t, "one who is named, what was closed", read(carol, "shared/closed@@1"), unix.EACCES)
}

// Who may write to a file may not change its mode by way of its versions, nor get at one that is closed to him.
func TestRestoreByAnother(t *testing.T) {
	const alice, bob = 1001, 1002
	m := mountTree(t, true, nil)
	ok(t, os.Chmod(m.dir, 0o777))
	p := m.path("file")
	write := func(content string, mode os.FileMode) {
		t.Helper()
		ok(t, os.WriteFile(p, []byte(content), 0o600))
		ok(t, os.Chmod(p, mode))
		m.released()
		m.commit("file", "")
	}
	write("open", 0o666)
	write("closed", 0o600)
	write("now", 0o662)
	ok(t, os.Chown(p, alice, alice))
	restore := func(n string) error {
		return beUser(t, bob, bob, func() error { return unix.Setxattr(p, attrRestore, []byte(n), 0) })
	}
	want(t, "a version that the writer may not read", restore("2"), unix.EACCES)
	want(t, "a file that the writer may not read", restore("1"), unix.EACCES)
	m.holds("file", "now")
	ok(t, os.Chmod(p, 0o606))
	want(t, "a version that the writer may read", restore("1"), nil)
	m.holds("file", "open")
	if mode := m.stat("file").Mode & 0o7777; mode != 0o606 {
		t.Errorf("the mode is %o after somebody else's restore, want 606", mode)
	}
	want(t, "the owner", beUser(t, alice, alice, func() error { return unix.Setxattr(p, attrRestore, []byte("2"), 0) }), nil)
	m.holds("file", "closed")
	if mode := m.stat("file").Mode & 0o7777; mode != 0o600 {
		t.Errorf("the mode is %o after the owner's restore, want 600", mode)
	}
}

func TestLimits(t *testing.T) {
	live := &sharefs.Attr{UID: 1, GID: 2}
	for _, c := range []struct {
		name string
		v    sharefs.Version
		want limits
	}{
		{"own", sharefs.Version{Mode: 0o640, UID: 7, GID: 8}, limits{6, 4, 0, 4, false}},
		{"same owner and group", sharefs.Version{Mode: 0o640, UID: 1, GID: 2, Foreign: true}, limits{6, 4, 0, 4, false}},
		{"another group", sharefs.Version{Mode: 0o640, UID: 1, GID: 8, Foreign: true}, limits{6, 0, 0, 4, false}},
		{"another group, open", sharefs.Version{Mode: 0o664, UID: 1, GID: 8, Foreign: true}, limits{6, 4, 4, 6, false}},
		{"another owner", sharefs.Version{Mode: 0o640, UID: 7, GID: 2, Foreign: true}, limits{6, 4, 0, 0, true}},
		{"both", sharefs.Version{Mode: 0o640, UID: 7, GID: 8, Foreign: true}, limits{6, 0, 0, 0, true}},
	} {
		if got := limitsOf(live, &c.v); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestMayRead(t *testing.T) {
	file := func(mode uint32) *sharefs.Attr { return &sharefs.Attr{Mode: mode, UID: 1, GID: 10} }
	list := acl([3]uint32{aclUserObj, 0, noID}, [3]uint32{aclUser, 4, 5}, [3]uint32{aclUser, 2, 6}, [3]uint32{aclGroupObj, 0, noID},
		[3]uint32{aclGroup, 4, 11}, [3]uint32{aclMask, 4, noID}, [3]uint32{aclOther, 4, noID})
	masked := acl([3]uint32{aclUserObj, 4, noID}, [3]uint32{aclUser, 4, 5}, [3]uint32{aclGroupObj, 4, noID},
		[3]uint32{aclMask, 0, noID}, [3]uint32{aclOther, 0, noID})
	for _, c := range []struct {
		name     string
		a        *sharefs.Attr
		acl      []byte
		uid, gid uint32
		want     bool
	}{
		{"owner", file(0o400), nil, 1, 99, true},
		{"owner closed out, group open", file(0o044), nil, 1, 10, false},
		{"group", file(0o040), nil, 2, 10, true},
		{"group closed out, others open", file(0o404), nil, 2, 10, false},
		{"others", file(0o004), nil, 2, 99, true},
		{"others closed out", file(0o440), nil, 2, 99, false},
		{"named user", file(0o444), list, 5, 10, true},
		{"named user without reading", file(0o444), list, 6, 11, false},
		{"group of the file", file(0o444), list, 7, 10, false},
		{"named group", file(0o444), list, 7, 11, true},
		{"others with a list", file(0o444), list, 7, 99, true},
		{"masked user", file(0o440), masked, 5, 99, false},
		{"masked group", file(0o440), masked, 7, 10, false},
		{"the mask does not bind others", file(0o440), masked, 7, 99, false},
		{"broken list", file(0o004), []byte{2, 0}, 7, 99, true},
	} {
		// No process has this number, so that there are no further groups.
		if got := mayRead(c.a, c.acl, versions.Caller{UID: c.uid, GID: c.gid, PID: 1 << 30}); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	// The test's own process is in group 0, or whichever it is in.
	groups, err := os.Getgroups()
	ok(t, err)
	for _, g := range groups {
		a := &sharefs.Attr{Mode: 0o040, UID: 1, GID: uint32(g)}
		if !mayRead(a, nil, versions.Caller{UID: 2, GID: 1 << 20, PID: uint32(os.Getpid())}) {
			t.Errorf("a further group, %d, does not count", g)
		}
	}
}
