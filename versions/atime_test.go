package versions

import (
	"testing"
	"time"

	"sharefs"
)

// Whatever is read meanwhile, what is to be done soon is not put off.
func TestAtimesNext(t *testing.T) {
	now := time.Now()
	soon := now.Add(learnDelay)
	for _, c := range []struct {
		name string
		a    *atimes
		want time.Time
	}{
		{"nothing was read", &atimes{since: now}, time.Time{}},
		{"a directory was read", &atimes{moved: map[sharefs.Ino]sharefs.Time{1: 1}, since: now.Add(-time.Minute)}, now.Add(atimesDelay - time.Minute)},
		{"writing them failed", &atimes{moved: map[sharefs.Ino]sharefs.Time{1: 1}, since: now.Add(-2 * atimesDelay)}, soon},
		{"a file was read too", &atimes{moved: map[sharefs.Ino]sharefs.Time{1: 1}, since: now, readers: []*file{nil}}, soon},
	} {
		at := c.a.next(now)
		if !at.Equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, at, c.want)
		}
		if !at.IsZero() && (!sooner(at, time.Time{}) || sooner(at.Add(time.Second), at) || !sooner(at, at.Add(time.Second))) || sooner(time.Time{}, at) {
			t.Errorf("%s: it is put off", c.name)
		}
	}
}
