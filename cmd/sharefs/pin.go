package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
)

// moved is what a command about what is here did.
type moved struct {
	Files int    `json:"files"`
	Bytes uint64 `json:"bytes"`
	Stay  []stay `json:"stay,omitempty"` // what free left as it was
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
with which as much comes as there is room for.`,
		Args: between(mostPaths, "PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			list, err := presences(args)
			if err != nil {
				return err
			}
			if !beyond {
				if err := fits(args[0], list); err != nil {
					return err
				}
			}
			for _, path := range args {
				if err := client.Pin(path); err != nil {
					return err
				}
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
			} else if err == nil {
				err = a.printf("Pinned %s; %s came.\n", term.Of(uint64(done.Files), "file"), term.Size(done.Bytes))
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
func fits(path string, list []client.Presence) error {
	m, err := client.MountOf(path)
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
	return &sharefs.Error{Op: "pin", Path: term.Quote(path), Kind: sharefs.KindNoSpace, Detail: fmt.Sprintf(
		"it has %s, and the budget of %s has room for %s beside %s that are pinned and %s of history: raise [space] budget in share.toml and mount again, unpin something, keep less history (sharefs retain --quota SIZE), or pin --beyond, with which as much comes as there is room for",
		term.Size(more), term.Size(r.Budget), term.Size(r.Budget-min(r.Pinned+r.Packs, r.Budget)), term.Size(r.Pinned), term.Size(r.Packs))}
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

func (a *app) unpin() *cobra.Command {
	return &cobra.Command{
		Use:   "unpin PATH...",
		Short: "Let files go from this host again when there is no room",
		Long: `Take back what pin said, of directories with all that is in them. The files stay until
the budget wants their room, or sharefs free is asked for.`,
		Args: between(mostPaths, "PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			before, err := presences(args)
			if err != nil {
				return err
			}
			unpin := func(path string) error {
				_, err := client.Unpin(path)
				return err
			}
			if err := client.EachFile(args, unpin, unpin); err != nil {
				return err
			}
			var done moved
			var left []string
			for _, h := range before {
				if !h.Pinned {
					continue
				}
				if now, err := client.LookHere(h.Path); err == nil && now.Pinned {
					left = append(left, h.Path)
				} else {
					done.Files++
				}
			}
			if a.json {
				err = a.writeJSON(done)
			} else if len(left) == 0 || done.Files > 0 {
				err = a.printf("Unpinned %s.\n", term.Of(uint64(done.Files), "file"))
			}
			if err == nil && len(left) > 0 {
				detail := "a directory above it is pinned: unpin that"
				if above, ok := client.PinnedAbove(left[0]); ok {
					detail = "it is pinned with " + term.Quote(above) + ": unpin that, or move the file out of it"
				} else {
					detail = "it has another name in a directory that is pinned"
				}
				err = &sharefs.Error{Op: "unpin", Path: term.Quote(left[0]), Kind: sharefs.KindPermission, Detail: detail}
				if more := len(left) - 1; more > 0 {
					err = fmt.Errorf("%w; so it is with %s", err, term.Of(uint64(more), "more file"))
				}
			}
			return err
		},
	}
}

// stay is a file that was not freed.
type stay struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// mostStay is how many files are named that stay, for each reason.
const mostStay = 5

func (a *app) free() *cobra.Command {
	return &cobra.Command{
		Use:   "free PATH...",
		Short: "Let the content of files go from this host, where others keep it",
		Long: `Let the content of files go from this host. They stay in the tree, and come again
when they are read. A file goes only if another host that is connected, and trusted
with write, promises to keep its copy ([space] min in share.toml says how many), nobody
has it open, and it is not pinned; those that stay are named.`,
		Args: between(mostPaths, "PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			var done moved
			var first error
			if err := client.EachFile(args, nil, func(path string) error {
				h, err := client.LookHere(path)
				if err != nil || h.State == client.HereAbsent || h.Size == 0 {
					return err
				}
				if err := client.Free(path); err != nil {
					if done.Stay = append(done.Stay, stay{path, whyStays(err)}); first == nil {
						first = err
					}
					return nil
				}
				done.Files++
				done.Bytes += h.Here
				return nil
			}); err != nil {
				return err
			}
			if a.json {
				if err := a.writeJSON(done); err != nil {
					return err
				}
			} else if done.Files > 0 || first == nil {
				if err := a.printf("Freed %s, %s.\n", term.Of(uint64(done.Files), "file"), term.Size(done.Bytes)); err != nil {
					return err
				}
			}
			if len(done.Stay) < 2 {
				return first
			}
			if !a.json {
				if err := a.listStay(done.Stay); err != nil {
					return err
				}
			}
			return fmt.Errorf("%s stay", term.Of(uint64(len(done.Stay)), "file"))
		},
	}
}

// whyStays is an error of freeing without what it says of which file.
func whyStays(err error) string {
	var e *sharefs.Error
	if errors.As(err, &e) && e.Detail != "" {
		return e.Detail
	}
	return message(err)
}

// listStay names files that stay, those of one reason together.
func (a *app) listStay(list []stay) error {
	var reasons []string
	by := map[string][]string{}
	for _, s := range list {
		if by[s.Why] == nil {
			reasons = append(reasons, s.Why)
		}
		by[s.Why] = append(by[s.Why], s.Path)
	}
	for _, why := range reasons {
		if err := a.printf("Not freed, for %s:\n", term.Clean(why)); err != nil {
			return err
		}
		for i, path := range by[why] {
			line := term.Clean(path)
			if i == mostStay {
				line = "and " + term.Of(uint64(len(by[why])-i), "more file")
			}
			if err := a.printf("  %s\n", line); err != nil {
				return err
			}
			if i == mostStay {
				break
			}
		}
	}
	return nil
}
