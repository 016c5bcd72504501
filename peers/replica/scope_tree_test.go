package replica

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// converges holds that somebody who is told all of it now has the tree that the peer may read.
func (p *partial) converges() {
	p.t.Helper()
	list, _ := p.since(0)
	theirs := converge.New()
	for _, rec := range list {
		theirs.Add(converge.Input{Record: rec, Standing: converge.Merged})
	}
	show := func(tree *converge.Tree) (s string) {
		all := tree.Result()
		for _, path := range slices.Sorted(maps.Keys(all)) {
			if n := all[path]; path != "" && !strings.HasPrefix(path, away) && p.rules.reads(path) {
				s += fmt.Sprintln(path, n.Type, n.Live, n.Attr, len(n.Conflicts), len(n.Merged))
			}
		}
		return s
	}
	if got, want := show(theirs), show(p.cleared()); got != want {
		p.t.Fatalf("the peer has\n%s\nnot\n%s", got, want)
	}
}

// away is how names begin that cleared puts elsewhere.
const away = "~"

// cleared returns the host's tree as it were if what the peer may not read, and does not lead to what it may, had been put elsewhere: a removed directory that nothing else keeps is removed
// there.
func (p *partial) cleared() *converge.Tree {
	files, paths := map[sharefs.FileID]bool{}, map[record.ID]string{}
	p.rep.tree.Inputs(func(i converge.Input) { files[fileOf(i.Record)] = true })
	for id := range files {
		p.rep.tree.Spots(id, func(at converge.Spot) { paths[at.Place] = at.Path })
	}
	tree := converge.New()
	p.rep.tree.Inputs(func(i converge.Input) {
		path, placed := paths[i.Record.ID()]
		b, _ := i.Record.Says().Body.(*record.Place)
		if !placed || p.rules.reads(path) || b.Type == record.Directory && p.leads(paths, path) {
			tree.Add(i)
			return
		}
		moved := *b // at the same time, so that removals of the name, and what came after them, are what they were
		moved.Parent, moved.Name = record.Root, away+i.Record.ID().String()
		rec, err := record.New(i.Record.Share, i.Record.Author, i.Record.HLC, &moved)
		p.check(err)
		tree.Add(converge.Input{Record: rec, Standing: i.Standing})
	})
	return tree
}

// leads reports whether one of some paths is below another one, and may be read.
func (p *partial) leads(paths map[record.ID]string, dir string) bool {
	for _, path := range paths {
		if strings.HasPrefix(path, dir+"/") && p.rules.reads(path) {
			return true
		}
	}
	return false
}

// TestScopeDirectoryThatTheRestKeeps removes a directory in which something stays that a peer may not read. Nothing tells the peer of that: it has the directory no more, and has it again
// as soon as something is in it that it may read.
func TestScopeDirectoryThatTheRestKeeps(t *testing.T) {
	dir, secret, open := sharefs.FileID{1}, sharefs.FileID{2}, sharefs.FileID{3}
	told := map[bool][]string{} // by whether the host keeps the directory
	for _, kept := range []bool{false, true} {
		p, w := newPartial(t, scopeRules{"": true, "*.key": false}), newPen()
		has := func(path string, there, here bool) {
			t.Helper()
			p.converges()
			list, _ := p.since(0)
			theirs := converge.New()
			for _, rec := range list {
				theirs.Add(converge.Input{Record: rec, Standing: converge.Merged})
			}
			_, got := theirs.Result()[path]
			if _, at := p.rep.tree.Result()[path]; got != there || at != here {
				t.Fatalf("kept %v: %s is there %v, not %v, and here %v, not %v", kept, path, got, there, at, here)
			}
		}
		w.place(converge.Key{File: dir}, record.Directory, "a")
		w.place(converge.Key{File: secret}, record.Regular, "a/k.key")
		w.version(secret)
		p.take(w.new...)
		has("a", true, true)
		has("a/k.key", false, true)
		_, last := p.since(0)

		seen := w.tree.Heads(secret)
		w.new = nil
		if kept {
			w.version(secret) // which nobody saw who removed it
		}
		p.take(w.new...)
		w.new, w.now = nil, 1<<30
		w.say(&record.Place{File: secret, Type: record.Regular, Parent: record.Nowhere, Seen: seen})
		w.say(&record.Place{File: dir, Type: record.Directory, Parent: record.Nowhere})
		p.take(w.new...)
		has("a", false, kept)
		list, _ := p.since(last)
		for _, rec := range list {
			told[kept] = append(told[kept], string(rec.Bytes()))
		}

		w.new = nil
		w.say(&record.Place{File: open, Type: record.Regular, Parent: dir, Name: "b"})
		p.take(w.new...)
		has("a/b", true, true)
	}
	if len(told[true]) != 1 || !slices.Equal(told[true], told[false]) {
		t.Fatalf("the peer is told\n%q where the directory is kept, and otherwise\n%q", told[true], told[false])
	}
}

