package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs/internal/mountinfo"
	"sharefs/internal/term"
)

// maxNamed bounds how many of those who hold a mount up are named.
const maxNamed = 3

// writersIn names open files of a mount that can be written to, and the processes that have them, as far as /proc shows them to
// the caller. It touches nothing in the mount: /proc tells names and flags from the kernel's memory.
func writersIn(m *mountinfo.Mount) (list []string) {
	infos, _ := filepath.Glob("/proc/[0-9]*/fdinfo/*")
	seen := map[string]bool{}
	for _, info := range infos {
		text, err := os.ReadFile(info)
		if err != nil || !writableIn(string(text), m.ID) {
			continue
		}
		process := filepath.Dir(filepath.Dir(info))
		name, err := os.Readlink(filepath.Join(process, "fd", filepath.Base(info)))
		if err != nil {
			continue
		}
		comm, _ := os.ReadFile(process + "/comm")
		line := fmt.Sprintf("process %s (%s) has %s open", filepath.Base(process), term.Clean(strings.TrimSpace(string(comm))), term.Quote(name))
		if !seen[line] {
			seen[line] = true
			list = append(list, line)
		}
	}
	if n := len(list); n > maxNamed {
		list = append(list[:maxNamed], fmt.Sprintf("and %d more", n-maxNamed))
	}
	return list
}

// writableIn reads one file of /proc/PID/fdinfo (proc_pid_fdinfo(5)): does the descriptor belong to the mount, and can it write?
func writableIn(fdinfo string, mount int) bool {
	var here, writes bool
	for line := range strings.Lines(fdinfo) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "flags":
			flags, err := strconv.ParseUint(value, 8, 32)
			writes = err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY && flags&unix.O_PATH == 0
		case "mnt_id":
			id, err := strconv.Atoi(value)
			here = err == nil && id == mount
		}
	}
	return here && writes
}
