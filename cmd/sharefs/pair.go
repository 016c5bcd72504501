package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/qrcode"
	"sharefs/internal/term"
	"sharefs/peers/report"
)

// pairPoll is how often the mount is asked what has become of an attempt.
const pairPoll = 100 * time.Millisecond

func (a *app) pair() *cobra.Command {
	var link, id, noLAN bool
	var name string
	cmd := &cobra.Command{
		Use:   "pair [LINK | - | ID [ADDRESS…]]",
		Short: "Make this store and one on another host known to each other",
		Long: `Make this store and one on another host known to each other. Run it on both:

  by a link        sharefs pair shows a link, also as a QR code, which is good once
                   and for ten minutes; sharefs pair LINK takes it on the other host.
                   Who else is logged in there can see the link meanwhile, among the
                   arguments (ps); sharefs pair - reads it from standard input instead.
  by six digits    Where sharefs pair waits on both hosts of one local network, they
                   find each other and show the same six digits. Compare them, and
                   say so on both.
  by hand          sharefs pair --id tells who and where this host is; on each give
                   the id of the other one: sharefs pair ID [ADDRESS]. Of one whose
                   changes are left out here (sharefs peers) the first seven
                   letters will do.

A new peer has the level "paired": it learns this host's name and nothing else.
sharefs grant gives it more: files travel once both have granted the other read or
more, and what one writes counts on the other with write.`,
		Example: `  sharefs pair                      Show a link, and look around on the local network
  sharefs pair --link               Write the link alone, for a script
  sharefs pair sharefs:cw2f…        Take the link that the other host has shown
  sharefs pair - <link.txt          Take one that stands in a file`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch byID := len(args) > 0 && args[0] != "-" && !isLink(args[0]); {
			case link && id:
				return usage("--link and --id exclude each other")
			case len(args) > 0 && (link || id):
				return usage("--link and --id take no arguments")
			case cmd.Flags().Changed("name") && !byID:
				return usage("--name goes with the ID of a host; one that is paired otherwise has the name that it says itself, and sharefs peers rename NAME NEW changes that")
			case cmd.Flags().Changed("name") && name == "":
				return usage("--name is empty")
			}
			return noneEmpty(args, "LINK or ID")
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			switch {
			case id:
				return a.pairID(m)
			case len(args) == 0:
				return a.pairOffer(m, link, !noLAN && !link)
			case args[0] == "-" || isLink(args[0]):
				if len(args) > 1 {
					return usage("too many arguments: %s", term.Quote(args[1]))
				}
				text := args[0]
				if text == "-" {
					if text, err = readLink(os.Stdin); err != nil {
						return err
					}
				}
				asked, err := m.AskPeers("pair-join", map[string]string{"link": text})
				if err != nil {
					return err
				}
				return a.pairWait(m, asked, nil)
			}
			id, at := args[0], args[1:]
			if _, err := sharefs.ParsePeerID(id); err != nil {
				l, e := stranger(m, id)
				switch {
				case e != nil:
					return e
				case l == nil:
					return usage("%s is neither a link (sharefs:…) nor the id of a host: %w", term.Quote(id), err)
				}
				if id, name = l.ID, cmp.Or(name, l.MayBe); len(at) == 0 {
					at = l.Addresses
				}
			}
			asked, err := m.AskPeers("pair-add", map[string]string{"id": id, "name": name, "addresses": strings.Join(at, " ")})
			if err != nil {
				return err
			}
			return a.pairWait(m, asked, nil)
		},
	}
	cmd.Flags().BoolVar(&link, "link", false, "Write the link alone and wait for nothing")
	cmd.Flags().BoolVar(&id, "id", false, "Tell who and where this host is")
	cmd.Flags().BoolVar(&noLAN, "no-lan", false, "Do not look around on the local network")
	cmd.Flags().StringVar(&name, "name", "", "Call the host with ID by this `NAME`")
	return cmd
}

// stranger returns the host whose id begins with a word, of those whose changes are left out here, as sharefs peers names them; nil: there is none.
func stranger(m *client.Mount, word string) (*report.LeftOut, error) {
	s, err := m.Sync()
	if err != nil {
		return nil, err
	}
	var fits []*report.LeftOut
	for i := range s.LeftOut {
		l := &s.LeftOut[i]
		if id, err := sharefs.ParsePeerID(l.ID); err == nil && l.Stranger() && id.Begins(word) {
			fits = append(fits, l)
		}
	}
	if len(fits) != 1 {
		return nil, nil
	}
	return fits[0], nil
}

