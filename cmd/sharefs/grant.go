package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sharefs/internal/client"
	"sharefs/internal/term"
	"sharefs/peers/report"
	"sharefs/peers/trust"
)

func levelNames() string {
	var names []string
	for _, l := range trust.Levels() {
		names = append(names, l.String())
	}
	return strings.Join(names, ", ")
}

func (a *app) grant() *cobra.Command {
	var table strings.Builder
	for _, l := range trust.Levels() {
		r := l.Rights()
		fmt.Fprintf(&table, "  %-8s receives %s; what it writes %s\n", l, r.Receives, r.Does)
	}
	cmd := &cobra.Command{
		Use:   "grant PEER LEVEL|inherit [PATH]",
		Short: "Say what a peer receives, and what its changes do here",
		Long: `Say what a peer receives, and what its changes do here: for the whole share, or
for PATH, which may have wildcards and need not be there yet; with a slash before it
it is one from the root of the mount. The rule for the deepest place wins (sharefs
trust explain). The levels are:

` + table.String() + `
Files travel between two hosts that have granted each other read or more. By a rule for
a PATH the peer is sent the files there and the names of the directories that lead to
them, and nothing else; what leaves the PATH stays with it as it was. What it writes
counts there alone. The share keys go along with read: what a peer could read once it
may know for ever. The word inherit in place of a LEVEL removes the rule for PATH: what
counts around it counts there again.

What a peer with propose writes is listed by sharefs proposed. What one with write removes
or renames in bulk waits for you (sharefs held); with manage it does not, so that level is
for devices of your own.

` + purgeHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if err := noneEmpty(args, "PEER", "LEVEL", "PATH"); err != nil {
				return err
			}
			return between(3, "PEER", "LEVEL")(nil, args)
		},
		ValidArgsFunction: a.completePeers,
		RunE: func(_ *cobra.Command, args []string) error {
			inherit := args[1] == trust.Inherit
			if _, err := trust.ParseLevel(args[1]); err != nil && !inherit {
				return usage("%s is no level; there are %s; %s removes the rule for a PATH", term.Quote(args[1]), levelNames(), trust.Inherit)
			}
			if inherit && len(args) < 3 {
				return usage("%s removes the rule for a PATH, which is missing", trust.Inherit)
			}
			m, err := a.here()
			if err != nil {
				return err
			}
			ask := map[string]string{"peer": args[0], "level": args[1]}
			where := "everywhere"
			if len(args) == 3 {
				if ask["path"], err = m.PatternFromRoot(args[2]); err != nil {
					return err
				}
				if err := client.Travels(ask["path"]); err != nil && !inherit {
					return err
				}
				if ask["path"] != "" {
					where = "at " + term.Quote(ask["path"])
				}
			}
			before, id, _ := policyOf(m, args[0]) // whether there is such a peer the mount says
			if _, err := m.AskPeers("peer-grant", ask); err != nil {
				return err
			}
			if a.json {
				return a.writePeer(m, "", args[0])
			}
			if inherit {
				err = a.printf("%s has no rule %s any more; what counts there: sharefs trust explain %s PATH\n", term.Quote(args[0]), where, term.Quote(args[0]))
			} else {
				err = a.printf("%s has the level %s %s.\n", term.Quote(args[0]), args[1], where)
			}
			if err == nil {
				err = a.sayWhatItKnows(m, args[0], id, before)
			}
			if err != nil || inherit {
				return err
			}
			if err := a.sayWhatIsBelow(m, args[0], args[1], ask["path"]); err != nil {
				return err
			}
			if args[1] == trust.Manage.String() {
				if err := a.printf("What it removes in bulk counts at once, too, and does not wait for you (sharefs held): this is for devices of your own.\n"); err != nil {
					return err
				}
			}
			if path := ask["path"]; !strings.ContainsAny(path, `*?[\`) {
				if _, err := os.Lstat(filepath.Join(m.Point, path)); errors.Is(err, os.ErrNotExist) {
					if err := a.printf("Nothing is there yet.\n"); err != nil {
						return err
					}
				}
			}
			return a.sayWhatIsMissing(m, args[0], args[1])
		},
	}
	a.withPurge(cmd, false)
	return cmd
}

// Of a peer that is not connected it is said so at once, but of one that was paired no longer than lately ago, which has as long as firstPatience to connect: and where both hosts dial, the
// first connection may end for another one, so that one that ended no longer than again ago may come back.
const (
	firstPatience = 10 * time.Second
	lately        = time.Minute
	again         = 3 * time.Second
)

// byHand is how a peer was paired that is connected only once the other host has done the same.
const byHand = "hand"

// sayWhatIsMissing says what the other host has to do before its files come here.
func (a *app) sayWhatIsMissing(m *client.Mount, name, level string) error {
	l, err := trust.ParseLevel(level)
	if err == nil && l == trust.Store {
		return a.sayWhatIsKept(m, name)
	}
	if err != nil || l.Rights().Out < trust.OutPlain {
		return nil
	}
	says, p := whatItSays(m, name)
	self := selfName(m)
	there := "sharefs grant " + term.Quote(self) + " LEVEL, there.\n"
	const once = "granted this host read or more, too: if it has not, "
	switch says {
	case report.SaysReads:
		return a.sayWhoIsLeftOut(m, name)
	case report.SaysRefuses:
		return a.printf("It has to grant this host something, too, before its files come here: %s", there)
	case report.SaysAway:
		return a.printf("It is not connected at present. Its files come here once it is, and has %s%s", once, there)
	case report.SaysSilent:
		return a.printf("It does not answer: nothing was heard of it for %s. Its files come here once it is there again, and has %s%s", term.Span(time.Since(p.Heard).Round(time.Second)), once, there)
	case report.SaysNothing:
		return a.printf("Its files come here once it has %s%s", once, there)
	}
	return nil
}

// selfName is what this host calls itself.
func selfName(m *client.Mount) string {
	if r, err := m.Pairing(); err == nil {
		return r.Name
	}
	return "THIS-HOST"
}

// sayWhatIsKept says what the other host has to do before it keeps a backup of this one. It says by itself whether it does, as soon as it is connected.
func (a *app) sayWhatIsKept(m *client.Mount, name string) error {
	there := ", there: sharefs peers limit " + term.Quote(selfName(m)) + " quota=50GB\n"
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		all, err := m.Peers()
		if err != nil {
			return nil
		}
		p := findPeer(all, name)
		if p == nil || p.Backup == nil { // another rule gives it more
			return nil
		}
		b, waited := p.Backup, time.Since(began) > firstPatience
		switch {
		case p.Silent:
			return a.printf("It does not answer: nothing was heard of it for %s. It keeps a backup of this host once it is there again, and has set a quota for it%s", term.Span(time.Since(p.Heard).Round(time.Second)), there)
		case !p.Connected && gone(p, waited):
			return a.printf("It is not connected at present. It keeps a backup of this host once it is, and has set a quota for it%s", there)
		case !p.Connected:
		case b.Allow != "":
			return a.printf("It keeps nothing yet, for it has to set a quota for this host%s", ", there: "+term.Clean(b.Allow)+"\n")
		case b.Quota > 0:
			return a.printf("It keeps up to %s of this host's past, sealed: sharefs peers tells how far it is.\n", term.SizeIn(b.Quota, b.Quota))
		case waited:
			return a.printf("It has not said yet what it keeps: sharefs peers tells. Nothing is kept before it has set a quota for this host%s", there)
		}
	}
}

// gone reports whether a peer that is not connected is not going to be in a moment; waited is whether somebody has waited long enough for that.
func gone(p *report.Peer, waited bool) bool {
	first := p.Seen.Before(p.Paired) && time.Since(p.Paired) < lately && p.How != byHand
	return !first && time.Since(p.Seen) > again || waited
}

// whatItSays asks a peer whether this host may read something there, and returns one of the words of [report.Answer], and what is known of the peer. An empty word: the mount does not tell.
func whatItSays(m *client.Mount, name string) (says string, p *report.Peer) {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		all, err := m.Peers()
		if err != nil {
			return "", nil
		}
		if p = findPeer(all, name); p == nil {
			return "", nil
		}
		if p.Silent {
			return report.SaysSilent, p
		}
		if p.Connected {
			if says, err = m.AskPeer(name); err != nil { // an older mount
				says = report.SaysNothing
			}
			switch says {
			case report.SaysAway: // it was connected a moment ago
			case report.SaysNothing:
				return whatItDoes(m, name), p
			default:
				return says, p
			}
		}
		if gone(p, time.Since(began) > firstPatience) {
			return report.SaysAway, p
		}
	}
}

// What an older peer does says as much, in time: it begins to send its files within oldPatience, or it refuses. That counts once it has stood for refusalStands: the one that is known may
// be from before the other host's own grant, and is tried again after a second.
const (
	oldPatience   = 5 * time.Second
	refusalStands = 1500 * time.Millisecond
)

// whatItDoes tells by what a peer does, as long as it is connected, whether this host may read something there.
func whatItDoes(m *client.Mount, name string) (says string) {
	var refused time.Time // since when, as far as is known
	for began := time.Now(); time.Since(began) < oldPatience; time.Sleep(20 * time.Millisecond) {
		all, err := m.Peers()
		if err != nil {
			return ""
		}
		switch p := findPeer(all, name); {
		case p == nil:
			return ""
		case !p.Connected:
			return report.SaysAway
		case p.Files != nil && p.Files.Receives:
			return report.SaysReads
		case p.Files == nil || !p.Files.Refused:
			refused = time.Time{}
		case refused.IsZero():
			refused = time.Now()
		case time.Since(refused) > refusalStands:
			return report.SaysRefuses
		}
	}
	return report.SaysNothing
}

// mostBelow is how many rules are named that another one leaves as they are.
const mostBelow = 5

// sayWhatIsBelow names the rules by which a peer has another level at places below one for which it was just granted one.
func (a *app) sayWhatIsBelow(m *client.Mount, peer, level, path string) error {
	above, err := trust.ParsePattern(path)
	if err != nil {
		return err
	}
	policy, id, err := policyOf(m, peer)
	if err != nil {
		return err
	}
	below := slices.DeleteFunc(policy.Below(id, above), func(r trust.Rule) bool { return r.Level.String() == level })
	for i, r := range below {
		if i == mostBelow {
			return a.printf("  and %s: sharefs trust explain %s PATH\n", term.Of(uint64(len(below)-i), "more rule"), term.Quote(peer))
		}
		where := r.Pattern.String()
		if err := a.printf("It keeps %s at %s, by a rule of its own: sharefs grant %s inherit %s removes that.\n", r.Level, term.Quote(where), term.Quote(peer), term.Quote(m.Anywhere(where))); err != nil {
			return err
		}
	}
	return nil
}
