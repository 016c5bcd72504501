package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"sharefs/internal/daemon"
	"sharefs/internal/term"
)

// serve mounts, tells ready, and returns when the mount has ended and all is saved.
func serve(c *call, ready func(*daemon.Daemon)) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	d, err := daemon.Start(daemon.Config{Point: c.point, Source: c.source, Options: c.options, Foreground: c.foreground})
	if err != nil {
		return err
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
