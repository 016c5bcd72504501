package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/internal/keyring"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/versions"
)

// log lists the log of a host.
func (s *site) log() []replica.Item {
	s.t.Helper()
	items, next, err := s.rep.Since(0, 1<<30)
	check(s.t, err)
	if next != s.rep.Arrived() {
		s.t.Fatalf("the log ends at %d, not %d", next, s.rep.Arrived())
	}
	return items
}

// filled returns hosts, on the first of which there are some files that it has told of.
func filled(t testing.TB, n int) []*site {
	t.Helper()
	all := sites(t, n)
	for _, name := range []string{"a", "b", "c"} {
		all[0].write(name, "content of "+name)
		all[0].settle()
		all[0].tell()
	}
	return all
}

// TestBatchesAreShort: what was written down at once is told of in batches that a slow link carries soon.
func TestBatchesAreShort(t *testing.T) {
	s := sites(t, 1)[0]
	for i := range 200 {
		s.write(fmt.Sprint("file", i), "")
	}
	s.settle()
	s.tell()
	items := s.log()
	records := 0
	for i := range items {
		size := 0
		for _, r := range items[i].Records {
			size += r.Size()
		}
		records += len(items[i].Records)
		if size > 32<<10 {
			t.Errorf("batch %d has %d bytes in %d records", i, size, len(items[i].Records))
		}
	}
	if len(items) < 2 || records < 400 {
		t.Errorf("%d records in %d batches", records, len(items))
	}
}

func TestTakeIsIdempotent(t *testing.T) {
	all := filled(t, 2)
	items := all[0].log()
	if len(items) < 3 {
		t.Fatalf("%d items", len(items))
	}
	for round := range 3 {
		n, err := all[1].rep.Take(all[0].self, travel(t, items))
		check(t, err)
		if (n > 0) != (round == 0) {
			t.Errorf("round %d: %d new records", round, n)
		}
	}
	if got := all[1].log(); len(got) != len(items) {
		t.Errorf("%d items became %d", len(items), len(got))
	}
}

