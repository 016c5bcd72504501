package recovery

import (
	"fmt"
	"strings"
	"time"
)

// Text returns the sheet for a person and for paper, without the code.
func (s *Sheet) Text(host string, now time.Time) (string, error) {
	words, err := s.Words()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	needs, keep := "With this sheet alone", "Whoever has it can read all of the store."
	switch {
	case s.URL != "" && len(s.Peers) > 0:
		needs, keep = "With this sheet, and with one of the peers or credentials for the bucket", "Whoever has it can read all of the store."
	case s.URL != "":
		needs, keep = "With this sheet, and with credentials for the bucket", "Whoever has both can read all of it."
	}
	fmt.Fprintf(&b, `ShareFS recovery sheet
printed %s on %s, store %s

%s,
the store comes back on any machine, its history too:

    sharefs recover STORE      (a new name or directory; it asks for the rest)

%s Keep it as you keep a key, and
not on the machine whose loss it is for; keep the credentials of a bucket as
well, for they are not on it. The fifth word of a line checks the four before.

`, now.UTC().Format("2006-01-02 15:04 UTC"), host, s.Store, needs, keep)
	if s.URL != "" {
		fmt.Fprintf(&b, "bucket  %s\n", s.URL)
	}
	if s.Region != "" {
		fmt.Fprintf(&b, "region  %s\n", s.Region)
	}
	if s.HTTP != "" {
		fmt.Fprintf(&b, "http    %s\n", s.HTTP)
	}
	for _, p := range s.Peers {
		fmt.Fprintf(&b, "peer    %s\n", p.ID)
		for _, a := range p.Addrs {
			fmt.Fprintf(&b, "  at    %s\n", a)
		}
	}
	b.WriteByte('\n')
	for i, w := range words {
		fmt.Fprintf(&b, "  %d   %-9s %-9s %-9s %-9s  %s\n", i+1, w[0], w[1], w[2], w[3], w[4])
	}
	return b.String(), nil
}
