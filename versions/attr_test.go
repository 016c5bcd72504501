package versions

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

func ptr[T any](v T) *T { return &v }

func TestRowFormat(t *testing.T) {
	dir := &row{
		ino: 7, mode: sharefs.ModeDir | 0o755, nlink: 3, uid: 1000, gid: 50, flags: rowDefault, xattrs: 1,
		btime: 0x0102030405060708, atime: 0x0102030405060709, mtime: 0x0102030405060707, ctime: 0x0102030405060708,
		id: sharefs.FileID{15: 9}, parent: 1, entries: 300,
	}
	link := &row{ino: 8, mode: sharefs.ModeSymlink | 0o777, nlink: 1, size: 3, blocks: 8, rdev: 5, target: "a/b", btime: -1, atime: -2, mtime: -1, ctime: -1}
	for _, c := range []struct {
		r    *row
		want string
	}{
		{dir, "\x01\x02" + "\xed\x83\x01" + "\x03" + "\xe8\x07" + "\x32" + "\x00" + "\x00" + "\x00" + "\x01" +
			"\x01\x02\x03\x04\x05\x06\x07\x08" + "\x02\x01\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09" + "\x01\xac\x02"},
		{link, "\x01\x00" + "\xff\xc3\x02" + "\x01" + "\x00" + "\x00" + "\x05" + "\x03" + "\x08" + "\x00" +
			"\xff\xff\xff\xff\xff\xff\xff\xff" + "\x01\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "a/b"},
	} {
		got := string(c.r.encode())
		if got != c.want {
			t.Errorf("row %d is written as\n%x, want\n%x", c.r.ino, got, c.want)
		}
		back, err := decodeRow(c.r.ino, []byte(got))
		if err != nil || *back != *c.r {
			t.Errorf("row %d reads back as %+v, %v", c.r.ino, back, err)
		}
		for i := range len(got) {
			if r, err := decodeRow(1, []byte(got[:i])); err == nil && !r.isSymlink() {
				t.Errorf("a row cut to %d bytes is taken", i)
			}
		}
	}
}

func FuzzRow(f *testing.F) {
	f.Add((&row{mode: sharefs.ModeDir, parent: 1}).encode())
	f.Add((&row{mode: sharefs.ModeSymlink, target: "x"}).encode())
	f.Add((&row{mode: sharefs.ModeRegular, size: 1 << 40, mtime: -5}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRow(1, b)
		if err != nil {
			return
		}
		again, err := decodeRow(1, r.encode())
		if err != nil || *again != *r {
			t.Errorf("%+v reads back as %+v, %v", r, again, err)
		}
	})
}

func FuzzDent(f *testing.F) {
	key := dentryKey(1, 99)
	f.Add((&dent{name: "a", ino: 5, typ: 4, cookie: 99}).appendTo(nil))
	f.Add((&dent{cookie: 99, chained: true}).appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeDent(key, b)
		if err != nil {
			return
		}
		again, err := decodeDent(key, d.appendTo(nil))
		if err != nil || again != d {
			t.Errorf("%+v reads back as %+v, %v", d, again, err)
		}
	})
}

func TestSiphash(t *testing.T) {
	// Vectors of the reference implementation (vectors_sip64 in SipHash's vectors.h): key 00 01 … 0f, input 00 01 … of a length.
	const k0, k1 = 0x0706050403020100, 0x0f0e0d0c0b0a0908
	in := make([]byte, 64)
	for i := range in {
		in[i] = byte(i)
	}
	for _, c := range []struct {
		n    int
		want uint64
	}{{0, 0x726fdb47dd0e0e31}, {1, 0x74f839c593dc67fd}, {7, 0xab0200f58b01d137}, {8, 0x93f5f5799a932462}, {15, 0xa129ca6149be45e5}, {63, 0x958a324ceb064572}} {
		if got := siphash(k0, k1, string(in[:c.n])); got != c.want {
			t.Errorf("of %d bytes: %x, want %x", c.n, got, c.want)
		}
	}
}

