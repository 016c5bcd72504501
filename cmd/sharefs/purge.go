package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sharefs/internal/term"
	"sharefs/peers/report"
)

// purgeHelp explains --purge.
const purgeHelp = `With --purge what the peer did to the tree is taken back as well: what it removed is
there again, what it moved is where it was, files of others to which it wrote are as
the newest version by another host has them, and what it made is removed, unless others
wrote to it since. This is a change by this host: it travels as any other, and sharefs
undo takes it back. With --dry-run it is only shown: neither the tree nor what the peer
may is changed.`

// withPurge gives a command about the trust in a peer, which is its first argument, the flags by which what that peer did is taken back once it is done.
func (a *app) withPurge(cmd *cobra.Command) {
	var purge, dry bool
	cmd.Flags().BoolVar(&purge, "purge", false, "Take back what the peer did to the tree")
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "With --purge: show what that would change, and do nothing")
	run := cmd.RunE
	cmd.RunE = func(c *cobra.Command, args []string) error {
		if dry && !purge {
			return usage("--dry-run goes with --purge")
		}
		if !purge {
			return run(c, args)
		}
		if len(args) == 3 {
			return usage("--purge is about all that the peer did: leave PATH away")
		}
		m, err := a.live()
		if err != nil {
			return err
		}
		if !dry && !a.json {
			if err := run(c, args); err != nil {
				return err
			}
		} else if !dry { // the answer is that of the purge
			if err := a.silently(func() error { return run(c, args) }); err != nil {
				return err
			}
		}
		changes, err := m.Purge(args[0], dry)
		if err != nil {
			return err
		}
		if a.json {
			return a.writeJSON(struct {
				Peer    string          `json:"peer"`
				DryRun  bool            `json:"dry_run"`
				Changes []report.Change `json:"changes"`
			}{args[0], dry, append([]report.Change{}, changes...)})
		}
		return a.tellPurge(args[0], changes, dry)
	}
}

// silently does something that writes, without what it writes.
func (a *app) silently(fn func() error) error {
	out, json := a.out, a.json
	a.out, a.json = new(strings.Builder), false
	defer func() { a.out, a.json = out, json }()
	return fn()
}

func (a *app) tellPurge(peer string, changes []report.Change, dry bool) error {
	var b strings.Builder
	for _, c := range changes {
		path := term.Quote(c.Path)
		if c.From != "" {
			path = term.Quote(c.From) + " to " + path
		}
		fmt.Fprintf(&b, "%-11s %s\n", c.What, path)
	}
	what := term.Of(uint64(len(changes)), "change")
	switch {
	case len(changes) == 0:
		fmt.Fprintf(&b, "Nothing of what %s did is in the tree.\n", term.Quote(peer))
	case dry:
		fmt.Fprintf(&b, "Would take back what %s did: %s.\n", term.Quote(peer), what)
	default:
		fmt.Fprintf(&b, "What %s did is taken back: %s. sharefs undo brings back what it did.\n", term.Quote(peer), what)
	}
	return a.printf("%s", b.String())
}
