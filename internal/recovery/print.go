package recovery

import (
	"fmt"
	"strings"
	"time"

	"rsc.io/qr"
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

// quiet is how many modules of light there are around a code (ISO/IEC 18004, section 6.3.8).
const quiet = 4

// Code returns the QR code of a text, two rows of it in a line: with colours, as a terminal shows them, dark on light whatever its own are;
// without, for paper, dark alone is drawn.
func Code(text string, colours bool) (string, error) {
	c, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for y := -quiet; y < c.Size+quiet; y += 2 {
		if colours {
			b.WriteString("\x1b[38;5;16;48;5;231m")
		}
		for x := -quiet; x < c.Size+quiet; x++ {
			// Outside of the code Black reports false.
			switch upper, lower := c.Black(x, y), c.Black(x, y+1); {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		if colours {
			b.WriteString("\x1b[0m")
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
