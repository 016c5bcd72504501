package cmdtest

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/integration/treetest"
)

// patient is a configuration by which no command becomes two operations on a slow machine.
const patient = "[versions]\npause = \"10m\"\n"

// typed runs a command as a shell with job control does: in a process group of its own.
func typed(t *testing.T, m *mounttest.Mount, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = m.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a := command(t, cmd); a.exit != 0 {
		t.Fatalf("%s: exit %d: %s%s", script, a.exit, a.err, a.out)
	}
}

// shape is what undo brings back: all but the times of directories, which change with the names in them.
func shape(t *testing.T, m *mounttest.Mount) map[string]string {
	t.Helper()
	moment(t, m) // what was closed is a version: stat tells the final times
	all := treetest.Describe(t, m.Dir)
	for p, text := range all {
		if strings.HasPrefix(text, "4") {
			fields := strings.SplitN(text, " ", 4)
			all[p] = strings.Join(append(fields[:2:2], fields[3:]...), " ")
		}
	}
	return all
}

func wantShape(t *testing.T, what string, m *mounttest.Mount, want map[string]string) {
	t.Helper()
	got := shape(t, m)
	if maps.Equal(got, want) {
		return
	}
	for p := range want {
		if got[p] != want[p] {
			t.Errorf("%s: %q is %q, should be %q", what, p, got[p], want[p])
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%s: %q is there", what, p)
		}
	}
}

// Whatever a command did, undo makes the tree what it was before it, and redo what it was after.
func TestUndo(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		m.Configure(patient)
		typed(t, m, `mkdir -p docs/sub other; for i in 1 2 3 4; do echo "file $i" > docs/f$i; done; echo deep > docs/sub/deep
			ln docs/f1 other/hard; ln -s ../docs/f2 other/link; echo x > "other/ä 'q' $(printf 'new\nline')"; head -c 300000 /dev/urandom > other/big
			chmod 640 docs/f3; mkfifo other/fifo; mkdir other/empty; touch -d 2001-02-03 docs/f4`)
		ok(t, unix.Setxattr(m.Path("docs/f2"), "user.x", []byte("y"), 0))
		for _, script := range []string{
			`rm other/hard; cp -a docs copy; rm -r docs; mv copy docs`,
			`rm -rf docs`,
			`mv docs elsewhere`,
			`mv docs/f1 docs/f2`,
			`mv docs/sub other/sub; echo more >> other/sub/deep`,
			`rm docs/f1; rm other/hard`,
			`echo changed > docs/f3; chmod 755 docs/f3; rm docs/f4; mkdir -p new/er; cp docs/f2 new/er/x; ln docs/f3 new/hard`,
			`: > other/big; truncate -s 100 docs/f3`,
			`rm other/link; mkdir other/link; echo in > other/link/f`,
			`rm -r other/empty; echo file > other/empty`,
			`touch -d 1999-01-01 docs/f1; chmod 700 docs`,
			`rm -f other/big other/link other/hard; mv docs/sub docs/bus; mv docs/bus docs/sub2; rmdir other/empty`,
			`for i in 1 2 3; do mv docs/f$i docs/t; mv docs/f4 docs/f$i; mv docs/t docs/f4; done`,
			`rm docs/f2; echo again > docs/f2`,
			`mv docs was; mkdir docs`,
			`mv docs was; mv other docs; echo more > docs/more`,
			`mv docs t; mv other docs; mv t other`,
		} {
			before := shape(t, m)
			typed(t, m, script)
			after := shape(t, m)
			if maps.Equal(before, after) && !strings.Contains(script, "cp -a") {
				t.Fatalf("%s changed nothing", script)
			}
			must(t, m.Dir, "undo", "--dry-run")
			wantShape(t, "dry run of undo after "+script, m, after)
			must(t, m.Dir, "undo")
			wantShape(t, "undo of "+script, m, before)
			must(t, m.Dir, "redo")
			wantShape(t, "redo of "+script, m, after)
			must(t, m.Dir, "undo")
			wantShape(t, "second undo of "+script, m, before)
			if t.Failed() {
				return
			}
		}
	})
}

