package converge

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"sharefs"
	"sharefs/peers/record"
)

// TestRules begins with one tree (base), changes it on two sides that do not hear of each other, and lets them meet: each rule of the package comment by an
// example. The second side works later, unless its clock is set back.
func TestRules(t *testing.T) {
	type step func(h *host)
	all := func(steps ...step) step {
		return func(h *host) {
			for _, s := range steps {
				s(h)
			}
		}
	}
	mkdir := func(p string) step { return func(h *host) { h.mkdir(p) } }
	create := func(p, c string) step { return func(h *host) { h.create(p, c) } }
	write := func(p, c string) step { return func(h *host) { h.write(p, c) } }
	remove := func(p string) step { return func(h *host) { h.remove(p) } }
	rename := func(a, b string) step { return func(h *host) { h.rename(a, b) } }
	link := func(a, b string) step { return func(h *host) { h.link(a, b) } }
	chmod := func(p string, m uint16) step { return func(h *host) { h.chmod(p, m) } }
	symlink := func(p, c string) step { return func(h *host) { h.symlink(p, c) } }
	nothing := step(func(*host) {})
	ab := all(mkdir("a"), mkdir("b"))
	for name, c := range map[string]struct {
		base, one, two step
		want           string
	}{
		"nothing":                             {nothing, nothing, nothing, ""},
		"both sides":                          {nothing, create("x", "1"), mkdir("y"), "x=1 y/"},
		"move into each other":                {ab, rename("a", "b/a"), rename("b", "a/b"), "b/ b/a/"},
		"move in a circle of three":           {all(ab, mkdir("c")), all(rename("a", "b/a"), rename("b", "c/b")), rename("c", "a/c"), "c/ c/b/ c/b/a/"},
		"move in a circle, then out again":    {ab, all(rename("a", "b/a"), rename("b/a", "a")), rename("b", "a/b"), "a/ a/b/"},
		"move to two places":                  {all(ab, create("x", "1")), rename("x", "a/x"), rename("x", "b/x"), "a/ b/ b/x=1"},
		"rename to two names":                 {create("x", "1"), rename("x", "y"), rename("x", "z"), "z=1"},
		"edit on both sides":                  {create("x", "1"), write("x", "2"), write("x", "3"), "x=3!1"},
		"the longer history is live":          {create("x", "1"), all(write("x", "2"), write("x", "4")), write("x", "3"), "x=4!1"},
		"the same edit on both sides":         {create("x", "1"), write("x", "2"), write("x", "2"), "x=2"},
		"edit and rename":                     {create("x", "1"), write("x", "2"), rename("x", "y"), "y=2"},
		"remove and edit":                     {create("x", "1"), remove("x"), write("x", "2"), "x=2"},
		"edit and remove":                     {create("x", "1"), write("x", "2"), remove("x"), "x=2"},
		"remove on both sides":                {create("x", "1"), remove("x"), remove("x"), ""},
		"remove, and chmod":                   {create("x", "1"), remove("x"), chmod("x", 0o600), ""},
		"rename, and later remove":            {create("x", "1"), rename("x", "y"), remove("x"), ""},
		"remove, and later rename":            {create("x", "1"), remove("x"), rename("x", "y"), "y=1"},
		"create and create":                   {nothing, create("x", "1"), create("x", "2"), "x=2!1"},
		"create the same":                     {nothing, create("x", "1"), create("x", "1"), "x=1"},
		"create and create, edited":           {nothing, all(create("x", "1"), write("x", "3")), create("x", "2"), "x=3!1"},
		"mkdir and mkdir":                     {nothing, all(mkdir("d"), create("d/x", "1")), all(mkdir("d"), create("d/y", "2")), "d/ d/x=1 d/y=2"},
		"mkdir and mkdir, deep":               {nothing, all(mkdir("d"), mkdir("d/e"), create("d/e/x", "1")), all(mkdir("d"), mkdir("d/e"), create("d/e/x", "2")), "d/ d/e/ d/e/x=2!1"},
		"mkdir and create":                    {nothing, mkdir("x"), create("x", "1"), "x/!1"},
		"mkdir and symlink":                   {nothing, symlink("x", "a"), all(mkdir("x"), create("x/y", "1")), "x/!1 x/y=1"},
		"symlink and file":                    {nothing, symlink("x", "a"), create("x", "1"), "x=1!1"},
		"rename to one name":                  {all(create("x", "1"), create("y", "2")), rename("x", "z"), rename("y", "z"), "z=2!1"},
		"rename directories to one name":      {all(ab, create("a/x", "1"), create("b/y", "2")), rename("a", "c"), rename("b", "c"), "c/ c/x=1 c/y=2"},
		"rename over, and edit below":         {all(create("x", "1"), create("y", "2")), rename("y", "x"), write("x", "3"), "x=2!1"},
		"rename over, and edit":               {all(create("x", "1"), create("y", "2")), rename("y", "x"), write("y", "3"), "x=3"},
		"save by replacing, twice":            {create("x", "1"), all(create("t", "2"), rename("t", "x")), all(create("u", "3"), rename("u", "x")), "x=3!1"},
		"remove a directory, create in it":    {mkdir("d"), remove("d"), create("d/x", "1"), "d/ d/x=1"},
		"create in a directory, remove it":    {mkdir("d"), create("d/x", "1"), remove("d"), "d/ d/x=1"},
		"remove a directory, move into it":    {all(ab, create("b/x", "1")), remove("a"), rename("b", "a/b"), "a/ a/b/ a/b/x=1"},
		"remove it, create and remove in it":  {mkdir("d"), remove("d"), all(create("d/x", "1"), remove("d/x")), ""},
		"remove all, edit one":                {all(mkdir("d"), mkdir("d/e"), create("d/e/x", "1"), create("d/y", "1")), func(h *host) { h.removeAll("d") }, write("d/e/x", "2"), "d/ d/e/ d/e/x=2"},
		"move into a directory that moves":    {all(ab, create("x", "1")), rename("x", "a/x"), rename("a", "b/a"), "b/ b/a/ b/a/x=1"},
		"link, and edit":                      {create("x", "1"), link("x", "y"), write("x", "2"), "x=2 y=2"},
		"unlink one name, and edit":           {all(create("x", "1"), link("x", "y")), remove("y"), write("x", "2"), "x=2"},
		"unlink each name on another side":    {all(create("x", "1"), link("x", "y")), remove("x"), remove("y"), ""},
		"unlink one, then edit, then other":   {all(create("x", "1"), link("x", "y")), all(remove("x"), write("y", "2"), remove("y")), nothing, ""},
		"unlink both, and edit":               {all(create("x", "1"), link("x", "y")), all(remove("x"), remove("y")), write("x", "2"), "x=2 y=2"},
		"unlink one, edit and unlink other":   {all(create("x", "1"), link("x", "y")), remove("x"), all(write("x", "2"), remove("y")), "x=2"},
		"link and remove":                     {create("x", "1"), link("x", "y"), remove("x"), "y=1"},
		"chmod on both sides":                 {create("x", "1"), chmod("x", 0o600), chmod("x", 0o640), "x=1"},
		"remove, create again, edit":          {create("x", "1"), all(remove("x"), create("x", "5")), write("x", "2"), "x=5!1"},
		"swap names":                          {all(create("x", "1"), create("y", "2")), all(rename("x", "t"), rename("y", "x"), rename("t", "y")), nothing, "x=2 y=1"},
		"swap directories, one in the other":  {all(mkdir("a"), mkdir("a/b"), create("a/x", "1")), all(rename("a/b", "b"), rename("a", "b/a")), nothing, "b/ b/a/ b/a/x=1"},
		"directory takes the name of another": {all(ab, create("a/x", "1"), create("b/y", "2")), all(rename("a", "b/a"), rename("b", "c"), rename("c/a", "b")), nothing, "b/ b/x=1 c/ c/y=2"},
	} {
		for _, order := range []string{"one first", "two first"} {
			t.Run(name+", "+order, func(t *testing.T) {
				hosts := newHosts(t, 2)
				one, two := hosts[0], hosts[1]
				c.base(one)
				meet(one, two)
				c.one(one)
				c.two(two)
				if order == "two first" {
					slices.Reverse(hosts)
				}
				meet(hosts...)
				for _, h := range hosts {
					h.check()
					if got := h.shows(); got != c.want {
						t.Errorf("%s\nwant %s\n%s", got, c.want, text(h.tree.Result()))
					}
				}
				fresh := newHosts(t, 1)[0]
				fresh.take(one.all()...)
				if d := differ(fresh.tree.Result(), two.tree.Result()); d != "" {
					t.Error(d)
				}
			})
		}
	}
}

