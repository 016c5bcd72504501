package doctor

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"sharefs/internal/client"
	"sharefs/internal/mountinfo"
	"sharefs/internal/mountpoint"
	"sharefs/internal/status"
)

func TestMain(m *testing.M) {
	mountpoint.ServeProbe()
	Serve()
	os.Exit(m.Run())
}

// A path in no mount is an error of who named it; what a child does not tell of is a finding about that path alone.
func TestWhatChildrenTell(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, "/proc/self/comm", dir + "/nowhere/x"} {
		if found, err := Examine(false, []string{path}); err == nil || !strings.Contains(err.Error(), path) || found != nil {
			t.Errorf("%s: %+v, %v", path, found, err)
		}
	}
	for err, want := range map[error]string{mountpoint.ErrHung: "/a did not answer all that was asked within 3 s", os.ErrClosed: "/a could not be looked at: " + os.ErrClosed.Error()} {
		if f := unanswered("/a", 3*time.Second, err); f.Grade != Wrong || f.Mount != "/a" || f.Found != want {
			t.Errorf("%+v", f)
		}
	}
}

func TestKernelReleases(t *testing.T) {
	for release, want := range map[string][2]int{"6.18.44-fc-v595": {6, 18}, "5.15.0-91-generic": {5, 15}, "6.9": {6, 9}, "x": {-1, 0}, "6": {-1, 0}} {
		major, minor, ok := parseKernel(release)
		if ok != (want[0] >= 0) || ok && (major != want[0] || minor != want[1]) {
			t.Errorf("%s: %d.%d, %v", release, major, minor, ok)
		}
	}
}

func TestFuseConf(t *testing.T) {
	for conf, want := range map[string]bool{
		"": false, "#user_allow_other\n": false, "mount_max = 10\nuser_allow_other\n": true, "  user_allow_other # yes": true, "user_allow_others": false,
	} {
		if got := allowsOther(conf); got != want {
			t.Errorf("%q: %v", conf, got)
		}
	}
}

func TestAStatusIsJudged(t *testing.T) {
	worst := func(s *status.Status) (g Grade, text string) {
		for _, f := range judge(s) {
			g = max(g, f.Grade)
			text += f.What + ": " + f.Found + "\n"
		}
		return g, text
	}
	s := &status.Status{Content: status.Content{Passthrough: true, SelfTest: status.Test{State: "passed", Detail: "x"}}}
	if g, text := worst(s); g != Good {
		t.Error(text)
	}
	s.Content.Passthrough, s.Content.Reason = false, "passthrough=off"
	if g, text := worst(s); g != Notice || !strings.Contains(text, "passthrough: off: passthrough=off") {
		t.Error(text)
	}
	s.Content.SelfTest.State = "failed"
	if g, text := worst(s); g != Wrong || !strings.Contains(text, "self-test: failed: x") {
		t.Error(text)
	}
	s.Content.SelfTest.State = "running"
	if g, _ := worst(s); g != Notice {
		t.Error("a test that runs is no notice")
	}
	s.Problems = []string{"the disk is full"}
	if g, text := worst(s); g != Wrong || !strings.Contains(text, "problem: the disk is full") {
		t.Error(text)
	}
}

func TestAMountThatEndsMeanwhileIsNotWrong(t *testing.T) {
	bad := []Finding{wrong("mount", "", "it has ended")}
	m := &client.Mount{Point: "/a b"}
	if got := unlessGone(bad, m, []client.Mount{{Point: "/a"}, {Point: "/a b"}}); got[0].Grade != Wrong {
		t.Errorf("%+v", got)
	}
	if got := unlessGone(bad, m, []client.Mount{{Point: "/a"}}); len(got) != 1 || got[0].Grade != Good || got[0].Found != "'/a b' was unmounted meanwhile" {
		t.Errorf("%+v", got)
	}
}

// A mount that ends between the list and its turn is no reason to tell nothing of the others.
func TestAMountThatEndsBeforeItsTurnIsNotWrong(t *testing.T) {
	e := lost(t.TempDir(), "it is in no ShareFS mount")
	if len(e.Findings) != 1 || e.Error != "" || e.Findings[0].Grade != Good || e.Findings[0].Mount != e.Mount {
		t.Errorf("%+v", e)
	}
}

func TestKindsOfDisk(t *testing.T) {
	for kind, want := range map[string]Grade{"ext4": Good, "xfs": Good, "overlay": Good, "tmpfs": Notice, "nfs4": Notice, mountinfo.Type: Notice} {
		if f := filesystem("/s", &mountinfo.Mount{Type: kind, Point: "/"}); f.Grade != want {
			t.Errorf("%s: %+v", kind, f)
		}
	}
	if f := disk("/proc/does/not/exist"); f.Found == "" {
		t.Error("nothing is said of a disk")
	}
}

func TestTheMachineIsLookedAtWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range machine() {
		if f.Found == "" || f.Grade == Wrong && f.Remedy == "" {
			t.Errorf("%+v", f)
		}
		seen[f.What] = true
	}
	for _, what := range []string{"kernel", "/dev/fuse", "fusermount3", "privileges", "allow_other", "open files", "inotify"} {
		if !seen[what] {
			t.Errorf("nothing is said of %s", what)
		}
	}
}

func TestGradesTravelAsWords(t *testing.T) {
	text, err := json.Marshal([]Grade{Good, Notice, Wrong})
	if err != nil || string(text) != `["ok","note","wrong"]` {
		t.Errorf("%s, %v", text, err)
	}
	var back []Grade
	if err := json.Unmarshal(text, &back); err != nil || len(back) != 3 || back[0] != Good || back[1] != Notice || back[2] != Wrong {
		t.Errorf("%v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`["fine"]`), &back); err == nil {
		t.Error("another word is a grade")
	}
}
