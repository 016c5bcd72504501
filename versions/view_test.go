package versions

import (
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/writers"
)

// viewAt makes a view.
func viewAt(t testing.TB, tree *Tree, at sharefs.HLC) *View {
	t.Helper()
	return must[*View](t)(tree.ViewAt(at))
}

// held reads a file of a view.
func held(t testing.TB, v *View, ino sharefs.Ino) string {
	t.Helper()
	r := must[VersionReader](t)(v.Open(ino))
	defer r.Close()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	check(t, err)
	if a := must[sharefs.Attr](t)(v.Getattr(ino)); a.Size != uint64(len(b)) {
		t.Errorf("a file of %d bytes has the size %d", len(b), a.Size)
	}
	return string(b)
}

// passes ends the instant and returns a moment that nothing happens in: a close counts as the beginning of its millisecond.
func passes(t testing.TB, tree *Tree) sharefs.HLC {
	t.Helper()
	check(t, tree.closeEpoch())
	time.Sleep(2 * time.Millisecond)
	at := tree.clock.Next()
	time.Sleep(2 * time.Millisecond)
	return at
}

// What is closed shows at once, before it settles, and the view stays as it is through all that comes afterwards.
func TestViewStays(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	a := create(t, tree, sharefs.RootIno, "f", "one")
	type state struct {
		v       *View
		attr    sharefs.Attr
		content string
		version uint64
	}
	var states []state
	look := func(want string, version uint64) {
		t.Helper()
		v := viewAt(t, tree, sharefs.MaxHLC)
		s := state{v, must[sharefs.Attr](t)(v.Lookup(sharefs.RootIno, "f")), held(t, v, a.Ino), version}
		if s.content != want || s.attr.Changing {
			t.Fatalf("the view of now shows %q, want %q: %+v", s.content, want, s.attr)
		}
		states = append(states, s)
	}
	again := func(when string) {
		t.Helper()
		for _, s := range states {
			for _, v := range []*View{s.v, viewAt(t, tree, s.v.At())} {
				v.t = tree
				attr := must[sharefs.Attr](t)(v.Lookup(sharefs.RootIno, "f"))
				if attr != s.attr || held(t, v, a.Ino) != s.content {
					t.Fatalf("%s: the view of %d shows %q\n%+v, it was %q\n%+v", when, v.At(), held(t, v, a.Ino), attr, s.content, s.attr)
				}
				version, err := v.Version(a.Ino)
				if s.version == 0 {
					wantKind(t, err, sharefs.KindNotExist)
				} else if err != nil || version.Number != s.version {
					t.Fatalf("%s: the view of %d shows version %d, it was %d: %v", when, v.At(), version.Number, s.version, err)
				}
			}
		}
	}
	look("one", 1)
	rewrite(t, tree, a.Ino, "two, which is longer")
	again("rewritten")
	look("two, which is longer", 2)
	h := must[*Handle](t)(tree.Open(a.Ino, unix.O_RDWR, root))
	writeAll(t, h, "not yet")
	look("two, which is longer", 2)
	capture(t, tree)
	again("captured")
	// A version that is taken of an open file, and then closed as it is.
	must2(t)(tree.Commit(a.Ino, "by hand"))
	look("not yetich is longer", 3)
	check(t, h.Close())
	settle(t, tree, a.Ino)
	again("closed")
	look("not yetich is longer", 4)
	capture(t, tree)
	again("captured after a timed version")
	look("not yetich is longer", 4)
	check(t, must1(tree.Setattr(a.Ino, &SetAttr{Mode: ptr(uint32(0o600)), Mtime: ptr(sharefs.Time(5))}, root)))
	again("chmod and utimes")
	look("not yetich is longer", 4)
	unlink(t, tree, "f")
	again("unlinked")
	check(t, tree.reapAll())
	capture(t, tree)
	again("removed for good")
	if _, err := viewAt(t, tree, sharefs.MaxHLC).Lookup(sharefs.RootIno, "f"); sharefs.KindOf(err) != sharefs.KindNotExist {
		t.Errorf("a removed file: %v", err)
	}
	check(t, tree.Close())
	tree = testTree(t, dir, byHand)
	for i := range states {
		states[i].v = viewAt(t, tree, states[i].v.At())
	}
	again("after a start")
}

