package main

import (
	"bufio"
	"context"
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

// millionFiles measures what a large tree costs: how long a start takes, how long find does, and how much memory the daemon
// holds afterwards. It runs once, last, for it takes minutes to make the files.
func millionFiles(ctx context.Context, o options, subjects []*subject, t *tables) error {
	if !o.million || !o.match.MatchString("million") {
		return nil
	}
	count := 1_000_000
	if o.quick {
		count = 20_000
	}
	table := t.table("A million files", fmt.Sprintf("%d empty files in directories of 1,000, made through the mount; once, caches dropped before each find.", count))
	made := table.row("making them", "s", false)
	find := table.row("find, a million, cold", "s", false, gate{against: "ext4", atMost: 3})
	start := table.row("start", "s", false, gate{atMost: 1})
	memory := table.row("resident after find", "MB", false, gate{atMost: 300})
	anonymous := table.row("of it anonymous", "MB", false)
	for _, s := range subjects {
		if s.name == "loopback" {
			continue
		}
		began := time.Now()
		if err := makeFiles(ctx, filepath.Join(s.dir, "million"), count); err != nil {
			return err
		}
		made.add(s.name, time.Since(began).Seconds())
		if _, err := s.settle(ctx); err != nil {
			return err
		}
		if s.name == "ShareFS" {
			took, err := s.restart(ctx)
			if err != nil {
				return err
			}
			start.add(s.name, took.Seconds())
		}
		for range min(o.rounds, 3) {
			if err := dropCaches("3"); err != nil {
				return err
			}
			began = time.Now()
			out, err := exec.CommandContext(ctx, "sh", "-c", `find "$1" -type f | wc -l`, "sh", filepath.Join(s.dir, "million")).Output()
			if err != nil {
				return fmt.Errorf("find on %s: %w", s.name, err)
			}
			if n, _ := strconv.Atoi(strings.TrimSpace(string(out))); n != count {
				return fmt.Errorf("find on %s saw %d of %d files", s.name, n, count)
			}
			find.add(s.name, time.Since(began).Seconds())
		}
		if s.pid != 0 {
			rss, anon, err := resident(s.pid)
			if err != nil {
				return err
			}
			memory.add(s.name, rss)
			anonymous.add(s.name, anon)
		}
	}
	return nil
}

func makeFiles(ctx context.Context, dir string, count int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i := range count {
		sub := filepath.Join(dir, strconv.Itoa(i/1000))
		if i%1000 == 0 {
			if err := errors.Join(ctx.Err(), os.Mkdir(sub, 0o755)); err != nil {
				return err
			}
		}
		if err := syscall.Mknod(filepath.Join(sub, strconv.Itoa(i)), syscall.S_IFREG|0o644, 0); err != nil {
			return err
		}
	}
	return nil
}

// resident reads the resident memory of a process, all of it and the anonymous part, in MB (10⁶ bytes).
func resident(pid int) (all, anonymous float64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		kB, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			all = kB * 1024 / 1e6
		case "RssAnon":
			anonymous = kB * 1024 / 1e6
		}
	}
	return all, anonymous, nil
}
