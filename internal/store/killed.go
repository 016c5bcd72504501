package store

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// Killed reports whether who has a store was killed and a thread of it is held up in the kernel, so that it is not gone: as a daemon's is that was telling the kernel of a name while a program,
// which waits for the daemon's answer, has the directory locked. Neither goes on before the connection is aborted. A holder of another pid namespace is not known to be killed: who has its pid
// in this one is somebody else.
func Killed(h Holder) bool {
	if !h.here() {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.PID))
	return err == nil && killed(status)
}

// killed reads the status of a process (proc_pid_status(5)), which is that of its first thread: that is a zombie, since others are there still, or has SIGKILL to come to.
func killed(status []byte) bool {
	const kill = 1 << 8 // of signal 9
	for line := range bytes.Lines(status) {
		key, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		value = bytes.TrimSpace(value)
		switch string(key) {
		case "State":
			if bytes.HasPrefix(value, []byte("Z")) {
				return true
			}
		case "SigPnd", "ShdPnd":
			if set, err := strconv.ParseUint(string(value), 16, 64); err == nil && set&kill != 0 {
				return true
			}
		}
	}
	return false
}