// must2 ends a test on an error of a call that returns two more values.
func must2(t testing.TB) func(v sharefs.Version, fresh bool, err error) {
	return func(_ sharefs.Version, _ bool, err error) {
		t.Helper()
		check(t, err)
	}
}

// must1 returns the error of a call.
func must1(_ sharefs.Attr, err error) error { return err }

// A timed version that is followed by a close with the same content, which is not looked at meanwhile, is one with it.
func TestViewOfJoinedVersions(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	h := must[*Handle](t)(tree.Open(ino, unix.O_RDWR, root))
	writeAll(t, h, "two")
	must2(t)(tree.Commit(ino, ""))
	timed := passes(t, tree)
	check(t, h.Close())
	settle(t, tree, ino)
	closed := passes(t, tree)
	capture(t, tree)
	wantHistory(t, tree, ino, "one", "two")
	for _, at := range []sharefs.HLC{timed, closed} {
		if got := held(t, viewAt(t, tree, at), ino); got != "two" {
			t.Errorf("at %d it holds %q", at, got)
		}
	}
}

// Moments that nobody looked at when they were there: what the row of a file tells and what its version tells.
func TestViewAttributes(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand, func(c *Config) { c.Atime = Noatime })
	ino := save(t, tree, "f", "one")
	first := must[sharefs.Attr](t)(tree.Getattr(ino))
	dir := must[sharefs.Attr](t)(tree.Getattr(sharefs.RootIno))
	atFirst := passes(t, tree)

	h := must[*Handle](t)(tree.Open(ino, unix.O_WRONLY, root))
	writeAll(t, h, "longer")
	check(t, must1(tree.Setattr(ino, &SetAttr{Mode: ptr(uint32(0o640))}, root))) // while it is being written to
	check(t, tree.closeEpoch())
	chmodded := must[sharefs.Attr](t)(tree.Getattr(ino))
	atChmod := passes(t, tree)
	if got := must[sharefs.Attr](t)(viewAt(t, tree, atFirst).Getattr(ino)); got != first {
		t.Errorf("at first %+v, want %+v", got, first)
	}
	check(t, h.Close())
	atClose := passes(t, tree)
	check(t, must1(tree.Setattr(ino, &SetAttr{Mode: ptr(uint32(0o604))}, root))) // after the close, before it settles
	check(t, tree.closeEpoch())
	atChmod2 := passes(t, tree)
	last := must[sharefs.Attr](t)(tree.Getattr(ino))
	settle(t, tree, ino)
	check(t, tree.closeEpoch())
	atRest := passes(t, tree)
	check(t, must1(tree.Setattr(ino, &SetAttr{Mtime: ptr(sharefs.Time(77))}, root)))
	check(t, tree.closeEpoch())
	atUtimes := passes(t, tree)
	capture(t, tree)

	type want struct {
		at           sharefs.HLC
		content      string
		mode         uint32
		mtime, ctime sharefs.Time
	}
	now := must[sharefs.Attr](t)(tree.Getattr(ino))
	for _, w := range []want{
		{atFirst, "one", 0o644, first.Mtime, first.Ctime},
		{atChmod, "one", 0o640, first.Mtime, chmodded.Ctime},
		{atClose, "longer", 0o640, last.Mtime, chmodded.Ctime},
		{atChmod2, "longer", 0o604, last.Mtime, last.Ctime},
		{atRest, "longer", 0o604, last.Mtime, last.Ctime},
		{atUtimes, "longer", 0o604, 77, now.Ctime},
		{atFirst, "one", 0o644, first.Mtime, first.Ctime},
	} {
		v := viewAt(t, tree, w.at)
		got := must[sharefs.Attr](t)(v.Getattr(ino))
		if c := held(t, v, ino); c != w.content || got.Mode != sharefs.ModeRegular|w.mode || got.Mtime != w.mtime || got.Ctime != w.ctime {
			t.Errorf("at %d it holds %q and has %+v; want %+v", w.at, c, got, w)
		}
		if got := must[sharefs.Attr](t)(v.Getattr(sharefs.RootIno)); got != dir {
			t.Errorf("at %d the directory has %+v, want %+v", w.at, got, dir)
		}
	}
	check(t, tree.Unlink(sharefs.RootIno, "f"))
	must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root))
	changed := must[sharefs.Attr](t)(tree.Getattr(sharefs.RootIno))
	if got := must[sharefs.Attr](t)(viewAt(t, tree, sharefs.MaxHLC).Getattr(sharefs.RootIno)); got != changed || got.Nlink != 3 {
		t.Errorf("the directory has %+v, want %+v", got, changed)
	}
	if got := must[sharefs.Attr](t)(viewAt(t, tree, atRest).Getattr(sharefs.RootIno)); got != dir {
		t.Errorf("the directory had %+v, want %+v", got, dir)
	}
}

