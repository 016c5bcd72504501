package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// spent is the processor time that was taken up to a moment, in seconds.
type spent struct {
	at       time.Time
	programs float64 // of the program that is measured, on all hosts
	links    float64 // of this process: the links, and looking whether all is there
	idle     float64 // of all processors
}

// spentBy reads what was taken up to now by this process and by the groups of processes that some others lead.
func spentBy(leaders []int) (s spent, err error) {
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		return s, fmt.Errorf("getrusage: %w", err)
	}
	s.links = float64(own.Utime.Nano()+own.Stime.Nano()) / 1e9
	ticks, err := groupTicks(leaders)
	if err != nil {
		return s, err
	}
	s.programs = float64(ticks) / ticksPerSecond
	s.at = time.Now()
	s.idle, err = idleSeconds()
	return s, err
}

// rows adds what a step took that began at s and ended at now.
func (s spent) rows(t *table, step, program string, now spent) {
	all := now.at.Sub(s.at).Seconds() * float64(runtime.NumCPU())
	t.row(step+": processor time of the program", "s", false).add(program, now.programs-s.programs)
	t.row(step+": of the links", "s", false).add(program, now.links-s.links)
	t.row(step+": processors at work", "%", false).add(program, 100*(1-(now.idle-s.idle)/all))
}

const ticksPerSecond = 100 // USER_HZ, of all architectures that Go knows on Linux

// groupTicks returns the processor time that groups of processes have taken, in ticks.
func groupTicks(leaders []int) (total int64, err error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	in := map[int]bool{}
	for _, pid := range leaders {
		in[pid] = true
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		group, err := unix.Getpgid(pid)
		if err != nil || !in[group] {
			continue
		}
		ticks, err := cpuTicks(pid)
		if errors.Is(err, fs.ErrNotExist) { // it has ended, and this process's share of it goes to its parent
			continue
		}
		if err != nil {
			return 0, err
		}
		total += ticks
	}
	return total, nil
}

// idleSeconds returns for how long processors had nothing to do, or waited for a disk, all taken together.
func idleSeconds() (float64, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text)) // cpu user nice system idle iowait …
	if len(fields) < 6 {
		return 0, errors.New("/proc/stat does not begin with the time of all processors")
	}
	var total float64
	for _, f := range fields[4:6] {
		ticks, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		total += ticks / ticksPerSecond
	}
	return total, nil
}
