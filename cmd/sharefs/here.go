package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sharefs"
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
			var bad []error
			for _, arg := range args {
				if err := client.EachFile([]string{arg}, nil, func(path string) error {
					h, err := client.LookHere(path)
					if err == nil {
						list = append(list, h)
					}
					return err
				}); err != nil {
					bad = append(bad, err)
				}
			}
			var err error
			switch {
			case a.json && (len(list) > 0 || len(bad) == 0):
				err = a.writeJSON(list)
			case len(list) > 0:
				err = a.listHere(list)
			}
			if err != nil || len(bad) == 0 {
				return err
			}
			for _, err := range bad[:len(bad)-1] {
				fmt.Fprintln(os.Stderr, "sharefs: "+message(err))
			}
			return bad[len(bad)-1]
		},
	}
}

// listHere writes how much of some files is here.
func (a *app) listHere(list []client.Presence) error {
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
A directory is pinned with all that is in it and comes into it later. What no host that
is connected has stays pinned; it comes when pin is asked for again, or when it is read,
and so do large files that other hosts make in a pinned directory.`,
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
			lost := 0
			var first error
			for _, h := range lack {
				err := client.Bring(h.Path, func(n uint64) { progress.Show("bring here", done.Bytes+n, total, "bytes") })
				if errors.Is(err, sharefs.KindUnreachable) { // another one may be had
					if lost++; first == nil {
						first = err
					}
					continue
				}
				if err != nil {
					return err
				}
				done.Bytes += h.Size
				progress.Show("bring here", done.Bytes, total, "bytes")
			}
			progress.End()
			var err error
			if a.json {
				err = a.writeJSON(done)
			} else {
				err = a.printf("Pinned %s; %s came.\n", term.Of(uint64(done.Files), "file"), term.Size(done.Bytes))
			}
			if err == nil && lost > 0 {
				err = fmt.Errorf("not all here yet, and pinned all the same: %s; sharefs pin again brings what lacks when a host that has it is connected; the first: %w", term.Of(uint64(lost), "file"), first)
			}
			return err
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
			return a.printf("Unpinned %s.\n", term.Of(uint64(done.Files), "file"))
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
				if err := a.printf("Freed %s, %s.\n", term.Of(uint64(done.Files), "file"), term.Size(done.Bytes)); err != nil {
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