func TestTakeRefuses(t *testing.T) {
	all := filled(t, 2)
	a, b := all[0], all[1]
	items := a.log()
	sign := func(share record.ShareID, at sharefs.HLC) replica.Item {
		rec, err := record.New(share, a.self, at, &record.Attr{File: sharefs.FileID{9}, Mode: 0o600})
		check(t, err)
		check(t, rec.Sign(a.key))
		return replica.Item{Records: []*record.Record{rec}}
	}
	unsigned, err := record.New(share, a.self, 1, &record.Attr{File: sharefs.FileID{9}})
	check(t, err)
	forge := func(i replica.Item) replica.Item {
		raw := []byte(string(i.Batch.Bytes()))
		raw[len(raw)-1] ^= 1
		i.Batch, err = record.DecodeBatch(raw)
		check(t, err)
		return i
	}
	for name, c := range map[string]struct {
		item replica.Item
		kind sharefs.Kind
		want string
	}{
		"another share":      {sign(record.ShareID{8}, 1), sharefs.KindInvalid, "no key"},
		"a clock far ahead":  {sign(share, sharefs.HLCAt(time.Now().Add(time.Hour))), sharefs.KindBusy, "ahead"},
		"no signature":       {replica.Item{Records: []*record.Record{unsigned}}, sharefs.KindCorrupt, "signature"},
		"no batch signature": {forge(items[0]), sharefs.KindCorrupt, "signature"},
		"a gap":              {items[1], sharefs.KindAgain, "come first"},
		"records missing":    {replica.Item{Batch: items[0].Batch, Records: items[0].Records[1:]}, sharefs.KindInvalid, ""},
	} {
		n, err := b.rep.Take(a.self, []replica.Item{c.item})
		if n != 0 || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	if got := b.log(); len(got) != 0 {
		t.Fatalf("%d items were taken", len(got))
	}
	// What comes before what is refused is taken, and behind a gap in one chain what others wrote.
	if n, err := b.rep.Take(a.self, []replica.Item{items[0], forge(items[1]), items[1]}); n != len(items[0].Records) || !errors.Is(err, sharefs.KindCorrupt) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := b.rep.Take(a.self, []replica.Item{items[2], sign(share, 5)}); n != 1 || !errors.Is(err, sharefs.KindAgain) {
		t.Errorf("%d, %v", n, err)
	}
}

// What an author wrote while it did not count comes again once it counts, and what it wrote while it was only to be known changes nothing.
func TestAuthorsThatDoNotCount(t *testing.T) {
	all := filled(t, 2)
	a, b := all[0], all[1]
	level := replica.PassedOver
	b.standing = func(sharefs.PeerID) replica.Standing { return level }
	b.openReplica()
	for b.hear(a, 1) > 0 {
	}
	if got := b.log(); len(got) != 0 {
		t.Fatalf("%d items of somebody who does not count", len(got))
	}
	level = replica.Proposed
	a.write("d", "new")
	a.settle()
	a.tell()
	log, at, err := b.rep.Cursor(a.self)
	check(t, err)
	items, next, err := a.rep.Since(at, 1<<20)
	check(t, err)
	if _, err = b.rep.Take(a.self, items); log != a.rep.Log() || !errors.Is(err, sharefs.KindAgain) {
		t.Fatalf("a gap: %v", err)
	}
	check(t, b.rep.SetCursor(a.self, log, next))
	check(t, b.rep.Reconsider())
	if _, at, err := b.rep.Cursor(a.self); at != 0 || err != nil {
		t.Fatal(at, err)
	}
	for b.hear(a, 1) > 0 {
	}
	_, err = b.apply()
	check(t, err)
	if got := b.shows(); got != "" {
		t.Fatalf("what is known alone is in the tree:\n%s", got)
	}
	level = replica.Merged
	a.write("e", "merged")
	meet(t, all...)
	if got := b.shows(); !strings.Contains(got, "e 100644") || strings.Contains(got, "a 100644") {
		t.Fatalf("b has\n%s", got)
	}
	b.openReplica()
	if n, err := b.apply(); n != 0 || err != nil {
		t.Error(n, err)
	}
}

// A host that is put back to an earlier copy of itself gets what it wrote since from the others, and what it writes from then on reaches them.
func TestARestoredCopy(t *testing.T) {
	for _, name := range []string{"that went on", "that did not"} {
		t.Run(name, func(t *testing.T) {
			all := filled(t, 3)
			meet(t, all...)
			a := all[0]
			copied := t.TempDir()
			a.close()
			check(t, os.CopyFS(copied, os.DirFS(a.dir)))
			a.start()
			a.write("lost", "written after the copy")
			a.unlink("a")
			meet(t, all[:2]...) // the third one does not hear of it
			a.close()
			check(t, clear(a.dir))
			check(t, os.CopyFS(a.dir, os.DirFS(copied)))
			check(t, modes(copied, a.dir))
			a.start()
			before, err := a.rep.Own()
			check(t, err)
			if name == "that went on" {
				a.write("since", "written to the copy")
				a.write("b", "changed in the copy")
				a.settle()
				a.tell()
				a.hear(all[2], 1<<20)
				all[2].hear(a, 1<<20)
			}
			meet(t, all...)
			same(t, all...)
			got := all[2].shows()
			if !strings.Contains(got, "lost 1") || strings.Contains(got, "a 1") || name == "that went on" && (!strings.Contains(got, "since 1") || !strings.Contains(got, "changed in the copy")) {
				t.Fatalf("they have\n%s", got)
			}
			if now, err := a.rep.Own(); err != nil || now.Incarnation <= before.Incarnation {
				t.Errorf("no new incarnation: %+v, %+v, %v", before, now, err)
			}
			a.write("last", "after all")
			meet(t, all...)
			same(t, all...)
			a.reopen()
			meet(t, all...)
			same(t, all...)
			for _, s := range all {
				s.right()
			}
		})
	}
}

// clear empties a directory.
func clear(dir string) error {
	list, err := os.ReadDir(dir)
	for _, e := range list {
		if err == nil {
			err = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
	return err
}

// modes gives what is below a directory the modes and times of what it was copied from.
func modes(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(to, rel), info.Mode()); err != nil {
			return err
		}
		return os.Chtimes(filepath.Join(to, rel), info.ModTime(), info.ModTime())
	})
}

