package textdiff

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// texts are of few different lines, so that lines move and come again.
var texts = rapid.Custom(func(t *rapid.T) string {
	text := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", "", "=======", "<<<<<<< x"}), 0, 12).Draw(t, "lines"), "\n")
	if text != "" && rapid.Bool().Draw(t, "end") {
		text += "\n"
	}
	return text
})

// clean is the text of a merge without conflicts.
func clean(parts []Part) (string, bool) {
	for _, p := range parts {
		if p.Conflict {
			return "", false
		}
	}
	text, _ := Mark(parts, Names{})
	return text, true
}

func TestMergeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, o, b := texts.Draw(t, "a"), texts.Draw(t, "base"), texts.Draw(t, "b")
		if got, ok := clean(Merge(a, o, a)); !ok || got != a {
			t.Fatalf("the same change on both sides: %q, %v", got, ok)
		}
		for _, parts := range [][]Part{Merge(a, o, o), Merge(o, o, a)} {
			if got, ok := clean(parts); !ok || got != a {
				t.Fatalf("a change on one side: %q, %v", got, ok)
			}
		}
		one, other := Merge(a, o, b), Merge(b, o, a)
		for i := range other {
			other[i].A, other[i].B = other[i].B, other[i].A
		}
		if !slices.Equal(one, other) {
			t.Fatalf("%+v, and the other way round %+v", one, other)
		}
		// Each side, and the base, can be had of what is text on both sides and what each made of the rest: nothing is lost and nothing is invented.
		for _, parts := range [][]Part{one, Both(a, b)} {
			for i, p := range parts {
				if i > 0 && !p.Conflict && !parts[i-1].Conflict {
					t.Fatalf("two texts in a row: %+v", parts)
				}
				if p.Conflict && p.A == p.B {
					t.Fatalf("%+v is no conflict", p)
				}
			}
		}
		for side, want := range map[string]string{"a": a, "b": b} {
			got := ""
			for _, p := range Both(a, b) {
				switch {
				case !p.Conflict:
					got += p.Text
				case side == "a":
					got += p.A
				default:
					got += p.B
				}
			}
			if got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		}
		text, n := Mark(one, Names{"a", "base", "b"})
		if _, ok := clean(one); ok != (n == 0) {
			t.Fatalf("%d conflicts in %+v", n, one)
		}
		if n > 0 && Marked(text) == 0 {
			t.Fatalf("no marker is found in %q", text)
		}
	})
}

// Changes of stretches that do not touch each other are all in what is merged.
func TestMergeOfChangesApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a, o, b, want strings.Builder
		n := 0
		line := func(to ...*strings.Builder) {
			n++
			for _, w := range to {
				w.WriteString(strings.Repeat("x", n) + "\n")
			}
		}
		for range rapid.IntRange(1, 8).Draw(t, "stretches") {
			line(&a, &o, &b, &want)
			mine, theirs := &a, &b
			if rapid.Bool().Draw(t, "side") {
				mine, theirs = theirs, mine
			}
			for range rapid.IntRange(0, 3).Draw(t, "gone") {
				line(&o, theirs)
			}
			for range rapid.IntRange(0, 3).Draw(t, "new") {
				line(mine, &want)
			}
		}
		line(&a, &o, &b, &want)
		if got, ok := clean(Merge(a.String(), o.String(), b.String())); !ok || got != want.String() {
			t.Fatalf("%q, %v, want %q", got, ok, want.String())
		}
	})
}

// What GNU diff3 merges without a conflict is merged alike, where lines are all different, so that there is one way only to match them.
func TestMergeAsDiff3(t *testing.T) {
	program, err := exec.LookPath("diff3")
	if err != nil {
		t.Skip("there is no diff3 here")
	}
	dir := t.TempDir()
	base := "1\n2\n3\n4\n5\n6\n7\n8\n"
	for _, side := range [][2]string{
		{"1\n2\n3\nnew\n4\n5\n6\n7\n8\n", "1\n2\n3\n4\n5\n6\n8\n"},
		{"2\n3\n4\n5\n6\n7\n8\nend\n", "begin\n1\n2\n3\n4\n5\n6\n7\n"},
		{"1\nx\n3\n4\n5\n6\n7\n8\n", "1\ny\n3\n4\n5\n6\n7\n8\n"},
		{"1\n2\n4\n5\n6\n7\n8\n", "1\n2\n3a\n4\n5\n6\n7\n8\n"},
		{"", "1\n2\n3\n4\n5\n6\n7\n8\n9\n"},
	} {
		for name, text := range map[string]string{"a": side[0], "base": base, "b": side[1]} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(program, "-m", "a", "base", "b")
		cmd.Dir = dir
		want, err := cmd.Output()
		if err != nil && cmd.ProcessState.ExitCode() != 1 {
			t.Fatal(err)
		}
		if got, _ := Mark(Merge(side[0], base, side[1]), Names{"a", "base", "b"}); got != string(want) {
			t.Errorf("%q and %q:\n%s\ndiff3 has\n%s", side[0], side[1], got, want)
		}
	}
}

func TestMark(t *testing.T) {
	const a, o, b = "one\ntwo\nend", "one\n2\nend", "one\ndos\nend"
	text, n := Mark(Merge(a, o, b), Names{"anna", "before", "bert"})
	if want := "one\n<<<<<<< anna\ntwo\n||||||| before\n2\n=======\ndos\n>>>>>>> bert\nend"; text != want || n != 1 || Marked(text) != 2 {
		t.Errorf("%q, %d, %d", text, n, Marked(text))
	}
	text, n = Mark(Both(a, b), Names{A: "anna", B: "bert"})
	if want := "one\n<<<<<<< anna\ntwo\n=======\ndos\n>>>>>>> bert\nend"; text != want || n != 1 {
		t.Errorf("%q, %d", text, n)
	}
	// A text that has markers of its own gets longer ones.
	text, _ = Mark(Both("<<<<<<< x\n", "=======\n"), Names{A: "a", B: "b"})
	if want := "<<<<<<<< a\n<<<<<<< x\n========\n=======\n>>>>>>>> b\n"; text != want {
		t.Errorf("%q", text)
	}
	for _, none := range []string{"", "a heading\n=======\n", ">>>>>>> x\n", "<<<<<<<<\n", "<<<<<<<a\n>>>>>>>b\n", ">>>>>>>\n<<<<<<<\n"} {
		if n := Marked(none); n != 0 {
			t.Errorf("%q: line %d", none, n)
		}
	}
}
