package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
	"sharefs/internal/textdiff"
	"sharefs/peers/report"
)

// resolving is how a conflict is to be ended.
type resolving struct {
	take, output, with string
	merge, edit        bool
	editor             string // a command of the shell, that is there; with edit
}

func (a *app) resolve() *cobra.Command {
	var how resolving
	cmd := &cobra.Command{
		Use:   "resolve FILE --take NAME | --merge | --with OTHER",
		Short: "Choose between versions of a file that were made at once, or merge them",
		Long: `End a conflict between versions of a file that were made at once. What becomes the
file is so on all hosts; the versions stay in its history.

  --take NAME            That of NAME, as sharefs conflicts calls it, is the file
  --merge                Text: the changes of all are merged, line by line, with the
                         version before them. If nothing was changed in two ways, the
                         result is the file. Otherwise nothing is done, unless with:
  --merge --edit         $VISUAL or $EDITOR (vi, if neither is set) opens what was merged,
                         conflicts between markers (<<<<<<<, |||||||, =======, >>>>>>>).
                         When it ends and no markers are left, the result is the file
  --merge --output OTHER What was merged is written to OTHER, with markers
  --with OTHER           What OTHER holds is the file

Exit status: 0 the conflict is ended, 1 it is not, 2 wrongly called.`,
		Args: exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			n := 0
			for _, given := range []bool{how.take != "", how.merge, how.with != ""} {
				if given {
					n++
				}
			}
			switch {
			case !how.merge && (how.edit || how.output != ""):
				return usage("--edit and --output go with --merge")
			case n == 0:
				return usage("--take NAME, --merge or --with OTHER is missing; sharefs conflicts lists who wrote what")
			case n > 1:
				return usage("--take, --merge and --with exclude each other")
			case how.edit && how.output != "":
				return usage("--edit and --output exclude each other")
			}
			if how.edit {
				var err error
				if how.editor, err = findEditor(); err != nil {
					return err
				}
			}
			m, path, err := client.NameInMount(args[0])
			if err != nil {
				return err
			}
			c, err := conflictOf(m, args[0], path)
			if err != nil {
				return err
			}
			if how.take == "" {
				return a.resolveText(m, c, args[0], how)
			}
			s, err := chosenSide(c, args[0], ownName(m, how.take))
			if err != nil {
				return err
			}
			if _, err := m.AskPeers("resolve", map[string]string{"path": path, "take": s.ID}); err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(s)
			}
			author := s.Author
			if author == report.Here {
				author = "this host"
			}
			return a.printf("%s is as %s wrote it.\n", term.Quote(args[0]), term.Clean(author))
		},
	}
	cmd.Flags().StringVar(&how.take, "take", "", "The version of `NAME`")
	cmd.Flags().BoolVar(&how.merge, "merge", false, "Merge the changes of all, line by line")
	cmd.Flags().BoolVar(&how.edit, "edit", false, "Open an editor where something was changed in two ways")
	cmd.Flags().StringVar(&how.output, "output", "", "Write what was changed in two ways to `OTHER`, with markers")
	cmd.Flags().StringVar(&how.with, "with", "", "What `OTHER` holds is the file")
	return cmd
}

// conflictOf finds the conflict of a path.
func conflictOf(m *client.Mount, given, path string) (*report.Conflict, error) {
	all, err := m.Conflicts()
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Path == path {
			return &all[i], nil
		}
	}
	if err := there(given); err != nil {
		return nil, err
	}
	return nil, &sharefs.Error{Path: term.Quote(given), Kind: sharefs.KindNotExist, Detail: "has no conflict; sharefs conflicts lists those that there are"}
}

// ownName is what is called "here" in a conflict where somebody gives the name of this host.
func ownName(m *client.Mount, take string) string {
	if p, err := m.Pairing(); err == nil && strings.EqualFold(p.Name, take) {
		if all, err := m.Peers(); err == nil && !slices.ContainsFunc(all, func(p report.Peer) bool { return strings.EqualFold(p.Name, take) }) {
			return report.Here
		}
	}
	return take
}

// chosenSide finds the version that is to be taken.
func chosenSide(c *report.Conflict, given, take string) (*report.Side, error) {
	var names []string
	for j := range c.Sides {
		s := &c.Sides[j]
		if s.ID == "" {
			continue
		}
		if strings.EqualFold(s.Take, take) || strings.EqualFold(s.Take+"@1", take) { // as it is called in .share/conflicts
			return s, nil
		}
		names = append(names, s.Take)
	}
	return nil, &sharefs.Error{Path: term.Quote(given), Kind: sharefs.KindNotExist, Detail: "no version of " + term.Quote(take) + " waits for a choice; there are those of " + term.Clean(strings.Join(names, ", "))}
}