// TestScopeNameThatComesBack has a name come and go at once, so that the peer is told nothing of it, and come back in place of the other one of the file, since nobody who removed the two
// knew of the other removal. The peer has to know that it was removed: otherwise the file is there by that name, and a version that brings both back brings nothing.
func TestScopeNameThatComesBack(t *testing.T) {
	p, w, file := newPartial(t, scopeRules{"": true}), newPen(), sharefs.FileID{1}
	p.since(0) // from here on there is a log
	has := func(names ...string) {
		t.Helper()
		p.take(w.new...)
		w.new = nil
		p.converges()
		if got := slices.Sorted(maps.Keys(p.rep.tree.Result())); !slices.Equal(got, append([]string{""}, names...)) {
			t.Fatalf("%q are there, not %q", got, names)
		}
	}
	gone := func(link uint64) {
		w.say(&record.Place{File: file, Link: link, Type: record.Regular, Parent: record.Nowhere, Seen: w.tree.Heads(file)})
	}
	w.place(converge.Key{File: file}, record.Regular, "a")
	w.version(file)
	has("a")
	w.place(converge.Key{File: file, Link: 1}, record.Regular, "b")
	gone(1)
	has("a")
	w.version(file)
	gone(0)
	has("b")
	w.version(file)
	has("a", "b")
}

// TestScopesOfSeveralPeers has several peers read the same part: all are told the same.
func TestScopesOfSeveralPeers(t *testing.T) {
	for seed := range uint64(10) {
		p, w := newPartial(t, scopeRules{"": true, "b": false}), newPen()
		cfg := p.rep.cfg
		cfg.Scope = func(sharefs.PeerID) (Scope, bool) { return p.rules.scope(), true }
		var err error
		p.rep, err = Open(cfg)
		check(t, err)
		rnd := rand.New(rand.NewPCG(seed, 6))
		for step := range 40 {
			var first []string
			for peer := range byte(3) {
				id := sharefs.PeerID{1 + peer}
				log, _, err := p.rep.ScopeLog(id)
				check(t, err)
				items, err := p.rep.ScopeSince(id, log, 0, 1<<20)
				check(t, err)
				told := []string{}
				for _, it := range items {
					for _, rec := range it.Records {
						told = append(told, fmt.Sprintf("%d %+v", it.Number, rec.Body))
					}
				}
				if first == nil {
					first = told
				} else if !slices.Equal(first, told) {
					t.Fatalf("seed %d, step %d: one is told\n%s\nand another one\n%s", seed, step, strings.Join(first, "\n"), strings.Join(told, "\n"))
				}
			}
			w.work(rnd.IntN)
			p.take(w.new...)
			w.new = nil
		}
	}
}

// TestScopeRemovalOfALaterVersion has a file changed and removed before the peer is told of the change, and be there again after that: the removal has seen a version that the peer lacks, and
// speaks of what it has all the same.
func TestScopeRemovalOfALaterVersion(t *testing.T) {
	for _, atOnce := range []bool{true, false} {
		p, w, file := newPartial(t, scopeRules{"a": true}), newPen(), sharefs.FileID{1}
		theirs, last := converge.New(), uint64(0)
		has := func(want bool) {
			t.Helper()
			p.take(w.new...)
			w.new = nil
			var list []*record.Record
			list, last = p.since(last)
			for _, rec := range list {
				theirs.Add(converge.Input{Record: rec, Standing: converge.Merged})
			}
			if _, got := theirs.Result()["a"]; got != want {
				t.Fatalf("at once %v: the peer has it: %v", atOnce, got)
			}
			p.converges()
		}
		w.place(converge.Key{File: file}, record.Regular, "a")
		w.version(file)
		has(true)
		w.version(file)
		if !atOnce { // it is here, and the peer is told later
			p.take(w.new...)
			w.new = nil
		}
		w.remove(w.tree.Result()["a"])
		has(false)
		p.open()
		has(false)
		w.place(converge.Key{File: file, Link: 1}, record.Regular, "a")
		has(true)
		w.version(file)
		has(true)
	}
}