func TestViewErrors(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	before := tree.clock.Next()
	ino := save(t, tree, "f", "one")
	must[sharefs.Attr](t)(tree.Symlink(sharefs.RootIno, "l", "target", root))
	for _, at := range []sharefs.HLC{sharefs.MaxHLC - 1, sharefs.HLCAt(time.Now().Add(time.Hour))} {
		_, err := tree.ViewAt(at)
		wantKind(t, err, sharefs.KindInvalid)
	}
	v := viewAt(t, tree, sharefs.MaxHLC)
	_, err := v.Lookup(ino, "x")
	wantKind(t, err, sharefs.KindNotDir)
	_, err = v.Lookup(sharefs.RootIno, "x")
	wantKind(t, err, sharefs.KindNotExist)
	_, err = v.Lookup(99, "x")
	wantKind(t, err, sharefs.KindStale)
	_, err = v.Open(sharefs.RootIno)
	wantKind(t, err, sharefs.KindInvalid)
	_, err = v.Readlink(ino)
	wantKind(t, err, sharefs.KindInvalid)
	_, err = v.Getxattr(ino, "user.x")
	wantKind(t, err, sharefs.KindNoAttr)
	_, err = v.Getxattr(ino, "nonsense")
	wantKind(t, err, sharefs.KindNotSupported)
	wantKind(t, v.ReadDir(ino, 0, nil), sharefs.KindNotDir)
	old := viewAt(t, tree, before)
	_, err = old.Getattr(ino)
	wantKind(t, err, sharefs.KindStale)
	if _, err := viewAt(t, tree, 0).Getattr(sharefs.RootIno); sharefs.KindOf(err) != sharefs.KindStale {
		t.Errorf("before everything there is a root: %v", err)
	}
}

// What a file held may be lost, or thinned out: the view has its attributes, and says so.
func TestViewOfWhatIsGone(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	var moments []sharefs.HLC
	var ino sharefs.Ino
	for i := range 5 {
		ino = save(t, tree, "f", fmt.Sprint("content ", i))
		moments = append(moments, must[sharefs.HLC](t)(tree.Snapshot()))
	}
	capture(t, tree)
	change := func(fn func(x *tx)) {
		tree.mu.Lock()
		defer tree.mu.Unlock()
		x := tree.begin()
		fn(x)
		check(t, x.commit())
	}
	third := must[*version](t)(loadVersion(tree.db, ino, 3))
	change(func(x *tx) {
		v := must[*version](t)(loadVersion(tree.db, ino, 2))
		v.until = third.at
		v.put(&x.b)
		x.b.Delete(spaceVersion, versionKey(ino, 3))
		x.b.Delete(spaceVersion, versionKey(ino, 1))
		v = must[*version](t)(loadVersion(tree.db, ino, 4))
		v.place = placeLost
		v.put(&x.b)
	})
	for i, want := range []string{"removed", "", "removed", "lost", ""} {
		v := viewAt(t, tree, moments[i])
		a := must[sharefs.Attr](t)(v.Getattr(ino))
		if a.Size != 9 {
			t.Errorf("at %d: %+v", i, a)
		}
		if want == "" {
			if got := held(t, v, ino); got != fmt.Sprint("content ", i) {
				t.Errorf("at %d it holds %q", i, got)
			}
			continue
		}
		_, err := v.Open(ino)
		wantKind(t, err, sharefs.KindNotExist)
		if e := err.(*sharefs.Error); e.Detail == "" {
			t.Errorf("at %d: %v", i, err)
		}
		if _, err = v.Version(ino); want == "removed" {
			wantKind(t, err, sharefs.KindNotExist)
		} else {
			check(t, err)
		}
	}
}