// TestResolve: writing what merges the heads ends a conflict, and so does renaming one of two that have one name.
func TestResolve(t *testing.T) {
	hosts := newHosts(t, 2)
	one, two := hosts[0], hosts[1]
	x := one.create("x", "1")
	meet(one, two)
	one.write("x", "2")
	two.write("x", "3")
	one.create("y", "4")
	two.create("y", "5")
	meet(one, two)
	if got := one.shows(); got != "x=3!1 y=5!1" {
		t.Fatal(got)
	}
	one.version(x.File, "2 and 3", true)
	loser := one.node("y").Conflicts[0].Key
	two.place(loser, record.Regular, record.Root, "z")
	meet(one, two)
	for _, h := range hosts {
		h.check()
		if got := h.shows(); got != "x=2 and 3 y=5 z=4" {
			t.Error(got)
		}
	}
}

// TestWaiting: what comes before what it needs waits, and is then as if it had come in order.
func TestWaiting(t *testing.T) {
	author := newHosts(t, 1)[0]
	d := author.mkdir("d")
	x := author.create("d/x", "1")
	author.write("d/x", "2")
	author.mkdir("d/e")
	author.rename("d/x", "d/e/x")
	all := author.all()
	slices.SortFunc(all, func(a, b Input) int { return b.Record.Order().Compare(a.Record.Order()) }) // the last first
	h := newHosts(t, 1)[0]
	for _, i := range all {
		if i.Record.File() != d {
			h.take(i)
			h.check()
		}
	}
	if got := h.shows(); got != "" {
		t.Errorf("in a directory that is not known: %s", got)
	}
	if got := h.tree.Orphans(); !slices.Equal(got, []Key{x}) {
		t.Errorf("orphans %v, want the file, in a directory that has no place", got)
	}
	h.take(all...)
	h.check()
	if got := h.shows(); got != "d/ d/e/ d/e/x=2" {
		t.Error(got)
	}
}

