package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A subject is one of the filesystems compared: a directory in which the rows work.
type subject struct {
	name string
	dir  string                // where rows may make what they like
	root string                // the mount point, empty for the disk
	pid  int                   // of the daemon behind it, 0 for the disk
	run  func(*exec.Cmd) error // starts its daemon; nil: on this host
	up   func() error          // mounts it
	down func()                // unmounts it and waits for the daemon's end
}

// restart ends the subject's daemon and starts it again; what it returns is the time from start to the first answer.
func (s *subject) restart(ctx context.Context) (time.Duration, error) {
	s.down()
	if err := dropCaches("3"); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := s.up(); err != nil {
		return 0, err
	}
	return time.Since(start), ctx.Err()
}

// setUp builds the programs and mounts them. What it returns takes all of it down, whatever had come up.
func setUp(ctx context.Context, work string) (subjects []*subject, down func(), err error) {
	var undo []func()
	down = func() {
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
	}
	for _, build := range [][2]string{
		{"loopback", "github.com/hanwen/go-fuse/v2/example/loopback"},
		{"sharefs-mount", "sharefs/cmd/sharefs-mount"},
	} {
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(work, build[0]), build[1]).CombinedOutput(); err != nil {
			return nil, down, fmt.Errorf("go build %s: %w\n%s", build[1], err, out)
		}
	}
	disk := filepath.Join(work, "disk")
	below, loop := filepath.Join(work, "below"), filepath.Join(work, "loop")
	store, share := filepath.Join(work, "store"), filepath.Join(work, "share")
	for _, d := range []string{disk, below, loop, store, share} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, down, err
		}
	}
	loopback := &subject{name: "loopback", dir: loop, root: loop}
	loopback.mountBy(work, "loopback", "-q", "-allow-other", "-directmountstrict", loop, below)
	sharefs := &subject{name: "ShareFS", dir: share, root: share}
	sharefs.mountBy(work, "sharefs-mount", "-f", "--store", store, share)
	for _, s := range []*subject{loopback, sharefs} {
		undo = append(undo, func() { s.down() })
		if err := s.up(); err != nil {
			return nil, down, err
		}
	}
	return []*subject{{name: "ext4", dir: disk}, loopback, sharefs}, down, nil
}

// mountBy sets how the subject is mounted: by a program in the directory work, which stays in front.
func (s *subject) mountBy(work, program string, args ...string) {
	s.down = func() {}
	s.up = func() error {
		log, err := os.OpenFile(filepath.Join(work, program+".log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		defer log.Close()
		c := exec.Command(filepath.Join(work, program), args...)
		c.Stdout, c.Stderr = log, log
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for bench alone
		start := c.Start
		if s.run != nil {
			start = func() error { return s.run(c) }
		}
		if err := start(); err != nil {
			return err
		}
		gone := make(chan struct{})
		go func() { c.Wait(); close(gone) }()
		s.pid = c.Process.Pid
		s.down = func() {
			if err := syscall.Unmount(s.root, 0); err != nil {
				syscall.Unmount(s.root, syscall.MNT_DETACH)
			}
			select {
			case <-gone:
			case <-time.After(2 * time.Minute):
				c.Process.Kill()
				<-gone
			}
		}
		var below, now syscall.Stat_t
		if err := syscall.Stat(work, &below); err != nil {
			return err
		}
		for range 6000 {
			if syscall.Stat(s.root, &now) == nil && now.Dev != below.Dev {
				return nil
			}
			select {
			case <-gone:
				text, _ := os.ReadFile(log.Name())
				return fmt.Errorf("%s ended before it had mounted: %s", program, text)
			case <-time.After(5 * time.Millisecond):
			}
		}
		return fmt.Errorf("%s has not mounted after 30 s", program)
	}
}

// captureState is the part of ctl/status.json that tells whether versions are still being taken, and whether the bucket has them.
type captureState struct {
	Now struct {
		Settling int64 `json:"settling"`
		Removing int64 `json:"removing"`
	} `json:"now"`
	Capture struct {
		Queue int64 `json:"queue_now"`
	} `json:"capture"`
	Tier struct {
		Bytes    int64     `json:"bytes"`
		Complete time.Time `json:"complete"`
		Backlog  int64     `json:"backlog_bytes_now"`
		Error    string    `json:"error"`
	} `json:"tier"`
}

// settle waits until nothing is left to do behind the subject's back and returns how long that took: captures are taken,
// removed content is gone, the daemon rests, the disk is synced.
func (s *subject) settle(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	for quiet, last := 0, int64(-1); s.pid != 0 && quiet < 3; {
		idle, err := s.idle()
		if err != nil {
			return 0, err
		}
		worked, err := cpuTicks(s.pid)
		if err != nil {
			return 0, err
		}
		if idle && worked <= last+1 {
			quiet++
		} else {
			quiet = 0
		}
		last = worked
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
	syscall.Sync()
	return time.Since(start), ctx.Err()
}

// idle reports whether nothing waits to be captured or removed.
func (s *subject) idle() (bool, error) {
	if s.name != "ShareFS" {
		return true, nil
	}
	state, err := s.state()
	return err == nil && state.Now.Settling+state.Now.Removing+state.Capture.Queue == 0, err
}

// captured waits until all that lies in the mount is in packs.
func (s *subject) captured(ctx context.Context) error {
	for {
		state, err := s.state()
		if err != nil || state.Now.Settling+state.Capture.Queue == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (s *subject) state() (state captureState, err error) {
	text, err := os.ReadFile(filepath.Join(s.root, ".share/ctl/status.json"))
	if err != nil {
		return state, err
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return state, fmt.Errorf("status.json: %w", err)
	}
	return state, nil
}

// cpuTicks returns the processor time that a process has taken, in hundredths of a second (utime and stime of proc(5)).
func cpuTicks(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // the name before it may hold anything
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return user + system, err
}

// dropCaches empties the kernel's caches: "2" for dentries and inodes, "3" for pages too (Linux, admin-guide/sysctl/vm).
func dropCaches(what string) error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte(what), 0)
}

// newDir makes an empty directory for one step.
func (s *subject) newDir(name string) (string, error) {
	dir := filepath.Join(s.dir, name)
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return dir, os.Mkdir(dir, 0o755)
}
