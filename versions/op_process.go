package versions

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// process is who asked for a change, as far as /proc tells.
type process struct {
	id      uint32 // of the process that the task belongs to
	group   uint32 // its process group
	command string // how the leader of the group was called, or the process where the leader is gone
}

// lookAt reads what a task is. Of one that is gone, or of another PID namespace, only what the kernel said is known.
func lookAt(pid uint32) process {
	p := process{id: pid}
	status, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/status")
	if err != nil {
		return p
	}
	name := ""
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); key {
		case "Name":
			name = value
		case "Tgid":
			p.id = firstNumber(value, pid)
		case "NSpgid": // one for each PID namespace, from that of /proc inwards
			p.group = firstNumber(value, 0)
		}
	}
	if p.command = commandOf(p.group); p.command == "" {
		p.command = commandOf(p.id)
	}
	if p.command == "" {
		p.command = name
	}
	return p
}

func firstNumber(s string, otherwise uint32) uint32 {
	s, _, _ = strings.Cut(s, "\t")
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return otherwise
	}
	return uint32(n)
}

// commandOf returns the words by which a process was called, the program without its directory; "" where that cannot be told.
func commandOf(pid uint32) string {
	if pid == 0 {
		return ""
	}
	line, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/cmdline")
	if err != nil {
		return ""
	}
	program, rest, _ := bytes.Cut(bytes.TrimRight(line, "\x00"), []byte{0})
	if i := bytes.LastIndexByte(program, '/'); i >= 0 {
		program = program[i+1:]
	}
	words := string(program)
	if len(rest) > 0 {
		words += " " + string(bytes.ReplaceAll(rest, []byte{0}, []byte{' '}))
	}
	return words[:min(len(words), opCommandMax)]
}
