// Package qrcode draws QR codes in a terminal.
package qrcode

import (
	"strings"

	"rsc.io/qr"
)

// quiet is how many modules of light there are around a code (ISO/IEC 18004, section 6.3.8).
const quiet = 4

// Text draws a code, two rows of it in a line: with colours dark on light whatever those of the terminal are; without, dark alone is drawn. A text of
// capitals, digits and $%*+-./: alone makes a smaller code.
func Text(text string, colours bool) (string, error) {
	c, err := qr.Encode(text, qr.L)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for y := -quiet; y < c.Size+quiet; y += 2 {
		if colours {
			b.WriteString("\x1b[38;5;16;48;5;231m")
		}
		for x := -quiet; x < c.Size+quiet; x++ {
			switch upper, lower := c.Black(x, y), c.Black(x, y+1); { // outside it reports false
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
