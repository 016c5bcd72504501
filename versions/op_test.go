package versions

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// sleeper starts a process in a group of its own, which ends when its input does.
func sleeper(t testing.TB) (*exec.Cmd, io.Closer) {
	t.Helper()
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	check(t, err)
	check(t, cmd.Start())
	return cmd, in
}

// shell is a caller of a process group of its own.
func shell(t testing.TB) Caller {
	t.Helper()
	cmd, in := sleeper(t)
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return Caller{PID: uint32(cmd.Process.Pid)}
}

// did makes a change as the edge does, for somebody.
func did(t testing.TB, tree *Tree, who Caller, change func() error, what ...OpChange) {
	t.Helper()
	op := tree.Operate(who)
	err := change()
	op.End(err, what...)
	check(t, err)
}

func makeDir(t testing.TB, tree *Tree, who Caller, parent sharefs.Ino, name string) sharefs.Ino {
	t.Helper()
	op := tree.Operate(who)
	a, err := tree.Mkdir(parent, name, 0o755, who)
	op.End(err, OpChange{Verb: OpMade, Ino: a.Ino, Parent: parent, Name: name, Dir: true})
	check(t, err)
	return a.Ino
}

func makeFile(t testing.TB, tree *Tree, who Caller, parent sharefs.Ino, name, text string) sharefs.Ino {
	t.Helper()
	op := tree.Operate(who)
	a, h, err := tree.Create(parent, name, unix.O_WRONLY, 0o644, who)
	op.End(err, OpChange{Verb: OpMade, Ino: a.Ino, Parent: parent, Name: name})
	check(t, err)
	writeAll(t, h, text)
	check(t, h.Close())
	return a.Ino
}

// endOps ends all operations as if much time had passed.
func endOps(t testing.TB, tree *Tree) []Operation {
	t.Helper()
	check(t, tree.ops.endIdle(time.Now().Add(2*opWaiting)))
	var all []Operation
	check(t, tree.Operations(sharefs.MaxHLC, func(o *Operation) bool {
		all = append(all, *o)
		return true
	}))
	return all
}

func TestOperationsOfTwoCommands(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	one, two := shell(t), shell(t)
	dir := makeDir(t, tree, one, sharefs.RootIno, "dir")
	a := makeFile(t, tree, one, dir, "a", "x")
	b := makeFile(t, tree, two, dir, "b", "y")
	makeFile(t, tree, one, dir, "c", "z")
	settle(t, tree, a)
	settle(t, tree, b)

	all := endOps(t, tree)
	if len(all) != 2 {
		t.Fatalf("%d operations: %+v", len(all), all)
	}
	newest, first := all[0], all[1]
	if first.Counts != (sharefs.OpCounts{Made: 3}) || newest.Counts != (sharefs.OpCounts{Made: 1}) || !first.Ended || !newest.Ended {
		t.Errorf("%+v", all)
	}
	if first.ID >= newest.ID || first.After < newest.ID || first.Command == "" || first.Process == newest.Process {
		t.Errorf("%+v", all)
	}
	_, changes, err := tree.Operation(first.ID)
	check(t, err)
	// What lies in a directory that it made needs no change of its own, but where others put it there.
	if want := []OpChange{{Verb: OpMade, Ino: dir, Parent: sharefs.RootIno, Name: "dir"}, {Verb: OpOthers, Ino: b, Parent: dir, Name: "b"}}; !slices.Equal(changes, want) {
		t.Errorf("%+v", changes)
	}
	if _, changes, err = tree.Operation(newest.ID); err != nil || len(changes) != 1 || changes[0].Ino != b {
		t.Errorf("%+v, %v", changes, err)
	}
	if _, err := tree.findDent(tree.db.At(first.ID), sharefs.RootIno, "dir"); err != nil {
		t.Error(err)
	}
	if p, err := tree.findDent(tree.db.At(first.ID), sharefs.RootIno, "dir"); err != nil || p.found() {
		t.Errorf("the state before an operation has what it made: %+v, %v", p, err)
	}
	if p, err := tree.findDent(tree.db.At(first.After), dir, "c"); err != nil || !p.found() {
		t.Errorf("the state after an operation has not what it made: %v", err)
	}
	if _, _, err := tree.Operation(first.ID + 1); !errors.Is(err, sharefs.KindNotExist) {
		t.Error(err)
	}
}

