package replica

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// ward is a host on which somebody may write below top/in, but in one place there, and nowhere else.
type ward struct {
	t     *testing.T
	rep   *Replica
	owner *pen // who may write everywhere
	bert  *pen // who may not
	clock time.Time
}

func mayWrite(path string) bool {
	below := func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
	return below("top/in") && !below("top/in/box/locked")
}

func newWard(t *testing.T) *ward {
	t.Helper()
	w := &ward{t: t, owner: newPen(), bert: newPen(), clock: time.Unix(1e9, 0)}
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = 2
	w.bert.key = ed25519.NewKeyFromSeed(seed)
	w.bert.ids = 100
	var err error
	w.rep, err = Open(Config{Tree: noTree{}, Store: rows{}, Self: sharefs.PeerID{0xaa}, Keys: anyKeys{}, Now: func() time.Time { return w.clock },
		Counts: func(sharefs.PeerID) bool { return true }, Standing: func(*record.Record) Standing { return Merged },
		Where: func(author sharefs.PeerID) (Where, bool) {
			return Where{
				Standing: func(path string) Standing {
					if mayWrite(path) {
						return Merged
					}
					return PassedOver
				},
				Leads: func(path string) bool { return path == "top" || path == "flat" },
			}, author == w.bert.author()
		}})
	check(t, err)
	return w
}

// load has the host read everything anew.
func (w *ward) load() {
	w.t.Helper()
	w.rep.mu.Lock()
	defer w.rep.mu.Unlock()
	check(w.t, w.rep.load())
}

// tell has the host take what somebody wrote since.
func (w *ward) tell(p *pen) {
	w.t.Helper()
	var items []Item
	for _, rec := range p.new {
		items = append(items, Item{Records: []*record.Record{rec}})
	}
	p.new = nil
	_, err := w.rep.Take(sharefs.PeerID{1}, items)
	check(w.t, err)
}

// toldOn holds that after a number of arrival some single records are told on as they were signed, also when all is read anew.
func (w *ward) toldOn(after uint64, want ...record.ID) {
	w.t.Helper()
	for _, how := range []string{"at once", "read anew"} {
		items, _, err := w.rep.Since(after, 1<<20)
		check(w.t, err)
		var got []record.ID
		for _, item := range items {
			for _, rec := range item.Records {
				got = append(got, rec.ID())
				if err := rec.Verify(); err != nil {
					w.t.Errorf("%s: kind %d: %v", how, rec.Body.Kind(), err)
				}
			}
		}
		if !slices.Equal(got, want) {
			w.t.Errorf("%s: %v are told on, not %v", how, got, want)
		}
		w.load()
	}
}

// outside describes what is where bert may not write.
func (w *ward) outside() string {
	var b strings.Builder
	all := w.rep.tree.Result()
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if n := all[path]; !mayWrite(path) {
			fmt.Fprintln(&b, path, n.Key, n.Type, n.Live, n.Attr, len(n.Conflicts))
		}
	}
	return b.String()
}

// copyOf is a tree that somebody knows who was told of all.
func (w *ward) meet() {
	w.bert.tree = converge.New()
	w.rep.tree.Inputs(func(i converge.Input) { w.bert.tree.Add(i) })
	w.bert.now = max(w.bert.now, w.owner.now)
}

// filled has the owner make a tree.
func (w *ward) filled() {
	o := w.owner
	dir := func(id byte, path string) { o.place(converge.Key{File: sharefs.FileID{id}}, record.Directory, path) }
	file := func(id byte, path string) {
		o.place(converge.Key{File: sharefs.FileID{id}}, record.Regular, path)
		o.version(sharefs.FileID{id})
		o.say(&record.Attr{File: sharefs.FileID{id}, Mode: 0o600})
	}
	dir(1, "top")
	dir(2, "top/in")
	dir(3, "out")
	dir(4, "out/deep")
	dir(5, "top/in/sub")
	file(6, "out/secret")
	file(7, "top/in/open")
	file(8, "top/plain")
	file(9, "out/gone")
	dir(10, "top/in/box")
	dir(11, "top/in/box/locked")
	file(12, "top/in/box/locked/file")
	file(13, "flat")
	o.now = 1 << 30
	dir(14, "out/later")
	o.place(converge.Key{File: sharefs.FileID{14}}, record.Directory, "top/in/sub/later") // where somebody may move something into it
	o.say(&record.Attr{File: sharefs.FileID{1}, Mode: 0o700})
	o.remove(o.tree.Result()["out/gone"])
	w.tell(o)
	w.meet()
}