// When another share comes into use a host begins a new chain, and records of both are taken.
func TestAnotherShare(t *testing.T) {
	all := filled(t, 2)
	a, b := all[0], all[1]
	before, err := a.rep.Own()
	check(t, err)
	other := record.ShareID{0, 1}
	for _, s := range all {
		s.keys = keys{other, share}
		s.openReplica()
	}
	a.write("d", "under the other share")
	b.write("e", "and on b")
	meet(t, all...)
	same(t, all...)
	now, err := a.rep.Own()
	check(t, err)
	if now.Incarnation <= before.Incarnation {
		t.Errorf("%+v after %+v", now, before)
	}
	shares := map[record.ShareID]int{}
	for _, rec := range b.records() {
		shares[rec.Share]++
	}
	if shares[share] == 0 || shares[other] == 0 {
		t.Errorf("%v", shares)
	}
	// Content under a key that is not here waits, and keeps nothing else back.
	b.keys = keys{other}
	b.openReplica()
	a.write("a", "changed")
	a.mkdir("dir")
	a.settle()
	a.tell()
	b.hear(a, 1<<20)
	n, err := b.apply()
	check(t, err)
	if n != 1 || b.find("dir") == 0 || b.read(b.find("a")) != "content of a" {
		t.Errorf("%d names wait, there is\n%s", n, b.shows())
	}
}

// What cannot be had waits, and is listed until it is there.
func TestWanted(t *testing.T) {
	all := filled(t, 2)
	a, b := all[0], all[1]
	b.off = true
	b.hear(a, 1<<20)
	check(t, must2(b.apply()))
	list, err := b.rep.Wanted(10, nil)
	check(t, err)
	if len(list) != 3 {
		t.Fatalf("%d versions are wanted", len(list))
	}
	if few, err := b.rep.Wanted(2, nil); len(few) != 2 || err != nil {
		t.Error(len(few), err)
	}
	if rest, err := b.rep.Wanted(10, func(rec *record.Record) bool { return rec == list[0] }); len(rest) != 2 || err != nil {
		t.Error(len(rest), err)
	}
	b.off = false
	l, errs, err := b.tree.Gather(Contents(list[:1]), b)
	check(t, err)
	check(t, errs[0])
	n, err := b.rep.Apply()
	l.End()
	if n != 2 || err != nil {
		t.Errorf("%d names wait: %v", n, err)
	}
	check(t, must2(b.apply()))
	if list, err := b.rep.Wanted(10, nil); len(list) != 0 || err != nil {
		t.Error(len(list), err)
	}
	same(t, all...)
	if v, err := b.rep.Version(list[0].ID()); v == nil || err != nil {
		t.Error(v, err)
	}
	if v, err := b.rep.Version(record.ID{1}); v != nil || err != nil {
		t.Error(v, err)
	}
}

func must2(_ int, err error) error { return err }

// A file that somebody has open for writing is left alone; the other version lives on as a conflict.
func TestAWriterIsNotDisturbed(t *testing.T) {
	all := filled(t, 2)
	a, b := all[0], all[1]
	meet(t, all...)
	h, err := b.tree.Open(b.find("a"), 2, root)
	check(t, err)
	_, err = h.WriteAt([]byte("of b"), 0)
	check(t, err)
	a.write("a", "of a")
	a.write("b", "changed too")
	a.settle()
	a.tell()
	b.hear(a, 1<<20)
	if n, err := b.apply(); n != 1 || err != nil {
		t.Errorf("%d names wait: %v", n, err)
	}
	if got := b.read(b.find("b")); got != "changed too" {
		t.Errorf("b holds %q", got)
	}
	check(t, h.Close())
	meet(t, all...)
	same(t, all...)
	for _, s := range all {
		s.right()
	}
}

func TestReplacedSymlinks(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	link := func(s *site, name, target string) {
		made, err := s.tree.Symlink(sharefs.RootIno, "tmp", target, root)
		check(t, err)
		s.tree.Forget(made.Ino, 1)
		check(t, s.tree.Rename(sharefs.RootIno, "tmp", sharefs.RootIno, name, 0))
	}
	for _, target := range []string{"one", "two", "three"} {
		link(a, "l", target)
		meet(t, all...)
		same(t, all...)
		if got, err := b.tree.Readlink(b.find("l")); got != target || err != nil {
			t.Fatalf("it leads to %q: %v", got, err)
		}
	}
	link(a, "l", "of a")
	link(b, "l", "of b")
	meet(t, all...)
	same(t, all...)
	for _, s := range all {
		s.right()
	}
}

