package host

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/versions"
)

// A host that ends, or whose database fails, after a file got another host's content and before the account says so: whoever writes to the file or removes it then has seen that content.
func TestWhatWasSeenBeforeTheAccountKnew(t *testing.T) {
	for name, c := range map[string]struct {
		before func(a, b *site) // both have been told of each other's
		news   func(a *site)
		then   func(b *site)
		later  string // of a, which comes before b writes down what was done; empty: nothing
		want   string // of f; empty: it is gone
	}{
		"a new file is written to": {news: func(a *site) { a.write("f", "of a") }, then: func(b *site) { b.write("f", "of b") }, want: "of b"},
		"a new file is written to twice": {news: func(a *site) { a.write("f", "of a") }, want: "of b again", then: func(b *site) {
			b.write("f", "of b")
			b.settle()
			b.write("f", "of b again")
		}},
		"a file is written to":  {before: func(a, b *site) { a.write("f", "before") }, news: func(a *site) { a.write("f", "of a") }, then: func(b *site) { b.write("f", "of b") }, want: "of b"},
		"a file is removed":     {before: func(a, b *site) { a.write("f", "before") }, news: func(a *site) { a.write("f", "of a") }, then: func(b *site) { b.unlink("f") }},
		"a new file is removed": {news: func(a *site) { a.write("f", "of a") }, then: func(b *site) { b.unlink("f") }},
		"a new file is written to and removed": {news: func(a *site) { a.write("f", "of a") }, then: func(b *site) {
			b.write("f", "of b")
			b.settle()
			b.unlink("f")
		}},
		"a new file is renamed and removed": {news: func(a *site) { a.write("f", "of a") }, then: func(b *site) {
			b.rename("f", "g")
			b.unlink("g")
		}},
		"a new file is made, and another one saved over it": {news: func(a *site) { a.write("f", "of a") }, want: "of b", then: func(b *site) {
			b.write("g", "of b")
			b.settle()
			b.rename("g", "f")
		}},
		"a file is saved by a rename": {before: func(a, b *site) { a.write("f", "before") }, news: func(a *site) { a.write("f", "of a") }, want: "of b", then: func(b *site) {
			b.write("f.tmp", "of b")
			b.settle()
			b.rename("f.tmp", "f")
		}},
		"the other one wrote on": {before: func(a, b *site) { a.write("f", "before") }, news: func(a *site) { a.write("f", "of a") }, then: func(*site) {}, later: "of a again", want: "of a again"},
		"it was in conflict": {before: func(a, b *site) { a.write("f", "before") }, want: "of both", then: func(b *site) { b.write("f", "of both") }, news: func(a *site) {
			b := a.all[1]
			b.write("f", "of b")
			b.settle()
			b.tell()
			for _, content := range []string{"of a", "of a again"} { // which has more changes behind it, and will be live
				a.write("f", content)
				a.settle()
				a.tell()
			}
		}},
	} {
		for _, again := range []bool{false, true} {
			how := ", the database fails"
			if again {
				how = ", the host ends"
			}
			t.Run(name+how, func(t *testing.T) {
				t.Parallel()
				all := sites(t, 2)
				a, b := all[0], all[1]
				if c.before != nil {
					c.before(a, b)
				}
				meet(t, all...)
				c.news(a)
				a.settle()
				a.tell()
				b.hear(a, 1<<20)
				b.store.fail, b.store.only = true, uint8(slices.Index(replica.Spaces, "inode")+1)
				if _, err := b.apply(); !errors.Is(err, errDisk) {
					t.Fatal(err)
				}
				b.store.fail, b.store.only = false, 0
				want := a.read(a.find("f"))
				if got := b.read(b.find("f")); got != want {
					t.Fatalf("b shows %q, not %q", got, want)
				}
				if again {
					b.reopen()
				}
				c.then(b)
				b.settle()
				if c.later != "" {
					a.write("f", c.later)
					a.settle()
					a.tell()
					b.hear(a, 1<<20)
				}
				meet(t, all...)
				same(t, all...)
				noConflicts(t, all...)
				for _, s := range all {
					ino := s.find("f")
					if c.want == "" && ino != 0 {
						t.Errorf("it is there: %q", s.read(ino))
					} else if c.want != "" && (ino == 0 || s.read(ino) != c.want) {
						t.Errorf("there is\n%s", s.shows())
					}
					s.right()
				}
			})
		}
	}
}

