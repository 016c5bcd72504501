package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
)

func (a *app) unpin() *cobra.Command {
	return &cobra.Command{
		Use:   "unpin PATH...",
		Short: "Let files go from this host again when there is no room",
		Long: `Take back what pin said of the same paths: of a directory, for all that is in it. What
below it was pinned by itself stays pinned, and is named. The files stay until the budget
wants their room, or sharefs free is asked for.`,
		Args: between(mostPaths, "PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			u, err := lookUnpin(args)
			if err != nil {
				return noneDone(err, args, "unpinned")
			}
			had := false
			if err := inTurn(u.order(args), "unpinned", func(path string) error {
				ok, err := client.Unpin(path)
				had = had || ok
				return err
			}); err != nil {
				return err
			}
			done, above := u.after()
			if err := a.sayUnpinned(&done, had, u.own); err != nil {
				return err
			}
			switch {
			case above != "":
				return staysPinned(above, len(done.Stay))
			case !had && len(u.own) > 0:
				return &sharefs.Error{Op: "unpin", Path: someOf(args), Kind: sharefs.KindInvalid, Detail: "nothing was unpinned: that is not pinned itself, and what is pinned below it is to be named: " + someOf(u.own)}
			}
			return nil
		},
	}
}

// unpinning is how things were before something is unpinned.
type unpinning struct {
	files []client.Presence // that were pinned
	own   []string          // what below the paths, not one of these itself, is pinned by itself
}

func lookUnpin(args []string) (u unpinning, err error) {
	given := map[string]bool{}
	for _, path := range args {
		given[filepath.Clean(path)] = true
	}
	own := func(path string) {
		if !given[filepath.Clean(path)] && client.PinnedItself(path) {
			u.own = append(u.own, path)
		}
	}
	err = client.EachFile(args, func(dir string) error { own(dir); return nil }, func(path string) error {
		h, err := client.LookHere(path)
		if err == nil && h.Pinned {
			u.files = append(u.files, h)
			own(path)
		}
		return err
	})
	return u, err
}

// order puts paths of which something lacks before the others: a pinned file that is here gives way, once it is pinned no more, to one that is pinned still and waits for room.
func (u *unpinning) order(paths []string) []string {
	whole := func(top string) bool {
		return !slices.ContainsFunc(u.files, func(h client.Presence) bool {
			return h.State != client.HereFull && isWithin(top, h.Path)
		})
	}
	first, then := []string{}, []string{}
	for _, path := range paths {
		if whole(path) {
			then = append(then, path)
		} else {
			first = append(first, path)
		}
	}
	return append(first, then...)
}

// isWithin reports whether a path is another one, or below it, by their names.
func isWithin(top, path string) bool {
	a, err := filepath.Abs(top)
	b, err2 := filepath.Abs(path)
	rel, err3 := filepath.Rel(a, b)
	return errors.Join(err, err2, err3) == nil && filepath.IsLocal(rel)
}

// after tells which files are pinned no more and which are, and the first of those that are by something above the paths, or by another name.
func (u *unpinning) after() (done moved, above string) {
	own := map[string]bool{}
	for _, path := range u.own {
		own[path] = true
	}
	for _, h := range u.files {
		if now, err := client.LookHere(h.Path); err != nil || !now.Pinned {
			done.Files++
			continue
		}
		by := h.Path
		for !own[by] && by != filepath.Dir(by) {
			by = filepath.Dir(by)
		}
		why := "it is pinned by itself"
		switch {
		case !own[by]:
			if why = whyPinned(h.Path); above == "" {
				above = h.Path
			}
		case by != h.Path:
			why = "it is pinned with " + term.Quote(by)
		}
		done.Stay = append(done.Stay, stay{h.Path, why})
	}
	return done, above
}

func (a *app) sayUnpinned(done *moved, had bool, own []string) error {
	switch {
	case a.json:
		return a.writeJSON(done)
	case had && done.Files == 0 && len(done.Stay) == 0:
		return a.printf("Unpinned; no file is in it.\n")
	case had && len(own) > 0:
		return a.printf("Unpinned %s. Below that stays pinned what is by itself: %s\n", term.Of(uint64(done.Files), "file"), someOf(own))
	case done.Files > 0:
		return a.printf("Unpinned %s.\n", term.Of(uint64(done.Files), "file"))
	case len(done.Stay) == 0 && len(own) == 0:
		return a.printf("Nothing is pinned there.\n")
	}
	return nil
}

// whyPinned tells what keeps a file pinned that is not itself.
func whyPinned(path string) string {
	if above, ok := client.PinnedAbove(path); ok {
		return "it is pinned with " + term.Quote(above) + ": unpin that, or move the file out of it"
	}
	return "it has another name in a directory that is pinned"
}

// staysPinned is the error of unpinning what something else pins.
func staysPinned(path string, all int) error {
	err := error(&sharefs.Error{Op: "unpin", Path: term.Quote(path), Kind: sharefs.KindPermission, Detail: whyPinned(path)})
	if all > 1 {
		err = fmt.Errorf("%w; %s stay pinned in all", err, term.Of(uint64(all), "file"))
	}
	return err
}
