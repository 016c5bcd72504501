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

func (a *app) conflicts() *cobra.Command {
	return &cobra.Command{
		Use:   "conflicts [PATH]",
		Short: "List files that were changed in two places at once",
		Long: `List files that were changed in two places at once, or those at PATH and below: who
wrote what, which version is live, and as which version of the file each can be
read (FILE@@N, sharefs diff FILE@@N FILE@@M). Nothing of them is lost, and no other file
waits for them. sharefs resolve makes one of the versions the file; so does writing
to the file, once the conflict is listed here.`,
		Args: between(1),
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			below := ""
			if len(args) == 1 {
				if m, below, err = client.NameInMount(args[0]); err != nil {
					return err
				}
			}
			all, err := m.Conflicts()
			if err != nil {
				return err
			}
			out := []report.Conflict{}
			for _, c := range all {
				if below == "" || c.Path == below || strings.HasPrefix(c.Path, below+"/") {
					out = append(out, c)
				}
			}
			if a.json {
				return a.writeJSON(out)
			}
			return a.listConflicts(out)
		},
	}
}

func (a *app) listConflicts(all []report.Conflict) error {
	if len(all) == 0 {
		return a.printf("There are no conflicts.\n")
	}
	var b strings.Builder
	for i := range all {
		c := &all[i]
		fmt.Fprintf(&b, "%s\n", term.Quote(c.Path))
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for j := range c.Sides {
			s := &c.Sides[j]
			where := ""
			switch {
			case s.Type == "directory":
				where = "a directory"
			case s.Type == "symlink":
				where = "leads to " + term.Quote(s.Target)
			case s.Number > 0:
				where = term.Quote(fmt.Sprintf("%s@@%d", c.Path, s.Number))
			case s.ID == "":
				where = "has not come yet"
			default:
				where = "cannot be read here yet"
			}
			size, changed, live := "", "", ""
			if s.Type == "file" && s.ID != "" {
				size, changed = term.Size(s.Size), term.Second(s.Changed)
			}
			if s.Live {
				live = "live"
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", term.Clean(s.Take), live, changed, size, where)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return a.printf("%s", trimLines(b.String()))
}

func (a *app) resolve() *cobra.Command {
	var take string
	cmd := &cobra.Command{
		Use:   "resolve FILE --take NAME",
		Short: "Choose between versions of a file that were made at once",
		Long: `Choose between versions of a file that were made at once: that of NAME, as sharefs
conflicts calls it, is the file from now on, on all hosts. The others stay in its
history. To merge them, write the result to the file: that ends the conflict too.`,
		Args: exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			if take == "" {
				return usage("--take NAME is missing; sharefs conflicts lists who wrote what")
			}
			m, path, err := client.NameInMount(args[0])
			if err != nil {
				return err
			}
			all, err := m.Conflicts()
			if err != nil {
				return err
			}
			s, err := chosenSide(all, args[0], path, take)
			if err != nil {
				return err
			}
			if _, err := m.AskPeers("resolve", map[string]string{"path": path, "take": s.ID}); err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(s)
			}
			return a.printf("%s is as %s wrote it.\n", term.Quote(args[0]), term.Clean(s.Author))
		},
	}
	cmd.Flags().StringVar(&take, "take", "", "The version of `NAME`")
	return cmd
}

// chosenSide finds the version that is to be taken.
func chosenSide(all []report.Conflict, given, path, take string) (*report.Side, error) {
	var names []string
	for i := range all {
		if all[i].Path != path {
			continue
		}
		for j := range all[i].Sides {
			s := &all[i].Sides[j]
			if s.ID == "" {
				continue
			}
			if strings.EqualFold(s.Take, take) {
				return s, nil
			}
			names = append(names, s.Take)
		}
	}
	if len(names) == 0 {
		return nil, &sharefs.Error{Path: term.Quote(given), Kind: sharefs.KindNotExist, Detail: "has no conflict; sharefs conflicts lists those that there are"}
	}
	return nil, &sharefs.Error{Path: term.Quote(given), Kind: sharefs.KindNotExist, Detail: "no version of " + term.Quote(take) + " waits for a choice; there are those of " + term.Clean(strings.Join(names, ", "))}
}
