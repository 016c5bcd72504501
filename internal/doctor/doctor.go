// Package doctor looks at a machine and its mounts and says what is there, what is missing, and how to get it.
package doctor

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Grade is how good a finding is; a larger one is worse.
type Grade int

// The grades.
const (
	Good   Grade = iota
	Notice       // ShareFS works, but not as well as it could
	Wrong        // something does not work
)

func (g Grade) String() string { return [...]string{"ok", "note", "wrong"}[g] }

// MarshalJSON writes the grade as its word.
func (g Grade) MarshalJSON() ([]byte, error) { return json.Marshal(g.String()) }

// UnmarshalJSON reads it.
func (g *Grade) UnmarshalJSON(text []byte) error {
	var word string
	if err := json.Unmarshal(text, &word); err != nil {
		return err
	}
	for *g = Good; *g <= Wrong; *g++ {
		if g.String() == word {
			return nil
		}
	}
	return fmt.Errorf("no grade is called %q", word)
}

// Finding is one thing that was looked at.
type Finding struct {
	What   string `json:"what"`
	Mount  string `json:"mount,omitempty"` // the mount point, of what was found of a mount
	Grade  Grade  `json:"grade"`
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"`
}

// Examine looks at everything: first the machine, then each mount, or those alone that some paths lie in. With deep each mount checks its whole tree, during which changes
// in it wait: some seconds for a million files. A mount that does not answer holds nobody up for long. The running program must call [Serve] in main.
func Examine(deep bool, paths []string) ([]Finding, error) {
	found, err := mounts(deep, paths)
	if err != nil {
		return nil, err
	}
	return append(machine(), found...), nil
}

func machine() []Finding {
	return []Finding{kernel(), device(), helper(), privileges(), others(), openFiles(), watches()}
}

func good(what, format string, args ...any) Finding {
	return Finding{What: what, Grade: Good, Found: fmt.Sprintf(format, args...)}
}

func notice(what, remedy, format string, args ...any) Finding {
	return Finding{What: what, Grade: Notice, Found: fmt.Sprintf(format, args...), Remedy: remedy}
}

func wrong(what, remedy, format string, args ...any) Finding {
	return Finding{What: what, Grade: Wrong, Found: fmt.Sprintf(format, args...), Remedy: remedy}
}

// parseKernel reads major and minor of a release such as "6.18.44-fc".
func parseKernel(release string) (major, minor int, ok bool) {
	n, err := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return major, minor, err == nil && n == 2
}

// allowsOther reports whether fuse.conf lets ordinary users mount with allow_other: the word stands on a line of its own
// (mount.fuse3(8)).
func allowsOther(conf string) bool {
	for line := range strings.Lines(conf) {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}
