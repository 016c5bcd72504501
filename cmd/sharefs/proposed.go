package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
	"sharefs/peers/report"
)

func (a *app) proposed() *cobra.Command {
	return &cobra.Command{
		Use:   "proposed [PEER [PATH]]",
		Short: "List what peers propose that may not write",
		Long: `List what peers propose that may not write (level propose): what they added, changed,
removed and renamed, all of them or PEER, at PATH and below. Nothing of it counts here
until it is accepted. .share/peers/PEER is the tree as that peer has it:

  diff -r DIR .share/peers/PEER/DIR
  sharefs diff FILE FILE@@PEER
  sharefs accept PEER PATH…           Take it: files and directories with all below
  sharefs reject PEER PATH…           Forget it, until the peer changes it again`,
		Args: between(2), ValidArgsFunction: a.completePeers,
		RunE: func(_ *cobra.Command, args []string) error {
			m, below, err := a.atPath(args)
			if err != nil {
				return err
			}
			peers, err := m.Peers()
			if err != nil {
				return err
			}
			if len(args) > 0 {
				p := findPeer(peers, args[0])
				if p == nil {
					return noPeer(args[0], peers)
				}
				peers = []report.Peer{*p}
			}
			out := []report.Proposed{}
			for i := range peers {
				p, err := proposedBy(m, peers[i].Name)
				if err != nil {
					return err
				}
				var list []report.Proposal
				for _, c := range p.Changes {
					if isBelow(c.Path, below) || c.From != "" && isBelow(c.From, below) {
						list = append(list, c)
					}
				}
				if p.Changes = list; len(list) > 0 {
					out = append(out, *p)
				}
			}
			if len(out) == 0 && below != "" { // what the peer has alone would be listed
				if err := there(args[1]); err != nil {
					return err
				}
			}
			if a.json {
				return a.writeJSON(out)
			}
			return a.listProposed(out)
		},
	}
}

func isBelow(path, dir string) bool {
	return dir == "" || path == dir || strings.HasPrefix(path, dir+"/")
}

// atPath finds the mount, and the path that the second argument names in it; empty: all of it.
func (a *app) atPath(args []string) (m *client.Mount, path string, err error) {
	if len(args) < 2 {
		m, err = a.here()
		return m, "", err
	}
	return inPeersTree(args[1])
}

// inPeersTree finds the mount and the path in it of a name, which may be one below .share/peers/PEER, too.
func inPeersTree(name string) (m *client.Mount, path string, err error) {
	if m, path, err = client.NameInMount(name); err != nil {
		return nil, "", err
	}
	if rest, ok := strings.CutPrefix(path, ".share/peers/"); ok {
		_, path, _ = strings.Cut(rest, "/")
	}
	return m, strings.TrimSuffix(strings.TrimPrefix(path, "."), "/"), nil
}

func proposedBy(m *client.Mount, peer string) (*report.Proposed, error) {
	text, err := m.CtlText("peers/" + peer + "/proposed.json")
	if err != nil {
		return nil, err
	}
	p := new(report.Proposed)
	if err := json.Unmarshal(text, p); err != nil {
		return nil, &sharefs.Error{Op: "read what is proposed by", Path: term.Quote(peer), Kind: sharefs.KindCorrupt, Err: err}
	}
	return p, nil
}

func (a *app) listProposed(all []report.Proposed) error {
	if len(all) == 0 {
		return a.printf("Nothing is proposed.\n")
	}
	var b strings.Builder
	for i := range all {
		p := &all[i]
		peer := term.Quote(p.Peer)
		fmt.Fprintf(&b, "%s proposes %s:\n", peer, term.Of(uint64(len(p.Changes)), "change"))
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for j := range p.Changes {
			what, name, size, more := proposalText(&p.Changes[j])
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", what, name, size, more)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(&b, "  sharefs accept %s PATH takes it, sharefs reject %s PATH forgets it (--all)\n", peer, peer)
	}
	return a.printf("%s", trimLines(b.String()))
}

// proposalText tells of one change in columns.
func proposalText(c *report.Proposal) (what, name, size, more string) {
	what, name = c.What, term.Quote(c.Path)
	if c.Type == "directory" {
		name += "/"
	}
	if c.From != "" {
		name = term.Quote(c.From) + " -> " + name
	}
	var notes []string
	switch {
	case c.Type == "symlink" && c.Target != "":
		size = "-> " + term.Quote(c.Target)
	case c.Type == "file" && (c.Content || c.What == report.Removed):
		size = term.Size(c.Size)
	}
	if c.Content && c.What != report.Added && c.Type == "file" {
		notes = append(notes, "was "+term.Size(c.Before))
	}
	if c.Content && c.What == report.Renamed {
		notes = append(notes, "other content")
	}
	if c.Attributes {
		notes = append(notes, "other permissions or attributes")
	}
	if c.Times {
		notes = append(notes, "another time: "+c.Time.Local().Format(time.DateTime))
	}
	if c.Beside {
		notes = append(notes, "changed here too")
	}
	return what, name, size, strings.Join(notes, ", ")
}

func (a *app) accept() *cobra.Command {
	return a.decideProposed("accept PEER PATH…", "Take what a peer proposes into the live tree",
		`Take what a peer proposes into the live tree: files, and directories with all below.
It counts from then on as if it was done here, on all hosts that take changes of this
one. What the files held before stays in their history; where a file was changed here,
too, that is overruled (sharefs diff FILE FILE@@PEER shows both first). What cannot be
taken is left, and says why: exit status 1.`, "accepted")
}

func (a *app) reject() *cobra.Command {
	return a.decideProposed("reject PEER PATH…", "Forget what a peer proposes",
		`Forget what a peer proposes: it is not shown any more until the peer changes the same
file again. Nothing of that is told to the peer, whose own files stay as they are.`, "rejected")
}

func (a *app) decideProposed(use, short, long, done string) *cobra.Command {
	verb, _, _ := strings.Cut(use, " ")
	var all bool
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, ValidArgsFunction: a.completePeers,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exactly("PEER")(nil, args)
			}
			if all != (len(args) == 1) {
				return usage("name PATHs to %s, or --all and none", verb)
			}
			return noneEmpty(args, "PEER")
		},
		RunE: func(_ *cobra.Command, args []string) error {
			ask := map[string]string{"peer": args[0], "all": "yes"}
			m, err := a.here()
			if !all {
				var paths []string
				for _, arg := range args[1:] {
					path := ""
					if m, path, err = inPeersTree(arg); err != nil {
						return err
					}
					paths = append(paths, path)
					all = all || path == ""
				}
				if !all {
					ask["all"], ask["paths"] = "", strings.Join(paths, "\x00")
				}
			}
			if err != nil {
				return err
			}
			d, err := m.Decide(verb, ask)
			if err != nil {
				return err
			}
			return a.tellDecided(d, done)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "All that the peer proposes")
	return cmd
}

// tellDecided tells what became of it.
func (a *app) tellDecided(d *report.Decided, done string) error {
	if len(d.Left) > 0 {
		a.exit = exitFailed
	}
	if a.json {
		return a.writeJSON(d)
	}
	var b strings.Builder
	for i := range d.Done {
		what, name, _, _ := proposalText(&d.Done[i])
		fmt.Fprintf(&b, "%s: %s %s\n", done, what, name)
	}
	for _, l := range d.Left {
		fmt.Fprintf(&b, "left: %s: %s\n", term.Quote(l.Path), term.Clean(l.Why))
	}
	return a.printf("%s", b.String())
}
