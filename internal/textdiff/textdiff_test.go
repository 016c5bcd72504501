package textdiff

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// apply is the slow obvious reader of hunks: it rebuilds the new text from the old one.
func apply(old string, hunks []Hunk) (string, error) {
	a := lines(old)
	var out strings.Builder
	at := 0
	for _, h := range hunks {
		start := h.OldStart - 1
		if h.OldLines == 0 {
			start = h.OldStart
		}
		for ; at < start; at++ {
			out.WriteString(a[at])
		}
		for _, l := range h.Lines {
			text := l.Text
			if !l.NoEnd {
				text += "\n"
			}
			if l.Op != "+" {
				if at >= len(a) || a[at] != text {
					return "", fmt.Errorf("line %d of the old text is not %q", at+1, text)
				}
				at++
			}
			if l.Op != "-" {
				out.WriteString(text)
			}
		}
	}
	for ; at < len(a); at++ {
		out.WriteString(a[at])
	}
	return out.String(), nil
}

func unified(hunks []Hunk) string {
	var b strings.Builder
	for _, h := range hunks {
		b.WriteString(h.Header() + "\n")
		for _, l := range h.Lines {
			b.WriteString(l.Op + l.Text + "\n")
			if l.NoEnd {
				b.WriteString("\\ No newline at end of file\n")
			}
		}
	}
	return b.String()
}

func TestTheFormatIsThatOfDiff(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"", "", ""},
		{"a\n", "a\n", ""},
		{"", "a\n", "@@ -0,0 +1 @@\n+a\n"},
		{"a\nb\n", "", "@@ -1,2 +0,0 @@\n-a\n-b\n"},
		{"a\nb\nc\n", "a\nx\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"},
		{"a", "a\n", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"},
		{"1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nx\n5\n6\n7\n8\n9\n", "@@ -2,6 +2,7 @@\n 2\n 3\n 4\n+x\n 5\n 6\n 7\n"},
	} {
		if got := unified(Diff(c.old, c.new, 3)); got != c.want {
			t.Errorf("%q and %q:\n%swant\n%s", c.old, c.new, got, c.want)
		}
	}
}

func TestHunksMeetOnlyWhereTheirContextsDo(t *testing.T) {
	old := strings.Repeat("x\n", 20)
	edit := func(lines ...int) string {
		l := strings.SplitAfter(old, "\n")
		for _, i := range lines {
			l[i] = "y\n"
		}
		return strings.Join(l, "")
	}
	for _, c := range []struct {
		new     string
		context int
		want    int
	}{{edit(5, 12), 3, 1}, {edit(5, 13), 3, 2}, {edit(5, 6), 0, 1}, {edit(5, 7), 0, 2}} {
		if got := Diff(old, c.new, c.context); len(got) != c.want {
			t.Errorf("%d hunks, want %d:\n%s", len(got), c.want, unified(got))
		}
	}
}

// randomText is short of different lines, so that every path of the algorithm is taken.
func randomText(r *rand.Rand) string {
	var b strings.Builder
	kinds := 1 + r.IntN(12)
	for range r.IntN(40) {
		fmt.Fprintf(&b, "%c\n", 'a'+rune(r.IntN(kinds)))
	}
	s := b.String()
	if s != "" && r.IntN(4) == 0 {
		s = strings.TrimSuffix(s, "\n")
	}
	return s
}

func TestTheNewTextComesBackFromOldTextAndHunks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		old, new := randomText(r), randomText(r)
		hunks := Diff(old, new, r.IntN(4))
		if got, err := apply(old, hunks); err != nil || got != new {
			t.Fatalf("%q → %q gives %q, %v:\n%s", old, new, got, err, unified(hunks))
		}
	}
}

func TestPatchReadsIt(t *testing.T) {
	patch, err := exec.LookPath("patch")
	if err != nil {
		patch = ""
	}
	r := rand.New(rand.NewPCG(3, 4))
	dir := t.TempDir()
	for i := range 50 {
		old, new := randomText(r), randomText(r)
		hunks := Diff(old, new, 3)
		if patch == "" || old == "" || new == "" || len(hunks) == 0 {
			continue // patch(1) takes an empty side for a file that is to be made or removed
		}
		file, diff := filepath.Join(dir, "f"), filepath.Join(dir, "d")
		if err := os.WriteFile(file, []byte(old), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(diff, []byte("--- f\n+++ f\n"+unified(hunks)), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(patch, "-s", file, diff).CombinedOutput(); err != nil {
			t.Fatalf("%d: patch: %v: %s\n%s", i, err, out, unified(hunks))
		}
		if got, _ := os.ReadFile(file); string(got) != new {
			t.Fatalf("%d: patch gives %q, want %q", i, got, new)
		}
	}
}

func TestTextsWithNothingInCommonAreReplaced(t *testing.T) {
	var old, new strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&old, "old %d\n", i)
		fmt.Fprintf(&new, "new %d\n", i)
	}
	hunks := Diff(old.String(), new.String(), 3)
	if got, err := apply(old.String(), hunks); err != nil || got != new.String() || len(hunks) != 1 {
		t.Fatalf("%d hunks, %v", len(hunks), err)
	}
}

// FuzzDiff holds that the hunks always lead from the old text to the new one.
func FuzzDiff(f *testing.F) {
	f.Add("a\nb\n", "b\na\n", 1)
	f.Add("x", "x\nx\nx", 0)
	f.Fuzz(func(t *testing.T, old, new string, context int) {
		context = max(0, min(context, 10))
		if got, err := apply(old, Diff(old, new, context)); err != nil || got != new {
			t.Fatalf("%q → %q gives %q, %v", old, new, got, err)
		}
	})
}
