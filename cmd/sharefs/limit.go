package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/term"
	"sharefs/peers/report"
)

// limitNames are what a peer can be limited in.
var limitNames = []string{"up", "down", "quota", "records", "domain"}

func (a *app) limitPeer() *cobra.Command {
	return &cobra.Command{
		Use:   "limit NAME [up=10MB/s] [down=10MB/s] [quota=50GB] [records=2000000] [domain=office]",
		Short: "Show or bound what a peer may cost this host",
		Long: `Show or bound what a peer may cost this host:

  up=10MB/s        content that it is sent
  down=10MB/s      content that is taken of it
  quota=50GB       what is kept for it
  records=2000000  changes of its own that are kept here, of names, contents and
                   attributes; what is beyond waits with it until the bound is raised

  domain=office    what fails together with it: of copies that peers of one domain
                   keep one counts

"none" lifts a bound. Without any, those that it has are shown, as the command takes
them. Bounds count at once; names and changes never wait behind content.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" {
				return exactly("NAME")(nil, args[:min(1, len(args))])
			}
			for _, w := range args[1:] {
				if name, value, ok := strings.Cut(w, "="); !ok || value == "" || !slices.Contains(limitNames, name) {
					return usage("%s is no limit: a limit is such as up=10MB/s, down=none, quota=50GB or records=2000000", term.Quote(w))
				}
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) (words []string, d cobra.ShellCompDirective) {
			if len(args) == 0 {
				return a.completePeers(cmd, args, word)
			}
			for _, name := range limitNames {
				words = append(words, name+"=")
			}
			return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			if len(args) > 1 {
				ask := map[string]string{"peer": args[0]}
				for _, w := range args[1:] {
					name, value, _ := strings.Cut(w, "=")
					ask[name] = value
				}
				if _, err := m.AskPeers("peer-limit", ask); err != nil {
					return err
				}
			}
			all, err := m.Peers()
			if err != nil {
				return err
			}
			p := findPeer(all, args[0])
			if p == nil {
				return noPeer(args[0], all)
			}
			limits := p.Limits
			if limits == nil {
				limits = new(report.Limits)
			}
			if a.json {
				return a.writeJSON(struct {
					Name string `json:"name"`
					*report.Limits
				}{p.Name, limits})
			}
			if limits.Text == "" {
				return a.printf("There is no limit for %s.\n", term.Quote(p.Name))
			}
			return a.printf("%s\n", term.Clean(limits.Text))
		},
	}
}

// noPeer says that none is called by a word, and which there are.
func noPeer(word string, all []report.Peer) error {
	names := make([]string, len(all))
	for i := range all {
		names[i] = term.Clean(all[i].Name)
	}
	detail := "no peer has this name; known are " + strings.Join(names, ", ")
	if len(names) == 0 {
		detail = "no peer has this name: this store is paired with nobody yet (sharefs pair)"
	}
	return &sharefs.Error{Op: "peer", Path: term.Quote(word), Kind: sharefs.KindNotExist, Detail: detail}
}
