package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// A cache state is what the kernel holds of the file when a job begins. It is made the same way for every subject, and fio
// itself leaves it alone (--invalidate=0): the posix_fadvise(2) by which it would else empty the cache reaches the pages of a
// file on a disk, but not those of the file below a FUSE mount.
type cacheState int

const (
	absent cacheState = iota // the job makes the file
	cold                     // the file is on the disk and nothing of it in memory
	warm                     // the file was read once from start to end after that
)

// dataJob is one row of the data path.
type dataJob struct {
	name  string
	cache cacheState
	args  []string // of fio
}

// dataJobs returns the rows. Warm files lie in large folios, as reading ahead makes them, and what a job newly brings into an empty cache
// by writing 4 KiB lies in folios of a page; a write of 4 KiB into a large folio costs ext4 several times as much, for it
// walks all buffers of the folio. So random writes are measured in both states.
func dataJobs(runtime string) []dataJob {
	once := func(engine, rw, bs string, more ...string) []string {
		return append([]string{"--ioengine=" + engine, "--rw=" + rw, "--bs=" + bs}, more...)
	}
	timed := func(engine, rw, bs string) []string {
		return once(engine, rw, bs, "--time_based", "--runtime="+runtime)
	}
	return []dataJob{
		{"sequential write", absent, once("psync", "write", "1M")},
		{"sequential write + fsync", absent, once("psync", "write", "1M", "--end_fsync=1")},
		{"sequential read, cold", cold, once("psync", "read", "1M")},
		{"sequential read, warm", warm, timed("psync", "read", "1M")},
		{"random read 4 KiB, cold", cold, timed("psync", "randread", "4k")},
		{"random read 4 KiB, warm", warm, timed("psync", "randread", "4k")},
		{"random write 4 KiB, cold", cold, timed("psync", "randwrite", "4k")},
		{"random write 4 KiB, warm", warm, timed("psync", "randwrite", "4k")},
		{"mmap sequential read, cold", cold, once("mmap", "read", "1M")},
		{"mmap sequential read, warm", warm, timed("mmap", "read", "1M")},
		{"mmap random read 4 KiB, warm", warm, timed("mmap", "randread", "4k")},
		{"mmap sequential write, warm", warm, timed("mmap", "write", "1M")},
		{"mmap random write 4 KiB, warm", warm, timed("mmap", "randwrite", "4k")},
	}
}

// dataPath measures content with fio: one job, with the plain system calls or a mapping, on one file.
func dataPath(ctx context.Context, o options, subjects []*subject, t *tables) error {
	size, runtime := int64(512<<20), "1s"
	if o.quick {
		size, runtime = 64<<20, "200ms"
	}
	var jobs []dataJob
	for _, j := range dataJobs(runtime) {
		if o.match.MatchString(j.name) {
			jobs = append(jobs, j)
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	table := t.table("Data path", fmt.Sprintf("fio, one job, one file of %d MiB, %d rounds; rows of 4 KiB and warm ones run for %s. "+
		"Without a state the file is made anew; cold: caches dropped; warm: read once from start to end after that. MB/s (10⁶ bytes).",
		size>>20, o.rounds, runtime))
	disk := gate{against: "ext4", atLeast: 0.95}
	for round := range o.rounds {
		for _, j := range jobs {
			r := table.row(j.name, "MB/s", true, disk)
			for i := range subjects {
				s := subjects[(i+round)%len(subjects)]
				rate, err := s.fio(ctx, size, j)
				if err != nil {
					return fmt.Errorf("%s on %s: %w", j.name, s.name, err)
				}
				r.add(s.name, rate/1e6)
			}
		}
	}
	for _, s := range subjects {
		if err := os.Remove(filepath.Join(s.dir, "fio")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// fio runs one job on a file of size bytes and returns bytes per second.
func (s *subject) fio(ctx context.Context, size int64, j dataJob) (float64, error) {
	file := filepath.Join(s.dir, "fio")
	if j.cache == absent {
		file = filepath.Join(s.dir, "fio-new")
		defer os.Remove(file)
	} else if err := layOut(file, size); err != nil {
		return 0, err
	}
	if _, err := s.settle(ctx); err != nil {
		return 0, err
	}
	if err := dropCaches("3"); err != nil {
		return 0, err
	}
	if j.cache == warm {
		if err := readThrough(file); err != nil {
			return 0, err
		}
	}
	args := append([]string{"--name=j", "--filename=" + file, fmt.Sprintf("--size=%d", size), "--output-format=json",
		"--fallocate=none", "--invalidate=0", "--fadvise_hint=0"}, j.args...)
	out, err := exec.CommandContext(ctx, "fio", args...).Output()
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

// layOut makes a file of size bytes that are no zeros, unless it is there.
func layOut(file string, size int64) error {
	if at, err := os.Stat(file); err == nil && at.Size() == size {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	piece := make([]byte, 1<<20)
	for i := range piece {
		piece[i] = byte(i*i>>8) | 1
	}
	for at := int64(0); at < size; at += int64(len(piece)) {
		if _, err := f.Write(piece[:min(int64(len(piece)), size-at)]); err != nil {
			return err
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

// readThrough reads a file from start to end, a mebibyte at a time.
func readThrough(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for buf := make([]byte, 1<<20); err == nil; {
		_, err = f.Read(buf)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