// What a conflict leaves in the history of a file, which never held it, is no change of the file.
func TestWhatIsKeptBesideWasNotHeld(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	a.write("f", "before")
	meet(t, all...)
	a.write("f", "of a")
	b.write("f", "of b")
	meet(t, all...)
	for _, s := range all {
		list := s.conflicts()
		if len(list) != 1 || len(list[0].Others) != 1 {
			t.Fatalf("%+v", list)
		}
		other := list[0].Others[0].Version
		c := content(other.Body.(*record.Version))
		l, _, err := s.tree.Gather([]versions.Content{c}, s)
		check(t, err)
		_, err = s.tree.Beside(s.find("f"), versions.Foreign{Content: c, Author: other.Author})
		check(t, err)
		l.End()
		if n, err := s.rep.Author(); n != 0 || err != nil {
			t.Errorf("%d records are written down: %v", n, err)
		}
	}
	meet(t, all...)
	for _, s := range all {
		if list := s.conflicts(); len(list) != 1 {
			t.Errorf("%+v", list)
		}
	}
}

// A file that another host made, and wrote nothing to yet, is here without a version: that somebody had it open is no version of it, and does not keep it when its author removes it.
func TestAnEmptyFileOfAnotherHostThatWasOpen(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	for _, name := range []string{"f", "g"} {
		made, err := a.tree.Mknod(sharefs.RootIno, name, sharefs.ModeRegular|0o644, 0, root)
		check(t, err)
		a.tree.Forget(made.Ino, 1)
	}
	meet(t, all...)
	if l, err := b.tree.Latest(b.find("f")); err != nil || l.Own != 0 {
		t.Fatalf("%+v %v", l, err)
	}
	for _, name := range []string{"f", "g"} {
		h, err := b.tree.Open(b.find(name), unix.O_RDWR, root)
		check(t, err)
		defer h.Close()
	}
	b.reopen() // a start looks at what was open
	begun := func(name string) bool {
		l, err := b.tree.Latest(b.find(name))
		check(t, err)
		return l.Own > 0 && l.Kept
	}
	for until := time.Now().Add(time.Minute); !begun("f") || !begun("g"); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("what a start finds is no version")
		}
	}
	a.write("f", "of a")
	a.write("g", "of a")
	a.settle()
	a.tell()
	a.unlink("f")
	if n, err := b.rep.Author(); n != 0 || err != nil {
		t.Errorf("%d records are written down: %v", n, err)
	}
	meet(t, all...)
	same(t, all...)
	noConflicts(t, all...)
	for _, s := range all {
		if s.find("f") != 0 || s.read(s.find("g")) != "of a" {
			t.Errorf("there is\n%s", s.shows())
		}
		s.right()
	}
}

// A host whose database fails while it makes files, and that ends before the author has come, still knows what it was about to make: what was made and removed meanwhile stays removed.
func TestWhatWasBeingMadeIsKnownAfterAFailure(t *testing.T) {
	t.Parallel()
	all := sites(t, 2)
	a, b := all[0], all[1]
	meet(t, all...)
	for i := range 300 { // so that some are made before the others are ready
		a.write(fmt.Sprint(i), fmt.Sprint("content ", i))
	}
	a.settle()
	a.tell()
	b.hear(a, 1<<20)
	gone := ""
	b.staging = func() {
		if _, files, _ := b.paths(); len(files) > 0 && gone == "" {
			gone = files[0]
			b.mkdir("d")
			b.store.fail = true
			if _, err := b.rep.Author(); !errors.Is(err, errDisk) {
				t.Error(err)
			}
			b.store.fail = false
			b.unlink(gone)
		}
	}
	_, err := b.apply()
	check(t, err)
	if gone == "" {
		t.Fatal("all was made at once")
	}
	b.staging = nil
	b.reopen()
	meet(t, all...)
	same(t, all...)
	if _, files, _ := b.paths(); slices.Contains(files, gone) || len(files) != 299 {
		t.Errorf("%d files, and what was removed is there: %v", len(files), slices.Contains(files, gone))
	}
	b.right()
}