// What others put into a directory that an operation has made is told with it, as theirs; not what undoing it puts back, nor what it put there itself.
func TestOthersInADirectoryThatWasMade(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	one, two, undo := shell(t), shell(t), shell(t)
	dir := makeDir(t, tree, one, sharefs.RootIno, "dir")
	makeFile(t, tree, one, dir, "own", "x")
	b := makeFile(t, tree, two, dir, "other", "y")
	did(t, tree, two, func() error { return tree.Rename(dir, "other", dir, "another", 0) }, OpChange{Verb: OpRenamedFrom, Parent: dir, Name: "other"}, OpChange{Verb: OpRenamedTo, Parent: dir, Name: "another"})
	did(t, tree, Caller{}, func() error { _, err := tree.Link(b, dir, "by nobody known"); return err }, OpChange{Verb: OpLinked, Ino: b, Parent: dir, Name: "by nobody known"})
	tree.NameOperation(undo, sharefs.UndoLabel+"1")
	makeFile(t, tree, undo, dir, "put back", "z")
	makeFile(t, tree, one, dir, "own too", "x") // so that all of it is before the end
	all := endOps(t, tree)
	o, changes, err := tree.Operation(all[len(all)-1].ID)
	check(t, err)
	paths, _, err := tree.OperationPaths(o, changes, nil)
	check(t, err)
	want := []OpPath{{Verb: OpMade, After: "dir"}, {Verb: OpOthers, After: "dir/another"}, {Verb: OpOthers, After: "dir/by nobody known"}}
	if !slices.Equal(paths, want) {
		t.Errorf("%+v", paths)
	}
}

// An operation that begins while another one's changes are in the open instant begins behind these.
func TestOperationBeginsAfterWhatWas(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	one, two := shell(t), shell(t)
	a := makeFile(t, tree, one, sharefs.RootIno, "a", "x")
	b := makeFile(t, tree, two, sharefs.RootIno, "b", "y")
	_, _ = a, b
	all := endOps(t, tree)
	before := tree.db.At(all[0].ID)
	if p, err := tree.findDent(before, sharefs.RootIno, "a"); err != nil || !p.found() {
		t.Errorf("a is not there before the second operation: %v", err)
	}
	if p, err := tree.findDent(before, sharefs.RootIno, "b"); err != nil || p.found() {
		t.Errorf("b is there before the second operation: %v", err)
	}
}

