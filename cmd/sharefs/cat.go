package main

import (
	"encoding/base64"
	"io"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
)

func (a *app) cat() *cobra.Command {
	return &cobra.Command{
		Use:               "cat FILE[@@N]",
		Short:             "Write what a version holds",
		Long:              "Write what a version of a file holds, or without @@ what the file holds now. The same as cat FILE@@N.",
		Args:              exactly("FILE"),
		ValidArgsFunction: completeFiles,
		RunE: func(_ *cobra.Command, args []string) error {
			side, err := openSide(args[0])
			if err != nil {
				return err
			}
			content, err := side.file.Content(side.number)
			if err != nil {
				return err
			}
			defer content.Close()
			if !a.json {
				_, err := io.Copy(a.out, content)
				return readError(side, err)
			}
			text, err := io.ReadAll(io.LimitReader(content, maxJSON+1))
			if err != nil {
				return readError(side, err)
			}
			if len(text) > maxJSON {
				return &sharefs.Error{Path: side.file.Name(), Kind: sharefs.KindTooLarge, Detail: "is too large for JSON; leave --json away"}
			}
			out := struct {
				File    string  `json:"file"`
				Version uint64  `json:"version"` // 0: the live content
				Size    int     `json:"size"`
				Text    *string `json:"text,omitempty"`   // where it is UTF-8
				Base64  *string `json:"base64,omitempty"` // where it is not
			}{File: side.file.Path, Version: side.number, Size: len(text)}
			if s := string(text); utf8.ValidString(s) {
				out.Text = &s
			} else {
				s := base64.StdEncoding.EncodeToString(text)
				out.Base64 = &s
			}
			return a.writeJSON(out)
		},
	}
}

// maxJSON bounds content within JSON, in bytes.
const maxJSON = 64 << 20

// side is a file at one of its versions.
type side struct {
	file   *client.File
	number uint64 // 0: the live content
}

// openSide finds what FILE or FILE@@N names.
func openSide(arg string) (side, error) {
	f, err := client.Open(arg)
	if err != nil {
		return side{}, err
	}
	s := side{file: f}
	if f.Select == "" {
		if !f.Live {
			return s, &sharefs.Error{Path: f.Name(), Kind: sharefs.KindNotExist,
				Detail: "is removed; sharefs log lists its versions"}
		}
		return s, nil
	}
	h, err := f.History()
	if err != nil {
		return s, err
	}
	v, err := f.Version(h)
	if err != nil {
		return s, err
	}
	s.number = v.Number
	return s, nil
}

// readError says of which file it is.
func readError(s side, err error) error {
	if err == nil || sharefs.KindOf(err) == sharefs.KindOther {
		return err
	}
	return &sharefs.Error{Op: "read", Path: s.file.Name(), Kind: sharefs.KindOf(err), Err: err}
}