// What somebody may do who may write a part.
func TestWriterOfAPart(t *testing.T) {
	w := newWard(t)
	w.filled()
	before := w.outside()
	b := w.bert
	shows := func(path string, want bool) {
		t.Helper()
		if _, ok := w.rep.tree.Result()[path]; ok != want {
			t.Errorf("%s is there: %v\n%v", path, ok, slices.Sorted(maps.Keys(w.rep.tree.Result())))
		}
	}
	b.place(converge.Key{File: sharefs.FileID{100}}, record.Directory, "top/in/new")
	b.place(converge.Key{File: sharefs.FileID{101}}, record.Regular, "top/in/new/file")
	b.version(sharefs.FileID{101})
	b.say(&record.Attr{File: sharefs.FileID{101}, Mode: 0o640})
	b.version(sharefs.FileID{7})
	b.place(converge.Key{File: sharefs.FileID{7}}, record.Regular, "top/in/sub/moved")
	b.place(converge.Key{File: sharefs.FileID{7}, Link: 5}, record.Regular, "top/in/linked")
	b.place(converge.Key{File: sharefs.FileID{5}}, record.Directory, "top/in/new/sub")
	w.tell(b)
	for _, path := range []string{"top/in/new/file", "top/in/new/sub/moved", "top/in/linked"} {
		shows(path, true)
	}
	if n := w.rep.tree.Result()["top/in/new/sub/moved"]; n.Live != b.tree.Result()["top/in/new/sub/moved"].Live || n.Live.IsZero() {
		t.Error("its version does not count")
	}
	b.remove(b.tree.Result()["top/in/linked"])
	b.remove(b.tree.Result()["top/in/new/sub/moved"])
	w.tell(b)
	shows("top/in/linked", false)
	shows("top/in/new/sub/moved", false)
	if after := w.outside(); after != before {
		t.Errorf("outside there is\n%s\nnot\n%s", after, before)
	}
}

