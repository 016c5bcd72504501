package versions

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

func TestXattrs(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir)
	ino := create(t, tree, sharefs.RootIno, "f", "").Ino
	rest(t, tree, ino)
	_, err := tree.Getxattr(ino, "user.a")
	wantKind(t, err, sharefs.KindNoAttr)
	wantKind(t, tree.Setxattr(ino, "user.a", nil, unix.XATTR_REPLACE), sharefs.KindNoAttr)
	before := must[sharefs.Attr](t)(tree.Getattr(ino))
	check(t, tree.Setxattr(ino, "user.a", []byte("1"), unix.XATTR_CREATE))
	if a := must[sharefs.Attr](t)(tree.Getattr(ino)); a.Ctime <= before.Ctime || a.Mtime != before.Mtime {
		t.Errorf("times: %+v, before %+v", a, before)
	}
	wantKind(t, tree.Setxattr(ino, "user.a", []byte("2"), unix.XATTR_CREATE), sharefs.KindExist)
	check(t, tree.Setxattr(ino, "user.a", []byte("2"), unix.XATTR_REPLACE))
	check(t, tree.Setxattr(ino, "user.empty", nil, 0))
	big := bytes.Repeat([]byte("b"), sharefs.XattrMax)
	check(t, tree.Setxattr(ino, "trusted.big", big, 0))
	wantKind(t, tree.Setxattr(ino, "user.big", append(big, 'b'), 0), sharefs.KindTooBig)
	wantKind(t, tree.Setxattr(ino, "user.", nil, 0), sharefs.KindInvalid)
	wantKind(t, tree.Setxattr(ino, "system.other", nil, 0), sharefs.KindNotSupported)
	wantKind(t, tree.Setxattr(ino, "nothing", nil, 0), sharefs.KindNotSupported)
	wantKind(t, tree.Setxattr(ino, "user."+strings.Repeat("n", 251), nil, 0), sharefs.KindRange)
	_, err = tree.Getxattr(ino, "system.other")
	wantKind(t, err, sharefs.KindNotSupported)
	wantKind(t, tree.Removexattr(ino, "user.none"), sharefs.KindNoAttr)
	check(t, tree.Close())

	tree = testTree(t, dir)
	if got := must[[]string](t)(tree.Listxattr(ino)); !slices.Equal(got, []string{"trusted.big", "user.a", "user.empty"}) {
		t.Errorf("names %q", got)
	}
	for name, want := range map[string]string{"user.a": "2", "user.empty": "", "trusted.big": string(big)} {
		if got := must[[]byte](t)(tree.Getxattr(ino, name)); string(got) != want {
			t.Errorf("%s holds %d bytes", name, len(got))
		}
	}
	noProblems(t, tree)
	for _, name := range []string{"trusted.big", "user.a", "user.empty"} {
		check(t, tree.Removexattr(ino, name))
	}
	if got := must[[]string](t)(tree.Listxattr(ino)); len(got) != 0 {
		t.Errorf("names %q", got)
	}
	name := strings.Repeat("n", 240)
	for i := 0; ; i++ {
		if err := tree.Setxattr(ino, fmt.Sprintf("user.%s%d", name, i), []byte("v"), 0); err != nil {
			wantKind(t, err, sharefs.KindNoSpace)
			if i < 250 {
				t.Errorf("only %d names", i)
			}
			break
		}
	}
	check(t, tree.Unlink(sharefs.RootIno, "f"))
	check(t, tree.reap())
	noProblems(t, tree)
}

// list makes an access control list out of entries in order; ids of the base entries are left out.
func list(entries ...aclEntry) acl {
	for i := range entries {
		if e := &entries[i]; e.tag != aclUser && e.tag != aclGroup {
			e.id = aclNoID
		}
	}
	return entries
}

var (
	minimalACL = list(aclEntry{tag: aclUserObj, perm: 7}, aclEntry{tag: aclGroupObj, perm: 5}, aclEntry{tag: aclOther, perm: 1})
	namedACL   = list(aclEntry{tag: aclUserObj, perm: 7}, aclEntry{tag: aclUser, perm: 7, id: 1000}, aclEntry{tag: aclGroupObj, perm: 4},
		aclEntry{tag: aclMask, perm: 6}, aclEntry{tag: aclOther, perm: 0})
)

