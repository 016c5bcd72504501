package main

import (
	"cmp"
	"time"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
	"sharefs/peers/report"
)

// gonePeer has the work of a host count that is no more.
func (a *app) gonePeer() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "gone HOST", Short: "Have the work of a host count that is no more",
		Long: `Have the work of a host count that is no more: what it signed counts here, whoever
keeps it and brings it, and nobody who has its key is let in or receives anything.
HOST is the id of a host whose changes are left out here, or the beginning of it, as
sharefs peers and sharefs status name it, or a peer. So a host that joins after another
one has left gets what that one wrote. Where somebody else may have the key, sharefs
revoke ends it, when all has come. sharefs pair makes it a peer again.`,
		Args: exactly("HOST"), ValidArgsFunction: a.completePeers,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			all, err := m.Peers()
			if err != nil {
				return err
			}
			id, left := args[0], uint64(0)
			if p := findPeer(all, id); p != nil {
				id, name = p.ID, cmp.Or(name, p.Name)
			} else if l, err := stranger(m, id); err != nil {
				return err
			} else if l != nil {
				id, name, left = l.ID, cmp.Or(name, l.MayBe), l.Changes
			} else if _, err := sharefs.ParsePeerID(id); err != nil {
				return noPeer(args[0], all)
			}
			if _, err := m.AskPeers("peer-gone", map[string]string{"id": id, "name": cmp.Or(name, "gone")}); err != nil {
				return err
			}
			if all, err = m.Peers(); err != nil {
				return err
			}
			p := findPeer(all, id)
			if p == nil {
				return noPeer(id, all)
			}
			if a.json {
				return a.writeJSON(p)
			}
			if err := a.printf("%s is gone: what it wrote counts here, and nobody who has its key is let in.\n", term.Clean(p.Name)); err != nil || left == 0 {
				return err
			}
			return a.printf("Its %s that came before, and what else peers keep of it, comes from those that are connected.\n", term.Of(left, "change"))
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "Call it by this `NAME` here, if it is no peer")
	return cmd
}

// leftPatience is how long a grant waits for what the peer has, to say whose changes do not count.
const leftPatience = 3 * time.Second

// sayWhoIsLeftOut names the hosts whose changes came by a peer and do not count here, once all that it has has come.
func (a *app) sayWhoIsLeftOut(m *client.Mount, name string) error {
	for began := time.Now(); time.Since(began) < leftPatience; time.Sleep(20 * time.Millisecond) {
		all, err := m.Peers()
		if err != nil {
			return nil
		}
		p := findPeer(all, name)
		switch {
		case p == nil || p.Files == nil || !p.Connected || p.Level == report.Former:
			return nil
		case !p.Files.Receives || p.Files.Waiting:
			continue
		case p.Files.Others == 0:
			return nil
		}
		s, err := m.Sync()
		if err != nil {
			return nil
		}
		for i := range s.LeftOut {
			if l := &s.LeftOut[i]; l.Stranger() {
				if err := a.printf("%s.\n", term.Clean(l.Text())); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return nil
}
