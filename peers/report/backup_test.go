package report

import (
	"strings"
	"testing"
	"time"
)

// A peer that has no quota for this host is told of with the command that sets one, and with nothing that contradicts it; so is one that wants a backup here and has none.
func TestWithoutAQuota(t *testing.T) {
	var b Backup
	b.BacklogFiles, b.BacklogBytes = 3, 1024
	b.NoQuota("sharefs peers limit fay quota=50GB")
	const none = "it takes nothing, for no quota is set for this host there; on that host: sharefs peers limit fay quota=50GB"
	if got := strings.Join(b.Lines(), "; "); got != none || b.Short() != none || b.Error != none {
		t.Errorf("%q, %q, %q", got, b.Short(), b.Error)
	}
	b.Complete, b.Behind = time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local), time.Date(2026, 11, 22, 13, 0, 0, 0, time.Local)
	if got := b.Lines(); len(got) != 2 || !strings.HasPrefix(got[0], "it keeps the past as of 2026-11-22 12:00:00, sealed: ") || got[1] != none {
		t.Errorf("%q", got)
	}
	for want, k := range map[string]Keeps{
		"nothing for it; it wants to keep a backup here and has no quota: CMD sets one":                 {Wants: "CMD"},
		"2 sealed files for it, 1.0 KiB; it wants to keep a backup here and has no quota: CMD sets one": {Wants: "CMD", Files: 2, Bytes: 1024},
		"1 sealed file for it, 1.0 KiB; nothing more is taken, for it has no quota":                     {Files: 1, Bytes: 1024},
		"0 sealed files for it, 0 B of 50 GB":                                                           {Quota: 50e9},
		"2 sealed files for it, 2.0 MB of 50 MB":                                                        {Files: 2, Bytes: 2e6, Quota: 50e6},
		"2 sealed files for it, 2.0 MiB of 50 MiB":                                                      {Files: 2, Bytes: 2 << 20, Quota: 50 << 20},
	} {
		if got := k.Text(); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	if got := (*Keeps)(nil).WantsText(); got != "" {
		t.Errorf("%q of nothing", got)
	}
}