func TestAccessListsAndModes(t *testing.T) {
	tree := testTree(t, t.TempDir())
	ino := create(t, tree, sharefs.RootIno, "f", "").Ino
	mode := func(want uint32) {
		t.Helper()
		if a := must[sharefs.Attr](t)(tree.Getattr(ino)); a.Mode != sharefs.ModeRegular|want {
			t.Errorf("mode %o, want %o", a.Mode, want)
		}
	}
	check(t, tree.Setxattr(ino, xattrAccess, minimalACL.encode(), 0))
	mode(0o751)
	_, err := tree.Getxattr(ino, xattrAccess)
	wantKind(t, err, sharefs.KindNoAttr) // the mode says it all
	must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Mode: ptr(uint32(0o2751))}, root))
	check(t, tree.Setxattr(ino, xattrAccess, namedACL.encode(), 0))
	mode(0o2760)
	check(t, tree.Setxattr(ino, xattrAccess, namedACL.encode(), XattrKillSetgid))
	mode(0o760)
	must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Mode: ptr(uint32(0o640))}, root))
	got, ok := parseACL(must[[]byte](t)(tree.Getxattr(ino, xattrAccess)))
	if !ok || got.find(aclMask).perm != 4 || got.find(aclGroupObj).perm != 4 || got.find(aclUserObj).perm != 6 || got.find(aclUser).perm != 7 {
		t.Errorf("after chmod 640: %+v", got)
	}
	check(t, tree.Removexattr(ino, xattrAccess))
	mode(0o640)
	for _, bad := range [][]byte{nil, []byte("x"), {3, 0, 0, 0}, minimalACL[:2].encode(), list(namedACL[0], namedACL[1], namedACL[2], namedACL[4]).encode(),
		list(minimalACL[1], minimalACL[0], minimalACL[2]).encode(), append(minimalACL.encode(), 0)} {
		wantKind(t, tree.Setxattr(ino, xattrAccess, bad, 0), sharefs.KindInvalid)
	}
	wantKind(t, tree.Setxattr(ino, xattrDefault, namedACL.encode(), 0), sharefs.KindAccess)
	link := must[sharefs.Attr](t)(tree.Symlink(sharefs.RootIno, "l", "x", root))
	wantKind(t, tree.Setxattr(link.Ino, xattrAccess, namedACL.encode(), 0), sharefs.KindNotSupported)
	noProblems(t, tree)
}

func TestDefaultListsAreInherited(t *testing.T) {
	tree := testTree(t, t.TempDir())
	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o777, root))
	check(t, tree.Setxattr(d.Ino, xattrDefault, namedACL.encode(), 0))
	if a := must[sharefs.Attr](t)(tree.Getattr(d.Ino)); a.Mode != sharefs.ModeDir|0o777 {
		t.Errorf("a default list changes the mode to %o", a.Mode)
	}
	get := func(ino sharefs.Ino, name string) acl {
		t.Helper()
		a, ok := parseACL(must[[]byte](t)(tree.Getxattr(ino, name)))
		if !ok {
			t.Fatal("not a list")
		}
		return a
	}
	// The umask does not count, the mode that was asked for does: 0666 against rwx, mask rw-, other none.
	f := must[sharefs.Attr](t)(tree.Mknod(d.Ino, "f", 0o666, 0, user(1)))
	if a := get(f.Ino, xattrAccess); f.Mode != sharefs.ModeRegular|0o660 || a.find(aclUserObj).perm != 6 || a.find(aclMask).perm != 6 ||
		a.find(aclGroupObj).perm != 4 || a.find(aclUser).perm != 7 || a.find(aclOther).perm != 0 {
		t.Errorf("file: mode %o, %+v", f.Mode, a)
	}
	_, err := tree.Getxattr(f.Ino, xattrDefault)
	wantKind(t, err, sharefs.KindNoAttr)
	sub := must[sharefs.Attr](t)(tree.Mkdir(d.Ino, "sub", 0o705, user(1)))
	if a := get(sub.Ino, xattrAccess); sub.Mode != sharefs.ModeDir|0o700 || a.find(aclMask).perm != 0 {
		t.Errorf("directory: mode %o, %+v", sub.Mode, a)
	}
	if a := get(sub.Ino, xattrDefault); !slices.Equal(a, namedACL) {
		t.Errorf("the default list goes on as %+v", a)
	}
	l := must[sharefs.Attr](t)(tree.Symlink(d.Ino, "l", "x", user(1)))
	if names := must[[]string](t)(tree.Listxattr(l.Ino)); len(names) != 0 || l.Mode != sharefs.ModeSymlink|0o777 {
		t.Errorf("symlink: mode %o, %v", l.Mode, names)
	}
	check(t, tree.Setxattr(d.Ino, xattrDefault, minimalACL.encode(), 0))
	g, h, err := tree.Create(d.Ino, "g", unix.O_WRONLY, 0o666, user(1))
	check(t, err)
	check(t, h.Close())
	if g.Mode != sharefs.ModeRegular|0o640 {
		t.Errorf("under a minimal list: mode %o", g.Mode)
	}
	_, err = tree.Getxattr(g.Ino, xattrAccess)
	wantKind(t, err, sharefs.KindNoAttr)
	check(t, tree.Setxattr(d.Ino, xattrDefault, []byte{2, 0, 0, 0}, 0)) // setfacl -k
	if k := must[sharefs.Attr](t)(tree.Mknod(d.Ino, "k", 0o666, 0, user(1))); k.Mode != sharefs.ModeRegular|0o644 {
		t.Errorf("without a list: mode %o", k.Mode)
	}
	noProblems(t, tree)
}

func FuzzACL(f *testing.F) {
	f.Add(minimalACL.encode())
	f.Add(namedACL.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := parseACL(b)
		if !ok {
			return
		}
		if again, ok := parseACL(a.encode()); !ok || !slices.Equal(again, a) {
			t.Errorf("%+v reads back as %+v", a, again)
		}
		a.chmod(0o751)
		if a.mode() != 0o751 {
			t.Errorf("chmod 751 gives %o", a.mode())
		}
		if m := a.inherit(0o640); m&^0o640 != 0 || m != a.mode() {
			t.Errorf("inherited mode %o, list says %o", m, a.mode())
		}
	})
}
