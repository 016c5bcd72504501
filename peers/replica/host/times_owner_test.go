package host

import (
	"testing"

	"sharefs"
	"sharefs/integration/race"
)

// timedDeeds are what somebody did to the file f who may only propose, or who is taken back: with its time, and with more.
func timedDeeds() map[string]func(s *site) {
	return map[string]func(s *site){
		"touched":                   func(s *site) { s.touch("f", aTime+5) },
		"written":                   func(s *site) { s.write("f", "of b") },
		"written and dated":         func(s *site) { s.write("f", "of b"); s.touch("f", aTime+5) },
		"dated behind what is told": func(s *site) { s.write("f", "of b"); s.settle(); s.tell(); s.touch("f", aTime+5) },
		"mode":                      func(s *site) { chmod(s, "f", 0o600) },
		"dated and mode":            func(s *site) { s.touch("f", aTime+5); chmod(s, "f", 0o600) },
		"dated, then renamed":       func(s *site) { s.touch("f", aTime+5); s.rename("f", "g") },
	}
}

// begun has two hosts have a file f, which one wrote, and may have dated, and returns its time.
func begun(dated bool, a, b *site) sharefs.Time {
	a.t.Helper()
	a.writeAndTell("f", "of a")
	if dated {
		a.touch("f", aTime)
	}
	meet(a.t, a, b)
	return a.mtime("f")
}

// What somebody proposes has the time that it has for him when it is taken, and what was set here stays otherwise; nobody says more of it.
func TestTimesOfProposals(t *testing.T) {
	race.Leave(t, race.Enough)
	for _, dated := range []bool{false, true} {
		for name, do := range timedDeeds() {
			t.Run(map[bool]string{false: "", true: "dated before, "}[dated]+name, func(t *testing.T) {
				a, b := owner(t)
				before := begun(dated, a, b)
				haveTime(t, "f", before, a, b)
				do(b)
				meet(t, a, b)
				if got := a.mtime("f"); got != before {
					t.Errorf("it is of %d before it was taken, not of %d", got, before)
				}
				path := "f"
				if b.find("f") == 0 {
					path = "g"
				}
				want := b.mtime(path)
				if _, left := a.accept(b, all); len(left) > 0 {
					t.Fatal(left)
				}
				meet(t, a, b)
				haveTime(t, path, want, a, b)
				same(t, a, b)
				if list := a.changes(b); len(list) > 0 {
					t.Errorf("it is proposed still:\n%s", tells(list))
				}
			})
		}
	}
}

// What is taken back of somebody has the time that it had before, be it that of its content or one that was set, and nobody says more of it.
func TestTimesOfWhatIsPurged(t *testing.T) {
	race.Leave(t, race.Enough)
	for _, dated := range []bool{false, true} {
		for name, do := range timedDeeds() {
			t.Run(map[bool]string{false: "", true: "dated before, "}[dated]+name, func(t *testing.T) {
				all := sites(t, 2)
				a, b := all[0], all[1]
				before := begun(dated, a, b)
				do(b)
				meet(t, a, b)
				same(t, a, b)
				_, err := a.rep.Purge(nil, b.self, false)
				check(t, err)
				meet(t, a, b)
				same(t, a, b)
				haveTime(t, "f", before, a, b)
				if again, err := a.rep.Purge(nil, b.self, true); err != nil || len(again) != 0 {
					t.Errorf("%+v, %v", again, err)
				}
			})
		}
	}
}
