package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
)

func (a *app) snapshot() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use:   "snapshot [NAME] [-m NOTE]",
		Short: "Fix the whole tree as it is now, and give it a name",
		Long: `Fix the whole tree of the mount as it is now. It can be walked in .share/at/NAME
or, without a name, under the time that is written, and costs nothing: the tree
of every other moment can be seen too. What has a name is kept for ever.`,
		Args:              between(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkNote(note); err != nil {
				return err
			}
			m, err := a.live()
			if err != nil {
				return err
			}
			name := ""
			var at time.Time
			if len(args) == 0 {
				if note != "" {
					return usage("a note goes with a name: sharefs snapshot NAME -m NOTE")
				}
				at, err = m.Now()
			} else {
				name = args[0]
				if err = m.SetSnapshot(name, note); err == nil {
					at, err = m.Root().TimeOf(name)
				}
			}
			if err != nil {
				return err
			}
			path := m.At(at, m.Point)
			if name != "" {
				path = filepath.Join(m.Point, ".share/at", name)
			}
			if a.json {
				return a.writeJSON(struct {
					Mount string `json:"mount"`
					Name  string `json:"name"`
					Time  string `json:"time"`
					Path  string `json:"path"` // where it can be walked
					Note  string `json:"note"`
				}{m.Point, name, at.Local().Format(term.JSONTimeLayout), path, note})
			}
			return a.printf("The tree as it is at %s is in %s\n", term.Time(at), term.Quote(path))
		},
	}
	cmd.Flags().StringVarP(&note, "message", "m", "", "Give it this `NOTE`")
	return cmd
}

// taggedJSON is what tag and branch write.
type taggedJSON struct {
	Path string `json:"path"`
	Name string `json:"name"`
	Time string `json:"time"`
	Note string `json:"note"`
}

func (a *app) tag() *cobra.Command {
	var note, at string
	cmd := &cobra.Command{
		Use:   "tag PATH NAME [--at TIME] [-m NOTE]",
		Short: "Give what a file or directory holds now, or held, a name",
		Long: `Give what a file or directory holds now, or held at a time, a name. Wherever a
time may stand behind @@, the name may: sharefs diff PATH@@NAME, ls PATH@@NAME.
What has a name is kept for ever.`,
		Args:              exactly("PATH", "NAME"),
		ValidArgsFunction: completeFiles,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.setMoment(args[0], args[1], at, note, "tag", (*client.Target).SetTag)
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "Name what was there at `TIME`; of a file it may be the number of a version")
	cmd.Flags().StringVarP(&note, "message", "m", "", "Give it this `NOTE`")
	return cmd
}

func (a *app) setMoment(path, name, at, note, what string, set func(t *client.Target, name, at, note string) error) error {
	if err := checkNote(note); err != nil {
		return err
	}
	t, err := client.OpenTarget(path)
	if err != nil {
		return err
	}
	if t.File != nil && at == "" { // what it holds is to be a version, also while it is open
		if _, _, err := t.File.Commit(""); err != nil {
			return err
		}
	}
	if err := set(t, name, at, note); err != nil {
		return err
	}
	when, err := t.TimeOf(name)
	if err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(taggedJSON{t.Path, name, when.Local().Format(term.JSONTimeLayout), note})
	}
	return a.printf("%s as it was at %s is %s %s: %s\n", term.Quote(t.Given), term.Time(when), what, term.Quote(name), quoteArg(seen(t, name)))
}

// seen is a path by which a moment of a target is seen.
func seen(t *client.Target, name string) string {
	if t.Path == t.Mount.Point {
		return filepath.Join(t.Mount.Point, ".share/at", name)
	}
	return strings.TrimRight(t.Given, "/") + "@@" + name
}

func (a *app) untag() *cobra.Command {
	return &cobra.Command{
		Use:               "untag PATH NAME",
		Short:             "Take a tag of a file or directory away",
		Long:              "Take a tag of a file or directory away; a snapshot is one of the mount point. What it named stays as long as other moments do.",
		Args:              exactly("PATH", "NAME"),
		ValidArgsFunction: a.completeMoments(tagsOf),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.removeMoment(args[0], args[1], "tag", (*client.Target).RemoveTag)
		},
	}
}

func (a *app) removeMoment(path, name, what string, remove func(*client.Target, string) error) error {
	t, err := client.OpenTarget(path)
	if err != nil {
		return err
	}
	all, err := t.Moments()
	if err != nil {
		return err
	}
	if err := remove(t, name); err != nil {
		if sharefs.KindOf(err) == sharefs.KindNotExist {
			return notThat(t, all, name, what)
		}
		return err
	}
	current := what == "branch" && all.Branch == name
	if a.json {
		return a.writeJSON(struct {
			Path    string `json:"path"`
			Name    string `json:"name"`
			Current bool   `json:"current"` // it was the branch that is worked on
		}{t.Path, name, current})
	}
	more := ""
	if current {
		more = " It was the one that was worked on; what is there stays, and is on no branch now."
	}
	return a.printf("The %s %s of %s is gone.%s\n", what, term.Quote(name), term.Quote(t.Given), more)
}

