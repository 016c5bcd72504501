package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"sharefs/internal/daemon"
	"sharefs/internal/store"
	"sharefs/internal/term"
)

// serve mounts, tells ready, and returns when the mount has ended and all is saved.
func serve(c *call, ready func(*daemon.Daemon)) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	waiting := func(l *store.LockedError) { warn("waiting: " + l.Error()) }
	d, err := daemon.Start(ctx, daemon.Config{Point: c.point, Source: c.source, Options: c.options, Foreground: c.foreground, Waiting: waiting})
	if err != nil {
		return err
	}
	if ctx.Err() != nil { // whoever waits for the mount does not want it any more
		d.Stop()
		_ = d.Wait()
		return errors.New("ended by a signal before the mount could be used")
	}
	ready(d)
	go func() {
		for s := range signals {
			if s == syscall.SIGHUP && !c.foreground {
				continue // the terminal it was started from is gone, which is no concern of a daemon
			}
			go d.Stop()
		}
	}()
	return d.Wait()
}

// announce is how a mount in front says that it can be used.
func announce(d *daemon.Daemon) {
	for _, w := range d.Warnings {
		warn(w)
	}
	fmt.Printf("mounted at %s\n", term.Quote(d.Point()))
}
