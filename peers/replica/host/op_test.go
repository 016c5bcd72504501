package host

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/versions"
)

// theirs lists the operations of other hosts, the newest first, each with who made it and what it changed.
func (s *site) theirs() (out []string) {
	s.t.Helper()
	check(s.t, s.tree.Operations(sharefs.MaxHLC, func(o *versions.Operation) bool {
		if o.Author.IsZero() {
			return true
		}
		out = append(out, o.Author.Short()+s.changed(o))
		return true
	}))
	return out
}

// changed tells what an operation changed.
func (s *site) changed(o *versions.Operation) (line string) {
	s.t.Helper()
	_, changes, err := s.tree.Operation(o.ID)
	check(s.t, err)
	paths, all, err := s.tree.OperationPaths(o, changes, nil)
	check(s.t, err)
	for _, p := range paths {
		line += fmt.Sprintf(" %s:%s>%s", p.Verb, p.Before, p.After)
	}
	if !all || o.Partly {
		line += " and more"
	}
	return line
}

// What comes from another host is an operation of that host, and what it removed is in the trash.
func TestChangesOfOthersAreOperations(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	a.mkdir("d")
	a.write("d/edited", "1")
	a.write("d/gone", "2")
	a.write("moved", "3")
	b.write("of b", "4")
	meet(t, all...)
	if got := b.theirs(); len(got) != 1 || got[0] != a.self.Short()+" made:>d made:>moved" && got[0] != a.self.Short()+" made:>moved made:>d" {
		t.Errorf("%q", got)
	}
	if got := a.theirs(); len(got) != 1 || got[0] != b.self.Short()+" made:>of b" {
		t.Errorf("%q", got)
	}
	b.reopen() // which ends the operation
	a.write("d/edited", "more")
	a.unlink("d/gone")
	a.rename("moved", "d/there")
	a.write("new", "5")
	meet(t, all...)
	b.reopen()
	got := b.theirs()
	if len(got) != 2 {
		t.Fatalf("%q", got)
	}
	for _, want := range []string{" written:d/edited>d/edited", " removed:d/gone>", " renamed-to:moved>d/there", " made:>new"} {
		if !strings.Contains(got[0], want) {
			t.Errorf("%q is missing in %q", want, got[0])
		}
	}
	var trash []string
	check(t, b.tree.Trash("", func(r versions.Trashed) bool { trash = append(trash, r.Name); return true }))
	if !slices.Equal(trash, []string{"gone"}) {
		t.Errorf("in the trash: %q", trash)
	}
	// What is this host's own is noted by whoever asks for it, not here.
	if slices.ContainsFunc(a.theirs(), func(s string) bool { return strings.Contains(s, a.self.Short()) }) {
		t.Errorf("%q", a.theirs())
	}
	for _, s := range all {
		s.right()
	}
}