// One of several commands is undone; what others did since stays, and what they changed of the same is not overwritten.
func TestUndoOne(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		m.Configure(patient)
		typed(t, m, `mkdir d; echo a > d/a; echo b > d/b`)
		moment(t, m)
		typed(t, m, `echo first > d/a; echo made > d/made`)
		moment(t, m)
		typed(t, m, `echo second > d/b`)
		moment(t, m)
		var list []struct {
			ID, Command string
			Counts      struct{ Made, Written uint64 }
		}
		text := must(t, m.Dir, "op", "log", "--json")
		ok(t, json.Unmarshal([]byte(text), &list))
		id := ""
		for _, o := range list {
			if strings.Contains(o.Command, "echo first") {
				id = o.ID
			}
		}
		if id == "" {
			t.Fatal(text)
		}
		if out := must(t, m.Dir, "op", "show", id); !strings.Contains(out, "written      d/a\n") || !strings.Contains(out, "made         d/made\n") {
			t.Error(out)
		}
		must(t, m.Dir, "undo", id)
		holds(t, m.Path("d/a"), "a\n")
		holds(t, m.Path("d/b"), "second\n")
		if _, err := os.Lstat(m.Path("d/made")); err == nil {
			t.Error("d/made is there")
		}
		must(t, m.Dir, "redo", id)
		holds(t, m.Path("d/a"), "first\n")
		typed(t, m, `echo third > d/a`)
		moment(t, m)
		refused(t, m.Dir, 1, "undo: changed again since 'sh -ec echo first > d/a; echo made > d/made': d/a; nothing was done (--force does it all the same, and keeps what is there as versions)",
			"undo", id)
		holds(t, m.Path("d/a"), "third\n")
		must(t, m.Dir, "undo", "--force", id)
		holds(t, m.Path("d/a"), "a\n")
		kept := false
		for _, n := range mounttest.Versions(t, m.Path("d/a")) {
			text, err := os.ReadFile(m.Path("d/a@@", strconv.Itoa(n)))
			kept = kept || err == nil && string(text) == "third\n"
		}
		if !kept {
			t.Error("what was overwritten is no version")
		}
		refused(t, m.Dir, 1, "2001-01-01T00:00:00.000Z: is no operation of yours; sharefs op log lists them", "undo", "2001-01-01T00:00:00.000Z")
		refused(t, m.Dir, 2, "too many arguments: b", "undo", "a", "b")
	})
}

// What others put into directories that changed names goes with them; what they put into one that is to go is told, and goes only if that is forced.
func TestUndoOfNamesOfDirectories(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		m.Configure(patient)
		last := func() string {
			var list []struct{ ID string }
			ok(t, json.Unmarshal([]byte(must(t, m.Dir, "op", "log", "--json")), &list))
			return list[0].ID
		}
		typed(t, m, `mkdir d o; echo a > d/a; echo o > o/o`)
		moment(t, m)
		typed(t, m, `mv d was; mv o d`)
		moment(t, m)
		renamed := last()
		typed(t, m, `echo w > was/since; echo d > d/since`)
		moment(t, m)
		must(t, m.Dir, "undo", renamed)
		for p, text := range map[string]string{"d/a": "a\n", "o/o": "o\n", "d/since": "w\n", "o/since": "d\n"} {
			holds(t, m.Path(p), text)
		}
		typed(t, m, `mv d was; mkdir d`)
		moment(t, m)
		renamed = last()
		typed(t, m, `echo n > d/n; echo x > was/x`)
		moment(t, m)
		refused(t, m.Dir, 1, "undo: directories are to go in which there is what does not belong to 'sh -ec mv d was; mkdir d': d/n; nothing was done "+
			"(move it elsewhere before, or --force removes it with them, and keeps what is there as versions)", "undo", renamed)
		holds(t, m.Path("d/n"), "n\n")
		must(t, m.Dir, "undo", "--force", renamed)
		holds(t, m.Path("d/a"), "a\n")
		holds(t, m.Path("d/x"), "x\n")
		if _, err := os.Lstat(m.Path("d/n")); err == nil {
			t.Error("d/n is there")
		}
	})
}

func TestNothingToUndo(t *testing.T) {
	m := mounttest.Start(t, mounttest.Modes(t)[0])
	refused(t, m.Dir, 1, "undo: there is nothing to undo; sharefs op log lists what was done", "undo")
	refused(t, m.Dir, 1, "redo: there is nothing to redo; sharefs op log lists what was done", "redo")
	if out := must(t, m.Dir, "op", "log"); out != "Nothing was changed yet.\n" {
		t.Errorf("%q", out)
	}
}

// What another program was writing to stays as it is: no version has what it held before the command.
func TestUndoLeavesWhatIsBeingWritten(t *testing.T) {
	m := mounttest.Start(t, mounttest.Modes(t)[0])
	m.Configure(patient)
	log, err := os.Create(m.Path("log"))
	ok(t, err)
	defer log.Close()
	_, err = log.WriteString("one\n")
	ok(t, err)
	typed(t, m, `echo two >> log; echo x > made`)
	ok(t, log.Close())
	moment(t, m)
	a := tool(t, m.Dir, "undo")
	if a.exit != 0 || !strings.Contains(a.out, "left as it is: log") {
		t.Errorf("exit %d: %s%s", a.exit, a.err, a.out)
	}
	if text, err := os.ReadFile(m.Path("log")); err != nil || string(text) != "one\ntwo\n" && string(text) != "two\n" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := os.Lstat(m.Path("made")); !os.IsNotExist(err) {
		t.Errorf("what it made is there: %v", err)
	}
}

