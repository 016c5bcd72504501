package versions

import (
	"fmt"
	"testing"
	"time"

	"sharefs"
	"sharefs/internal/retain"
)

// History is thinned before and after the checkpoint, and meta.db is lost: every moment that is kept shows what it showed, named ones too, and what the
// rebuild brought back of what had been dropped goes with the next run.
func TestRebuildAfterRetention(t *testing.T) {
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
			at := m.at[m.r.IntN(len(m.at))]
			if kept, ok := m.KeptInstant(at); ok && kept >= m.at[0] {
				must[Moment](t)(m.SetTag(sharefs.RootIno, fmt.Sprint("tag", i), at, "", root))
			}
		case i%12 == 11:
			capture(t, m.Tree)
			m.retain(p)
			m.compare()
			m.compareVersions(p.MinVersions)
		}
	}
	capture(t, m.Tree)
	tags := must[[]Moment](t)(m.Tags(sharefs.RootIno))
	check(t, m.Close())
	removeMeta(t, m.dir)
	wantNothingLost(t, rebuild(t, m.dir, RebuildOptions{}, func(c *Config) { c.Clock = m.clock }))
	m.open()
	m.compare()
	m.compareVersions(p.MinVersions)
	if got := must[[]Moment](t)(m.Tags(sharefs.RootIno)); fmt.Sprint(got) != fmt.Sprint(tags) || len(tags) == 0 {
		t.Errorf("tags %v, want %v", got, tags)
	}
	m.retain(p)
	m.compare()
	m.compareVersions(p.MinVersions)
}
