package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sharefs/internal/client"
	"sharefs/internal/term"
)

// foundJSON is something that was removed.
type foundJSON struct {
	Path    string `json:"path"`
	Type    string `json:"type"`
	Removed string `json:"removed"`
	Version uint64 `json:"version"` // of a file: the last one
	Size    uint64 `json:"size"`    // of that
	Restore string `json:"restore"` // a command line that brings it back
}

func (a *app) findDeleted() *cobra.Command {
	var deleted bool
	cmd := &cobra.Command{
		Use:   "find --deleted [DIR] [PATTERN]",
		Short: "Find what was removed, and how to bring it back",
		Long: `Find what was removed from a directory (this one, if none is named) and from all
in it, and show when it went and by which command it comes back. A directory
that was removed is one line for all that was in it, unless a PATTERN is given:
then everything whose name fits is shown, as in 'sharefs find --deleted "*.txt"'.
Files that never came to rest before they were removed left nothing.`,
		Args:              between(2),
		ValidArgsFunction: completeFiles,
		RunE: func(_ *cobra.Command, args []string) error {
			if !deleted {
				return usage("--deleted is missing; find(1) finds what is there")
			}
			return a.find(args)
		},
	}
	cmd.Flags().BoolVar(&deleted, "deleted", false, "Find what was removed")
	return cmd
}

// find finds the directory and the pattern among the arguments: one alone may be either.
func (a *app) find(args []string) error {
	dir, pattern := ".", ""
	switch {
	case len(args) == 2:
		dir, pattern = args[0], args[1]
	case len(args) == 1:
		if _, err := os.Stat(args[0]); err != nil && (strings.ContainsAny(args[0], "*?[") || !strings.Contains(args[0], "/")) {
			pattern = args[0]
		} else {
			dir = args[0]
		}
	}
	if _, err := filepath.Match(pattern, ""); err != nil {
		return usage("%s is no pattern", term.Quote(pattern))
	}
	path, m, err := client.Wherever(dir)
	if err == nil {
		err = m.WantLive()
	}
	if err != nil {
		return err
	}
	ctx, progress, end := longTask()
	defer end()
	found := []foundJSON{}
	seen := uint64(0)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REMOVED\tTYPE\tSIZE\tTO BRING IT BACK")
	err = m.Deleted(ctx, path, func(d *client.Deleted) (bool, error) {
		seen++
		progress.Show("looking", seen, 0, "names")
		if pattern != "" {
			if fits, _ := filepath.Match(pattern, filepath.Base(d.Path)); !fits {
				return true, nil
			}
		}
		given := d.Path
		if rel, err := filepath.Rel(path, d.Path); err == nil {
			given = filepath.Join(dir, rel)
		}
		if strings.HasPrefix(given, "-") {
			given = "./" + given
		}
		command := d.RestoreCommand(given)
		found = append(found, foundJSON{d.Path, d.Type, d.Removed.Local().Format(term.JSONTimeLayout), d.Version, d.Size, command})
		size := ""
		if d.Type == "file" {
			size = term.Size(d.Size)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", term.Time(d.Removed), d.Type, size, command)
		return pattern != "", nil
	}, func(path string, err error) {
		progress.Pause()
		fmt.Fprintln(os.Stderr, "sharefs: "+message(client.PathError("look at", path, err)))
		a.exit = exitFailed
	})
	progress.End()
	if err != nil {
		return treeError(err, term.Quote(dir))
	}
	if a.json {
		return a.writeJSON(struct {
			Directory string      `json:"directory"`
			Pattern   string      `json:"pattern"`
			Found     []foundJSON `json:"found"`
		}{path, pattern, found})
	}
	if len(found) == 0 {
		what := "Nothing"
		if pattern != "" {
			what = "Nothing that fits " + term.Quote(pattern)
		}
		where := term.Quote(dir)
		if strings.HasSuffix(where, ".") { // beside the full stop it would be read as the directory above
			where = term.Quote(path)
		}
		return a.printf("%s was removed from %s.\n", what, where)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return a.printf("%s", trimLines(b.String()))
}
