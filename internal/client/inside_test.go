package client

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPathsFromTheWorkingDirectory(t *testing.T) {
	point, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const odd = "docs/a [b]*"
	if err := os.MkdirAll(filepath.Join(point, odd, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(point, "docs"), link); err != nil {
		t.Fatal(err)
	}
	m := &Mount{Point: point}
	for _, c := range []struct{ dir, path, want, pattern string }{
		{"", "photos", "photos", "photos"},
		{"", "./photos/", "photos", "photos"},
		{"", ".", "", ""},
		{"", "/", "", ""},
		{"", "**/*.key", "**/*.key", "**/*.key"},
		{"docs", ".", "docs", "docs"},
		{"docs", "..", "", ""},
		{"docs", "f $x", "docs/f $x", "docs/f $x"},
		{"docs", "**/*.key", "docs/**/*.key", "docs/**/*.key"},
		{"docs", "/photos", "photos", "photos"},
		{"docs", point + "/photos", "photos", "photos"},
		{"docs", point, "", ""},
		{"docs", "../photos//x", "photos/x", "photos/x"},
		{odd, "f", odd + "/f", `docs/a \[b]\*/f`},
		{odd, "../*", "docs/*", "docs/*"},
		{odd, "sub/../f", odd + "/f", `docs/a \[b]\*/f`},
		{link, "f", "docs/f", "docs/f"},
		{"/", "f", "f", "f"}, // of the one mount that there is
		{"docs", "../..", "!outside of the mount", "!outside of the mount"},
		{"docs", "/proc/self/comm", "!outside of the mount", "!outside of the mount"},
		{"docs", "*/../f", "docs/f", "!above a wildcard"},
	} {
		t.Chdir(map[bool]string{true: c.dir, false: filepath.Join(point, c.dir)}[filepath.IsAbs(c.dir)])
		for of, from := range map[string]func(string) (string, error){c.want: m.FromRoot, "pattern " + c.pattern: m.PatternFromRoot} {
			want := strings.TrimPrefix(of, "pattern ")
			got, err := from(c.path)
			if text, fails := strings.CutPrefix(want, "!"); fails {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("%s in %s: %q, %v", c.path, c.dir, got, err)
				}
			} else if got != want || err != nil {
				t.Errorf("%s in %s: %q, not %q: %v", c.path, c.dir, got, want, err)
			}
		}
	}
	t.Chdir(filepath.Join(point, odd))
	for _, path := range []string{"photos", "proc/self", odd + "/sub", "etc"} {
		if got, err := m.FromRoot(m.Anywhere(path)); got != path || err != nil {
			t.Errorf("%s comes back as %q: %v", path, got, err)
		}
	}
}
