package tier

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/integration/s3server"
)

// tool runs sharefs and returns what it wrote on both streams, and its exit status.
func tool(t *testing.T, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	cmd := exec.Command(mounttest.Bin(t, "sharefs"), args...)
	var out, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaints
	var failed *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return out.String(), complaints.String(), cmd.ProcessState.ExitCode()
}

// What can be wrong with a sheet, a bucket or the place for a store is said, in words that lead on; and what a bucket lacks is named, while the rest comes.
func TestRecoveryThatCannotBe(t *testing.T) {
	server := s3server.Start(t, "bucket")
	m := mount(t, server.Section("bucket/one"))
	write(t, m, "a", "text of a")
	m.InBucketAtOnce()
	root := filepath.Join(server.Files("bucket"), "one", "root")
	early, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	write(t, m, "a", "text of a, later")
	m.InBucketAtOnce()
	write(t, m, "b", strings.Repeat("text of b\n", 1000))
	m.InBucketAtOnce()
	other := mount(t, server.Section("bucket/two"))
	write(t, other, "b", "text")
	other.InBucketAtOnce()

	dir := mounttest.TempDir(t)
	sheet := filepath.Join(dir, "sheet")
	out, _, exit := tool(t, "recovery", "--store", m.Store, "--json")
	var printed struct {
		Words   [][]string
		Line    string
		Bucket  string
		Printed []string `json:"printed_before"`
	}
	if err := json.Unmarshal([]byte(out), &printed); err != nil || exit != 0 || len(printed.Words) != 8 || printed.Bucket != server.URL("bucket/one") || printed.Printed == nil {
		t.Fatalf("%d, %v: %s", exit, err, out)
	}
	written := func() string {
		text := "bucket " + printed.Bucket + "\nregion " + s3server.Region + "\n"
		for i, line := range printed.Words {
			text += string(rune('1'+i)) + " " + strings.Join(line, " ") + "\n"
		}
		return text
	}
	text := written()
	keep := func(text string) {
		t.Helper()
		if err := os.WriteFile(sheet, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target := filepath.Join(dir, "new")
	fails := func(what, want string, more ...string) {
		t.Helper()
		args := append([]string{"recover", "--store", target, "--sheet", sheet, "--credentials", server.Credentials()}, more...)
		if _, complaint, exit := tool(t, args...); exit == 0 || !strings.Contains(complaint, want) {
			t.Errorf("%s: exit status %d, want %q\n%s", what, exit, want, complaint)
		}
		if _, err := os.Stat(target); err == nil {
			t.Fatalf("%s: there is a store", what)
		}
	}
	wrong := printed.Words[3][2]
	printed.Words[3][2] = "xx" + wrong // and not another place that has the word, too
	keep(written())
	printed.Words[3][2] = wrong
	fails("a wrong word", `word 3, "xx`+wrong+`", is not in the list; perhaps "`+wrong+`" as word 3 is meant`)
	keep(strings.Replace(text, "bucket/one", "bucket/two", 1))
	fails("another bucket on the sheet", "they do not go with the bucket")
	keep(printed.Line)
	fails("an empty prefix", "there is no store below this prefix", "--bucket", server.URL("bucket/three"))
	fails("no such bucket", "there is no such bucket", "--bucket", server.URL("none/one"))
	fails("another store", "with another share key than that of the sheet", "--bucket", server.URL("bucket/two"))
	fails("without credentials", "there are no credentials in", "--credentials", filepath.Join(dir, "none"))
	_, complaint, exit := tool(t, "recover", "--store", m.Store, "--sheet", sheet, "--credentials", server.Credentials())
	if exit == 0 || !strings.Contains(complaint, "is in use by process") {
		t.Errorf("a store that is mounted: %d, %s", exit, complaint)
	}
	m.Unmount() // it may write another root at any time
	late, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root, early, 0o644); err != nil {
		t.Fatal(err)
	}
	fails("an older root", "the bucket was put back from an older copy")
	if err := os.WriteFile(root, late, 0o644); err != nil {
		t.Fatal(err)
	}
	other.Unmount()
	_, complaint, exit = tool(t, "recover", "--store", other.Store, "--sheet", sheet, "--credentials", server.Credentials())
	if exit == 0 || !strings.Contains(complaint, "name an empty or a new directory") {
		t.Errorf("a store that is there: %d, %s", exit, complaint)
	}
	if os.Geteuid() == 0 {
		small := filepath.Join(dir, "small")
		if err := errors.Join(os.Mkdir(small, 0o700), unix.Mount("tmpfs", small, "tmpfs", 0, "size=64k")); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(small, unix.MNT_DETACH)
		m.Mount()
		write(t, m, "noise", string(noise(1, 300_000)))
		m.InBucketAtOnce()
		_, complaint, exit = tool(t, "recover", "--store", small+"/store", "--sheet", sheet, "--credentials", server.Credentials())
		if exit == 0 || !strings.Contains(complaint, "the disk has ") || !strings.Contains(complaint, "free some space") {
			t.Errorf("a disk that is too small: %d, %s", exit, complaint)
		}
		if err := os.Chown(filepath.Join(other.Store, "share.key"), 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if out, complaint, exit := tool(t, "recovery", "--store", other.Store); exit == 0 || out != "" || !strings.Contains(complaint, "only its owner may") {
			t.Errorf("the sheet of somebody else: %d, %s", exit, complaint)
		}
		m.Unmount()
	}

	// A pack is gone from the bucket.
	packs, err := filepath.Glob(filepath.Join(server.Files("bucket"), "one", "packs", "*", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("%q, %v", packs, err)
	}
	for _, path := range packs {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	out, complaint, exit = tool(t, "recover", "--store", target, "--sheet", sheet, "--credentials", server.Credentials())
	for _, want := range []string{"Missing in the bucket: packs/", `Lost: "a": its content is gone`, `Lost: "b": its content is gone`} {
		if exit != 3 || !strings.Contains(out, want) {
			t.Errorf("without a pack: %d, want %q in\n%s%s", exit, want, out, complaint)
		}
	}
	if strings.Contains(out, "Nothing is missing") {
		t.Error(out)
	}
}

// A recovery that was interrupted behind meta.db goes on with what is here: nothing is fetched over it or taken away, and a state that somebody has put into the bucket since
// is not taken for its own.
func TestRecoveryInterruptedLate(t *testing.T) {
	server := s3server.Start(t, "bucket")
	m := mount(t, server.Section("bucket/late"))
	write(t, m, "a", "text of a")
	m.InBucketAtOnce()
	m.Unmount()
	out, _, exit := tool(t, "recovery", "--store", m.Store, "--json")
	var printed struct{ Line string }
	if err := json.Unmarshal([]byte(out), &printed); err != nil || exit != 0 {
		t.Fatalf("%d, %v: %s", exit, err, out)
	}
	dir := mounttest.TempDir(t)
	sheet, target := filepath.Join(dir, "sheet"), filepath.Join(dir, "new")
	if err := os.WriteFile(sheet, []byte(printed.Line), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, complaint, exit := tool(t, "recover", "--store", target, "--sheet", sheet, "--credentials", server.Credentials()); exit != 0 {
		t.Fatalf("%d\n%s%s", exit, out, complaint)
	}
	// As if it had been killed just before it was done.
	note, err := json.Marshal(map[string]string{"sheet": printed.Line, "credentials": server.Credentials()})
	if err != nil {
		t.Fatal(err)
	}
	again := func(more ...string) (string, string, int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(target, "recovering"), note, 0o600); err != nil {
			t.Fatal(err)
		}
		return tool(t, append([]string{"recover", "--store", target}, more...)...)
	}
	stray := filepath.Join(target, "checkpoints", "made since")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, complaint, exit := again(); exit != 0 || !strings.Contains(out, "an earlier call has fetched") {
		t.Errorf("%d\n%s%s", exit, out, complaint)
	}
	if err := os.Remove(stray); err != nil {
		t.Error("what was made since the fetch is gone: ", err)
	}
	m.Mount()
	write(t, m, "b", "text of b")
	m.InBucketAtOnce()
	m.Unmount()
	if out, complaint, exit := again(); exit == 0 || !strings.Contains(complaint, "finish the earlier state with --force") {
		t.Errorf("%d\n%s%s", exit, out, complaint)
	}
	if out, complaint, exit := again("--force"); exit != 0 {
		t.Errorf("%d\n%s%s", exit, out, complaint)
	}
}

func TestNoSheetWithoutABucket(t *testing.T) {
	m := mount(t, "")
	if out, complaint, exit := tool(t, "recovery", "--store", m.Store); exit == 0 || out != "" || !strings.Contains(complaint, "the store is kept in no bucket") {
		t.Errorf("%d, %s, %s", exit, out, complaint)
	}
	none := filepath.Join(mounttest.TempDir(t), "none")
	if _, complaint, exit := tool(t, "recovery", "--store", none); exit == 0 || !strings.HasPrefix(complaint, "sharefs: ") || !strings.Contains(complaint, none+": there is no such store") {
		t.Errorf("%d, %s", exit, complaint)
	}
}