func isLink(s string) bool {
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(s)), "sharefs:")
}

// mostOfLine bounds what is read of a line that should be a link, in bytes; links are shorter.
const mostOfLine = 4096

// readLink reads a link from a file, such as standard input, where nobody else sees it as among the arguments of a program.
func readLink(f *os.File) (string, error) {
	if term.IsTerminal(f) {
		fmt.Fprint(os.Stderr, "Link: ")
	}
	text, err := bufio.NewReader(io.LimitReader(f, mostOfLine)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	if !isLink(text) {
		return "", &sharefs.Error{Op: "pair", Kind: sharefs.KindInvalid, Detail: "what was read is no link (sharefs:…): give what sharefs pair has shown on the other host"}
	}
	return strings.TrimSpace(text), nil
}

func (a *app) pairID(m *client.Mount) error {
	r, err := m.Pairing()
	if err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(struct {
			ID        string   `json:"id"`
			Name      string   `json:"name"`
			Listening string   `json:"listening,omitempty"`
			Addresses []string `json:"addresses"`
		}{r.ID, r.Name, r.Listening, r.Addresses})
	}
	if err := a.printf("%s\nIt calls itself %s.\n", r.ID, term.Quote(r.Name)); err != nil {
		return err
	}
	if r.Error != "" {
		return a.printf("It cannot %s\n", term.Clean(r.Error))
	}
	if len(r.Addresses) == 0 {
		return a.printf("It listens nowhere; pairing begins that, but where the mount was told listen=off.\n")
	}
	return a.printf("at %s\n", term.Clean(strings.Join(r.Addresses, ", ")))
}

// pairOffer shows a link and waits, or writes it alone.
func (a *app) pairOffer(m *client.Mount, alone, lan bool) error {
	args := map[string]string{}
	if lan {
		args["lan"] = "yes"
	}
	asked, err := m.AskPeers("pair-offer", args)
	if err != nil {
		return err
	}
	w, err := m.Attempt(asked)
	switch {
	case err != nil:
		return err
	case w == nil || w.Link == "":
		return &sharefs.Error{Op: "pair", Kind: sharefs.KindStale, Detail: "the mount has no link to show; its log says more"}
	case alone && a.json:
		return a.writeJSON(struct {
			Link    string    `json:"link"`
			Expires time.Time `json:"expires"`
		}{w.Link, w.Expires})
	case alone:
		return a.printf("%s\n", w.Link)
	}
	if a.json {
		fmt.Fprintln(os.Stderr, w.Link)
	} else if err := a.showLink(w); err != nil {
		return err
	}
	return a.pairWait(m, asked, bufio.NewReader(os.Stdin))
}

func (a *app) showLink(w *report.Window) error {
	if a.terminal {
		code, err := qrcode.Text(strings.ToUpper(w.Link), bool(a.paint))
		if err != nil {
			return err
		}
		if err := a.printf("%s", code); err != nil {
			return err
		}
	}
	also := ""
	if w.LAN {
		also = "\nor, on the same local network, sharefs pair without it"
	}
	return a.printf("On the other host, until %s:\n\n  sharefs pair %s\n%s\n\nWaiting. Whoever sees the link can be paired in the other host's stead.\n", w.Expires.Local().Format("15:04"), w.Link, also)
}

// pairWait waits for the end of an attempt, and asks about digits; an interrupt takes it back.
func (a *app) pairWait(m *client.Mount, asked string, in *bufio.Reader) error {
	ctx, stop := interruptible()
	defer stop()
	shown := map[int]bool{}
	for {
		w, err := m.Attempt(asked)
		if err != nil {
			return err
		}
		if w == nil {
			return &sharefs.Error{Op: "pair", Kind: sharefs.KindStale, Detail: "the mount knows nothing of it any more"}
		}
		switch w.State {
		case report.Done:
			return a.tellPaired(m, w.Paired)
		case report.Open:
		default:
			return errors.New("pair: " + strings.TrimPrefix(w.Error, "pair: "))
		}
		for _, c := range w.Candidates {
			if shown[c.Number] || c.State != report.Compare || in == nil {
				continue
			}
			shown[c.Number] = true
			if err := a.compare(ctx, m, asked, &c, in); err != nil {
				return err
			}
		}
		select {
		case <-time.After(pairPoll):
		case <-ctx.Done():
			_, err := m.AskPeers("pair-end", map[string]string{"of": asked})
			return errors.Join(errors.New("pair: taken back"), err)
		}
	}
}

