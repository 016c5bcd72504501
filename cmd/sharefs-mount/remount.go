package main

import (
	"sharefs/internal/daemon"
)

// remount changes the options of a mount that is there, from outside of its daemon.
func remount(c *call) error {
	warnings, err := daemon.Remount(c.point, c.options, c.helper)
	for _, w := range warnings {
		warn(w)
	}
	return err
}