// resolveText ends a conflict by a text: one that is merged, or one that is given.
func (a *app) resolveText(m *client.Mount, c *report.Conflict, given string, how resolving) error {
	f, err := client.Open(given)
	if err != nil {
		return err
	}
	x := merging{c: c, f: f, m: m}
	if how.with != "" {
		text, err := os.ReadFile(how.with)
		if err != nil {
			return client.PathError("read", how.with, err)
		}
		if err := a.unmarked(how.with, text); err != nil {
			return err
		}
		if err := x.read(); err != nil {
			return err
		}
		return a.endMerge(&x, string(text), 0, "")
	}
	if err := x.read(); err != nil {
		return err
	}
	text, conflicts, err := x.merge()
	if err != nil {
		return err
	}
	switch {
	case conflicts == 0:
		return a.endMerge(&x, text, 0, "")
	case how.output != "":
		if err := writeNew(how.output, text); err != nil {
			return err
		}
		a.exit = exitFailed
		if a.json {
			return a.writeJSON(x.told(false, conflicts, how.output))
		}
		return a.printf("%s has %s. Edit it, then: sharefs resolve %s --with %s\n", term.Quote(how.output), inTwoWays(conflicts), term.Quote(given), term.Quote(how.output))
	case how.edit:
		return a.editMerge(&x, text, conflicts, how.editor)
	case a.json:
		a.exit = exitFailed
		return a.writeJSON(x.told(false, conflicts, ""))
	}
	return &sharefs.Error{Path: term.Quote(given), Kind: sharefs.KindExist, Detail: "has " + inTwoWays(conflicts) + ", and is left as it is: --merge --edit opens an editor, --merge --output OTHER writes it with markers, --take NAME takes one version"}
}

func inTwoWays(n int) string {
	if n == 1 {
		return "1 place that was changed in two ways"
	}
	return fmt.Sprintf("%d places that were changed in two ways", n)
}

// unmarked refuses a text in which somebody has yet to choose.
func (a *app) unmarked(name string, text []byte) error {
	if line := textdiff.Marked(string(text)); line > 0 {
		return &sharefs.Error{Path: term.Quote(name), Kind: sharefs.KindInvalid, Detail: fmt.Sprintf("a conflict is marked in line %d: choose what is to stand there, and remove the markers", line)}
	}
	return nil
}

// writeNew makes a file, which must not be there.
func writeNew(name, text string) error {
	w, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return client.PathError("write", name, err)
	}
	_, err = w.WriteString(text)
	if e := w.Close(); err == nil {
		err = e
	}
	if err != nil {
		return client.PathError("write", name, err)
	}
	return nil
}

// endMerge makes a text the file, which ends the conflict between the sides that were read.
func (a *app) endMerge(x *merging, text string, conflicts int, output string) error {
	ctx, stop := interruptible()
	defer stop()
	rest, err := x.end(ctx, text)
	if err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(x.told(true, conflicts, output))
	}
	if err := a.printf("%s has the changes of %s.\n", term.Quote(x.f.Given), term.Clean(strings.Join(x.names(), " and "))); err != nil || !rest {
		return err
	}
	a.exit = exitFailed
	return a.printf("Another version came meanwhile: sharefs conflicts %s\n", term.Quote(x.f.Given))
}

// mergeable names a file whose versions are text and can be merged, without a place that was changed in two ways if there is one such among the first few; clean tells so. "": there is none.
func mergeable(m *client.Mount, all []report.Conflict) (name string, clean bool) {
	for i := range all[:min(len(all), 20)] {
		c := &all[i]
		if slices.ContainsFunc(c.Sides, func(s report.Side) bool { return s.Number == 0 || s.Size > textLook }) {
			continue
		}
		f, err := client.Open(filepath.Join(m.Point, c.Path))
		if err != nil {
			continue
		}
		x := merging{c: c, f: f, m: m}
		if x.read() != nil {
			continue
		}
		switch _, conflicts, err := x.merge(); {
		case err == nil && conflicts == 0:
			return term.Quote(f.Path), true
		case err == nil && name == "":
			name = term.Quote(f.Path)
		}
	}
	return name, false
}

// textLook bounds what is merged only to see whether it can be, in bytes.
const textLook = 1 << 20

// endPatience is how long the tool waits for what it wrote to be known to the mount as one of the versions in conflict.
const endPatience = time.Minute

var errNotYet = errors.New("not yet")
