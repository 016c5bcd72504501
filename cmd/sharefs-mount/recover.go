package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"sharefs/internal/daemon"
	"sharefs/internal/qrcode"
	"sharefs/internal/recovery"
	"sharefs/internal/term"
)

// printSheet prints the recovery sheet of a store. Warnings, which are not for the paper, go to standard error.
func printSheet(c *call) int {
	s, err := daemon.PrintSheet(c.source, c.options)
	if err == nil {
		err = writeSheet(c, s)
	}
	if err != nil {
		complain(err)
		return exitStatus(err)
	}
	if text := sheetLacks(s); text != "" {
		warn(text)
	}
	switch n := len(s.Before); {
	case n == 1:
		warn("a sheet of this store was printed before, " + s.Before[0] + ": is it kept well?")
	case n > 1:
		warn(fmt.Sprintf("%d sheets of this store were printed before, the last %s: are they kept well?", n, s.Before[n-1]))
	}
	return exitMounted
}

// sheetLacks says what a sheet cannot bring back yet; empty: all that is on it has kept the store.
func sheetLacks(s *daemon.Sheet) string {
	if len(s.Lack) == 0 {
		return ""
	}
	names := make([]string, len(s.Lack))
	for i, name := range s.Lack {
		names[i] = term.Quote(name)
	}
	who := strings.Join(names, ", ")
	const then = "; sharefs status and sharefs peers say when all is there. The sheet need not be printed again then"
	if s.Kept {
		return "never had all of this store yet: " + who + ". As of now it can be recovered from the others on the sheet alone" + then
	}
	return "nothing is kept yet: as of now nothing could be recovered with this sheet, for nobody on it ever had all of this store (" + who + "). Mount it until it has been sent; a peer takes it once it has set a quota, there: " +
		"sharefs peers limit " + term.Quote(s.Host) + " quota=50GB" + then
}

func writeSheet(c *call, s *daemon.Sheet) error {
	line, err := s.Line()
	if err != nil {
		return err
	}
	if c.json {
		words, err := s.Words()
		if err != nil {
			return err
		}
		before := s.Before
		if before == nil {
			before = []string{}
		}
		type peer struct {
			ID    string   `json:"id"`
			Addrs []string `json:"addresses"`
		}
		peers := []peer{}
		for _, p := range s.Peers {
			peers = append(peers, peer{p.ID.String(), append([]string{}, p.Addrs...)})
		}
		return json.NewEncoder(os.Stdout).Encode(struct {
			Store   string                   `json:"store"`
			Bucket  string                   `json:"bucket,omitempty"`
			Region  string                   `json:"region,omitempty"`
			HTTP    string                   `json:"http,omitempty"`
			Peers   []peer                   `json:"peers"`
			Words   [recovery.Lines][]string `json:"words"`
			Line    string                   `json:"line"`
			Printed []string                 `json:"printed_before"`
			Kept    bool                     `json:"kept"`
			Lack    []string                 `json:"not_kept_by"`
		}{s.Store, s.URL, s.Region, s.HTTP, peers, words, line, before, s.Kept, append([]string{}, s.Lack...)})
	}
	text, err := s.Text(term.Clean(s.Host), s.Now)
	if err != nil {
		return err
	}
	if !c.noCode {
		code, err := qrcode.Text(line, term.IsTerminal(os.Stdout) && os.Getenv("TERM") != "dumb")
		if err != nil {
			return err
		}
		text += "\nThe same as a code, for a camera: a file with its text will do as the sheet.\n\n" + code
	}
	_, err = io.WriteString(os.Stdout, text)
	return err
}

