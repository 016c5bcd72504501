package main

import (
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
)

// switchPrefix begins the label of an operation that is a switch to another branch. Behind it comes FROM/TO/PATH: names of branches have no slash, FROM is
// empty where it was on none, and PATH is from the root of the mount. What does not fit into a label is left out, slashes and all.
const switchPrefix = "switch "

// switchLabel is the label of a switch of a target.
func switchLabel(t *client.Target, from, to string) string {
	rel, err := filepath.Rel(t.Mount.Point, t.Path)
	label := switchPrefix + from + "/" + to + "/" + rel
	if err != nil || len(label) > sharefs.NameMax || !utf8.ValidString(label) || strings.ContainsFunc(label, unicode.IsControl) {
		return switchPrefix
	}
	return label
}

// switching is what undo and redo do about the branch where the operation was a switch to another one; nil where it was none.
type switching struct {
	target   *client.Target
	from, to string // the branches to leave and to go on with; empty: none
}

// switching finds what is to be done about a branch. It is nothing where another branch was switched to since.
func (u *undoing) switching() (*switching, error) {
	text, is := strings.CutPrefix(u.o.Label, switchPrefix)
	if !is {
		return nil, nil
	}
	parts := strings.SplitN(text, "/", 3)
	if len(parts) < 3 {
		return nil, &sharefs.Error{Op: u.verb, Path: u.o.ID, Kind: sharefs.KindInvalid,
			Detail: "it went over to another branch; sharefs switch PATH BRANCH goes back"}
	}
	t, err := client.OpenTarget(filepath.Join(u.m.Point, parts[2]))
	if sharefs.KindOf(err) == sharefs.KindNotExist {
		return nil, nil // it is not there any more, and so is on no branch
	}
	if err != nil {
		return nil, err
	}
	all, err := t.Moments()
	if err != nil {
		return nil, err
	}
	s := &switching{target: t, from: parts[1], to: parts[0]}
	if u.style.redo {
		s.from, s.to = s.to, s.from
	}
	if all.Branch != s.from && all.Branch != "" { // none: a switch that was interrupted
		return nil, nil
	}
	if s.from = all.Branch; s.to != "" && all.Find(s.to) == nil {
		s.to = ""
	}
	return s, nil
}

// leave keeps what is there on the branch that it is on. Until arrive no branch is the present one, as while switch is at work.
func (s *switching) leave(a *app) error {
	if s == nil {
		return nil
	}
	if s.from != "" {
		if _, err := a.leave(s.target, s.from); err != nil {
			return err
		}
	}
	return s.target.Switch("")
}

// arrive goes on with the other branch.
func (s *switching) arrive(a *app) error {
	if s == nil || s.to == "" {
		return nil
	}
	if err := s.target.Switch(s.to); err != nil || a.json {
		return err
	}
	return a.printf("%s is on branch %s again.\n", term.Quote(s.target.Given), term.Quote(s.to))
}
