package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// dataPath measures content with fio, one job with the plain system calls or a mapping, on one file.
func dataPath(ctx context.Context, o options, subjects []*subject, t *tables) error {
	size, runtime := "512M", 3
	if o.quick {
		size, runtime = "64M", 1
	}
	table := t.table("Data path", fmt.Sprintf("fio, one job, one file of %s; random rows run for %d s. MB/s (10⁶ bytes).", size, runtime))
	disk := gate{against: "ext4", atLeast: 0.95}
	type job struct {
		name string
		cold bool
		args []string
	}
	random := []string{"--bs=4k", "--time_based", "--runtime=" + strconv.Itoa(runtime)}
	jobs := []job{
		{"sequential write", false, []string{"--rw=write", "--bs=1M", "--ioengine=psync"}},
		{"sequential write + fsync", false, []string{"--rw=write", "--bs=1M", "--ioengine=psync", "--end_fsync=1"}},
		{"sequential read, cold", true, []string{"--rw=read", "--bs=1M", "--ioengine=psync"}},
		{"sequential read, warm", false, []string{"--rw=read", "--bs=1M", "--ioengine=psync", "--loops=4", "--invalidate=0"}},
		{"random read 4 KiB, warm", false, append([]string{"--rw=randread", "--ioengine=psync", "--invalidate=0"}, random...)},
		{"random write 4 KiB", false, append([]string{"--rw=randwrite", "--ioengine=psync"}, random...)},
		{"mmap read, warm", false, append([]string{"--rw=randread", "--ioengine=mmap", "--invalidate=0"}, random...)},
		{"mmap write", false, append([]string{"--rw=randwrite", "--ioengine=mmap"}, random...)},
	}
	for round := range o.rounds {
		for _, j := range jobs {
			if !o.match.MatchString(j.name) {
				continue
			}
			r := table.row(j.name, "MB/s", true, disk)
			for i := range subjects {
				s := subjects[(i+round)%len(subjects)]
				rate, err := fio(ctx, s, size, j.cold, j.args)
				if err != nil {
					return fmt.Errorf("%s on %s: %w", j.name, s.name, err)
				}
				r.add(s.name, rate/1e6)
			}
		}
		for _, s := range subjects {
			os.Remove(filepath.Join(s.dir, "fio"))
		}
	}
	return nil
}

// fio runs one job on the subject's file, laid out before if need be, and returns bytes per second.
func fio(ctx context.Context, s *subject, size string, cold bool, args []string) (float64, error) {
	file := filepath.Join(s.dir, "fio")
	base := []string{"--name=j", "--filename=" + file, "--size=" + size, "--output-format=json", "--fallocate=none"}
	if _, err := os.Stat(file); err != nil {
		lay := append(base[:len(base):len(base)], "--rw=write", "--bs=1M", "--end_fsync=1")
		if out, err := exec.CommandContext(ctx, "fio", lay...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("fio: %w: %s", err, out)
		}
	}
	if _, err := s.settle(ctx); err != nil {
		return 0, err
	}
	if cold {
		if err := dropCaches("3"); err != nil {
			return 0, err
		}
	}
	out, err := exec.CommandContext(ctx, "fio", append(base, args...)...).Output()
	if err != nil {
		return 0, fmt.Errorf("fio: %w: %s", err, out)
	}
	type side struct {
		Bytes float64 `json:"io_bytes"`
		BW    float64 `json:"bw_bytes"`
	}
	var report struct {
		Jobs []struct {
			Read, Write side
		} `json:"jobs"`
	}
	if err := json.Unmarshal(out, &report); err != nil || len(report.Jobs) != 1 {
		return 0, fmt.Errorf("fio's report: %w: %s", err, out)
	}
	if r := report.Jobs[0]; r.Read.Bytes > 0 {
		return r.Read.BW, nil
	}
	return report.Jobs[0].Write.BW, nil
}
