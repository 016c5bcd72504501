package fs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Who may not read something now may not read it in a view of the past, nor who could not then. What everybody may still do shows itself as it was.
func TestRightsInViews(t *testing.T) {
	const alice, bob, carol, staff = 1001, 1002, 1003, 2001
	m := mountTree(t, true, nil)
	ok(t, os.Chmod(m.dir, 0o755))
	make := func(name string, mode os.FileMode) {
		t.Helper()
		if mode.IsDir() {
			ok(t, os.Mkdir(m.path(name), 0o700))
		} else {
			m.write(name, name)
		}
		ok(t, os.Chown(m.path(name), alice, staff))
		ok(t, os.Chmod(m.path(name), mode&^os.ModeDir))
	}
	const dir = os.ModeDir
	make("open", 0o644)
	make("closed", 0o600)
	make("closes", 0o644)
	make("opens", 0o600)
	make("program", 0o755|os.ModeSetuid|os.ModeSetgid)
	make("removed", 0o644)
	make("replaced", 0o644)
	make("unlisted", 0o640)
	make("device", 0o600)
	make("dir", dir|0o755)
	make("dir/file", 0o644)
	make("gone", dir|0o755)
	make("gone/file", 0o644)
	ok(t, unix.Mknod(m.path("null"), unix.S_IFCHR|0o666, 1<<8|3))
	ok(t, os.Chmod(m.path("null"), 0o666))
	ok(t, unix.Setxattr(m.path("program"), attrCaps, []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
	ok(t, unix.Setxattr(m.path("unlisted"), aclAccess, acl(
		[3]uint32{aclUserObj, 6, noID}, [3]uint32{aclUser, 4, carol}, [3]uint32{aclGroupObj, 4, noID},
		[3]uint32{aclMask, 4, noID}, [3]uint32{aclOther, 0, noID}), 0))
	m.released()
	then := m.moment()

	ok(t, os.Chmod(m.path("closes"), 0o600))
	ok(t, os.Chmod(m.path("opens"), 0o644))
	ok(t, os.Chmod(m.path("dir"), 0o700))
	ok(t, os.Remove(m.path("removed")))
	ok(t, os.RemoveAll(m.path("gone")))
	ok(t, unix.Removexattr(m.path("unlisted"), aclAccess))
	ok(t, os.Chmod(m.path("unlisted"), 0o644))
	ok(t, os.Chmod(m.path("program"), 0o755))
	make("new", 0o644)
	ok(t, os.Rename(m.path("new"), m.path("replaced"))) // as editors save

	for _, top := range []string{at(then), ".@@" + then, ".@@/" + then} {
		read := func(uid, gid uint32, name string) error {
			return asUser(t, uid, gid, m.path(top, name), unix.O_RDONLY)
		}
		check := func(uid uint32, refused error, names ...string) {
			t.Helper()
			for _, name := range names {
				want(t, filepath.Join(top, name), read(uid, uid, name), refused)
			}
		}
		everything := []string{"open", "closed", "closes", "opens", "program", "removed", "replaced", "unlisted", "dir", "dir/file", "gone", "gone/file"}
		check(0, nil, everything...)
		check(alice, nil, everything...)
		check(bob, nil, "open", "replaced", "program")
		check(bob, unix.EACCES, "closed", "closes", "opens", "removed", "unlisted", "dir", "dir/file", "gone", "gone/file")
		check(carol, nil, "unlisted") // named then, and it is open to all now
		want(t, "one of the group, then and now", read(bob, staff, "unlisted"), nil)
		want(t, "what others may not list", beUser(t, bob, bob, func() error { _, err := os.ReadDir(m.path(top, "dir")); return err }), unix.EACCES)
		stat := func(uid uint32, name string) (st unix.Stat_t) {
			ok(t, beUser(t, uid, uid, func() error { return unix.Lstat(m.path(top, name), &st) }))
			return st
		}
		for name, mode := range map[string]uint32{"closes": 0o644, "removed": 0o644, "gone": 0o755, "program": 0o6755, "unlisted": 0o640} {
			if got := stat(0, name).Mode & 0o7777; got != mode {
				t.Errorf("root sees the mode %o of %s/%s, want %o", got, top, name, mode)
			}
			if name == "program" {
				mode &^= 0o2000 // alice is not in that group
			}
			if got := stat(alice, name).Mode & 0o7777; got != mode {
				t.Errorf("the owner sees the mode %o of %s/%s, want %o", got, top, name, mode)
			}
		}
		for name, mode := range map[string]uint32{"open": 0o644, "closes": 0o200, "program": 0o755, "replaced": 0o644} {
			if got := stat(bob, name).Mode & 0o7777; got != mode {
				t.Errorf("another one sees the mode %o of %s/%s, want %o", got, top, name, mode)
			}
		}
		if a, b := stat(0, "null").Rdev, stat(bob, "null").Rdev; a != 1<<8|3 || b != 0 {
			t.Errorf("the devices %#x and %#x", a, b)
		}
		caps := func(uid uint32) error {
			return beUser(t, uid, uid, func() error { _, err := getXattr(m.path(top, "program"), attrCaps); return err })
		}
		want(t, "capabilities for root", caps(0), nil)
		want(t, "capabilities for another one", caps(bob), unix.ENODATA)
	}
	// What is closed later is closed in what the kernel has seen already.
	ok(t, os.Chmod(m.path("open"), 0o600))
	m.until("attributes have aged", func() bool {
		return asUser(t, bob, bob, m.path(at(then, "open")), unix.O_RDONLY) == unix.EACCES
	})
	want(t, "the owner", asUser(t, alice, alice, m.path(at(then, "open")), unix.O_RDONLY), nil)
}

// A view that is mounted by itself shows each user what they may see.
func TestRightsOfMountedView(t *testing.T) {
	const alice, bob = 1001, 1002
	m := mountTree(t, true, nil)
	ok(t, os.Chmod(m.dir, 0o755))
	m.write("closes", "content")
	m.write("open", "content")
	ok(t, os.Mkdir(m.path("dir"), 0o755))
	m.released()
	then := m.moment()
	ok(t, os.Chmod(m.path("closes"), 0o600))
	ok(t, os.Chmod(m.path("dir"), 0o700))
	dir := m.view(Config{View: viewAt + then, AllowOther: true})
	for range 2 {
		for uid, closed := range map[uint32]error{0: nil, bob: unix.EACCES} {
			want(t, "a file that is open", asUser(t, uid, uid, filepath.Join(dir, "open"), unix.O_RDONLY), nil)
			want(t, "a file that was closed", asUser(t, uid, uid, filepath.Join(dir, "closes"), unix.O_RDONLY), closed)
			want(t, "a directory that was closed", asUser(t, uid, uid, filepath.Join(dir, "dir"), unix.O_RDONLY), closed)
			ok(t, beUser(t, uid, uid, func() error { _, err := os.ReadDir(dir); return err }))
		}
	}
	ok(t, os.Chmod(m.dir, 0o700))
	want(t, "the root that was closed", asUser(t, bob, bob, filepath.Join(dir, "open"), unix.O_RDONLY), unix.EACCES)
	want(t, "the root for its owner", asUser(t, 0, 0, filepath.Join(dir, "open"), unix.O_RDONLY), nil)
}

// view mounts the same tree once more until the test ends.
func (m *mounted) view(cfg Config) (dir string) {
	m.t.Helper()
	dir = m.t.TempDir()
	cfg.Tree, cfg.Mountpoint, cfg.Source = m.tree, dir, "view"
	srv, err := Mount(cfg)
	ok(m.t, err)
	srv.Serve()
	guard(m.t, dir)
	v := &mounted{t: m.t, dir: dir, srv: srv, tree: m.tree}
	m.t.Cleanup(v.unmount)
	return dir
}
