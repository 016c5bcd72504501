package main

import (
	"fmt"
	"maps"
	"slices"
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
read: FILE@@N, or FILE@@NAME by who wrote it (sharefs diff FILE FILE@@bert). The versions
that are not live stand in .share/conflicts/PATH/NAME@1, too. Nothing of them is lost,
and no other file waits for them. sharefs resolve takes one of the versions or merges
them; writing to the file, once the conflict is listed here, ends it too.`,
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
			if len(out) == 0 && below != "" {
				if err := there(args[0]); err != nil {
					return err
				}
			}
			if a.json {
				return a.writeJSON(out)
			}
			return a.listConflicts(m, out)
		},
	}
}

func (a *app) listConflicts(m *client.Mount, all []report.Conflict) error {
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
			default: // it is no version of what has the name, or its content has not come
				if where = term.Quote(c.Path + "@@" + s.Take); s.Author != report.Here {
					where += ", which peers send when it is read"
				}
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
	for _, line := range strangers(m, all) {
		fmt.Fprintf(&b, "%s\n", line)
	}
	switch name, clean := mergeable(m, all); {
	case clean:
		fmt.Fprintf(&b, "Text can be merged: sharefs resolve %s --merge\n", name)
	case name != "":
		fmt.Fprintf(&b, "Text in which the same was changed in two ways can be merged in an editor: sharefs resolve %s --merge --edit\n", name)
	}
	return a.printf("%s", trimLines(b.String()))
}

// strangers says who those are that have a side and no name here, a line for each.
func strangers(m *client.Mount, all []report.Conflict) (lines []string) {
	of := map[string]*report.LeftOut{}
	for i := range all {
		for j := range all[i].Sides {
			s := &all[i].Sides[j]
			if id, err := sharefs.ParsePeerID(s.By); err == nil && s.Author == id.Short() {
				of[s.By] = &report.LeftOut{ID: s.By}
			}
		}
	}
	if len(of) == 0 {
		return nil
	}
	if s, err := m.Sync(); err == nil {
		for i := range s.LeftOut {
			if l := &s.LeftOut[i]; of[l.ID] != nil {
				of[l.ID] = l
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(of)) {
		lines = append(lines, report.ShortID(id)+" is "+term.Clean(of[id].Who()))
	}
	return lines
}
