package host

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/peers/replica"
	"sharefs/versions"
)

// own lists the operations that no other host made, the newest first: the command, and what each changed.
func (s *site) own() (out []string) {
	s.t.Helper()
	check(s.t, s.tree.Operations(sharefs.MaxHLC, func(o *versions.Operation) bool {
		if o.Author.IsZero() {
			out = append(out, o.Command+s.changed(o))
		}
		return true
	}))
	return out
}

// What was decided is an operation of its own, also if it is done together with what was decided otherwise, and if it has to wait. A decision knows what of it is left.
func TestADecisionIsAnOperation(t *testing.T) {
	all := sites(t, 4)
	a, b, c, d := all[0], all[1], all[2], all[3]
	a.write("edited", "of a")
	meet(t, all...)
	b.write("of b", "1")
	b.write("edited", "of b")
	c.write("of c", "1")
	d.write("of d", "1")
	meet(t, all...)
	var made []*replica.Decision
	for i, s := range []*site{b, c, d} {
		of := a.rep.Decision(fmt.Sprint("purge ", i))
		if i == 2 {
			of = nil
		} else {
			made = append(made, of)
		}
		_, err := a.rep.Purge(of, s.self, false)
		check(t, err)
	}
	h, err := a.tree.Open(a.find("edited"), unix.O_RDWR, root)
	check(t, err)
	if n, err := a.apply(); err != nil || n != 1 {
		t.Fatalf("%d wait, %v", n, err)
	}
	for i, want := range []int{1, 0} {
		if n, skipped, one, err := a.rep.Left(made[i]); n != want || skipped != 0 || (one == "edited") != (want == 1) || err != nil {
			t.Errorf("%d: %d, %d, %q, %v", i, n, skipped, one, err)
		}
	}
	check(t, h.Close())
	meet(t, all...)
	if n, _, _, err := a.rep.Left(made[0]); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	a.reopen()
	got := a.own()
	slices.Sort(got)
	if want := []string{"sharefs purge 0 written:edited>edited removed:of b>", "sharefs purge 1 removed:of c>", "sharefs, a decision about peers removed:of d>"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Whoever decides at the same time as others, and while what was decided is done, has an operation of his own.
func TestDecisionsAtOnce(t *testing.T) {
	all := sites(t, 5)
	a := all[0]
	for i, s := range all[1:] {
		for k := range 20 {
			s.write(fmt.Sprintf("%d-%d", i, k), "1")
		}
	}
	meet(t, all...)
	var hands sync.WaitGroup
	for i, s := range all[1:] {
		hands.Go(func() {
			of := a.rep.Decision(fmt.Sprint("purge ", i))
			if _, err := a.rep.Purge(of, s.self, false); err != nil {
				t.Error(err)
			}
			for n := 1; n > 0; {
				if _, err := a.rep.Apply(); err != nil {
					t.Error(err)
				}
				var err error
				if n, _, _, err = a.rep.Left(of); err != nil {
					t.Error(err)
				}
			}
		})
	}
	hands.Wait()
	a.reopen()
	got := a.own()
	if len(got) != 4 {
		t.Fatalf("%q", got)
	}
	for _, line := range got {
		var i int
		if _, err := fmt.Sscanf(line, "sharefs purge %d ", &i); err != nil || strings.Count(line, fmt.Sprintf(" removed:%d-", i)) != 20 || strings.Count(line, ":") != 20 {
			t.Errorf("%q, %v", line, err)
		}
	}
}

// What of a decision nobody came to, for others did something meanwhile, is told apart from what waits for something else.
func TestWhatIsLeftOfADecision(t *testing.T) {
	all := sites(t, 3)
	a, b, c := all[0], all[1], all[2]
	const files = 300 // more than are readied at a time
	for i := range files {
		a.write(fmt.Sprint(i), "of a")
	}
	meet(t, all...)
	for i := range files {
		b.unlink(fmt.Sprint(i))
	}
	meet(t, a, b)
	c.write("of c", "1")
	c.settle()
	c.tell()
	d := a.rep.Decision("purge")
	_, err := a.rep.Purge(d, b.self, false)
	check(t, err)
	a.staging = func() {
		a.staging = nil
		a.hear(c, 100)
	}
	_, err = a.rep.Apply()
	check(t, err)
	n, skipped, one, err := a.rep.Left(d)
	if n == 0 || n == files || skipped != n || one == "" || err != nil {
		t.Errorf("%d, of them %d skipped, as %q, %v", n, skipped, one, err)
	}
	_, err = a.rep.Apply()
	check(t, err)
	if n, skipped, _, err := a.rep.Left(d); n+skipped != 0 || err != nil {
		t.Errorf("in the end %d, %d, %v", n, skipped, err)
	}
}
