package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
	"sharefs/peers/report"
	"sharefs/peers/trust"
	"sharefs/peers/trust/shell"
)

func (a *app) peers() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "Show the hosts that this store is paired with",
		Long: `Show the hosts that this store is paired with: what each may, whether it is
connected, what it lacks of the changes here, what of its own has not come yet, and
why; and other hosts whose changes came with those of peers, and do not count here. .share/ctl/peers has a directory for each, with more.`,
		Args: commands,
		RunE: func(*cobra.Command, []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			all, err := m.Peers()
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(all)
			}
			if err := a.listPeers(all); err != nil {
				return err
			}
			s, err := m.Sync()
			if err != nil {
				return err
			}
			for i := range all {
				for _, text := range all[i].Revocations() {
					if err := a.printf("%s.\n", term.Clean(text)); err != nil {
						return err
					}
				}
			}
			for i := range s.LeftOut {
				if err := a.printf("%s.\n", term.Clean(s.LeftOut[i].Text())); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.AddCommand(
		a.limitPeer(),
		a.peerCommand("rename NAME NEW", "Call a peer by another name",
			"Call a peer by another name, on this host alone. A name has letters, digits, \".\", \"_\" and\n\"-\". It stands where versions of a file are chosen from (FILE@@NAME), so it cannot be a\nnumber, a time, \"here\" or a snapshot.", "peer-rename", "name", "%s is called %s now.\n"),
		a.peerCommand("forget NAME", "Remove a peer and all that it may",
			"Remove a peer and all that it may. It is not blocked: it is unknown, as before the\npairing. To keep it out although a link is given away, revoke it instead.", "peer-forget", "", "%s is forgotten.\n"),
		a.checkBackup(),
		a.peerCommand("drop NAME", "Remove the sealed backup that this host keeps for a peer",
			"Remove the sealed backup that this host keeps for a peer. As long as it has a quota\n(sharefs peers limit NAME quota=none ends that) it gives its backup anew.", "peer-drop", "", "What was kept for %s is removed.\n"),
		a.replacePeer(),
		a.gonePeer(),
	)
	return cmd
}