func TestChmodAndChown(t *testing.T) {
	tree := testTree(t, t.TempDir())
	f := create(t, tree, sharefs.RootIno, "f", "x")
	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root))
	set := func(ino sharefs.Ino, s SetAttr) sharefs.Attr {
		t.Helper()
		return must[sharefs.Attr](t)(tree.Setattr(ino, &s, root))
	}
	a := set(f.Ino, SetAttr{Mode: ptr(uint32(0o6755))})
	if a.Mode != sharefs.ModeRegular|0o6755 || a.Ctime <= f.Ctime {
		t.Errorf("chmod: %+v", a)
	}
	if a = set(f.Ino, SetAttr{UID: ptr(uint32(3))}); a.UID != 3 || a.Mode != sharefs.ModeRegular|0o755 {
		t.Errorf("chown: %+v", a)
	}
	set(f.Ino, SetAttr{Mode: ptr(uint32(0o6745))})
	if a = set(f.Ino, SetAttr{GID: ptr(uint32(4))}); a.GID != 4 || a.Mode != sharefs.ModeRegular|0o2745 {
		t.Errorf("chgrp leaves mandatory locking and drops setuid: %o", a.Mode)
	}
	set(f.Ino, SetAttr{Mode: ptr(uint32(0o6755))})
	if a = set(f.Ino, SetAttr{}); a.Mode != sharefs.ModeRegular|0o755 {
		t.Errorf("chown(-1, -1): %o", a.Mode)
	}
	set(f.Ino, SetAttr{Mode: ptr(uint32(0o6755))})
	if a = set(f.Ino, SetAttr{Mtime: ptr(sharefs.Time(5))}); a.Mode != sharefs.ModeRegular|0o6755 || a.Mtime != 5 {
		t.Errorf("utimens: %+v", a)
	}
	set(d.Ino, SetAttr{Mode: ptr(uint32(0o7777))})
	if a = set(d.Ino, SetAttr{UID: ptr(uint32(3)), GID: ptr(uint32(4))}); a.Mode != sharefs.ModeDir|0o7777 {
		t.Errorf("chown of a directory: %o", a.Mode)
	}
	_, err := tree.Setattr(d.Ino, &SetAttr{Size: ptr(uint64(1))}, root)
	wantKind(t, err, sharefs.KindIsDir)
	_, err = tree.Setattr(9999, &SetAttr{Mode: ptr(uint32(1))}, root)
	wantKind(t, err, sharefs.KindStale)
	noProblems(t, tree)
}

func TestPrivilegeIsLostOnChange(t *testing.T) {
	tree := testTree(t, t.TempDir())
	f := create(t, tree, sharefs.RootIno, "f", "content")
	arm := func() {
		t.Helper()
		must[sharefs.Attr](t)(tree.Setattr(f.Ino, &SetAttr{Mode: ptr(uint32(0o6777))}, root))
		check(t, tree.Setxattr(f.Ino, xattrCaps, []byte("caps"), 0))
	}
	state := func(what string, mode uint32, caps bool) {
		t.Helper()
		a := must[sharefs.Attr](t)(tree.Getattr(f.Ino))
		_, err := tree.Getxattr(f.Ino, xattrCaps)
		if a.Mode != sharefs.ModeRegular|mode || (err == nil) != caps {
			t.Errorf("%s: mode %o, capabilities %v", what, a.Mode, err)
		}
	}
	arm()
	state("set", 0o6777, true)
	h := must[*Handle](t)(tree.Open(f.Ino, unix.O_RDWR, root))
	state("opened by root", 0o6777, true)
	check(t, h.Allocate(0, 0, 100, root))
	state("allocated by root", 0o6777, true)
	check(t, h.Allocate(0, 0, 200, user(9)))
	state("allocated by a user", 0o777, false)
	arm()
	check(t, h.KillPriv(root))
	state("written by a user", 0o777, false)
	arm()
	if _, err := h.CopyTo(h, 0, 300, 7, user(9)); err != nil {
		t.Fatal(err)
	}
	state("copied into by a user", 0o777, false)
	check(t, h.Close())
	arm()
	check(t, must[*Handle](t)(tree.Open(f.Ino, unix.O_WRONLY, user(9))).Close())
	state("opened for writing by a user", 0o777, false)
	arm()
	must[sharefs.Attr](t)(tree.Setattr(f.Ino, &SetAttr{Size: ptr(uint64(2))}, user(9)))
	state("cut by a user", 0o777, false)
	arm()
	must[sharefs.Attr](t)(tree.Setattr(f.Ino, &SetAttr{Size: ptr(uint64(3))}, root))
	state("cut by root", 0o6777, true)
	must[sharefs.Attr](t)(tree.Setattr(f.Ino, &SetAttr{Size: ptr(uint64(3)), KillPriv: true}, root))
	state("cut with the kernel's flag", 0o777, false)

	// A group's member may write to a file that nobody of the group may execute without taking setgid away: nothing is committed.
	must[sharefs.Attr](t)(tree.Setattr(f.Ino, &SetAttr{Mode: ptr(uint32(0o2705)), GID: ptr(uint32(9))}, root))
	must[sharefs.Attr](t)(tree.Setattr(f.Ino, &SetAttr{Mode: ptr(uint32(0o2705))}, root))
	h = must[*Handle](t)(tree.Open(f.Ino, unix.O_RDWR, root))
	before := tree.lastSeq.Load()
	check(t, h.KillPriv(user(9)))
	state("written by a member", 0o2705, false)
	if n := tree.lastSeq.Load(); n != before {
		t.Errorf("%d commits changed nothing", n-before)
	}
	check(t, h.Close())
	noProblems(t, tree)
}

