package versions

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// Packs are read one after the other, all in the time given, and the next start goes on where the last one ended.
func TestScrubReadsAllPacksInTurn(t *testing.T) {
	t.Parallel()
	l := makeLibrary(t)
	month := func(c *Config) {
		l.config(c)
		c.Scrub = 30 * 24 * time.Hour
	}
	tree := testTree(t, l.dir, month)
	s := &tree.past.scrubber
	ids, err := tree.past.packs.Packs()
	check(t, err)
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	for i := range len(ids) + 1 {
		if i == 3 {
			check(t, s.note(tree, now, true))
			check(t, tree.Close())
			tree = testTree(t, l.dir, month)
			s = &tree.past.scrubber
			check(t, s.load(tree))
		}
		check(t, tree.scrubNext(now))
		if s.last != ids[i%len(ids)] || s.next.Sub(now) != tree.cfg.Scrub/time.Duration(len(ids)) {
			t.Fatalf("pack %d: %+v", i, s.stats)
		}
		if pass := now.Sub(s.pass); i < len(ids) && i > 0 && pass == 0 || i == len(ids) && pass != 0 {
			t.Errorf("pack %d: the pass began %v ago", i, pass)
		}
		now = s.next
	}
	st := tree.HistoryStats().Scrub
	if st.Bad != 0 || st.Packs != uint64(len(ids)-2) || st.Every != "720h0m0s" || st.Next != now {
		t.Errorf("%+v", st)
	}
	// One record of the pack that comes next is damaged.
	spoiltName := tree.past.packs.Where(ids[1])
	data := l.packs.Data(spoiltName)
	data[len(data)/3] ^= 8
	check(t, tree.scrubNext(now))
	st = tree.HistoryStats().Scrub
	if st.Bad != 1 || !strings.HasSuffix(spoiltName, st.LastBad) {
		t.Errorf("%+v", st)
	}
	if bad := l.unreadable(t, tree); len(bad) == 0 {
		t.Error("all reads")
	}
	if got := concerned(fsckNow(t, tree, FsckScrub, false), SeverityDamage); !slices.Equal(got, l.unreadable(t, tree)) {
		t.Errorf("%v", got)
	}
}

func TestScrubOfAnEmptyStore(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand, func(c *Config) { c.Scrub = time.Hour })
	now := time.Now()
	check(t, tree.scrubNext(now))
	if st := tree.HistoryStats().Scrub; st.Packs != 0 || !st.Next.Equal(now.Add(time.Hour)) {
		t.Errorf("%+v", st)
	}
}