// recoverStore makes a store of what its bucket holds and says what came of it. It can be interrupted, and called again.
func recoverStore(c *call) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	begun, err := daemon.RecoveryBegun(c.source, c.options)
	if err != nil {
		complain(err)
		return exitStatus(err)
	}
	var sheet *recovery.Sheet
	if c.sheet != "" || !begun {
		if sheet, err = readSheet(ctx, c.sheet); err != nil {
			complain(err)
			return exitStatus(err)
		}
	}
	bar := term.NewProgress(os.Stderr)
	report, err := daemon.Recover(ctx, daemon.RecoverConfig{
		Source: c.source, Options: c.options, Sheet: sheet, Bucket: c.bucket, Credentials: c.credentials, Peer: c.peer, Force: c.force, Progress: bar.Show,
	})
	bar.End()
	if err != nil {
		complain(err)
		if ctx.Err() != nil {
			fmt.Fprintln(os.Stderr, "The same call goes on with it.")
		}
		return exitStatus(err)
	}
	return tell(c, &report, report.Whole())
}

// maxSheet bounds what is read as a sheet, in bytes.
const maxSheet = 1 << 20

// readSheet reads a sheet from a file, from standard input, or line by line from whoever sits before the terminal.
func readSheet(ctx context.Context, path string) (*recovery.Sheet, error) {
	in := os.Stdin
	switch {
	case path == "" && term.IsTerminal(os.Stdin):
		return askSheet(ctx, os.Stdin, os.Stderr)
	case path != "" && path != "-":
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSheet))
	if err != nil {
		return nil, err
	}
	return recovery.Parse(string(text))
}

// askSheet asks for one line after the other, again where one is wrong.
func askSheet(ctx context.Context, in io.Reader, out io.Writer) (*recovery.Sheet, error) {
	lines := bufio.NewScanner(in)
	ask := func(what string) (string, error) {
		fmt.Fprintf(out, "%s: ", what)
		got := make(chan bool, 1)
		go func() { got <- lines.Scan() }() // reading a terminal cannot be interrupted otherwise
		select {
		case <-ctx.Done():
			fmt.Fprintln(out)
			return "", ctx.Err()
		case ok := <-got:
			if !ok {
				fmt.Fprintln(out)
				return "", errors.Join(errors.New("the sheet ends too early"), lines.Err())
			}
		}
		return strings.TrimSpace(lines.Text()), nil
	}
	fmt.Fprintln(out, "What stands on the recovery sheet; words may be cut to four letters.")
	for {
		var p recovery.Place
		for _, field := range []struct {
			what string
			to   *string
		}{{"bucket (empty if the sheet has none)", &p.URL}, {"region (empty if the sheet has none)", &p.Region}, {"http (empty if the sheet has none)", &p.HTTP}} {
			var err error
			if *field.to, err = ask(field.what); err != nil {
				return nil, err
			}
			if p.URL == "" {
				break
			}
		}
		peers, err := askPeers(out, ask)
		if err != nil {
			return nil, err
		}
		var words [recovery.Lines][]int
		for i := 0; i < recovery.Lines; {
			text, err := ask(fmt.Sprintf("words of line %d", i+1))
			if err != nil {
				return nil, err
			}
			if words[i], err = recovery.ParseLine(i+1, strings.TrimPrefix(text, fmt.Sprintf("%d ", i+1))); err != nil {
				fmt.Fprintln(out, term.Clean(err.Error()))
				continue
			}
			i++
		}
		s, err := recovery.New(p, peers, words)
		if err == nil {
			return s, nil
		}
		fmt.Fprintln(out, term.Clean(err.Error())+"\nOnce more, please.")
	}
}

// askPeers asks for peers until there are no more.
func askPeers(out io.Writer, ask func(what string) (string, error)) (peers []recovery.Peer, err error) {
	for {
		id, err := ask("peer (empty if the sheet has none, or no more)")
		if err != nil || id == "" {
			return peers, err
		}
		at, err := ask("at (what stands there, with spaces between several)")
		if err != nil {
			return nil, err
		}
		p, err := recovery.ParsePeer(id, strings.Fields(at))
		if err != nil {
			fmt.Fprintln(out, term.Clean(err.Error()))
			continue
		}
		peers = append(peers, p)
	}
}