// rest waits until nobody writes to a file any more and its row tells its attributes.
func rest(t testing.TB, tree *Tree, ino sharefs.Ino) sharefs.Attr {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		a := must[sharefs.Attr](t)(tree.Getattr(ino))
		if !a.Changing {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatalf("inode %d does not come to rest", ino)
		}
	}
}

func TestTimesOfFiles(t *testing.T) {
	tree := testTree(t, t.TempDir())
	f, h, err := tree.Create(sharefs.RootIno, "f", unix.O_RDWR, 0o644, root)
	check(t, err)
	if a := must[sharefs.Attr](t)(tree.Getattr(f.Ino)); a.Mtime != f.Btime || a.Ctime != f.Btime || a.Atime != f.Btime || !a.Changing {
		t.Errorf("a new file that was prepared before: %+v", a)
	}
	writeAll(t, h, "1")
	written := must[sharefs.Attr](t)(tree.Getattr(f.Ino))
	if written.Mtime < f.Btime || written.Ctime < f.Btime || written.Size != 1 {
		t.Errorf("after a write: %+v", written)
	}
	// Times that are set hold until the next write, into the past and into the future, open and closed.
	for _, want := range []sharefs.Time{sharefs.MakeTime(1, 2), sharefs.MakeTime(4e9, 3), sharefs.MakeTime(-10, 999_999_999)} {
		a := must[sharefs.Attr](t)(tree.Setattr(f.Ino, &SetAttr{Mtime: &want, Atime: ptr(want + 1)}, root))
		if a.Mtime != want || a.Atime != want+1 || a.Ctime < written.Ctime {
			t.Errorf("utimens %d: %+v", want, a)
		}
	}
	check(t, h.Close())
	a := rest(t, tree, f.Ino)
	if a.Mtime != sharefs.MakeTime(-10, 999_999_999) || a.Atime != a.Mtime+1 {
		t.Errorf("at rest: %+v", a)
	}
	old := sharefs.MakeTime(77, 0)
	must[sharefs.Attr](t)(tree.Setattr(f.Ino, &SetAttr{Mtime: &old}, root))
	h = must[*Handle](t)(tree.Open(f.Ino, unix.O_WRONLY, root))
	if a := must[sharefs.Attr](t)(tree.Getattr(f.Ino)); a.Mtime != old {
		t.Errorf("opened again: %+v", a)
	}
	// The disk's clock may run a tick behind the tree's.
	const tick = sharefs.Time(20 * time.Millisecond)
	writeAll(t, h, "22")
	if a := must[sharefs.Attr](t)(tree.Getattr(f.Ino)); a.Mtime < written.Mtime-tick {
		t.Errorf("written again: %+v", a)
	}
	check(t, h.Close())
	if a := rest(t, tree, f.Ino); a.Size != 2 || a.Mtime < written.Mtime-tick || a.Ctime < a.Mtime {
		t.Errorf("at rest again: %+v", a)
	}
	_, h, err = tree.Create(sharefs.RootIno, "f", unix.O_WRONLY|unix.O_TRUNC, 0o644, root)
	check(t, err)
	if a := must[sharefs.Attr](t)(tree.Getattr(f.Ino)); a.Size != 0 || a.Nlink != 1 {
		t.Errorf("created over: %+v", a)
	}
	check(t, h.Close())
	rest(t, tree, f.Ino)
	noProblems(t, tree)
}

