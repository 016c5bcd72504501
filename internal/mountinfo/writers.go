package mountinfo

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Writer is a process that has a file open by a descriptor which can write.
type Writer struct {
	PID     int
	Command string // as /proc/PID/comm has it
	Path    string // of the file
}

// Writers lists who can write to a file of a mount, or with inode 0 to any of them, as far as /proc shows that to the caller. It touches nothing in the mount:
// /proc tells names and flags from the kernel's memory.
func Writers(mount int, inode uint64) (list []Writer) {
	infos, _ := filepath.Glob("/proc/[0-9]*/fdinfo/*")
	seen := map[Writer]bool{}
	for _, info := range infos {
		text, err := os.ReadFile(info)
		if err != nil || !writable(string(text), mount, inode) {
			continue
		}
		process := filepath.Dir(filepath.Dir(info))
		path, err := os.Readlink(filepath.Join(process, "fd", filepath.Base(info)))
		if err != nil {
			continue
		}
		comm, _ := os.ReadFile(process + "/comm")
		pid, _ := strconv.Atoi(filepath.Base(process))
		w := Writer{pid, strings.TrimSpace(string(comm)), path}
		if !seen[w] {
			seen[w] = true
			list = append(list, w)
		}
	}
	return list
}

// writable reads one file of /proc/PID/fdinfo (proc_pid_fdinfo(5)): does the descriptor belong to the mount, and to the inode unless that is 0, and can it
// write?
func writable(fdinfo string, mount int, inode uint64) bool {
	var here, writes bool
	it := inode == 0
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
		case "ino":
			it = it || value == strconv.FormatUint(inode, 10)
		}
	}
	return here && it && writes
}
