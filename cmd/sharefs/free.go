package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
)

// stay is a file that was not freed, or that stays pinned.
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
when they are read, as soon as a host that has them is connected. What was written here,
or came as a whole, goes only if another host that is connected, and trusted with write,
promises to keep its copy ([space] min in share.toml says how many); what was only
fetched when it was read, or for a pin, goes without asking. What somebody has open, what
is pinned, and what this host promised another to keep stays, and is named; for what is
being closed or was just written it waits a moment. Who was promised something is asked
first, and gives it back if its tree shows something else by now, if it holds all of it
itself again, or if enough others promise the same.

What packs hold of a file for history takes room until garbage is collected: by
"sharefs gc", when history was thinned, or when a budget wants the room.`,
		Args: between(mostPaths, "PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			list, err := presences(args)
			if err != nil {
				return noneDone(err, args, "freed")
			}
			done, first := freeAll(list)
			if a.json {
				if err := a.writeJSON(done); err != nil {
					return err
				}
			} else if done.Files == 0 && first == nil {
				return a.printf("Nothing was freed: there is no content of it here.\n")
			} else if done.Files > 0 {
				if err := a.printf("Freed %s, %s.\n", term.Of(uint64(done.Files), "file"), sizesAt(args[0])(done.Bytes)); err != nil {
					return err
				}
				if err := a.printf("What packs hold of that, for history, goes when garbage is collected: sharefs gc.\n"); err != nil {
					return err
				}
				if alone(args[0]) {
					if err := a.printf("No other host is connected: what was freed cannot be read until one is that has it.\n"); err != nil {
						return err
					}
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

// freePauses is what it waits between attempts to free what is in use.
var freePauses = []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond}

// freeAll frees files, and returns what became of them, with the first reason for which one stays. Those that are in use are tried again behind all others.
func freeAll(list []client.Presence) (done moved, first error) {
	list = slices.DeleteFunc(list, func(h client.Presence) bool { return h.State == client.HereAbsent || h.Size == 0 })
	for attempt := 0; ; attempt++ {
		list = slices.DeleteFunc(list, func(h client.Presence) bool {
			err := client.Free(h.Path)
			switch {
			case err == nil:
				done.Files++
				done.Bytes += h.Here
			case errors.Is(err, client.ErrInUse) && attempt < len(freePauses):
				return false
			default:
				if done.Stay = append(done.Stay, stay{h.Path, whyStays(err)}); first == nil {
					first = err
				}
			}
			return true
		})
		if len(list) == 0 {
			return done, first
		}
		time.Sleep(freePauses[attempt])
	}
}

// alone reports whether no other host is connected to the mount of a path.
func alone(path string) bool {
	m, err := client.MountOf(path)
	if err != nil {
		return false
	}
	s, err := m.Status()
	return err == nil && (s.Peers == nil || s.Peers.Connected == 0)
}

// whyStays is an error of freeing without what it says of which file.
func whyStays(err error) string {
	var e *sharefs.Error
	if errors.As(err, &e) && e.Detail != "" {
		return e.Detail
	}
	if errors.Is(err, client.ErrInUse) {
		err = client.ErrInUse
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
			line := term.Quote(path)
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