// Two stores that each had files under keys of their own become one tree.
func TestStoresThatMeet(t *testing.T) {
	all := sites(t, 2)
	for i, s := range all {
		s.close()
		check(t, clear(s.dir))
		check(t, os.Mkdir(filepath.Join(s.dir, "peers"), 0o700))
		s.ring = keyring.New([32]byte{byte(i + 1)})
		s.start()
		s.mkdir("both")
		s.write("both/"+string(rune('a'+i)), strings.Repeat("long before they met ", 1000))
		s.write("same", "of host "+string(rune('a'+i)))
		s.settle()
		s.tell()
	}
	if _, err := all[0].rep.Take(all[1].self, all[1].log()); !errors.Is(err, sharefs.KindInvalid) {
		t.Fatalf("records of a share without a key: %v", err)
	}
	a, b := all[0].tree.Keys(), all[1].tree.Keys()
	for i, s := range all {
		_, err := s.tree.AdoptKeys([]keyring.Ring{b, a}[i])
		check(t, err)
	}
	all[0].write("since", "under the key that both use")
	all[1].write("both/a2", "here too")
	meet(t, all...)
	same(t, all...)
	for _, s := range all {
		s.right()
		if got := s.shows(); !strings.Contains(got, "both/a 1") || !strings.Contains(got, "both/b 1") || !strings.Contains(got, "since 1") {
			t.Fatalf("there is\n%s", got)
		}
	}
	if all[0].rep.Log() == all[1].rep.Log() {
		t.Error("one log")
	}
	for _, s := range all {
		s.reopen()
		if n, err := s.apply(); n != 0 || err != nil {
			t.Error(n, err)
		}
	}
}

// What an attribute of the mount's own says is a rule of this host: it is told to nobody, and nobody else sets it or takes it away.
func TestRulesOfThisHostStayHere(t *testing.T) {
	s := sites(t, 1)[0]
	s.write("a", "content")
	dir, name := s.at("a")
	d, _, err := s.tree.Slot(dir, name)
	check(t, err)
	check(t, s.tree.Setxattr(d.Ino, versions.XattrTrack, []byte(versions.TrackRanges), 0))
	theirs := []record.Xattr{{Name: "user.a", Value: "b"}, {Name: "user.sharefs.commit", Value: "now"}, {Name: versions.XattrRetain, Value: "versions=1"}}
	check(t, s.as().SetXattrs(d.Ino, theirs))
	told, err := s.as().Xattrs(d.Ino)
	check(t, err)
	names, err := s.tree.Listxattr(d.Ino)
	check(t, err)
	if !slices.Equal(told, theirs[:1]) || !slices.Equal(names, []string{"user.a", versions.XattrTrack}) {
		t.Errorf("%v is told of %v", told, names)
	}
}

// What an author does wrong is not taken for the fault of who relays it: the signatures of the records of a large batch, which would go without it, and a chain that goes on in another
// share, of which another host may have seen another part first.
func TestRelaysAreNotBlamed(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	other := record.ShareID{9}
	b.keys = keys{share, other}
	b.openReplica()
	next := func(w *record.Writer, bytes int) replica.Item {
		rec, err := record.New(w.Share, a.self, 5, &record.Attr{File: sharefs.FileID{9, byte(w.Head.Number), w.Share[0]}, Xattrs: []record.Xattr{{Name: "user.a", Value: strings.Repeat("x", bytes)}}})
		check(t, err)
		i := replica.Item{Records: []*record.Record{rec}}
		i.Batch, err = w.Batch(5, []record.ID{rec.ID()}, a.key)
		check(t, err)
		return i
	}
	w1 := record.Writer{Share: share, Head: record.Head{Author: a.self, Incarnation: 5}}
	w2 := record.Writer{Share: other, Head: w1.Head}
	for i, item := range []replica.Item{next(&w1, 1), next(&w2, 1), next(&w2, 1), next(&w1, 1)} {
		n, err := b.rep.Take(a.self, []replica.Item{item})
		if err != nil || (n == 1) != (i%3 == 0) {
			t.Errorf("item %d: %d, %v", i, n, err)
		}
	}
	var large replica.Item
	var ids []record.ID
	for i := range byte(18) {
		rec, err := record.New(share, a.self, 5, &record.Attr{File: sharefs.FileID{8, i}, Xattrs: []record.Xattr{{Name: "user.a", Value: strings.Repeat("x", 60_000)}}})
		check(t, err)
		large.Records, ids = append(large.Records, rec), append(ids, rec.ID())
	}
	var err error
	large.Batch, err = w1.Batch(5, ids, a.key)
	check(t, err)
	if n, err := b.rep.Take(a.self, []replica.Item{large}); n != 0 || !errors.Is(err, sharefs.KindInvalid) {
		t.Errorf("a large batch: %d, %v", n, err)
	}
}