// notThat is the error of whoever wants to take away a tag or branch that is not there, or is the other of the two.
func notThat(t *client.Target, all *client.Moments, name, what string) error {
	e := &sharefs.Error{Op: "remove the " + what + " " + term.Quote(name) + " of", Path: term.Quote(t.Given), Kind: sharefs.KindNotExist}
	given := quoteArg(t.Given)
	switch {
	case what == "tag" && all.Find(name) != nil:
		e.Detail = "it is a branch: sharefs branch -d " + given + " " + term.Quote(name)
	case what == "branch" && all.HasTag(name):
		e.Detail = "it is a tag: sharefs untag " + given + " " + term.Quote(name)
	default:
		e.Detail = "it has no such " + what + "; sharefs tags " + given + " lists those that there are"
	}
	return e
}

func (a *app) tags() *cobra.Command {
	return &cobra.Command{
		Use:   "tags [PATH]",
		Short: "List the tags and branches of a file or directory, or the snapshots",
		Long: `List the tags and branches of a file or directory; without PATH the snapshots of
the mount. The branch that is worked on is marked by an asterisk.`,
		Args:              between(1),
		ValidArgsFunction: completeFiles,
		RunE: func(_ *cobra.Command, args []string) error {
			var t *client.Target
			if len(args) == 0 {
				m, err := a.live()
				if err != nil {
					return err
				}
				t = m.Root()
			} else {
				var err error
				if t, err = client.OpenTarget(args[0]); err != nil {
					return err
				}
			}
			return a.listMoments(t, true)
		},
	}
}

// listMoments writes the branches of a target, and the tags if these are wanted.
func (a *app) listMoments(t *client.Target, tags bool) error {
	all, err := t.Moments()
	if err != nil {
		return err
	}
	if !tags {
		all.Tags = []client.Moment{}
	}
	if a.json {
		return a.writeJSON(struct {
			Path string `json:"path"`
			*client.Moments
		}{t.Path, all})
	}
	if len(all.Tags)+len(all.Branches) == 0 {
		what := "tags and no branches: sharefs tag " + quoteArg(t.Given) + " NAME makes a tag"
		switch {
		case !tags:
			what = "branches: sharefs branch " + quoteArg(t.Given) + " NAME makes one"
		case t.Path == t.Mount.Point:
			what = "snapshots: sharefs snapshot NAME makes one"
		}
		return a.printf("%s has no %s.\n", term.Quote(t.Given), what)
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tKIND\tTIME\tVERSION\tNOTE")
	row := func(kind string, m *client.Moment) {
		at := "now"
		if t, err := time.Parse(time.RFC3339, m.Time); err == nil {
			at = term.Time(t)
		}
		version := ""
		if m.Version != 0 {
			version = strconv.FormatUint(m.Version, 10)
		}
		if kind == "branch" && m.Name == all.Branch {
			kind = "branch *"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", term.Clean(m.Name), kind, at, version, term.Clean(m.Note))
	}
	for i := range all.Tags {
		row("tag", &all.Tags[i])
	}
	for i := range all.Branches {
		row("branch", &all.Branches[i])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return a.printf("%s", trimLines(b.String()))
}

// trimLines takes the blanks off the ends of lines.
func trimLines(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return out.String()
}

func (a *app) describe() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use:               "describe FILE@@N -m NOTE",
		Short:             "Give a version another note",
		Long:              "Give a version another note, which shows in the log; an empty one takes the note away.",
		Args:              exactly("FILE@@N"),
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("message") {
				return usage("a note is missing: -m NOTE")
			}
			if err := checkNote(note); err != nil {
				return err
			}
			f, err := client.Open(args[0])
			if err != nil {
				return err
			}
			if f.Select == "" {
				return usage("no version is named: a number or a time goes behind @@, as in %s", term.Quote(f.Given+"@@1"))
			}
			if !f.Live {
				return &sharefs.Error{Path: term.Quote(f.Given), Kind: sharefs.KindNotExist, Detail: "is removed; restore it first"}
			}
			h, err := f.History()
			if err != nil {
				return err
			}
			v, err := f.Version(h)
			if err != nil {
				return err
			}
			if err := f.Describe(v.Number, note); err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(struct {
					File    string `json:"file"`
					Version uint64 `json:"version"`
					Note    string `json:"note"`
				}{f.Path, v.Number, note})
			}
			return a.printf("Version %d of %s has the note now.\n", v.Number, term.Quote(f.Given))
		},
	}
	cmd.Flags().StringVarP(&note, "message", "m", "", "Give the version this `NOTE`")
	return cmd
}
