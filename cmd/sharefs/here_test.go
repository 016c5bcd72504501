package main

import (
	"strings"
	"testing"

	"sharefs/internal/client"
	"sharefs/internal/term"
)

// Of a file that is not all here it is never said that it is, however sizes are rounded and whatever its blocks take.
func TestHowMuchIsHere(t *testing.T) {
	const kib = 1 << 10
	var out strings.Builder
	a := &app{out: &out}
	if err := a.listHere([]client.Presence{
		{Path: "a", Size: 200 * kib, Here: 204 * kib, State: client.HerePartial},
		{Path: "b", Size: 100<<20 + 1, Here: 100 << 20, State: client.HerePartial},
		{Path: "c", Size: 200 * kib, Here: 40 * kib, State: client.HerePartial},
		{Path: "d", Size: 200 * kib, Here: 204 * kib, State: client.HereFull},
		{Path: "e", Size: 200 * kib, State: client.HereAbsent},
	}, term.Size); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := "partial nearly all of 200 KiB a|partial nearly all of 100 MiB b|partial 40 KiB of 200 KiB c|full 200 KiB of 200 KiB d|absent 0 B of 200 KiB e"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("%s, not %s", s, want)
	}
}

// A name stands in lists as it can be pasted into a shell, and cannot write on the screen what it likes.
func TestNamesCanBePasted(t *testing.T) {
	names := map[string]string{
		"plain":               "plain",
		"two words/$(rm x)":   "'two words/$(rm x)'",
		"a\nb":                `$'a\nb'`,
		"esc\x1b[31mred":      `$'esc\x1b[31mred'`,
		"it's \\ with\ta tab": `$'it\'s \\ with\ta tab'`,
	}
	for name, want := range names {
		var out strings.Builder
		a := &app{out: &out}
		if err := a.listHere([]client.Presence{{Path: name, Size: 2, Here: 2, State: client.HereFull}}, term.Size); err != nil {
			t.Fatal(err)
		}
		if err := a.listStay([]stay{{Path: name, Why: "one reason"}}); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Split(out.String(), "\n"); len(lines) != 4 || !strings.HasSuffix(lines[0], "  "+want) || lines[2] != "  "+want {
			t.Errorf("%q is shown as\n%s", name, out.String())
		}
	}
}
