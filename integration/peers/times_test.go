package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sharefs/integration/mounttest"
	where "sharefs/internal/client"
)

// mtime returns when a file was changed last, the zero time where there is none.
func (h *host) mtime(name string) time.Time {
	info, err := os.Lstat(h.Path(name))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// sameTime waits until a file was changed at the same time on two hosts, to the nanosecond.
func sameTime(t *testing.T, what, name string, a, b *host) {
	t.Helper()
	mounttest.WaitFor(t, what, func() bool {
		one, two := a.mtime(name), b.mtime(name)
		return !one.IsZero() && one.Equal(two)
	})
}

// timed waits until a file was changed at a time on all hosts.
func timed(t *testing.T, what, name string, at time.Time, hs ...*host) {
	t.Helper()
	for _, h := range hs {
		mounttest.WaitFor(t, what+" on "+h.name, func() bool { return h.mtime(name).Equal(at) })
	}
}

// touch sets the time of a file, as touch -d does.
func (h *host) touch(name string, at time.Time) {
	h.t.Helper()
	h.do(os.Chtimes(h.Path(name), time.Time{}, at))
}

var aTime = time.Unix(1_500_000_000, 123_456_789)

// runIn runs a program in a directory.
func runIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// The time of a file is the same on all hosts, that of its content and one that was set behind it.
func TestTimesTravel(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	a.write("file", "one")
	alike(t, "the beginning", hs, func(tree map[string]string) bool { return has(tree, "file", "one") })
	sameTime(t, "a new file", "file", a, b)
	b.write("file", "another")
	alike(t, "a change", hs, func(tree map[string]string) bool { return has(tree, "file", "another") })
	sameTime(t, "a change", "file", a, b)
	content := a.mtime("file")

	a.touch("file", aTime)
	timed(t, "touch -d", "file", aTime, hs...)
	b.touch("file", aTime.Add(time.Hour))
	timed(t, "touch -d by the other one", "file", aTime.Add(time.Hour), hs...)
	a.touch("file", content)
	timed(t, "the time of the content again", "file", content, hs...)
	a.touch("file", aTime)
	a.do(os.Chmod(a.Path("file"), 0o600))
	timed(t, "touch -d and chmod", "file", aTime, hs...)
	if n := b.versionsOf("file"); n != 2 {
		t.Errorf("the times made %d versions of two", n)
	}
	for i, h := range []*host{a, b} { // which opens the file for writing
		at := aTime.Add(time.Duration(i+1) * time.Minute)
		runIn(t, h.Dir, "touch", "-d", at.Format(time.RFC3339Nano), "file")
		timed(t, "touch(1) on "+h.name, "file", at, hs...)
		for _, of := range hs {
			mounttest.WaitFor(t, "a time that touch(1) set on "+h.name+" to be no version on "+of.name, func() bool { return of.versionsOf("file") == 2 })
		}
	}
	a.touch("file", aTime)
	timed(t, "touch -d again", "file", aTime, hs...)
	runIn(t, a.Dir, "cp", "-p", "file", "copy")
	timed(t, "cp -p", "copy", aTime, hs...)
	a.write("file", "newer")
	alike(t, "a newer content", hs, func(tree map[string]string) bool { return has(tree, "file", "newer") })
	sameTime(t, "a newer content", "file", a, b)
	if a.mtime("file").Equal(aTime) {
		t.Error("a new content has the time that was set behind the one before")
	}

	b.Kill()
	a.touch("file", aTime)
	b.Mount.Mount()
	connected(t, a, b)
	timed(t, "touch -d while the other one is not there", "file", aTime, hs...)
	a.touch("copy", aTime.Add(time.Minute))
	a.Kill()
	a.Mount.Mount()
	timed(t, "touch -d right before a kill", "copy", aTime.Add(time.Minute), hs...)
	b.Unmount()
	b.Mount.Mount()
	timed(t, "behind a remount", "file", aTime, hs...)
}

// What sets times behind the content, as rsync, tar and unzip do, finds nothing to do on the other host.
func TestTimesOfCopiedTrees(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	src := t.TempDir()
	a.do(os.MkdirAll(filepath.Join(src, "tree", "sub"), 0o755))
	var names []string
	for i := range 30 {
		name := fmt.Sprintf("tree/sub/%d", i)
		names = append(names, name)
		a.do(os.WriteFile(filepath.Join(src, name), []byte(strings.Repeat("x", i*500)), 0o644)) // the first is empty
		a.do(os.Chtimes(filepath.Join(src, name), time.Time{}, aTime.Add(time.Duration(i)*time.Second)))
	}
	ways := map[string]func(to string){
		"tar": func(to string) {
			a.do(os.Mkdir(a.Path(to), 0o755))
			runIn(t, src, "tar", "--format=posix", "-cf", "tree.tar", "tree")
			runIn(t, a.Path(to), "tar", "xf", filepath.Join(src, "tree.tar"))
		},
		"late": func(to string) { // after all is written and has travelled
			a.do(os.MkdirAll(a.Path(to+"/tree/sub"), 0o755))
			for i, name := range names {
				a.write(to+"/"+name, strings.Repeat("x", i*500))
			}
			alike(t, "the files", hs, func(tree map[string]string) bool {
				_, ok := tree[to+"/"+names[len(names)-1]]
				return ok
			})
			for i, name := range names {
				a.touch(to+"/"+name, aTime.Add(time.Duration(i)*time.Second))
			}
		},
	}
	if _, err := exec.LookPath("rsync"); err == nil {
		ways["rsync"] = func(to string) { runIn(t, src, "rsync", "-a", "tree", a.Path(to)+"/") }
	} else {
		t.Log("there is no rsync: scripts/deps test installs it")
	}
	for to, copies := range ways {
		copies(to)
	}
	for to := range ways {
		for i, name := range names {
			timed(t, to, to+"/"+name, aTime.Add(time.Duration(i)*time.Second), hs...)
		}
	}
	if ways["rsync"] != nil {
		if out := runIn(t, src, "rsync", "-rtpnOi", "tree", b.Path("rsync")+"/"); out != "" {
			t.Errorf("rsync has still to do on the other host:\n%s", out)
		}
	}
}

// Times that are set on both sides while they are apart are no conflict, and one of them wins; beside a content that is written on the other side one file comes.
func TestTimesSetApart(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	names := []string{"both", "touched", "written"}
	for _, name := range names {
		a.write(name, name)
	}
	alike(t, "the beginning", hs, func(tree map[string]string) bool { return len(tree) == 3 && has(tree, "written", "written") })
	b.Unmount()
	a.touch("both", aTime)
	a.touch("touched", aTime)
	a.write("written", "by anna")
	a.Settled()
	a.Unmount()
	b.Mount.Mount()
	b.touch("both", aTime.Add(time.Second))
	b.write("touched", "by bert")
	b.touch("written", aTime)
	b.Settled()
	a.Mount.Mount()
	connected(t, a, b)
	alike(t, "both sides' changes", hs, func(tree map[string]string) bool {
		return has(tree, "touched", "by bert") && has(tree, "written", "by anna")
	})
	for _, name := range names {
		sameTime(t, "the time of "+name, name, a, b)
	}
	timed(t, "who set the time last", "both", aTime.Add(time.Second), hs...)
	for _, h := range hs {
		if list := h.conflicts(); len(list) > 0 {
			t.Errorf("%s: %+v", h.name, list)
		}
	}
}

// A file that is not here has its time all the same, and setting it fetches nothing.
func TestTimesOfAbsentFiles(t *testing.T) {
	const size = 6 << 20
	a, b := spacious(t, "16MiB", true)
	text := random(1, size)
	a.do(os.WriteFile(a.Path("large"), text, 0o644))
	sameTime(t, "an absent file", "large", a, b)
	a.touch("large", aTime)
	timed(t, "touch -d", "large", aTime, a, b)
	b.touch("large", aTime.Add(time.Hour))
	timed(t, "touch -d where it is absent", "large", aTime.Add(time.Hour), a, b)
	if p := b.here("large"); p.State != where.HereAbsent || p.Size != size {
		t.Errorf("%+v", p)
	}
	b.holdsFile("large", text)
	timed(t, "when it was read", "large", aTime.Add(time.Hour), a, b)
}
