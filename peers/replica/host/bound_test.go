package host

import (
	"bytes"
	"testing"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// Of who writes more than he may have here the rest waits with him, without a gap and without harm to others, and comes when the bound is raised.
func TestABoundOfRecords(t *testing.T) {
	all := filled(t, 3)
	a, b, c := all[0], all[1], all[2]
	total := len(a.records())
	b.most = uint64(total - 1)
	b.hear(a, 1<<20)
	kept := len(b.records())
	full, err := b.rep.Full()
	check(t, err)
	if kept == 0 || kept >= total || len(full) != 1 || full[0].Author != a.self || full[0].Most != b.most || full[0].Records == 0 {
		t.Fatalf("%d of %d records, %+v", kept, total, full)
	}
	// Smaller batches that would have room do not come before what they go on from; others are taken; a restart changes nothing of that.
	a.mkdir("d")
	a.tell()
	c.write("of c", "c")
	c.settle()
	c.tell()
	for range 2 {
		if _, err := b.rep.Take(a.self, travel(t, a.log())); err != nil && sharefs.KindOf(err) != sharefs.KindAgain {
			t.Fatal(err)
		}
		b.hear(c, 1<<20)
		check(t, must2(b.apply()))
		if n := len(b.records()); n != kept+len(c.records()) {
			t.Errorf("%d records, not %d", n, kept+len(c.records()))
		}
		if b.find("of c") == 0 || b.find("d") != 0 {
			t.Errorf("b has\n%s", b.shows())
		}
		b.reopen()
	}
	// Nobody else's fault, and not of one that is not signed.
	items := a.log()
	if _, err := b.rep.Take(a.self, travel(t, items)); err != nil {
		t.Fatal(err)
	}
	bad := travel(t, items[len(items)-1:])[0]
	raw := bytes.Clone(bad.Batch.Bytes())
	raw[len(raw)-1]++
	bad.Batch, err = record.DecodeBatch(raw)
	check(t, err)
	if _, err := b.rep.Take(a.self, []replica.Item{bad}); sharefs.KindOf(err) != sharefs.KindCorrupt {
		t.Error(err)
	}
	b.most = 0
	for _, o := range []*site{a, c} {
		check(t, b.rep.SetCursor(o.self, replica.LogID{}, 0)) // as is done where a bound changes
	}
	if full, err := b.rep.Full(); len(full) != 0 || err != nil {
		t.Error(full, err)
	}
	meet(t, all...)
	same(t, all...)
	for _, s := range all {
		s.right()
	}
}