// TestUnknownParentFallsBack: what was moved to where this host knows nothing of stays where it was.
func TestUnknownParentFallsBack(t *testing.T) {
	h := newHosts(t, 1)[0]
	x, d := h.create("x", "1"), h.mkdir("d")
	far := sharefs.FileID{9}
	h.place(x, record.Regular, far, "x")
	h.place(Key{File: d}, record.Directory, far, "d")
	h.check()
	if got := h.shows(); got != "d/ x=1" {
		t.Error(got)
	}
	h.place(Key{File: far}, record.Directory, record.Root, "far")
	h.check()
	if got := h.shows(); got != "far/ far/d/ far/x=1" {
		t.Error(got)
	}
}

// TestTypeClash: a file is what its first placement says, also if that comes late.
func TestTypeClash(t *testing.T) {
	hosts := newHosts(t, 2, 0, -500)
	one, two := hosts[0], hosts[1]
	id := one.mkdir("d")
	one.create("d/x", "1")
	// A hostile author claims that it was a file, earlier.
	two.place(Key{File: id}, record.Regular, record.Root, "d")
	two.version(id, "evil")
	meet(one, two)
	for _, h := range hosts {
		h.check()
		if got := h.shows(); got != "d=evil" {
			t.Error(got)
		}
	}
	if len(one.tree.Orphans()) != 0 {
		t.Error("x has no possible place") // its only placement is in what is no directory
	}
	// And back, with an earlier one still.
	one.skew = -900
	r := one.say(&record.Place{File: id, Type: record.Directory, Name: "d"})
	two.take(Input{r, Merged})
	for _, h := range hosts {
		h.check()
		if got := h.shows(); got != "d/ d/x=1" {
			t.Error(got)
		}
	}
}

