package daemon

import (
	"fmt"

	"sharefs/internal/mountinfo"
	"sharefs/internal/term"
)

// maxNamed bounds how many of those who hold a mount up are named.
const maxNamed = 3

// writersIn names open files of a mount that can be written to, and the processes that have them, as far as /proc shows them to
// the caller.
func writersIn(m *mountinfo.Mount) (list []string) {
	for _, w := range mountinfo.Writers(m.ID, 0) {
		list = append(list, fmt.Sprintf("process %d (%s) has %s open", w.PID, term.Clean(w.Command), term.Quote(w.Path)))
	}
	if n := len(list); n > maxNamed {
		list = append(list[:maxNamed], fmt.Sprintf("and %d more", n-maxNamed))
	}
	return list
}
