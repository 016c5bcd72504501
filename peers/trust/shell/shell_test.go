package shell

import (
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sharefs"
	"sharefs/peers/trust"
)

var someone = sharefs.PeerID{1, 2, 3}

func granting(t interface{ Fatal(...any) }, level trust.Level, path string) trust.Policy {
	pattern, err := trust.ParsePattern(path)
	if err != nil {
		t.Fatal(err)
	}
	return trust.Policy{}.Grant(trust.Rule{Peer: someone, Pattern: pattern, Level: level})
}

func TestRulesAreLinesForAShell(t *testing.T) {
	for path, want := range map[string]string{
		"":             "grant bert read\n",
		"photos/2026":  "grant bert read /photos/2026\n",
		"x $(echo hi)": "grant bert read '/x $(echo hi)'\n",
		"a\nb":         `grant bert read $'/a\nb'` + "\n",
		"glob*":        "grant bert read '/glob*'\n",
		"it's":         `grant bert read '/it'\''s'` + "\n",
		"-dash":        "grant bert read /-dash\n",
		"~root":        "grant bert read /~root\n",
	} {
		if got := Format(granting(t, trust.Read, path), someone, "bert"); got != want {
			t.Errorf("%q: %s, not %s", path, got, want)
		}
	}
	former := trust.Policy{}.WithFormer(someone)
	if got := Format(former, someone, "bert"); got != "former bert\n" {
		t.Error(got)
	} else if again, err := Parse(got, someone); err != nil || !again.Former(someone) {
		t.Error(err)
	}
	capped := granting(t, trust.Write, "a b").Cap(someone, trust.Propose)
	if got := Format(capped, someone, "my laptop"); got != "ceiling 'my laptop' propose\ngrant 'my laptop' write '/a b'\n" {
		t.Error(got)
	}
}

// A real shell makes the same words of the lines as is granted, and reading them back makes the same rules.
func TestRulesComeBack(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash")
	}
	rapid.Check(t, func(t *rapid.T) {
		path := strings.Trim(rapid.StringOfN(rapid.RuneFrom([]rune("ab /'\"\\$`~-#!*?é\n\t\x1b\u202e\u2028")), 1, 12, -1).Draw(t, "path"), "/")
		if rapid.Bool().Draw(t, "a byte that is no text") {
			path += "\xff7"
		}
		pattern, err := trust.ParsePattern(path)
		if err != nil {
			t.Skip(err)
		}
		p := trust.Policy{}.Grant(trust.Rule{Peer: someone, Pattern: pattern, Level: trust.Write}).Cap(someone, trust.Propose)
		text := Format(p, someone, "bert")
		again, err := Parse(text, someone)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		name := func(sharefs.PeerID) string { return "bert" }
		if again.Format(name) != p.Format(name) {
			t.Fatalf("%q becomes %q", p.Format(name), again.Format(name))
		}
		if old, err := Parse(p.Format(name), someone); !strings.ContainsAny(path, `'$\`) && (err != nil || old.Format(name) != p.Format(name)) {
			t.Fatalf("%q as before: %q, %v", p.Format(name), old.Format(name), err)
		}
		lines := strings.Split(text, "\n")
		out, err := exec.Command(bash, "-c", "set -- "+lines[1]+"\nprintf '%s' \"$4\"").Output()
		if err != nil || strings.TrimPrefix(string(out), "/") != strings.TrimPrefix(pattern.String(), "/") {
			t.Fatalf("%s: bash has %q of %q, %v", text, out, pattern, err)
		}
	})
}

func TestRulesRefused(t *testing.T) {
	for _, line := range []string{"grant bert read 'a", "grant bert read $'a", `grant bert read $'\x1`, `grant bert read "a`, "grant bert $x", "grant bert", "grant bert read a b"} {
		if _, err := Parse(line+"\n", someone); err == nil {
			t.Errorf("%s is read", line)
		}
	}
}
