package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
)

func (a *app) restore() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE@@N",
		Short: "Bring a version back; what the file holds now is kept as a version first",
		Long: `Bring a version back. What the file holds now is kept as a version first, so
nothing is lost and restoring can itself be undone. A file that was removed
comes back under its name.`,
		Args:              exactly("FILE@@N"),
		ValidArgsFunction: completeFiles,
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := client.Open(args[0])
			if err != nil {
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
			result := struct {
				File     string `json:"file"`
				Restored uint64 `json:"restored"`
				Kept     uint64 `json:"kept"`    // the version that the content before is; 0: there was none
				Already  bool   `json:"already"` // nothing was to be done
				Revived  bool   `json:"revived"` // the file had been removed
			}{File: f.Path, Restored: v.Number, Revived: !f.Live, Already: f.Live && h.Live == v.Number}
			if !result.Already {
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
			case result.Already:
				return a.printf("%s holds version %d already; nothing is to be done.\n", name, v.Number)
			case result.Revived:
				return a.printf("%s is back, as it was in version %d.\n", name, v.Number)
			case result.Kept == 0:
				return a.printf("%s holds what it held in version %d.\n", name, v.Number)
			}
			undo := term.Quote(f.Given + "@@" + strconv.FormatUint(result.Kept, 10))
			return a.printf("%s holds what it held in version %d. What it held before is version %d (to undo: sharefs restore %s).\n",
				name, v.Number, result.Kept, undo)
		},
	}
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
