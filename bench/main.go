// Command bench measures ShareFS beside what it is compared with: the disk below (ext4 or whatever holds -dir) and the
// loopback filesystem that comes with go-fuse. All three work on the same disk in the same run, row by row and round by
// round in turn, so that whatever else the machine does falls on each alike; the medians are what is printed.
//
// Before each step the disk is synced and ShareFS's captures have settled, so that no work left over from one system is paid
// by the next; what the captures themselves take is a row of its own.
//
//	go run ./bench [-run REGEXP] [-programs REGEXP] [-rounds N] [-quick] [-million=false] [-dir DIR] [-on TEXT] [-md FILE]
//
// Needs root (mounts, drop_caches), fio, git, restic, borg and syncthing. A gate that is missed is marked, and the exit code stays 0: timing is never
// a test.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

type options struct {
	rounds  int
	quick   bool
	million bool
	match   *regexp.Regexp
	peers   *regexp.Regexp // programs between which folders are kept the same
	md      string
	dir     string
	on      string
}

func main() {
	var o options
	run := flag.String("run", ".", "measure only rows whose name matches this regular expression")
	programs := flag.String("programs", ".", "of those that keep folders the same, measure only programs whose name matches this regular expression")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds over all rows; medians are printed")
	flag.BoolVar(&o.quick, "quick", false, "a tenth of the work in each row, to see that all runs")
	flag.BoolVar(&o.million, "million", true, "measure start, find and memory with a million files")
	flag.StringVar(&o.md, "md", "", "write the tables into this file between its bench markers, each in the place of the one with its title")
	flag.StringVar(&o.dir, "dir", "", "where to work, on the disk to be measured (default: the temporary directory)")
	flag.StringVar(&o.on, "on", "", "what is said in the titles of the tables, such as the disk that -dir lies on")
	flag.Parse()
	var err error
	if o.match, err = regexp.Compile(*run); err != nil {
		fail(fmt.Errorf("-run %s: %w", *run, err))
	}
	if o.peers, err = regexp.Compile(*programs); err != nil {
		fail(fmt.Errorf("-programs %s: %w", *programs, err))
	}
	if os.Geteuid() != 0 {
		fail(fmt.Errorf("bench mounts filesystems and drops the kernel's caches: run it as root"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, o); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// measure sets the subjects up, runs every row, and always takes the subjects down again, on an interrupt too.
func measure(ctx context.Context, o options) (err error) {
	work, err := os.MkdirTemp(o.dir, "sharefs-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work) // the subjects are unmounted by then
	subjects, down, err := setUp(ctx, work)
	defer down()
	if err != nil {
		return err
	}
	t := newTables(subjects, o.on)
	for _, group := range []struct {
		name string
		run  func(context.Context, options, []*subject, *tables) error
	}{{"metadata", metadata}, {"data", dataPath}, {"trees", trees}, {"backups", backups}, {"bucket", bucketRows}, {"peers", peerRows}, {"million", millionFiles}} {
		if err := group.run(ctx, o, subjects, t); err != nil {
			return fmt.Errorf("%s: %w", group.name, err)
		}
	}
	t.print(os.Stdout)
	if o.md != "" {
		return t.writeInto(o.md)
	}
	return nil
}
