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
			f, p, err := find(args[0])
			if err != nil {
				return err
			}
			content, err := p.Open()
			if err != nil {
				return err
			}
			defer content.Close()
			if !a.json {
				return a.copyOut(p, content)
			}
			text, err := io.ReadAll(io.LimitReader(content, maxJSON+1))
			if err != nil {
				return readError(p, err)
			}
			if len(text) > maxJSON {
				return &sharefs.Error{Path: f.Name(), Kind: sharefs.KindTooLarge, Detail: "is too large for JSON; leave --json away"}
			}
			out := struct {
				File      string  `json:"file"`
				Version   uint64  `json:"version"`    // 0: the live content
				OtherFile bool    `json:"other_file"` // a version of another file, which bore the name at the time that was asked for
				Size      int     `json:"size"`
				Text      *string `json:"text,omitempty"`   // where it is UTF-8
				Base64    *string `json:"base64,omitempty"` // where it is not
			}{File: f.Path, Version: p.Number, OtherFile: p.Other, Size: len(text)}
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

// find returns the file and the point of it that FILE or FILE@@N names.
func find(arg string) (*client.File, client.Point, error) {
	f, err := client.Open(arg)
	if err != nil {
		return nil, client.Point{}, err
	}
	if f.Select == "" && !f.Live {
		return nil, client.Point{}, &sharefs.Error{Path: f.Name(), Kind: sharefs.KindNotExist, Detail: "is removed; sharefs log lists its versions"}
	}
	p, err := f.Selected()
	return f, p, err
}

// copyOut writes what a point holds as it is.
func (a *app) copyOut(p client.Point, content io.Reader) error {
	buf := make([]byte, 1<<20)
	for {
		n, err := content.Read(buf)
		if _, err := a.out.Write(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return readError(p, err)
		}
	}
}

// readError says what could not be read.
func readError(p client.Point, err error) error {
	if err == nil || sharefs.KindOf(err) == sharefs.KindOther {
		return err
	}
	return client.PathError("read", p.Name, err)
}
