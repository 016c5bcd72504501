package cmdtest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
	"sharefs/internal/config"
	"sharefs/internal/mountopt"
)

// section returns a section of docs/usage.md: from its title to the next one of its level or above.
func section(t *testing.T, title string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/usage.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n"+title+"\n")
	if !found {
		t.Fatalf("there is no section %s", title)
	}
	next := regexp.MustCompile(`^#{1,` + string(rune('0'+strings.Count(title, "#"))) + `} `)
	var out strings.Builder
	code := false // where a # begins a comment
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		if !code && next.MatchString(line) {
			break
		}
		out.WriteString(line)
	}
	return out.String()
}

// words returns what stands in backquotes, cut at what ends a name in a table: spaces, = and brackets.
func words(text string) map[string]bool {
	out := map[string]bool{}
	for _, quoted := range regexp.MustCompile("`[^`\n]+`").FindAllString(text, -1) {
		for _, word := range strings.FieldsFunc(strings.Trim(quoted, "`"), func(r rune) bool { return strings.ContainsRune(" =[]", r) }) {
			out[word] = true
		}
	}
	return out
}

func TestTheReferenceNamesEveryOption(t *testing.T) {
	told := map[string]bool{}
	for line := range strings.Lines(section(t, "### Options")) {
		if cells := strings.Split(line, " | "); len(cells) > 1 {
			for _, option := range regexp.MustCompile("`[^`]+`").FindAllString(cells[0], -1) {
				name, _, _ := strings.Cut(strings.Trim(option, "`"), "=")
				told[name] = true
			}
		}
	}
	known := mountopt.Names()
	for _, name := range known {
		if !told[name] {
			t.Errorf("option %s is not in docs/usage.md", name)
		}
	}
	for name := range told {
		if !slices.Contains(known, name) && !strings.HasSuffix(name, "-…") {
			t.Errorf("docs/usage.md tells of an option %s, which there is not", name)
		}
	}
}

func TestTheReferenceShowsTheConfiguration(t *testing.T) {
	_, body, _ := strings.Cut(config.File, "\n\n")
	if text := section(t, "### share.toml"); !strings.Contains(text, "```\n"+body+"```\n") {
		t.Errorf("docs/usage.md shows another share.toml than a new store has:\n%s\nwant\n%s", text, body)
	}
	var section string
	seen := map[string]bool{}
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		if example, ok := strings.CutPrefix(line, "# "); ok && (section == "retention.path." || section == "tier." || strings.HasPrefix(example, "[")) {
			line = example
		}
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if key, _, found := strings.Cut(line, "="); found {
			seen[section+strings.TrimSpace(key)] = true
		} else if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]") + "."
			seen[strings.Trim(line, "[]")] = true
		}
	}
	for _, key := range config.Keys() {
		of, isRule := strings.CutPrefix(key, "retention.path.") // an example of which takes the keys of all files
		if !seen[key] && !(isRule && seen["retention."+of]) {
			t.Errorf("a new share.toml does not show %s", key)
		}
	}
}

// flagLine is a flag in the help of a program: "  -C, --directory DIR   Work as if started in DIR".
var flagLine = regexp.MustCompile(`(?m)^ +(?:(-\w), )?(--[\w-]+)(?: [A-Z]+)? {2,}`)

func TestTheReferenceNamesEveryCommandAndFlag(t *testing.T) {
	mounting, tool := words(section(t, "## Mounting")), words(section(t, "## The tool"))
	check := func(program, help string, known map[string]bool) {
		t.Helper()
		flags := flagLine.FindAllStringSubmatch(help, -1)
		if len(flags) == 0 {
			t.Errorf("%s --help shows no flags:\n%s", program, help)
		}
		for _, f := range flags {
			for _, name := range f[1:] {
				if name != "" && name != "-h" && name != "--help" && !known[name] {
					t.Errorf("%s of %s is not in docs/usage.md", name, program)
				}
			}
		}
	}
	a := mount(t, "--help")
	check("sharefs-mount", a.out, mounting)
	top := must(t, "/", "--help")
	check("sharefs", top, tool)
	_, list, _ := strings.Cut(top, "\nCommands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	commands := strings.Split(list, "\n")
	if len(commands) < 10 {
		t.Fatalf("commands: %q", commands)
	}
	for _, line := range commands {
		name := strings.Fields(line)[0]
		if !tool[name] {
			t.Errorf("command %s is not in docs/usage.md", name)
		}
		if name != "esp" { // which has a page of its own
			check("sharefs "+name, must(t, "/", name, "--help"), tool)
		}
	}
}

// The keys of JSON that the reference tells are those that there are.
func TestTheReferenceNamesEveryKeyOfJSON(t *testing.T) {
	known := words(strings.ReplaceAll(section(t, "### JSON"), "`?", "` "))
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		version(t, m, 1, "a", "one\n")
		version(t, m, 2, "a", "two")
		put(t, m.Path("gone"), "gone")
		m.Settled()
		if err := os.Remove(m.Path("gone")); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"log", "a"}, {"cat", "a"}, {"diff", "a"}, {"restore", "a@@1"}, {"commit", "a"}, {"doctor"}, {"version"},
			{"tag", "a", "x"}, {"branch", "a", "b"}, {"branch", "a"}, {"switch", "a", "b"}, {"tags", "a"}, {"untag", "a", "x"}, {"snapshot", "s"},
			{"describe", "a@@1", "-m", "x"}, {"find", "--deleted"}, {"diff", ".@@s"}, {"restore", ".@@s"}, {"log", "."}, {"restore", "-n", ".@@s"}} {
			out := tool(t, m.Dir, append(args, "--json")...).out
			keys := regexp.MustCompile(`(?m)^ +"(\w+)": `).FindAllStringSubmatch(out, -1)
			if len(keys) < 2 {
				t.Errorf("%q: %s", args, out)
			}
			for _, key := range keys {
				if !known[key[1]] {
					t.Errorf("key %s of %s --json is not in docs/usage.md", key[1], args[0])
				}
			}
		}
	}, quick)
}