// checkBackup asks peers for proofs.
func (a *app) checkBackup() *cobra.Command {
	return &cobra.Command{
		Use:   "check [NAME]",
		Short: "Have peers prove that they have the backup that they keep",
		Long: `Have peers of the level store prove that they have the sealed backup that they keep
for this host: of up to 64 files, picked at random, each answers for random places
what only somebody can who can read them at that moment. What one cannot prove is sent
again. The same is asked by itself now and then, for a few files.`,
		Args: between(1), ValidArgsFunction: a.completePeers,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			ask := map[string]string{"peer": ""}
			if len(args) > 0 {
				ask["peer"] = args[0]
			}
			if _, err := m.AskPeers("peer-check", ask); err != nil {
				return err
			}
			peers, err := m.Peers()
			if err != nil {
				return err
			}
			all := slices.DeleteFunc(slices.Clone(peers), func(p report.Peer) bool { return p.Backup == nil })
			if len(args) > 0 {
				p := findPeer(all, args[0])
				if p == nil {
					return noPeer(args[0], peers)
				}
				all = []report.Peer{*p}
			}
			if a.json {
				return a.writeJSON(all)
			}
			for i := range all {
				if err := a.printf("%s: %s\n", term.Clean(all[i].Name), term.Clean(strings.Join(all[i].Backup.Lines(), "; "))); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// replacePeer revokes a peer in favour of another one.
func (a *app) replacePeer() *cobra.Command {
	return &cobra.Command{
		Use: "replace LOST NEW", Short: "Revoke a peer whose key is lost, and give its name to another",
		Long: `Revoke a peer whose key is lost, as after a machine was set up anew, and give its
name to another one, which was paired since. What the lost one was granted does not
pass on: grant it anew. The lost one stays, as NAME-lost: sharefs peers drop removes the
backup that is kept for it, sharefs peers forget removes it.`,
		Args: exactly("LOST", "NEW"), ValidArgsFunction: a.completePeers,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			before, err := m.Peers()
			if err != nil {
				return err
			}
			could, id, _ := policyOf(m, args[0])
			done, err := m.Answer("peer-replace", map[string]string{"peer": args[0], "by": args[1]})
			if err != nil {
				return err
			}
			after, err := m.Peers()
			if err != nil {
				return err
			}
			now := func(word string) (was, is *report.Peer) {
				if was = findPeer(before, word); was != nil {
					is = findPeer(after, was.ID)
				}
				return was, is
			}
			lost, kept := now(args[0])
			_, fresh := now(args[1])
			if kept == nil || fresh == nil {
				return &sharefs.Error{Op: "replace", Path: term.Quote(args[0]), Kind: sharefs.KindStale, Detail: "it is done, and the peers were changed again since: sharefs peers shows how they are"}
			}
			if a.json {
				return a.writeJSON(struct {
					*report.Peer
					Replaced string `json:"replaced"`
				}{fresh, kept.Name})
			}
			if err := a.printf("The key of %s is revoked, and it is called %s from now on; %s has its name now, with the level %s: what the lost one was granted does not pass on.\n",
				term.Clean(lost.Name), term.Clean(kept.Name), term.Quote(args[1]), term.Clean(fresh.Level)); err != nil {
				return err
			}
			if err := a.sayWhatItKnows(m, kept.Name, id, could); err != nil {
				return err
			}
			if err := a.printf("A host that joins later counts nothing of it until it is told, there: sharefs peers gone %s\n", id.Short()); err != nil || done.CutBy == "" {
				return err
			}
			return a.tellPurge(kept.Name, &done, false)
		},
	}
}

// peerCommand is one that changes a peer; its second argument, if there is one, goes under key.
func (a *app) peerCommand(use, short, long, verb, key, done string) *cobra.Command {
	words := strings.Fields(use)
	return &cobra.Command{
		Use: use, Short: short, Long: long, Args: exactly(words[1:]...), ValidArgsFunction: a.completePeers,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			ask := map[string]string{"peer": args[0]}
			say := []any{term.Quote(args[0])}
			if key != "" {
				ask[key] = args[1]
				say = append(say, term.Quote(args[1]))
			}
			before, id, _ := policyOf(m, args[0]) // whether there is such a peer the mount says
			answer, err := m.Answer(verb, ask)
			if err != nil {
				return err
			}
			if a.json {
				return a.writePeer(m, ask["name"], args[0])
			}
			if err := a.printf(done, say...); err != nil {
				return err
			}
			if err := a.sayWhatItKnows(m, args[0], id, before); err != nil || answer.CutBy == "" {
				return err
			}
			return a.tellPurge(args[0], &answer, false)
		},
	}
}

// sayWhatItKnows says what becomes of what a peer has, and of what is new, if there is something that it could read before and may not any more.
func (a *app) sayWhatItKnows(m *client.Mount, name string, id sharefs.PeerID, before trust.Policy) error {
	if now, _, _ := policyOf(m, id.String()); !before.Narrows(id, now) { // of one that is forgotten: nothing
		return nil
	}
	return a.printf("What it has received it knows for ever. What is new here is kept under another share key, which it is not given;\n"+
		"other hosts that trust %s still pass on to it what they have: take it back from it on each of them.\n", term.Quote(name))
}

// writePeer writes what is known of a peer now, by its new name if it has one; of one that is forgotten that name alone.
func (a *app) writePeer(m *client.Mount, now, before string) error {
	all, err := m.Peers()
	if err != nil {
		return err
	}
	name := cmp.Or(now, before)
	if p := findPeer(all, name); p != nil {
		return a.writeJSON(p)
	}
	return a.writeJSON(struct {
		Name string `json:"name"`
	}{name})
}

// findPeer finds one by the words that the mount takes: its name, its id, or at least seven characters that its id alone begins with.
func findPeer(all []report.Peer, word string) *report.Peer {
	var fits []*report.Peer
	for i := range all {
		p := &all[i]
		if strings.EqualFold(p.Name, word) {
			return p
		}
		if id, err := sharefs.ParsePeerID(p.ID); err == nil && id.Begins(word) {
			fits = append(fits, p)
		}
	}
	if len(fits) == 1 {
		return fits[0]
	}
	return nil
}

func (a *app) completePeers(_ *cobra.Command, args []string, _ string) (names []string, d cobra.ShellCompDirective) {
	if len(args) == 0 {
		if m, err := a.here(); err == nil {
			if all, err := m.Peers(); err == nil {
				for i := range all {
					names = append(names, all[i].Name)
				}
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) listPeers(all []report.Peer) error {
	if len(all) == 0 {
		return a.printf("This store is paired with nobody. sharefs pair begins it.\n")
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for i := range all {
		p := &all[i]
		name := term.Clean(p.Name)
		if p.Calls != "" {
			name += " (calls itself " + term.Clean(p.Calls) + ")"
		}
		state := "not connected"
		switch {
		case p.Connected:
			silent := ""
			if p.Silent {
				silent = fmt.Sprintf(", silent for %s", term.Span(time.Since(p.Heard).Round(time.Second)))
			}
			state = fmt.Sprintf("connected for %s%s, %s, %.1f ms", term.Span(time.Since(p.Since)), silent, term.Clean(p.Path), p.RTTMS)
			if p.Error != "" {
				state += "; " + term.Clean(p.Error)
			}
		case p.Level == report.Former && p.How != report.ByRecovery:
			state = "gone: what it wrote counts here, and nobody who has its key is let in"
		case p.Level == report.Former:
			state = "this host, before it came back from its backup: what it wrote counts here"
		case p.Lost:
			state = "its key is lost"
		case p.Level == trust.Blocked.String():
			state = "revoked"
		case p.Error != "":
			state += ": " + term.Clean(p.Error)
		}
		if p.Connected && p.Files != nil {
			state += "; "
			if p.Silent {
				state += "as of then: "
			}
			state += term.Clean(p.Files.Text())
		}
		if p.Backup != nil {
			state += "; " + term.Clean(strings.Join(p.Backup.Lines(), "; "))
		}
		if p.Keeps != nil {
			state += "; this host keeps " + term.Clean(p.Keeps.Text())
		}
		id := report.ShortID(p.ID)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, term.Clean(p.Level), term.Clean(id), state)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return a.printf("%s", trimLines(b.String()))
}

func (a *app) revoke() *cobra.Command {
	cmd := a.peerCommand("revoke PEER", "Block a peer, and end its connection",
		"Block a peer, and end its connection. All its grants are gone. What it has received\nit knows for ever. If it could read the share, what is new is kept under another\nshare key from now on, which it is not given; other peers have to revoke it too,\nfor they pass on what they have to whom they trust. sharefs grant lets it in again.\n\n"+cutHelp+"\n\n"+purgeHelp, "peer-revoke", "", "%s is blocked.\n")
	a.withPurge(cmd, true)
	return cmd
}

func (a *app) trust() *cobra.Command {
	cmd := &cobra.Command{
		Use: "trust", Short: "Explain what peers may",
		Args: commands, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:               "explain PEER PATH",
		Short:             "Show which rule decides about a peer at a path",
		Long:              "Show which rule decides about a peer at a path, which need not be there yet, and which\nothers speak of it. With a slash before it it is one from the root of the mount.",
		Args:              exactly("PEER", "PATH"),
		ValidArgsFunction: a.completePeers,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			path, err := m.FromRoot(args[1])
			if err == nil {
				err = client.Travels(path)
			}
			if err != nil {
				return err
			}
			x, peer, err := explain(m, args[0], path)
			if err != nil {
				return err
			}
			if !a.json {
				for line := range strings.Lines(x.String()) {
					if err := a.printf("%s\n", term.CleanLine(strings.TrimSuffix(line, "\n"))); err != nil {
						return err
					}
				}
				if _, err := os.Lstat(filepath.Join(m.Point, path)); errors.Is(err, os.ErrNotExist) {
					if err := a.printf("Nothing is at %s yet.\n", term.Quote(m.Anywhere(path))); err != nil {
						return err
					}
				}
				for _, text := range peer.Revocations() {
					if err := a.printf("%s\n", term.Clean(text)); err != nil {
						return err
					}
				}
				return nil
			}
			type rule struct {
				Level string `json:"level"`
				Path  string `json:"path"`
			}
			out := struct {
				Path    string `json:"path"`
				Level   string `json:"level"`
				Ceiling string `json:"ceiling"`
				Capped  bool   `json:"capped"`
				Rules   []rule `json:"rules"` // that speak of the path; the first one wins
				// Cuts are revocations of the peer on other hosts, which decide nothing here.
				Cuts []report.Cut `json:"revoked_by,omitempty"`
			}{x.Path, x.Level.String(), x.Ceiling.String(), x.Capped, []rule{}, peer.Cuts}
			for _, r := range x.Rules {
				out.Rules = append(out.Rules, rule{r.Level.String(), r.Pattern.String()})
			}
			return a.writeJSON(out)
		},
	})
	return cmd
}

// explain asks the mount for a peer and its rules, and applies them as it does.
func explain(m *client.Mount, word, path string) (x trust.Explanation, peer *report.Peer, err error) {
	policy, id, err := policyOf(m, word)
	if err != nil {
		return x, nil, err
	}
	all, err := m.Peers()
	if err != nil {
		return x, nil, err
	}
	if peer = findPeer(all, word); peer == nil {
		return x, nil, noPeer(word, all)
	}
	return policy.Explain(id, path), peer, nil
}

// policyOf asks the mount for a peer's rules.
func policyOf(m *client.Mount, peer string) (policy trust.Policy, id sharefs.PeerID, err error) {
	all, err := m.Peers()
	if err != nil {
		return policy, id, err
	}
	p := findPeer(all, peer)
	if p == nil {
		return policy, id, noPeer(peer, all)
	}
	if id, err = sharefs.ParsePeerID(p.ID); err != nil {
		return policy, id, err
	}
	text, err := m.PeerRules(p.Name)
	if err != nil {
		return policy, id, err
	}
	policy, err = shell.Parse(text, id)
	return policy, id, err
}
