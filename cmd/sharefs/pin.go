package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
)

// moved is what a command about what is here did.
type moved struct {
	Files int    `json:"files"`
	Bytes uint64 `json:"bytes"`
	Stay  []stay `json:"stay,omitempty"` // what free or unpin left as it was
}

func (a *app) pin() *cobra.Command {
	beyond := false
	cmd := &cobra.Command{
		Use:   "pin [--beyond] PATH...",
		Short: "Keep files on this host, and bring them here",
		Long: `Keep files on this host whatever else is wanted here, and bring here what is not.
A directory is pinned with all that is in it and comes into it later, whoever makes it;
what leaves it is pinned no more. What no host that is connected has comes by itself as
soon as one has it: sharefs status shows what is still to come. What is pinned stays
within the budget ([space] in share.toml): more than fits is refused, but for --beyond,
with which files come that fit, each as a whole, until none does.`,
		Args: between(mostPaths, "PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			list, err := presences(args)
			if err != nil {
				return noneDone(err, args, "pinned")
			}
			if !beyond {
				if err := fits(args, list); err != nil {
					return err
				}
			}
			if err := inTurn(args, "pinned", client.Pin); err != nil {
				return err
			}
			done := moved{Files: len(list)}
			var lack []client.Presence
			var total uint64
			for _, h := range list {
				if h.State != client.HereFull {
					lack = append(lack, h)
					total += h.Size
				}
			}
			lost, err := a.bring(lack, total, &done)
			if err == nil && a.json {
				err = a.writeJSON(done)
			} else if err == nil && len(list) == 0 {
				err = a.printf("Pinned; no file is in it yet, and what comes into it comes here by itself.\n")
			} else if err == nil {
				err = a.printf("Pinned %s; %s came.\n", term.Of(uint64(done.Files), "file"), sizesAt(args[0])(done.Bytes))
			}
			if err == nil && lost.n > 0 {
				err = fmt.Errorf("pinned, and not all here yet: %s to come by itself as soon as a host that has it is connected, and there is room (sharefs status); the first: %w", term.Of(uint64(lost.n), "file"), lost.first)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&beyond, "beyond", false, "Pin although the budget has no room for all of it")
	return cmd
}

// noneDone is the error for which nothing was done to any of several paths.
func noneDone(err error, paths []string, done string) error {
	if len(paths) < 2 {
		return err
	}
	return fmt.Errorf("%w; nothing was %s", err, done)
}

// inTurn does something to one path after the other, and says with the first error to which it was done before.
func inTurn(paths []string, done string, do func(path string) error) error {
	for i, path := range paths {
		err := do(path)
		switch {
		case err == nil:
		case i == 0:
			return noneDone(err, paths, done)
		default:
			return fmt.Errorf("%w; %s before that: %s", err, done, someOf(paths[:i]))
		}
	}
	return nil
}

// someOf names the first of some paths.
func someOf(paths []string) string {
	var b strings.Builder
	for i, path := range paths {
		if i == mostStay {
			fmt.Fprintf(&b, " and %s more", term.Count(uint64(len(paths)-i)))
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(term.Quote(path))
	}
	return b.String()
}

// presences tells how much is here of all files of some paths.
func presences(paths []string) (list []client.Presence, err error) {
	err = client.EachFile(paths, nil, func(path string) error {
		h, err := client.LookHere(path)
		if err == nil {
			list = append(list, h)
		}
		return err
	})
	return list, err
}

// fits errs if the budget has no room for files that are to be pinned beside those that are.
func fits(paths []string, list []client.Presence) error {
	m, err := client.MountOf(paths[0])
	if err != nil {
		return err
	}
	s, err := m.Status()
	if err != nil || s.Room == nil || s.Room.Budget == 0 {
		return err
	}
	more := uint64(0)
	for _, h := range list {
		if !h.Pinned {
			more += h.Size
		}
	}
	r := s.Room
	if r.Pinned+r.Packs+more <= r.Budget || more == 0 {
		return nil
	}
	has, room := apart(r.In, more, r.Budget-min(r.Pinned+r.Packs, r.Budget))
	who := "it has"
	if len(paths) > 1 {
		who = "together they have"
	}
	return &sharefs.Error{Op: "pin", Path: someOf(paths), Kind: sharefs.KindNoSpace, Detail: fmt.Sprintf(
		"%s %s, and the budget of %s has room for %s beside %s that are pinned and %s of history: raise [space] budget in share.toml and mount again, unpin something, keep less history (sharefs retain --quota SIZE), or pin --beyond, with which those of its files come that fit, each as a whole",
		who, has, r.In(r.Budget), room, r.In(r.Pinned), r.In(r.Packs))}
}

// sizesAt is how sizes are shown of what is in the mount of a path: in the units of its budget, as sharefs status does.
func sizesAt(path string) func(uint64) string {
	if m, err := client.MountOf(path); err == nil {
		if s, err := m.Status(); err == nil && s.Room != nil {
			return s.Room.In
		}
	}
	return term.Size
}

// apart shows two sizes as show does, to the byte where they would look the same though they are not.
func apart(show func(uint64) string, a, b uint64) (string, string) {
	if x, y := show(a), show(b); a == b || x != y {
		return x, y
	}
	return term.Of(a, "byte"), term.Of(b, "byte")
}

// lost is what could not be had now.
type lost struct {
	n     int
	first error
}

// bring brings files here and shows how far that is.
func (a *app) bring(lack []client.Presence, total uint64, done *moved) (lost lost, err error) {
	progress := term.NewProgress(os.Stderr)
	defer progress.End()
	for _, h := range lack {
		err := client.Bring(h.Path, func(n uint64) { progress.Show("bring here", done.Bytes+n, total, "bytes") })
		if errors.Is(err, sharefs.KindUnreachable) || errors.Is(err, sharefs.KindNoSpace) { // another one may be had
			if lost.n++; lost.first == nil {
				lost.first = err
			}
			continue
		}
		if err != nil {
			return lost, err
		}
		done.Bytes += h.Size
		progress.Show("bring here", done.Bytes, total, "bytes")
	}
	return lost, nil
}
