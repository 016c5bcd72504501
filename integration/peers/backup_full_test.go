package peers

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// noise is text that does not shrink.
func noise(size int) string {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	_, _ = r.Read(b)
	return string(b)
}

// metric returns the lines of a metric.
func (h *host) metric(name string) (lines []string) {
	for line := range strings.Lines(h.ctl("metrics")) {
		if strings.HasPrefix(line, name+"{") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// Who keeps a backup has given too little for it: both hosts say so, with the sizes and what is to be done, and when that is done it goes on.
func TestABackupThatIsFull(t *testing.T) {
	hs := hosts(t, "", "anna", "bert")
	a, b := hs[0], hs[1]
	pairByLink(t, a, b)
	b.must("peers", "rename", "anna", "laptop")
	b.must("peers", "limit", "laptop", "quota=1MB")
	a.must("grant", "bert", "store")
	a.write("small", "x")
	a.backedUp(b)
	for _, h := range hs {
		if got := h.Status().Problems; len(got) > 0 {
			t.Errorf("%s: %q", h.name, got)
		}
	}
	a.write("large", noise(3<<20))
	a.Settled()
	a.Remount()
	problem := func(h *host, begins string) (text string) {
		mounttest.WaitFor(t, h.name+" has a problem", func() bool {
			for _, text = range h.Status().Problems {
				if strings.HasPrefix(text, begins) {
					return true
				}
			}
			return false
		})
		if out := h.must("status"); !strings.Contains(out, begins) {
			t.Errorf("%s says nothing of it:\n%s", h.name, out)
		}
		return text
	}
	parts := func(text string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("%q without %q", text, part)
			}
		}
		if strings.Contains(text, "packs/") {
			t.Errorf("%q names an object", text)
		}
	}
	const more = "sharefs peers limit laptop quota="
	text := problem(a, "the backup with bert is full since ")
	parts(text, " of the quota of 1.0 MB are used, and there is no room for what waits here: ", ", 3.2 MB, of which the next one has 3.2 MB; there, for all that waits: "+more, "; or keep less history here: sharefs retain --quota SIZE")
	_, quota, _ := strings.Cut(text, more)
	quota, _, _ = strings.Cut(quota, ";")
	parts(problem(b, "the backup that this host keeps for laptop is full since "), " of the quota of 1.0 MB are used, and there is no room for its next file, of 3.2 MB; that one file fits with "+more, ", and how much all takes that waits behind it the problems in its own sharefs status say")
	f := a.peer("bert").Backup.Full
	k := b.peer("laptop").Keeps.Full
	for _, full := range []int64{int64(f.Needs), int64(k.Needs)} {
		if full < 3<<20 || full > 4<<20 {
			t.Errorf("%d bytes are to come", full)
		}
	}
	if f.Disk || k.Disk || f.Since.IsZero() || k.Since.IsZero() || !strings.HasPrefix(k.More, more) {
		t.Errorf("%+v, %+v", f, k)
	}
	parts(a.must("status"), "  3.2 MB  ", "  no room there: ", " of 1.0 MB used\n")
	parts(a.must("peers"), "full since ", more)
	parts(b.must("peers"), "full since ", more)
	full := func(want int) func() bool {
		return func() bool {
			return fmt.Sprint(a.metric("sharefs_peer_backup_full")) == fmt.Sprintf(`[sharefs_peer_backup_full{peer="bert"} %d]`, want) &&
				fmt.Sprint(b.metric("sharefs_peer_keeps_full")) == fmt.Sprintf(`[sharefs_peer_keeps_full{peer="laptop"} %d]`, want)
		}
	}
	mounttest.WaitFor(t, "metrics of both", full(1))

	b.must("peers", "limit", "laptop", "quota="+quota) // as it said
	mounttest.WaitFor(t, "all is there", func() bool {
		p := a.peer("bert").Backup
		return p.Full == nil && p.Error == "" && p.Behind.IsZero() && p.BacklogFiles == 0 && p.Bytes > 3<<20
	})
	for _, h := range hs {
		if got := h.Status().Problems; len(got) > 0 {
			t.Errorf("%s: %q", h.name, got)
		}
	}
	mounttest.WaitFor(t, "metrics of both", full(0))
}
