package main

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/build"
	"sharefs/internal/client"
	"sharefs/internal/mountpoint"
	"sharefs/internal/status"
	"sharefs/internal/term"
	"sharefs/peers/report"
)

func (a *app) status() *cobra.Command {
	all := false
	cmd := &cobra.Command{
		Use:   "status [--all]",
		Short: "Show how a mount is, and what each peer has and lacks",
		Long: `Show on one screen how a mount is: its disk, what waits to be captured, what
each peer has, lacks, and why, as far as you may see peers, and what needs
attention. With --all everything that the mount counts: it is
cat MOUNT/.share/ctl/status.`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			if all && !a.json {
				text, err := m.CtlText("status")
				if err != nil {
					return err
				}
				return a.labelled(string(text))
			}
			text, err := m.CtlText("status.json")
			if err != nil {
				return err
			}
			var s status.Status
			if err := json.Unmarshal(text, &s); err != nil {
				return &sharefs.Error{Op: "read the status of", Path: term.Quote(m.Point), Kind: sharefs.KindCorrupt, Err: err}
			}
			var peers []report.Peer
			if s.Peers != nil {
				peers, _ = m.Peers() // which not everybody may see
				s.Peers.All = peers
				if sync, err := m.Sync(); err == nil {
					s.Peers.Sync = sync
				}
			}
			if a.json {
				_, err = a.out.Write(s.JSON())
				return err
			}
			return a.labelled(s.Screen(peers, time.Now(), screenWidth()))
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "Show everything that the mount counts")
	return cmd
}

// screenWidth is the width of the terminal; 0: what is written goes elsewhere.
func screenWidth() int {
	if !term.IsTerminal(os.Stdout) {
		return 0
	}
	return term.Width(os.Stdout)
}

// labelled writes lines whose beginning says what they are of.
func (a *app) labelled(text string) error {
	for line := range strings.Lines(text) {
		line = term.CleanLine(strings.TrimSuffix(line, "\n"))
		label := line[:min(12, len(line))]
		if strings.HasPrefix(line, "  ") { // of a table
			label = ""
		}
		if err := a.printf("%s%s\n", a.paint.Paint(term.Strong, label), line[len(label):]); err != nil {
			return err
		}
	}
	return nil
}

// here finds the mount that a command without a FILE is about, and sees that it answers.
func (a *app) here() (*client.Mount, error) {
	m, err := client.Here(a.dir)
	if err != nil {
		return nil, err
	}
	return alive(m)
}

// alive returns a mount that answers.
func alive(m *client.Mount) (*client.Mount, error) {
	if err := mountpoint.Alive(m.Point, mountpoint.DefaultPatience); err != nil {
		detail := "does not answer: sharefs doctor says more"
		if !errors.Is(err, mountpoint.ErrHung) {
			detail = "has ended without unmounting: sharefs-mount " + term.Quote(m.Source) + " " + term.Quote(m.Point) + " mounts it again"
		}
		return nil, &sharefs.Error{Op: "mount", Path: term.Quote(m.Point), Kind: sharefs.KindBusy, Detail: detail}
	}
	return m, nil
}

// live is here for what changes the mount, or wants the history of what is in it.
func (a *app) live() (*client.Mount, error) {
	m, err := a.here()
	if err == nil {
		err = m.WantLive()
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			info := build.Read()
			if a.json {
				return a.writeJSON(info)
			}
			return a.printf("sharefs %s\n", info)
		},
	}
}
