package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
	"sharefs/internal/textdiff"
	"sharefs/peers/report"
)

// merging is a conflict whose sides are to become one text.
type merging struct {
	m     *client.Mount
	f     *client.File
	c     *report.Conflict
	texts []string // of the sides
}

// read reads the sides. An error says which of them cannot be merged.
func (x *merging) read() error {
	x.texts = nil
	for i := range x.c.Sides {
		s := &x.c.Sides[i]
		refuse := func(detail string) error {
			return &sharefs.Error{Path: term.Quote(x.f.Given), Kind: sharefs.KindNotSupported, Detail: detail}
		}
		switch {
		case s.Type != "file":
			return refuse("one of its versions is a " + s.Type + ": rename or remove one of them, or --take NAME")
		}
		at := x.f.By(s.Take) // of which there is no number here, as of a file that two hosts had before they met
		if s.Number > 0 {
			at = x.at(s.Number)
		}
		text, large, err := text(at)
		switch {
		case err != nil:
			return err
		case large:
			return refuse("is larger than " + term.Size(maxText) + ", which is not merged as text: --take NAME")
		case isBinary(text):
			return refuse("the version of " + term.Clean(s.Take) + " is no text: --take NAME")
		}
		x.texts = append(x.texts, string(text))
	}
	return nil
}

func (x *merging) at(number uint64) client.Point { return x.f.At(&client.Version{Number: number}) }

// names are those of the sides.
func (x *merging) names() (all []string) {
	for i := range x.c.Sides {
		all = append(all, x.c.Sides[i].Take)
	}
	return all
}

// merge merges one side after the other, each with the version from which it and those before it went apart.
func (x *merging) merge() (result string, conflicts int, err error) {
	result = x.texts[0]
	names := x.names()
	for i := 1; i < len(x.texts); i++ {
		as := textdiff.Names{A: term.Clean(strings.Join(names[:i], ", ")), B: term.Clean(names[i])}
		var parts []textdiff.Part
		if n := x.c.Sides[i].Base; n == 0 {
			parts = textdiff.Both(result, x.texts[i])
		} else {
			base := x.at(n)
			before, large, err := text(base)
			if err != nil || large || isBinary(before) {
				return "", 0, &sharefs.Error{Path: term.Quote(base.Name), Kind: sharefs.KindNotSupported, Detail: "the version before is no text, or too large to be compared line by line", Err: err}
			}
			as.Base = term.Clean(base.Name)
			parts = textdiff.Merge(result, string(before), x.texts[i])
		}
		var n int
		result, n = textdiff.Mark(parts, as)
		conflicts += n
	}
	return result, conflicts, nil
}

// end makes a text the file and ends the conflict between the sides that were read; rest tells that there is one with others.
func (x *merging) end(ctx context.Context, text string) (rest bool, err error) {
	if i := slices.Index(x.texts, text); i >= 0 {
		return false, x.take(x.c.Sides[i].ID)
	}
	stands, err := x.stands()
	if err != nil {
		return false, err
	}
	if !stands {
		return false, &sharefs.Error{Path: term.Quote(x.f.Given), Kind: sharefs.KindBusy, Detail: "was changed meanwhile: try again"}
	}
	if err := x.f.Write(text, "merged: "+strings.Join(x.names(), ", ")); err != nil {
		return false, err
	}
	ctx, stop := context.WithTimeout(ctx, endPatience)
	defer stop()
	for {
		switch rest, err = x.ended(); err {
		case errNotYet:
		default:
			return rest, err
		}
		select {
		case <-ctx.Done():
			return false, &sharefs.Error{Path: term.Quote(x.f.Given), Kind: sharefs.KindAgain, Detail: "is merged, and peers do not know it yet: look at sharefs conflicts in a moment"}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stands reports whether the file still holds the side that was live.
func (x *merging) stands() (bool, error) {
	i := slices.IndexFunc(x.c.Sides, func(s report.Side) bool { return s.Live })
	if i < 0 {
		return false, nil
	}
	if n := x.c.Sides[i].Number; n > 0 {
		h, err := x.f.History()
		return err == nil && h.Live == n, err
	}
	now, err := x.f.Now()
	if err != nil {
		return false, err
	}
	holds, _, err := text(now)
	return string(holds) == x.texts[i], err
}

// ended ends the conflict as soon as what was written is one of its sides; it may have ended by that.
func (x *merging) ended() (rest bool, err error) {
	all, err := x.m.Conflicts()
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(all, func(c report.Conflict) bool { return c.Path == x.c.Path })
	old := func(s report.Side) bool {
		return slices.ContainsFunc(x.c.Sides, func(o report.Side) bool { return o.ID == s.ID })
	}
	if i < 0 {
		return false, nil
	}
	now := &all[i]
	if !slices.ContainsFunc(now.Sides, old) {
		return true, nil // all that was merged is seen, and something else is not
	}
	h, err := x.f.History()
	if err != nil {
		return false, err
	}
	i = slices.IndexFunc(now.Sides, func(s report.Side) bool { return h.Live != 0 && s.Number == h.Live && !old(s) })
	if i < 0 {
		return false, errNotYet
	}
	written := now.Sides[i]
	rest = slices.ContainsFunc(now.Sides, func(s report.Side) bool { return s.ID != written.ID && !old(s) })
	return rest, x.take(written.ID)
}

// take has a version be the file, and those that were read be seen.
func (x *merging) take(id string) error {
	var of []string
	for i := range x.c.Sides {
		of = append(of, x.c.Sides[i].ID)
	}
	_, err := x.m.AskPeers("resolve", map[string]string{"path": x.c.Path, "take": id, "of": strings.Join(of, " ")})
	return err
}

// mergeTold is what the JSON tells.
type mergeTold struct {
	Path      string        `json:"path"`
	Merged    bool          `json:"merged"`    // it is the file now, and the conflict is ended
	Conflicts int           `json:"conflicts"` // places that were changed in two ways
	Output    string        `json:"output,omitempty"`
	Sides     []report.Side `json:"sides"`
}

func (x *merging) told(merged bool, conflicts int, output string) mergeTold {
	return mergeTold{x.c.Path, merged, conflicts, output, x.c.Sides}
}
