package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
)

func (a *app) restore() *cobra.Command {
	var style restoreStyle
	cmd := &cobra.Command{
		Use:   "restore PATH@@N",
		Short: "Bring a version of a file back, or make a directory as it was",
		Long: `Bring a version of a file back, or make a directory and all that is in it as it
was. Everything that is overwritten or removed is kept as a version first, so
nothing is lost and restoring can itself be undone. What was removed comes back
under its name, with its attributes of then.

  sharefs restore FILE@@3           Version 3
  sharefs restore FILE@@yesterday   What FILE held yesterday
  sharefs restore DIR@@-2h          The directory as it was two hours ago
  sharefs restore .@@NAME           This directory at a tag or snapshot
  sharefs restore .@@NAME --to ~/d  The same, written to another directory

A directory becomes exactly as it was: what came later is removed, unless --stay
is given. Files that cannot be written are named, and the rest is done.`,
		Args:              exactly("PATH@@N"),
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("to") && (style.to == "" || style.stay || style.verbose) {
				return usage("--to takes a directory, and neither --stay nor --verbose")
			}
			if client.IsDir(args[0]) {
				return a.restoreTree(args[0], style)
			}
			if style.stay || style.verbose || style.to != "" {
				return usage("--stay, --to and --verbose are for directories")
			}
			f, err := client.Open(args[0])
			if err != nil {
				if path, at, m, e := client.EntryAt(args[0]); e == nil && !at.IsZero() {
					return a.restoreEntry(args[0], path, at, m, style)
				}
				return err
			}
			if f.Select == "" {
				return usage("no version is named: a number or a time goes behind @@, as in %s", term.Quote(f.Given+"@@1"))
			}
			h, err := f.History()
			if err != nil {
				return err
			}
			v, err := f.Version(h)
			if err != nil {
				return err
			}
			result := restoredJSON{File: f.Path, Restored: v.Number, Revived: !f.Live, Already: f.Live && h.Live == v.Number, DryRun: style.dry}
			if !result.Already && !style.dry {
				result.Kept, err = f.Restore(v)
				switch {
				case f.Live && sharefs.KindOf(err) == sharefs.KindExist:
					result.Already = true
				case err != nil:
					return err
				}
			}
			if a.json {
				return a.writeJSON(result)
			}
			name := term.Quote(f.Given)
			switch {
			case style.dry && !result.Already && result.Revived:
				return a.printf("%s would come back as it was in version %d.\n", name, v.Number)
			case style.dry && !result.Already:
				return a.printf("%s would hold what it held in version %d; what it holds now is kept as a version.\n", name, v.Number)
			case result.Already:
				return a.printf("%s holds version %d already; nothing is to be done.\n", name, v.Number)
			case result.Revived:
				return a.printf("%s is back, as it was in version %d.\n", name, v.Number)
			case result.Kept == 0:
				return a.printf("%s holds what it held in version %d.\n", name, v.Number)
			}
			undo := quoteArg(f.Given + "@@" + strconv.FormatUint(result.Kept, 10))
			return a.printf("%s holds what it held in version %d. What it held before is version %d (to undo: sharefs restore %s).\n",
				name, v.Number, result.Kept, undo)
		},
	}
	cmd.Flags().BoolVarP(&style.dry, "dry-run", "n", false, "Show what would be done, and do nothing")
	cmd.Flags().StringVar(&style.to, "to", "", "Of a directory: write it to `DIR`, which is made or empty, and leave the live one as it is")
	cmd.Flags().BoolVar(&style.stay, "stay", false, "Of a directory: leave what came later where it is")
	cmd.Flags().BoolVarP(&style.verbose, "verbose", "v", false, "Of a directory: list all that is done, however much")
	return cmd
}

// restoredJSON is what restore writes of a file.
type restoredJSON struct {
	File     string `json:"file"`
	Restored uint64 `json:"restored"`
	Kept     uint64 `json:"kept"`    // the version that the content before is; 0: there was none
	Already  bool   `json:"already"` // nothing was to be done
	Revived  bool   `json:"revived"` // the file had been removed
	DryRun   bool   `json:"dry_run"` // nothing was done; the others say what would be
}

// restoreEntry brings back what has no versions of its own to name: a symbolic link, or a file whose directory is another one now.
func (a *app) restoreEntry(arg, path string, at time.Time, m *client.Mount, style restoreStyle) error {
	if !style.dry {
		if err := m.ReviveAt(path, at); err != nil {
			return err
		}
	}
	if a.json {
		return a.writeJSON(restoredJSON{File: path, Revived: true, DryRun: style.dry})
	}
	does := "is back"
	if style.dry {
		does = "would come back"
	}
	return a.printf("%s %s, as it was at %s.\n", term.Quote(arg[:strings.LastIndex(arg, "@@")]), does, term.Time(at))
}

func (a *app) commit() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use:   "commit FILE [-m NOTE]",
		Short: "Make what a file holds now a version, with a note",
		Long: `Make what a file holds now a version, with a note. Versions come by themselves
when a file is closed; commit does not wait for that, and the note shows in the
log. Where nothing has changed no version is made, and the note goes to the one
that is there unless it has a note already.`,
		Args:              exactly("FILE"),
		ValidArgsFunction: completeFiles,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkNote(note); err != nil {
				return err
			}
			f, err := client.Open(args[0])
			if err != nil {
				return err
			}
			if f.Select != "" {
				return usage("%s is a version already; commit takes the file itself", f.Name())
			}
			if !f.Live {
				return &sharefs.Error{Path: f.Name(), Kind: sharefs.KindNotExist, Detail: "is removed"}
			}
			v, isNew, err := f.Commit(note)
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(struct {
					File    string `json:"file"`
					Version uint64 `json:"version"`
					New     bool   `json:"new"`
					Note    string `json:"note"` // that the version has
				}{f.Path, v.Number, isNew, v.Note})
			}
			name := term.Quote(f.Given)
			switch {
			case isNew:
				return a.printf("Version %d of %s is kept.\n", v.Number, name)
			case note == "":
				return a.printf("%s has not changed since version %d; no version was made.\n", name, v.Number)
			case v.Note == note:
				return a.printf("%s has not changed since version %d, which has the note now; no version was made.\n", name, v.Number)
			}
			return a.printf("%s has not changed since version %d, which keeps the note it has (%s); no version was made.\n", name, v.Number, term.Clean(v.Note))
		},
	}
	cmd.Flags().StringVarP(&note, "message", "m", "", "Give the version this `NOTE`")
	return cmd
}

func checkNote(note string) error {
	if len(note) > sharefs.NoteMax {
		return usage("the note has %d bytes; %d are the most", len(note), sharefs.NoteMax)
	}
	for i, r := range note {
		if r == 0 || r == '\uFFFD' {
			return usage("the note is not text (byte %d)", i)
		}
	}
	return nil
}
