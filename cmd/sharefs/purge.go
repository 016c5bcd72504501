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

// cutHelp explains --cut.
const cutHelp = `A revocation is told to the other hosts, which show it and otherwise go on as they are.
Where a peer is revoked on several of them, each takes back what it had taken of that
one behind the moment at which the first of them revoked it, but for what others went on
from: so they come to one tree. Where that is much, as a removal in bulk is, it waits for
--cut (sharefs status says so).`

// withPurge gives a command about the trust in a peer, which is its first argument, the flags by which what that peer did is taken back once it is done.
func (a *app) withPurge(cmd *cobra.Command, cuts bool) {
	var purge, cut, dry bool
	name := "--purge"
	if cuts {
		cmd.Flags().BoolVar(&cut, "cut", false, "Take back what the peer wrote past where another host revoked it, also if that is much")
		name = "--purge or --cut"
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "Take back what the peer did to the tree")
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "With "+name+": show what that would change, and do nothing")
	run := cmd.RunE
	cmd.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case purge && cut:
			return usage("--purge takes back all that the peer did, --cut a part: choose one")
		case dry && !purge && !cut:
			return usage("--dry-run goes with %s", name)
		case !purge && !cut:
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
		done, err := m.Purge(args[0], cut, dry)
		if err != nil {
			return err
		}
		if a.json {
			return a.writeJSON(struct {
				Peer    string          `json:"peer"`
				DryRun  bool            `json:"dry_run"`
				Changes []report.Change `json:"changes"`
				CutBy   string          `json:"cut_by,omitempty"`
			}{args[0], dry, append([]report.Change{}, done.Changes...), done.CutBy})
		}
		if cut && done.CutBy == "" {
			return a.printf("No host whose writing counts in the whole share has revoked %s.\n", term.Quote(args[0]))
		}
		return a.tellPurge(args[0], &done, dry)
	}
}

// silently does something that writes, without what it writes.
func (a *app) silently(fn func() error) error {
	out, json := a.out, a.json
	a.out, a.json = new(strings.Builder), false
	defer func() { a.out, a.json = out, json }()
	return fn()
}

func (a *app) tellPurge(peer string, done *report.Answer, dry bool) error {
	var b strings.Builder
	what := term.Quote(peer) + " did"
	switch done.CutBy {
	case "":
	case report.Here:
		what += " past where this host revoked it"
	default:
		what += " past where " + term.Quote(done.CutBy) + " revoked it"
	}
	for _, c := range done.Changes {
		path := term.Quote(c.Path)
		if c.From != "" {
			path = term.Quote(c.From) + " to " + path
		}
		fmt.Fprintf(&b, "%-11s %s\n", c.What, path)
	}
	n := term.Of(uint64(len(done.Changes)), "change")
	switch {
	case len(done.Changes) == 0:
		fmt.Fprintf(&b, "Nothing of what %s is in the tree.\n", what)
	case dry:
		fmt.Fprintf(&b, "Would take back what %s: %s.\n", what, n)
	default:
		fmt.Fprintf(&b, "What %s is taken back: %s. sharefs undo brings back what it did.\n", what, n)
	}
	return a.printf("%s", b.String())
}