func TestOperationThatFailsIsNone(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	who := shell(t)
	op := tree.Operate(who)
	op.End(tree.Unlink(sharefs.RootIno, "nothing"), OpChange{Verb: OpRemoved, Parent: sharefs.RootIno, Name: "nothing"})
	if all := endOps(t, tree); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

func TestTrash(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	who := shell(t)
	dir := makeDir(t, tree, who, sharefs.RootIno, "dir")
	sub := makeDir(t, tree, who, dir, "sub")
	deep := makeFile(t, tree, who, sub, "deep", "x")
	file := makeFile(t, tree, who, sharefs.RootIno, "file", "y")
	kept := makeFile(t, tree, who, sharefs.RootIno, "kept", "z")
	aside := makeFile(t, tree, who, sharefs.RootIno, sharefs.LimboName+"a", "for a moment")
	named := makeFile(t, tree, who, sharefs.RootIno, "x"+sharefs.LimboName, "by somebody")
	for _, ino := range []sharefs.Ino{deep, file, kept, aside, named} {
		settle(t, tree, ino)
	}
	check(t, tree.closeEpoch())
	endOps(t, tree)

	rm := shell(t)
	unlink := func(parent sharefs.Ino, name string) {
		did(t, tree, rm, func() error { return tree.Unlink(parent, name) }, OpChange{Verb: OpRemoved, Parent: parent, Name: name})
	}
	rmdir := func(parent sharefs.Ino, name string) {
		did(t, tree, rm, func() error { return tree.Rmdir(parent, name) }, OpChange{Verb: OpRemoved, Parent: parent, Name: name, Dir: true})
	}
	unlink(sub, "deep")
	rmdir(dir, "sub")
	rmdir(sharefs.RootIno, "dir")
	unlink(sharefs.RootIno, "file")
	temp := makeFile(t, tree, rm, sharefs.RootIno, "temp", "t")
	_ = temp
	unlink(sharefs.RootIno, "temp")
	unlink(sharefs.RootIno, sharefs.LimboName+"a")
	unlink(sharefs.RootIno, "x"+sharefs.LimboName)
	unlink(sharefs.RootIno, "kept")
	makeFile(t, tree, rm, sharefs.RootIno, "kept", "replaced")
	all := endOps(t, tree)

	trash := func(tree *Tree) map[string]Trashed {
		got := map[string]Trashed{}
		check(t, tree.Trash("", func(r Trashed) bool {
			got[r.Name] = r
			return true
		}))
		return got
	}
	got := trash(tree)
	if len(got) != 3 || got["x"+sharefs.LimboName].Ino != named || got["dir"].Ino != dir || got["file"].Ino != file || got["dir"].Before != all[0].ID {
		t.Fatalf("%+v", got)
	}
	_, changes, err := tree.Operation(all[0].ID)
	check(t, err)
	for _, c := range changes {
		if c.Verb == OpRemoved && (c.Name == "deep" || c.Name == "sub") {
			t.Errorf("the removal of %s is listed, though its directory went too", c.Name)
		}
	}
	before := tree.db.At(got["dir"].Before)
	if p, err := tree.findDent(before, sub, "deep"); err != nil || p.ino != deep {
		t.Errorf("what the directory held: %+v, %v", p, err)
	}
	check(t, tree.Untrash(got["file"].Before, file))
	path := tree.cfg.Dir
	check(t, tree.Close())
	again := testTree(t, path, byHand)
	if got := trash(again); len(got) != 2 || got["dir"].Ino != dir {
		t.Errorf("after a new start: %+v", got)
	}
	if all := endOps(t, again); len(all) != 2 {
		t.Errorf("after a new start: %+v", all)
	}
}

// An operation ends when what it wrote has come to rest, and After is not before that.
func TestOperationWaitsForItsVersions(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	settle(t, tree, ino)
	who := shell(t)
	op := tree.Operate(who)
	h, err := tree.Open(ino, unix.O_WRONLY|unix.O_TRUNC, who)
	op.End(err, OpChange{Verb: OpWritten, Ino: ino})
	check(t, err)
	check(t, tree.ops.endIdle(time.Now().Add(opWaiting/2)))
	if n := tree.ops.count(); n != 1 {
		t.Fatalf("%d operations are at work", n)
	}
	writeAll(t, h, "two")
	check(t, h.Close())
	settle(t, tree, ino)
	check(t, tree.ops.endIdle(time.Now().Add(opWaiting/2)))
	if n := tree.ops.count(); n != 0 {
		t.Fatalf("%d operations are at work", n)
	}
	all := endOps(t, tree)
	v := must[*version](t)(newestVersion(tree.db, ino, noLimit))
	if len(all) != 1 || all[0].After < v.at || all[0].ID >= v.at {
		t.Errorf("%+v; its version is of %s", all, v.at)
	}
}

func TestNamedOperation(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	who := shell(t)
	makeFile(t, tree, who, sharefs.RootIno, "a", "x")
	tree.NameOperation(who, "undo 7")
	makeFile(t, tree, who, sharefs.RootIno, "b", "x")
	all := endOps(t, tree)
	if len(all) != 2 || all[0].Label != "undo 7" || all[0].Counts.Made != 1 || all[1].Label != "" {
		t.Errorf("%+v", all)
	}
}

// What comes of a decision is one operation, whatever else is done meanwhile: for this host, for another decision, for others, and of what others did by a decision.
func TestOperationOfADecision(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	tree.cfg.Peer = sharefs.PeerID{1}
	as := func(by Cause, name string) {
		t.Helper()
		op := tree.OperateFor(by, 0)
		a, err := tree.Mkdir(sharefs.RootIno, name, 0o755, Caller{})
		op.End(err, OpChange{Verb: OpMade, Ino: a.Ino, Parent: sharefs.RootIno, Name: name, Dir: true})
		check(t, err)
	}
	own, other := Cause{Author: tree.cfg.Peer}, Cause{Author: sharefs.PeerID{2}}
	one, two, let := own, own, other
	one.Decision, one.Command = 1, "sharefs accept bert"
	two.Decision, two.Command = 2, "sharefs accept bert"
	let.Decision, let.Command = 3, "sharefs held accept bert"
	for i, by := range []Cause{own, one, other, two, one, let, own, two, one, let} {
		as(by, fmt.Sprint(i))
	}
	var got []string
	for _, o := range endOps(t, tree) {
		got = append(got, fmt.Sprintf("%s %d %v", o.Command, o.Counts.Made, o.Author == sharefs.PeerID{2}))
	}
	if want := []string{" 2 true", "sharefs accept bert 2 false", " 1 true", "sharefs accept bert 3 false", decision + " 2 false"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

func FuzzDecodeOperation(f *testing.F) {
	full := Operation{ID: 1, After: 2, UID: 3, Process: 4, Command: "rm -rf x", Label: "undo", Counts: sharefs.OpCounts{Made: 1, Removed: 2, Renamed: 3, Linked: 4, Written: 5, Attributes: 6}, Ended: true, Partly: true}
	f.Add(full.encode(), (&OpChange{Verb: OpMade, Ino: 5, Parent: 6, Name: "n"}).appendTo(nil))
	f.Add([]byte{opFormat, 0}, []byte{byte(OpWritten), 5, 0, 0})
	f.Fuzz(func(t *testing.T, row, part []byte) {
		if o, err := decodeOperation(1, row); err == nil {
			if again, err := decodeOperation(1, o.encode()); err != nil || *again != *o {
				t.Errorf("%+v reads as %+v, %v", o, again, err)
			}
		}
		if list, err := decodeOpChanges(part); err == nil {
			var b []byte
			for i := range list {
				b = list[i].appendTo(b)
			}
			if again, err := decodeOpChanges(b); err != nil || !slices.Equal(again, list) {
				t.Errorf("%+v reads as %+v, %v", list, again, err)
			}
		}
		if r, err := decodeTrashed(trashKey(1, 2), row); err == nil && (r.Before != 1 || r.Ino != 2) {
			t.Errorf("%+v", r)
		}
	})
}

func TestLookAt(t *testing.T) {
	me := lookAt(uint32(os.Getpid()))
	if me.id != uint32(os.Getpid()) || int(me.group) != unix.Getpgrp() || me.command == "" {
		t.Errorf("%+v", me)
	}
	if gone := lookAt(1 << 30); gone.id != 1<<30 || gone.group != 0 || gone.command != "" {
		t.Errorf("%+v", gone)
	}
}

// The paths of an operation's changes are those before it and those after it, also where what lay above was moved as well.
func TestOperationPaths(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	who := shell(t)
	dir := makeDir(t, tree, who, sharefs.RootIno, "dir")
	sub := makeDir(t, tree, who, dir, "sub")
	edited := makeFile(t, tree, who, sub, "edited", "1")
	gone := makeFile(t, tree, who, sub, "gone", "2")
	moved := makeFile(t, tree, who, sub, "moved", "3")
	for _, ino := range []sharefs.Ino{edited, gone, moved} {
		settle(t, tree, ino)
	}
	endOps(t, tree)

	who = shell(t)
	rename := func(p sharefs.Ino, from string, q sharefs.Ino, to string) {
		did(t, tree, who, func() error { return tree.Rename(p, from, q, to, 0) },
			OpChange{Verb: OpRenamedFrom, Parent: p, Name: from}, OpChange{Verb: OpRenamedTo, Parent: q, Name: to})
	}
	rename(sub, "moved", sharefs.RootIno, "out")
	rename(sharefs.RootIno, "dir", sharefs.RootIno, "box")
	did(t, tree, who, func() error { return tree.Unlink(sub, "gone") }, OpChange{Verb: OpRemoved, Parent: sub, Name: "gone"})
	mode := uint32(0o600)
	did(t, tree, who, func() error {
		_, err := tree.Setattr(edited, &SetAttr{Mode: &mode}, who)
		return err
	}, OpChange{Verb: OpAttributes, Ino: edited})
	makeFile(t, tree, who, dir, "new", "4")
	did(t, tree, who, func() error { return tree.Rename(dir, "new", dir, "newer", 0) },
		OpChange{Verb: OpRenamedFrom, Parent: dir, Name: "new"}, OpChange{Verb: OpRenamedTo, Parent: dir, Name: "newer"})

	all := endOps(t, tree)
	o, changes, err := tree.Operation(all[0].ID)
	check(t, err)
	got, _, err := tree.OperationPaths(o, changes, nil)
	check(t, err)
	want := []OpPath{
		{Verb: OpRenamedTo, After: "box/newer"},
		{Verb: OpRenamedFrom, Before: "dir"},
		{Verb: OpRenamedTo, Before: "dir", After: "box", Moved: true},
		{Verb: OpAttributes, Before: "dir/sub/edited", After: "box/sub/edited"},
		{Verb: OpRemoved, Before: "dir/sub/gone"},
		{Verb: OpRenamedFrom, Before: "dir/sub/moved"},
		{Verb: OpRenamedTo, Before: "dir/sub/moved", After: "out", Moved: true},
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%+v is missing", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%+v", got)
	}
}

// Names in directories that somebody may not enter are not told, be it that another name of the same file may be; wherever the kernel found it last.
func TestOperationPathsThatMayBeTold(t *testing.T) {
	for _, found := range []string{"nowhere", "open", "closed"} {
		tree := testTree(t, t.TempDir(), byHand)
		who := shell(t)
		dirs := map[string]sharefs.Ino{}
		for _, name := range []string{"closed", "open", "empty"} {
			dirs[name] = makeDir(t, tree, who, sharefs.RootIno, name)
		}
		secret := makeDir(t, tree, who, dirs["closed"], "secret")
		both := makeFile(t, tree, who, secret, "hidden name", "1")
		_, err := tree.Link(both, dirs["open"], "name")
		check(t, err)
		alone := makeFile(t, tree, who, dirs["closed"], "alone", "2")
		for _, ino := range []sharefs.Ino{both, alone} {
			settle(t, tree, ino)
		}
		endOps(t, tree)
		if found == "nowhere" {
			tree.whereabouts.note(both, dirs["empty"]) // it has left it
		} else {
			dir, name := dirs["open"], "name"
			if found == "closed" {
				dir, name = secret, "hidden name"
			}
			_, err := tree.Lookup(dir, name)
			check(t, err)
		}

		who = shell(t)
		mode := uint32(0o600)
		for _, ino := range []sharefs.Ino{both, alone, secret, dirs["open"]} {
			did(t, tree, who, func() error {
				_, err := tree.Setattr(ino, &SetAttr{Mode: &mode}, who)
				return err
			}, OpChange{Verb: OpAttributes, Ino: ino})
		}
		makeFile(t, tree, who, secret, "new", "3")
		makeFile(t, tree, who, dirs["open"], "new", "4")
		o, changes, err := tree.Operation(endOps(t, tree)[0].ID)
		check(t, err)
		if i := slices.IndexFunc(changes, func(c OpChange) bool { return c.Ino == both }); i < 0 || (changes[i].Parent == secret) != (found == "closed") {
			t.Errorf("found %s: %+v", found, changes)
		}
		for _, shut := range []sharefs.Ino{dirs["closed"], secret} {
			got, all, err := tree.OperationPaths(o, changes, func(dir *sharefs.Attr, _ []byte, _ bool) bool { return dir.Ino != shut })
			check(t, err)
			want := []OpPath{
				{Verb: OpMade, After: "open/new"}, {Verb: OpAttributes, Before: "open", After: "open"},
				{Verb: OpAttributes, Before: "open/name", After: "open/name"},
			}
			if shut == secret {
				want = append(want, OpPath{Verb: OpAttributes, Before: "closed/alone", After: "closed/alone"})
			}
			for _, w := range want {
				if !slices.Contains(got, w) {
					t.Errorf("found %s: %+v is missing", found, w)
				}
			}
			if len(got) != len(want) || all {
				t.Errorf("found %s: %+v, all %v", found, got, all)
			}
		}
		// To search it is enough to tell what one did there oneself, not what else is there.
		got, all, err := tree.OperationPaths(o, changes, func(dir *sharefs.Attr, _ []byte, read bool) bool { return !read || dir.Ino != dirs["open"] })
		check(t, err)
		if !all || !slices.Contains(got, OpPath{Verb: OpMade, After: "open/new"}) ||
			!slices.Contains(got, OpPath{Verb: OpAttributes, Before: "closed/secret/hidden name", After: "closed/secret/hidden name"}) {
			t.Errorf("found %s: %+v", found, got)
		}
		got, all, err = tree.OperationPaths(o, changes, nil)
		check(t, err)
		if len(got) != 6 || !all {
			t.Errorf("found %s: %+v", found, got)
		}
		none, all, err := tree.OperationPaths(o, changes, func(*sharefs.Attr, []byte, bool) bool { return false })
		check(t, err)
		if len(none) != 0 || all {
			t.Errorf("found %s: %+v", found, none)
		}
	}
}

// What one command closed is a version of its own when another command changes the file at once.
func TestRestBeforeAnotherCommand(t *testing.T) {
	tree := testTree(t, t.TempDir(), func(c *Config) {
		byHand(c)
		c.Settle = time.Hour
	})
	one, two, three := shell(t), shell(t), shell(t)
	write := func(who Caller, ino sharefs.Ino, text string) {
		op := tree.Operate(who)
		op.Rest(ino)
		h, err := tree.Open(ino, unix.O_WRONLY|unix.O_TRUNC, who)
		op.End(err, OpChange{Verb: OpWritten, Ino: ino})
		check(t, err)
		writeAll(t, h, text)
		check(t, h.Close())
	}
	ino := makeFile(t, tree, one, sharefs.RootIno, "f", "a")
	write(one, ino, "b") // the same command: joined
	write(two, ino, "c")
	write(three, ino, "d")
	op := tree.Operate(shell(t))
	op.RestName(sharefs.RootIno, "f")
	op.End(tree.Unlink(sharefs.RootIno, "f"), OpChange{Verb: OpRemoved, Parent: sharefs.RootIno, Name: "f"})
	wantHistory(t, tree, ino, "b", "c", "d")
	var before []string
	for _, o := range endOps(t, tree) {
		v := must[*View](t)(tree.ViewAt(o.ID))
		if r, err := v.Open(ino); err == nil {
			b := must[[]byte](t)(io.ReadAll(io.NewSectionReader(r, 0, r.Size())))
			before = append(before, string(b))
			r.Close()
		}
	}
	if want := []string{"d", "c", "b"}; !slices.Equal(before, want) {
		t.Errorf("before the operations the file held %q", before)
	}
}

// The clock of the disk may be behind that of the daemon: a view does not show a file as older than it is.
func TestViewOfDiskWithASlowClock(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := makeFile(t, tree, shell(t), sharefs.RootIno, "f", "a")
	early := time.Now().Add(-time.Second)
	check(t, os.Chtimes(tree.live.path+"/"+tree.live.name(ino), early, early))
	at := tree.clock.Next()
	settle(t, tree, ino)
	live := must[sharefs.Attr](t)(tree.Getattr(ino))
	v := must[*View](t)(tree.ViewAt(at))
	if past, err := v.Getattr(ino); err == nil && past.Mtime != live.Mtime {
		t.Errorf("%d in the view, %d live", past.Mtime, live.Mtime)
	}
}

// What one task does for several users are several operations: nobody is told of the others' names.
func TestOperationsOfOneTaskForSeveralUsers(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	who := shell(t)
	for i, name := range []string{"a", "b", "c", "d"} {
		who.UID = uint32(1000 + i%2)
		makeFile(t, tree, who, sharefs.RootIno, name, "x")
	}
	all := endOps(t, tree)
	if len(all) != 2 || all[0].UID == all[1].UID || all[0].Counts.Made != 2 || all[1].Counts.Made != 2 {
		t.Errorf("%+v", all)
	}
}

// What a process wrote that cannot be told (of another PID namespace) is a version of its own before another changes the file.
func TestRestOfWhatNobodyKnows(t *testing.T) {
	tree := testTree(t, t.TempDir(), func(c *Config) {
		byHand(c)
		c.Settle = time.Hour
	})
	ino := makeFile(t, tree, Caller{}, sharefs.RootIno, "f", "a")
	who := shell(t)
	op := tree.Operate(who)
	op.Rest(ino)
	h, err := tree.Open(ino, unix.O_WRONLY|unix.O_TRUNC, who)
	op.End(err, OpChange{Verb: OpWritten, Ino: ino})
	check(t, err)
	writeAll(t, h, "b")
	check(t, h.Close())
	op = tree.Operate(Caller{})
	op.Rest(ino)
	op.End(nil)
	wantHistory(t, tree, ino, "a", "b")
	all := endOps(t, tree)
	if len(all) != 1 || all[0].Counts != (sharefs.OpCounts{Written: 1}) {
		t.Fatalf("%+v", all)
	}
}

// Of a file that others have open for writing nobody can tell what it held before the operation, also when these have long ended.
func TestUnsureOfWhatIsBeingWritten(t *testing.T) {
	for _, long := range []bool{false, true} {
		tree := testTree(t, t.TempDir(), byHand)
		writer, who := shell(t), shell(t)
		op := tree.Operate(writer)
		a, open, err := tree.Create(sharefs.RootIno, "log", unix.O_WRONLY, 0o644, writer)
		op.End(err, OpChange{Verb: OpMade, Ino: a.Ino, Parent: sharefs.RootIno, Name: "log"})
		check(t, err)
		writeAll(t, open, "one")
		if long {
			endOps(t, tree)
		}
		op = tree.Operate(who)
		op.Rest(a.Ino)
		h, err := tree.Open(a.Ino, unix.O_WRONLY, who)
		op.End(err, OpChange{Verb: OpWritten, Ino: a.Ino})
		check(t, err)
		check(t, h.Close())
		op = tree.Operate(who)
		op.RestName(sharefs.RootIno, "log")
		op.End(tree.Unlink(sharefs.RootIno, "log"), OpChange{Verb: OpRemoved, Parent: sharefs.RootIno, Name: "log"})
		all := endOps(t, tree)
		o, changes, err := tree.Operation(all[0].ID)
		check(t, err)
		if n := len(slices.DeleteFunc(slices.Clone(changes), func(c OpChange) bool { return c.Verb != OpUnsure || c.Ino != a.Ino })); n != 1 {
			t.Errorf("%+v", changes)
		}
		paths, _, err := tree.OperationPaths(o, changes, nil)
		check(t, err)
		if !slices.Contains(paths, OpPath{Verb: OpUnsure, Before: "log"}) {
			t.Errorf("%+v", paths)
		}
		check(t, open.Close())
	}
}

// All changes of a long operation are written, in as many rows as it takes, and what is kept in memory is let go.
func TestOperationOfManyChanges(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	who := shell(t)
	const many = 40_000
	op := tree.Operate(who)
	tree.ops.mu.Lock()
	for i := range many {
		tree.ops.note(op.p, OpChange{Verb: OpRenamedTo, Parent: sharefs.RootIno, Name: "a name that is quite long " + strconv.Itoa(i)})
	}
	tree.ops.mu.Unlock()
	op.End(nil, OpChange{Verb: OpRenamedFrom, Parent: sharefs.RootIno, Name: "before"})
	all := endOps(t, tree)
	if len(all) != 1 || all[0].Partly || !all[0].Ended {
		t.Fatalf("%+v", all)
	}
	makeFile(t, tree, shell(t), sharefs.RootIno, "later", "")
	if both := endOps(t, tree); len(both) != 2 || both[1].ID != all[0].ID {
		t.Errorf("%+v", both)
	}
	_, changes, err := tree.Operation(all[0].ID)
	check(t, err)
	if len(changes) != many+1 || changes[many-1].Name != "a name that is quite long "+strconv.Itoa(many-1) || changes[many].Name != "before" {
		t.Errorf("%d changes", len(changes))
	}
	if tree.ops.total != 0 {
		t.Errorf("%d are counted still", tree.ops.total)
	}
}

// The rows of a name are those that a look at all of them finds, whatever came and went.
func TestTrashByName(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	r := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "c"}
	var last []Trashed
	for step := range 60 {
		who, name := shell(t), names[r.IntN(len(names))]
		settle(t, tree, makeFile(t, tree, who, sharefs.RootIno, name, "x"))
		endOps(t, tree)
		who = shell(t)
		did(t, tree, who, func() error { return tree.Unlink(sharefs.RootIno, name) }, OpChange{Verb: OpRemoved, Parent: sharefs.RootIno, Name: name})
		if r.IntN(3) > 0 {
			endOps(t, tree)
		}
		for range r.IntN(3) {
			if len(last) > 0 {
				d := last[r.IntN(len(last))]
				check(t, tree.Untrash(d.Before, d.Ino)) // it may have gone already
			}
		}
		last = last[:0]
		check(t, tree.Trash("", func(d Trashed) bool { last = append(last, d); return true }))
		for _, name := range append(names, "none") {
			var got []Trashed
			check(t, tree.Trash(name, func(d Trashed) bool { got = append(got, d); return true }))
			want := slices.DeleteFunc(slices.Clone(last), func(d Trashed) bool { return d.Name != name })
			if !slices.Equal(got, want) {
				t.Fatalf("step %d: %q: %+v, in all %+v", step, name, got, want)
			}
		}
	}
	if len(last) < 5 {
		t.Errorf("only %d in the trash", len(last))
	}
}

func BenchmarkOperate(b *testing.B) {
	tree := testTree(b, b.TempDir(), byHand)
	who := shell(b)
	ino := makeFile(b, tree, who, sharefs.RootIno, "f", "x")
	for _, c := range []struct {
		name   string
		change OpChange
	}{
		{"write", OpChange{Verb: OpWritten, Ino: ino}},
		{"unlink", OpChange{Verb: OpRemoved, Parent: sharefs.RootIno, Name: "f"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				op := tree.Operate(who)
				op.Rest(ino)
				op.End(nil, c.change)
			}
		})
	}
}
