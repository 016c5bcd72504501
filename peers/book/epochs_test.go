package book

import (
	"errors"
	"testing"

	"sharefs/peers/trust"
)

// Whatever ends a trust by which a peer had the share keys makes another epoch due, until one was begun; nothing else does.
func TestEpochsDue(t *testing.T) {
	b := newBook(t)
	for n, name := range []string{"a", "b", "c", "d"} {
		b.add(t, byte(n+1), name)
	}
	part, err := trust.ParsePattern("/photos")
	if err != nil {
		t.Fatal(err)
	}
	grant := func(name string, level trust.Level, pattern trust.Pattern) func() error {
		return func() error { _, err := b.Grant(name, level, pattern); return err }
	}
	for i, c := range []struct {
		do   func() error
		more uint64
	}{
		{grant("a", trust.Write, trust.Pattern{}), 0},
		{grant("a", trust.Read, trust.Pattern{}), 0},
		{grant("a", trust.Store, trust.Pattern{}), 1},
		{grant("a", trust.Blocked, trust.Pattern{}), 0},
		{grant("b", trust.Read, part), 0}, // of a part of the share alone: it has the keys too
		{func() error { _, err := b.Revoke("b"); return err }, 1},
		{grant("b", trust.Write, trust.Pattern{}), 0},
		{grant("b", trust.Paired, part), 1},
		{grant("b", trust.Write, part), 0},
		{func() error { _, err := b.Inherit("b", part); return err }, 1},
		{grant("b", trust.Paired, part), 1},
		{func() error { _, err := b.Inherit("b", part); return err }, 0},
		{grant("c", trust.Propose, trust.Pattern{}), 0},
		{func() error { _, err := b.Forget("c"); return err }, 1},
		{grant("d", trust.Manage, trust.Pattern{}), 0},
		{func() error { b.add(t, 5, "d"); return nil }, 0},
		{func() error { _, _, err := b.Replace("d", "d-2"); return err }, 1},
		{func() error { _, err := b.Rename("d", "e"); return err }, 0},
	} {
		before := b.EpochsDue()
		if err := c.do(); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if got := b.EpochsDue() - before; got != c.more {
			t.Errorf("%d: %d more are due, not %d", i, got, c.more)
		}
		b.again(t)
	}
	for _, pattern := range []trust.Pattern{part, {}} { // there is no such rule any more, or always one
		if _, err := b.Inherit("b", pattern); err == nil {
			t.Errorf("the rule for %s is removed", pattern)
		}
	}
	if b.EpochsDue() != 7 {
		t.Fatalf("%d are due", b.EpochsDue())
	}
	// One more while an epoch is begun for the others is not taken for one of them.
	if _, err := b.Grant("e", trust.Read, trust.Pattern{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Revoke("e"); err != nil {
		t.Fatal(err)
	}
	b.fail = errors.New("no room")
	if err := b.EpochBegun(7); err == nil || b.EpochsDue() != 8 {
		t.Errorf("%d are due, %v", b.EpochsDue(), err)
	}
	b.fail = nil
	if err := b.EpochBegun(7); err != nil || b.EpochsDue() != 1 {
		t.Errorf("%d are due, %v", b.EpochsDue(), err)
	}
	b.again(t)
	if err := b.EpochBegun(7); err != nil || b.EpochsDue() != 0 {
		t.Errorf("%d are due, %v", b.EpochsDue(), err)
	}
}
