package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

var errEnough = errors.New("enough files")

// trees measures the commands people run on a tree of source: a part of Go's own, which is on every machine that builds this.
func trees(ctx context.Context, o options, subjects []*subject, t *tables) error {
	count := 5_000
	if o.quick {
		count = 500
	}
	names := []string{"tar x", "git clone", "git status", "cp -r", "rm -rf"}
	wanted := false
	for _, n := range names {
		wanted = wanted || o.match.MatchString(n)
	}
	if !wanted {
		return nil
	}
	source, err := os.MkdirTemp(o.dir, "sharefs-bench-source-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(source)
	if err := makeSource(ctx, source, count); err != nil {
		return err
	}
	table := t.table("Trees", fmt.Sprintf("A tree of %d files of Go's source. Milliseconds; what captures take afterwards is a row of its own.", count))
	limit := gate{against: "ext4", atMost: 2}
	settled := table.row("captures behind all", "ms", false)
	for round := range o.rounds {
		behind := make(map[string]time.Duration)
		for _, n := range names {
			r := table.row(n, "ms", false, limit)
			for i := range subjects {
				s := subjects[(i+round)%len(subjects)]
				if _, err := s.settle(ctx); err != nil {
					return err
				}
				var argv []string
				switch n {
				case "tar x":
					dir, err := s.newDir("tar")
					if err != nil {
						return err
					}
					argv = []string{"tar", "-xf", filepath.Join(source, "tree.tar"), "-C", dir}
				case "git clone":
					argv = []string{"git", "clone", "-q", "--no-local", filepath.Join(source, "tree"), filepath.Join(s.dir, "clone")}
				case "git status":
					argv = []string{"git", "-C", filepath.Join(s.dir, "clone"), "status", "--porcelain"}
				case "cp -r":
					argv = []string{"cp", "-r", filepath.Join(s.dir, "tar"), filepath.Join(s.dir, "copy")}
				case "rm -rf":
					argv = []string{"rm", "-rf", filepath.Join(s.dir, "tar"), filepath.Join(s.dir, "clone"), filepath.Join(s.dir, "copy")}
				}
				start := time.Now()
				if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
					return fmt.Errorf("%v on %s: %w: %s", argv, s.name, err, out)
				}
				r.add(s.name, float64(time.Since(start).Microseconds())/1e3)
				took, err := s.settle(ctx)
				if err != nil {
					return err
				}
				behind[s.name] += took
			}
		}
		for _, s := range subjects {
			settled.add(s.name, float64(behind[s.name].Milliseconds()))
		}
	}
	return nil
}

// makeSource lays out count files, as a git repository and as a tar archive of the same.
func makeSource(ctx context.Context, dir string, count int) error {
	tree := filepath.Join(dir, "tree")
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	from := filepath.Join(strings.TrimSpace(string(root)), "src")
	left := count
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "testdata" {
			return fs.SkipDir
		}
		to := filepath.Join(tree, path[len(from):])
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if left--; left < 0 {
			return errEnough
		}
		return os.WriteFile(to, text, 0o644)
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	for _, argv := range [][]string{
		{"git", "-C", tree, "init", "-q"}, {"git", "-C", tree, "add", "-A"},
		{"git", "-C", tree, "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-qm", "tree"},
		{"git", "-C", tree, "gc", "-q"},
		{"tar", "-cf", filepath.Join(dir, "tree.tar"), "--exclude=.git", "-C", tree, "."},
	} {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", argv, err, out)
		}
	}
	return nil
}