// TestKnownVersions: what an author of low trust writes changes nothing, until somebody who is trusted goes on from it.
func TestKnownVersions(t *testing.T) {
	hosts := newHosts(t, 3)
	me, low, friend := hosts[0], hosts[1], hosts[2]
	x := me.create("x", "1")
	meet(hosts...)
	v := low.write("x", "low")
	before := me.tree.Result()
	me.take(Input{v, Known})
	me.check()
	if d := differ(before, me.tree.Result()); d != "" {
		t.Fatal(d)
	}
	friend.take(Input{v, Merged}) // who trusts it
	w := friend.write("x", "better")
	me.take(Input{w, Merged})
	me.check()
	if got := me.shows(); got != "x=better" {
		t.Error(got)
	}
	// Accepted afterwards, it is an ancestor only.
	me.take(Input{v, Merged})
	me.check()
	if got := me.shows(); got != "x=better" || len(me.tree.Heads(x.File)) != 1 {
		t.Error(got)
	}
	y := low.write("x", "other")
	me.take(Input{y, Known})
	me.take(Input{y, Merged})
	me.check()
	if got := me.shows(); got != "x=other!1" {
		t.Error(got)
	}
}

// TestStalePeer: a removed file does not come back through a peer that knows nothing of the removal, whatever that peer sends of what it has.
func TestStalePeer(t *testing.T) {
	hosts := newHosts(t, 2)
	me, stale := hosts[0], hosts[1]
	me.mkdir("d")
	for i := range 5 {
		me.create(fmt.Sprintf("d/%d", i), "1")
		me.write(fmt.Sprintf("d/%d", i), "2")
	}
	meet(hosts...)
	image := stale.all() // as on a disk that is restored later
	me.removeAll("d")
	meet(hosts...)
	if stale.shows() != "" {
		t.Fatal(stale.shows())
	}
	restored := newHosts(t, 1)[0]
	restored.author = stale.author
	restored.take(image...)
	meet(restored, me)
	for _, h := range []*host{restored, me} {
		h.check()
		if got := h.shows(); got != "" {
			t.Error(got)
		}
	}
	// A peer that lost everything authors nothing, so it removes nothing.
	me.create("x", "1")
	empty := newHosts(t, 1)[0]
	meet(empty, me)
	if me.shows() != "x=1" || empty.shows() != "x=1" {
		t.Error(me.shows(), empty.shows())
	}
}

// TestAddingAgainIsNothing: records that are there change nothing.
func TestAddingAgainIsNothing(t *testing.T) {
	h := newHosts(t, 1)[0]
	h.mkdir("d")
	h.create("d/x", "1")
	h.rename("d/x", "y")
	h.remove("d")
	if ops := h.tree.Add(h.all()...); len(ops) != 0 {
		t.Errorf("%v", ops)
	}
}

// TestRenameOfADirectoryIsOneOperation, whatever is in it.
func TestRenameOfADirectoryIsOneOperation(t *testing.T) {
	h := newHosts(t, 1)[0]
	d := h.mkdir("d")
	for i := range 20 {
		h.create(fmt.Sprintf("d/%d", i), "1")
	}
	r, err := record.New(record.ShareID{}, h.author, 1<<40, &record.Place{File: d, Type: record.Directory, Name: "e"})
	if err != nil {
		t.Fatal(err)
	}
	if ops := h.tree.Add(Input{r, Merged}); len(ops) != 1 || ops[0].Verb != Move {
		t.Errorf("%v", ops)
	}
}

