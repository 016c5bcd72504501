package main

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
)

// op shows the operations.
func (a *app) op() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "op",
		Short: "Show which commands changed what",
		Long: `Show which commands changed what. All changes that the processes of one command
make without a pause of two seconds are one operation, and so are changes that come
from another host; it is named by the moment before it, at which .share/at shows the
tree as it was.`,
		Args: commands,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.opLog(), a.opShow())
	return cmd
}

func (a *app) opLog() *cobra.Command {
	limit := around(20)
	cmd := &cobra.Command{
		Use:   "log",
		Short: "List the operations, the newest first",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			all, err := m.Operations()
			if err != nil {
				return err
			}
			if n := int(limit); n > 0 && len(all) > n {
				all = all[:n]
			}
			if a.json {
				return a.writeJSON(append([]client.Operation{}, all...))
			}
			if len(all) == 0 {
				return a.printf("Nothing was changed yet.\n")
			}
			for i := range all {
				if err := a.printf("%s\n", a.opLine(&all[i])); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().VarP(&limit, "number", "n", "List the last `N` alone (20; 0: all that are known)")
	alsoShort(cmd, "number", "N")
	return cmd
}

// opLine is an operation in one line: its name, who, what, how much.
func (a *app) opLine(o *client.Operation) string {
	line := a.paint.Paint(term.Place, o.ID) + "  " + userName(o.UID) + "  " + term.Clean(o.What())
	if o.Label != "" {
		line += a.paint.Paint(term.Strong, "  ("+term.Clean(o.Label)+")")
	}
	return line + "  " + countsOf(&o.Counts)
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return term.Clean(u.Username)
	}
	return id
}

func countsOf(c *sharefs.OpCounts) string {
	var parts []string
	for kind, n := range c.All() {
		parts = append(parts, kind+" "+term.Count(n))
	}
	return strings.Join(parts, ", ")
}

func (a *app) opShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show OPERATION",
		Short: "Show what one operation changed",
		Args:  exactly("OPERATION"),

		ValidArgsFunction: a.completeOperations,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			o, err := m.Operation(args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(struct {
					*client.Operation
					Changes []client.OpChange `json:"changes"` // there even if it is empty
				}{o, append([]client.OpChange{}, o.Changes...)})
			}
			if err := a.printf("%s\n", a.opLine(o)); err != nil {
				return err
			}
			for i := range o.Changes {
				c := &o.Changes[i]
				before, after := c.Paths()
				line := fmt.Sprintf("%-12s %s", strings.TrimSuffix(strings.TrimSuffix(c.Verb, "-from"), "-to"), term.Quote(max(after, before)))
				if before != "" && after != "" && before != after {
					line = fmt.Sprintf("%-12s %s to %s", "renamed", term.Quote(before), term.Quote(after))
				}
				switch c.Verb {
				case unsureVerb:
					line = fmt.Sprintf("%-12s %s, which another program was writing to", "written", term.Quote(max(after, before)))
				case othersVerb:
					line = fmt.Sprintf("%-12s %s, by another operation at the same time", "put there", term.Quote(after))
				}
				if err := a.printf("%s\n", line); err != nil {
					return err
				}
			}
			if o.Partly {
				return a.printf("and more, which are not listed: sharefs diff .@@%s .@@%s shows all that changed meanwhile\n", o.ID, o.After)
			}
			return nil
		},
	}
}
