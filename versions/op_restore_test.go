package versions

import (
	"io"
	"testing"
	"time"

	"sharefs"
)

// A restore brings the file to rest before it is done: the version is the operation's, and what another one writes next is not.
func TestOperationThatRestores(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	save(t, tree, "f", "two")
	for n := range 3 {
		who := shell(t)
		op := tree.Operate(who)
		op.Rest(ino)
		err := tree.Restore(op, ino, uint64(n+1), who)
		op.End(err)
		check(t, err)
		check(t, tree.ops.endIdle(time.Now().Add(opWaiting/2)))
		if n := tree.ops.count(); n != 0 {
			t.Fatalf("%d operations are at work", n)
		}
	}
	wantHistory(t, tree, ino, "one", "two", "one", "two", "one")
	all := endOps(t, tree)
	if len(all) != 3 {
		t.Fatalf("%+v", all)
	}
	held := func(at sharefs.HLC) string {
		v := must[*View](t)(tree.ViewAt(at))
		r := must[VersionReader](t)(v.Open(ino))
		defer r.Close()
		return string(must[[]byte](t)(io.ReadAll(io.NewSectionReader(r, 0, r.Size()))))
	}
	for i, want := range []string{"one", "two", "one"} { // the newest first
		o := &all[i]
		_, changes, err := tree.Operation(o.ID)
		check(t, err)
		if len(changes) != 1 || changes[0].Verb != OpWritten || changes[0].Ino != ino {
			t.Errorf("%+v changed %+v", o, changes)
		}
		if i > 0 && o.After > all[i-1].ID {
			t.Errorf("%+v ends after the next one begins, %+v", o, all[i-1])
		}
		if got := held(o.After); got != want {
			t.Errorf("after operation %d the file held %q", i, got)
		}
		if got := held(o.ID); got == want {
			t.Errorf("before operation %d the file held %q", i, got)
		}
	}
}
