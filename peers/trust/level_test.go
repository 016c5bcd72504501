package trust

import (
	"errors"
	"testing"

	"sharefs"
)

// TestTableCellByCell holds each cell of the table as it is written down in the package comment.
func TestTableCellByCell(t *testing.T) {
	type row struct {
		connect, name                         bool
		out                                   Out
		in                                    In
		returns, relay, count, hold, suggests bool
	}
	want := map[string]row{
		"blocked": {},
		"paired":  {connect: true, name: true},
		"store":   {connect: true, name: true, out: OutCipher, returns: true},
		"read":    {connect: true, name: true, out: OutPlain, returns: true, relay: true, count: true},
		"propose": {connect: true, name: true, out: OutPlain, in: InQuarantine, returns: true, relay: true},
		"write":   {connect: true, name: true, out: OutPlain, in: InMerge, returns: true, relay: true, hold: true},
		"manage":  {connect: true, name: true, out: OutPlain, in: InPolicy, returns: true, relay: true, suggests: true},
	}
	if len(Levels()) != len(want) {
		t.Fatalf("%d levels", len(Levels()))
	}
	last := Rights{}
	for _, l := range Levels() {
		w, ok := want[l.String()]
		r := l.Rights()
		for _, cell := range []struct {
			name      string
			got, want any
		}{
			{"known", true, ok}, {"connect", r.Connect, w.connect}, {"name", r.Name, w.name}, {"out", r.Out, w.out}, {"in", r.In, w.in},
			{"returns", r.Returns, w.returns}, {"relay", r.Relay, w.relay}, {"count", r.Count, w.count}, {"hold", r.Hold, w.hold}, {"suggest", r.Suggest, w.suggests},
			{"says what it receives", r.Receives != "", true}, {"says what it does", r.Does != "", true},
			{"out does not sink", r.Out >= last.Out, true}, {"in does not sink", r.In >= last.In, true},
		} {
			if cell.got != cell.want {
				t.Errorf("%s, %s: %v, want %v", l, cell.name, cell.got, cell.want)
			}
		}
		if again, err := ParseLevel(l.String()); again != l || err != nil {
			t.Errorf("%s reads as %s, %v", l, again, err)
		}
		last = r
	}
	if HoldFiles != 100 || HoldPercent != 10 || HoldMinutes != 10 {
		t.Error("bulk is more than 100 files or 10 % within 10 minutes")
	}
	if l := Level(200); l.Rights() != Blocked.Rights() || l.String() != "unknown" {
		t.Error("a number that is no level has rights")
	}
	if _, err := ParseLevel("root\x1b[31m"); !errors.Is(err, sharefs.KindInvalid) || err.Error() != `trust "root\x1b[31m": no level of this name; there are blocked, paired, store, read, propose, write, manage` {
		t.Error(err)
	}
}
