package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sharefs"
	"sharefs/internal/store"
	"sharefs/peers/book"
	"sharefs/versions/tier"
)

// Copies in one domain count once, and none counts of who has another size, has not proved what it has, or has nothing whole.
func TestDomains(t *testing.T) {
	b, err := book.Open(nil, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{}
	d.peers.book = b
	v := &d.vaults
	v.d = d
	v.given = map[sharefs.PeerID]*given{}
	peer := func(n byte, name string, files ...tier.Info) *given {
		t.Helper()
		id := sharefs.PeerID{n}
		if _, err := b.Add(id, name, book.ByHand, nil, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		g := &given{peer: id}
		g.has(files)
		v.given[id] = g
		return g
	}
	want := func(n int) {
		t.Helper()
		if got := v.domains("packs/ab/1", 10); got != n {
			t.Errorf("%d domains, not %d", got, n)
		}
	}
	want(0)
	file := tier.Info{Key: "packs/ab/1", Size: 10}
	anna, _ := peer(1, "anna", file), peer(2, "bert", file, tier.Info{Key: "packs/ab/2", Size: 5})
	want(2)
	peer(3, "carl", tier.Info{Key: "packs/ab/1", Size: 9})
	peer(4, "dora")
	want(2)
	for _, name := range []string{"anna", "bert"} {
		if _, err := b.Limit(name, "domain=office"); err != nil {
			t.Fatal(err)
		}
	}
	want(1)
	peer(5, "emil", file)
	want(2)
	now := time.Now()
	anna.report.Checked, anna.report.Failed = now, now.Add(time.Second)
	want(2) // bert is in the office still
	if _, err := b.Limit("bert", "domain=none"); err != nil {
		t.Fatal(err)
	}
	want(2)
	anna.report.Checked = now.Add(2 * time.Second)
	want(3)
	anna.report.CheckError = "it is busy" // and may say so for ever
	want(2)
}

// The roots that a new keeper gets, or a new bucket, have numbers above those that others have: so a sheet that names a number is good with all of them.
func TestRootsOfANewKeeper(t *testing.T) {
	d := &Daemon{store: &store.Store{Dir: t.TempDir()}}
	own := filepath.Join(d.store.Dir, tierState)
	name, err := tier.Identify(own)
	if err != nil {
		t.Fatal(err)
	}
	given := func(peer string) string { return filepath.Join(d.store.Dir, store.GivenDir, peer) }
	begun := func(path string, want uint64) {
		t.Helper()
		if err := d.beginRoots(path, name); err != nil {
			t.Fatal(err)
		}
		if of, n, err := tier.Known(path); err != nil || of != name || n != want {
			t.Errorf("%s, %d, %v, not %d", of, n, err, want)
		}
	}
	begun(own, 0)
	if err := os.Mkdir(filepath.Join(d.store.Dir, store.GivenDir), 0o700); err != nil {
		t.Fatal(err)
	}
	begun(given("anna"), 0)
	if err := tier.TakeUp(given("anna"), &tier.Root{Store: name, Nonce: "x", Number: 40}); err != nil {
		t.Fatal(err)
	}
	if err := tier.TakeUp(given("other"), &tier.Root{Store: "00112233445566778899aabbccddeeff", Nonce: "x", Number: 80}); err != nil {
		t.Fatal(err)
	}
	begun(given("bert"), 40)
	begun(given("anna"), 40)
	begun(own, 40) // a bucket that is new
}
