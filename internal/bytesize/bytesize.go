// Package bytesize is the text of a number of bytes, as files of settings and commands have it.
package bytesize

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes with its unit in the text: "20GiB".
type Size uint64

var units = []struct {
	name  string
	bytes uint64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}}

// UnmarshalText reads a number with a unit, or "0".
func (s *Size) UnmarshalText(text []byte) error {
	if string(text) == "0" {
		*s = 0
		return nil
	}
	for _, u := range units {
		digits, ok := strings.CutSuffix(string(text), u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 64)
		if err != nil || n > math.MaxInt64/u.bytes {
			break
		}
		*s = Size(n * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is not a size with its unit, such as \"20GiB\", or \"0\": a whole number with KB, MB, GB, TB, KiB, MiB, GiB or TiB", text)
}

// MarshalText writes what UnmarshalText reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Decimal reports whether String writes it exactly, and with a unit that is a power of ten: as who says 50GB, and not 20GiB.
func (s Size) Decimal() bool { return s > 0 && s%1000 == 0 && strings.IndexByte(s.String(), 'i') < 0 }

// String is what UnmarshalText reads, in the unit that makes it short; it is exact for sizes of whole kilobytes, and "0" for those below one.
func (s Size) String() string {
	if s < 1000 {
		return "0"
	}
	n, unit := uint64(s)/1000, "KB"
	for _, u := range units {
		if m := uint64(s) / u.bytes; uint64(s)%u.bytes == 0 && m <= n {
			n, unit = m, u.name
		}
	}
	return strconv.FormatUint(n, 10) + unit
}
