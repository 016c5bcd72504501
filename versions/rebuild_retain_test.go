package versions

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"sharefs"
	"sharefs/internal/retain"
)

// showings writes down what each moment shows that a model looked at, or why it shows nothing.
func showings(m *retainModel) map[sharefs.HLC]string {
	m.t.Helper()
	out := map[sharefs.HLC]string{}
	for _, at := range m.at {
		v, err := m.ViewAt(at)
		if err != nil {
			out[at] = sharefs.KindOf(err).Error()
			continue
		}
		got, err := shot(v)
		out[at] = fmt.Sprint(v.At(), got, err)
	}
	return out
}

// History is thinned before and after the checkpoint, and meta.db is lost: every moment shows what it showed, every version that was kept is there, and
// none else; so it is after another run, which drops what the rebuild brought back of the past of names.
func TestRebuildAfterRetention(t *testing.T) {
	t.Parallel()
	m := newRetainModel(t, 9)
	p := retain.Policy{Rules: retain.Default(), MinVersions: 2}
	for i := range 96 {
		m.pass(time.Duration(1+m.r.IntN(1+m.r.IntN(40*60))) * time.Minute)
		m.step()
		switch {
		case i == 40:
			capture(t, m.Tree)
			check(t, m.db.Checkpoint())
			m.checkpoint.room = func() int64 { return 1 << 40 }
			export(t, m.Tree)
		case i%20 == 5:
			must[Moment](t)(m.SetTag(sharefs.RootIno, fmt.Sprint("tag", i), m.at[len(m.at)-1], "", root))
		case i%12 == 11:
			capture(t, m.Tree)
			m.retain(p)
		}
	}
	check(t, m.Close())
	m.open()
	tags := must[[]Moment](t)(m.Tags(sharefs.RootIno))
	shown, versions := showings(m), everyVersion(t, m.Tree)
	check(t, m.Close())
	removeMeta(t, m.dir)
	wantNothingLost(t, rebuild(t, m.dir, RebuildOptions{}, func(c *Config) { c.Clock = m.clock }))
	m.open()
	compare := func(what string) {
		t.Helper()
		now := showings(m)
		for at, want := range shown {
			if got := now[at]; got != want {
				t.Fatalf("%s, at %v: %s, want %s", what, at, got, want)
			}
		}
		if got := everyVersion(t, m.Tree); !maps.Equal(got, versions) {
			t.Errorf("%s: %d versions, want %d", what, len(got), len(versions))
		}
		if got := must[[]Moment](t)(m.Tags(sharefs.RootIno)); fmt.Sprint(got) != fmt.Sprint(tags) || len(tags) < 4 {
			t.Errorf("%s: tags %v, want %v", what, got, tags)
		}
	}
	compare("rebuilt")
	m.retain(p)
	compare("thinned again")
}
