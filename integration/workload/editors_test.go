package workload

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// saves are ways in which programs replace a file's content. Each gets the file, and the new content in another file outside the mount.
var saves = []struct {
	name string
	run  func(p program, file, content string)
}{
	{"cp", func(p program, file, content string) { p.run("cp", content, file) }},
	{"cp --remove-destination", func(p program, file, content string) { p.run("cp", "--remove-destination", content, file) }},
	{"mv", func(p program, file, content string) {
		p.run("cp", content, file+".tmp")
		p.run("mv", file+".tmp", file)
	}},
	{"sed -i", func(p program, file, content string) {
		p.run("sed", "-i", "-e", "1r "+content, "-e", "d", file)
	}},
	{"rsync", func(p program, file, content string) { p.run("rsync", "--checksum", content, file) }},
	{"rsync --inplace", func(p program, file, content string) { p.run("rsync", "--checksum", "--inplace", content, file) }},
	{"tar x", func(p program, file, content string) {
		dir, err := os.MkdirTemp("", "tar")
		if err != nil {
			p.t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		p.run("cp", content, filepath.Join(dir, filepath.Base(file)))
		p.run("tar", "-C", dir, "-cf", filepath.Join(dir, "a.tar"), filepath.Base(file))
		p.run("tar", "-C", filepath.Dir(file), "-xf", filepath.Join(dir, "a.tar"))
	}},
	{"vim", vim("")},
	{"vim, backup by renaming", vim("set backup backupcopy=no")},
	{"vim, backup by copying", vim("set backup backupcopy=yes")},
	{"shell", func(p program, file, content string) { p.run("sh", "-c", `cat "$1" > "$0"`, file, content) }},
	{"dd", func(p program, file, content string) { p.run("dd", "status=none", "if="+content, "of="+file) }},
}

func vim(settings string) func(p program, file, content string) {
	return func(p program, file, content string) {
		text, err := os.ReadFile(content)
		if err != nil {
			p.t.Fatal(err)
		}
		p.run("vim", "-u", "NONE", "-i", "NONE", "-n", "-es", "-c", settings, "-c", "%s/.*/"+strings.TrimSpace(string(text))+"/", "-c", "wq", file)
	}
}

// TestSaves saves a file in every way, one after the other. The history of the name goes on through all of them, and each version is what was saved.
func TestSaves(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		p := in(t, m, "work")
		file := filepath.Join(p.dir, "file.txt")
		outside := mounttest.TempDir(t)
		text := func(i int) string { return fmt.Sprintf("saved as number %d\n", i) }
		var want []string
		save := func(name string, run func(p program, file, content string)) {
			t.Helper()
			content := filepath.Join(outside, fmt.Sprint(len(want)))
			if err := os.WriteFile(content, []byte(text(len(want))), 0o644); err != nil {
				t.Fatal(err)
			}
			run(p, file, content)
			got, err := os.ReadFile(file)
			if err != nil || string(got) != text(len(want)) {
				t.Fatalf("%s left %q, %v", name, got, err)
			}
			want = append(want, name)
			m.Settled()
		}
		save("cp", saves[0].run)
		for _, s := range saves {
			save(s.name, s.run)
		}
		check := func(when string) {
			t.Helper()
			versions := len(mounttest.Versions(t, file))
			if versions != len(want) {
				t.Errorf("%s: %d versions of %d saves", when, versions, len(want))
			}
			for i, name := range want {
				got, err := os.ReadFile(fmt.Sprintf("%s@@%d", file, i+1))
				if err != nil || string(got) != text(i) {
					t.Errorf("%s: version %d, saved by %s, is %q, %v", when, i+1, name, got, err)
				}
			}
		}
		check("at once")
		m.Remount()
		check("after a remount")
		// Each save opens what is to be the file once for writing, so that the settle time decides nothing but how long this takes.
	}, mounttest.Options("settle=100ms"))
}