// What a command had done when the daemon was killed can be undone after the next start.
func TestUndoAfterKill(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		m.Configure(patient)
		typed(t, m, `mkdir d; echo kept > d/kept`)
		before := shape(t, m)
		typed(t, m, `for i in 1 2 3 4 5 6 7 8 9; do echo $i > d/new$i; done; echo changed > d/kept`)
		moment(t, m) // the operation is known, and goes on
		m.Kill()
		m.Mount()
		must(t, m.Dir, "undo")
		wantShape(t, "undo after a kill", m, before)
	})
}

// Redo is of what was undone last, and not of what was undone before something else was done.
func TestRedoAfterOtherWork(t *testing.T) {
	m := mounttest.Start(t, mounttest.Modes(t)[0])
	m.Configure(patient)
	typed(t, m, `echo a > a`)
	moment(t, m)
	must(t, m.Dir, "undo")
	typed(t, m, `echo b > b`)
	moment(t, m)
	refused(t, m.Dir, 1, "redo: nothing was undone since something was changed last; sharefs redo OPERATION does an earlier one again, and sharefs op log lists them", "redo")
	must(t, m.Dir, "undo")
	must(t, m.Dir, "redo")
	holds(t, m.Path("b"), "b\n")
	if _, err := os.Lstat(m.Path("a")); err == nil {
		t.Error("a is there")
	}
}

// What the daemon itself writes is undone and done again as what programs write is.
func TestUndoOfARestoredVersion(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		m.Configure(patient)
		typed(t, m, `echo one > q`)
		moment(t, m)
		typed(t, m, `echo two, longer > q`)
		moment(t, m)
		typed(t, m, mounttest.Bin(t, "sharefs")+` restore q@@1`)
		holds(t, m.Path("q"), "one\n")
		for range 2 {
			must(t, m.Dir, "undo")
			holds(t, m.Path("q"), "two, longer\n")
			must(t, m.Dir, "redo")
			holds(t, m.Path("q"), "one\n")
		}
	})
}

// Undo of a switch goes back to the branch that was left, so that the next switch does not take what is there for the work on the other one.
func TestUndoOfASwitch(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		m.Configure(patient)
		tool := mounttest.Bin(t, "sharefs")
		typed(t, m, `mkdir d d/e; echo one > d/q; echo in > d/e/f`)
		moment(t, m)
		for _, at := range []struct{ path, file string }{{"d/q", "d/q"}, {"d/e", "d/e/f"}} {
			first, err := os.ReadFile(m.Path(at.file))
			ok(t, err)
			must(t, m.Dir, "branch", at.path, "alt")
			typed(t, m, `echo the work on main > `+at.file)
			moment(t, m)
			on := func(branch, text string) {
				t.Helper()
				holds(t, m.Path(at.file), text)
				var list struct{ Branch string }
				decode(t, must(t, m.Dir, "branch", at.path, "--json"), &list)
				if list.Branch != branch {
					t.Errorf("%s is on branch %q, should be on %q", at.path, list.Branch, branch)
				}
			}
			typed(t, m, tool+` switch `+at.path+` alt`)
			on("alt", string(first))
			must(t, m.Dir, "undo")
			on("main", "the work on main\n")
			must(t, m.Dir, "redo")
			on("alt", string(first))
			must(t, m.Dir, "undo")
			on("main", "the work on main\n")
			must(t, m.Dir, "switch", at.path, "alt")
			on("alt", string(first))
			must(t, m.Dir, "switch", at.path, "main")
			on("main", "the work on main\n")
		}
	})
}

// From within a directory what is undone is named as it is seen from there.
func TestUndoNamesWhatIsHere(t *testing.T) {
	m := mounttest.Start(t, mounttest.Modes(t)[0])
	m.Configure(patient)
	typed(t, m, `mkdir -p d/e; echo one > d/q; echo one > d/e/f; echo one > top`)
	moment(t, m)
	typed(t, m, `rm d/q d/e/f top`)
	out := must(t, m.Path("d"), "undo")
	for _, name := range []string{"q", "e/f", "../top"} {
		if !strings.Contains(out, "created     "+name+"\n") {
			t.Errorf("%q is not named in:\n%s", name, out)
		}
	}
}
