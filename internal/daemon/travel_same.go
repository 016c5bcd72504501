package daemon

import (
	"time"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/peers/replica/host"
)

// otherCompares is how long a version is not made readable beside the one that is shown, because it may be told yet that it is the same.
const otherCompares = 30 * time.Second

// maxCompared bounds what is remembered of comparisons.
const maxCompared = 100_000

// compared is what is known of the one version that is shown and another, while they may be the same.
type compared map[[2]record.ID]struct {
	differ bool
	since  time.Time // it was seen first
}

// same reports whether a conflict is none: files that two hosts had before they met were kept under the share keys of each, so that equal content has different names, and
// records alone do not tell that it is equal. Whoever wrote a version that is not shown compares it with the one that is, so that it is one host that says so. An error: that is not
// told yet.
func (t *travel) same(c *replica.Conflict) (bool, error) {
	mine := false
	for _, o := range c.Others {
		if !mayBeSame(c.Live, o.Version) || t.compared[[2]record.ID{c.Live.ID(), o.Version.ID()}].differ {
			return false, nil
		}
		mine = mine || o.Version.Author == t.d.store.Keys.Peer()
	}
	for _, o := range c.Others {
		pair := [2]record.ID{c.Live.ID(), o.Version.ID()}
		known, ok := t.compared[pair]
		if !ok {
			if t.compared == nil || len(t.compared) >= maxCompared {
				t.compared = compared{}
			}
			known.since = time.Now()
		}
		same, err := false, error(sharefs.KindAgain)
		if mine {
			both := host.Contents([]*record.Record{c.Live, o.Version})
			same, err = t.d.tree.Same(&both[0], &both[1])
			known.differ = err == nil && !same
		}
		t.compared[pair] = known
		if err != nil && time.Since(known.since) > otherCompares {
			err = nil // it is a conflict until there is more to tell
		}
		if err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// mayBeSame reports whether two versions may be of equal bytes though their records differ.
func mayBeSame(a, b *record.Record) bool {
	if a == nil || b == nil {
		return false
	}
	v, w := a.Body.(*record.Version), b.Body.(*record.Version)
	return v.Type() == record.Regular && w.Type() == record.Regular && v.Size == w.Size && v.Key != w.Key
}