// heldAt against a walk over all versions, with gaps of all kinds.
func TestHeldAt(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	r := rand.New(rand.NewPCG(3, 4))
	for ino := sharefs.Ino(1000); ino < 1060; ino++ {
		n := 1 + r.IntN(40)
		var all []*version
		at := sharefs.HLC(100)
		keep := r.IntN(4)
		tree.mu.Lock()
		x := tree.begin()
		for own := uint64(1); own <= uint64(n); own++ {
			at += sharefs.HLC(1 + r.IntN(5))
			if keep > 0 && r.IntN(4) < keep && own < uint64(n) {
				continue
			}
			v := &version{ino: ino, own: own, place: placeLost, at: at}
			x.b.Put(spaceVersion, versionKey(ino, own), v.encode())
			all = append(all, v)
		}
		err := x.commit()
		tree.mu.Unlock()
		check(t, err)
		for asked := sharefs.HLC(98); asked < at+3; asked++ {
			want := uint64(0)
			for _, v := range all {
				if v.at <= asked {
					want = v.own
				}
			}
			got, err := heldAt(tree.db, ino, asked)
			check(t, err)
			if own := uint64(0); got != nil && got.own != want || got == nil && own != want {
				t.Fatalf("inode %d at %d: %+v, want version %d of %d", ino, asked, got, want, len(all))
			}
		}
	}
}

// The daemon is killed right after a look, with a file that was closed and one that is being written to, and starts again with a clock that was set back.
func TestViewsSurviveAKillAndAClockSetBack(t *testing.T) {
	dir := t.TempDir()
	back := time.Duration(0)
	clock := func(c *Config) {
		byHand(c)
		c.Clock = &sharefs.Clock{Now: func() time.Time { return time.Now().Add(-back) }}
	}
	tree := testTree(t, dir, clock)
	one := create(t, tree, sharefs.RootIno, "closed", "one")
	_, h, err := tree.Create(sharefs.RootIno, "open", unix.O_RDWR, 0o644, root)
	check(t, err)
	writeAll(t, h, "not yet")
	type look struct {
		at    sharefs.HLC
		names map[string]string
	}
	var looks []look
	list := func(v *View) map[string]string {
		m := map[string]string{}
		check(t, v.ReadDir(sharefs.RootIno, 0, func(d sharefs.Dentry) bool {
			m[d.Name] = held(t, v, d.Ino)
			return true
		}))
		return m
	}
	for round := range 4 {
		v := viewAt(t, tree, sharefs.MaxHLC)
		looks = append(looks, look{v.At(), list(v)})
		create(t, tree, sharefs.RootIno, fmt.Sprint("after look ", round), "x")
		rewrite(t, tree, one.Ino, fmt.Sprint("after look ", round))
		abandon(t, tree)
		back += time.Hour
		tree = testTree(t, dir, clock)
		if tree.clock.Next() <= v.At() {
			t.Fatal("the clock goes back")
		}
		for _, l := range looks {
			if got := list(viewAt(t, tree, l.at)); !maps.Equal(got, l.names) {
				t.Fatalf("round %d: the view of %d shows %q, it was %q", round, l.at, got, l.names)
			}
		}
		now := list(viewAt(t, tree, sharefs.MaxHLC))
		if now["closed"] != fmt.Sprint("after look ", round) || now["open"] != "not yet" || len(now) != 3+round {
			t.Fatalf("round %d: now shows %q", round, now)
		}
	}
}

