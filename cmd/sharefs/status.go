package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/build"
	"sharefs/internal/client"
	"sharefs/internal/mountpoint"
	"sharefs/internal/term"
)

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how a mount is",
		Long: `Show how a mount is: what serves its content, how many versions were captured
and still wait, what is open, what needs attention. It is
cat MOUNT/.share/ctl/status and, for who may see it, a line for each peer.`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			name := "status"
			if a.json {
				name = "status.json"
			}
			text, err := m.CtlText(name)
			if err != nil {
				return err
			}
			if a.json {
				_, err = a.out.Write(text)
				return err
			}
			for line := range strings.Lines(string(text)) {
				line = term.CleanLine(strings.TrimSuffix(line, "\n"))
				label := line[:min(12, len(line))]
				if err := a.printf("%s%s\n", a.paint.Paint(term.Strong, label), line[len(label):]); err != nil {
					return err
				}
			}
			return a.statusOfPeers(m)
		},
	}
}

// statusOfPeers adds what each peer has and lacks, which is not for everybody to see.
func (a *app) statusOfPeers(m *client.Mount) error {
	all, err := m.Peers()
	if err != nil {
		return nil
	}
	label := "Sharing with" // before the first
	for i := range all {
		p := &all[i]
		if p.Files == nil {
			continue
		}
		state := "not connected"
		if p.Connected {
			state = p.Files.Text()
		}
		if err := a.printf("%s %s: %s\n", a.paint.Paint(term.Strong, fmt.Sprintf("%-12s", label)), term.Clean(p.Name), term.Clean(state)); err != nil {
			return err
		}
		label = ""
	}
	return nil
}

// here finds the mount that a command without a FILE is about, and sees that it answers.
func (a *app) here() (*client.Mount, error) {
	m, err := client.Here(a.dir)
	if err != nil {
		return nil, err
	}
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
