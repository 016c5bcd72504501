package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sharefs/internal/client"
	"sharefs/internal/term"
)

func (a *app) whereIs() *cobra.Command {
	return &cobra.Command{
		Use:   "here PATH...",
		Short: "Show how much of files is on this host",
		Long: `Show how much of files is on this host: full, partial or absent, and how many
bytes of each. What is not here comes from peers when it is read; with a budget
([space] in share.toml) what was used longest ago goes again. Of a directory all
files are shown. du shows the same bytes.`,
		Args: between(mostPaths, "PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			list := []client.Presence{}
			if err := client.EachFile(args, nil, func(path string) error {
				h, err := client.LookHere(path)
				list = append(list, h)
				return err
			}); err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(list)
			}
			var b strings.Builder
			w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
			for _, h := range list {
				pinned := ""
				if h.Pinned {
					pinned = "pinned"
				}
				fmt.Fprintf(w, "%s\t%s of %s\t%s\t%s\n", h.State, term.Size(min(h.Here, h.Size)), term.Size(h.Size), pinned, term.Clean(h.Path))
			}
			if err := w.Flush(); err != nil {
				return err
			}
			return a.printf("%s", b.String())
		},
	}
}

// mostPaths bounds the paths of a command: there is no bound but that of the system.
const mostPaths = 1 << 20

// moved is what a command of this file did.
type moved struct {
	Files int    `json:"files"`
	Bytes uint64 `json:"bytes"`
}

func (a *app) pin() *cobra.Command {
	return &cobra.Command{
		Use:   "pin PATH...",
		Short: "Keep files on this host, and bring them here",
		Long: `Keep files on this host whatever the budget says, and bring here what is not.
A directory is pinned with all that is in it and comes into it later.`,
		Args: between(mostPaths, "PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			var done moved
			var lack []client.Presence
			var total uint64
			if err := client.EachFile(args, client.Pin, func(path string) error {
				if err := client.Pin(path); err != nil {
					return err
				}
				h, err := client.LookHere(path)
				if done.Files++; err == nil && h.State != client.HereFull {
					lack = append(lack, h)
					total += h.Size
				}
				return err
			}); err != nil {
				return err
			}
			progress := term.NewProgress(os.Stderr)
			defer progress.End()
			for _, h := range lack {
				if err := client.Bring(h.Path, func(n uint64) { progress.Show("bring here", done.Bytes+n, total, "bytes") }); err != nil {
					return err
				}
				done.Bytes += h.Size
				progress.Show("bring here", done.Bytes, total, "bytes")
			}
			progress.End()
			if a.json {
				return a.writeJSON(done)
			}
			return a.printf("%d files are pinned; %s came.\n", done.Files, term.Size(done.Bytes))
		},
	}
}

func (a *app) unpin() *cobra.Command {
	return &cobra.Command{
		Use:   "unpin PATH...",
		Short: "Let files go from this host again when there is no room",
		Long:  "Take back what pin said, of directories with all that is in them. The files stay until\nthe budget wants their room, or sharefs free is asked for.",
		Args:  between(mostPaths, "PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			var done moved
			if err := client.EachFile(args, func(path string) error {
				_, err := client.Unpin(path)
				return err
			}, func(path string) error {
				was, err := client.Unpin(path)
				if was {
					done.Files++
				}
				return err
			}); err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(done)
			}
			return a.printf("%d files are no longer pinned.\n", done.Files)
		},
	}
}

func (a *app) free() *cobra.Command {
	return &cobra.Command{
		Use:   "free PATH...",
		Short: "Let the content of files go from this host, where others keep it",
		Long: `Let the content of files go from this host. They stay in the tree, and come again
when they are read. A file goes only if another host that is connected, and trusted
with write, promises to keep its copy ([space] min in share.toml says how many), nobody
has it open, and it is not pinned; which is told of those that stay.`,
		Args: between(mostPaths, "PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			var done moved
			var first error
			stay := 0
			if err := client.EachFile(args, nil, func(path string) error {
				h, err := client.LookHere(path)
				if err != nil || h.State == client.HereAbsent || h.Size == 0 {
					return err
				}
				if err := client.Free(path); err != nil {
					if stay++; first == nil {
						first = err
					}
					return nil
				}
				done.Files++
				done.Bytes += h.Here
				return nil
			}); err != nil {
				return err
			}
			if a.json {
				if err := a.writeJSON(done); err != nil {
					return err
				}
			} else if done.Files > 0 || first == nil {
				if err := a.printf("%d files are freed, %s.\n", done.Files, term.Size(done.Bytes)); err != nil {
					return err
				}
			}
			if stay > 1 {
				return fmt.Errorf("%d files stay, the first for this: %w", stay, first)
			}
			return first
		},
	}
}