// What somebody may write a part cannot do to the rest, and that it comes to nothing also when all of it comes again.
func TestWriterOfAPartElsewhere(t *testing.T) {
	removal := func(file byte, link uint64, typ record.Type, seen ...record.ID) record.Body {
		return &record.Place{File: sharefs.FileID{file}, Link: link, Type: typ, Parent: record.Nowhere, Seen: seen}
	}
	place := func(file byte, link uint64, typ record.Type, parent byte, name string) record.Body {
		p := &record.Place{File: sharefs.FileID{file}, Link: link, Type: typ, Name: name}
		if parent > 0 {
			p.Parent = sharefs.FileID{parent}
		}
		return p
	}
	for what, does := range map[string]func(b *pen){
		"a new name elsewhere":               func(b *pen) { b.say(place(100, 0, record.Regular, 3, "x")) },
		"a new directory at the root":        func(b *pen) { b.say(place(100, 0, record.Directory, 0, "x")) },
		"a move in":                          func(b *pen) { b.say(place(6, 0, record.Regular, 2, "x")) },
		"a move in of a directory":           func(b *pen) { b.say(place(4, 0, record.Directory, 2, "x")) },
		"a move out":                         func(b *pen) { b.say(place(7, 0, record.Regular, 3, "x")) },
		"a move out of a directory":          func(b *pen) { b.say(place(5, 0, record.Directory, 3, "x")) },
		"a further name in the part":         func(b *pen) { b.say(place(6, 9, record.Regular, 2, "x")) },
		"a further name, then a version":     func(b *pen) { b.say(place(6, 9, record.Regular, 2, "x")); b.version(sharefs.FileID{6}) },
		"a name for what was removed":        func(b *pen) { b.say(place(9, 3, record.Regular, 2, "x")); b.version(sharefs.FileID{9}) },
		"a version of what was removed":      func(b *pen) { b.version(sharefs.FileID{9}) },
		"a further name elsewhere":           func(b *pen) { b.say(place(7, 9, record.Regular, 3, "x")) },
		"a version":                          func(b *pen) { b.version(sharefs.FileID{6}) },
		"attributes":                         func(b *pen) { b.say(&record.Attr{File: sharefs.FileID{6}, Mode: 0o777}) },
		"attributes of the root":             func(b *pen) { b.say(&record.Attr{File: record.Root, Mode: 0o777}) },
		"attributes of what leads there":     func(b *pen) { b.say(&record.Attr{File: sharefs.FileID{1}, Mode: 0o777}) },
		"a removal":                          func(b *pen) { b.say(removal(6, 0, record.Regular, b.tree.Heads(sharefs.FileID{6})...)) },
		"a removal of what leads there":      func(b *pen) { b.say(removal(1, 0, record.Directory)) },
		"a removal above":                    func(b *pen) { b.say(removal(3, 0, record.Directory)) },
		"a removal of what is not known":     func(b *pen) { b.say(removal(77, 0, record.Regular)) },
		"a move of what leads there":         func(b *pen) { b.say(place(1, 0, record.Directory, 2, "x")) },
		"another directory that leads there": func(b *pen) { b.now = 1; b.say(place(100, 0, record.Directory, 0, "top")) },
		"a file in the way of what leads":    func(b *pen) { b.now = 1; b.say(place(100, 0, record.Regular, 0, "top")) },
		"another type, earlier":              func(b *pen) { b.now = 1; b.say(place(1, 0, record.Regular, 0, "top")) },
		"the end of somebody's chain":        func(b *pen) { b.say(&record.Cut{Author: sharefs.PeerID{0xaa}, Number: 1}) },
		"a directory over a file on a way":   func(b *pen) { b.say(place(100, 0, record.Directory, 0, "flat")) },
		"a move of what holds something":     func(b *pen) { b.say(place(10, 0, record.Directory, 5, "x")) },
		"a removal of what holds something":  func(b *pen) { b.say(removal(10, 0, record.Directory)) },
		"another type for what is there":     func(b *pen) { b.now = 1; b.say(place(10, 0, record.Regular, 2, "x")) },
		"a move into itself, in the past":    func(b *pen) { b.now = b.now / 2; b.say(place(5, 0, record.Directory, 14, "y")) },
		"below what leads there":             func(b *pen) { b.say(place(100, 0, record.Directory, 1, "x")) },
		"below another that leads there": func(b *pen) {
			b.say(place(100, 0, record.Directory, 0, "top"))
			b.say(place(101, 0, record.Regular, 100, "x"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWard(t)
			w.filled()
			before := w.outside()
			does(w.bert)
			again := slices.Clone(w.bert.new)
			for range 2 {
				w.tell(w.bert)
				if after := w.outside(); after != before {
					t.Fatalf("outside there is\n%s\nnot\n%s", after, before)
				}
				if _, ok := w.rep.tree.Result()["top/in/x"]; ok {
					t.Fatal("it is in the part now")
				}
				w.bert.new = again
			}
		})
	}
}

// A removal in the part does not speak for names elsewhere: a file with something that nobody saw who removed it there stays.
func TestARemovalSpeaksForThePartAlone(t *testing.T) {
	w := newWard(t)
	w.filled()
	o, b := w.owner, w.bert
	id := sharefs.FileID{7}
	old := o.tree.Heads(id)
	o.place(converge.Key{File: id, Link: 9}, record.Regular, "out/linked")
	o.version(id) // which whoever removes that name did not know
	gone := &record.Place{File: id, Link: 9, Type: record.Regular, Parent: record.Nowhere, Seen: old}
	o.say(gone)
	removal := o.new[len(o.new)-1]
	w.tell(o)
	w.meet()
	seen := append(b.tree.Heads(id), removal.ID())
	slices.SortFunc(seen, record.ID.Compare)
	b.say(&record.Place{File: id, Type: record.Regular, Parent: record.Nowhere, Seen: seen})
	w.tell(b)
	there := false
	w.rep.tree.Spots(id, func(converge.Spot) { there = true })
	if !there {
		t.Error("the file is gone")
	}
}

// What somebody made elsewhere and then moves into the part comes with what he had said of it, be it a file or a directory with all below it.
func TestMovedIntoAPart(t *testing.T) {
	t.Run("in a batch", func(t *testing.T) { testMovedIntoAPart(t, true) })
	t.Run("one by one", func(t *testing.T) { testMovedIntoAPart(t, false) }) // as from a host that may read a part itself
}

func testMovedIntoAPart(t *testing.T, together bool) {
	w := newWard(t)
	w.filled()
	before := w.outside()
	b := w.bert
	b.place(converge.Key{File: sharefs.FileID{100}}, record.Regular, "draft")
	b.version(sharefs.FileID{100})
	b.say(&record.Attr{File: sharefs.FileID{100}, Mode: 0o640})
	b.place(converge.Key{File: sharefs.FileID{101}}, record.Directory, "mine")
	b.place(converge.Key{File: sharefs.FileID{102}}, record.Directory, "mine/sub")
	b.place(converge.Key{File: sharefs.FileID{103}}, record.Regular, "mine/sub/file")
	b.version(sharefs.FileID{103})
	made := b.new
	b.new = nil
	var ids []record.ID
	var items []Item
	for _, rec := range made {
		ids = append(ids, rec.ID())
		items = append(items, Item{Records: []*record.Record{rec}})
	}
	if together {
		writer := record.Writer{Share: record.ShareID{1}, Head: record.Head{Author: b.author(), Incarnation: 1}}
		batch, err := writer.Batch(b.now, ids, b.key)
		check(t, err)
		items = []Item{{Batch: batch, Records: made}}
	}
	_, err := w.rep.Take(b.author(), items)
	check(t, err)
	if after := w.outside(); after != before {
		t.Fatalf("outside there is\n%s\nnot\n%s", after, before)
	}
	for range 2 { // also in another life
		w.load()
	}
	b.place(converge.Key{File: sharefs.FileID{100}}, record.Regular, "top/in/draft")
	b.place(converge.Key{File: sharefs.FileID{101}}, record.Directory, "top/in/mine")
	w.tell(b)
	all := w.rep.tree.Result()
	for _, path := range []string{"top/in/draft", "top/in/mine/sub/file"} {
		if n, ok := all[path]; !ok || n.Live.IsZero() {
			t.Errorf("%s: %v, %+v", path, ok, n)
		}
	}
	if all["top/in/draft"].Attr.IsZero() {
		t.Error("it has no attributes")
	}
	if after := w.outside(); after != before {
		t.Errorf("outside there is\n%s\nnot\n%s", after, before)
	}
}

// What was passed over and counts as something comes in is no way around the bound of what may be removed and renamed.
func TestWhatComesInIsHeld(t *testing.T) {
	w := newWard(t)
	w.filled()
	b := w.bert
	w.rep.cfg.Bulk = func(sharefs.PeerID) Bulk { return Bulk{Files: 4, Percent: 50, Least: 2, Within: 10 * time.Minute} }
	for i := range byte(30) {
		w.owner.place(converge.Key{File: sharefs.FileID{150 + i}}, record.Regular, fmt.Sprint("top/in/file", i))
	}
	w.tell(w.owner)
	w.meet()
	w.clock = w.clock.Add(time.Hour)
	for i := range byte(30) { // into a directory that nobody has told of
		b.say(&record.Place{File: sharefs.FileID{150 + i}, Type: record.Regular, Parent: sharefs.FileID{200}, Name: fmt.Sprint("moved", i)})
	}
	w.tell(b)
	b.say(&record.Place{File: sharefs.FileID{200}, Type: record.Directory, Parent: sharefs.FileID{2}, Name: "dir"})
	w.tell(b)
	moved := 0
	for path := range w.rep.tree.Result() {
		if strings.HasPrefix(path, "top/in/dir/moved") {
			moved++
		}
	}
	if held := w.rep.holding[b.author()]; moved != 4 || held != 26 {
		t.Errorf("%d are moved, and %d are held", moved, held)
	}
}

// What gets the name of a file has it go that is held back from going, also where one item says both.
func TestHeldAndGivenAtOnce(t *testing.T) {
	w := newWard(t)
	w.filled()
	o := w.owner
	w.rep.cfg.Bulk = func(sharefs.PeerID) Bulk { return Bulk{Files: 4, Percent: 50, Least: 2, Within: 10 * time.Minute} }
	for i := range byte(30) {
		o.place(converge.Key{File: sharefs.FileID{150 + i}}, record.Regular, fmt.Sprint("file", i))
	}
	w.tell(o)
	w.clock = w.clock.Add(time.Hour)
	o.remove(o.tree.Result()["file29"])
	w.tell(o)
	w.clock = w.clock.Add(time.Hour)
	for i := range byte(10) {
		o.remove(o.tree.Result()[fmt.Sprint("file", i)])
	}
	o.place(converge.Key{File: sharefs.FileID{179}}, record.Regular, "file9")
	var ids []record.ID
	for _, rec := range o.new {
		ids = append(ids, rec.ID())
	}
	writer := record.Writer{Share: record.ShareID{1}, Head: record.Head{Author: o.author(), Incarnation: 1}}
	batch, err := writer.Batch(o.now, ids, o.key)
	check(t, err)
	_, err = w.rep.Take(o.author(), []Item{{Batch: batch, Records: o.new}})
	check(t, err)
	n, ok := w.rep.tree.Result()["file9"]
	if held := w.rep.holding[o.author()]; !ok || n.Key.File != (sharefs.FileID{179}) || len(n.Conflicts) > 0 || held != 5 {
		t.Errorf("%+v, and %d are held", n, held)
	}
}

// What had gone before it came is no removal, be it in the millisecond in which it came, for records tell no finer time.
func TestWhatGoesAsItComesIsNotHeld(t *testing.T) {
	for at, want := range map[time.Duration]int{0: 0, time.Millisecond: 26} {
		w := newWard(t)
		o := w.owner
		w.rep.cfg.Bulk = func(sharefs.PeerID) Bulk { return Bulk{Files: 4, Percent: 50, Least: 2, Within: 10 * time.Minute} }
		for i := range byte(30) {
			o.place(converge.Key{File: sharefs.FileID{150 + i}}, record.Regular, fmt.Sprint("file", i))
		}
		w.tell(o)
		for i := range byte(30) {
			o.now = sharefs.HLCAt(w.clock.Add(at-time.Millisecond)) + sharefs.HLC(i) // before the millisecond that each record takes
			o.remove(o.tree.Result()[fmt.Sprint("file", i)])
		}
		w.tell(o)
		if held := w.rep.holding[o.author()]; held != want {
			t.Errorf("%v after they came %d are held, not %d", at, held, want)
		}
	}
}

// Moving a directory about in which something is that does not count costs no more each time.
func TestWhatIsPassedOverIsNotJudgedForEver(t *testing.T) {
	w := newWard(t)
	w.filled()
	b := w.bert
	judged := 0
	where := w.rep.cfg.Where
	w.rep.cfg.Where = func(author sharefs.PeerID) (Where, bool) {
		p, ok := where(author)
		standing := p.Standing
		p.Standing = func(path string) Standing { judged++; return standing(path) }
		return p, ok
	}
	const many = 200
	dir := &record.Place{File: sharefs.FileID{200}, Type: record.Directory, Parent: sharefs.FileID{2}, Name: "dir"}
	b.say(dir)
	for i := range uint64(many) {
		b.say(&record.Place{File: sharefs.FileID{6}, Link: 100 + i, Type: record.Regular, Parent: sharefs.FileID{200}, Name: fmt.Sprint("secret", i)})
	}
	w.tell(b)
	judged = 0
	for i := range many {
		moved := *dir
		moved.Name = fmt.Sprint("dir", i)
		b.say(&moved)
		w.tell(b)
	}
	if most := 4 * mostLooks * many; judged > most {
		t.Errorf("judged %d times, %d would do", judged, most)
	}
	if _, ok := w.rep.tree.Result()[fmt.Sprint("top/in/dir", many-1)]; !ok {
		t.Error("it was not moved")
	}
}

// What came one by one and was passed over is kept: it is told on, and counts when it comes again once its author may do more.
func TestPassedOverOneByOne(t *testing.T) {
	w := newWard(t)
	w.filled()
	b := w.bert
	_, before, err := w.rep.Since(0, 1<<20)
	check(t, err)
	b.place(converge.Key{File: sharefs.FileID{100}}, record.Regular, "draft")
	b.version(sharefs.FileID{100})
	b.place(converge.Key{File: sharefs.FileID{101}}, record.Directory, "flat") // as if it led to a part
	said := slices.Clone(b.new)
	w.tell(b)
	items, _, err := w.rep.Since(before, 1<<20)
	check(t, err)
	if len(items) != len(said) {
		t.Errorf("%d of %d records are told on", len(items), len(said))
	}
	w.rep.cfg.Where = nil
	for range 2 {
		w.load()
	}
	if _, ok := w.rep.tree.Result()["draft"]; ok {
		t.Error("it counts without having come again")
	}
	b.new = said
	w.tell(b)
	if n, ok := w.rep.tree.Result()["draft"]; !ok || n.Live.IsZero() {
		t.Errorf("%v, %+v", ok, n)
	}
	if again, _, err := w.rep.Since(before, 1<<20); err != nil || len(again) != len(said) {
		t.Errorf("%d records are told on, %v", len(again), err)
	}
}

// passedOverDraft has a file of bert be passed over, and returns its record and how far the log went before.
func passedOverDraft(t *testing.T) (w *ward, rec *record.Record, before uint64) {
	t.Helper()
	w = newWard(t)
	w.filled()
	_, before, err := w.rep.Since(0, 1<<20)
	check(t, err)
	w.bert.place(converge.Key{File: sharefs.FileID{100}}, record.Regular, "draft")
	rec = w.bert.new[0]
	w.tell(w.bert)
	return w, rec, before
}

// Whoever relays again what was passed over, with another signature, has not that one told on: nobody who is told of it would take it.
func TestPassedOverKeepsItsSignature(t *testing.T) {
	w, rec, before := passedOverDraft(t)
	w.rep.cfg.Where = nil // its author may do more
	raw := rec.Bytes()
	raw[len(raw)-1] ^= 1
	forged, err := record.Decode(raw)
	check(t, err)
	w.bert.new = []*record.Record{forged}
	w.tell(w.bert)
	if _, ok := w.rep.tree.Result()["draft"]; !ok {
		t.Error("it does not count")
	}
	w.toldOn(before, rec.ID())
}

// What was passed over and is told by somebody who counts is told on as its author signed it.
func TestPassedOverAndToldKeepsItsSignature(t *testing.T) {
	w, rec, before := passedOverDraft(t)
	w.owner.now = max(w.owner.now, w.bert.now)
	w.owner.say(&record.Told{Record: rec})
	told, err := record.Decode(w.owner.new[0].Bytes()) // as it comes: the signature stays behind
	check(t, err)
	w.owner.new = []*record.Record{told}
	w.tell(w.owner)
	if _, ok := w.rep.tree.Result()["draft"]; !ok {
		t.Error("it does not count")
	}
	w.toldOn(before, rec.ID(), told.ID())
}

// One whom a part is granted where nothing is yet brings the directories that lead there, which give way to those of others.
func TestTheWayToAPart(t *testing.T) {
	w := newWard(t)
	b, o := w.bert, w.owner
	b.place(converge.Key{File: sharefs.FileID{100}}, record.Directory, "top")
	b.place(converge.Key{File: sharefs.FileID{101}}, record.Directory, "top/in")
	b.place(converge.Key{File: sharefs.FileID{102}}, record.Regular, "top/in/file")
	b.version(sharefs.FileID{102})
	w.tell(b)
	if _, ok := w.rep.tree.Result()["top/in/file"]; !ok {
		t.Fatal("it is not there")
	}
	o.now = 1 << 40
	o.place(converge.Key{File: sharefs.FileID{1}}, record.Directory, "top")
	o.say(&record.Attr{File: sharefs.FileID{1}, Mode: 0o700})
	w.tell(o)
	if n := w.rep.tree.Result()["top"]; n.Key.File != (sharefs.FileID{1}) || n.Attr.IsZero() || len(n.Merged) != 1 {
		t.Errorf("%+v", n)
	}
	if _, ok := w.rep.tree.Result()["top/in/file"]; !ok {
		t.Error("it is gone")
	}
	// A host that begins again knows that it only leads.
	w.load()
	if n := w.rep.tree.Result()["top"]; n.Key.File != (sharefs.FileID{1}) {
		t.Errorf("%+v", n)
	}
}

// TestWhateverAWriterOfAPartSays: of all that somebody can sign who may write a part, nothing changes what is elsewhere.
func TestWhateverAWriterOfAPartSays(t *testing.T) {
	race.Leave(t, race.OneHand)
	rounds := uint64(60)
	if os.Getenv("SHAREFS_SOAK") != "" {
		rounds = 5000
	}
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(seed, 6))
		w := newWard(t)
		w.filled()
		before := w.outside()
		var said []*record.Record
		w.rep.tree.Inputs(func(i converge.Input) { said = append(said, i.Record) })
		slices.SortFunc(said, byOrder)
		for range 60 {
			body := anything(rng, said)
			rec, err := record.New(record.ShareID{1}, w.bert.author(), sharefs.HLC(1+rng.Uint64N(1<<22)), body)
			if err != nil {
				continue
			}
			check(t, rec.Sign(w.bert.key))
			said = append(said, rec)
			w.bert.new = append(w.bert.new, rec)
			if rng.IntN(3) == 0 {
				continue
			}
			w.tell(w.bert)
			if after := w.outside(); after != before {
				t.Fatalf("seed %d: after %+v outside there is\n%s\nnot\n%s", seed, body, after, before)
			}
		}
	}
}

