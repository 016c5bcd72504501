package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
	"sharefs/peers/report"
)

// mostHeldShown is how many names are shown of what is held of one peer.
const mostHeldShown = 8

func (a *app) held() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "held",
		Short: "List removals in bulk by peers that wait for you",
		Long: `List removals and renames in bulk by peers that wait for you. When a peer with the
level write removes or renames more than 100 files within ten minutes, or more than
10 % of the tree (20 files at the least), what goes beyond is held: here the files stay
as they are. A removed or renamed directory counts once itself; a file that is saved,
in whatever way, does not count. What else the peer writes goes on, also in these files.

Each host decides for itself; a peer with the level manage is not held.`,
		Args: commands,
		RunE: func(*cobra.Command, []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			all, err := m.Held()
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(all)
			}
			return a.listHeld(all)
		},
	}
	cmd.AddCommand(
		a.decideHeld("accept PEER", "Let the held removals of a peer count",
			"Let the held removals and renames of a peer count on this host. Removed files stay in\nits past (sharefs find --deleted).", "yes",
			func(h *report.Held) string { return heldCounts(h) + " by " + term.Clean(h.Peer) + " count now." }),
		a.decideHeld("reject PEER", "Put back what a peer removed or renamed in bulk",
			"Put back what a peer removed or renamed in bulk: what is held keeps its name on all\nhosts, also on those where it had gone, and so does what had counted before it was too\nmuch, where nothing else has the name by now. All content comes back as it was.", "no",
			func(h *report.Held) string {
				with := ""
				if n := len(h.Counted); n > 0 {
					with = fmt.Sprintf(" with %s that had counted before", term.Count(uint64(n)))
				}
				return heldCounts(h) + " by " + term.Clean(h.Peer) + " are put back" + with + ", on the other hosts too."
			}),
	)
	return cmd
}

func heldCounts(h *report.Held) string {
	var parts []string
	if h.Removals > 0 {
		parts = append(parts, term.Of(uint64(h.Removals), "removal"))
	}
	if h.Renames > 0 {
		parts = append(parts, term.Of(uint64(h.Renames), "rename"))
	}
	return strings.Join(parts, " and ")
}

func (a *app) listHeld(all []report.Held) error {
	if len(all) == 0 {
		return a.printf("Nothing is held.\n")
	}
	var b strings.Builder
	for i := range all {
		h := &all[i]
		peer := term.Quote(h.Peer)
		fmt.Fprintf(&b, "%s: %s since %s; %d more had counted before\n", peer, heldCounts(h), term.Second(h.Since), h.Before)
		listHeldNames(&b, h.Names, h.Removals+h.Renames)
		if len(h.Counted) > 0 {
			fmt.Fprintf(&b, "  had counted, and comes back with sharefs held reject %s:\n", peer)
			listHeldNames(&b, h.Counted, len(h.Counted))
		}
		fmt.Fprintf(&b, "  sharefs held accept %s lets them count here; sharefs held reject %s puts everything back\n", peer, peer)
	}
	return a.printf("%s", trimLines(b.String()))
}

// listHeldNames writes the first of some names, of which there are so many in all, and what becomes of each.
func listHeldNames(b *strings.Builder, names []report.HeldName, all int) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for i := range names[:min(mostHeldShown, len(names))] {
		n := &names[i]
		what, slash := "removed", ""
		if n.To != "" {
			what = "renamed to " + term.Quote(n.To)
		}
		if n.Type == "directory" {
			slash = "/"
		}
		fmt.Fprintf(w, "  %s\t%s\n", term.Quote(n.Path)+slash, what)
	}
	w.Flush() // into memory
	if more := all - mostHeldShown; more > 0 {
		fmt.Fprintf(b, "  and %s more\n", term.Count(uint64(more)))
	}
}

func (a *app) decideHeld(use, short, long, accept string, done func(*report.Held) string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Args: exactly("PEER"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (names []string, d cobra.ShellCompDirective) {
			if m, err := a.here(); err == nil && len(args) == 0 {
				if all, err := m.Held(); err == nil {
					for i := range all {
						names = append(names, all[i].Peer)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			h, err := findHeld(m, args[0])
			if err != nil {
				return err
			}
			if _, err := m.AskPeers("held", map[string]string{"peer": h.ID, "accept": accept}); err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(h)
			}
			return a.printf("%s\n", done(h))
		},
	}
}

// findHeld finds what is held of a peer, by its name or the beginning of its id.
func findHeld(m *client.Mount, word string) (*report.Held, error) {
	all, err := m.Held()
	if err != nil {
		return nil, err
	}
	peers, err := m.Peers()
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range all {
		h := &all[i]
		if id, err := sharefs.ParsePeerID(h.ID); strings.EqualFold(h.Peer, word) || err == nil && id.Begins(word) {
			return h, nil
		}
		names = append(names, h.Peer)
	}
	if findPeer(peers, word) == nil {
		return nil, noPeer(word, peers)
	}
	detail := "nothing is held"
	if len(names) > 0 {
		detail = "nothing of this peer is held; there is something of " + term.Clean(strings.Join(names, ", "))
	}
	return nil, &sharefs.Error{Path: term.Quote(word), Kind: sharefs.KindNotExist, Detail: detail}
}
