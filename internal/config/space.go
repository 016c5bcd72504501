package config

import (
	"fmt"
	"time"
)

// Space says how much of the share this host keeps.
//
//	[space]
//	budget = "0"             # bytes that content may take here, such as "1GB"; what was used last stays. "0": all of it is kept
//	copies = 2               # a content goes first of which others promise to keep so many copies,
//	min    = 1               # and in no case one of which they promise fewer than so many
//	wait   = "15s"           # for a host that has what is not here, before reading errs with EHOSTUNREACH
type Space struct {
	Budget Size     `toml:"budget"`
	Copies int      `toml:"copies"`
	Min    int      `toml:"min"`
	Wait   Duration `toml:"wait"`
}

func defaultSpace() Space { return Space{Copies: 2, Min: 1, Wait: Duration(15 * time.Second)} }

// Bounds of the section space. Below the least budget nothing larger than a few chunks would stay at all.
const (
	leastBudget     = 16 << 20
	mostSpaceCopies = 100
	mostWait        = 10 * time.Minute
)

const spaceFile = `
# How much of the share is kept here; the rest comes from peers when it is read.
[space]
budget      = "0"        # bytes that content may take, from "16MiB", such as "1GB": what was used last stays; "0": all is kept
copies      = 2          # what others promise to keep so many copies of goes first,
min         = 1          # and nothing of which they promise fewer than so many
wait        = "15s"      # for a peer that has what is not here
`

func spaceKeys() []string { return []string{"space.budget", "space.copies", "space.min", "space.wait"} }

func (s *Space) check() error {
	switch {
	case s.Budget != 0 && s.Budget < leastBudget:
		return fmt.Errorf("space.budget is \"0\" or at least \"16MiB\", not \"%v\"", s.Budget)
	case s.Min < 1 || s.Min > mostSpaceCopies:
		return fmt.Errorf("space.min is from 1 to %d, not %d", mostSpaceCopies, s.Min)
	case s.Copies < s.Min || s.Copies > mostSpaceCopies:
		return fmt.Errorf("space.copies is from space.min to %d, not %d", mostSpaceCopies, s.Copies)
	}
	if w := time.Duration(s.Wait); w < 0 || w > mostWait {
		return fmt.Errorf("space.wait is from \"0s\" to \"10m\", not \"%v\"", w)
	}
	return nil
}