func TestAtimeOfDirectoriesAndSymlinks(t *testing.T) {
	tree := testTree(t, t.TempDir())
	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root))
	l := must[sharefs.Attr](t)(tree.Symlink(sharefs.RootIno, "l", "x", root))
	read := func() (sharefs.Time, sharefs.Time) {
		t.Helper()
		names(t, tree, d.Ino)
		must[string](t)(tree.Readlink(l.Ino))
		return must[sharefs.Attr](t)(tree.Getattr(d.Ino)).Atime, must[sharefs.Attr](t)(tree.Getattr(l.Ino)).Atime
	}
	tree.SetAtime(Noatime)
	if da, la := read(); da != d.Atime || la != l.Atime {
		t.Error("noatime moves an access time")
	}
	tree.SetAtime(Relatime)
	d1, l1 := read()
	if d1 <= d.Atime || l1 <= l.Atime {
		t.Error("relatime does not move it at the first read")
	}
	tree.learnAtimes()
	check(t, tree.writeAtimes())
	if d2, l2 := read(); d2 != d1 || l2 != l1 {
		t.Error("relatime moves it at the second read")
	}
	tree.SetAtime(Strictatime)
	d3, l3 := read()
	if d3 <= d1 || l3 <= l1 {
		t.Error("strictatime does not move it at every read")
	}
	must[sharefs.Attr](t)(tree.Setattr(d.Ino, &SetAttr{Atime: ptr(sharefs.Time(9))}, root))
	if a := must[sharefs.Attr](t)(tree.Getattr(d.Ino)); a.Atime != 9 {
		t.Errorf("an access time that was set is %d", a.Atime)
	}
	tree.SetAtime(Relatime)
	tree.learnAtimes()
	check(t, tree.writeAtimes())
	tree.rows.drop(l.Ino)
	if a := must[sharefs.Attr](t)(tree.Getattr(l.Ino)); a.Atime != l3 {
		t.Errorf("written down as %d, was %d", a.Atime, l3)
	}
}

func TestAtimeOfFilesFollowsTheDisk(t *testing.T) {
	tree := testTree(t, t.TempDir())
	f := create(t, tree, sharefs.RootIno, "f", "x")
	rest(t, tree, f.Ino)
	must[sharefs.Attr](t)(tree.Setattr(f.Ino, &SetAttr{Atime: ptr(sharefs.Time(5))}, root))
	rest(t, tree, f.Ino)
	h := must[*Handle](t)(tree.Open(f.Ino, unix.O_RDONLY, root))
	must[int](t)(h.ReadAt(make([]byte, 1), 0))
	st, err := tree.live.stat(f.Ino)
	check(t, err)
	disk, _, _ := timesOf(&st) // unmoved where the disk is mounted with noatime
	if a := must[sharefs.Attr](t)(tree.Getattr(f.Ino)); a.Atime != disk {
		t.Errorf("while open: %d, the disk says %d", a.Atime, disk)
	}
	check(t, h.Close())
	if a := must[sharefs.Attr](t)(tree.Getattr(f.Ino)); a.Atime != disk {
		t.Errorf("after closing: %d, the disk says %d", a.Atime, disk)
	}
	tree.learnAtimes()
	check(t, tree.writeAtimes())
	tree.rows.drop(f.Ino)
	if a := must[sharefs.Attr](t)(tree.Getattr(f.Ino)); a.Atime != disk {
		t.Errorf("written down: %d, the disk says %d", a.Atime, disk)
	}
	check(t, tree.unmark())
	for deadline := time.Now().Add(2 * time.Minute); tree.files.count() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) { // the settler may be looking at it
			t.Fatalf("%d files are pinned by nothing", tree.files.count())
		}
	}
}

func TestSparseFilesAndSizes(t *testing.T) {
	tree := testTree(t, t.TempDir())
	f, h, err := tree.Create(sharefs.RootIno, "f", unix.O_RDWR, 0o644, root)
	check(t, err)
	const far = 1 << 33
	if _, err := h.WriteAt([]byte("end"), far); err != nil {
		t.Fatal(err)
	}
	a := must[sharefs.Attr](t)(tree.Getattr(f.Ino))
	if a.Size != far+3 || a.Blocks*512 >= far {
		t.Errorf("a sparse file: %+v", a)
	}
	if at := must[int64](t)(h.Seek(0, unix.SEEK_DATA)); at == 0 || at > far {
		t.Errorf("data from %d", at)
	}
	if at := must[int64](t)(h.Seek(0, unix.SEEK_HOLE)); at != 0 {
		t.Errorf("hole from %d", at)
	}
	_, err = h.Seek(far+3, unix.SEEK_DATA)
	wantKind(t, err, sharefs.KindNoDevice)
	_, err = h.Seek(0, unix.SEEK_SET)
	wantKind(t, err, sharefs.KindInvalid)
	check(t, h.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, far+3, root))
	if a = must[sharefs.Attr](t)(tree.Getattr(f.Ino)); a.Size != far+3 {
		t.Errorf("punched: %+v", a)
	}
	_, err = tree.Setattr(f.Ino, &SetAttr{Size: ptr(uint64(1) << 63)}, root)
	wantKind(t, err, sharefs.KindTooLarge)
	check(t, h.Sync(false))
	check(t, h.Sync(true))
	check(t, h.Close())
	rest(t, tree, f.Ino)
	check(t, tree.Sync())
	if s := must[Space](t)(tree.Statfs()); s.Total == 0 || s.Free > s.Total || s.BlockSize == 0 {
		t.Errorf("statfs: %+v", s)
	}
	noProblems(t, tree)
}