// compare shows the digits of one host and asks whether the other screen has the same.
func (a *app) compare(ctx context.Context, m *client.Mount, asked string, c *report.Candidate, in *bufio.Reader) error {
	fmt.Fprintf(os.Stderr, "\nFound %s (%s…).\n\n        %s\n\nDoes the other screen show the same digits? [y/n] ", term.Clean(c.Name), term.Clean(c.ID[:min(7, len(c.ID))]), a.paint.Paint(term.Strong, term.Clean(c.Digits)))
	answers := make(chan string, 1)
	go func() {
		for {
			text, err := in.ReadString('\n')
			switch text = strings.ToLower(strings.TrimSpace(text)); {
			case err != nil && text == "":
				text = "end"
			case text != "y" && text != "yes" && text != "n" && text != "no": // a slip of the keys does not say that somebody is in the middle
				fmt.Fprint(os.Stderr, "y or n? ")
				continue
			}
			answers <- text
			return
		}
	}()
	var answer string
	select {
	case answer = <-answers:
	case <-ctx.Done():
		return nil
	}
	args := map[string]string{"of": asked, "number": fmt.Sprint(c.Number), "agree": "no"}
	switch answer {
	case "y", "yes":
		args["agree"] = "yes"
	case "end": // nobody is there to answer
		return nil
	}
	if _, err := m.AskPeers("pair-answer", args); err != nil {
		fmt.Fprintln(os.Stderr, message(err))
		return nil
	}
	if args["agree"] == "yes" {
		fmt.Fprintln(os.Stderr, "Waiting for the answer on the other host.")
	}
	return nil
}

// tellPaired says what pairing made.
func (a *app) tellPaired(m *client.Mount, p *report.Paired) error {
	if a.json {
		return a.writeJSON(p)
	}
	name := term.Clean(p.Name)
	if p.Waits {
		return a.tellWaits(m, p)
	}
	if p.Again {
		verb := "was paired before"
		if p.Freed {
			verb = "was revoked"
		}
		return a.printf("Paired with %s again, which %s; its level is %s.\n", name, verb, term.Clean(p.Level))
	}
	if err := a.printf("Paired with %s (%s).\nIts level is %s: it learns this host's name and nothing else. sharefs grant %s LEVEL gives it more.\n", name, term.Clean(p.ID), term.Clean(p.Level), name); err != nil {
		return err
	}
	if p.Reserved != "" {
		if err := a.printf("It calls itself %s, and is called %s here: %s.\n", term.Clean(p.Calls), name, term.Clean(p.Reserved)); err != nil {
			return err
		}
	}
	if p.Twin == "" {
		return nil
	}
	twin := term.Clean(p.Twin)
	return a.printf(`
It calls itself %[1]s, but another peer, with another key, has that name. If this is
the same machine and its old key is lost, then

  sharefs peers replace %[1]s %[2]s

revokes the old key and gives this one its name. What the old one was granted does
not pass on: grant it anew. If you expected no second %[1]s, somebody may claim to be
it: sharefs peers forget %[2]s.
`, twin, name)
}

// tellWaits says of a peer whose id was typed here what is to be done on the other host.
func (a *app) tellWaits(m *client.Mount, p *report.Paired) error {
	self := "ID"
	if r, err := m.Pairing(); err == nil {
		self = term.Clean(r.ID)
	}
	as := term.Clean(p.Name)
	called := as + " (" + term.Clean(p.ID) + ")"
	if p.Unnamed {
		as = report.ShortID(term.Clean(p.ID)) // which stays, and so is good in a script
		called = term.Clean(p.ID)
	}
	if err := a.printf(`%s is taken up here, with the level %s.
The two are paired once the other host does the same: sharefs pair %s, there.
Behind the id may stand an ADDRESS at which the other one is looked for (sharefs pair --id
tells it, there), and --name NAME says what to call it. sharefs grant %s LEVEL gives it more.
`, called, term.Clean(p.Level), self, as); err != nil || !p.Unnamed {
		return err
	}
	return a.printf("It is called %s until it has connected, then as it calls itself; %s stands for it in any case.\n", term.Clean(p.Name), as)
}