// anything makes a body that no honest host would make, about files that are there, or are not.
func anything(rng *rand.Rand, said []*record.Record) record.Body {
	file := func() sharefs.FileID { return sharefs.FileID{byte(1 + rng.IntN(16))} }
	ids := func() (ids []record.ID) {
		for range rng.IntN(4) {
			ids = append(ids, said[rng.IntN(len(said))].ID())
		}
		slices.SortFunc(ids, record.ID.Compare)
		return slices.Compact(ids)
	}
	typ := func(id sharefs.FileID) record.Type {
		if (id[0] <= 5 || id[0] == 10 || id[0] == 11) != (rng.IntN(15) == 0) {
			return record.Directory
		}
		return record.Regular
	}
	id := file()
	link := uint64(0)
	if typ(id) != record.Directory {
		link = uint64(rng.IntN(3))
	}
	switch rng.IntN(6) {
	case 0, 1, 2:
		parent := file()
		switch rng.IntN(4) {
		case 0:
			parent = record.Root
		case 1:
			parent = sharefs.FileID{2}
		}
		return &record.Place{File: id, Link: link, Type: typ(id), Parent: parent, Name: []string{"top", "in", "a", "out", "secret", "open", "flat", "locked"}[rng.IntN(8)]}
	case 3:
		return &record.Place{File: id, Link: link, Type: typ(id), Parent: record.Nowhere, Seen: ids()}
	case 4:
		return &record.Version{File: id, Parents: ids(), Mtime: sharefs.Time(rng.Int())}
	}
	return &record.Attr{File: id, Mode: uint16(rng.IntN(512))}
}