// TestRemovalThatSawMore: a file is there until the versions have come that its remover had seen, whether they count here or are only known.
func TestRemovalThatSawMore(t *testing.T) {
	for _, standing := range []Standing{Merged, Known} {
		hosts := newHosts(t, 2)
		one, two := hosts[0], hosts[1]
		one.create("x", "1")
		meet(one, two)
		v := one.write("x", "2")
		one.remove("x")
		for _, i := range one.all() {
			if i.Record != v {
				two.take(i)
			}
		}
		two.check()
		if got := two.shows(); got != "x=1" {
			t.Error(got)
		}
		two.take(Input{v, standing})
		two.check()
		if got := two.shows(); got != "" {
			t.Error(got)
		}
	}
}

// TestMoveThatBecomesImpossible: a directory that was removed and moved, by a move that a late record makes impossible, is removed.
func TestMoveThatBecomesImpossible(t *testing.T) {
	h := newHosts(t, 1)[0]
	d, e := sharefs.FileID{0xd}, sharefs.FileID{0xe}
	place := func(at sharefs.HLC, id, parent sharefs.FileID, name string) {
		t.Helper()
		r, err := record.New(record.ShareID{}, h.author, at, &record.Place{File: id, Type: record.Directory, Parent: parent, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		h.take(Input{r, Merged})
		h.check()
	}
	place(1, d, record.Root, "d")
	place(2, e, record.Root, "e")
	place(3, d, record.Nowhere, "")
	place(6, d, e, "d")
	place(9, e, record.Nowhere, "")
	if got := h.shows(); got != "e/ e/d/" {
		t.Error(got)
	}
	place(5, e, d, "e")
	if got := h.shows(); got != "" {
		t.Error(got)
	}
}

// TestNoDetours: names that follow each other move in the order that needs no limbo, and a swap needs one move more.
func TestNoDetours(t *testing.T) {
	file := func(id byte, name string) Node {
		return Node{Key: Key{File: sharefs.FileID{id}}, Type: record.Regular, Slot: Slot{record.Root, name}}
	}
	for _, c := range []struct {
		from, to []string
		want     int
	}{{[]string{"a", "b", "c"}, []string{"b", "c", "d"}, 3}, {[]string{"b", "c", "d"}, []string{"a", "b", "c"}, 3}, {[]string{"a", "b"}, []string{"b", "a"}, 3}, {[]string{"a", "b", "c"}, []string{"b", "c", "a"}, 4}} {
		from, to := Result{}, Result{}
		for i := range c.from {
			from[c.from[i]], to[c.to[i]] = file(byte(i+1), c.from[i]), file(byte(i+1), c.to[i])
		}
		if ops := Diff(from, to); len(ops) != c.want {
			t.Errorf("%v to %v: %d operations, want %d", c.from, c.to, len(ops), c.want)
		}
	}
}

// New directories cost no more when each is before all others, as a writer can say who means harm: nothing is carried out again for them.
func TestNewDirectoriesBeforeAllOthers(t *testing.T) {
	const n = 200
	all := make([]Input, 0, n)
	for i := range n {
		parent := record.Root
		if i%3 > 0 {
			parent = sharefs.FileID{1, byte(i - 1)}
		}
		r, err := record.New(record.ShareID{}, sharefs.PeerID{1}, sharefs.HLC(1+n-i), &record.Place{File: sharefs.FileID{1, byte(i)}, Type: record.Directory, Parent: parent, Name: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Input{r, Merged})
	}
	one, both := New(), New()
	for i, in := range all {
		if one.Add(in); one.redo != nil {
			t.Fatalf("directory %d: something was carried out again", i)
		}
		if len(one.log) != i+1 || !slices.IsSortedFunc(one.log, (*move).compare) {
			t.Fatalf("directory %d: the log has %d", i, len(one.log))
		}
	}
	both.Add(all[:n/2]...)
	both.Add(all[n/2:]...)
	want, _ := Whole(all)
	if !reflect.DeepEqual(one.Result(), want) || !reflect.DeepEqual(both.Result(), want) {
		t.Error("it is not what is specified")
	}
}