// Many make and replace files while others look: no view that was made changes.
func TestViewsWhileTheTreeChanges(t *testing.T) {
	tree := testTree(t, t.TempDir(), func(c *Config) { c.Settle = 3 * time.Millisecond })
	var stop atomic.Bool
	var all sync.WaitGroup
	for w := range 3 {
		all.Go(func() {
			for i := 0; !stop.Load(); i++ {
				name := fmt.Sprint("f", w, i%3)
				a, h, err := tree.Create(sharefs.RootIno, name+"~", unix.O_RDWR, 0o644, root)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = h.WriteAt([]byte(fmt.Sprint(name, " ", i)), 0)
				if err == nil {
					err = h.Close()
				}
				if err == nil {
					err = tree.Rename(sharefs.RootIno, name+"~", sharefs.RootIno, name, 0)
				}
				tree.Forget(a.Ino, 1)
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	list := func(v *View) (map[string]string, error) {
		m := map[string]string{}
		var names []sharefs.Dentry
		err := v.ReadDir(sharefs.RootIno, 0, func(d sharefs.Dentry) bool {
			names = append(names, d)
			return true
		})
		for _, d := range names {
			if err != nil {
				break
			}
			var r VersionReader
			var b []byte
			if r, err = v.Open(d.Ino); err == nil {
				b, err = io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
				m[d.Name] = string(b)
				r.Close()
			}
		}
		return m, err
	}
	for range 3 {
		all.Go(func() {
			type look struct {
				at    sharefs.HLC
				names map[string]string
			}
			var looks []look
			for i := 0; i < 60 && !t.Failed(); i++ {
				v, err := tree.ViewAt(sharefs.MaxHLC)
				if err != nil {
					t.Error(err)
					return
				}
				names, err := list(v)
				if err != nil {
					t.Errorf("the view of now: %v", err)
					return
				}
				looks = append(looks, look{v.At(), names})
				l := looks[i/2]
				if v, err = tree.ViewAt(l.at); err != nil {
					t.Error(err)
					return
				}
				if names, err = list(v); err != nil || !maps.Equal(names, l.names) {
					t.Errorf("the view of %d shows %q, it was %q: %v", l.at, names, l.names, err)
				}
			}
			stop.Store(true)
		})
	}
	all.Wait()
}

// A file that is open for writing, being cut or restored is left alone by who looks.
func TestLookingWaitsForNobody(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	f := tree.files.pin(ino)
	defer tree.files.unpin(f)
	f.content.Lock() // Restore is at work, for long
	check(t, tree.arm(f, changeAll, false, nil))
	v := viewAt(t, tree, sharefs.MaxHLC)
	if got := held(t, v, ino); got != "one" {
		t.Errorf("it holds %q", got)
	}
	tree.disarm(f)
	f.content.Unlock()
	if _, ok := tree.track.Released(ino); !ok {
		t.Error("it is held")
	}
	h := must[*Handle](t)(tree.Open(ino, unix.O_RDWR, root))
	if _, ok := tree.track.Released(ino); ok {
		t.Error("it is not held")
	}
	check(t, h.Close())
	viewAt(t, tree, sharefs.MaxHLC)
	if at, ok := tree.track.Released(ino); !ok || !at.IsZero() {
		t.Errorf("it does not rest: released at %v", at)
	}
}

func TestChangePoints(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root))
	var want []sharefs.HLC
	note := func() { want = append(want, must[sharefs.HLC](t)(tree.Snapshot())) }
	note()
	create(t, tree, d.Ino, "a", "x")
	note()
	check(t, tree.Unlink(d.Ino, "a"))
	note()
	check(t, tree.ReadDir(d.Ino, 0, false, func(sharefs.Dentry, *sharefs.Attr) bool { return true }))
	check(t, tree.writeAtimes())
	check(t, tree.closeEpoch())
	check(t, tree.Rmdir(sharefs.RootIno, "d"))
	note()
	var got []sharefs.HLC
	check(t, tree.ChangePoints(d.Ino, func(at sharefs.HLC) bool {
		got = append(got, at)
		return true
	}))
	slices.Reverse(got)
	if len(got) != len(want) {
		t.Fatalf("changed at %d, looked at %d", got, want)
	}
	for i := range got {
		if got[i] > want[i] || i > 0 && got[i] <= want[i-1] {
			t.Errorf("change %d at %d, looked at %d", i, got[i], want)
		}
	}
	a, gone, err := tree.AttrEver(d.Ino)
	if err != nil || gone != got[3] || a.Mode != sharefs.ModeDir|0o755 || a.Nlink != 2 {
		t.Errorf("the removed directory had %+v until %d: %v", a, gone, err)
	}
	var names []Ever
	check(t, tree.NamesEver(d.Ino, 0, func(e Ever) bool {
		names = append(names, e)
		return true
	}))
	if len(names) != 1 || names[0].Name != "a" || names[0].Gone != got[2] {
		t.Errorf("the names that were in it: %+v", names)
	}
	n := 0
	check(t, tree.ChangePoints(sharefs.RootIno, func(sharefs.HLC) bool { n++; return false }))
	if n != 1 {
		t.Errorf("told %d after the end", n)
	}
	if _, _, err := tree.AttrEver(math.MaxUint64); sharefs.KindOf(err) != sharefs.KindStale {
		t.Errorf("an inode that never was: %v", err)
	}
}

// The time of a version is the millisecond of the close, and never one that was looked at.
func TestVersionTimes(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	h := &tree.past
	for range 50 {
		before := tree.clock.Next()
		closed := time.Now()
		after := tree.clock.Next()
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		if got := h.reading(closed); got>>16 < before>>16 || got > after {
			t.Fatalf("closed between %d and %d: %d", before, after, got)
		}
	}
	ino := save(t, tree, "f", "one")
	v := must[*version](t)(newestVersion(tree.db, ino, noLimit))
	if v.merged <= v.at || v.until != 0 {
		t.Errorf("merged at %d, closed at %d", v.merged, v.at)
	}
	seen := must[sharefs.HLC](t)(tree.Snapshot())
	f := tree.files.pin(ino)
	defer tree.files.unpin(f)
	tree.mu.Lock()
	defer tree.mu.Unlock()
	x := tree.begin()
	r := must[*row](t)(x.edit(ino))
	w := must[*version](t)(h.begin(x, r, writers.Stamp{Size: 1}, time.Now().Add(-time.Minute), ""))
	if w.at <= seen || w.merged != mergedBefore {
		t.Errorf("it counts as closed at %d, and %d was looked at", w.at, seen)
	}
}

// A tree that is read only shows in the view of now what a kill left in an instant that was open, and nothing of it before.
func TestViewOfAReadOnlyTree(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	save(t, tree, "ended", "one")
	before := passes(t, tree)
	save(t, tree, "open", "two")
	abandon(t, tree)
	tree = testTree(t, dir, byHand, func(c *Config) { c.ReadOnly = true })
	for range 2 {
		v := viewAt(t, tree, sharefs.MaxHLC)
		if got := held(t, v, must[sharefs.Attr](t)(v.Lookup(sharefs.RootIno, "open")).Ino); got != "two" {
			t.Errorf("it holds %q", got)
		}
		if again := viewAt(t, tree, v.At()); again.At() != v.At() {
			t.Errorf("the view of %d is of %d", v.At(), again.At())
		}
		_, err := viewAt(t, tree, before).Lookup(sharefs.RootIno, "open")
		wantKind(t, err, sharefs.KindNotExist)
	}
	_, err := tree.Snapshot()
	wantKind(t, err, sharefs.KindReadOnly)
}
