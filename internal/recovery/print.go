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
	fmt.Fprintf(&b, `ShareFS recovery sheet
printed %s on %s, store %s

With this sheet, and with credentials for the bucket, the store comes back on
any machine, its history too:

    sharefs recover STORE      (a new name or directory; it asks for the rest)

Whoever has both can read everything in it. Keep the sheet as you keep a key,
and not on the machine whose loss it is for; keep the credentials as well, for
they are not on it. The fifth word of a line checks the four before it.

`, now.UTC().Format("2006-01-02 15:04 UTC"), host, s.Store)
	fmt.Fprintf(&b, "bucket  %s\n", s.URL)
	if s.Region != "" {
		fmt.Fprintf(&b, "region  %s\n", s.Region)
	}
	if s.HTTP != "" {
		fmt.Fprintf(&b, "http    %s\n", s.HTTP)
	}
	b.WriteByte('\n')
	for i, w := range words {
		fmt.Fprintf(&b, "  %d   %-9s %-9s %-9s %-9s  %s\n", i+1, w[0], w[1], w[2], w[3], w[4])
	}
	return b.String(), nil
}
